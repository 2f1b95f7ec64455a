"""What a file is, from its header, its first packets and its first frame."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from extract.errors import VideoError
from extract.video._container import check_file, check_pixels, opened, read_error
from extract.video._records import VideoInfo

_HEAD_PACKETS = 200
_HEAD_BYTES = 2**24
_MAX_FPS = 1000
_MAX_SIDES_ASPECT = 16
_IRREGULAR_SHARE = 0.05
_RATE_TOLERANCE = 0.01
_ABSURD = 10
_ABSURD_GUESS = 100
_FALLBACK_FPS = Fraction(25)


@dataclass(frozen=True, slots=True)
class Source:
    """A probed file: its public description, and the exact figures that reading needs.

    ``interval``: average seconds from frame to frame. ``aspect``: sample aspect ratio. ``declared``: seconds
    of video that the header promises, where it can be believed.
    """

    path: Path
    info: VideoInfo
    time_base: Fraction
    interval: Fraction
    aspect: Fraction
    declared: Fraction | None

    @property
    def counting(self) -> bool:
        """Whether times are counted, for want of usable ones in the container."""
        return self.info.time_source == "count"


def probe(path: str | Path) -> VideoInfo:
    """Describe the video file at ``path`` without decoding more than its first frame.

    Raises:
        VideoError: with ``reason`` ``missing``, ``folder``, ``permission``, ``empty``, ``not_media``,
            ``no_video``, ``no_decoder``, ``too_large``, ``no_frames`` or ``io_error``.
    """
    return inspect(Path(path)).info


def inspect(path: Path) -> Source:
    """`probe`, with the exact figures that reading needs."""
    size = check_file(path)
    with opened(path) as (container, stream):
        head = _Head()
        head.read(path, container, stream)
        if head.frame is None:
            raise VideoError(
                path, "no_frames", "no frame of it can be decoded; copy it again or leave it out"
            )
        check_pixels(path, head.frame.width, head.frame.height)
        return _describe(path, size, container, stream, head, head.frame)


@dataclass
class _Head:
    """The first packets of a stream, and its first frame. Time stamps in ticks of the stream."""

    frame: VideoFrame | None = None
    pts: list[int | None] = field(default_factory=list)
    n_bytes: int = 0
    last_position: int = 0
    complete: bool = False

    def read(self, path: Path, container: InputContainer, stream: VideoStream) -> None:
        """Read until a frame is decoded and the head is long enough, or to the end of the file."""
        packets = container.demux(stream)
        while self.frame is None or (len(self.pts) < _HEAD_PACKETS and self.n_bytes < _HEAD_BYTES):
            packet = _next_packet(path, packets)
            if packet is not None:
                self._take(packet)
            if packet is None or not packet.size:
                self.complete = True
                return

    def _take(self, packet: "Packet[VideoStream]") -> None:
        if packet.size and not packet.is_discard:
            self.pts.append(packet.pts)
            self.n_bytes += packet.size
            self.last_position = max(self.last_position, packet.pos or 0)
        if self.frame is None:
            self.frame = _first_frame(packet)

    def known(self) -> list[int]:
        """The time stamps in display order."""
        return sorted(p for p in self.pts if p is not None)


def _next_packet(path: Path, packets: "Iterator[Packet[VideoStream]]") -> "Packet[VideoStream] | None":
    try:
        return next(packets, None)
    except av.FFmpegError as error:
        if isinstance(error, OSError):
            raise read_error(path, error) from error
        return None


def _first_frame(packet: "Packet[VideoStream]") -> VideoFrame | None:
    try:
        return next(iter(packet.decode()), None)
    except av.FFmpegError:
        return None


def _describe(
    path: Path, size: int, container: InputContainer, stream: VideoStream, head: _Head, frame: VideoFrame
) -> Source:
    warnings: list[str] = []
    time_base = stream.time_base or Fraction(1, 1_000_000)
    counting = _must_count(container, head, warnings)
    average = _average_rate(stream, warnings)
    declared, duration = _duration(container, stream, head, size, time_base, 1 / average, warnings)
    aspect = stream.sample_aspect_ratio or Fraction(1)
    if not Fraction(1, _MAX_SIDES_ASPECT) <= aspect <= _MAX_SIDES_ASPECT:
        warnings.append(f"pixels of aspect {aspect} are not believable; taken as square")
        aspect = Fraction(1)
    rotation = _rotation(frame, warnings)
    wide = math.floor(frame.width * aspect + Fraction(1, 2))
    start = Fraction(0) if counting or frame.pts is None else frame.pts * time_base
    info = VideoInfo(
        path=str(path),
        size_bytes=size,
        container=container.format.name,
        codec=stream.codec_context.name,
        pixel_format=frame.format.name,
        width=frame.height if rotation % 180 else wide,
        height=wide if rotation % 180 else frame.height,
        coded_width=frame.width,
        coded_height=frame.height,
        sample_aspect_ratio=float(aspect),
        rotation=rotation,
        declared_frames=stream.frames or None,
        duration_s=None if duration is None else float(duration),
        average_fps=float(average),
        nominal_fps=float(_usable(stream.guessed_rate) or average),
        variable_rate=False if counting else _varies(stream, head, average),
        start_s=float(start),
        tick_s=float(time_base),
        stream_index=stream.index,
        streams=tuple(_stream_line(s.index, s.type, s.codec_context) for s in container.streams),
        time_source="count" if counting else "container",
        seekable=not counting and None not in head.pts,
        warnings=tuple(warnings),
    )
    return Source(path, info, time_base, 1 / average, aspect, declared)


def _stream_line(index: int, kind: str, codec: object) -> str:
    return f"{index} {kind} {getattr(codec, 'name', 'unknown codec')}"


def _must_count(container: InputContainer, head: _Head, warnings: list[str]) -> bool:
    """AVI keeps no presentation times, raw streams keep none at all."""
    if container.format.name == "avi":
        return True
    counting = 2 * len(head.known()) < len(head.pts)
    if counting:
        warnings.append("the file holds no times; frame n is taken to be at n / average_fps")
    return counting


def _usable(rate: Fraction | None) -> Fraction | None:
    return rate if rate is not None and 0 < rate <= _MAX_FPS else None


def _average_rate(stream: VideoStream, warnings: list[str]) -> Fraction:
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if (usable := _usable(rate)) is not None:
            return usable
    warnings.append(f"the file holds no usable frame rate; taken as {_FALLBACK_FPS} frames/s")
    return _FALLBACK_FPS


def _varies(stream: VideoStream, head: _Head, average: Fraction) -> bool | None:
    """Whether frame intervals vary: by the container's two rates, or by the head's times."""
    nominal = _usable(stream.guessed_rate) or average
    if abs(nominal / average - 1) > _RATE_TOLERANCE:
        return True
    known = head.known()
    steps = [b - a for a, b in pairwise(known)]
    if not steps:
        return None
    typical = median(steps)
    return sum(2 * abs(step - typical) > typical for step in steps) > _IRREGULAR_SHARE * len(steps)


def _rotation(frame: VideoFrame, warnings: list[str]) -> int:
    quarter_turns = round(frame.rotation / 90)
    if frame.rotation != 90 * quarter_turns:
        warnings.append(f"turned by {frame.rotation} degrees; shown to the nearest quarter turn")
    return 90 * (quarter_turns % 4)


def _duration(
    container: InputContainer,
    stream: VideoStream,
    head: _Head,
    size: int,
    time_base: Fraction,
    interval: Fraction,
    warnings: list[str],
) -> tuple[Fraction | None, Fraction | None]:
    """Seconds that the header declares (None where it cannot be believed), and the best known figure."""
    declared = _declared_duration(container, stream, time_base)
    seen, exact = _seen_duration(container, stream, head, size, time_base, interval)
    if declared is None:
        warnings.append("the header holds no duration; " + _origin(seen, exact=exact))
        return None, seen
    factor = _ABSURD if exact else _ABSURD_GUESS
    if seen is not None and not seen / factor <= declared <= seen * factor:
        warnings.append(
            f"the header's duration of {float(declared):.6g} s is absurd; {_origin(seen, exact=exact)}"
        )
        return None, seen
    alone = len(container.streams) == 1 or stream.duration is not None
    return (declared if alone else None), declared


def _origin(seen: Fraction | None, *, exact: bool) -> str:
    if seen is None:
        return "it is not known"
    return "measured from the packets' times" if exact else "estimated from the first packets' bit rate"


def _declared_duration(
    container: InputContainer, stream: VideoStream, time_base: Fraction
) -> Fraction | None:
    candidates = [
        (stream.duration or 0) * time_base,
        Fraction(container.duration or 0, av.time_base),
    ]
    return min((c for c in candidates if c > 0), default=None)


def _seen_duration(
    container: InputContainer,
    stream: VideoStream,
    head: _Head,
    size: int,
    time_base: Fraction,
    interval: Fraction,
) -> tuple[Fraction | None, bool]:
    """Duration by the packets' times, and whether all packets were counted."""
    index = stream.index_entries
    if container.format.name.startswith("mov") and len(index) > 1:
        return (index[-1].timestamp - index[0].timestamp) * time_base + interval, True
    known = head.known()
    if len(known) > len(head.pts) // 2:
        covered = (known[-1] - known[0]) * time_base + interval
    else:
        covered = len(head.pts) * interval
    if head.complete:
        return covered, True
    read = max(head.last_position, head.n_bytes)
    return (covered * size / read if read else None), False
