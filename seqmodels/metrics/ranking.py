"""Average precision of ranked predictions, and its means. M predictions, N true items, C labels, K thresholds,
V videos, R weightings of the videos.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Form = Literal["envelope", "hits", "11-point", "trapezoid"]
Ties = Literal["file", "best", "worst"]
_CHUNK = 1 << 23  # elements of one array of weights


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Predictions that were compared with the truth: all that a mean average precision is made of.

    Attributes:
        label: ``(M,)`` int64, 0..C-1.
        video: ``(M,)`` int64, 0..V-1; -1 for a video without truth, which no weighting touches.
        score: ``(M,)`` float64, higher is more certain. Of equal ones the earlier row ranks higher.
        hits: ``(M, K)`` bool, which are right at each threshold.
        true_label: ``(N,)`` int64.
        true_video: ``(N,)`` int64.
        n_labels: C.
        form: of the average precision; see `ranked_ap`.
    """

    label: NDArray[np.int64]
    video: NDArray[np.int64]
    score: Floats
    hits: NDArray[np.bool_]
    true_label: NDArray[np.int64]
    true_video: NDArray[np.int64]
    n_labels: int
    form: Form = "envelope"

    def take(self, rows: NDArray[np.bool_]) -> "Ranking":
        """With these predictions alone."""
        return replace(
            self, label=self.label[rows], video=self.video[rows], score=self.score[rows], hits=self.hits[rows]
        )

    def at(self, threshold: int) -> "Ranking":
        """With the threshold of this number alone."""
        return replace(self, hits=self.hits[:, threshold : threshold + 1])

    def ap(self, *, ties: Ties = "file") -> Floats:
        """Of each label at each threshold ``(C, K)``; NaN for labels without truth.

        ``ties``: how equal scores of a label are ordered: as in the file, or right ones first, or last.
        """
        result: Floats = self._each(None, ties)[0]
        return result

    def resampled(self, weights: Floats) -> Floats:
        """Average precision when video v counts ``weights[:, v]`` times: ``(R, V)`` -> ``(R, C, K)``."""
        step = max(1, _CHUNK // max(1, len(self.label)))
        parts = [self._each(weights[first : first + step], "file") for first in range(0, len(weights), step)]
        result: Floats = np.concatenate(parts)
        return result

    def tied(self) -> bool:
        """Whether the order of equal scores can change a figure."""
        order = np.lexsort((self.score, self.label))
        label, score, hits = self.label[order], self.score[order], self.hits[order]
        same = (label[1:] == label[:-1]) & (score[1:] == score[:-1])
        return bool(same.any() and (hits[1:] != hits[:-1])[same].any())

    def _each(self, weights: Floats | None, ties: Ties) -> Floats:
        n_thresholds = self.hits.shape[1]
        result = np.full((1 if weights is None else len(weights), self.n_labels, n_thresholds), np.nan)
        order = np.argsort(self.label, kind="stable")
        starts = np.searchsorted(self.label[order], np.arange(self.n_labels + 1))
        true_order = np.argsort(self.true_label, kind="stable")
        true_starts = np.searchsorted(self.true_label[true_order], np.arange(self.n_labels + 1))
        for c in np.flatnonzero(np.diff(true_starts)):
            rows = order[starts[c] : starts[c + 1]]
            true_videos = self.true_video[true_order[true_starts[c] : true_starts[c + 1]]]
            total = _weight(weights, true_videos).sum(axis=-1)
            for k in range(n_thresholds):
                ranked = rows[_falling(self.score[rows], self.hits[rows, k], ties)]
                weight = _weight(weights, self.video[ranked])
                result[:, c, k] = ranked_ap(self.hits[ranked, k], total, self.form, weight)
        return result


def mean_ap(ap: Floats) -> Floats:
    """Over the labels that have truth: ``(…, C, K)`` -> ``(…, K)``; NaN where none has."""
    defined = ~np.isnan(ap)
    count = defined.sum(axis=-2)
    with np.errstate(invalid="ignore"):
        result: Floats = np.where(defined, ap, 0).sum(axis=-2) / count
    return result


def ranked_ap(hits: NDArray[np.bool_], total: Floats | float, form: Form, weight: Floats | None = None) -> Floats:
    """Average precision of predictions in order of falling score.

    Args:
        hits: ``(M,)`` which are right.
        total: ``(…,)`` how much there is to find; NaN comes out where it is 0.
        form: ``envelope``: the area under the best precision at each recall or above it (Pascal VOC 2010, and
            ActivityNet and AVA after it); ``hits``: the mean, over all there is to find, of the precision at each right
            one (non-interpolated: THUMOS14's second kit, Charades, YouTube-8M); ``11-point``: the mean of the best
            precision at recall 0, .1, … 1 or above (Pascal VOC 2007: THUMOS14's first kit); ``trapezoid``: the area
            under straight lines between the points of precision and recall, from (1, 0) on (the ACT code of Kalogeiton
            et al., ICCV 2017, and MultiSports after it).
        weight: ``(…, M)`` how often each counts; None: once.

    Returns:
        ``(…,)``
    """
    counts = np.ones(len(hits)) if weight is None else weight
    right = counts * hits
    found, seen = right.cumsum(axis=-1), counts.cumsum(axis=-1)
    precision = np.divide(found, seen, out=np.zeros_like(seen), where=seen > 0)
    if form == "trapezoid":
        before = np.concatenate((np.ones_like(precision[..., :1]), precision[..., :-1]), axis=-1)
        precision = (precision + before) / 2
    elif form != "hits":
        precision = np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]
    whole = np.asarray(total, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        if form == "11-point":
            return _eleven_points(precision, found / whole[..., None]) + 0 * whole / whole
        result: Floats = (precision * right).sum(axis=-1) / whole
    return result


def _eleven_points(envelope: Floats, recall: Floats) -> Floats:
    points = []
    for tenth in range(11):
        reached = recall >= tenth * 0.1  # as the kit counts: 3 * 0.1 is above 0.3
        best = np.where(reached, envelope, 0).max(axis=-1, initial=0)
        points.append(best)
    return np.asarray(np.mean(points, axis=0))


def _falling(score: Floats, hits: NDArray[np.bool_], ties: Ties) -> NDArray[np.int64]:
    if ties == "file":
        return np.argsort(-score, kind="stable")
    return np.lexsort((hits if ties == "worst" else ~hits, -score))


def _weight(weights: Floats | None, videos: NDArray[np.int64]) -> Floats:
    """How often rows of these videos count: ``(m,)``, or ``(R, m)``; once where there is no such video."""
    if weights is None:
        return np.ones(len(videos))
    known = np.concatenate((weights, np.ones((len(weights), 1))), axis=1)  # the last is video -1
    return known[:, videos]
