"""Masks over padded sequences, and reductions over time that respect them.

B batch, T time steps, H hidden width. A mask is ``(B, T)`` bool, True at real steps; real steps come first.
"""

import torch
from torch import Tensor


def check_batch(features: Tensor, mask: Tensor, *, width: int) -> None:
    """Check a batch at the border of a head.

    Raises:
        ValueError: ``features`` is not ``(B, T, width)``, ``mask`` is not ``(B, T)`` bool, a sequence is
            empty, or padding stands before a real step.
    """
    if features.ndim != 3 or features.shape[2] != width:
        raise ValueError(f"features have shape {tuple(features.shape)}; expected (batch, time, {width})")
    if mask.shape != features.shape[:2] or mask.dtype != torch.bool:
        raise ValueError(f"mask is {mask.dtype} {tuple(mask.shape)}; expected torch.bool {tuple(features.shape[:2])}")
    if not bool(mask.any(dim=1).all()):
        raise ValueError("a sequence without a single real step; leave empty videos out of the batch")
    if bool((mask[:, 1:] & ~mask[:, :-1]).any()):
        raise ValueError("a padded step stands before a real one; real steps come first")


def lengths(mask: Tensor) -> Tensor:
    """Real steps of each sequence: ``(B, T)`` bool -> ``(B,)`` int64."""
    return mask.sum(dim=1)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over real steps: ``(B, T, H)``, ``(B, T)`` -> ``(B, H)``."""
    return values.masked_fill(~mask[..., None], 0).sum(dim=1) / lengths(mask)[:, None]


def masked_max(values: Tensor, mask: Tensor) -> Tensor:
    """Maximum over real steps: ``(B, T, H)``, ``(B, T)`` -> ``(B, H)``."""
    return values.masked_fill(~mask[..., None], float("-inf")).amax(dim=1)
