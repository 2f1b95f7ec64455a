"""Heads that pool a video over time: the baselines that know nothing of order.

B batch, T time steps, D feature width, C classes.
"""

from collections.abc import Callable

from torch import Tensor, nn

from seqmodels.masks import check_batch
from seqmodels.standardise import Standardise

Pool = Callable[[Tensor, Tensor], Tensor]


class PooledHead(nn.Module):
    """Standardise, pool over real steps, dropout, linear.

    With ``per_step`` each step of a video gets the video's logits: what can be said of a step without
    looking at it.
    """

    def __init__(self, *, width: int, n_classes: int, per_step: bool, pool: Pool, dropout: float) -> None:
        super().__init__()
        self.width = width
        self.per_step = per_step
        self.pool = pool
        self.inputs = Standardise(width)
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(width, n_classes)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """``(B, T, D)``, ``(B, T)`` -> logits ``(B, C)``, or ``(B, T, C)`` of a head built ``per_step``.

        Raises:
            ValueError: shapes that do not fit, or an empty sequence.
        """
        check_batch(features, mask, width=self.width)
        logits: Tensor = self.out(self.drop(self.pool(self.inputs(features), mask)))
        if not self.per_step:
            return logits
        return logits[:, None].expand(-1, features.shape[1], -1)
