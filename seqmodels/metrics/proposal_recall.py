"""Recall of temporal action proposals. V videos, M proposals, N true segments, K thresholds, P points of the curve."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seqmodels.metrics.localization import ACTIVITYNET_THRESHOLDS, Spans, overlapping
from seqmodels.metrics.matching import rank_by_score

POINTS = 100


@dataclass(frozen=True, slots=True, eq=False)
class ProposalRecall:
    """Average recall over the average number of proposals of a video.

    Attributes:
        per_video: ``(P,)`` proposals of a video, on average, at each point of the curve.
        found: ``(V, K, P)`` true segments of each video that some proposal finds.
        truths: ``(V,)`` true segments of each video.
    """

    per_video: NDArray[np.float64]
    found: NDArray[np.int64]
    truths: NDArray[np.int64]

    def recall(self, weight: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """At each threshold and point ``(K, P)``, when video v counts ``weight[v]`` times."""
        counts = np.ones(len(self.truths)) if weight is None else weight
        with np.errstate(invalid="ignore"):
            result: NDArray[np.float64] = np.tensordot(counts, self.found, 1) / (counts @ self.truths)
        return result

    def auc(self, recall: NDArray[np.float64]) -> float:
        """Area under the curve of average recall, in percent of the area of a perfect one."""
        area = np.trapezoid(recall.mean(axis=0), self.per_video)
        return float(100 * area / self.per_video[-1])

    def at(self, recall: NDArray[np.float64], per_video: float) -> float:
        """Average recall at a number of proposals of a video; between two points on the line between them."""
        return float(np.interp(per_video, self.per_video, recall.mean(axis=0)))


def proposal_recall(
    truth: Spans,
    proposals: Spans,
    n_videos: int,
    *,
    max_per_video: float | None = 100,
    n_proposals: int | None = None,
    thresholds: Sequence[float] = ACTIVITYNET_THRESHOLDS,
) -> ProposalRecall:
    """Average recall as ActivityNet's evaluation computes it (`Evaluation/eval_proposal.py`).

    The best proposals of each video are kept, the same share of all videos, so that ``max_per_video`` are left of each
    on average; the curve's point k is at k hundredths of that. A true segment is found when the tIoU of any proposal
    is at least the threshold. Labels are ignored. Of equal scores in a video the earlier row goes first.

    Args:
        truth: true segments; their videos are 0..V-1, each with one or more.
        proposals: of these videos alone.
        n_videos: V.
        max_per_video: None: as many as there are.
        n_proposals: how many there are, with those of other videos, which enter the share as there; None: M.
        thresholds: of tIoU.
    """
    total = len(proposals) if n_proposals is None else n_proposals
    mean = total / n_videos if max_per_video is None else float(max_per_video)
    available = np.bincount(proposals.video, minlength=n_videos)
    share = mean * n_videos / total if total else 1.0
    kept = np.minimum((available * share).astype(np.int64), available)
    kept_total = int(kept.sum())
    steps = np.arange(1, POINTS + 1) / 100.0 * (mean * n_videos / kept_total if kept_total else 1.0)
    limits = np.minimum((kept[:, None] * steps).astype(np.int64), kept[:, None])  # (V, P)
    first = _first_ranks(truth, proposals, kept, thresholds)  # (N, K)
    found = np.zeros((n_videos, len(thresholds), POINTS), np.int64)
    np.add.at(found, truth.video, first[:, :, None] < limits[truth.video][:, None, :])
    return ProposalRecall(
        per_video=steps * kept_total / n_videos if kept_total else steps * mean,
        found=found,
        truths=np.bincount(truth.video, minlength=n_videos),
    )


def _first_ranks(
    truth: Spans, proposals: Spans, kept: NDArray[np.int64], thresholds: Sequence[float]
) -> NDArray[np.int64]:
    """Place, among its video's, of the first kept proposal that finds each true segment: ``(N, K)``."""
    rank = rank_by_score(proposals.video, proposals.score)
    among = np.flatnonzero(rank < kept[proposals.video])
    left, right, overlap = overlapping(truth, proposals.take(among), labels=False)
    ranks = rank[among][right]
    never = np.iinfo(np.int64).max
    first = np.full((len(truth), len(thresholds)), never)
    for k, threshold in enumerate(thresholds):
        enough = overlap >= threshold
        np.minimum.at(first[:, k], left[enough], ranks[enough])
    return first
