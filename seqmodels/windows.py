"""Labels of long sequences, window by window.

T time steps, D feature width, C classes.
"""

import torch
from torch import Tensor

from seqmodels.head import Head
from seqmodels.recurrent import RecurrentHead
from seqmodels.stepwise import stepwise

WINDOW = 4096
"""Steps that get their logits at once."""


@torch.inference_mode()
def step_logits(head: Head, features: Tensor, times: Tensor, *, window: int = WINDOW) -> Tensor:
    """Logits of all steps of one sequence: ``(T, D)``, seconds ``(T,)`` -> ``(T, C)``.

    A head whose steps look at most ``head.context`` steps far gets windows with that much around them: the logits
    are those of the whole sequence, up to the rounding of other sums, and the memory is that of one window. A head
    that answers as steps come carries its state from window to window. Any other gets the whole sequence.
    """
    if isinstance(head, RecurrentHead) and not head.both_ways:
        answer = stepwise(head)
        firsts = range(0, len(features), window)
        return torch.cat([answer(features[at : at + window], times[at : at + window]) for at in firsts])
    if head.context is None:
        return _logits(head, features, times)
    parts = []
    for first in range(0, len(features), window):
        begin = max(0, first - head.context)
        seen = slice(begin, first + window + head.context)
        parts.append(_logits(head, features[seen], times[seen])[first - begin :][:window])
    return torch.cat(parts)


def _logits(head: Head, features: Tensor, times: Tensor) -> Tensor:
    logits: Tensor = head(
        features[None], torch.ones(1, len(features), dtype=torch.bool, device=features.device), times[None]
    )[0]
    return logits
