"""Reports: one page for a few videos, or an index and a page for each of many."""

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from extract.errors import UsageError, VideoError
from extract.remote import is_url
from extract.urls import without_secrets
from extract.video import DecodingProcess, VideoInfo, probe_all
from pipelines.annotations.document import Media
from pipelines.dataset import match_ids
from pipelines.notes import noted
from pipelines.predictions import Predictions
from pipelines.report.html import MARK
from pipelines.report.media import browser_playable, find_video, media_of, relative_link, thumbnails
from pipelines.report.page import report_page
from pipelines.report.payload import (
    TIOU,
    Shown,
    first_threshold,
    noted_count,
    shown_videos,
    strip,
    video_json,
    worst_moments,
)
from pipelines.report.subject import Subject, file_metrics, subject_of
from pipelines.video_out import make_proxy
from pipelines.whole import written_whole

MOST_VIDEOS, MOST_BYTES = 100, 8_000_000
"""Of one page; more videos get a page each."""
REVIEWED = ["activitynet", "webvtt", "srt", "elan", "audacity", "csv"]
"""Formats in which the page hands out reviewed segments; boxes can be looked at alone."""
THUMBS = 60  # of a page
VERDICTS = ("hits", "wrong", "false_alarms", "misses")
OnProgress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class Report:
    """What was written. ``counts`` are those at ``threshold``; ``missing`` videos were not found, or cannot be read."""

    path: Path
    pages: int
    bytes: int
    videos: int
    threshold: float
    counts: dict[str, int]
    metrics: dict[str, float | None]
    missing: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Found:
    """What the page plays of a video, and what is to be said of it."""

    path: Path | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _File:
    """Where a video is, and what it is; or why that is not known."""

    path: Path | None
    info: VideoInfo | VideoError | None = None

    @property
    def media(self) -> Media:
        """What the file says of itself."""
        return media_of(self.info) if isinstance(self.info, VideoInfo) else Media()


def report(
    what: str | Path,
    out: str | Path,
    *,
    videos: str | Path | None = None,
    truth: str | Path | None = None,
    subset: str | None = None,
    store: str | Path | None = None,
    threshold: float | None = None,
    title: str | None = None,
    proxy: bool = False,
    on_progress: OnProgress = lambda _share, _words: None,
) -> Report:
    """Write the page ``out`` about ``what``, a run folder or a file of predictions; see `subject_of` for ``truth``,
    ``subset`` and ``store``.

    ``videos``: the folder that they are in, where they are not where they were. ``threshold`` is the one that the page
    begins with. ``proxy``: make small copies, beside the page, of videos that browsers do not play.

    Raises:
        UsageError: ``out`` is something else, or options that do not go together.
        InputError: something cannot be read, or does not go together.
        MachineError: the page cannot be written.
    """
    page, folder = Path(out), None if videos is None else Path(videos)
    if folder is not None and not folder.is_dir():
        raise UsageError(f"--videos {folder} is no folder; expected the one that the videos are in")
    for each in (page, *_beside(page).glob("*.html")):
        _check_free(each)
    on_progress(0.01, "reading")
    subject = subject_of(what, truth=truth, subset=subset, store=store)
    on_progress(0.02, "looking for videos")
    files = _files(subject.predictions, folder)
    media = {video_id: file.media for video_id, file in files.items()}
    shown, labels = shown_videos(subject.predictions, subject.truth, media)
    first = first_threshold(shown, subject.predictions) if threshold is None else threshold
    return _Job(page, subject, labels, first, title or subject.title, files, proxy, on_progress).run(shown)


