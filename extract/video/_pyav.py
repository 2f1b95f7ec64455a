"""Decoding with PyAV: a forward loop that survives bad packets, and a seek that checks where it landed."""

from bisect import bisect_right
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import chain, dropwhile

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from extract.video._complaints import listen, tell_of_damage
from extract.video._container import check_storage, is_flush, opened
from extract.video._damage import Damage, frames_lost, hindsight
from extract.video._decoded import BadPacket, Decoded, Event, Wanted
from extract.video._pixels import Converter
from extract.video._probe import Source
from extract.video._progress import advance
from extract.video._restarts import RESTART_S, has_one_clock

_FIRST_STEP_BACK_S = 1
_WORTH_SKIPPING = 4  # frame intervals


def library() -> str:
    """Versions of the decoder and of its FFmpeg."""
    return f"av {av.__version__}, libavcodec " + ".".join(map(str, av.library_versions["libavcodec"]))


def events(source: Source, convert: Converter, begin: Fraction | None, wanted: Wanted) -> Generator[Event, None, None]:
    """All frames, or those from a key frame at or before ``begin`` (seconds, container clock) onwards.

    Groups of pictures in which nothing is ``wanted`` are left out, where the container has an index of key frames.
    """
    with ExitStack() as stack:

        def new_loop() -> _Loop:
            return _Loop(source, *stack.enter_context(opened(source.path, feed=source.feed)), convert)

        loop = new_loop()
        landed = _land(loop, begin) if begin is not None and _may_seek(source, begin) else None
        if landed is None and begin is not None:
            loop = new_loop()
        yield from _skipping(loop, landed or loop.run(), wanted)


def _skipping(loop: "_Loop", run: Iterator[Event], wanted: Wanted) -> Iterator[Event]:
    """``run``; and where it is worth it, a new one from a key frame nearer to what is wanted."""
    index: list[int] | None = None
    worth_s = float(_WORTH_SKIPPING * loop.source.interval)
    while (event := next(run, None)) is not None:
        yield event
        target = wanted()
        if target is None or not isinstance(event, Decoded) or event.pts is None:
            continue
        if target - float(event.pts) > worth_s:
            index = loop.key_ticks() if index is None else index
            if loop.is_ahead(index, target, worth_s):
                landed = _skipped(loop, event.pts, Fraction(target))
                index = index if landed else []
                run = landed or _after(event.pts, events(loop.source, loop.convert, event.pts, lambda: None))


def _skipped(loop: "_Loop", now: Fraction, target: Fraction) -> Iterator[Event] | None:
    """Events from an undamaged key frame after ``now``, and at or before ``target``; None where it finds none."""
    if not loop.seek(target):
        return None
    run = loop.run()
    bad, key = _first_key(run)
    if key is None or key.pts is None or not now < key.pts <= target:
        return None
    return chain(bad, [replace(key, after_skip=True)], run)


def _after(now: Fraction, run: Iterator[Event]) -> Iterator[Event]:
    return dropwhile(lambda event: event.pts is None or event.pts <= now, run)


def _may_seek(source: Source, begin: Fraction) -> bool:
    far = begin - Fraction(source.info.start_s) > _FIRST_STEP_BACK_S
    return far and source.info.seekable and (has_one_clock(source) or not _clock_restarts(source))


def _clock_restarts(source: Source) -> bool:
    last: int | None = None
    with opened(source.path) as (container, stream):
        for packet in _packets(source, container, stream):
            if packet is None or packet.dts is None:
                continue
            if last is not None and (last - packet.dts) * source.time_base > RESTART_S:
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


def _indexed_keys(stream: VideoStream) -> list[int]:
    return [entry.timestamp for entry in stream.index_entries if entry.is_keyframe]


def _seek(container: InputContainer, stream: VideoStream, ticks: int) -> bool:
    try:
        container.seek(ticks, stream=stream)
    except (OSError, av.FFmpegError, OverflowError):  # demuxing meets a failure of the storage again
        return False
    return True


def _packets(source: Source, container: InputContainer, stream: VideoStream) -> "Iterator[Packet[VideoStream] | None]":
    """The stream's packets, the empty one that flushes the decoder last; None for one that cannot be read."""
    while True:
        try:
            for packet in container.demux(stream):
                advance()
                yield packet
        except BlockingIOError:
            continue  # FFmpeg asks to be called again: it looks for a lost start code.
        except IndexError:
            return  # After the last packet PyAV trips over streams that appeared while it read.
        except OSError as error:
            check_storage(source.path, error, source.feed)
            yield None
        except av.FFmpegError:
            yield None
        return


class _Loop:
    """One pass over the packets of an open stream."""

    def __init__(self, source: Source, container: InputContainer, stream: VideoStream, convert: Converter) -> None:
        self.source, self.convert = source, convert
        self._container, self._stream = container, stream
        self._tick_s = float(source.time_base)
        self._latest_ticks = self._most_delay = 0
        listen()
        if stream.codec_context.name == "libdav1d":
            stream.codec_context.options = {"strict": "strict"}

    def seek(self, target: Fraction) -> bool:
        """Seek to a key frame at or before ``target`` seconds; False where the container cannot."""
        return _seek(self._container, self._stream, int(target / self.source.time_base))

    def key_ticks(self) -> list[int]:
        """Decoding times of the key frames in the container's index, where it can be trusted to be whole."""
        if not self.source.info.seekable or not has_one_clock(self.source):
            return []
        if self.source.info.container.startswith("mov"):
            return _indexed_keys(self._stream)
        with opened(self.source.path) as (container, stream):
            _seek(container, stream, 0)  # Matroska's index is read with the first seek.
            return _indexed_keys(stream)

    def is_ahead(self, index: list[int], target: float, by_s: float) -> bool:
        """Whether the last key frame shown by ``target`` is more than ``by_s`` ahead of the packet sent last.

        ``index`` holds when it is decoded, in ticks; the packets up to now tell how much later it is shown.
        """
        end = bisect_right(index, int(target / self._tick_s) - self._most_delay)
        return end > 0 and (index[end - 1] - self._latest_ticks) * self._tick_s > by_s

    def run(self) -> Iterator[Event]:
        """Events from the current position to the end of the file."""
        return hindsight(self._events())

    def _events(self) -> Iterator[Event]:
        self._damage, self._number = Damage(), 0
        self._last: tuple[Fraction | None, Fraction | None] = (None, None)
        for packet in _packets(self.source, self._container, self._stream):
            pts = self._seconds(None if packet is None else packet.pts)
            if packet is not None and packet.dts is not None:
                self._latest_ticks = packet.dts
                self._most_delay = max(
                    self._most_delay, (packet.dts if packet.pts is None else packet.pts) - packet.dts
                )
            self._damage.sent(pts, corrupt=packet is not None and packet.is_corrupt)
            with av.logging.Capture() as logs:
                frames = self._decode(packet)
            if packet is None or frames is None or (logs and tell_of_damage(logs, first=not self._number)):
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
        picture = partial(self.convert, frame)
        return Decoded(self._number, pts, duration, frame.key_frame, damaged, picture, looks_ahead, lost)

    def _follows_loss(self, pts: Fraction | None) -> bool:
        last, duration = self._last
        if pts is None or last is None or self.source.counting:
            return False
        return frames_lost(self.source.info, pts - last, self.source.interval, duration)

    def _seconds(self, ticks: int | None) -> Fraction | None:
        return None if ticks is None else ticks * self.source.time_base
