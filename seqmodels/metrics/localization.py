"""Average precision of temporal action localization. V videos, M predictions, N true segments, K thresholds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seqmodels.segments import Found, temporal_iou

THUMOS_THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)


@dataclass(frozen=True, slots=True)
class LocalizationResult:
    """``average_map`` over thresholds; ``map`` ``(K,)`` at each; ``ap`` ``(C, K)`` of each class, NaN for a class
    without a true segment, which is in no mean. None where no class has one.
    """

    average_map: float | None
    map: NDArray[np.float64] | None
    ap: NDArray[np.float64]


def localization_map(
    predicted: Sequence[Found],
    true: Sequence[tuple[NDArray[np.float64], NDArray[np.int64]]],
    *,
    n_classes: int,
    thresholds: Sequence[float] = THUMOS_THRESHOLDS,
) -> LocalizationResult:
    """Mean average precision as ActivityNet's evaluation code computes it (Heilbron et al. 2015, `eval_detection.py`).

    For each class the predictions of all videos go by falling score; each takes the true segment of its video that it
    overlaps most among those not yet taken, if their tIoU is at least the threshold. A prediction that has none is
    false. Average precision is the area under the interpolated precision-recall curve (PASCAL VOC 2010). Of equal
    scores, that of the earlier video, and of the earlier place in it, goes first (the original's order of ties is
    undefined). As there, NaN overlaps of two segments of no length pass every threshold.

    Args:
        predicted: of each video.
        true: of each video, segments ``(N, 2)`` and class numbers ``(N,)``.
        n_classes: C.
        thresholds: of tIoU.
    """
    ap = np.full((n_classes, len(thresholds)), np.nan)
    for label in range(n_classes):
        truths = [segments[labels == label] for segments, labels in true]
        if any(map(len, truths)):
            ap[label] = _class_ap([found.take(np.flatnonzero(found.labels == label)) for found in predicted], truths,
                                  np.asarray(thresholds))  # fmt: skip
    defined = ~np.isnan(ap[:, 0])
    if not defined.any():
        return LocalizationResult(None, None, ap)
    means = ap[defined].mean(axis=0)
    return LocalizationResult(float(means.mean()), means, ap)


def _class_ap(
    predicted: Sequence[Found], truths: Sequence[NDArray[np.float64]], thresholds: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Of one class, at each threshold: ``(K,)``."""
    scores = np.concatenate([found.scores for found in predicted])
    if len(scores) == 0:
        return np.zeros(len(thresholds))
    hits = np.concatenate([_hits(found, truth, thresholds) for found, truth in zip(predicted, truths, strict=True)])
    ranked = hits[np.argsort(-scores, kind="stable")]
    true_positives = ranked.cumsum(axis=0)  # (M, K)
    precision = true_positives / np.arange(1, len(ranked) + 1)[:, None]
    recall = true_positives / sum(map(len, truths))
    return np.array([_area(precision[:, k], recall[:, k]) for k in range(len(thresholds))])


def _hits(found: Found, truth: NDArray[np.float64], thresholds: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which predictions of one class and video are right, at each threshold: ``(M, K)``. Videos do not touch."""
    hits = np.zeros((len(found.scores), len(thresholds)), np.bool_)
    if len(truth) == 0:
        return hits
    overlaps = temporal_iou(found.segments, truth)
    free = np.ones((len(truth), len(thresholds)), np.bool_)
    for row in np.argsort(-found.scores, kind="stable"):
        for at in np.argsort(overlaps[row], kind="stable")[::-1]:  # the most overlapping first
            takes = free[at] & ~hits[row] & ~(overlaps[row, at] < thresholds)
            hits[row] |= takes
            free[at] &= ~takes
    return hits


def _area(precision: NDArray[np.float64], recall: NDArray[np.float64]) -> float:
    """Under the curve whose precision is, at each recall, the best at that recall or above."""
    best = np.maximum.accumulate(np.append(precision, 0)[::-1])[::-1]
    gained = np.diff(recall, prepend=0.0)
    return float(gained @ best[:-1])
