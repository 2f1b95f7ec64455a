"""Running clips through a backbone in batches of one fixed shape.

Every batch has the same shape (the last is filled up with zeros), so that a clip's features do not depend, to
the last bit, on which clips it shares a batch with, on its place there, or on the number of threads.
B clips, T frames, H W pixels, D features.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from extract.backbones import Backbone
from extract.engine import _openvino
from extract.engine._model import ClipInput, ClipModel, folded
from extract.engine._settle import Precision

Key = TypeVar("Key")
Compute = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_BATCH_PIXELS = {"cpu": 8 * 16 * 112 * 112, "cuda": 128 * 16 * 112 * 112}
_MOST_CLIPS = {"cpu": 16, "cuda": 64}


def batch_clips(given: ClipInput, device: str) -> int:
    """How many clips are computed together: a function of the clips and the kind of device alone."""
    pixels = given.frames * given.side_px**2
    return max(1, min(_MOST_CLIPS[device], _BATCH_PIXELS[device] // pixels))


class Engine:
    """A backbone ready to compute.

    Args:
        backbone: the network. It is not changed.
        given: its clips.
        engine: "torch", "compile" or "openvino", settled.
        device: "cpu" or "cuda", settled.
        precision: settled.
        threads: of OpenVINO; torch's are those of the process.

    Attributes:
        batch: clips computed together.
    """

    def __init__(
        self,
        backbone: Backbone,
        given: ClipInput,
        *,
        engine: str = "torch",
        device: str = "cpu",
        precision: Precision = "fp32",
        threads: int = 0,
    ) -> None:
        self.batch = batch_clips(given, device)
        self._compute: Compute
        if engine == "openvino":
            self._compute = _openvino.compiled(backbone, given, self.batch, precision, threads)
        else:
            self._compute = _in_torch(backbone, given, engine, device, precision)

    def features(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, T, H, W, 3) uint8 RGB, B at most ``batch`` -> (B, D) float32."""
        full = np.zeros((self.batch, *clips.shape[1:]), np.uint8)
        full[: len(clips)] = clips
        return self._compute(full)[: len(clips)].copy()

    def run(self, clips: Iterable[tuple[Key, NDArray[np.uint8]]]) -> Iterator[list[tuple[Key, NDArray[np.float32]]]]:
        """Features (D,) of each clip (T, H, W, 3), batch by batch, under the clip's own key, in order."""
        remaining = iter(clips)
        while batch := list(islice(remaining, self.batch)):
            rows = self.features(np.stack([clip for _, clip in batch]))
            yield [(key, row) for (key, _), row in zip(batch, rows, strict=True)]


def _in_torch(backbone: Backbone, given: ClipInput, engine: str, device: str, precision: Precision) -> Compute:
    """Channels last, BatchNorm folded, weights and arithmetic in ``precision``."""
    model = folded(ClipModel(backbone, given)).eval()
    layout: dict[str, torch.memory_format] = {"memory_format": torch.channels_last_3d}
    model.to(device).to(**layout)
    run = torch.compile(model, dynamic=False) if engine == "compile" else model

    def compute(clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        pixels = torch.from_numpy(clips).to(device, non_blocking=True)
        with torch.inference_mode(), torch.autocast(device, _DTYPES[precision], enabled=precision != "fp32"):
            rows: torch.Tensor = run(pixels)
        return rows.float().cpu().numpy()

    return compute
