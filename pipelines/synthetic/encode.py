"""Writing pictures as real video files: H.264 or VP9, B-frames, constant or variable frame rate."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pipelines.synthetic.scene import HEIGHT_PX, WIDTH_PX


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


def write_video(path: Path, frame: Callable[[float], NDArray[np.uint8]], encoding: Encoding, ticks: list[int]) -> None:
    """Encode ``frame(t)`` (H, W, 3) uint8 at each tick's second t. The same input gives the same bytes."""
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(encoding.codec, rate=encoding.rate, options=_OPTIONS[encoding.codec])
        assert isinstance(stream, VideoStream)  # noqa: S101 - what both encoders make
        stream.width, stream.height, stream.pix_fmt = WIDTH_PX, HEIGHT_PX, "yuv420p"
        stream.codec_context.time_base = encoding.time_base
        stream.codec_context.thread_count = 1
        for picture in _pictures(frame, encoding, ticks):
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def _pictures(
    frame: Callable[[float], NDArray[np.uint8]], encoding: Encoding, ticks: list[int]
) -> Iterator[av.VideoFrame]:
    for tick in ticks:
        picture = av.VideoFrame.from_ndarray(frame(float(tick * encoding.time_base)), format="rgb24")
        picture.pts, picture.time_base = tick, encoding.time_base
        yield picture
