"""The engine: runs a backbone over uint8 clips in batches of one fixed shape.

Every batch has the same shape (the last is filled up with zeros), so that a clip's features do not depend, to
the last bit, on which clips it shares a batch with, on its place there, or on the number of threads.
B clips, T frames, H W pixels, D features.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray

from extract.backbones import Backbone
from extract.errors import MachineError, UsageError

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["fp32", "bf16", "fp16"]
BATCH = 16
Key = TypeVar("Key")
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def settle_device(device: str) -> str:
    """Turn what was asked into "cpu" or "cuda"; "auto" takes the GPU when there is one.

    Raises:
        UsageError: no such choice.
        MachineError: "cuda" on a machine where torch sees no GPU.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device {device!r}; expected auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise MachineError("--device cuda, but torch sees no GPU; use --device cpu, or see `untrimmed doctor`")
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"


def settle_precision(precision: str, device: str) -> Precision:
    """What "auto" means here: bf16 where the hardware multiplies it (GPU, or CPU with AMX), otherwise fp32."""
    if precision == "auto":
        return "bf16" if device == "cuda" or has_amx() else "fp32"
    if precision == "fp16" and device == "cpu":
        raise UsageError("--precision fp16 is for GPUs; on a CPU use bf16 or fp32")
    if precision not in _DTYPES:
        raise UsageError(f"--precision {precision!r}; expected auto, fp32, bf16 or fp16")
    return cast(Precision, precision)


def has_amx() -> bool:
    """Whether this CPU multiplies bfloat16 matrices in hardware (Intel AMX)."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))


@dataclass(frozen=True)
class Engine:
    """Torch, eager. ``device`` and ``precision`` are settled; ``mean`` and ``std`` are of pixels in 0..1."""

    backbone: Backbone
    device: str
    precision: Precision
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        layout: dict[str, torch.memory_format] = {"memory_format": torch.channels_last_3d}
        self.backbone.network.to(self.device).to(**layout)

    def features(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, T, H, W, 3) uint8 RGB, B at most BATCH -> (B, D) float32."""
        full = np.zeros((BATCH, *clips.shape[1:]), np.uint8)
        full[: len(clips)] = clips
        x = torch.from_numpy(full).to(self.device).permute(0, 4, 1, 2, 3).float()
        std = torch.tensor(self.std, device=self.device).view(1, 3, 1, 1, 1)
        mean = torch.tensor(self.mean, device=self.device).view(1, 3, 1, 1, 1)
        x = torch.addcmul(-mean / std, x, 1 / (255 * std)).contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast(self.device, _DTYPES[self.precision], enabled=self.precision != "fp32"):
            features = self.backbone.features(x)
        return features[: len(clips)].float().cpu().numpy()

    def run(self, clips: Iterable[tuple[Key, NDArray[np.uint8]]]) -> Iterator[list[tuple[Key, NDArray[np.float32]]]]:
        """Features (D,) of each clip (T, H, W, 3), batch by batch, under the clip's own key, in order."""
        remaining = iter(clips)
        while batch := list(islice(remaining, BATCH)):
            rows = self.features(np.stack([clip for _, clip in batch]))
            yield [(key, row) for (key, _), row in zip(batch, rows, strict=True)]
