"""Losses on logits. B batch, T time steps, C classes."""

from torch import Tensor
from torch.nn import functional


def video_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of one class a video: ``(B, C)``, ``(B,)`` int64 -> scalar, in nats."""
    return functional.cross_entropy(logits, targets)


def step_loss(logits: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy, mean over real steps and classes, in nats.

    ``logits`` and ``targets`` (0 or 1) are ``(B, T, C)``, ``mask`` is ``(B, T)``. Independent classes: several
    actions may happen in one step, as in Charades and MultiTHUMOS.
    """
    return functional.binary_cross_entropy_with_logits(logits[mask], targets[mask])
