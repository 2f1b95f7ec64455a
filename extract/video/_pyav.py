"""Decoding with PyAV: a forward loop that survives bad packets, and a seek that checks where it landed."""

from collections.abc import Generator, Iterator
from contextlib import ExitStack
from fractions import Fraction
from functools import partial
from itertools import chain

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from extract.video._complaints import listen, tell_of_damage
from extract.video._container import is_flush, opened, read_error
from extract.video._damage import Damage, frames_lost, hindsight
from extract.video._decoded import BadPacket, Decoded, Event
from extract.video._pixels import Converter
from extract.video._probe import Source

_FIRST_STEP_BACK_S = 1
_RESTART_S = 1
# Containers whose clock cannot restart half-way; others are checked before a seek is trusted.
_ONE_CLOCK = ("mov", "matroska")


def library() -> str:
    """Versions of the decoder and of its FFmpeg."""
    return f"av {av.__version__}, libavcodec " + ".".join(map(str, av.library_versions["libavcodec"]))


def events(source: Source, convert: Converter, begin: Fraction | None) -> Generator[Event, None, None]:
    """All frames, or those from a key frame at or before ``begin`` (seconds, container clock) onwards."""
    with ExitStack() as stack:
        if begin is not None and _may_seek(source, begin):
            container, stream = stack.enter_context(opened(source.path))
            landed = _land(_Loop(source, container, stream, convert), begin)
            if landed is not None:
                yield from landed
                return
        container, stream = stack.enter_context(opened(source.path))
        yield from _Loop(source, container, stream, convert).run()


def _may_seek(source: Source, begin: Fraction) -> bool:
    far = begin - Fraction(source.info.start_s) > _FIRST_STEP_BACK_S
    one_clock = source.info.container.startswith(_ONE_CLOCK)
    return far and source.info.seekable and (one_clock or not _clock_restarts(source))


def _clock_restarts(source: Source) -> bool:
    last: int | None = None
    with opened(source.path) as (container, stream):
        for packet in _packets(source, container, stream):
            if packet is None or packet.dts is None:
                continue
            if last is not None and (last - packet.dts) * source.time_base > _RESTART_S:
                return True
            last = packet.dts
    return False


def _land(loop: "_Loop", begin: Fraction) -> Iterator[Event] | None:
    """Events from an undamaged key frame at or before ``begin``; None where only the beginning is left."""
    back = Fraction(_FIRST_STEP_BACK_S)
    start = Fraction(loop.source.info.start_s)
    while begin - back > start:
        if not loop.seek(begin - back):
            return None
        run = loop.run()
        bad, key = _first_key(run)
        if key is not None and key.pts is not None and key.pts <= begin:
            return chain(bad, [key], run)
        back *= 2
    return None


def _first_key(run: Iterator[Event]) -> tuple[list[Event], Decoded | None]:
    """The bad packets before the first undamaged key frame, and that frame."""
    bad: list[Event] = []
    for event in run:
        if isinstance(event, BadPacket):
            bad.append(event)
        elif event.key and not event.damaged:
            return bad, event
    return bad, None


def _packets(source: Source, container: InputContainer, stream: VideoStream) -> "Iterator[Packet[VideoStream] | None]":
    """The stream's packets, the empty one that flushes the decoder last; None for one that cannot be read."""
    try:
        yield from container.demux(stream)
    except IndexError:
        return  # After the last packet PyAV trips over streams that appeared while it read.
    except OSError as error:
        raise read_error(source.path, error) from error
    except av.FFmpegError:
        yield None


class _Loop:
    """One pass over the packets of an open stream."""

    def __init__(self, source: Source, container: InputContainer, stream: VideoStream, convert: Converter) -> None:
        self.source = source
        self._container, self._stream, self._convert = container, stream, convert
        listen()
        if stream.codec_context.name == "libdav1d":
            stream.codec_context.options = {"strict": "strict"}

    def seek(self, target: Fraction) -> bool:
        """Seek to a key frame at or before ``target`` seconds; False where the container cannot."""
        try:
            self._container.seek(int(target / self.source.time_base), stream=self._stream)
        except (av.FFmpegError, OverflowError):
            return False
        return True

    def run(self) -> Iterator[Event]:
        """Events from the current position to the end of the file."""
        return hindsight(self._events())

    def _events(self) -> Iterator[Event]:
        self._damage, self._number = Damage(), 0
        self._last: tuple[Fraction | None, Fraction | None] = (None, None)
        for packet in _packets(self.source, self._container, self._stream):
            pts = self._seconds(None if packet is None else packet.pts)
            self._damage.sent(pts, corrupt=packet is not None and packet.is_corrupt)
            with av.logging.Capture() as logs:
                frames = self._decode(packet)
            if packet is None or frames is None or (logs and tell_of_damage(logs)):
                self._damage.failed()
            if packet is None or frames is None:
                yield BadPacket(self._number, pts)
                self._number += 1
            for frame in frames or ():
                yield self._decoded(frame)
                self._number += 1

    def _decode(self, packet: "Packet[VideoStream] | None") -> list[VideoFrame] | None:
        """Frames that come out after ``packet`` or, without one, at the end; None where it is bad."""
        if packet is not None and not packet.size and not is_flush(packet):
            return None
        try:
            return self._stream.decode(None) if packet is None else packet.decode()
        except av.FFmpegError:
            return None

    def _decoded(self, frame: VideoFrame) -> Decoded:
        pts, duration = self._seconds(frame.pts), self._seconds(frame.duration or None)
        lost, looks_ahead = self._follows_loss(pts), frame.pict_type == PictureType.B
        damaged = self._damage.came_out(pts, key=frame.key_frame, corrupt=frame.is_corrupt, after_loss=lost)
        self._last = pts, duration
        picture = partial(self._convert, frame)
        return Decoded(self._number, pts, duration, frame.key_frame, damaged, picture, looks_ahead, lost)

    def _follows_loss(self, pts: Fraction | None) -> bool:
        last, duration = self._last
        if pts is None or last is None or self.source.counting:
            return False
        return frames_lost(self.source.info, pts - last, self.source.interval, duration)

    def _seconds(self, ticks: int | None) -> Fraction | None:
        return None if ticks is None else ticks * self.source.time_base
