"""Answers and segments as steps come, in memory that does not grow with their number.

N new steps, D feature width, C classes.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqmodels.attention import AttentionHead, EncoderLayer
from seqmodels.head import Head
from seqmodels.recurrent import RecurrentHead, State

Answer = Callable[[Tensor, Tensor], Tensor]
"""The next steps ``(N, D)`` at seconds ``(N,)`` -> their logits ``(N, C)``."""


class Segment(NamedTuple):
    """``label`` is the class number."""

    start_s: float
    stop_s: float
    label: int
    score: float


def stepwise(head: Head) -> Answer:
    """Logits of one sequence as its steps come: those of the whole, up to the rounding of other sums.

    Raises:
        ValueError: an answer of this head depends on steps that come later, or on all that came before.
    """
    if isinstance(head, RecurrentHead) and head.per_step and not head.both_ways:
        return _carried(head)
    if head.context is not None and (head.context == 0 or _is_causal(head)):
        return _windowed(head, head.context)
    raise ValueError("this head cannot answer as steps come; expected no look at later steps, and a bounded one back")


def _is_causal(head: Head) -> bool:
    return isinstance(head, AttentionHead) and all(
        isinstance(layer, EncoderLayer) and layer.causal for layer in head.layers
    )


def _carried(head: RecurrentHead) -> Answer:
    state: State | None = None

    @torch.inference_mode()
    def answer(features: Tensor, _times: Tensor) -> Tensor:
        nonlocal state
        logits, state = head.stream(features[None], state)
        return logits[0]

    return answer


def _windowed(head: Head, context: int) -> Answer:
    past: tuple[Tensor, Tensor] | None = None

    @torch.inference_mode()
    def answer(features: Tensor, times: Tensor) -> Tensor:
        nonlocal past
        seen, at = (features, times) if past is None else map(torch.cat, zip(past, (features, times), strict=True))
        kept = max(0, len(seen) - context)
        past = seen[kept:], at[kept:]
        real = torch.ones(1, len(seen), dtype=torch.bool, device=seen.device)
        logits: Tensor = head(seen[None], real, at[None])[0][len(seen) - len(features) :]
        return logits

    return answer


class OpenRuns:
    """Runs of steps of at least ``threshold`` times 255, each given out when it ends: as `seqmodels.runs` has them."""

    def __init__(self, n_classes: int, threshold: float) -> None:
        self._least = threshold * 255
        self._start_s = np.zeros(n_classes)
        self._total, self._steps = np.zeros(n_classes, np.int64), np.zeros(n_classes, np.int64)
        self._last_s: float | None = None
        self._gap_s: float | None = None

    def push(self, centre_s: float, values: NDArray[np.uint8]) -> list[Segment]:
        """The next step, of scores times 255 ``(C,)``, whose middle is at ``centre_s``; the runs that end before it."""
        high, ended = values >= self._least, []
        if self._last_s is not None:
            if self._gap_s is None:  # before the first step there is as much as behind it
                self._start_s[:] = max(0.0, self._last_s - (centre_s - self._last_s) / 2)
            self._gap_s = centre_s - self._last_s
            edge_s = (centre_s + self._last_s) / 2
            ended = list(self._end(~high, edge_s))
            self._start_s[high & (self._steps == 0)] = edge_s
        self._last_s = centre_s
        self._total[high] += values[high]
        self._steps[high] += 1
        return ended

    def close(self, stop_s: float) -> list[Segment]:
        """The runs that are left when the video ends at ``stop_s``."""
        if self._last_s is not None and self._gap_s is not None:
            stop_s = min(stop_s, self._last_s + self._gap_s / 2)
        return list(self._end(np.ones(len(self._steps), np.bool_), stop_s))

    def _end(self, which: NDArray[np.bool_], stop_s: float) -> Iterator[Segment]:
        for label in np.flatnonzero(which & (self._steps > 0)).tolist():
            score = self._total[label] / self._steps[label] / 255
            yield Segment(float(self._start_s[label]), float(stop_s), label, float(score))
            self._total[label] = self._steps[label] = 0
