"""Pixels of a video as a backbone sees them: sampled, resized, cropped, and, for networks of flow, made into flow.

N samples, T frames, C channels (3 colours, or 2 of optical flow), H W pixels.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from extract.backbones import BackboneSpec
from extract.clips import ClipGrid
from extract.errors import InputError, UsageError
from extract.flow import FlowSettings, flow_for, flow_frames
from extract.video import VideoReader, open_video, probe

MOST_BYTES = 1 << 29  # of frames at once


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples of one video in a row.

    Attributes:
        pixels: (N, H, W, C) uint8, the centre crop.
        second: (N,) float64, when each is shown, from the video's first displayed frame on.
        begins: numbers of the samples before which there is a hole in time; 0 is the first.
    """

    pixels: NDArray[np.uint8]
    second: NDArray[np.float64]
    begins: tuple[int, ...]

    def clips(self, grid: ClipGrid) -> list[NDArray[np.int64]]:
        """The numbers (T,) of the samples of each clip; no clip spans a hole, and the last one of each stretch repeats
        its last sample.
        """
        stops = (*self.begins[1:], len(self.second))
        return [
            np.array(grid.samples(clip, stop - begin)[0]) + begin
            for begin, stop in zip(self.begins, stops, strict=True)
            for clip in range(grid.count(stop - begin))
        ]


def grid_of(spec: BackboneSpec) -> ClipGrid:
    """The clip grid of a backbone's own clips."""
    return ClipGrid(spec.clips.clip_frames, spec.clips.frame_stride, spec.clips.hop)


def read_samples(
    path: str, spec: BackboneSpec, *, start_s: float = 0.0, stop_s: float | None = None, most: int | None = None
) -> Samples:
    """The samples of a video from ``start_s`` to ``stop_s``, counted from its first displayed frame.

    Args:
        path: a file or URL.
        spec: of the backbone that will see them; its rate, sizes and channels.
        start_s: first second.
        stop_s: where to end; by default at the video's end.
        most: end after so many.

    Raises:
        UsageError: an empty span, a crop that is larger than the frame, or more than fits in memory.
        InputError: there is no sample in the span.
        VideoError: it cannot be read.
    """
    frames: list[NDArray[np.uint8]] = []
    seconds: list[float] = []
    with _opened(path, spec, start_s, stop_s) as reader:
        begin_s, size = reader.info.start_s, 0
        crop = _crop(reader.size, spec.clips.crop_px, path)
        for pixels, pts_s in islice(_each(reader), most):
            seen = pixels if spec.channels == 2 else pixels[crop]  # flow is computed on whole frames
            size += seen.nbytes
            if size > MOST_BYTES:
                raise UsageError(
                    f"{path}: {len(frames)} frames up to {pts_s - begin_s:.1f} s are more than fits in memory; "
                    "name a shorter stretch by --start and --stop, in seconds"
                )
            frames.append(seen.copy())
            seconds.append(pts_s - begin_s)
        holes_s = [hole_s - begin_s for hole_s, _ in reader.report.holes_s]
    if not frames:
        raise InputError(f"{path} has no frame from {start_s:g} s on; expected a second that it has")
    second = np.array(seconds)
    begins = sorted({0, *(int(np.searchsorted(second, hole_s)) for hole_s in holes_s)} - {len(second)})
    stacked = np.stack(frames)
    if spec.channels == 2:
        stacked = _flow(stacked, begins, spec.flow)[:, crop[0], crop[1]]
    return Samples(stacked, second, tuple(begins))


def clip_at(place: str, spec: BackboneSpec) -> NDArray[np.uint8]:
    """The clip (T, H, W, C) uint8 that begins at ``VIDEO@SECOND``.

    Raises:
        UsageError: it is not of this form.
        InputError, VideoError: as `read_samples`.
    """
    path, at, second = place.rpartition("@")
    try:
        start_s = float(second)
    except ValueError:
        start_s = -1.0
    if not at or not path or not 0 <= start_s < math.inf:
        raise UsageError(f"--from {place}: expected VIDEO@SECOND, such as match.mp4@12.5")
    grid = grid_of(spec)
    found = read_samples(path, spec, start_s=start_s, most=grid.span)
    return found.pixels[found.clips(grid)[0]]


def _opened(path: str, spec: BackboneSpec, start_s: float, stop_s: float | None) -> VideoReader:
    if not 0 <= start_s < (math.inf if stop_s is None else stop_s):
        raise UsageError(f"the span from {start_s:g} to {stop_s} s is empty; expected --start below --stop")
    begin_s, fps = probe(path).start_s, spec.clips.fps
    return open_video(
        path,
        fps=None if fps == "native" else fps,
        start_s=begin_s + start_s if start_s else None,
        stop_s=None if stop_s is None else begin_s + stop_s,
        short_side=spec.clips.short_side_px,
    )


def _each(reader: VideoReader) -> Iterator[tuple[NDArray[np.uint8], float]]:
    for batch in reader:
        yield from zip(batch.pixels, batch.pts_s.tolist(), strict=True)


def _crop(size: tuple[int, int], side_px: int, path: str) -> tuple[slice, slice]:
    width, height = size
    if side_px > min(size):
        raise UsageError(f"{path}: the resized frame is {width} x {height}; expected at least {side_px} x {side_px}")
    top, left = (height - side_px) // 2, (width - side_px) // 2
    return slice(top, top + side_px), slice(left, left + side_px)


def _flow(frames: NDArray[np.uint8], begins: list[int], settings: FlowSettings | None) -> NDArray[np.uint8]:
    """(N, H, W, 3) -> (N, H, W, 2), as the network was trained, or by TV-L1, as I3D was; never across a hole."""
    flow = flow_for(settings or FlowSettings(method="tvl1"))
    return np.concatenate([flow_frames(stretch, flow) for stretch in np.split(frames, begins[1:])])
