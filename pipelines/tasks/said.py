"""What heads say of a video that nobody has annotated. T steps, C classes, N rows."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqmodels.runs import run_scores, runs_of, step_edges
from seqmodels.segments import Found


class SaidBoxes(NamedTuple):
    """``second`` ``(N,)``, ``box`` ``(N, 4)``, ``labels`` ``(N,)`` class numbers, ``scores`` ``(N,)``, ``track``
    ``(N,)``.
    """

    second: NDArray[np.float64]
    box: NDArray[np.float32]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    track: NDArray[np.int64]


class Said(NamedTuple):
    """Segments in seconds; the scores that they were cut from, ``(C, T)`` uint8; boxes. What a task does not have is
    None.
    """

    segments: Found | None = None
    curves: NDArray[np.uint8] | None = None
    boxes: SaidBoxes | None = None


def quantised(logits: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Probabilities of independent classes, times 255, rounded: logits ``(T, C)`` -> ``(C, T)``."""
    probability = 0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64)))  # the logistic function, which cannot overflow
    return np.ascontiguousarray(np.rint(255 * probability).astype(np.uint8).T)


def cut(curves: NDArray[np.uint8], centre_s: NDArray[np.float64], stop_s: float, threshold: float) -> Found:
    """Runs of steps at or above ``threshold`` as segments, by class and time; ``stop_s``: the end of the video."""
    edges = step_edges(centre_s, stop_s)
    parts = []
    for label, values in enumerate(curves):
        runs = runs_of(values, threshold)
        parts.append(Found(edges[runs], run_scores(values, runs), np.full(len(runs), label, np.int64)))
    return Found(
        np.concatenate([part.segments.reshape(-1, 2) for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.labels for part in parts]),
    )


def best_threshold(curves: Sequence[NDArray[np.uint8]], targets: Sequence[NDArray[np.bool_]]) -> float:
    """The threshold with the greatest F1 over the steps and classes of all videos, ``(C, T)`` and ``(T, C)`` each; 0.5
    where no step has a class. Of equal ones the highest.
    """
    counts = np.zeros((2, 256))
    for values, target in zip(curves, targets, strict=True):
        for positive in (0, 1):
            counts[positive] += np.bincount(values[positive == target.T], minlength=256)
    false, true = counts[:, ::-1].cumsum(axis=1)[:, ::-1]  # at least this value
    if not true[0]:
        return 0.5
    f1 = 2 * true / (true + false + true[0]).clip(1)
    return int(255 - f1[::-1].argmax()) / 255
