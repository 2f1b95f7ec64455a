"""The records that cross the package's border."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

TimeSource = Literal["container", "count"]


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a video file says about itself, and what its first packets show.

    Attributes:
        path: the file, as given; a URL without user, password and query.
        size_bytes: length of the file in bytes; 0 where it is followed while it comes.
        container: FFmpeg's name of the container format, such as ``"mov,mp4,m4a,3gp,3g2,mj2"``.
        codec: name of the codec, such as ``"h264"``.
        pixel_format: FFmpeg's name of the decoded pixel format, such as ``"yuv420p"``.
        width: display width in pixels, after sample aspect ratio and rotation.
        height: display height in pixels, after rotation.
        coded_width: width of a decoded picture in pixels, before rotation.
        coded_height: height of a decoded picture in pixels, before rotation.
        sample_aspect_ratio: width of a decoded pixel over its height.
        rotation: degrees counter-clockwise that a decoded picture is turned for display: 0, 90, 180 or 270.
        mirrored: whether a decoded picture is mirrored left to right before it is turned.
        declared_frames: number of frames that the header names, or None.
        estimated_frames: about how many frames reading gives, by all packets or by duration and rate, or None.
        duration_s: seconds from the first displayed frame to the end of the last one: the header's figure,
            an estimate (then a warning says so), or None.
        average_fps: frames per second on average: the container's figure, or that of the first frames where it
            has none or they contradict it (then a warning says so).
        nominal_fps: frames per second of the regular clock below the frames.
        variable_rate: whether frame intervals vary; None where too few frames tell.
        start_s: time of the first displayed frame on the container's clock, in seconds.
        tick_s: unit of the container's clock in seconds; no time is known better.
        stream_index: number of the video stream in the container.
        streams: one line for each stream, such as ``"0 video h264"``.
        time_source: ``"container"``, or ``"count"`` where frame n is at n / average_fps because the
            container has no usable times.
        seekable: False where a span can only be found by decoding from the beginning.
        warnings: what is odd about the file, one sentence each.
    """

    path: str
    size_bytes: int
    container: str
    codec: str
    pixel_format: str
    width: int
    height: int
    coded_width: int
    coded_height: int
    sample_aspect_ratio: float
    rotation: int
    mirrored: bool
    declared_frames: int | None
    estimated_frames: int | None
    duration_s: float | None
    average_fps: float
    nominal_fps: float
    variable_rate: bool | None
    start_s: float
    tick_s: float
    stream_index: int
    streams: tuple[str, ...]
    time_source: TimeSource
    seekable: bool
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FrameBatch:
    """Consecutive frames of one video.

    Attributes:
        pixels: (N, H, W, 3) uint8, RGB, 0..255.
        pts_s: (N,) float64, seconds on the container's clock, strictly increasing. Each frame's own time,
            or the sample's time where frames were sampled at a rate.
        damaged: (N,) bool, True for frames that a broken packet may have spoilt.
    """

    pixels: NDArray[np.uint8]
    pts_s: NDArray[np.float64]
    damaged: NDArray[np.bool_]

    def __post_init__(self) -> None:
        n = len(self.pixels)
        if self.pixels.ndim != 4 or self.pixels.shape[3] != 3 or self.pixels.dtype != np.uint8:
            raise ValueError(f"pixels are {self.pixels.dtype} {self.pixels.shape}; expected uint8 (N, H, W, 3)")
        for name, array, dtype in (("pts_s", self.pts_s, np.float64), ("damaged", self.damaged, np.bool_)):
            if array.shape != (n,) or array.dtype != dtype:
                raise ValueError(f"{name} is {array.dtype} {array.shape}; expected {np.dtype(dtype)} ({n},)")

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True, slots=True)
class ReadReport:
    """What happened while a video, or a span of it, was read. Times are seconds on the container's clock.

    The figures of the spans of a video add up to those of the whole, unless samples lie further apart than key frames.

    Attributes:
        decoder: ``"pyav"``, ``"decord"``, ``"torchcodec"`` or ``"torchcodec:cuda"``.
        library: the decoder's version and its FFmpeg's, such as ``"av 18.1.0, libavcodec 62.28.102"``.
        finished: whether the iteration came to its end; the other figures are final only then.
        decoded_frames: decoded frames whose time lies in the span; for samples that lie further apart than key frames
            fewer than there are.
        bad_packets: packets in the span that could not be decoded.
        damaged_frames: decoded frames in the span that a broken packet may have spoilt.
        damaged_spans_s: stretches [start, stop) of consecutive damaged frames.
        repaired_times: frames whose time was missing or ran backwards, and was replaced.
        clock_restarts: jumps of the clock back by more than a second, joined to go on.
        holes_s: stretches [start, stop) without any frame, longer than both 10 s and 5 frame intervals; for samples
            more than 10 s apart not those that lie whole between two of them.
        last_frame_s: time of the last decoded frame in the span, or None without any.
        display_end_s: end of the display of that frame, or None.
        short_by_s: seconds of the duration that the header declares which no frame shows, at either end; 0
            where nothing believable is declared, and for a span that stops before the last frame.
        warnings: whatever else was odd, one sentence each.
    """

    decoder: str
    library: str
    finished: bool
    decoded_frames: int
    bad_packets: int
    damaged_frames: int
    damaged_spans_s: tuple[tuple[float, float], ...]
    repaired_times: int
    clock_restarts: int
    holes_s: tuple[tuple[float, float], ...]
    last_frame_s: float | None
    display_end_s: float | None
    short_by_s: float
    warnings: tuple[str, ...]

    @property
    def odd(self) -> bool:
        """Whether times were repaired or are missing, or anything else was odd."""
        return bool(self.repaired_times or self.clock_restarts or self.holes_s or self.warnings)

    @property
    def partial(self) -> bool:
        """Whether something of the video is missing or may be wrong."""
        return bool(self.bad_packets or self.damaged_frames or self.short_by_s)
