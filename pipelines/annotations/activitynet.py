"""Temporal annotations of videos, and their ActivityNet JSON form.

The form: ``{"version": …, "taxonomy": […], "database": {id: {"duration": seconds, "subset": …,
"annotations": [{"segment": [start, stop], "label": …}]}}}`` (Heilbron et al. 2015).
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from extract.errors import InputError

OVERSHOOT_S = 1.0
"""How far a segment may end after its video: real files do, by a rounded duration."""


@dataclass(frozen=True, slots=True)
class Segment:
    """``label`` happens in the half-open interval [start_s, stop_s), in seconds from the video's start."""

    label: str
    start_s: float
    stop_s: float


@dataclass(frozen=True, slots=True)
class VideoAnnotation:
    """What is annotated in one video; no segments is an annotation too (only background)."""

    video_id: str
    duration_s: float
    subset: str
    segments: tuple[Segment, ...]

    @property
    def labels(self) -> frozenset[str]:
        """The labels of the segments."""
        return frozenset(segment.label for segment in self.segments)


@dataclass(frozen=True, slots=True)
class Annotations:
    """Annotated videos in the order of the file. ``classes``: every label of any subset, sorted."""

    videos: tuple[VideoAnnotation, ...]
    classes: tuple[str, ...]

    @classmethod
    def of(cls, videos: Iterable[VideoAnnotation]) -> "Annotations":
        """Collect ``videos`` and their classes."""
        kept = tuple(videos)
        return cls(kept, tuple(sorted({label for video in kept for label in video.labels})))

    @property
    def subsets(self) -> tuple[str, ...]:
        """The names of the subsets, sorted."""
        return tuple(sorted({video.subset for video in self.videos}))

    def subset(self, name: str) -> "Annotations":
        """The videos of one subset, with the classes that occur in it.

        Raises:
            InputError: no video has this subset (names are compared exactly, as ActivityNet does).
        """
        chosen = [video for video in self.videos if video.subset == name]
        if not chosen:
            raise InputError(
                f"no annotated video is in subset {name!r}; the annotations have"
                f" {', '.join(map(repr, self.subsets)) or 'no videos'}. Name one of these"
            )
        return Annotations.of(chosen)


def read_activitynet(path: str | Path) -> Annotations:
    """Read annotations in ActivityNet's JSON form.

    Raises:
        InputError: the file cannot be read or breaks the form; names the video, the value and what to do.
    """
    document = _load_json(Path(path))
    database = document.get("database") if isinstance(document, dict) else None
    if not isinstance(database, dict):
        raise InputError(
            f'{path}: no object "database"; expected ActivityNet JSON, {{"database": {{video id: …}}}}.'
            " Convert other forms first"
        )
    return annotations_of(Path(path), database)


def annotations_of(path: Path, database: Mapping[str, object]) -> Annotations:
    """Annotations from the entries of videos in ActivityNet's form; ``path`` is named in errors.

    Raises:
        InputError: an entry breaks the form.
    """
    videos = [_video(f"{path}: video {video_id!r}", video_id, entry) for video_id, entry in database.items()]
    _check_overshoot(path, videos)
    return Annotations.of(videos)


def write_activitynet(annotations: Annotations, path: str | Path) -> None:
    """Write annotations in ActivityNet's JSON form; the same annotations give the same bytes."""
    document = {
        "version": "untrimmed 1",
        "taxonomy": _taxonomy(annotations.classes),
        "database": {video.video_id: _entry(video) for video in annotations.videos},
    }
    Path(path).write_text(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


def _load_json(path: Path) -> object:
    try:
        document: object = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); expected an annotation file in ActivityNet JSON"
        ) from error
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); expected ActivityNet JSON") from error
    return document


def _video(where: str, video_id: str, entry: object) -> VideoAnnotation:
    if not isinstance(entry, dict):
        raise InputError(f"{where}: {_shown(entry)} where an object with duration, subset and annotations is expected")
    subset = entry.get("subset")
    if not isinstance(subset, str):
        raise InputError(f'{where}: subset is {_shown(subset)}; expected text such as "training" or "validation"')
    duration_s = _number(where, "duration", entry.get("duration"), "a number of seconds above 0")
    if duration_s <= 0:
        raise InputError(f"{where}: duration is {duration_s}; expected a number of seconds above 0")
    rows = entry.get("annotations")
    if not isinstance(rows, list):
        raise InputError(
            f"{where}: annotations is {_shown(rows)}; expected a list"
            " (empty for a video of background; test files without labels cannot be trained or evaluated on)"
        )
    segments = tuple(_segment(f"{where}, annotation {i}", row) for i, row in enumerate(rows))
    return VideoAnnotation(video_id, duration_s, subset, segments)


def _segment(where: str, row: object) -> Segment:
    if not isinstance(row, dict):
        raise InputError(f'{where}: {_shown(row)} where an object with "segment" and "label" is expected')
    label = row.get("label")
    if not isinstance(label, str) or not label:
        raise InputError(f"{where}: label is {_shown(label)}; expected text that is not empty")
    ends = row.get("segment")
    if not isinstance(ends, list) or len(ends) != 2:
        raise InputError(f"{where}: segment is {_shown(ends)}; expected [start, stop] in seconds")
    start_s, stop_s = (_number(where, "segment", end, "[start, stop] in seconds") for end in ends)
    if start_s < 0 or stop_s < start_s:
        raise InputError(
            f"{where}: segment is [{start_s}, {stop_s}]; expected 0 <= start <= stop in seconds. Correct the file"
        )
    return Segment(label, start_s, stop_s)


def _number(where: str, name: str, value: object, expected: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{where}: {name} is {_shown(value)}; expected {expected}. Correct the file")
    return float(value)


def _shown(value: object) -> str:
    return "missing" if value is None else f"{value!r:.80}"


def _check_overshoot(path: Path, videos: list[VideoAnnotation]) -> None:
    beyond = [
        (video, segment)
        for video in videos
        for segment in video.segments
        if segment.stop_s > video.duration_s + OVERSHOOT_S
    ]
    if not beyond:
        return
    video, segment = beyond[0]
    total = sum(len(each.segments) for each in videos)
    raise InputError(
        f"{path}: {len(beyond)} of {total} segments end more than {OVERSHOOT_S:g} s after their video, for"
        f" example [{segment.start_s}, {segment.stop_s}] of {video.video_id!r}, which lasts"
        f" {video.duration_s} s; expected seconds. Are these frames instead of seconds? Divide by the frame rate"
    )


def _entry(video: VideoAnnotation) -> Mapping[str, object]:
    return {
        "duration": video.duration_s,
        "subset": video.subset,
        "annotations": [{"segment": [s.start_s, s.stop_s], "label": s.label} for s in video.segments],
    }


def _taxonomy(classes: Iterable[str]) -> list[dict[str, object]]:
    root: dict[str, object] = {"nodeId": 0, "nodeName": "Root", "parentId": None, "parentName": None}
    leaves = [
        {"nodeId": number, "nodeName": label, "parentId": 0, "parentName": "Root"}
        for number, label in enumerate(classes, start=1)
    ]
    return [root, *leaves]
