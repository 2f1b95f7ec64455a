"""Frame mAP of boxes with actions, as AVA scores it.

N true boxes, M detections, C classes, P pairs. Boxes are (x1, y1, x2, y2) in any unit, y downwards. Frames are numbers:
equal numbers are one frame of one video. The order of rows decides ties: of equal scores, the earlier row ranks higher,
within a frame and over all frames.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seqmodels.metrics.matching import cells, pairs_within, places, rank_by_score, rank_in_group, take_in_turn
from seqmodels.metrics.ranking import Ranking

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
    result = frame_ranking(
        truth, detections, n_classes, empty_frames=empty_frames, every_frame=every_frame, cap=cap, iou=iou
    )
    each = [None if np.isnan(value) else float(value) for value in result.ranking.ap()[:, 0]]
    defined = [value for value in each if value is not None]
    return FrameMap(
        map=float(np.mean(defined)) if defined else None,
        ap=tuple(each),
        flat_truth=result.flat_truth,
        flat=result.flat,
        elsewhere=result.elsewhere,
        capped=result.capped,
    )


@dataclass(frozen=True, slots=True)
class FrameRanking:
    """``ranking`` of the detections that count, whose videos are frames; for the rest see `FrameMap`."""

    ranking: Ranking
    flat_truth: int
    flat: int
    elsewhere: int
    capped: int


def frame_ranking(
    truth: FrameBoxes,
    detections: FrameBoxes,
    n_classes: int,
    *,
    empty_frames: NDArray[np.int64] | None = None,
    every_frame: bool = False,
    cap: int | None = CAP,
    iou: float = 0.5,
    tiebreak: int = 0,
) -> FrameRanking:
    """Which detections are right; see `frame_map`.

    Args:
        truth: true boxes.
        detections: boxes with scores.
        n_classes: C.
        empty_frames: as there.
        every_frame: as there.
        cap: as there.
        iou: as there.
        tiebreak: of equal scores, that goes first which overlaps the truth most (1) or least (-1); 0: the earlier row.

    Raises:
        ValueError: as there.
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
    assert kept.score is not None  # noqa: S101 - checked above
    hits = _right(true, kept, kept.score, iou, tiebreak)
    return FrameRanking(
        Ranking(kept.action, kept.frame, kept.score, hits[:, None], true.action, true.frame, n_classes),
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


def _best_of_frame(rows: FrameBoxes, cap: int | None) -> NDArray[np.int64]:
    """Numbers of the rows that are among the ``cap`` best of their frame, in order."""
    if cap is None or rows.score is None:
        return np.arange(len(rows))
    return np.flatnonzero(rank_by_score(rows.frame, rows.score) < cap)


def _right(
    truth: FrameBoxes, found: FrameBoxes, score: NDArray[np.float64], iou: float, tiebreak: int
) -> NDArray[np.bool_]:
    """Which detections are right: ``(M,)``."""
    left, right = pairs_within(*cells((found.frame, truth.frame), (found.action, truth.action)))
    overlap = box_iou(found.box[left], truth.box[right])
    # For each detection the first true box of the largest overlap, and no other.
    wanted = np.lexsort((right, -overlap, left))
    wanted = wanted[rank_in_group(left[wanted]) == 0]
    best = np.zeros(len(found))
    best[left[wanted]] = overlap[wanted]
    turn = places(np.lexsort((-tiebreak * best, -score)))
    wanted = wanted[overlap[wanted] >= iou]
    result: NDArray[np.bool_] = take_in_turn(left[wanted], right[wanted], turn, len(truth)) >= 0
    return result


def box_iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Overlap over union of pairs of boxes: ``(P, 4)``, ``(P, 4)`` -> ``(P,)``."""
    width = (np.minimum(a[:, 2], b[:, 2]) - np.maximum(a[:, 0], b[:, 0])).clip(0)
    height = (np.minimum(a[:, 3], b[:, 3]) - np.maximum(a[:, 1], b[:, 1])).clip(0)
    shared = width * height
    areas = [(box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]) for box in (a, b)]
    result: NDArray[np.float64] = shared / (areas[0] + areas[1] - shared)
    return result
