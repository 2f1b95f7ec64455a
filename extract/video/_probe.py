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
from extract.video._container import check_file, check_pixels, is_flush, opened, read_error
from extract.video._records import VideoInfo

_SEEKABLE = ("mov", "matroska", "mpegts", "flv")
_HEAD_PACKETS = 200
_HEAD_BYTES = 2**24
_MAX_FPS = 1000
_MAX_ASPECT = 16
_IRREGULAR_STEPS = 2
_IRREGULAR_SHARE = 0.02
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

    path: str
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
    """Describe the video ``path``, a file or a URL, without decoding more than its first frame.

    Raises:
        VideoError: with ``reason`` ``missing``, ``folder``, ``permission``, ``empty``, ``not_media``,
            ``no_video``, ``no_decoder``, ``too_large``, ``no_frames`` or ``io_error``.
    """
    return inspect(str(path)).info


def inspect(path: str) -> Source:
    """`probe`, with the exact figures that reading needs."""
    size = check_file(path)
    with opened(path) as (container, stream):
        head = _Head()
        head.read(path, container, stream)
        if head.frame is None:
            raise VideoError(path, "no_frames", "no frame of it can be decoded; copy it again or leave it out")
        check_pixels(path, head.frame.width, head.frame.height)
        time_base = stream.time_base or Fraction(1, av.time_base)
        return _describe(path, _Evidence(container, stream, head, head.frame, time_base, size))


@dataclass
class _Head:
    """The first packets of a stream, and its first frame. Time stamps in ticks of the stream."""

    frame: VideoFrame | None = None
    pts: list[int | None] = field(default_factory=list)
    n_bytes: int = 0
    last_position: int = 0
    complete: bool = False

    def read(self, path: str, container: InputContainer, stream: VideoStream) -> None:
        """Read until a frame is decoded and the head is long enough, or to the end of the file."""
        packets = container.demux(stream)
        while self.frame is None or (len(self.pts) < _HEAD_PACKETS and self.n_bytes < _HEAD_BYTES):
            packet = _next_packet(path, packets)
            if packet is not None:
                self._take(packet)
            if packet is None or is_flush(packet):
                self.complete = True
                return

    def _take(self, packet: "Packet[VideoStream]") -> None:
        if packet.size and not packet.is_discard:
            self.pts.append(packet.pts)
            self.n_bytes += packet.size
            self.last_position = max(self.last_position, packet.pos or 0)
        if self.frame is None and (packet.size or is_flush(packet)):
            self.frame = _first_frame(packet)

    def known(self) -> list[int]:
        """The time stamps in display order."""
        return sorted(p for p in self.pts if p is not None)


def _next_packet(path: str, packets: "Iterator[Packet[VideoStream]]") -> "Packet[VideoStream] | None":
    try:
        return next(packets, None)
    except OSError as error:
        raise read_error(path, error) from error
    except av.FFmpegError:
        return None


