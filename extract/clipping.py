"""From a video's frames to its clips, in one forward pass and in memory that does not grow with its length.

T frames, C channels, H W pixels. Seconds are counted from the video's first displayed frame.
"""

from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.clips import ClipGrid
from extract.errors import UsageError
from extract.flow import Flow, flow_for, flow_frames, quantised
from extract.recipe import Recipe
from extract.video import IsolatedReader, VideoReader

_NO_HOLE_S = 5.0  # shorter than any hole of ``ReadReport.holes_s``; saves asking for the report at every frame


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """One clip of a video.

    Attributes:
        frames: (T, H, W, C) uint8: RGB, or quantised optical flow, each from its sample to the next one.
        start_s: when its first frame is first displayed.
        stop_s: when the display of its last frame ends; for the tail, when the stretch's does.
        real_frames: how many of the T frames are not padding; the last sample has no flow, and repeats the one before.
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
        options["start_s"] = span.time_s(_first_read(recipe, span) - 0.5)
    if span is not None and span.stop is not None:
        options["stop_s"] = span.time_s(_sample_after(grid_of(recipe), span.stop) + 0.5)
    return options


def _first_read(recipe: Recipe, span: ClipSpan) -> int:
    """The first sample that ``span`` needs: of flow also the one before, should the span begin with the last sample."""
    first = grid_of(recipe).first_sample(span.first)
    return first if recipe.flow is None else max(0, first - 1)


def _sample_after(grid: ClipGrid, stop: int) -> int:
    """The sample that shows that the clips before ``stop`` are complete, and that more follow."""
    return max(grid.first_sample(stop - 1) + grid.span, grid.first_sample(stop))


def clips_of(
    reader: VideoReader | IsolatedReader, recipe: Recipe, span: ClipSpan | None = None, *, device: str = "cpu"
) -> Generator[Clip, None, bool]:
    """All clips of the video that ``reader`` reads, or those of ``span``; tells at its end whether the video ended.

    After a hole in time the grid begins anew: no clip and no flow spans one. Flow is of whole frames, then cropped, and
    computed on ``device`` once for each pair of samples. The clips of consecutive spans are those of the whole
    video, or SeamError is raised: for holes, damage, and wherever a sample is not at its time.

    Raises:
        SeamError: the video cannot be read in spans.
        UsageError: the resized frame is smaller than the crop.
        VideoError: as the reader raises it.
        MachineError, InputError: as `extract.flow.Flow`.
    """
    crop = _crop(*reader.size, recipe.crop_px)
    grid = grid_of(recipe)
    flow = None if recipe.flow is None else flow_for(recipe.flow, device)
    first = (0, 0) if span is None else (span.first, _first_read(recipe, span))
    stretch = _Stretch(grid, crop, flow, *first)
    start_s = last_s = reader.info.start_s
    for batch in reader:
        for pixels, pts_s, damaged in zip(batch.pixels, batch.pts_s.tolist(), batch.damaged, strict=True):
            if span is not None and round((pts_s - span.start_s) * span.rate) != stretch.samples:
                raise SeamError(
                    f"sample {stretch.samples} is at {pts_s:.3f} s, not {span.time_s(stretch.samples):.3f} s"
                )
            for stop_s in _holes_between(reader, last_s, pts_s):
                yield from stretch.close(stop_s - start_s)
                stretch = _Stretch(grid, crop, flow)
            yield from stretch.push(pixels, pts_s - start_s, damaged=bool(damaged))
            last_s = pts_s
    report = reader.report
    if span is not None and (report.odd or report.bad_packets or report.damaged_frames):
        raise SeamError("damage, a hole in time or a repaired clock")
    more = span is not None and span.stop is not None and stretch.samples > _sample_after(grid, span.stop)
    if not more and stretch.begun and report.display_end_s is not None:
        yield from stretch.close(report.display_end_s - start_s)
    return not more


@dataclass(slots=True, eq=False)
class _Sample:
    """``pixels``: cropped, or, where flow is computed, whole; ``flow``: to the next sample, cropped, once computed."""

    pixels: NDArray[np.uint8]
    time_s: float
    damaged: bool
    flow: NDArray[np.uint8] | None = None


class _Stretch:
    """Consecutive samples without a hole, and the clips that they make. Holds the samples of open clips alone.

    Begins with clip ``first_clip`` and sample ``first_sample``. With ``flow``, clips are of it.

    Attributes:
        samples: how many there were, with those before the first.
        begun: whether there was one.
    """

    def __init__(
        self,
        grid: ClipGrid,
        crop: tuple[slice, slice],
        flow: Flow | None,
        first_clip: int = 0,
        first_sample: int = 0,
    ) -> None:
        self._grid, self._crop, self._flow = grid, crop, flow
        self._held = 0 if flow is None else 2  # so many of the last samples, for the flow that the end repeats
        self._window: deque[_Sample] = deque()
        self._next_clip = first_clip
        self.samples = self._window_first = first_sample  # the latter: number of the window's first
        self.begun = False

    def push(self, pixels: NDArray[np.uint8], time_s: float, *, damaged: bool) -> Iterator[Clip]:
        """Take the next sample; gives the clip whose display ends when this sample's begins, if there is one."""
        kept = pixels if self._flow is not None else pixels[self._crop]
        self._window.append(_Sample(kept.copy(), time_s, damaged))
        self.begun = True
        self.samples += 1
        if self.samples - 1 == self._grid.first_sample(self._next_clip) + self._grid.span:
            yield self._clip(time_s)
        self._forget()

    def close(self, stop_s: float) -> Iterator[Clip]:
        """The clips that are left when the stretch's display ends at ``stop_s``."""
        while self._next_clip < self._grid.count(self.samples):
            yield self._clip(stop_s)

    def _clip(self, stop_s: float) -> Clip:
        start_s = self._sample(self._grid.first_sample(self._next_clip)).time_s
        frames, real, damaged = self._rgb() if self._flow is None else self._flows(self._flow)
        self._next_clip += 1
        return Clip(np.stack(frames), start_s, stop_s, real, damaged)

    def _rgb(self) -> tuple[list[NDArray[np.uint8]], int, bool]:
        """Frames of the next clip, how many are real, and whether one is damaged."""
        numbers, real = self._grid.samples(self._next_clip, self.samples)
        chosen = [self._sample(number) for number in numbers]
        return [sample.pixels for sample in chosen], real, any(sample.damaged for sample in chosen)

    def _flows(self, flow: Flow) -> tuple[list[NDArray[np.uint8]], int, bool]:
        """As `_rgb`, of the flows between samples: one fewer than there are samples. A single sample is at rest."""
        if self.samples == 1:
            (only,) = self._window
            resting = flow_frames(only.pixels[self._crop][None], flow)[0]
            return [resting] * self._grid.clip_frames, 0, only.damaged
        numbers, real = self._grid.samples(self._next_clip, self.samples - 1)
        pairs = [(self._sample(number), self._sample(number + 1)) for number in numbers]
        frames = [self._flow_of(flow, *pair) for pair in pairs]
        return frames, real, any(before.damaged or after.damaged for before, after in pairs)

    def _flow_of(self, flow: Flow, before: _Sample, after: _Sample) -> NDArray[np.uint8]:
        if before.flow is None:
            moved = flow(before.pixels, after.pixels)[self._crop]
            before.flow = quantised(moved, flow.settings.bound_px)
        return before.flow

    def _sample(self, number: int) -> _Sample:
        return self._window[number - self._window_first]

    def _forget(self) -> None:
        first_needed = self._grid.first_sample(self._next_clip)
        while self._window and self._window_first < min(first_needed, self.samples - self._held):
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
