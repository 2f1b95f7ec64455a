"""Average precision of ranked predictions, and its means. M predictions, N true items, C labels, K thresholds,
V videos, R weightings of the videos.
"""

from collections.abc import Iterator
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

    def at(self, threshold: int) -> "Ranking":
        """With the threshold of this number alone."""
        return replace(self, hits=self.hits[:, threshold : threshold + 1])

    def ap(self, *, ties: Ties = "file", kept: NDArray[np.bool_] | None = None) -> Floats:
        """Of each label at each threshold ``(C, K)``; NaN for labels without truth.

        Args:
            ties: how equal scores of a label are ordered: as in the file, or right ones first, or last.
            kept: ``(M, K)`` the predictions that count at each threshold; None: all.
        """
        result = np.full((self.n_labels, self.hits.shape[1]), np.nan)
        for c, rows, true_videos in self._labels():
            hits, weight = self.hits[rows].T, None if kept is None else kept[rows].T.astype(np.float64)
            if ties != "file":
                hits = _reordered(hits, self.score[rows], best=ties == "best")
            result[c] = ranked_ap(hits, float(len(true_videos)), self.form, weight)
        return result

    def resampled(self, weights: Floats) -> Floats:
        """Average precision when video v counts ``weights[:, v]`` times: ``(R, V)`` -> ``(R, C, K)``."""
        result = np.full((len(weights), self.n_labels, self.hits.shape[1]), np.nan)
        known = np.concatenate((weights, np.ones((len(weights), 1))), axis=1)  # the last is video -1
        for c, rows, true_videos in self._labels():
            total, hits, videos = known[:, true_videos].sum(axis=1), self.hits[rows], self.video[rows]
            step = max(1, _CHUNK // max(1, len(rows)))
            for first in range(0, len(weights), step):
                part = slice(first, first + step)
                weight = known[part, videos] if len(rows) else np.zeros((len(known[part]), 0))
                for k in range(hits.shape[1]):
                    result[part, c, k] = ranked_ap(hits[:, k], total[part], self.form, weight)
        return result

    def _labels(self) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
        """Each label that has truth: its predictions by falling score, and the video of each true item."""
        order = np.lexsort((-self.score, self.label))
        true_order = np.argsort(self.true_label, kind="stable")
        numbers = np.arange(self.n_labels + 1)
        starts = np.searchsorted(self.label[order], numbers)
        true_starts = np.searchsorted(self.true_label[true_order], numbers)
        for c in np.flatnonzero(np.diff(true_starts)).tolist():
            true_rows = true_order[true_starts[c] : true_starts[c + 1]]
            yield c, order[starts[c] : starts[c + 1]], self.true_video[true_rows]


def equal_scores(group: NDArray[np.int64], score: Floats) -> bool:
    """Whether two rows of one group have the same score: ``(M,)``, ``(M,)``."""
    order = np.lexsort((score, group))
    return bool(((np.diff(group[order]) == 0) & (score[order][1:] == score[order][:-1])).any())


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
        hits: ``(…, M)`` which are right.
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
    counts = np.ones(hits.shape[-1]) if weight is None else weight
    right = counts * hits
    found, seen = right.cumsum(axis=-1), counts.cumsum(axis=-1)
    precision = np.divide(found, seen, out=np.zeros(found.shape), where=seen > 0)
    if form == "trapezoid":
        before = np.concatenate((np.ones_like(precision[..., :1]), precision[..., :-1]), axis=-1)
        precision = (precision + before) / 2
    elif form != "hits":
        precision = np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]
    whole = np.where(np.asarray(total) > 0, total, np.nan)
    if form == "11-point":
        return np.where(np.isnan(whole), np.nan, _eleven_points(precision, found / whole[..., None]))
    result: Floats = (precision * right).sum(axis=-1) / whole
    return result


def _eleven_points(envelope: Floats, recall: Floats) -> Floats:
    points = []
    for tenth in range(11):
        reached = recall >= tenth * 0.1  # as the kit counts: 3 * 0.1 is above 0.3
        best = np.where(reached, envelope, 0).max(axis=-1, initial=0)
        points.append(best)
    return np.asarray(np.mean(points, axis=0))


def _reordered(hits: NDArray[np.bool_], score: Floats, *, best: bool) -> NDArray[np.bool_]:
    """``(K, m)`` by falling score, of equal scores the right ones first (``best``) or last, at each threshold."""
    group = np.cumsum(np.append(0, score[1:] != score[:-1])) if len(score) else np.zeros(0, np.int64)
    rows = [row[np.argsort(2 * group + (row != best), kind="stable")] for row in hits]
    return np.array(rows)