class _Job:
    """One report in the making."""

    def __init__(
        self,
        page: Path,
        subject: Subject,
        labels: Sequence[str],
        threshold: float,
        title: str,
        files: Mapping[str, _File],
        proxy: bool,
        on_progress: OnProgress,
    ) -> None:
        self._page, self._subject, self._labels, self._threshold = page, subject, labels, threshold
        self._title, self._files, self._proxy, self._on_progress = title, files, proxy, on_progress
        self._beside = _beside(page)
        self._notes = [*subject.notes, *_unpredicted(subject, files)]
        self._process = DecodingProcess()
        self._written: set[Path] = set()
        self._missing: list[str] = []
        self._refused: list[str] = []
        self._counts: Counter[str] = Counter()
        self._bytes = 0

    def run(self, shown: Sequence[Shown]) -> Report:
        """Write all pages."""
        with self._process:
            return self._run(shown)

    def _run(self, shown: Sequence[Shown]) -> Report:
        protocol, metrics = self._subject.protocol, dict(self._subject.metrics)
        if protocol is None:
            protocol, metrics = file_metrics(self._subject.predictions, self._subject.truth, shown)
        head = {**self._head(), "protocol": protocol, "metrics": metrics}
        many = len(shown) > MOST_VIDEOS or sum(map(_size, shown)) > MOST_BYTES
        if many:
            rows = list(self._pages(shown, head))
            self._write(self._page, {**head, "index": None, "pages": rows, "videos": []})
        else:
            least, more = divmod(THUMBS, max(1, len(shown)))
            entries = [
                self._entry(video, at, len(shown), self._page.parent, least + (at < more))
                for at, video in enumerate(shown)
            ]
            self._write(self._page, {**head, "index": None, "pages": None, "videos": entries})
        self._remove_old()
        return Report(
            path=self._page,
            pages=1 + len(shown) * many,
            bytes=self._bytes,
            videos=len(shown),
            threshold=self._threshold,
            counts=dict(self._counts),
            metrics=metrics,
            missing=tuple(self._missing),
            notes=(
                *self._notes,
                *noted(self._missing, "videos were not found or cannot be read"),
                *noted(self._refused, "videos are of a kind that browsers do not play; make the report with --proxy"),
            ),
        )

    def _head(self) -> dict[str, Any]:
        return {
            "title": self._title,
            "made": datetime.now(UTC).strftime("%Y-%m-%d"),
            "task": self._subject.task,
            "classes": list(self._labels),
            "provenance": [list(fact) for fact in self._subject.facts],
            "notes": self._notes,
            "threshold": self._threshold,
            "tiou": TIOU,
            "formats": [] if len(self._subject.predictions.document.boxes) else REVIEWED,
        }

    def _pages(self, shown: Sequence[Shown], head: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Write a page for each video; its row in the index."""
        for at, video in enumerate(shown):
            page = self._beside / f"{at + 1:04d}.html"
            before = Counter(self._counts)
            entry = self._entry(video, at, len(shown), page.parent, THUMBS)
            index = relative_link(self._page, page.parent)
            self._write(page, {**head, "index": index, "pages": None, "videos": [entry]})
            counts = self._counts - before
            yield {
                "id": video.video_id,
                "href": relative_link(page, self._page.parent),
                "duration_s": video.duration_s,
                "shown": counts["shown"],
                **({} if video.truth is None else {key: counts[key] for key in VERDICTS}),
                "strip": base64.b64encode(strip(video).tobytes()).decode(),
            }

    def _entry(self, video: Shown, at: int, count: int, folder: Path, thumbs: int) -> dict[str, Any]:
        def copied(share: float, what: str = ", copying one for browsers") -> None:
            self._on_progress(0.02 + 0.98 * (at + share) / count, f"{at} of {count} videos{what}")

        copied(0.0, "")
        found = self._found(video.video_id, copied)
        self._counts.update(video.counts(self._threshold))
        moments = worst_moments(video, self._threshold, thumbs)
        images = [] if found.path is None else thumbnails(found.path, moments, process=self._process)
        thumbs_made = [
            {"second": second, "image": image}
            for second, image in sorted(zip(moments, images, strict=False), key=lambda pair: pair[0])
            if image is not None
        ]
        failed = ("No picture of its moments could be made.",) if images and not thumbs_made else ()
        return video_json(
            video,
            src=None if found.path is None else relative_link(found.path, folder),
            notes=[*found.notes, *failed, *video.notes],
            thumbs=thumbs_made,
        )

    def _found(self, video_id: str, on_progress: Callable[[float], None]) -> _Found:
        """The file that the page plays."""
        path, info = self._files[video_id].path, self._files[video_id].info
        if path is None:
            self._missing.append(video_id)
            return _Found(None, (_not_found(self._subject.predictions.sources.get(video_id)),))
        if not isinstance(info, VideoInfo):
            self._missing.append(video_id)
            return _Found(None, (_unreadable(path, info),))
        if browser_playable(info):
            return _Found(path, ())
        if not self._proxy:
            self._refused.append(video_id)
            return _Found(path, (f"Browsers do not play {info.codec} in this file; make the report with --proxy.",))
        copy = self._beside / _copy_name(video_id)
        try:
            if not copy.exists() or copy.stat().st_mtime < path.stat().st_mtime:
                make_proxy(str(path), copy, on_progress=on_progress)
        except VideoError as error:
            self._refused.append(video_id)
            return _Found(None, (_unreadable(path, error),))
        return _Found(copy, (f"A small copy is played, because browsers do not play {info.codec}.",))

    def _remove_old(self) -> None:
        """Pages of a report that was here before."""
        for page in sorted(self._beside.glob("[0-9]*.html")):
            if page not in self._written:
                page.unlink()

    def _write(self, page: Path, payload: dict[str, Any]) -> None:
        text = report_page(payload).encode()
        with written_whole(page) as partial:
            partial.write_bytes(text)
        self._bytes += len(text)
        self._written.add(page)


def _check_free(page: Path) -> None:
    """Only reports are written over.

    Raises:
        UsageError: something else is there.
    """
    if page.is_dir():
        raise UsageError(f"{page} is a folder; expected -o with the name of a page, such as {page / 'report.html'}")
    if page.exists():
        with page.open("rb") as stream:
            if MARK.encode() not in stream.read(4096):
                raise UsageError(f"{page} exists and is no report; choose another -o")


def _size(video: Shown) -> int:
    """About how many bytes a video takes in a page."""
    curves = 0 if video.curves is None else sum(map(len, video.curves.rows.values()))
    return curves + 40 * (len(video.predicted) + (0 if video.truth is None else len(video.truth)))


def _beside(page: Path) -> Path:
    """The folder of what belongs to a page."""
    return page.with_name(f"{page.stem}_videos")


def _files(predictions: Predictions, folder: Path | None) -> dict[str, _File]:
    """The file of each video. Probing is done in other processes, which broken files may end."""
    sources = predictions.sources
    found = {
        video_id: find_video(video_id, source=sources.get(video_id), folder=folder)
        for video_id in predictions.document.videos
    }
    paths = [path for path in found.values() if path is not None]
    infos = dict(zip(paths, probe_all(paths), strict=True)) if paths else {}
    return {video_id: _File(None) if path is None else _File(path, infos[path]) for video_id, path in found.items()}


def _unpredicted(subject: Subject, files: Mapping[str, _File]) -> list[str]:
    """Of a file of predictions: how many videos of the truth are not in it."""
    if subject.truth is None or subject.protocol is not None:
        return []
    alone = len(subject.truth.media) - len(match_ids(subject.truth.videos, list(files)))
    return noted_count(alone, f"of {len(subject.truth.media)} videos of the truth have no predictions: not shown")


def _not_found(source: str | None) -> str:
    if source is not None and is_url(source) and not source.startswith("file:"):
        return f"The video is at {without_secrets(source)}, which this page does not load; choose its file."
    return "The video was not found; choose its file, or make the report with --videos FOLDER."


def _unreadable(path: Path, error: VideoError | None) -> str:
    if error is None:
        return f"{path.name} cannot be read."
    return f"{path.name} cannot be read: {error.detail.replace(str(path), path.name)} [{error.reason}]"


def _copy_name(video_id: str) -> str:
    """A name that is safe and its own."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", PurePosixPath(video_id).stem).strip("-.")[:40]
    return f"{stem or 'video'}-{hashlib.sha256(video_id.encode()).hexdigest()[:8]}.webm"


def report_json(done: Report) -> dict[str, Any]:
    """As JSON values."""
    return {
        "report": str(done.path),
        "pages": done.pages,
        "bytes": done.bytes,
        "videos": done.videos,
        "threshold": done.threshold,
        "counts": done.counts,
        "metrics": done.metrics,
        "missing": list(done.missing),
        "notes": list(done.notes),
    }


def report_lines(done: Report) -> Iterator[str]:
    """Where the page is, and what it says in short."""
    counts = done.counts
    said = f"{counts.get('shown', 0)} predictions at {done.threshold:.2f}"
    if "hits" in counts:
        said += f": {counts['hits']} hits, {counts['wrong']} of a wrong class, {counts['false_alarms']} false alarms"
        said += f"; {counts['misses']} misses"
    yield f"{done.videos} videos, {said}"
    for name, value in done.metrics.items():
        yield f"  {name:24}{'undefined' if value is None else f'{value:.3f}'}"
    yield from (f"note: {note}" for note in done.notes)
    pages = "" if done.pages == 1 else f" and {done.pages - 1} pages beside it"
    yield f"{done.path}{pages}, {done.bytes / 1e6:.1f} MB"
    yield f"open it in a browser, no server needed; or: untrimmed view {done.path}"
