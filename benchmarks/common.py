"""What the benchmarks share: measuring in turn, the machine's description, the results' form, made footage."""

import json
import os
import platform
import resource
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from extract.errors import UntrimmedError
from extract.video import decoding, open_video

DECODERS = ("pyav", "decord", "torchcodec")


def cpu_s() -> float:
    """Processor seconds of this process and of its ended children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def measured(work: Callable[[], int]) -> tuple[int, float, float]:
    """What ``work`` counted, its wall seconds and its processor seconds."""
    wall, cpu = time.perf_counter(), cpu_s()
    count = work()
    return count, time.perf_counter() - wall, cpu_s() - cpu


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import torch  # not above: memory.py looks at processes without it

    return {
        "cpu": torch.cpu.get_capabilities().get("cpu_name"),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "torch": version("torch"),
        "av": version("av"),
        "decoders": decoding()["decoders"],
        "date": time.strftime("%Y-%m-%d"),
    }


def save(name: str, what: str, result: object) -> None:
    """Write ``results/NAME.json``."""
    out = Path(__file__).parent / f"results/{name}.json"
    text = json.dumps({"what": what, "machine": machine(), "result": result}, indent=2)
    out.write_text(text + "\n", encoding="utf-8")


def decoders_for(file: Path) -> tuple[str, ...]:
    """The decoders that open ``file``; what cannot be used is named."""
    usable = []
    for decoder in DECODERS:
        try:
            with open_video(file, decoder=decoder) as reader:
                next(iter(reader))
            usable.append(decoder)
        except UntrimmedError as error:
            print(f"without {decoder}: {error}")
    return tuple(usable)


def table(header: list[str], rows: list[list[str]]) -> str:
    """A markdown table, aligned where cells are short."""
    widths = [min(60, max(len(row[k]) for row in [header, *rows])) for k in range(len(header))]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in [header, *rows]]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def fill_table(page: Path, name: str, header: list[str], rows: list[list[str]]) -> None:
    """Put the table between ``<!-- table NAME -->`` and ``<!-- end NAME -->`` of ``page``."""
    begin, end = f"<!-- table {name} -->\n", f"<!-- end {name} -->"
    text = page.read_text("utf-8")
    before, after = text[: text.index(begin) + len(begin)], text[text.index(end) :]
    page.write_text(f"{before}\n{table(header, rows)}\n\n{after}", "utf-8")


def encode(
    path: Path,
    pictures: Iterator[NDArray[np.uint8]],
    *,
    size: tuple[int, int],
    rate: Fraction,
    codec: str = "libx264",
    bit_rate: int | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Encode yuv420p ``pictures``, (3 H / 2, W) uint8, of ``size`` = (W, H) at a constant rate, all cores."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        if bit_rate is not None:
            stream.bit_rate = bit_rate
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def footage(size: tuple[int, int], frames: int, *, seed: int = 0) -> Iterator[NDArray[np.uint8]]:
    """A textured scene with a wandering camera, moving objects and sensor noise; yuv420p, (3 H / 2, W) uint8."""
    rng = np.random.default_rng(seed)
    width, height = size
    scene = _texture(rng, 2 * height, 2 * width)
    things = [_texture(rng, height // 4, width // 6) for _ in range(5)]
    routes = rng.uniform(0.3, 1.0, (len(things) + 1, 4))
    noise = [rng.normal(0, 1.5, (height, width)).astype(np.int16) for _ in range(8)]
    for number in range(frames):
        y, x = _place(routes[-1], number / 4, height, width)
        luma = scene[y : y + height, x : x + width].copy()
        for thing, route in zip(things, routes, strict=False):
            h, w = thing.shape
            y, x = _place(route, number, height - h, width - w)
            luma[y : y + h, x : x + w] = thing
        luma += noise[rng.integers(len(noise))]
        blue = luma[::2, ::2] // 2 + 64
        planes = np.concatenate([plane.reshape(-1, width) for plane in (luma, blue, 256 - blue)])
        yield np.clip(planes, 16, 235).astype(np.uint8)


def _texture(rng: np.random.Generator, height: int, width: int) -> NDArray[np.int16]:
    """Soft random shapes of many sizes, around middle grey."""
    total = np.full((height, width), 126.0)
    for cell, strength in ((4, 8), (16, 14), (64, 24), (256, 30)):
        coarse = rng.normal(0, strength, (height // cell + 2, width // cell + 2))
        total += _spread(height, cell) @ coarse @ _spread(width, cell).T
    return total.astype(np.int16)


def _spread(length: int, cell: int) -> NDArray[np.float64]:
    """(length, length // cell + 2): the weights that interpolate from every ``cell``-th pixel to all."""
    distance = np.arange(length)[:, None] / cell - np.arange(length // cell + 2)
    return np.maximum(0, 1 - np.abs(distance))


def _place(route: NDArray[np.float64], number: float, height: int, width: int) -> tuple[int, int]:
    """Where something on its ``route`` is in picture ``number``, within [0, height] and [0, width]."""
    angle = route[:2] * number / 15 + 6 * route[2:]
    y, x = (np.sin(angle) + 1) / 2 * (height, width)
    return int(y), int(x)
