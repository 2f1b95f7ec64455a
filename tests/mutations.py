"""Small videos of many kinds, and bytes broken in many ways, each the same for the same seed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from footage import H, W, burn, encode, regular
from numpy.typing import NDArray

N_FRAMES = 60
HEADER_BYTES = 1024


def grained(index: int) -> NDArray[np.uint8]:
    """`burn` with a margin of noise, new in each picture, so that there is something to code."""
    picture = burn(index)
    grain = np.random.default_rng(index).integers(64, 192, (H, (W - H) // 2, 1), np.uint8)
    picture[:, : (W - H) // 2] = grain
    picture[:, (W + H) // 2 :] = grain
    return picture


def _coded(
    codec: str = "libx264", pixel_format: str = "yuv420p", container: dict[str, str] | None = None, **options: str
) -> Callable[[Path], Path]:
    times = regular(N_FRAMES)
    return lambda path: encode(
        path,
        times,
        codec=codec,
        pixel_format=pixel_format,
        options={"threads": "1", **options},
        container_options={"fflags": "+bitexact", **(container or {})},
        picture=grained,
    )


# Its macroblock tree reads memory that it never wrote, and so codes otherwise from run to run.
X264 = {"bf": "3", "mbtree": "0"}
HEVC = {"x265-params": "log-level=none:pools=none:frame-threads=1"}
LIBVPX = {"deadline": "realtime", "cpu-used": "8"}

BASES: dict[str, Callable[[Path], Path]] = {
    "plain.mp4": _coded(**X264),
    "fast.mp4": _coded(**X264, container={"movflags": "faststart"}),
    "fragmented.mp4": _coded(**X264, container={"movflags": "frag_keyframe+empty_moov"}),
    "matroska.mkv": _coded(**X264),
    "transport.ts": _coded(**X264),
    "flash.flv": _coded(**X264),
    "raw.h264": _coded(**X264),
    "open.mkv": _coded(**X264, **{"x264-params": "open-gop=1"}),
    "slices.mkv": _coded(bf="2", mbtree="0", slices="4", coder="vlc"),
    "hevc.mp4": _coded("libx265", **HEVC),
    "hevc.ts": _coded("libx265", **HEVC),
    "vp9.webm": _coded("libvpx-vp9", **LIBVPX),
    "vp8.webm": _coded("libvpx", **LIBVPX),
    "av1.mkv": _coded("libsvtav1", preset="8", crf="20", **{"svtav1-params": "lp=1"}),
    "mpeg4.avi": _coded("mpeg4", bf="2"),
    "mpeg4.mp4": _coded("mpeg4", bf="2"),
    "mpeg2.mpg": _coded("mpeg2video", bf="2"),
    "mpeg2.ts": _coded("mpeg2video", bf="2"),
    "mjpeg.avi": _coded("mjpeg", strict="unofficial"),
    "prores.mov": _coded("prores_ks", "yuv422p10le"),
    "anim.gif": _coded("gif", "gray"),
}

Mutation = Callable[[bytearray, np.random.Generator, bytes], None]


def _place(data: bytearray, random: np.random.Generator) -> int:
    """A position: in the first bytes in one of four cases, near the end in another, else anywhere."""
    where = random.integers(4)
    if where == 0:
        return int(random.integers(min(len(data), HEADER_BYTES)))
    if where == 1:
        return len(data) - 1 - int(random.integers(min(len(data), 2 * HEADER_BYTES)))
    return int(random.integers(len(data)))


def _stretch(data: bytearray, random: np.random.Generator) -> slice:
    start = _place(data, random)
    return slice(start, start + int(np.exp(random.uniform(0, np.log(len(data) / 4)))) + 1)


def flip(data: bytearray, random: np.random.Generator, other: bytes) -> None:
    for _ in range(random.integers(1, 51)):
        data[_place(data, random)] ^= int(random.integers(1, 256))


def flip_bit(data: bytearray, random: np.random.Generator, other: bytes) -> None:
    data[_place(data, random)] ^= 1 << int(random.integers(8))


def noise(data: bytearray, random: np.random.Generator, other: bytes) -> None:
    where = _stretch(data, random)
    data[where] = random.bytes(len(data[where]))


def zeros(data: bytearray, random: np.random.Generator, other: bytes) -> None:
    where = _stretch(data, random)
    data[where] = bytes(len(data[where]))


def ones(data: bytearray, random: np.random.Generator, other: bytes) -> None:
    where = _place(data, random)
    data[where : where + 4] = b"\xff" * len(data[where : where + 4])


def cut(data: bytearray, random: np.random.Generator, other: bytes) -> None:
    del data[int(random.integers(1, len(data))) :]


def removed(data: bytearray, random: np.random.Generator, other: bytes) -> None:
    del data[_stretch(data, random)]


def doubled(data: bytearray, random: np.random.Generator, other: bytes) -> None:
    where = _stretch(data, random)
    data[where.stop : where.stop] = data[where]


def inserted(data: bytearray, random: np.random.Generator, other: bytes) -> None:
    where = _place(data, random)
    data[where:where] = random.bytes(int(random.integers(1, 400)))


def spliced(data: bytearray, random: np.random.Generator, other: bytes) -> None:
    start, begin = int(random.integers(len(data))), int(random.integers(len(other)))
    data[start:] = other[begin:]


MUTATIONS: tuple[Mutation, ...] = (
    flip,
    flip_bit,
    noise,
    zeros,
    ones,
    cut,
    removed,
    doubled,
    inserted,
    spliced,
)


def mutated(seed: int, bases: dict[str, bytes]) -> tuple[str, str, list[str], bytes]:
    """The broken file of ``seed``: its base, its mutation, other bases in it, its bytes. All pairs take turns."""
    names = sorted(bases)
    name = names[seed % len(names)]
    mutation = MUTATIONS[seed // len(names) % len(MUTATIONS)]
    random = np.random.default_rng(seed)
    other = names[int(random.integers(len(names)))]
    data = bytearray(bases[name])
    mutation(data, random, bases[other])
    return name, mutation.__name__, [other] if mutation is spliced else [], bytes(data)
