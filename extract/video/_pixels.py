"""From a decoded picture to upright RGB of a fixed size."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from extract.video._container import check_pixels


def upright_size(width: int, height: int, aspect: Fraction, rotation: int, short_side: int | None) -> tuple[int, int]:
    """(width, height) of the frames that a reader hands out.

    Without ``short_side``: the coded pixels, turned, sample aspect ratio not applied. With it: the shorter
    side of the display, with the longer side in proportion, rounded down.
    """
    if short_side is None:
        return (height, width) if rotation % 180 else (width, height)
    wide = width * aspect
    ratio = wide / height
    long_side = math.floor(short_side * max(ratio, 1 / ratio))
    landscape = (wide >= height) != bool(rotation % 180)
    return (long_side, short_side) if landscape else (short_side, long_side)


@dataclass
class Converter:
    """Converts frames of any size to upright (H, W, 3) uint8 RGB of one ``size`` = (width, height)."""

    path: str
    size: tuple[int, int]
    rotation: int

    def __post_init__(self) -> None:
        self._swscale = VideoReformatter()
        self.source_sizes: dict[tuple[int, int], None] = {}

    def __call__(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Resize and convert in one swscale call, then turn the small picture."""
        check_pixels(self.path, frame.width, frame.height)
        self.source_sizes.setdefault((frame.width, frame.height))
        width, height = reversed(self.size) if self.rotation % 180 else self.size
        rgb = self._swscale.reformat(frame, width, height, "rgb24", interpolation=Interpolation.BILINEAR, threads=1)
        return np.rot90(cast(NDArray[np.uint8], rgb.to_ndarray()), self.rotation // 90)
