"""What a head says of videos, as it is written, read and shown.

T steps of a video, C labels, N rows.
"""

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from extract.errors import InputError, UsageError
from pipelines.annotations.activitynet_json import results_of
from pipelines.annotations.document import Document, Media
from pipelines.annotations.draft import put_text
from pipelines.annotations.formats import FORMATS, format_by_ending, read_document, write_document
from pipelines.whole import written_whole

OWN_KEY = "untrimmed"
LIKELY = 0.2  # the least score of a row where all rows look alike: printed, or in a format without scores
ONLY_BOXES = ("ava", "coco-vid", "mot")
ONLY_SEGMENTS = (
    "activitynet", "actionformer", "opentad", "mmaction2", "thumos", "charades", "kinetics", "mstcn", "elan", "boris",
    "audacity", "webvtt", "srt",
)  # fmt: skip
NO_SCORES = ("charades", "kinetics", "mstcn", "via", "elan", "boris", "cvat", "audacity", "webvtt", "srt")
_BY_NUMBER = ("ava", "thumos")  # with a list of classes beside, in a folder
_REGULAR_S = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """Scores of all classes over one video.

    Attributes:
        centre_s: ``(T,)`` float64, middles of the steps in seconds, rising.
        values: ``(C, T)`` uint8, score times 255, rounded; rows in the order of ``Predictions.document.labels``.
    """

    centre_s: NDArray[np.float64]
    values: NDArray[np.uint8]

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.centre_s.shape != self.values.shape[1:]:
            raise ValueError(f"centre_s is {self.centre_s.shape}, values {self.values.shape}; expected (T,), (C, T)")

    @property
    def times(self) -> dict[str, Any]:
        """The middles as JSON: ``start_s``, ``step_s`` and ``steps`` where they are regular, else ``centre_s``."""
        steps = np.diff(self.centre_s)
        if len(self.centre_s) and (not len(steps) or np.ptp(steps) < _REGULAR_S):
            step_s = float(steps.mean()) if len(steps) else 1.0
            return {"start_s": float(self.centre_s[0]), "step_s": step_s, "steps": len(self.centre_s)}
        return {"centre_s": self.centre_s.tolist()}

    @property
    def rows(self) -> dict[int, str]:
        """Each row that is not 0 everywhere, by its number, in base64."""
        used = np.flatnonzero(self.values.any(axis=1)).tolist()
        return {row: base64.b64encode(self.values[row].tobytes()).decode() for row in used}


