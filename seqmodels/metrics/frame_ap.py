"""Frame mAP of boxes with actions, as AVA scores it.

N true boxes, M detections, C classes, K pairs. Boxes are (x1, y1, x2, y2) in any unit, y downwards. Frames are numbers:
equal numbers are one frame of one video. The order of rows decides ties: of equal scores, the earlier row ranks higher,
within a frame and over all frames.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CAP = 50
"""Detections of one frame, over all classes, that AVA has counted since 2019-03."""


@dataclass(frozen=True, slots=True)
class FrameBoxes:
    """Rows of one file: ``frame`` ``(N,)`` int64, ``box`` ``(N, 4)``, ``action`` ``(N,)`` int64 in 0..C-1, and for
    detections ``score`` ``(N,)``, higher is more certain.
    """

    frame: NDArray[np.int64]
    box: NDArray[np.float64]
    action: NDArray[np.int64]
    score: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        count = len(self.frame)
        shapes = (self.frame.shape, self.box.shape, self.action.shape)
        if shapes != ((count,), (count, 4), (count,)):
            raise ValueError(f"frame, box, action have shapes {shapes}; expected (N,), (N, 4), (N,)")
        if self.score is not None and self.score.shape != (count,):
            raise ValueError(f"score has shape {self.score.shape}; expected ({count},)")
        if self.score is not None and np.isnan(self.score).any():
            raise ValueError("a score is NaN; expected numbers (the model may have diverged)")

    def __len__(self) -> int:
        return len(self.frame)

    def rows(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> "FrameBoxes":
        """Some of the rows, by mask or by number."""
        score = None if self.score is None else self.score[chosen]
        return FrameBoxes(self.frame[chosen], self.box[chosen], self.action[chosen], score)


@dataclass(frozen=True, slots=True)
class FrameMap:
    """``ap`` of each class, None without truth; ``map``, their mean, None when no class has truth.

    What was left out: ``flat_truth`` and ``flat`` boxes without an area, of truth and detections; ``elsewhere``
    detections on frames without a row of truth; ``capped`` ones beyond the best of their frame.
    """

    map: float | None
    ap: tuple[float | None, ...]
    flat_truth: int
    flat: int
    elsewhere: int
    capped: int


def frame_map(
    truth: FrameBoxes,
    detections: FrameBoxes,
    n_classes: int,
    *,
    empty_frames: NDArray[np.int64] | None = None,
    every_frame: bool = False,
    cap: int | None = CAP,
    iou: float = 0.5,
) -> FrameMap:
    """AVA's frame mAP (Gu et al. 2018), by default as its official evaluation computes it since April 2020
    (activitynet/ActivityNet, Evaluation/get_ava_performance.py).

    In each frame a class's detections go by falling score, and each looks only at the true box that it overlaps most
    (the first of equals): it is right when that IoU is at least ``iou`` and the box is not taken. Average precision is
    the area under the precision envelope (as in Pascal VOC 2010). Classes with truth and no detection count as 0,
    classes without truth are left out of the mean.

    The revision of March 2019 is ``every_frame=True``, that of April 2018 ``every_frame=True, cap=None``, both on
    rows from which the caller has taken the frames of the exclusion file.

    Args:
        truth: true boxes.
        detections: boxes with scores.
        n_classes: C.
        empty_frames: ``(E,)`` frames that were annotated and hold no action.
        every_frame: count detections on frames without truth as false; otherwise only frames of ``truth`` and
            ``empty_frames`` are looked at.
        cap: at most so many detections of a frame count, over all classes, the highest scores; None: all.
        iou: least overlap of a right detection.

    Raises:
        ValueError: shapes that do not fit, a NaN score, no scores, or an action outside 0..C-1.
    """
    if detections.score is None:
        raise ValueError("detections have no scores; expected score (M,)")
    _check_actions(truth, detections, n_classes)
    known = truth.frame if empty_frames is None else np.concatenate((truth.frame, empty_frames))
    there = np.isin(detections.frame, known) | every_frame
    seen = detections.rows(there)
    best = _best_of_frame(seen, cap)
    # The official reader fills its heap of the best before it looks at the boxes: flat ones count for the cap.
    counted = seen.rows(best)
    real, real_truth = _has_area(counted.box), _has_area(truth.box)
    kept, true = counted.rows(real), truth.rows(real_truth)
    right, order = _right(true, kept, iou)
    ap = _per_class(true.action, kept.action[order], right[order], n_classes)
    defined = [value for value in ap if value is not None]
    return FrameMap(
        map=float(np.mean(defined)) if defined else None,
        ap=ap,
        flat_truth=int((~real_truth).sum()),
        flat=int((~real).sum()),
        elsewhere=int((~there).sum()),
        capped=len(seen) - len(counted),
    )


def _check_actions(truth: FrameBoxes, detections: FrameBoxes, n_classes: int) -> None:
    for name, rows in (("truth", truth), ("detections", detections)):
        if len(rows) and not 0 <= rows.action.min() <= rows.action.max() < n_classes:
            raise ValueError(
                f"actions of {name} are {rows.action.min()}..{rows.action.max()}; expected 0..{n_classes - 1}."
                " Leave unknown classes out"
            )


def _has_area(box: NDArray[np.float64]) -> NDArray[np.bool_]:
    result: NDArray[np.bool_] = (box[:, 2] > box[:, 0]) & (box[:, 3] > box[:, 1])
    return result


def _falling(score: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.argsort(-score, kind="stable")


def _rank_in_group(group: NDArray[np.int64]) -> NDArray[np.int64]:
    """Place of each row among the rows of its group, in order: ``(K,)`` -> ``(K,)``."""
    order = np.argsort(group, kind="stable")
    ordered = group[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])) if len(group) else np.zeros(0, np.int64)
    ranks = np.empty(len(group), np.int64)
    ranks[order] = np.arange(len(group)) - np.repeat(starts, np.diff(np.append(starts, len(group))))
    return ranks


def _best_of_frame(rows: FrameBoxes, cap: int | None) -> NDArray[np.int64]:
    """Numbers of the rows that are among the ``cap`` best of their frame, in order."""
    if cap is None or rows.score is None:
        return np.arange(len(rows))
    order = _falling(rows.score)
    return np.sort(order[_rank_in_group(rows.frame[order]) < cap])


def _right(truth: FrameBoxes, found: FrameBoxes, iou: float) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which detections are right ``(M,)``, and their order by falling score ``(M,)``."""
    assert found.score is not None  # noqa: S101 - checked at the border
    detection, box = _candidates(truth, found)
    overlap = _iou(found.box[detection], truth.box[box])
    # For each detection the first true box of the largest overlap.
    ranked = np.lexsort((box, -overlap, detection))
    first = ranked[_rank_in_group(detection[ranked]) == 0]
    first = first[overlap[first] >= iou]
    taker, taken = detection[first], box[first]
    order = _falling(found.score)
    place = np.empty(len(found), np.int64)
    place[order] = np.arange(len(found))
    by_score = np.argsort(place[taker])
    winner = by_score[_rank_in_group(taken[by_score]) == 0]
    right = np.zeros(len(found), np.bool_)
    right[taker[winner]] = True
    return right, order


