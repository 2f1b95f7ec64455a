"""Decoding with decord, within the bounds where its frames and their times can be trusted.

It is read forward only, never by index; times come from the packets; what does not add up is refused.
"""

from collections.abc import Callable, Generator
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from extract.errors import MachineError
from extract.video._decoded import Decoded
from extract.video._guard import REMEDY, local_path, planned_frames, refusal
from extract.video._probe import Source

_CONTAINERS = ("mov", "matroska")


def _decord() -> Any:  # noqa: ANN401
    try:
        import decord
    except ImportError as error:
        raise MachineError(f"decord cannot be imported ({error}); {REMEDY}") from error
    decord.logging.set_level(decord.logging.QUIET)
    return decord


def library() -> str:
    """Version of decord."""
    return f"decord {_decord().__version__}"


def events(source: Source, size: tuple[int, int]) -> Generator[Decoded, None, None]:
    """All frames from the beginning, upright, in ``size`` = (width, height); VideoError where not trusted."""
    decord = _decord()
    path = local_path(source, "decord")
    if not source.info.container.startswith(_CONTAINERS):
        raise refusal("decord", source.path, f"decord is not trusted with {source.info.container}")
    planned = planned_frames(source, "decord", open_groups=False)
    try:
        reader = decord.VideoReader(path, width=size[0], height=size[1], num_threads=1, fault_tol=1)
        if len(reader) != len(planned):
            raise refusal("decord", source.path, f"{len(reader)} frames for {len(planned)} packets to show")
        for number, frame in enumerate(planned):
            picture = _picture(source, size, reader.next())
            yield Decoded(number, frame.pts, frame.duration, key=False, damaged=False, picture=picture)
    except (decord.DECORDError, decord.DECORDLimitReachedError, StopIteration, RuntimeError) as error:
        raise refusal("decord", source.path, f"decord stopped ({type(error).__name__})") from error


def _picture(source: Source, size: tuple[int, int], image: Any) -> Callable[[], NDArray[np.uint8]]:  # noqa: ANN401
    # Of narrow pictures decord takes the padding of the rows for a fourth colour.
    if image.shape != (size[1], size[0], 3):
        raise refusal("decord", source.path, f"pictures of shape {image.shape}, where (H, W, 3) was asked for")
    return cast(Callable[[], NDArray[np.uint8]], image.asnumpy)
