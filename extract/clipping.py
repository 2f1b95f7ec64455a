"""From a video's frames to its clips, in one forward pass and in memory that does not grow with its length.

T frames, H W pixels. Seconds are counted from the video's first displayed frame.
"""

from collections import deque
from collections.abc import Generator, Iterator
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


@dataclass(frozen=True, slots=True)
class ClipSpan:
    """Clips ``first`` to ``stop`` - 1 of a video, which one worker reads; ``stop`` None: all to the end.

    Sample k of the video is at ``start_s`` + k / ``rate`` seconds on the container's clock.
    """

    first: int
    stop: int | None
    start_s: float
    rate: float

    def time_s(self, sample: float) -> float:
        """When ``sample`` is displayed, on the container's clock."""
        return self.start_s + sample / self.rate


class SeamError(Exception):
    """The samples of a span are not numbered as its plan says: the clips of spans would not be those of the whole."""


def grid_of(recipe: Recipe) -> ClipGrid:
    """The clip grid of ``recipe``."""
    return ClipGrid(recipe.clip_frames, recipe.frame_stride, recipe.hop)


def reading_options(recipe: Recipe, decoder: str, span: ClipSpan | None = None) -> dict[str, Any]:
    """The options of `extract.video.open_video` for the rate and size of ``recipe``, and the samples of ``span``."""
    fps = None if recipe.fps == "native" else recipe.fps
    options: dict[str, Any] = {"fps": fps, "short_side": recipe.short_side_px, "decoder": decoder}
    if span is not None and span.first:
        options["start_s"] = span.time_s(grid_of(recipe).first_sample(span.first) - 0.5)
    if span is not None and span.stop is not None:
        options["stop_s"] = span.time_s(_sample_after(grid_of(recipe), span.stop) + 0.5)
    return options


def _sample_after(grid: ClipGrid, stop: int) -> int:
    """The sample that shows that the clips before ``stop`` are complete, and that more follow."""
    return max(grid.first_sample(stop - 1) + grid.span, grid.first_sample(stop))


def clips_of(
    reader: VideoReader | IsolatedReader, recipe: Recipe, span: ClipSpan | None = None
) -> Generator[Clip, None, bool]:
    """All clips of the video that ``reader`` reads, or those of ``span``; tells at its end whether the video ended.

    After a hole in time the grid begins anew: no clip spans one. The clips of consecutive spans are those of the whole
    video, or SeamError is raised: for holes, damage, and wherever a sample is not at its time.

    Raises:
        SeamError: the video cannot be read in spans.
        UsageError: the resized frame is smaller than the crop.
        VideoError: as the reader raises it.
    """
    crop = _crop(*reader.size, recipe.crop_px)
    grid = grid_of(recipe)
    stretch = _Stretch(grid, 0 if span is None else span.first)
    start_s = last_s = reader.info.start_s
    for batch in reader:
        for pixels, pts_s, damaged in zip(batch.pixels, batch.pts_s.tolist(), batch.damaged, strict=True):
            if span is not None and round((pts_s - span.start_s) * span.rate) != stretch.samples:
                raise SeamError(
                    f"sample {stretch.samples} is at {pts_s:.3f} s, not {span.time_s(stretch.samples):.3f} s"
                )
            for stop_s in _holes_between(reader, last_s, pts_s):
                yield from stretch.close(stop_s - start_s)
                stretch = _Stretch(grid)
            yield from stretch.push(_Sample(pixels[crop].copy(), pts_s - start_s, bool(damaged)))
            last_s = pts_s
    report = reader.report
    if span is not None and (report.odd or report.bad_packets or report.damaged_frames):
        raise SeamError("damage, a hole in time or a repaired clock")
    more = span is not None and span.stop is not None and stretch.samples > _sample_after(grid, span.stop)
    if not more and stretch.begun and report.display_end_s is not None:
        yield from stretch.close(report.display_end_s - start_s)
    return not more


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    pixels: NDArray[np.uint8]
    time_s: float
    damaged: bool


class _Stretch:
    """Consecutive samples without a hole, and the clips that they make. Holds the samples of open clips alone.

    Attributes:
        samples: how many there were, with those before ``first_clip``.
        begun: whether there was one.
    """

    def __init__(self, grid: ClipGrid, first_clip: int = 0) -> None:
        self._grid = grid
        self._window: deque[_Sample] = deque()
        self._next_clip = first_clip
        self.samples = self._window_first = grid.first_sample(first_clip)  # the latter: number of the window's first
        self.begun = False

    def push(self, sample: _Sample) -> Iterator[Clip]:
        """Take the next sample; gives the clip whose display ends when this sample's begins, if there is one."""
        if self.samples == self._grid.first_sample(self._next_clip) + self._grid.span:
            yield self._clip(sample.time_s)
        self._window.append(sample)
        self.begun = True
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


def _crop(width: int, height: int, side: int | None) -> tuple[slice, slice]:
    """Rows and columns of the centre crop, or of the whole frame without a ``side``."""
    if side is None:
        return slice(None), slice(None)
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
