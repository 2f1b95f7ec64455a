"""Decoding with decord, within the bounds where its frames and their times can be trusted.

It is read forward only, never by index; times come from the packets; what does not add up is refused.
"""

from collections.abc import Generator
from fractions import Fraction
from pathlib import Path
from typing import Any

from extract.errors import MachineError, VideoError
from extract.video._container import opened
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
        for number, pts in enumerate(times):
            yield _frame(reader, number, pts)
    except (decord.DECORDError, decord.DECORDLimitReachedError, StopIteration, RuntimeError) as error:
        raise _refusal(source.path, f"decord stopped: {str(error).splitlines()[-1:]}") from error


def _frame(reader: Any, number: int, pts: Fraction) -> Decoded:  # noqa: ANN401
    image = reader.next()
    return Decoded(number, pts, None, key=False, damaged=False, picture=image.asnumpy)


def _packet_times(source: Source) -> list[Fraction]:
    """Display times of all frames in order, from their packets."""
    if not source.info.container.startswith(_CONTAINERS):
        raise _refusal(source.path, f"decord is not trusted with {source.info.container}")
    ticks: list[int] = []
    latest_key: int | None = None
    with opened(source.path) as (container, stream):
        for packet in container.demux(stream):
            if not packet.size or packet.is_discard:
                continue
            if packet.pts is None:
                raise _refusal(source.path, "packets without times")
            if latest_key is not None and packet.pts < latest_key:
                raise _refusal(source.path, "open groups of pictures (frames before a key frame follow it)")
            latest_key = packet.pts if packet.is_keyframe else latest_key
            ticks.append(packet.pts)
    return [tick * source.time_base for tick in sorted(ticks)]


def _refusal(path: Path, why: str) -> VideoError:
    return VideoError(path, "decord_refused", f"decord's frames cannot be trusted here: {why}; {_REMEDY}")
