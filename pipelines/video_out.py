"""Writing video files: the only place that encodes. Small copies that every browser plays are made here too.

H W pixels.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from extract.errors import UsageError
from extract.prefetch import Prefetch
from extract.video import FrameBatch, VideoInfo, open_video, probe
from pipelines.whole import written_whole

CODECS = {".webm": "libvpx-vp9", ".mp4": "libx264"}
MOST_FPS = 30
TICK = Fraction(1, 1000)  # the clock of webm
_KEY_EVERY_S = 2
_AHEAD_BATCHES = 2
_LONG_S = 0.2
_OPTIONS = {
    # Without mbtree: with it, x264 gave other bytes in one run of four for the same pictures.
    "libx264": {"preset": "veryfast", "crf": "23", "bf": "2", "g": "50", "x264-params": "mbtree=0"},
    "libvpx-vp9": {
        "deadline": "realtime",
        "cpu-used": "8",
        "crf": "32",
        "b": "0",
        "g": "50",
        "lag-in-frames": "0",
    },
}
_COPIED = {"crf": "36", "g": "10000"}  # key frames where they are asked for alone


class VideoWriter:
    """A context manager that encodes pictures as they come. The same input gives the same bytes.

    Args:
        path: the file; its ending says the container, ``.webm`` or ``.mp4``.
        codec: ``libvpx-vp9`` or ``libx264``; by default the ending's.
        size: width and height in pixels; both even.
        rate: pictures per second, about, where they vary.
        time_base: seconds per tick.
        threads: of the encoder.
        options: of the encoder, on top of its usual ones.
    """

    def __init__(
        self,
        path: Path,
        *,
        size: tuple[int, int],
        rate: Fraction,
        time_base: Fraction,
        codec: str | None = None,
        threads: int = 1,
        options: dict[str, str] | None = None,
    ) -> None:
        self._codec = codec or CODECS[path.suffix]
        self._size, self._time_base = size, time_base
        self._container = av.open(str(path), "w", format=path.suffix.removeprefix("."), options={"fflags": "+bitexact"})
        stream = self._container.add_stream(
            self._codec, rate=rate, options={**_OPTIONS[self._codec], **(options or {})}
        )
        assert isinstance(stream, VideoStream)  # noqa: S101 - what both encoders make
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = time_base
        stream.codec_context.thread_count = threads
        self._stream = stream

    def write(self, pixels: NDArray[np.uint8], tick: int, *, key: bool = False) -> None:
        """Show ``pixels`` (H, W, 3) uint8 RGB from ``tick`` on; ticks rise. ``key``: one can seek to it."""
        picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        picture.pts, picture.time_base = tick, self._time_base
        if key:
            picture.pict_type = av.video.frame.PictureType.I
        self._container.mux(self._stream.encode(picture))

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()


class LimitedRate:
    """Picks, of pictures that come at rising times, at most `MOST_FPS` a second, as evenly as their own times allow.

    Their ticks of `TICK` begin at 0 and rise; ``key`` tells where a key frame is due.
    """

    def __init__(self) -> None:
        self._due_s = 0.0
        self._last = -1
        self._key_from_s = 0.0

    def tick(self, second: float) -> int | None:
        """The tick of the picture at ``second``, or None where it is left out."""
        tick = max(0, round(second / TICK))
        if second < self._due_s - 0.5 / MOST_FPS or tick <= self._last:
            return None
        self._due_s = max(self._due_s + 1 / MOST_FPS, second)
        self._last = tick
        return tick

    def key(self, second: float) -> bool:
        """Whether the picture picked at ``second`` shall be a key frame: one is every two seconds."""
        due = second >= self._key_from_s
        if due:
            self._key_from_s = second + _KEY_EVERY_S
        return due


def make_proxy(
    source: str,
    output: Path,
    *,
    height_px: int = 360,
    on_progress: Callable[[float], None] = lambda _: None,
) -> None:
    """Make a small copy of a video that every browser plays: VP9 in webm, upright, its pixels square, without sound.

    Each picture keeps its second, counted from the first one shown, to the millisecond; of more than 30 a second,
    some are left out. One can seek to every second second. Damaged videos are copied as far as they can be read.

    Args:
        source: a file or a URL.
        output: the copy, ``.webm``; it is there only when it is complete, and replaces what was there.
        height_px: most pixels from top to bottom.
        on_progress: called with the share that is done, 0..1.

    Raises:
        UsageError: ``height_px`` is below 16, or ``output`` does not end in .webm, or is ``source`` itself.
        VideoError: not readable.
        MachineError: the copy cannot be written.
    """
    if height_px < 16 or output.suffix != ".webm":
        raise UsageError(f"height_px is {height_px}, output {output}; expected at least 16, and a name in .webm")
    check_is_other(output, source)
    info = probe(source)
    with (
        written_whole(output) as partial,
        open_video(source, short_side=short_side(info, min(height_px, info.height))) as reader,
        Prefetch(reader, ahead=_AHEAD_BATCHES) as batches,
        VideoWriter(
            partial, size=even(reader.size), rate=Fraction(MOST_FPS), time_base=TICK, options=_COPIED
        ) as writer,
    ):
        last = None
        for last in picked(batches, info.start_s, info.duration_s, on_progress):
            writer.write(last.pixels, last.tick, key=last.key)
        end_s = reader.report.display_end_s
        if last is not None and end_s is not None and end_s - info.start_s - last.tick * TICK > _LONG_S:
            writer.write(
                last.pixels, round((end_s - info.start_s - 1 / MOST_FPS) / TICK)
            )  # players stop at the last picture
    on_progress(1.0)


class Picked(NamedTuple):
    """A picture ``(H, W, 3)`` uint8 at ``second`` of the video, to be written; ``tick``, ``key``: see `LimitedRate`."""

    pixels: NDArray[np.uint8]
    second: float
    tick: int
    key: bool


def picked(
    batches: Iterable[FrameBatch], start_s: float, duration_s: float | None, on_progress: Callable[[float], None]
) -> Iterator[Picked]:
    """The pictures of a video that a copy of it has. ``start_s``: its first one's time; ``on_progress`` is told the
    share of ``duration_s`` that is read, where that is known.
    """
    rate = LimitedRate()
    for batch in batches:
        for pixels, pts_s in zip(batch.pixels, batch.pts_s.tolist(), strict=True):
            second = max(0.0, pts_s - start_s)
            tick = rate.tick(second)
            if tick is not None:
                yield Picked(pixels, second, tick, rate.key(second))
        if duration_s:
            on_progress(min(1.0, (float(batch.pts_s[-1]) - start_s) / duration_s))


def short_side(info: VideoInfo, height_px: int) -> int:
    """The shorter side of a video's pictures that are ``height_px`` high."""
    return max(2, min(height_px, round(height_px * info.width / info.height)))


def even(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height that every encoder takes: even, at least 2."""
    return max(2, size[0] // 2 * 2), max(2, size[1] // 2 * 2)


def check_ending(output: Path, endings: Sequence[str]) -> None:
    """Raises UsageError where ``output`` does not end in one of ``endings``."""
    if output.suffix not in endings:
        raise UsageError(f"{output}: expected a name in {', '.join(endings)}")


def check_is_other(output: Path, source: str | Path) -> None:
    """Refuse to write a copy over what it is made of.

    Raises:
        UsageError: both are one file.
    """
    made_of = Path(url2pathname(urlsplit(str(source)).path)) if str(source).startswith("file:") else Path(source)
    same = False
    with suppress(OSError, ValueError):  # one of them is not there
        same = output.samefile(made_of)
    if same:
        raise UsageError(f"{output} is the video itself, which would be lost; choose another name")
