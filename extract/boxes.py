"""Boxes of a video, and the clip that each of them is read from.

N boxes. Seconds are counted from the video's first displayed frame.
"""

import hashlib
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from extract.backbones.network import roi_maxima
from extract.clipping import Clip, ClipSpan, clips_of
from extract.errors import UsageError
from extract.recipe import Recipe, RoiPooling
from extract.video import IsolatedReader, VideoReader

OVERSHOOT_S = 1.0  # how long after its end a video may still have boxes: seconds in lists are often rounded
_MARK = "+boxes:"


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """The boxes of one video, in the order of their seconds.

    Attributes:
        second: (N,) float64, when each box was seen, in seconds.
        box: (N, 4) float32, x1, y1, x2, y2 in 0..1 of the displayed frame, from its top left corner.
        score: (N,) float32.

    Raises:
        UsageError: a wrong shape, dtype or order, or a box that is empty or not inside the frame.
    """

    second: NDArray[np.float64]
    box: NDArray[np.float32]
    score: NDArray[np.float32]

    def __post_init__(self) -> None:
        n = len(self.second)
        for name, shape, dtype in (
            ("second", (n,), np.float64),
            ("box", (n, 4), np.float32),
            ("score", (n,), np.float32),
        ):
            array = getattr(self, name)
            if array.shape != shape or array.dtype != dtype:
                raise UsageError(f"{name} is {array.dtype} {array.shape}; expected {np.dtype(dtype)} {shape}")
        x1, y1, x2, y2 = self.box.T
        inside = (self.box >= 0).all() and (self.box <= 1).all() and (x1 < x2).all() and (y1 < y2).all()
        if not inside or not np.isfinite(self.second).all() or (np.diff(self.second) < 0).any():
            raise UsageError("expected boxes 0 <= x1 < x2 <= 1, 0 <= y1 < y2 <= 1 in the order of their seconds")

    def __len__(self) -> int:
        return len(self.second)

    def rows(self, first: int, stop: int) -> "Boxes":
        """Boxes ``first`` to ``stop`` - 1."""
        return Boxes(self.second[first:stop], self.box[first:stop], self.score[first:stop])

    @classmethod
    def none(cls) -> "Boxes":
        """No boxes."""
        return cls(np.empty(0), np.empty((0, 4), np.float32), np.empty(0, np.float32))


def joined(parts: Sequence[Boxes]) -> Boxes:
    """The boxes of ``parts``, which follow each other."""
    parts = [Boxes.none(), *parts]
    return Boxes(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("second", "box", "score")))


def boxed_fingerprint(content: str, boxes: Boxes) -> str:
    """What a video is recognised by where its boxes are an input, too: ``content`` is that of the file alone."""
    digest = hashlib.blake2b(digest_size=16)
    for array in (boxes.second, boxes.box, boxes.score):
        digest.update(array.tobytes())
    return f"{content}{_MARK}{digest.hexdigest()}"


def content_of(fingerprint: str) -> str:
    """The fingerprint of the file alone, of one with or without boxes."""
    return fingerprint.partition(_MARK)[0]


@dataclass(frozen=True, slots=True, eq=False)
class BoxedClip:
    """A clip, and the boxes that are read from it, at least one."""

    clip: Clip
    boxes: Boxes


@dataclass(frozen=True, slots=True)
class ReadTo:
    """How the reading of a video or a span ended.

    Attributes:
        ends: whether the video did.
        clips: how many clips there were, with and without boxes.
        start_s: when the first of them began.
        stop_s: when the last of them ended.
        late: boxes that nothing was read for, because they come more than `OVERSHOOT_S` after the video's end.
    """

    ends: bool
    clips: int
    start_s: float = 0.0
    stop_s: float = 0.0
    late: Boxes = field(default_factory=lambda: Boxes.none())


def widened(span: ClipSpan | None) -> ClipSpan | None:
    """The span to read for the boxes of ``span``: with the clip before and the one after, which may be nearer."""
    if span is None:
        return None
    return replace(span, first=max(0, span.first - 1), stop=None if span.stop is None else span.stop + 1)


def boxed_clips(
    reader: VideoReader | IsolatedReader,
    recipe: Recipe,
    boxes: Boxes,
    span: ClipSpan | None = None,
    *,
    device: str = "cpu",
) -> Generator[BoxedClip, None, ReadTo]:
    """The clips from which ``boxes`` are read, each with its own: those whose middle is nearest, of two the earlier.

    Of ``span`` alone, where there is one; ``reader`` reads `widened` of it. The boxes of consecutive spans are those
    of the whole video. ``device`` and errors as `extract.clipping.clips_of`.
    """
    first = 0 if span is None else span.first
    stop = math.inf if span is None or span.stop is None else span.stop
    wide = widened(span)
    number, at, inside_s = (0 if wide is None else wide.first) - 1, 0, []
    before: Clip | None = None
    reading = clips_of(reader, recipe, wide, device=device)
    while True:
        try:
            clip = next(reading)
        except StopIteration as end:
            video_ends: bool = end.value
            break
        if before is not None:
            until = int(np.searchsorted(boxes.second, (_middle_s(before) + _middle_s(clip)) / 2, side="right"))
            if number >= first and until > at:
                yield BoxedClip(before, boxes.rows(at, until))
            at = until
        before, number = clip, number + 1
        if first <= number < stop:
            inside_s.append((clip.start_s, clip.stop_s))
    ends = video_ends and number < stop
    late = Boxes.none()
    if ends and inside_s and before is not None:
        until = int(np.searchsorted(boxes.second, before.stop_s + OVERSHOOT_S, side="right"))
        if until > at:
            yield BoxedClip(before, boxes.rows(at, until))
        late = boxes.rows(max(at, until), len(boxes))
    return ReadTo(ends, len(inside_s), inside_s[0][0], inside_s[-1][1], late) if inside_s else ReadTo(ends, 0)


def _middle_s(clip: Clip) -> float:
    return (clip.start_s + clip.stop_s) / 2


def box_features(
    maps: NDArray[np.float32], boxes: Boxes, frame: tuple[int, int], pooling: RoiPooling
) -> NDArray[np.float32]:
    """Features of each box, (N, D), from maps (D, H', W') averaged over time, of frames (height, width) in pixels."""
    height, width = frame
    pixels = boxes.box * np.array([width, height, width, height], np.float32)
    rois = torch.from_numpy(np.concatenate([np.zeros((len(boxes), 1), np.float32), pixels], axis=1))
    with torch.inference_mode():
        rows = roi_maxima(torch.from_numpy(maps)[None], rois, stride_px=pooling.stride_px, aligned=pooling.aligned)
    return rows.numpy()
