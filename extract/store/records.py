"""What goes into the store and what comes out of it: small frozen records.

Shapes: clips is the number of clips of one video, D the feature width. Times are seconds from the video's
first displayed frame.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from extract.errors import StoreError, UsageError

Status = Literal["ok", "partial"]


class UnknownVideoError(StoreError, KeyError):
    """The store has no video of this id; the message names near ones, or why it failed."""


class UnstorableError(StoreError):
    """Features of the video ``video_id`` do not fit the stored dtype; the message says which and what to do."""

    def __init__(self, video_id: str, detail: str) -> None:
        """Compose the message ``video_id: detail``."""
        self.video_id, self.detail = video_id, detail
        super().__init__(f"{video_id}: {detail}")


@dataclass(frozen=True, slots=True)
class Span:
    """Which clips of a video these are: from ``first_clip`` on; ``ends``: to the video's last.

    ``clips``: how many, where rows are of boxes; None for as many as there are rows.
    """

    first_clip: int
    ends: bool
    clips: int | None = None


@dataclass(frozen=True, eq=False)
class VideoFeatures:
    """The features of one video, as a worker hands them over.

    Attributes:
        video_id: path relative to the archive's root, with ``/``.
        features: (clips, D) float32.
        start_s: (clips,) float64, start of each clip, in seconds.
        stop_s: (clips,) float64, end of each clip (not included), in seconds.
        real_frames: (clips,) int32, frames of each clip that are not padding.
        damaged: (clips,) bool, clips that hold frames of a damaged stretch.
        duration_s: length of the video in seconds.
        fingerprint: identifies the file's content.
        status: ``"partial"`` when some of the video could not be decoded.
        provenance: plain JSON values that say how the features were made.
        span: which clips these are, where several workers read the video; None for all.
        box: (clips, 4) float32, where features are of boxes: each is a row, and the arrays above say which clip it was
            read from. x1, y1, x2, y2 in 0..1 of the displayed frame. None where features are of clips.
        box_score: (clips,) float32, how sure the box is; with ``box`` alone.
        second: (clips,) float64, when each box was seen, in seconds; with ``box`` alone.

    Raises:
        UsageError: a wrong shape or dtype, a time that is not finite, an id that is not text, or no clip
            (record a failure instead). A video without a box is none of these.
    """

    video_id: str
    features: NDArray[np.float32]
    start_s: NDArray[np.float64]
    stop_s: NDArray[np.float64]
    real_frames: NDArray[np.int32]
    damaged: NDArray[np.bool_]
    duration_s: float
    fingerprint: str
    status: Status
    provenance: Mapping[str, object]
    span: Span | None = None
    box: NDArray[np.float32] | None = None
    box_score: NDArray[np.float32] | None = None
    second: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or 0 in self.features.shape[self.box is not None :]:
            raise UsageError(
                f"{self.video_id}: features have shape {self.features.shape}; expected (clips, D), both at least 1"
            )
        clips = len(self.features)
        self._check("features", (clips, self.features.shape[1]), "float32")
        self._check("start_s", (clips,), "float64")
        self._check("stop_s", (clips,), "float64")
        self._check("real_frames", (clips,), "int32")
        self._check("damaged", (clips,), "bool")
        if self.box is not None:
            self._check("box", (clips, 4), "float32")
            self._check("box_score", (clips,), "float32")
            self._check("second", (clips,), "float64")
        if not np.isfinite([self.duration_s, *self.start_s, *self.stop_s]).all():
            raise UsageError(f"{self.video_id}: a time or the duration is not finite; expected seconds")
        if any("\ud800" <= character <= "\udfff" for character in self.video_id):
            raise UsageError(f"{self.video_id!a}: the name is not valid UTF-8; rename the file")

    def _check(self, name: str, shape: tuple[int, ...], dtype: str) -> None:
        array = getattr(self, name)
        if array is None:
            raise UsageError(f"{self.video_id}: there are boxes, but no {name}; expected {dtype} of shape {shape}")
        if array.shape != shape or array.dtype != np.dtype(dtype):
            raise UsageError(
                f"{self.video_id}: {name} is {array.dtype} of shape {array.shape}; expected {dtype} of shape {shape}"
            )


@dataclass(frozen=True, eq=False)
class FeatureSequence:
    """The clips of one video, in order, as read from a store.

    Attributes:
        features: (clips, D), float16 or float32 as stored.
        start_s: (clips,) float64 seconds.
        stop_s: (clips,) float64 seconds, not included.
        real_frames: (clips,) int32, frames of each clip that are not padding.
        damaged: (clips,) bool.
        duration_s: length of the video in seconds.
        box: (clips, 4) float32, where features are of boxes: each is a row, and the arrays above say which clip it was
            read from. x1, y1, x2, y2 in 0..1 of the displayed frame. None where features are of clips.
        box_score: (clips,) float32, with ``box`` alone.
        second: (clips,) float64, when each box was seen, ascending, in seconds; with ``box`` alone.
    """

    features: NDArray[np.floating[Any]]
    start_s: NDArray[np.float64]
    stop_s: NDArray[np.float64]
    real_frames: NDArray[np.int32]
    damaged: NDArray[np.bool_]
    duration_s: float
    box: NDArray[np.float32] | None = None
    box_score: NDArray[np.float32] | None = None
    second: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True, slots=True)
class Part:
    """Where consecutive clips of one video lie: ``rows`` rows of a segment, from ``first_row`` on.

    ``crc32`` covers their stored bytes: features, start_s, stop_s, real_frames and damaged, in this order; then box,
    box_score and second, where features are of boxes.
    """

    segment: str
    first_row: int
    rows: int
    crc32: int


@dataclass(frozen=True, slots=True)
class VideoRecord:
    """What the log knows of one video. ``crc32`` covers its stored bytes as if it were one `Part`."""

    video_id: str
    fingerprint: str
    status: Status
    duration_s: float
    parts: tuple[Part, ...]
    crc32: int
    provenance: Mapping[str, object]

    @property
    def rows(self) -> int:
        """Number of clips; of boxes, where features are of these."""
        return sum(part.rows for part in self.parts)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The record that ``dataclasses.asdict`` was called on."""
        return cls(**{**values, "parts": tuple(Part(**part) for part in values["parts"])})


