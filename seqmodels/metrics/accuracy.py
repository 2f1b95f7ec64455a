"""Accuracies. N samples (videos or steps), C classes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def top_1_accuracy(scores: NDArray[np.floating[Any]], targets: NDArray[np.int64]) -> float | None:
    """Share of samples whose highest score is at the target; the first class wins a tie, None for N = 0.

    ``scores`` ``(N, C)``, ``targets`` ``(N,)`` class numbers.
    """
    if len(targets) == 0:
        return None
    return float((scores.argmax(axis=1) == targets).mean())


def any_label_accuracy(scores: NDArray[np.floating[Any]], positives: NDArray[np.bool_]) -> float | None:
    """Over samples with at least one label: share whose highest score is at one of their labels.

    ``scores`` and ``positives`` are ``(N, C)``; None when no sample has a label. Unlabelled samples
    (background) do not count.
    """
    labelled = positives.any(axis=1)
    if not labelled.any():
        return None
    best = scores[labelled].argmax(axis=1)
    return float(np.take_along_axis(positives[labelled], best[:, None], axis=1).mean())
