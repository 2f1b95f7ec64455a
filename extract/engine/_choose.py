"""Which engine a job runs in: the fastest that is right, found by trying, once for each machine and network."""

import hashlib
import json
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from extract.backbones import Backbone
from extract.download import cache_folder
from extract.engine import _openvino
from extract.engine._engine import Engine
from extract.engine._model import ClipInput
from extract.engine._settle import Precision
from extract.errors import MachineError, UsageError

ENGINES = ("torch", "compile", "openvino")
MOST_APART = 0.01  # relative, of any clip's features
LEAST_COSINE = 0.9999


def settle_engine(
    engine: str,
    backbone: Backbone,
    given: ClipInput,
    *,
    device: str,
    precision: Precision,
    threads: int,
    on_wait: Callable[[str], None] = lambda _what: None,
) -> str:
    """What "auto" means here: "torch", "compile" or "openvino".

    On a CPU, torch and OpenVINO both compute noise, and the faster one is taken whose features lie within 1 % and a
    cosine of 0.9999 of torch's in fp32. The answer is kept in the cache folder. GPUs compute in torch. ``on_wait`` is
    told before something takes time.

    Raises:
        UsageError: no such engine, or one that does not compute on this device or in this precision.
        MachineError: OpenVINO is not installed.
    """
    if engine == "auto":
        return _auto(backbone, given, device, precision, threads, on_wait)
    if engine not in ENGINES:
        raise UsageError(f"--engine {engine!r}; expected auto, {', '.join(ENGINES)}")
    if engine == "openvino":
        _check_openvino(device, precision)
    return engine


def _check_openvino(device: str, precision: Precision) -> None:
    if device != "cpu":
        raise UsageError("--engine openvino computes on the CPU; use --device cpu, or --engine torch")
    if not _openvino.available():
        raise MachineError("--engine openvino, but OpenVINO is not installed: pip install openvino")
    if precision not in _openvino.precisions():
        raise UsageError(
            f"--engine openvino does not compute {precision} on this processor, only "
            f"{', '.join(_openvino.precisions())}; use --precision fp32, or --engine torch"
        )


def _auto(
    backbone: Backbone,
    given: ClipInput,
    device: str,
    precision: Precision,
    threads: int,
    on_wait: Callable[[str], None],
) -> str:
    if device != "cpu" or not _openvino.available() or precision not in _openvino.precisions():
        return "torch"
    kept = cache_folder() / f"engine-{_key(backbone, given, precision, threads)}.json"
    try:
        return str(json.loads(kept.read_text(encoding="utf-8"))["engine"])
    except (OSError, ValueError, KeyError):  # not tried yet
        on_wait(f"trying the engines for {backbone.name}, once on this machine")
    tried = _tried(backbone, given, precision, threads)
    best = min((name for name, (_, right) in tried.items() if right), key=lambda name: tried[name][0])
    _keep(kept, {"engine": best, "seconds_per_clip": {name: seconds for name, (seconds, _) in tried.items()}})
    return best


def _key(backbone: Backbone, given: ClipInput, precision: str, threads: int) -> str:
    cpu = torch.cpu.get_capabilities().get("cpu_name")
    shape = (given.frames, given.side_px, given.layer)
    what = [cpu, backbone.name, shape, precision, threads, version("torch"), version("openvino")]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]


def _keep(path: Path, answer: dict[str, object]) -> None:
    """A cache that cannot be written is no error: the engines are tried again the next time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(answer), encoding="utf-8")
    except OSError:
        return


def _tried(backbone: Backbone, given: ClipInput, precision: Precision, threads: int) -> dict[str, tuple[float, bool]]:
    """Seconds per clip of each engine, and whether its features are right."""
    exact = Engine(backbone, given)
    shape = (threads, given.frames, given.side_px, given.side_px, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    wanted = exact.features(noise[:1])
    found = {}
    for name in ("torch", "openvino"):
        engine = Engine(backbone, given, engine=name, precision=precision, threads=threads)
        right = is_right(engine.features(noise[:1]), wanted)
        began = time.perf_counter()
        engine.features(noise)
        found[name] = ((time.perf_counter() - began) / threads, right or name == "torch")
    return found


def is_right(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> bool:
    """Whether every clip's features (B, D) are within the tolerance of those wanted."""
    found, wanted = found.astype(np.float64), wanted.astype(np.float64)
    size = np.linalg.norm(wanted, axis=1)
    apart = np.linalg.norm(found - wanted, axis=1) / size
    cosine = (found * wanted).sum(1) / (size * np.linalg.norm(found, axis=1))
    return bool((apart < MOST_APART).all() and (cosine >= LEAST_COSINE).all())
