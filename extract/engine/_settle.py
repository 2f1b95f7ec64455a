"""What "auto" means for device and precision on this machine."""

from typing import Literal, cast

import torch

from extract.errors import MachineError, UsageError

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["fp32", "bf16", "fp16"]
PRECISIONS = ("fp32", "bf16", "fp16")


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
    if precision not in PRECISIONS:
        raise UsageError(f"--precision {precision!r}; expected auto, fp32, bf16 or fp16")
    return cast(Precision, precision)


def has_amx() -> bool:
    """Whether this CPU multiplies bfloat16 matrices in hardware (Intel AMX)."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))