class Row(NamedTuple):
    """One segment of `Predictions`."""

    video: str
    start_s: float
    stop_s: float
    label: str
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Rows with scores, and what they were made with.

    Attributes:
        document: segments or boxes, with scores; ``media`` of each video with its duration, rate and size where known.
        curves: of each video whose head answers step by step; the segments are the runs at or above ``threshold``.
        threshold: what ``curves`` were cut at.
        sources: path of each video, where known.
        about: what made them (run, task, head, recipe, versions), as JSON values, free of secrets.
    """

    document: Document
    curves: Mapping[str, Curves] = field(default_factory=dict)
    threshold: float = 0.5
    sources: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    def segments(self, *, min_score: float = 0.0) -> Iterator[Row]:
        """The segments whose score is at least ``min_score``, in the order of the document."""
        rows, videos, labels = self.document.segments, self.document.videos, self.document.labels
        columns = (rows.video.tolist(), rows.span_s.tolist(), rows.label.tolist(), rows.score.tolist())
        for video, (start_s, stop_s), label, score in zip(*columns, strict=True):
            if score >= min_score:
                yield Row(videos[video], start_s, stop_s, labels[label], score)


def read_predictions(path: str | Path) -> Predictions:
    """Predictions in any format; curves, threshold, sources and what made them where untrimmed wrote the file.

    Raises:
        InputError: not readable, or rows without scores.
    """
    place = Path(path)
    document = read_document(place)
    scores = np.concatenate([document.segments.score, document.boxes.score])
    if len(scores) and not np.isfinite(scores).any():
        raise InputError(f"{place}: no row has a score, so these are labels; expected predictions")
    own = _own(place)
    if own is None:
        return Predictions(document)
    try:
        return _with_own(document, own)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, MemoryError) as error:
        raise InputError(
            f"{place}: what {OWN_KEY!r} holds is broken ({type(error).__name__}: {error}); expected what"
            " 'untrimmed predict' wrote. Predict again, or remove that key"
        ) from error


def write_predictions(
    predictions: Predictions, path: str | Path, to: str | None = None, *, min_score: float | None = None
) -> str:
    """Write predictions in the format that `settled_format` gives; its name. ActivityNet's file also holds all of
    `Predictions`, under the key "untrimmed". ``min_score``: see `chosen_rows`.

    Raises:
        UsageError: see `settled_format`.
        InputError: what the format needs is missing, or it cannot hold the video ids.
        MachineError: it cannot be written.
    """
    out = Path(path)
    form = settled_format(out, to, boxes=len(predictions.document.boxes) > 0)
    document = chosen_rows(predictions, form, min_score)
    with written_whole(out) as place:
        if form == "activitynet":
            text = json.dumps(_own_json(predictions, document), ensure_ascii=False, allow_nan=False)
            put_text(place, text + "\n")
        else:
            write_document(document, place, form)
    return form


def settled_format(path: str | Path, to: str | None = None, *, boxes: bool) -> str:
    """The format of a new file ``path``, of ``boxes`` or of segments: ``to``, or what its ending means; else
    ActivityNet's, and for boxes ava, or coco-vid where the ending is .json.

    Raises:
        UsageError: there is no such format, it cannot hold such rows, it needs a folder, or ``path`` exists.
    """
    out = Path(path)
    form = to or _default(out, boxes=boxes)
    if form not in FORMATS:
        raise UsageError(f"format {form!r} is unknown; expected {', '.join(FORMATS)}")
    if form in (ONLY_SEGMENTS if boxes else ONLY_BOXES):
        able = [name for name in FORMATS if name not in (ONLY_SEGMENTS if boxes else ONLY_BOXES)]
        what, other = ("boxes", "segments") if boxes else ("segments", "boxes")
        raise UsageError(f"format {form} holds {other}, and these are {what}; expected {', '.join(able)}")
    if form in _BY_NUMBER and out.suffix:
        raise UsageError(
            f"{out}: format {form} has numbers in place of labels, and a list of classes beside; expected the name of a"
            " folder, without an ending"
        )
    if out.exists():
        raise UsageError(f"{out} exists; choose another name, or move it away")
    return form


def chosen_rows(predictions: Predictions, form: str, min_score: float | None = None) -> Document:
    """The rows of at least ``min_score``; by default all, but in a format without scores those of `LIKELY` and above,
    if no threshold has cut them already.
    """
    document = predictions.document
    least = (LIKELY if form in NO_SCORES and not predictions.curves else 0.0) if min_score is None else min_score
    return replace(
        document,
        segments=document.segments.take(~(document.segments.score < least)),
        boxes=document.boxes.take(~(document.boxes.score < least)),
    )


def _own(path: Path) -> Any:  # noqa: ANN401 - JSON
    """What stands under our key; None where there is none."""
    if path.is_dir():
        return None
    text = path.read_bytes()
    if f'"{OWN_KEY}"'.encode() not in text:
        return None
    try:
        root = json.loads(text)
    except ValueError:  # of another format
        return None
    own = root.get(OWN_KEY) if isinstance(root, dict) and "results" in root else None
    return own if isinstance(own, dict) else None


def _default(out: Path, *, boxes: bool) -> str:
    endings = tuple(ending for each in FORMATS.values() for ending in each.endings)
    if out.name.lower().endswith(endings):
        return format_by_ending(out)
    if not boxes:
        return "activitynet"
    return "coco-vid" if out.suffix.lower() == ".json" else "ava"


def _own_json(predictions: Predictions, document: Document) -> dict[str, Any]:
    curves = {
        video: {**each.times, "rows": {document.labels[row]: text for row, text in each.rows.items()}}
        for video, each in predictions.curves.items()
    }
    own = {
        "about": dict(predictions.about),
        "threshold": predictions.threshold,
        "labels": list(document.labels),
        "notes": list(document.notes),
        "media": {video: _known(media) for video, media in document.media.items()},
        "sources": dict(predictions.sources),
        "curves": curves,
    }
    return {"version": "VERSION 1.3", OWN_KEY: own, "results": results_of(document), "external_data": {}}


def _known(media: Media) -> dict[str, Any]:
    return {name: value for name, value in asdict(media).items() if value is not None}


def _with_own(document: Document, own: Mapping[str, Any]) -> Predictions:
    media = {video: Media(**own["media"].get(video, {})) for video in document.media}
    labels = (*own["labels"], *(label for label in document.labels if label not in set(own["labels"])))
    number = np.array([*(labels.index(label) for label in document.labels), -1], np.int64)
    segments = replace(document.segments, label=number[document.segments.label])
    return Predictions(
        replace(document, media=media, labels=labels, segments=segments, notes=(*document.notes, *own["notes"])),
        {video: _curves(each, labels) for video, each in own["curves"].items()},
        float(own["threshold"]),
        {video: str(source) for video, source in own["sources"].items()},
        dict(own["about"]),
    )


def _curves(entry: Mapping[str, Any], labels: tuple[str, ...]) -> Curves:
    rows = {label: np.frombuffer(base64.b64decode(text), np.uint8) for label, text in entry["rows"].items()}
    if "centre_s" in entry:
        centre_s = np.array(entry["centre_s"], np.float64)
    else:
        centre_s = float(entry["start_s"]) + float(entry["step_s"]) * np.arange(int(entry["steps"]), dtype=np.float64)
    values = np.zeros((len(labels), len(centre_s)), np.uint8)
    for label, row in rows.items():
        values[labels.index(label)] = row
    return Curves(centre_s, values)
