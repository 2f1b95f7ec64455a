"""The kinds of real video files that worlds are made of: H.264 or VP9, B-frames, constant or variable frame rate."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.synthetic.scene import HEIGHT_PX, WIDTH_PX
from pipelines.video_out import VideoWriter


@dataclass(frozen=True, slots=True)
class Encoding:
    """Codec, container and rate of a file. ``variable``: each frame is shown for 1 to 4 units of 1/50 s."""

    codec: str
    suffix: str
    rate: Fraction
    variable: bool = False

    def times(self, duration_s: float, rng: np.random.Generator) -> list[int]:
        """Presentation times that cover ``duration_s``, in units of ``time_base``."""
        if not self.variable:
            return list(range(max(1, round(duration_s * self.rate))))
        ticks, now = [], 0
        while now * self.time_base < duration_s:
            ticks.append(now)
            now += int(rng.integers(1, 5))
        return ticks

    @property
    def time_base(self) -> Fraction:
        """Seconds per tick."""
        return Fraction(1, 50) if self.variable else 1 / self.rate


NTSC = Fraction(30_000, 1_001)
ENCODINGS = (
    Encoding("libx264", ".mp4", Fraction(25)),
    Encoding("libvpx-vp9", ".webm", Fraction(25)),
    Encoding("libx264", ".mp4", NTSC),
    Encoding("libvpx-vp9", ".webm", NTSC),
    Encoding("libx264", ".mp4", Fraction(50), variable=True),
)
CLIP = Encoding("libx264", ".mp4", Fraction(10))


def write_video(path: Path, frame: Callable[[float], NDArray[np.uint8]], encoding: Encoding, ticks: list[int]) -> None:
    """Encode ``frame(t)`` (H, W, 3) uint8 at each tick's second t. The same input gives the same bytes."""
    with VideoWriter(
        path,
        codec=encoding.codec,
        size=(WIDTH_PX, HEIGHT_PX),
        rate=encoding.rate,
        time_base=encoding.time_base,
    ) as writer:
        for tick in ticks:
            writer.write(frame(float(tick * encoding.time_base)), tick)
