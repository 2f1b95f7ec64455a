"""What every format is read into and written from: rows of segments and of boxes, as they stand in the file.

V videos, C labels, N rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Media:
    """What a file says of a video; None where it says nothing."""

    duration_s: float | None = None
    fps: float | None = None
    width: int | None = None
    height: int | None = None
    subset: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """Rows in the order of the file, nothing corrected: reversed and empty ones are as they are written.

    Attributes:
        video: ``(N,)`` int64, numbers of videos.
        label: ``(N,)`` int64, numbers of labels; -1 for none (a proposal).
        span_s: ``(N, 2)`` float64, start and stop in seconds; NaN, NaN is the whole video.
        score: ``(N,)`` float64, higher is more certain; NaN where the file has none.
    """

    video: NDArray[np.int64]
    label: NDArray[np.int64]
    span_s: NDArray[np.float64]
    score: NDArray[np.float64]

    def __post_init__(self) -> None:
        n = len(self.video)
        shapes = (self.video.shape, self.label.shape, self.span_s.shape, self.score.shape)
        if shapes != ((n,), (n,), (n, 2), (n,)):
            raise ValueError(f"video, label, span_s, score have shapes {shapes}; expected (N,), (N,), (N, 2), (N,)")

    def __len__(self) -> int:
        return len(self.video)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> "Segments":
        """Some of the rows, by mask or by number."""
        return Segments(self.video[rows], self.label[rows], self.span_s[rows], self.score[rows])


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """Rows in the order of the file. A row of NaN box and label -1 says: this moment was looked at, nothing is there.

    Attributes:
        video: ``(N,)`` int64, numbers of videos.
        second: ``(N,)`` float64, from the video's start.
        box: ``(N, 4)`` float64: x1, y1, x2, y2 in parts of the frame, 0..1, from its top left corner.
        label: ``(N,)`` int64, numbers of labels; -1 for none.
        track: ``(N,)`` int64, who it is; -1 where the file does not say.
        score: ``(N,)`` float64, higher is more certain; NaN where the file has none.
    """

    video: NDArray[np.int64]
    second: NDArray[np.float64]
    box: NDArray[np.float64]
    label: NDArray[np.int64]
    track: NDArray[np.int64]
    score: NDArray[np.float64]

    def __post_init__(self) -> None:
        n = len(self.video)
        one = {name: getattr(self, name).shape for name in ("video", "second", "label", "track", "score")}
        if self.box.shape != (n, 4) or set(one.values()) != {(n,)}:
            raise ValueError(f"box is {self.box.shape}, the others {one}; expected (N, 4) and (N,)")

    def __len__(self) -> int:
        return len(self.video)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> "Boxes":
        """Some of the rows, by mask or by number."""
        return Boxes(
            self.video[rows], self.second[rows], self.box[rows], self.label[rows], self.track[rows], self.score[rows]
        )


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """One file, or a folder that is read as one.

    Attributes:
        format: name of its format.
        media: each video's id and what is known of it, in the order of the file. Videos without rows count.
        labels: names, each once, in the order in which the file lists or first uses them.
        segments: when something happens.
        boxes: where something is.
        notes: what the reader left out or had to assume.
    """

    format: str
    media: Mapping[str, Media]
    labels: tuple[str, ...]
    segments: Segments
    boxes: Boxes
    notes: tuple[str, ...] = ()

    @property
    def videos(self) -> tuple[str, ...]:
        """The ids, in the order of their numbers."""
        return tuple(self.media)


def no_segments() -> Segments:
    """Not one row."""
    return Segments(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 2)), np.zeros(0))


def no_boxes() -> Boxes:
    """Not one row."""
    whole = np.zeros(0, np.int64)
    return Boxes(whole, np.zeros(0), np.zeros((0, 4)), whole, whole, np.zeros(0))
