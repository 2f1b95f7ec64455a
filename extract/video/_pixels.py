"""From a decoded picture to upright RGB of a fixed size.

Where a file does not name its colour matrix or range, they are what swscale and the ffmpeg command take: BT.601
and limited, for pictures of every size.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from extract.errors import VideoError
from extract.video._container import check_pixels

_UNSPECIFIED = 2
# Colour matrices by number (ITU-T H.273) that swscale knows, and for two that it refuses, what to take instead:
# the number 3 means nothing, and BT.2020 with constant luminance (10) is mostly a wrong tag for the usual one.
_MATRICES = frozenset({0, 1, _UNSPECIFIED, 4, 5, 6, 7, 9})
_STAND_INS = {3: _UNSPECIFIED, 10: 9}


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


def check_colours(path: str, frame: VideoFrame) -> None:
    """VideoError where the picture's colours cannot be converted to RGB."""
    if frame.colorspace not in _MATRICES | _STAND_INS.keys():
        raise _no_conversion(path, f"pictures in the colour matrix number {frame.colorspace}")


def orientation(frame: VideoFrame) -> tuple[bool, float]:
    """Whether ``frame`` is mirrored left to right for display, and the degrees counter-clockwise it is turned then."""
    try:
        data = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # side data of a kind that this PyAV does not know
        return False, float(frame.rotation)
    if data is None:
        return False, 0.0
    # Coded (x, y), y downwards, is displayed at (a x + c y, b x + d y).
    a, b, _, c, d, *_ = np.frombuffer(cast(memoryview, data), np.int32).tolist()
    if a * d == b * c:
        return False, 0.0
    return a * d < b * c, math.degrees(math.atan2(c, d))


@dataclass
class Converter:
    """Converts frames of any size to upright (H, W, 3) uint8 RGB of one ``size`` = (width, height).

    ``rotation`` and ``mirrored`` as in `VideoInfo`.
    """

    path: str
    size: tuple[int, int]
    rotation: int
    mirrored: bool

    def __post_init__(self) -> None:
        check_pixels(self.path, *self.size)
        self._swscale = VideoReformatter()
        self.source_sizes: dict[tuple[int, int], None] = {}

    def __call__(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Resize and convert in one swscale call, then mirror and turn the small picture."""
        check_pixels(self.path, frame.width, frame.height)
        self.source_sizes.setdefault((frame.width, frame.height))
        width, height = reversed(self.size) if self.rotation % 180 else self.size
        picture = self._rgb(frame, width, height)
        return np.rot90(picture[:, ::-1] if self.mirrored else picture, self.rotation // 90)

    def _rgb(self, frame: VideoFrame, width: int, height: int) -> NDArray[np.uint8]:
        frame.colorspace = _STAND_INS.get(frame.colorspace, frame.colorspace)
        try:
            rgb = self._swscale.reformat(frame, width, height, "rgb24", interpolation=Interpolation.BILINEAR, threads=1)
        except (av.FFmpegError, ValueError) as error:
            what = f"pictures of {frame.width} x {frame.height} pixels in the format {frame.format.name}"
            raise _no_conversion(self.path, what) from error
        return cast(NDArray[np.uint8], rgb.to_ndarray())


def _no_conversion(path: str, what: str) -> VideoError:
    return VideoError(path, "no_conversion", f"{what} cannot be converted to RGB; convert it, for example to H.264")
