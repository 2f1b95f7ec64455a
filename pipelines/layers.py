"""A backbone layer by layer: what each puts out, sees and costs."""

import re
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from extract.backbones import Backbone, backbone_spec
from extract.backbones.network import empty
from extract.errors import UsageError

_CLIP = re.compile("x".join(["([1-9][0-9]{0,5})"] * 3))


def layers_info(name: str, clip: str | None = None) -> dict[str, Any]:
    """Every layer of backbone ``name`` on a ``clip`` of T x H x W, by default its own; no weights are needed.

    Raises:
        UsageError: no such backbone, or a clip that is written otherwise or that it cannot take.
    """
    spec = backbone_spec(name)
    backbone = Backbone(name, spec, empty(spec.build))
    own = spec.clips
    frames, height, width = (own.clip_frames, own.crop_px, own.crop_px) if clip is None else _size(clip)
    layers = backbone.layer_table(frames, height, width)
    return {
        "name": name,
        "clip": [spec.channels, frames, height, width],
        "layers": [asdict(layer) for layer in layers],
        "parameters": backbone.parameters,
        "parameters_of_layers": sum(layer.parameters for layer in layers),
        "multiply_adds": sum(layer.multiply_adds for layer in layers),
    }


def _size(clip: str) -> tuple[int, int, int]:
    found = _CLIP.fullmatch(clip)
    if found is None:
        raise UsageError(f"--clip {clip}: expected frames x height x width, such as 16x112x112")
    return int(found[1]), int(found[2]), int(found[3])


def layers_lines(found: dict[str, Any]) -> Iterator[str]:
    """A table of all layers, and their sums."""
    yield f"{found['name']}, clips of {_times(found['clip'])} (C×T×H×W)"
    yield ""
    title = ("layer", "kind", "output C×T×H×W", "sees T×H×W", "parameters", "MMAC")
    rows = [title, *(_row(layer) for layer in found["layers"])]
    rows.append(("in all", "", "", "", _count(found["parameters_of_layers"]), _millions(found["multiply_adds"])))
    widths = [max(len(row[column]) for row in rows) for column in range(len(title))]
    for row in rows:
        left = "  ".join(f"{text:{width}}" for text, width in zip(row[:4], widths[:4], strict=True))
        right = "  ".join(f"{text:>{width}}" for text, width in zip(row[4:], widths[4:], strict=True))
        yield f"{left}  {right}".rstrip()
    yield ""
    yield "sees: the frames and pixels behind one position. MMAC: 1e6 multiply-adds. Norms count in the line before."
    unused = found["parameters"] - found["parameters_of_layers"]
    if unused:
        yield f"{_count(unused)} further parameters take no part: they read boxes, or serve training alone."


def _row(layer: dict[str, Any]) -> tuple[str, ...]:
    return (
        layer["name"],
        _kind(layer),
        _times(layer["output"]),
        _times(layer["sees"]),
        _count(layer["parameters"]) if layer["parameters"] else "",
        _millions(layer["multiply_adds"]) if layer["multiply_adds"] else "",
    )


def _kind(layer: dict[str, Any]) -> str:
    """Such as ``convolution 3×3×3 /2``."""
    calls = f"{layer['calls']} times " if layer["calls"] > 1 else ""
    kernel = f" {_times(layer['kernel'])}" if layer["kernel"] else ""
    stride = layer["stride"]
    step = "" if all(s == 1 for s in stride) else f" /{stride[0] if len(set(stride)) == 1 else _times(stride)}"
    groups = f", {layer['groups']} groups" if layer["groups"] > 1 else ""
    return f"{calls}{layer['kind']}{kernel}{step}{groups}"


def _times(sizes: list[int]) -> str:
    return "×".join(str(size) for size in sizes)


def _count(number: int) -> str:
    return f"{number:,}"


def _millions(number: int) -> str:
    return f"{number / 1e6:,.2f}"
