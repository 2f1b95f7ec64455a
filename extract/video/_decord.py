"""Decoding with decord, within the bounds where its frames and their times can be trusted.

It is read forward only, never by index; times come from the packets; what does not add up is refused.
"""

from collections.abc import Callable, Generator, Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from extract.errors import MachineError, VideoError
from extract.video._container import opened
from extract.video._damage import frames_lost
from extract.video._decoded import Decoded
from extract.video._probe import Source

_CONTAINERS = ("mov", "matroska")
_REMEDY = "read it with --decoder pyav"


def _decord() -> Any:  # noqa: ANN401
    try:
        import decord
    except ImportError as error:
        raise MachineError(f"decord cannot be imported ({error}); {_REMEDY}") from error
    decord.logging.set_level(decord.logging.QUIET)
    return decord


def library() -> str:
    """Version of decord."""
    return f"decord {_decord().__version__}"


def events(source: Source, size: tuple[int, int]) -> Generator[Decoded, None, None]:
    """All frames from the beginning, upright, in ``size`` = (width, height); VideoError where not trusted."""
    decord = _decord()
    times = _packet_times(source)
    try:
        reader = decord.VideoReader(
            str(source.path.absolute()), width=size[0], height=size[1], num_threads=1, fault_tol=1
        )
        if len(reader) != len(times):
            raise _refusal(source.path, f"{len(reader)} frames for {len(times)} packets to show")
        for number, (pts, duration) in enumerate(times):
            yield Decoded(
                number,
                pts,
                duration,
                key=False,
                damaged=False,
                picture=_picture(source, size, reader.next()),
            )
    except (decord.DECORDError, decord.DECORDLimitReachedError, StopIteration, RuntimeError) as error:
        raise _refusal(source.path, f"decord stopped ({type(error).__name__})") from error


def _picture(source: Source, size: tuple[int, int], image: Any) -> Callable[[], NDArray[np.uint8]]:  # noqa: ANN401
    # Of narrow pictures decord takes the padding of the rows for a fourth colour.
    if image.shape != (size[1], size[0], 3):
        raise _refusal(source.path, f"pictures of shape {image.shape}, where (H, W, 3) was asked for")
    return cast(Callable[[], NDArray[np.uint8]], image.asnumpy)


def _packet_times(source: Source) -> list[tuple[Fraction, Fraction | None]]:
    """Display time and duration in seconds of all frames in order, from their packets."""
    if not source.info.container.startswith(_CONTAINERS):
        raise _refusal(source.path, f"decord is not trusted with {source.info.container}")
    with opened(source.path) as (container, stream):
        try:
            ticks = sorted(_ticks(source, container.demux(stream)))
        except av.FFmpegError as error:
            raise _refusal(source.path, f"packets that cannot be read ({type(error).__name__})") from error
    times = [(pts * source.time_base, duration * source.time_base or None) for pts, duration in ticks]
    if any(frames_lost(source.info, b - a, source.interval, shown) for (a, shown), (b, _) in pairwise(times)):
        raise _refusal(source.path, "frames are missing")
    return times


def _ticks(source: Source, packets: "Iterator[Packet[VideoStream]]") -> Iterator[tuple[int, int]]:
    """Time stamp and duration of each packet to show, in decode order."""
    latest_key: int | None = None
    for packet in packets:
        if not packet.size or packet.is_discard:
            continue
        if packet.pts is None:
            raise _refusal(source.path, "packets without times")
        if latest_key is not None and packet.pts < latest_key:
            raise _refusal(source.path, "open groups of pictures (frames before a key frame follow it)")
        latest_key = packet.pts if packet.is_keyframe else latest_key
        yield packet.pts, packet.duration or 0


def _refusal(path: Path, why: str) -> VideoError:
    return VideoError(path, "decord_refused", f"decord's frames cannot be trusted here: {why}; {_REMEDY}")
