"""Localization by grouping the scores of single steps: the baseline of the heads that learn segments.

T time steps, C classes.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqmodels.localizer import Localizer, Truth
from seqmodels.losses import step_loss
from seqmodels.ms_tcn import MSTCNHead
from seqmodels.segments import Found, joined, none_found
from seqmodels.standardise import Standardise
from seqmodels.windows import step_logits

LEVELS = np.arange(0.05, 1.0, 0.05)
FILLED = (1.0, 0.7)
"""Shares of a group that must be above water: 1 bridges no gap."""


class WatershedHead(Localizer):
    """Multi-stage temporal convolutions that label steps, and temporal actionness grouping of their probabilities
    (Zhao et al., "Temporal action detection with structured segment networks", ICCV 2017, section 5).
    """

    def __init__(self, *, width: int, n_classes: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.inputs = Standardise(width)
        self.labels = MSTCNHead(width=width, n_classes=n_classes, hidden=hidden, dropout=dropout)  # inputs unfitted
        self.n_classes = n_classes

    def loss_of(self, steps: Tensor, mask: Tensor, truths: Sequence[Truth], /) -> Tensor:
        """Binary cross-entropy of the steps of each stage; a step is in a segment that holds its centre."""
        targets = torch.stack([step_targets(truth, steps.shape[1], self.n_classes) for truth in truths])
        stages = self.labels.stages_of(steps, mask, mask)
        return torch.stack([step_loss(logits, targets, mask) for logits in stages]).sum()

    def find_in(self, steps: Tensor, /) -> Found:
        """Groups of each class; the score is the mean probability of their steps."""
        times = torch.arange(len(steps), device=steps.device)
        probabilities = step_logits(self.labels, steps, times).sigmoid().double().cpu().numpy()
        return joined([_labelled(probabilities[:, label], label) for label in range(self.n_classes)])


def step_targets(truth: Truth, count: int, n_classes: int) -> Tensor:
    """1 where a segment of the class holds the step: start <= t < stop. ``(T, C)`` float32."""
    steps = torch.arange(count, device=truth.segments.device)[:, None]
    inside = (truth.segments[:, 0] <= steps) & (steps < truth.segments[:, 1])  # (T, N)
    targets = torch.zeros(count, n_classes, device=inside.device)
    return targets.index_add(1, truth.labels, inside.float()).clamp(max=1)


def groups(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Segments ``(M, 2)`` in steps, each once: runs of steps above each of `LEVELS`, and runs of runs of which at least
    a share of `FILLED` is above. Step t fills [t - 0.5, t + 0.5].
    """
    found = []
    for level in LEVELS:
        edges = np.flatnonzero(np.diff(probabilities >= level, prepend=False, append=False)).reshape(-1, 2)
        found += [_bridged(edges, filled) for filled in FILLED if len(edges)]
    if not found:
        return np.empty((0, 2))
    return np.unique(np.concatenate(found), axis=0).astype(np.float64) - 0.5


def _bridged(runs: NDArray[np.int64], filled: float) -> NDArray[np.int64]:
    """From each run on, those after it join as long as the share above water is at least ``filled``."""
    if filled == 1:
        return runs
    above = np.concatenate(([0], np.cumsum(runs[:, 1] - runs[:, 0])))
    stops = np.empty(len(runs), np.int64)
    for first in range(len(runs)):
        last = first
        while last + 1 < len(runs):
            share = (above[last + 2] - above[first]) / (runs[last + 1, 1] - runs[first, 0])
            if share < filled:
                break
            last += 1
        stops[first] = runs[last, 1]
    return np.stack((runs[:, 0], stops), axis=1)


def _labelled(probabilities: NDArray[np.float64], label: int) -> Found:
    segments = groups(probabilities)
    if len(segments) == 0:
        return none_found()
    total = np.concatenate(([0.0], np.cumsum(probabilities)))
    first, stop = np.rint(segments + 0.5).astype(np.int64).T
    scores = (total[stop] - total[first]) / (stop - first)
    return Found(segments, scores, np.full(len(segments), label, np.int64))
