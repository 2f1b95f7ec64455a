"""What decoding yields, whichever library decodes: frames in display order, and packets that failed."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Decoded:
    """A frame.

    Attributes:
        number: frames and bad packets before it, counted from where decoding began.
        pts: seconds on the container's own clock, or None.
        duration: seconds on display as the container has it, or None.
        key: whether nothing before it is needed to decode it.
        damaged: whether a broken packet may have spoilt it.
        picture: converts it to (H, W, 3) uint8 RGB, upright, in the reader's fixed size.
        looks_ahead: whether it may have been decoded from frames that are shown after it.
        after_loss: whether frames are missing before it.
        after_skip: whether frames before it were left out, because nobody wants them.
    """

    number: int
    pts: Fraction | None
    duration: Fraction | None
    key: bool
    damaged: bool
    picture: Callable[[], NDArray[np.uint8]]
    looks_ahead: bool = False
    after_loss: bool = False
    after_skip: bool = False


@dataclass(frozen=True, slots=True)
class BadPacket:
    """A packet that could not be read or decoded; fields as in `Decoded`."""

    number: int
    pts: Fraction | None


Event = Decoded | BadPacket
# The next time (seconds, container clock) at which a frame is wanted; None where every frame is.
Wanted = Callable[[], float | None]
