"""Losses on logits. B batch, T time steps, C classes."""

import torch
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


STEADY = 4.0
"""Change of a log-probability from step to step from which on the loss grows no more (Farha & Gall 2019)."""


def smoothness(logits: Tensor, mask: Tensor) -> Tensor:
    """Truncated mean squared change of the log-probabilities of neighbouring real steps: ``(B, T, C)``, ``(B, T)`` ->
    scalar.

    Equations 10 to 12 of Farha & Gall, CVPR 2019 ("MS-TCN"), with sigmoids in place of the softmax; the earlier step
    of a pair is given. 0 where no two steps are neighbours.
    """
    both = mask[:, 1:] & mask[:, :-1]
    if not bool(both.any()):
        return logits.sum() * 0
    logs = functional.logsigmoid(logits)
    change = (logs[:, 1:] - logs[:, :-1].detach())[both].abs()
    return torch.square(change.clamp(max=STEADY)).mean()