def _candidates(truth: FrameBoxes, found: FrameBoxes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs (detection, true box) of one frame and class: ``(K,)``, ``(K,)``."""
    _, frame = np.unique(np.concatenate((truth.frame, found.frame)), return_inverse=True)
    action = np.concatenate((truth.action, found.action))
    cell = frame * (action.max(initial=0) + 1) + action
    true_cell, cells = cell[: len(truth)], cell[len(truth) :]
    order = np.argsort(true_cell, kind="stable")
    begin = np.searchsorted(true_cell[order], cells, "left")
    count = np.searchsorted(true_cell[order], cells, "right") - begin
    detection = np.repeat(np.arange(len(found)), count)
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return detection, order[np.repeat(begin, count) + within]


def _iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of pairs of boxes: ``(K, 4)``, ``(K, 4)`` -> ``(K,)``."""
    width = (np.minimum(a[:, 2], b[:, 2]) - np.maximum(a[:, 0], b[:, 0])).clip(0)
    height = (np.minimum(a[:, 3], b[:, 3]) - np.maximum(a[:, 1], b[:, 1])).clip(0)
    shared = width * height
    areas = [(box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]) for box in (a, b)]
    result: NDArray[np.float64] = shared / (areas[0] + areas[1] - shared)
    return result


def _per_class(
    true_action: NDArray[np.int64], action: NDArray[np.int64], right: NDArray[np.bool_], n_classes: int
) -> tuple[float | None, ...]:
    """Average precision of each class; ``action`` and ``right`` are in order of falling score."""
    totals = np.bincount(true_action, minlength=n_classes)
    return tuple(envelope_ap(right[action == c], int(totals[c])) if totals[c] else None for c in range(n_classes))


def envelope_ap(right: NDArray[np.bool_], total: int) -> float:
    """Area under the precision envelope over recall, of hits in order of falling score and ``total`` to find
    (Pascal VOC 2010: the precision at a recall is the best at that recall or more).
    """
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(envelope[right].sum() / total)
