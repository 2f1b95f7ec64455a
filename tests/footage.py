"""Videos made for the tests: each picture carries its frame index, burned in as black and white columns."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from extract.video import ReadReport, open_video

W, H, BITS = 96, 64, 8
NTSC = Fraction(30000, 1001)


def burn(index: int) -> NDArray[np.uint8]:
    """``index`` as columns in the middle H x H pixels (the complement below), grey to the left and right."""
    row = np.repeat([235 * (index >> k & 1) for k in reversed(range(BITS))], H // BITS)
    picture = np.full((H, W), 128, np.uint8)
    picture[: H // 2, (W - H) // 2 : (W + H) // 2] = row
    picture[H // 2 :, (W - H) // 2 : (W + H) // 2] = 235 - row
    return np.repeat(picture[..., None], 3, axis=2)


def index_of(picture: NDArray[np.uint8]) -> int:
    """The index burned into ``picture`` (of any size, or its centre crop); -1 where it is turned or spoilt."""
    side = min(picture.shape[:2])
    top, left = ((length - side) // 2 for length in picture.shape[:2])
    grey = picture[top : top + side, left : left + side].mean(2)
    columns = (np.arange(BITS) * 2 + 1) * side // (2 * BITS)
    upper, lower = grey[side // 4, columns], grey[3 * side // 4, columns]
    if (np.abs(upper - lower) < 100).any():
        return -1
    return int("".join("1" if bit else "0" for bit in upper > lower), 2)


def encode(
    path: Path,
    times: Sequence[Fraction],
    *,
    codec: str = "libx264",
    rate: Fraction = Fraction(25),
    tick: Fraction | None = None,
    options: dict[str, str] | None = None,
    rotation: int = 0,
    gop: int = 12,
    aspect: Fraction | None = None,
    pixel_format: str = "yuv420p",
    picture: Callable[[int], NDArray[np.uint8]] = burn,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Encode one ``picture`` of its index for each time in seconds."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = W, H, pixel_format
        stream.codec_context.gop_size = gop
        stream.codec_context.time_base = tick or 1 / rate
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if rotation:
            stream.set_display_rotation(rotation)
        for index, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(index), format="rgb24")
            frame.pts, frame.time_base = round(time * 90000), Fraction(1, 90000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def regular(n: int, rate: Fraction = Fraction(25)) -> list[Fraction]:
    """Times of ``n`` frames at a constant rate."""
    return [k / rate for k in range(n)]


def uneven() -> list[Fraction]:
    """Times of 40 frames at 25/s, 20 at 10/s, a rest of 3 s, 20 at 50/s."""
    steps = [Fraction(1, 25)] * 40 + [Fraction(1, 10)] * 20 + [Fraction(3)] + [Fraction(1, 50)] * 19
    return [sum(steps[:k], Fraction(0)) for k in range(len(steps))]


KINDS: dict[str, Callable[[Path], Path]] = {
    "b-frames.mp4": lambda p: encode(p, regular(60), options={"bf": "3"}),
    "open-gop.mkv": lambda p: encode(p, regular(60), options={"bf": "3", "x264-params": "open-gop=1"}),
    "one-key.mp4": lambda p: encode(p, regular(60), gop=1000),
    "vp9.webm": lambda p: encode(p, regular(60), codec="libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8"}),
    "uneven.mp4": lambda p: encode(p, uneven(), tick=Fraction(1, 1000)),
    "uneven.mkv": lambda p: encode(p, uneven(), tick=Fraction(1, 1000)),
    "ntsc.mp4": lambda p: encode(p, regular(60, NTSC), rate=NTSC),
    "late-start.ts": lambda p: encode(p, [t + 2 for t in regular(60)], options={"bf": "2"}),
    "program.mpg": lambda p: encode(p, regular(60), codec="mpeg2video", options={"bf": "2"}),
    "counted.avi": lambda p: encode(p, regular(60), codec="mpeg4", options={"bf": "2"}),
    "raw.h264": lambda p: encode(p, regular(60)),
}


def overwrite_packets(path: Path, numbers: range) -> None:
    """Replace the payload of these packets by noise."""
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.pos is not None]
    data = bytearray(path.read_bytes())
    noise = np.random.default_rng(0)
    for position, size in places[numbers.start : numbers.stop]:
        data[position : position + size] = noise.bytes(size)
    path.write_bytes(data)


Rows = list[tuple[float, int, bool]]


def read(path: Path, **options: object) -> tuple[Rows, ReadReport]:
    """(time, burned-in index, damaged) of all frames, and the report."""
    with open_video(path, **options) as reader:  # type: ignore[arg-type]
        rows = [
            (float(t), index_of(pixels), bool(damaged))
            for batch in reader
            for pixels, t, damaged in zip(batch.pixels, batch.pts_s, batch.damaged, strict=True)
        ]
        return rows, reader.report
