"""Heads that pool a video over time: the baselines that know nothing of order.

B batch, T time steps, D feature width, C classes, K clusters.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from seqmodels.head import Head
from seqmodels.masks import masked_mean
from seqmodels.standardise import Standardise

Pool = Callable[[Tensor, Tensor], Tensor]


class PooledHead(Head):
    """Standardise, pool over real steps to ``pooled`` numbers, dropout, linear.

    With ``per_step`` each step of a video gets the video's logits: what can be said of a step without
    looking at it.
    """

    def __init__(self, *, width: int, n_classes: int, per_step: bool, pool: Pool, pooled: int, dropout: float) -> None:
        super().__init__()
        self.per_step = per_step
        self.pool = pool
        self.inputs = Standardise(width)
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(pooled, n_classes)

    def stages_of(self, steps: Tensor, mask: Tensor, _times: Tensor, /) -> Tensor:
        """One stage."""
        logits: Tensor = self.out(self.drop(self.pool(steps, mask)))
        return (logits[:, None].expand(-1, steps.shape[1], -1) if self.per_step else logits)[None]


class LinearHead(Head):
    """One linear layer over the mean of a video, or over each step: what scikit-learn's linear models are, too."""

    def __init__(self, *, width: int, n_classes: int, per_step: bool) -> None:
        super().__init__()
        self.per_step = per_step
        self.context = 0 if per_step else None
        self.inputs = Standardise(width)
        self.out = nn.Linear(width, n_classes)

    def stages_of(self, steps: Tensor, mask: Tensor, _times: Tensor, /) -> Tensor:
        """One stage."""
        logits: Tensor = self.out(steps if self.per_step else masked_mean(steps, mask))
        return logits[None]


class AttentionPool(nn.Module):
    """Weighted mean of the real steps, by weights that each step gets from its own features. Padding must be finite.

    ``softmax over t of w . (tanh(V x_t) * sigmoid(U x_t))``: gated attention of multiple instance learning, Ilse,
    Tomczak & Welling, ICML 2018, equation 9.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.signal = nn.Linear(width, hidden)
        self.gate = nn.Linear(width, hidden)
        self.weigh = nn.Linear(hidden, 1, bias=False)

    def forward(self, steps: Tensor, mask: Tensor) -> Tensor:
        """``(B, T, H)``, ``(B, T)`` -> ``(B, H)``."""
        return (self.weights(steps, mask)[..., None] * steps).sum(dim=1)

    def weights(self, steps: Tensor, mask: Tensor) -> Tensor:
        """How much each step counts: ``(B, T, H)``, ``(B, T)`` -> ``(B, T)``, 0 at padding, 1 in all."""
        scores = self.weigh(self.signal(steps).tanh() * self.gate(steps).sigmoid())[..., 0]
        weights: Tensor = scores.masked_fill(~mask, float("-inf")).softmax(dim=1)
        return weights


class NetVLAD(nn.Module):
    """Residuals of the real steps to ``clusters`` centres, by soft assignment: ``(B, T, H)`` -> ``(B, K * H)``.

    Arandjelović et al., "NetVLAD: CNN architecture for weakly supervised place recognition", CVPR 2016, equation 4,
    with normalisation within each cluster and then of the whole. Assignments are trained apart from the centres,
    as there. Sums become means, so that a video's length does not matter before the normalisation either. Padding must
    be finite.
    """

    def __init__(self, width: int, clusters: int) -> None:
        super().__init__()
        self.assign = nn.Linear(width, clusters)
        self.centres = nn.Parameter(torch.randn(clusters, width) / width**0.5)

    def forward(self, steps: Tensor, mask: Tensor) -> Tensor:
        """``(B, T, H)``, ``(B, T)`` -> ``(B, K * H)`` of length 1."""
        shares = self.assign(steps).softmax(dim=-1) * (mask / mask.sum(dim=1, keepdim=True))[..., None]  # (B, T, K)
        residuals = shares.transpose(1, 2) @ steps - shares.sum(dim=1)[..., None] * self.centres
        return functional.normalize(functional.normalize(residuals, dim=2).flatten(1), dim=1)