@dataclass(frozen=True, slots=True)
class SpanRecord:
    """Some clips of a video that several workers read, ``clips`` of them from ``first_clip`` on.

    ``part`` has as many rows, but where features are of boxes. ``ends``: the video ends with them. ``column_crc32`` is
    of each array by itself; from those of all spans comes the CRC-32 of the video. ``duration_s`` is the video's where
    the span ends it.
    """

    video_id: str
    fingerprint: str
    status: Status
    duration_s: float
    first_clip: int
    ends: bool
    part: Part
    column_crc32: tuple[int, ...]
    provenance: Mapping[str, object]
    clips: int

    @property
    def stop_clip(self) -> int:
        """The clip after the last."""
        return self.first_clip + self.clips

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The record that ``dataclasses.asdict`` was called on."""
        part = Part(**values["part"])
        given = {"clips": part.rows, **values}  # what was written before there were boxes has no number of clips
        return cls(**{**given, "part": part, "column_crc32": tuple(values["column_crc32"])})


@dataclass(frozen=True)
class Receipt:
    """A written segment, not yet committed: small, picklable, plain JSON by ``as_dict``."""

    segment: str
    recipe_digest: str
    videos: tuple[VideoRecord, ...]
    spans: tuple[SpanRecord, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The receipt as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The receipt that ``as_dict`` was called on."""
        videos = tuple(VideoRecord.from_dict(video) for video in values["videos"])
        spans = tuple(SpanRecord.from_dict(span) for span in values["spans"])
        return cls(values["segment"], values["recipe_digest"], videos, spans)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a video has no features: ``reason`` is a stable short code, ``detail`` is for people."""

    fingerprint: str
    reason: str
    detail: str


def to_json(values: Mapping[str, object]) -> bytes:
    """``values`` as indented JSON.

    Raises:
        UsageError: a value that JSON does not have.
    """
    try:
        return json.dumps(values, indent=1, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise UsageError(f"not plain JSON: {error}. Give numbers, strings, lists and mappings") from error
