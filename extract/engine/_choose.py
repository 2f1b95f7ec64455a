"""Which engine a job runs in: the fastest that is right, found by trying, once for each machine and network."""

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from extract.backbones import Backbone
from extract.cache import code_digest, room_beside
from extract.download import cache_folder
from extract.engine import _openvino
from extract.engine._engine import Engine
from extract.engine._model import ClipInput, ClipModel
from extract.engine._settle import Precision
from extract.errors import MachineError, UsageError

ENGINES = ("torch", "compile", "openvino")
MOST_APART = 0.01  # relative, of any clip's features
LEAST_COSINE = 0.9999
ROUNDED_TOO_FAR = frozenset(("mvit_v2_s",))  # by OpenVINO in bf16: 1.00 % on noise (benchmarks/results)


def settle_engine(
    engine: str,
    backbone: Backbone,
    given: ClipInput,
    *,
    device: str,
    precision: Precision,
    on_wait: Callable[[str], None] = lambda _what: None,
) -> str:
    """What "auto" means here: "torch", "compile" or "openvino".

    On a CPU, torch and OpenVINO both compute noise, and the faster one is taken whose features lie within 1 % and a
    cosine of 0.9999 of torch's in fp32. They are tried in one thread, so that the answer, which is kept in the cache
    folder, is the same for any number of workers. GPUs compute in torch, and so do all machines what boxes are read
    from. ``on_wait`` is told before something takes time.

    Raises:
        UsageError: no such engine, or one that does not compute on this device or in this precision, or not well.
        MachineError: OpenVINO is not installed.
    """
    check_engine(engine, device, precision)
    if given.maps:
        if engine not in ("auto", "torch"):
            raise UsageError(f"--engine {engine} computes no features of boxes yet; use --engine torch")
        return "torch"
    if engine == "compile" and given.layer is not None:
        raise UsageError(f"--engine compile computes no layers ({given.layer}); use --engine torch or openvino")
    if engine == "openvino" and precision == "bf16" and backbone.name in ROUNDED_TOO_FAR:
        raise UsageError(
            f"--engine openvino in bf16 rounds the features of {backbone.name} by more than {MOST_APART:.0%}; use"
            " --engine torch, or --precision fp32"
        )
    return _auto(backbone, given, device, precision, on_wait) if engine == "auto" else engine


def check_engine(engine: str, device: str, precision: Precision) -> None:
    """Whether ``engine`` can be used on this device and in this precision; errors as `settle_engine`."""
    if engine not in ("auto", *ENGINES):
        raise UsageError(f"--engine {engine!r}; expected auto, {', '.join(ENGINES)}")
    if engine != "openvino":
        return
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
    on_wait: Callable[[str], None],
) -> str:
    if device != "cpu" or not _openvino.available() or precision not in _openvino.precisions():
        return "torch"
    kept = cache_folder() / f"engine-{_key(backbone, given, precision)}.json"
    try:
        return str(json.loads(kept.read_text(encoding="utf-8"))["engine"])
    except (OSError, ValueError, KeyError):  # not tried yet
        on_wait(f"trying the engines for {backbone.name}, once on this machine")
    tried = _tried(backbone, given, precision)
    best = min(tried, key=lambda name: tried[name])
    _keep(kept, {"engine": best, "seconds_per_clip": tried})
    return best


def _key(backbone: Backbone, given: ClipInput, precision: str) -> str:
    cpu = torch.cpu.get_capabilities().get("cpu_name")
    what = [cpu, backbone.name, backbone.weights_sha256, repr(given), precision]
    what += [code_digest(), version("torch"), version("openvino")]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]


def _keep(path: Path, answer: dict[str, object]) -> None:
    """A cache that cannot be written is no error: the engines are tried again the next time."""
    with suppress(OSError), room_beside(path) as room:
        (room / path.name).write_text(json.dumps(answer), encoding="utf-8")
        (room / path.name).replace(path)


def _tried(backbone: Backbone, given: ClipInput, precision: Precision) -> dict[str, float]:
    """Seconds per clip of each engine whose features are right; of torch in any case."""
    noise = np.random.default_rng(0).integers(0, 256, given.blank(2).shape, np.uint8)
    with torch.inference_mode():
        wanted = ClipModel(backbone, given).eval()(torch.from_numpy(noise[:1])).numpy()
    found = {"torch": _seconds(Engine(backbone, given, precision=precision), noise)}
    with suppress(RuntimeError):  # OpenVINO does not take every operator; torch does
        engine = Engine(backbone, given, engine="openvino", precision=precision)
        if is_right(engine.features(noise[:1]), wanted):
            found["openvino"] = _seconds(engine, noise)
    return found


def _seconds(engine: Engine, clips: NDArray[np.uint8]) -> float:
    """The best of two, behind a first pass that starts the threads."""
    engine.features(clips)
    times = []
    for _ in range(2):
        began = time.perf_counter()
        engine.features(clips)
        times.append(time.perf_counter() - began)
    return min(times) / len(clips)


def is_right(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> bool:
    """Whether every clip's features (B, D) are within the tolerance of those wanted."""
    found, wanted = found.astype(np.float64), wanted.astype(np.float64)
    size = np.linalg.norm(wanted, axis=1)
    apart = np.linalg.norm(found - wanted, axis=1) / size
    cosine = (found * wanted).sum(1) / (size * np.linalg.norm(found, axis=1))
    return bool((apart < MOST_APART).all() and (cosine >= LEAST_COSINE).all())
