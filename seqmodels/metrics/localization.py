"""Average precision of temporal action localization.

V videos, M predictions, N true segments, C labels, K thresholds, P pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqmodels.metrics.matching import cells, pairs_within, places, take_in_turn
from seqmodels.metrics.ranking import Form, Ranking, mean_ap
from seqmodels.segments import Found

ACTIVITYNET_THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())
THUMOS_THRESHOLDS = tuple(np.linspace(0.3, 0.7, 5).tolist())
"""As published code has them; its second is 0.39999999999999997, and takes a tIoU of 0.4 - 1e-16."""


@dataclass(frozen=True, slots=True, eq=False)
class Spans:
    """Segments of several videos, in the order of their file: ``video`` ``(N,)`` int64, ``label`` ``(N,)`` int64,
    ``span`` ``(N, 2)`` float64 and, for predictions, ``score`` ``(N,)``, higher is more certain.
    """

    video: NDArray[np.int64]
    label: NDArray[np.int64]
    span: NDArray[np.float64]
    score: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.video)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> "Spans":
        """Some of the rows, by mask or by number."""
        return Spans(self.video[rows], self.label[rows], self.span[rows], self.score[rows])


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
    """Mean average precision as ActivityNet's evaluation code computes it; see `activitynet_ranking`.

    Args:
        predicted: of each video.
        true: of each video, segments ``(N, 2)`` and class numbers ``(N,)``.
        n_classes: C.
        thresholds: of tIoU.
    """
    found = _spans([(each.segments, each.labels, each.scores) for each in predicted])
    truth = _spans([(segments, labels, np.zeros(len(labels))) for segments, labels in true])
    ap = activitynet_ranking(truth, found, n_classes, thresholds).ap()
    if np.isnan(ap).all():
        return LocalizationResult(None, None, ap)
    means = mean_ap(ap)
    return LocalizationResult(float(means.mean()), means, ap)


class Pairs(NamedTuple):
    """Predictions and the truth of their video and label that they overlap: rows ``left`` and ``right`` ``(P,)``, and
    ``overlap`` ``(P,)``, tIoU. By prediction; of each the one that it wants most first.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    overlap: NDArray[np.float64]


def activitynet_ranking(truth: Spans, found: Spans, n_labels: int, thresholds: Sequence[float]) -> Ranking:
    """Which predictions are right, as ActivityNet decides it (Heilbron et al. 2015, `Evaluation/eval_detection.py`).

    For each label the predictions of all videos go by falling score; each takes the true segment of its video that it
    overlaps most among those not yet taken (the last of equals), if their tIoU is at least the threshold. A prediction
    that has none is false. Average precision is the area under the precision envelope (Pascal VOC 2010). As there, an
    undefined overlap, of two segments of no length at one place, passes every threshold; duplicated truth counts twice.

    Args:
        truth: true segments.
        found: predictions; of equal scores the earlier row goes first.
        n_labels: C.
        thresholds: of tIoU.
    """
    taken = activitynet_taken(wanted_pairs(truth, found), found.score, len(truth), thresholds)
    return ranking_of(truth, found, taken >= 0, n_labels)


def wanted_pairs(truth: Spans, found: Spans) -> Pairs:
    """The pairs of each prediction: undefined overlaps first, then by falling overlap, the later truth first."""
    left, right, overlap = overlapping(found, truth)
    wanted = np.lexsort((right, overlap, -left))[::-1]
    return Pairs(left[wanted], right[wanted], overlap[wanted])


def activitynet_taken(
    pairs: Pairs,
    score: NDArray[np.float64],
    n_truth: int,
    thresholds: Sequence[float],
    *,
    tiebreak: NDArray[np.float64] | None = None,
) -> NDArray[np.int64]:
    """The true segment that each prediction takes at each threshold ``(M, K)``, -1 for none; see `activitynet_ranking`.

    ``tiebreak`` ``(M,)``: of equal scores, the lower goes first.
    """
    order = np.argsort(-score, kind="stable") if tiebreak is None else np.lexsort((tiebreak, -score))
    turn = places(order)
    taken = np.full((len(score), len(thresholds)), -1)
    for k, threshold in enumerate(thresholds):
        enough = ~(pairs.overlap < threshold)
        taken[:, k] = take_in_turn(pairs.left[enough], pairs.right[enough], turn, n_truth)
    return taken


def thumos_kit_ranking(
    truth: Spans, found: Spans, n_labels: int, thresholds: Sequence[float], *, ambiguous: Spans, form: Form
) -> list[Ranking]:
    """Which predictions are right, as the MATLAB kit of THUMOS14 decides it (TH14evalkit, `TH14eventdetpr.m`).

    In each video and label every true segment, in the order of the file, takes the free prediction of the highest
    overlap, whatever its score, if the overlap is above the threshold (not equal to it). Predictions that nobody takes
    and that touch an ambiguous interval of the video are left out. Two forms of the average precision are in use:
    ``11-point`` and ``hits``.

    Returns:
        A ranking for each threshold, as each leaves out other predictions.
    """
    left, right, overlap = overlapping(truth, found)
    wanted = np.lexsort((right, -overlap, left))
    left, right, overlap = left[wanted], right[wanted], overlap[wanted]
    touches = np.zeros(len(found), np.bool_)
    touches[overlapping(found, ambiguous, labels=False)[0]] = True
    rankings = []
    for threshold in thresholds:
        enough = overlap > threshold
        taken = take_in_turn(left[enough], right[enough], np.arange(len(truth)), len(found))
        hit = np.zeros(len(found), np.bool_)
        hit[taken[taken >= 0]] = True
        kept = hit | ~touches
        rankings.append(ranking_of(truth, found.take(kept), hit[kept][:, None], n_labels, form))
    return rankings


def overlapping(
    one: Spans, other: Spans, *, labels: bool = True
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Pairs of rows of one video, and of one label unless ``labels`` is false, and their tIoU, where it is not 0:
    ``(P,)``, ``(P,)``, ``(P,)``, by rows of ``one``.
    """
    keys = [(one.video, other.video), (one.label, other.label)]
    left, right = pairs_within(*cells(*keys[: 1 + labels]))
    overlap = paired_iou(one.span[left], other.span[right])
    some = overlap != 0
    return left[some], right[some], overlap[some]


def paired_iou(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Overlap over union of pairs of segments: ``(P, 2)``, ``(P, 2)`` -> ``(P,)``; NaN for 0 / 0."""
    shared = (np.minimum(one[:, 1], other[:, 1]) - np.maximum(one[:, 0], other[:, 0])).clip(0)
    union = (one[:, 1] - one[:, 0]) + (other[:, 1] - other[:, 0]) - shared
    with np.errstate(invalid="ignore", divide="ignore"):
        result: NDArray[np.float64] = shared / union
    return result


def ranking_of(truth: Spans, found: Spans, hits: NDArray[np.bool_], n_labels: int, form: Form = "envelope") -> Ranking:
    """The ranking of predictions of which ``hits`` ``(M, K)`` are right."""
    return Ranking(found.label, found.video, found.score, hits, truth.label, truth.video, n_labels, form)


def _spans(each: Sequence[tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]]) -> Spans:
    video = np.repeat(np.arange(len(each)), [len(labels) for _, labels, _ in each])
    none = (np.zeros((0, 2)), np.zeros(0, np.int64), np.zeros(0))
    span, label, score = (np.concatenate(columns) for columns in zip(none, *each, strict=True))
    return Spans(video, label.astype(np.int64), span.astype(np.float64), score.astype(np.float64))
