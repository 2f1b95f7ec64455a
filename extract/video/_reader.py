"""Reading the frames of a video, whole or a span of it, native or sampled at a rate."""

import math
from collections.abc import Generator, Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from extract.errors import UsageError, VideoError
from extract.video._clock import Shown, displayed
from extract.video._decoded import BadPacket, Decoded, Event
from extract.video._decoders import Decoder, find_decoder
from extract.video._feed import Feed
from extract.video._pixels import Converter, upright_size
from extract.video._probe import Source, inspect
from extract.video._records import FrameBatch, ReadReport, VideoInfo
from extract.video._sampling import EachFrame, Samples, Span
from extract.video._tally import Tally

_BATCH_FRAMES = 32
_BATCH_BYTES = 2**24  # what malloc reuses; larger ones come as fresh pages every time
_COUNTED_TOLERANCE_S = 1e-6
# A sample may show a frame that comes later by half a tick, but never by much of a frame interval.
_TOLERANCE_INTERVALS = 1 / 8

_Item = tuple[NDArray[np.uint8], float, bool]


class VideoReader:
    """A context manager that iterates over a video's frames once, in batches; see `open_video`.

    ``info`` says what the file is; ``report`` what happened, complete after the iteration.
    """

    def __init__(
        self,
        source: Source,
        *,
        decoder: Decoder,
        samples: Samples | EachFrame,
        short_side: int | None,
        strict: bool,
    ) -> None:
        self._source, self._decoder, self._samples, self._strict = source, decoder, samples, strict
        info = source.info
        size = upright_size(info.coded_width, info.coded_height, source.aspect, info.rotation, short_side)
        self._convert = Converter(source.path, size, info.rotation, info.mirrored)
        self._tally = Tally(source, samples.span)
        self._library = decoder.library()
        self._batches = self._read()

    @property
    def info(self) -> VideoInfo:
        """What the file is."""
        return self._source.info

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels of every frame that this reader yields."""
        return self._convert.size

    @property
    def report(self) -> ReadReport:
        """What happened up to now; ``report.finished`` after the last batch."""
        return self._tally.report(self._decoder.name, self._library, self._warnings())

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop reading and close the file."""
        self._batches.close()

    def __iter__(self) -> Iterator[FrameBatch]:
        return self._batches

    def _read(self) -> Generator[FrameBatch, None, None]:
        with closing(self._items()) as items:
            yield from _batched(items, self._batch_frames())
        self._tally.finished = True

    def _batch_frames(self) -> int:
        if self._source.feed is not None:
            return 1  # nobody shall wait for the next one
        return max(1, min(_BATCH_FRAMES, _BATCH_BYTES // (3 * math.prod(self.size))))

    def _items(self) -> Generator[_Item, None, None]:
        stop_s = self._samples.span.stop_s + self._samples.tolerance_s
        self._wanted_s: float | None = None
        with closing(self._events()) as events, closing(self._good(events)) as frames:
            for shown in displayed(frames, self._source):
                if float(shown.start) >= stop_s:
                    return
                self._note(shown)
                yield from self._shown(shown)
                self._wanted_s = self._samples.next_from(shown.stop if shown.hole is None else shown.hole[1])
        self._tally.file_ended = True

    def _events(self) -> Generator[Event, None, None]:
        start_s = self._samples.span.start_s
        begin = None if math.isinf(start_s) else Fraction(start_s)
        return self._decoder.events(self._source, self._convert, begin, self._wanted)

    def _wanted(self) -> float | None:
        return None if self._strict else self._wanted_s

    def _good(self, events: Iterator[Event]) -> Generator[Decoded, None, None]:
        for event in events:
            if not isinstance(event, BadPacket):
                yield event
            elif self._tally.packet(event) and self._strict:
                raise self._damage_error("a packet cannot be decoded", event.pts)

    def _note(self, shown: Shown) -> None:
        inside = self._tally.frame(shown)
        if self._strict and inside and (shown.decoded.damaged or shown.lost_from is not None):
            raise self._damage_error("frames are damaged or missing", shown.start)

    def _shown(self, shown: Shown) -> Iterator[_Item]:
        """The frame at each time at which it is wanted, converted once and only if it is."""
        times = self._samples.times(shown.start, shown.stop)
        if not times:
            return
        picture = shown.decoded.picture()
        lost_s = math.inf if shown.lost_from is None else float(shown.lost_from)
        for time_s in times:
            yield picture, time_s, shown.decoded.damaged or time_s >= lost_s

    def _damage_error(self, what: str, time: Fraction | None) -> VideoError:
        where = "at an unknown time" if time is None else f"at {float(time):.3f} s"
        return VideoError(self._source.path, "damaged", f"{what} {where}; read it without strict to go on")

    def _warnings(self) -> tuple[str, ...]:
        sizes = [f"{w} x {h}" for w, h in self._convert.source_sizes]
        if len(sizes) < 2:
            return ()
        return (f"the picture size changes ({', '.join(sizes)}); all are resized to the first one's",)


def open_video(
    path: str | Path,
    *,
    fps: float | None = None,
    start_s: float | None = None,
    stop_s: float | None = None,
    short_side: int | None = None,
    decoder: str = "auto",
    strict: bool = False,
) -> VideoReader:
    """Open a video to iterate over its frames as `FrameBatch`, in bounded memory.

    Args:
        path: the file, or its URL.
        fps: samples per second: sample k is at ``info.start_s + k / fps`` and shows the last frame not later
            than that, until the last frame's display ends; holes are left out. None: every decoded frame
            once, at its own time.
        start_s: only frames or samples at or after this time, in seconds on the container's clock.
        stop_s: only frames or samples before this time. A span gives what the whole would give in it.
        short_side: pixels of the shorter display side of the frames; the longer side follows the display's
            aspect, rounded down. None: the coded pixels, turned upright, not stretched.
        decoder: ``"auto"`` (PyAV), ``"pyav"``, ``"decord"``, ``"torchcodec"`` or ``"torchcodec:cuda"``.
        strict: raise at the first damage instead of flagging it.

    Raises:
        UsageError: a value that cannot work.
        VideoError: as in `probe`; while iterating, ``damaged`` (with ``strict``), ``too_large``, ``no_conversion``,
            ``io_error``, ``decord_refused`` and ``torchcodec_refused``.
        MachineError: the decoder named, or the package for a URL, is not installed.
    """
    chosen = find_decoder(decoder)
    _check_values(fps, start_s, stop_s, short_side)
    source = inspect(str(path))
    span = Span(-math.inf if start_s is None else start_s, math.inf if stop_s is None else stop_s)
    samples = EachFrame(span) if fps is None else Samples(source.info.start_s, fps, _tolerance_s(source), span)
    return VideoReader(source, decoder=chosen, samples=samples, short_side=short_side, strict=strict)


def follow_video(feed: Feed, *, fps: float | None = None, short_side: int | None = None) -> VideoReader:
    """As `open_video`, of a video whose bytes are still to come, with PyAV: each frame in a batch of its own.

    It begins when a few seconds have come; frames are those that `open_video` gives of the whole. Of damaged stretches
    and holes, the report has the last 1,000.

    Raises:
        UsageError: a value that cannot work.
        VideoError: as in `open_video`, and ``index_last``: it can only be read when it is complete.
    """
    _check_values(fps, None, None, short_side)
    source = inspect(feed.name, feed)
    samples = EachFrame(Span()) if fps is None else Samples(source.info.start_s, fps, _tolerance_s(source), Span())
    return VideoReader(source, decoder=find_decoder("pyav"), samples=samples, short_side=short_side, strict=False)


def read_frames(
    path: str | Path,
    *,
    fps: float | None = None,
    start_s: float | None = None,
    stop_s: float | None = None,
    short_side: int | None = None,
    decoder: str = "auto",
    strict: bool = False,
) -> Iterator[FrameBatch]:
    """The batches of `open_video` with these arguments, without its report."""
    with open_video(
        path, fps=fps, start_s=start_s, stop_s=stop_s, short_side=short_side, decoder=decoder, strict=strict
    ) as reader:
        yield from reader


def _check_values(fps: float | None, start_s: float | None, stop_s: float | None, short_side: int | None) -> None:
    if fps is not None and not 0 < fps < math.inf:
        raise UsageError(f"fps is {fps}; expected a rate above 0, or None for every frame")
    if short_side is not None and short_side < 1:
        raise UsageError(f"short_side is {short_side}; expected at least 1 pixel")
    if any(bound is not None and math.isnan(bound) for bound in (start_s, stop_s)):
        raise UsageError(f"the span [{start_s}, {stop_s}) s has no bounds; expected numbers")
    if start_s is not None and stop_s is not None and not start_s < stop_s:
        raise UsageError(f"the span [{start_s}, {stop_s}) s is empty; expected start_s below stop_s")


def _tolerance_s(source: Source) -> float:
    if source.counting:
        return _COUNTED_TOLERANCE_S
    return min(source.info.tick_s / 2, float(source.interval) * _TOLERANCE_INTERVALS)


def _batched(items: Iterator[_Item], size: int) -> Iterator[FrameBatch]:
    """Batches of ``size`` items, each picture copied once."""
    times: list[float] = []
    damaged: list[bool] = []
    pixels = np.empty(0, np.uint8)
    for picture, time_s, is_damaged in items:
        if not times:
            pixels = np.empty((size, *picture.shape), np.uint8)
        pixels[len(times)] = picture
        times.append(time_s)
        damaged.append(is_damaged)
        if len(times) == size:
            yield _batch(pixels, times, damaged)
            times, damaged = [], []
    if times:
        yield _batch(pixels[: len(times)], times, damaged)


def _batch(pixels: NDArray[np.uint8], times: list[float], damaged: list[bool]) -> FrameBatch:
    return FrameBatch(pixels, np.array(times, np.float64), np.array(damaged, np.bool_))
