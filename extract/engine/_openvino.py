"""Backbones in OpenVINO, on the CPU. The only module that knows it."""

import hashlib
import importlib.util
import json
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from extract.backbones import Backbone
from extract.backbones.backbone import weights_digest
from extract.cache import code_digest, file_sha256, room_beside
from extract.download import cache_folder
from extract.engine._model import ClipInput, ClipModel

_HINTS = {"fp32": "f32", "bf16": "bf16"}


def available() -> bool:
    """Whether OpenVINO is installed."""
    return importlib.util.find_spec("openvino") is not None


def precisions() -> tuple[str, ...]:
    """In which precisions this CPU computes without emulating them."""
    capable = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ("fp32", "bf16") if "BF16" in capable else ("fp32",)


def compiled(
    backbone: Backbone, given: ClipInput, precision: str, threads: int
) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """A function from one clip, (1, T, H, W, C) uint8, to (1, D) float32.

    Up to ``threads`` threads may call it at once. Each call computes in one thread (a stream of OpenVINO's).
    """
    settings = {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "NUM_STREAMS": threads,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # else every process pins its threads to the first cores, the same ones
    }
    graph = _core().compile_model(_graph(backbone, given), "CPU", settings)
    own = threading.local()

    def compute(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        if not hasattr(own, "request"):
            own.request = graph.create_infer_request()
        rows: NDArray[np.float32] = own.request.infer([pixels], share_inputs=True)[0].copy()
        return rows

    # Alone: OpenVINO's bindings make tables at their first use, and two threads that do so at once wait for each other
    # for ever (one has the table's lock, the other Python's).
    compute(given.blank(1))
    return compute


@cache
def _core() -> Any:  # noqa: ANN401 - has no types
    import openvino

    return openvino.Core()


def _graph(backbone: Backbone, given: ClipInput) -> Any:  # noqa: ANN401
    """The network as an OpenVINO graph; kept in the cache folder, because making it takes many seconds."""
    kept = cache_folder() / f"openvino-{_key(backbone, given)}.xml"
    with suppress(OSError, RuntimeError):  # not there yet, or damaged
        if file_sha256(kept.with_suffix(".bin")) == kept.with_suffix(".sha256").read_text(encoding="utf-8"):
            return _core().read_model(kept)
    graph = _converted(backbone, given)
    _keep(graph, kept)
    return graph


def _key(backbone: Backbone, given: ClipInput) -> str:
    """Of all that the graph depends on: values, structure, clips, code and libraries."""
    network = backbone.network
    what = [weights_digest(network), repr(network), repr(given), code_digest(), version("openvino"), version("torch")]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]


def _converted(backbone: Backbone, given: ClipInput) -> Any:  # noqa: ANN401
    """By OpenVINO's frontend itself: ``openvino.convert_model`` would report its use to its makers."""
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder

    clips = torch.from_numpy(given.blank(1))
    with torch.no_grad(), _unlogged():
        program = torch.export.export(ClipModel(backbone, given).eval(), (clips,), strict=False)
        decoder = TorchFXPythonDecoder.from_exported_program(program)  # read, but not held, by the frontend
    frontend = FrontEndManager().load_by_framework("pytorch")
    return frontend.convert(frontend.load(decoder))


@contextmanager
def _unlogged() -> Iterator[None]:
    """Neither library's remarks on operators that these networks do not have, nor torch's on its own LSTM."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The tensor attributes .* were assigned during export", UserWarning)
            yield
    finally:
        logging.disable(before)


def _keep(graph: Any, kept: Path) -> None:  # noqa: ANN401
    """Save the graph and the digest of its weights. A cache that cannot be written is no error, only slower."""
    import openvino

    with suppress(OSError, RuntimeError), room_beside(kept) as room:
        unfinished = room / kept.name
        openvino.save_model(graph, unfinished, compress_to_fp16=False)
        digest = file_sha256(unfinished.with_suffix(".bin"))
        unfinished.with_suffix(".sha256").write_text(digest, encoding="utf-8")
        for suffix in (".bin", ".xml", ".sha256"):
            unfinished.with_suffix(suffix).replace(kept.with_suffix(suffix))
