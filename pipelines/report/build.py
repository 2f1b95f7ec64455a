"""Reports: one page for a few videos, or an index and a page for each of many."""

import base64
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from extract.errors import MachineError, UsageError, VideoError
from extract.video import probe
from pipelines.annotations.document import Media
from pipelines.notes import noted
from pipelines.report.html import MARK
from pipelines.report.media import browser_playable, find_video, relative_link, thumbnails
from pipelines.report.page import report_page
from pipelines.report.payload import TIOU, Shown, first_threshold, shown_videos, strip, video_json, worst_moments
from pipelines.report.subject import Subject, file_metrics, subject_of
from pipelines.video_out import make_proxy

MOST_VIDEOS, MOST_BYTES = 100, 8_000_000
"""Of one page; more videos get a page each."""
THUMBS = 60  # of a page
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
    """Where a video is, and what is to be said of it."""

    path: Path | None
    notes: tuple[str, ...]


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
    page = Path(out)
    _check_free(page)
    on_progress(0.01, "reading")
    subject = subject_of(what, truth=truth, subset=subset, store=store)
    shown, labels = shown_videos(subject.predictions, subject.truth)
    first = first_threshold(shown, subject.predictions) if threshold is None else threshold
    job = _Job(
        page, subject, labels, first, title or subject.title, Path(videos) if videos else None, proxy, on_progress
    )
    return job.run(shown)


class _Job:
    """One report in the making."""

    def __init__(
        self,
        page: Path,
        subject: Subject,
        labels: Sequence[str],
        threshold: float,
        title: str,
        folder: Path | None,
        proxy: bool,
        on_progress: OnProgress,
    ) -> None:
        self._page, self._subject, self._labels, self._threshold = page, subject, labels, threshold
        self._title, self._folder, self._proxy, self._on_progress = title, folder, proxy, on_progress
        self._beside = page.with_name(f"{page.stem}_videos")
        self._missing: list[str] = []
        self._counts: Counter[str] = Counter()
        self._bytes = 0

    def run(self, shown: Sequence[Shown]) -> Report:
        """Write all pages."""
        protocol, metrics = self._subject.protocol, dict(self._subject.metrics)
        if protocol is None:
            protocol, metrics = file_metrics(shown, len(self._labels))
        head = {**self._head(), "protocol": protocol, "metrics": metrics}
        many = len(shown) > MOST_VIDEOS or sum(map(_size, shown)) > MOST_BYTES
        if many:
            rows = list(self._pages(shown, head))
            self._write(self._page, {**head, "index": None, "pages": rows, "videos": []})
        else:
            most = max(2, THUMBS // max(1, len(shown)))
            entries = [self._entry(video, at, len(shown), self._page.parent, most) for at, video in enumerate(shown)]
            self._write(self._page, {**head, "index": None, "pages": None, "videos": entries})
        return Report(
            path=self._page,
            pages=1 + len(shown) * many,
            bytes=self._bytes,
            videos=len(shown),
            threshold=self._threshold,
            counts=dict(self._counts),
            metrics=metrics,
            missing=tuple(self._missing),
            notes=tuple(self._subject.notes),
        )

    def _head(self) -> dict[str, Any]:
        return {
            "title": self._title,
            "made": datetime.now(UTC).strftime("%Y-%m-%d"),
            "task": self._subject.task,
            "classes": list(self._labels),
            "provenance": [list(fact) for fact in self._subject.facts],
            "notes": list(self._subject.notes),
            "threshold": self._threshold,
            "tiou": TIOU,
            "formats": ["activitynet", "webvtt", "srt", "elan", "audacity", "csv"],
        }

    def _pages(self, shown: Sequence[Shown], head: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Write a page for each video; its row in the index."""
        for at, video in enumerate(shown):
            page = self._beside / f"{at + 1:0{len(str(len(shown)))}d}.html"
            before = Counter(self._counts)
            entry = self._entry(video, at, len(shown), page.parent, THUMBS)
            index = relative_link(self._page, page.parent)
            self._write(page, {**head, "index": index, "pages": None, "videos": [entry]})
            counts = self._counts - before
            yield {
                "id": video.video_id,
                "href": relative_link(page, self._page.parent),
                "duration_s": round(video.duration_s, 3),
                **(
                    {}
                    if video.truth is None
                    else {key: counts[key] for key in ("hits", "wrong", "false_alarms", "misses")}
                ),
                "strip": base64.b64encode(strip(video).tobytes()).decode(),
            }

    def _entry(self, video: Shown, at: int, count: int, folder: Path, thumbs: int) -> dict[str, Any]:
        self._on_progress((at + 0.5) / count, f"{at} of {count} videos")
        found = self._found(video, at)
        video = replace(video, media=_completed(video.media, found.path))
        counts = video.counts(self._threshold)
        self._counts.update(counts)
        moments = worst_moments(video, self._threshold, thumbs)
        images = [] if found.path is None else thumbnails(found.path, moments)
        return video_json(
            video,
            src=None if found.path is None else relative_link(found.path, folder),
            notes=found.notes,
            thumbs=[
                {"second": second, "image": image}
                for second, image in sorted(zip(moments, images, strict=False), key=lambda pair: pair[0])
                if image is not None
            ],
        )

    def _found(self, video: Shown, at: int) -> _Found:
        """The file that the page plays."""
        path = find_video(
            video.video_id, source=self._subject.predictions.sources.get(video.video_id), folder=self._folder
        )
        if path is None:
            self._missing.append(video.video_id)
            return _Found(None, ("The video was not found; choose its file, or make the report with --videos FOLDER.",))
        try:
            info = probe(path)
        except VideoError as error:
            self._missing.append(video.video_id)
            return _Found(None, (f"The video cannot be read: {error.reason}: {error.detail}",))
        if browser_playable(info):
            return _Found(path, ())
        if not self._proxy:
            return _Found(path, (f"Browsers do not play {info.codec} in this file; make the report with --proxy.",))
        copy = self._beside / f"{at + 1}.webm"
        if not copy.exists() or copy.stat().st_mtime < path.stat().st_mtime:
            self._beside.mkdir(parents=True, exist_ok=True)
            make_proxy(str(path), copy)
        return _Found(copy, (f"A small copy is played, because browsers do not play {info.codec}.",))

    def _write(self, page: Path, payload: dict[str, Any]) -> None:
        text = report_page(payload).encode()
        partial = page.with_name(f".{page.name}.partial-{os.getpid()}")
        try:
            page.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(text)
            partial.replace(page)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise MachineError(
                f"{page} cannot be written ({error.strerror}); choose another -o, or free space"
            ) from error
        self._bytes += len(text)


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


def _completed(media: Media, path: Path | None) -> Media:
    """With what the file itself says, where nothing else did."""
    if path is None or None not in (media.duration_s, media.fps, media.width, media.height):
        return media
    try:
        info = probe(path)
    except VideoError:
        return media
    return replace(
        media,
        duration_s=info.duration_s if media.duration_s is None else media.duration_s,
        fps=info.average_fps if media.fps is None else media.fps,
        width=info.width if media.width is None else media.width,
        height=info.height if media.height is None else media.height,
    )


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
    yield from (
        f"note: {note}" for note in (*done.notes, *noted(done.missing, "videos were not found or cannot be read"))
    )
    pages = "" if done.pages == 1 else f" and {done.pages - 1} pages beside it"
    yield f"{done.path}{pages}, {done.bytes / 1e6:.1f} MB: open it in a browser, or: untrimmed view {done.path}"
