"""Average precision of action tubes: boxes of one actor, frame after frame. K thresholds, T frames of a tube."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seqmodels.metrics.frame_ap import box_iou
from seqmodels.metrics.localization import Pairs, activitynet_taken
from seqmodels.metrics.matching import cells, pairs_within
from seqmodels.metrics.ranking import Form, Ranking


@dataclass(frozen=True, slots=True, eq=False)
class Tube:
    """``frame`` ``(T,)`` int64, rising, and ``box`` ``(T, 4)``, x1, y1, x2, y2 in pixels; ``score`` of predictions."""

    video: int
    label: int
    frame: NDArray[np.int64]
    box: NDArray[np.float64]
    score: float = 0.0


def tube_iou(one: Tube, other: Tube, *, inclusive: bool = False) -> float:
    """Mean overlap of the boxes on the frames from the later start to the earlier end, times the temporal overlap.

    Both are as MultiSports computes them (mmaction2, `multisports_utils.py`): a length of time is last frame less
    first, so tubes of one frame have no overlap. ``inclusive`` adds 1 to every length of time and side of a box, as the
    code for JHMDB and UCF101-24 does (ACT, Kalogeiton et al., ICCV 2017).
    """
    first, last = max(one.frame[0], other.frame[0]), min(one.frame[-1], other.frame[-1])
    if last < first:
        return 0.0
    more = int(inclusive)
    hull = max(one.frame[-1], other.frame[-1]) - min(one.frame[0], other.frame[0]) + more
    if hull == 0:
        return 0.0
    _, at, to = np.intersect1d(one.frame, other.frame, assume_unique=True, return_indices=True)
    if len(at) == 0:
        return 0.0
    grown = np.array([0, 0, more, more])
    spatial = box_iou(one.box[at] + grown, other.box[to] + grown).mean()
    return float(spatial * (last - first + more) / hull)


def tube_ranking(
    truth: Sequence[Tube], found: Sequence[Tube], n_labels: int, thresholds: Sequence[float], *, inclusive: bool = False
) -> Ranking:
    """Which tubes are right: by falling score, each takes the free true tube of its video and label that it overlaps
    most (the first of equals), if by the threshold or more. The average precision is the ``trapezoid`` form.
    """
    columns = [np.array([[t.video, t.label] for t in tubes], np.int64).reshape(-1, 2) for tubes in (found, truth)]
    left, right = pairs_within(*cells(*((columns[0][:, i], columns[1][:, i]) for i in (0, 1))))
    pairs = zip(left, right, strict=True)
    overlap = np.array([tube_iou(found[i], truth[j], inclusive=inclusive) for i, j in pairs], np.float64)
    score = np.array([tube.score for tube in found], np.float64)
    return best_free_ranking(
        (columns[1][:, 0], columns[1][:, 1]), (columns[0][:, 0], columns[0][:, 1], score),
        (left, right, overlap), n_labels, thresholds, "trapezoid" if inclusive else "envelope",
    )  # fmt: skip


def frame_tube_ranking(
    truth: Sequence[Tube], found: Sequence[Tube], n_labels: int, thresholds: Sequence[float], *, inclusive: bool = False
) -> Ranking:
    """Which boxes are right, frame by frame; the rule is that of `tube_ranking`. ``found``: tubes of one frame each."""
    true_frame, true_video, true_label = _frames(truth)
    frame, video, label = _frames(found)
    score = np.array([tube.score for tube in found], np.float64)
    left, right = pairs_within(*cells((video, true_video), (label, true_label), (frame, true_frame)))
    none = np.zeros((0, 4))
    boxes, true_boxes = (np.concatenate([none, *(tube.box for tube in tubes)]) for tubes in (found, truth))
    grown = np.array([0, 0, inclusive, inclusive], np.float64)
    overlap = box_iou(boxes[left] + grown, true_boxes[right] + grown)
    return best_free_ranking(
        (true_video, true_label), (video, label, score),
        (left, right, overlap), n_labels, thresholds, "trapezoid" if inclusive else "envelope",
    )  # fmt: skip


def best_free_ranking(
    truth: tuple[NDArray[np.int64], NDArray[np.int64]],
    found: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]],
    pairs: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]],
    n_labels: int,
    thresholds: Sequence[float],
    form: Form,
) -> Ranking:
    """``truth``: videos and labels; ``found``: those and scores; ``pairs``: found, true and overlap of each pair."""
    video, label, score = found
    left, right, overlap = pairs
    wanted = np.lexsort((right, -overlap, left))
    wanted = wanted[~np.isnan(overlap[wanted])]
    ordered = Pairs(left[wanted], right[wanted], overlap[wanted])
    taken = activitynet_taken(ordered, score, len(truth[0]), thresholds)
    return Ranking(label, video, score, taken >= 0, truth[1], truth[0], n_labels, form)


def _frames(tubes: Sequence[Tube]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Frame, video and label of every box."""
    lengths = [len(tube.frame) for tube in tubes]
    frame = np.concatenate([np.zeros(0, np.int64), *(tube.frame for tube in tubes)])
    video, label = (
        np.repeat(np.array([getattr(t, name) for t in tubes], np.int64), lengths) for name in ("video", "label")
    )
    return frame, video, label