def _first_frame(packet: "Packet[VideoStream]") -> VideoFrame | None:
    try:
        return next(iter(packet.decode()), None)
    except av.FFmpegError:
        return None


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What a description is drawn from. ``warnings`` collects what is odd."""

    container: InputContainer
    stream: VideoStream
    head: _Head
    frame: VideoFrame
    time_base: Fraction
    size_bytes: int
    warnings: list[str] = field(default_factory=list)

    @property
    def format(self) -> str:
        return self.container.format.name


def _describe(path: str, seen: _Evidence) -> Source:
    counting, average, aspect = _must_count(seen), _average_rate(seen), _aspect(seen)
    declared, duration = _duration(seen, 1 / average)
    rotation = _rotation(seen)
    frame, stream = seen.frame, seen.stream
    wide = math.floor(frame.width * aspect + Fraction(1, 2))
    start = Fraction(0) if counting or frame.pts is None else frame.pts * seen.time_base
    info = VideoInfo(
        path=path,
        size_bytes=seen.size_bytes,
        container=seen.format,
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
        variable_rate=False if counting else _varies(seen, average),
        start_s=float(start),
        tick_s=float(seen.time_base),
        stream_index=stream.index,
        streams=tuple(_stream_line(s.index, s.type, s.codec_context) for s in seen.container.streams),
        time_source="count" if counting else "container",
        seekable=_seekable(seen, counting=counting),
        warnings=tuple(seen.warnings),
    )
    return Source(path, info, seen.time_base, 1 / average, aspect, declared)


def _stream_line(index: int, kind: str, codec: object) -> str:
    return f"{index} {kind} {getattr(codec, 'name', 'unknown codec')}"


def _must_count(seen: _Evidence) -> bool:
    """AVI keeps no presentation times, raw streams keep none at all."""
    if seen.format == "avi":
        return True
    counting = 2 * len(seen.head.known()) < len(seen.head.pts)
    if counting:
        seen.warnings.append("the file holds no times; frame n is taken to be at n / average_fps")
    return counting


def _seekable(seen: _Evidence, *, counting: bool) -> bool:
    """Whether times after a seek are those of a pass from the beginning (in program streams they are not)."""
    return not counting and None not in seen.head.pts and seen.format.startswith(_SEEKABLE)


def _usable(rate: Fraction | None) -> Fraction | None:
    return rate if rate is not None and 0 < rate <= _MAX_FPS else None


def _average_rate(seen: _Evidence) -> Fraction:
    for rate in (seen.stream.average_rate, seen.stream.guessed_rate, seen.stream.base_rate):
        if (usable := _usable(rate)) is not None:
            return usable
    seen.warnings.append(f"the file holds no usable frame rate; taken as {_FALLBACK_FPS} frames/s")
    return _FALLBACK_FPS


def _varies(seen: _Evidence, average: Fraction) -> bool | None:
    """Whether frame intervals vary: by the container's two rates, or by the head's times."""
    nominal = _usable(seen.stream.guessed_rate) or average
    if abs(nominal / average - 1) > _RATE_TOLERANCE:
        return True
    steps = [b - a for a, b in pairwise(seen.head.known())]
    if not steps:
        return None
    typical = median(steps)
    irregular = sum(2 * abs(step - typical) > typical for step in steps)
    return irregular > max(_IRREGULAR_STEPS, _IRREGULAR_SHARE * len(steps))


def _aspect(seen: _Evidence) -> Fraction:
    aspect = seen.stream.sample_aspect_ratio or Fraction(1)
    if Fraction(1, _MAX_ASPECT) <= aspect <= _MAX_ASPECT:
        return aspect
    seen.warnings.append(f"pixels of aspect {aspect} are not believable; taken as square")
    return Fraction(1)


def _rotation(seen: _Evidence) -> int:
    degrees = seen.frame.rotation
    quarter_turns = round(degrees / 90)
    if degrees != 90 * quarter_turns:
        seen.warnings.append(f"turned by {degrees} degrees; shown to the nearest quarter turn")
    return 90 * (quarter_turns % 4)


def _duration(seen: _Evidence, interval: Fraction) -> tuple[Fraction | None, Fraction | None]:
    """Seconds that the header declares (None where it cannot be believed), and the best known figure."""
    declared = _declared_duration(seen)
    found, exact = _found_duration(seen, interval)
    how = "measured from the packets' times" if exact else "estimated from the first packets' bit rate"
    origin = "it is not known" if found is None else how
    if declared is None:
        seen.warnings.append(f"the header holds no duration; {origin}")
        return None, found
    factor = _ABSURD if exact else _ABSURD_GUESS
    if found is not None and not found / factor <= declared <= found * factor:
        seen.warnings.append(f"the header's duration of {float(declared):.6g} s is absurd; {origin}")
        return None, found
    of_video = len(seen.container.streams) == 1 or seen.stream.duration is not None
    return (declared if of_video else None), declared


def _declared_duration(seen: _Evidence) -> Fraction | None:
    of_stream = (seen.stream.duration or 0) * seen.time_base
    of_file = Fraction(seen.container.duration or 0, av.time_base)
    return min((duration for duration in (of_stream, of_file) if duration > 0), default=None)


def _found_duration(seen: _Evidence, interval: Fraction) -> tuple[Fraction | None, bool]:
    """Duration by the packets' times, and whether all packets were counted."""
    head, index = seen.head, seen.stream.index_entries
    if seen.format.startswith("mov") and len(index) > 1:
        ticks = max(0, index[-1].timestamp - index[0].timestamp)
        return ticks * seen.time_base + interval, True
    known = head.known()
    if 2 * len(known) > len(head.pts):
        covered = (known[-1] - known[0]) * seen.time_base + interval
    else:
        covered = len(head.pts) * interval
    if head.complete:
        return covered, True
    read = max(head.last_position, head.n_bytes)
    return (covered * seen.size_bytes / read if read else None), False
