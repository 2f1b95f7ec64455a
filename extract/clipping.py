"""From a video's frames to its clips, in one forward pass and in memory that does not grow with its length.

T frames, H W pixels. Seconds are counted from the video's first displayed frame.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.clips import ClipGrid
from extract.errors import UsageError
from extract.recipe import Recipe
from extract.video import IsolatedReader, VideoReader

_NO_HOLE_S = 5.0  # shorter than any hole of ``ReadReport.holes_s``; saves asking for the report at every frame


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """One clip of a video.

    Attributes:
        frames: (T, H, W, 3) uint8 RGB.
        start_s: when its first frame is first displayed.
        stop_s: when the display of its last frame ends; for the tail, when the stretch's does.
        real_frames: how many of the T frames are not padding.
        damaged: whether a frame that a broken packet may have spoilt is among them.
    """

    frames: NDArray[np.uint8]
    start_s: float
    stop_s: float
    real_frames: int
    damaged: bool


def reading_options(recipe: Recipe, decoder: str) -> dict[str, Any]:
    """The options of `extract.video.open_video` for the rate and the size of ``recipe``."""
    fps = None if recipe.fps == "native" else recipe.fps
    return {"fps": fps, "short_side": recipe.short_side_px, "decoder": decoder}


def clips_of(reader: VideoReader | IsolatedReader, recipe: Recipe) -> Iterator[Clip]:
    """All clips of the video that ``reader`` reads. After a hole in time the grid begins anew: no clip spans one.

    Raises:
        UsageError: the resized frame is smaller than the crop.
        VideoError: as the reader raises it.
    """
    crop = _centre_crop(*reader.size, recipe.crop_px)
    grid = ClipGrid(recipe.clip_frames, recipe.frame_stride, recipe.hop)
    stretch = _Stretch(grid)
    start_s = last_s = reader.info.start_s
    for batch in reader:
        for pixels, pts_s, damaged in zip(batch.pixels, batch.pts_s.tolist(), batch.damaged, strict=True):
            for stop_s in _holes_between(reader, last_s, pts_s):
                yield from stretch.close(stop_s - start_s)
                stretch = _Stretch(grid)
            yield from stretch.push(_Sample(pixels[crop].copy(), pts_s - start_s, bool(damaged)))
            last_s = pts_s
    end_s = reader.report.display_end_s
    if stretch.samples and end_s is not None:
        yield from stretch.close(end_s - start_s)


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    pixels: NDArray[np.uint8]
    time_s: float
    damaged: bool


class _Stretch:
    """Consecutive samples without a hole, and the clips that they make. Holds the samples of open clips alone."""

    def __init__(self, grid: ClipGrid) -> None:
        self._grid = grid
        self._window: deque[_Sample] = deque()
        self._window_first = 0  # sample number of the window's first
        self._next_clip = 0
        self.samples = 0

    def push(self, sample: _Sample) -> Iterator[Clip]:
        """Take the next sample; gives the clip whose display ends when this sample's begins, if there is one."""
        if self.samples == self._grid.first_sample(self._next_clip) + self._grid.span:
            yield self._clip(sample.time_s)
        self._window.append(sample)
        self.samples += 1
        self._forget()

    def close(self, stop_s: float) -> Iterator[Clip]:
        """The clips that are left when the stretch's display ends at ``stop_s``."""
        while self._next_clip < self._grid.count(self.samples):
            yield self._clip(stop_s)

    def _clip(self, stop_s: float) -> Clip:
        numbers, real = self._grid.samples(self._next_clip, self.samples)
        chosen = [self._window[number - self._window_first] for number in numbers]
        self._next_clip += 1
        return Clip(
            frames=np.stack([sample.pixels for sample in chosen]),
            start_s=chosen[0].time_s,
            stop_s=stop_s,
            real_frames=real,
            damaged=any(sample.damaged for sample in chosen),
        )

    def _forget(self) -> None:
        first_needed = self._grid.first_sample(self._next_clip)
        while self._window and self._window_first < min(first_needed, self.samples):
            self._window.popleft()
            self._window_first += 1


def _centre_crop(width: int, height: int, side: int) -> tuple[slice, slice]:
    if side > min(width, height):
        raise UsageError(
            f"--crop {side} is larger than the resized frame, {width} x {height}; expected at most the short side"
        )
    top, left = (height - side) // 2, (width - side) // 2
    return slice(top, top + side), slice(left, left + side)


def _holes_between(reader: VideoReader | IsolatedReader, last_s: float, now_s: float) -> list[float]:
    """Starts of the holes between two consecutive samples. The reader may be ahead, and know of later holes too."""
    if now_s - last_s < _NO_HOLE_S:
        return []
    return [start_s for start_s, _ in reader.report.holes_s if last_s < start_s < now_s]
