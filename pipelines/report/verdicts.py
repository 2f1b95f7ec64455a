"""What each prediction is worth beside the truth, by the rules that the page follows too (rules.js).

N predictions and M truths of one video.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seqmodels.metrics.matching import pairs_within

SWEEP = np.arange(1, 40) / 40
_CHUNK = 256
_SLACK_S = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Segments ``span_s`` ``(N, 2)`` in seconds, or boxes at one moment each, with ``box`` ``(N, 4)``; ``label``
    ``(N,)``; ``score`` ``(N,)``, of predictions.
    """

    label: NDArray[np.int64]
    span_s: NDArray[np.float64]
    score: NDArray[np.float64]
    box: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.label)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> "Rows":
        """Some of them."""
        box = None if self.box is None else self.box[rows]
        return Rows(self.label[rows], self.span_s[rows], self.score[rows], box)


@dataclass(frozen=True, slots=True, eq=False)
class Verdicts:
    """``hit`` and ``wrong`` (wrong class) ``(N,)``, neither of them a false alarm; ``missed`` ``(M,)``."""

    hit: NDArray[np.bool_]
    wrong: NDArray[np.bool_]
    missed: NDArray[np.bool_]

    @property
    def counts(self) -> dict[str, int]:
        """How many there are of each kind."""
        hits, wrong = int(self.hit.sum()), int(self.wrong.sum())
        return {
            "hits": hits,
            "wrong": wrong,
            "false_alarms": len(self.hit) - hits - wrong,
            "misses": int(self.missed.sum()),
        }


def judged(predicted: Rows, truth: Rows, *, tiou: float = 0.5) -> Verdicts:
    """Predictions by falling score (of equal ones the first row first) each take the free truth of their class that
    they overlap most, by ``tiou`` or more (of equal ones the first). One that takes none but overlaps a truth of
    another class so much is of the wrong class. Boxes overlap in space, at one moment.
    """
    row, at, overlap = _pairs(predicted, truth, tiou)
    same = predicted.label[row] == truth.label[at]
    wrong = np.zeros(len(predicted), np.bool_)
    wrong[row[~same]] = True
    hit, free = np.zeros(len(predicted), np.bool_), np.ones(len(truth), np.bool_)
    place = np.empty(len(predicted), np.int64)
    place[np.argsort(-predicted.score, kind="stable")] = np.arange(len(predicted))
    row, at, overlap = row[same], at[same], overlap[same]
    for i in np.lexsort((at, -overlap, place[row])).tolist():
        if free[at[i]] and not hit[row[i]]:
            hit[row[i]], free[at[i]] = True, False
    return Verdicts(hit, wrong & ~hit, free)


def _pairs(
    predicted: Rows, truth: Rows, tiou: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Which rows overlap by ``tiou`` or more, and how much."""
    found = []
    for first in range(0, len(predicted), _CHUNK):
        some = predicted.take(np.arange(first, min(first + _CHUNK, len(predicted))))
        row, at = _near(some, truth, tiou)
        overlap = _overlap(some.take(row), truth.take(at))
        enough = overlap >= tiou
        found.append((row[enough] + first, at[enough], overlap[enough]))
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    row, at, overlap = (np.concatenate(columns) for columns in zip(*found, strict=True))
    return row, at, overlap


def _near(predicted: Rows, truth: Rows, tiou: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of rows that may overlap by ``tiou``: boxes of one moment; segments where the truth begins before the
    prediction ends, but not so long before that it would be too long: at most 1 / tiou times as long as the prediction.
    """
    if predicted.box is not None and truth.box is not None:
        moments = (np.rint(1e6 * rows.span_s[:, 0]).astype(np.int64) for rows in (predicted, truth))
        return pairs_within(*moments)
    order = np.argsort(truth.span_s[:, 0], kind="stable")
    starts = truth.span_s[order, 0]
    start, stop = predicted.span_s.T
    first = np.searchsorted(starts, start - (stop - start) / tiou - _SLACK_S)
    count = (np.searchsorted(starts, stop) - first).clip(0)
    row = np.repeat(np.arange(len(predicted)), count)
    within = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    return row, order[np.repeat(first, count) + within]


def _overlap(one: Rows, other: Rows) -> NDArray[np.float64]:
    """IoU of each row with the row of its number, 0 where it is 0 / 0."""
    if one.box is not None and other.box is not None:
        sides = np.minimum(one.box[:, 2:], other.box[:, 2:]) - np.maximum(one.box[:, :2], other.box[:, :2])
        both = sides.clip(0).prod(axis=1)
        sizes = ((rows.box[:, 2:] - rows.box[:, :2]).prod(axis=1) for rows in (one, other) if rows.box is not None)
    else:
        stop = np.minimum(one.span_s[:, 1], other.span_s[:, 1])
        both = (stop - np.maximum(one.span_s[:, 0], other.span_s[:, 0])).clip(0)
        sizes = (rows.span_s[:, 1] - rows.span_s[:, 0] for rows in (one, other))
    either: NDArray[np.float64] = sum(sizes, start=np.zeros(len(both))) - both
    overlap: NDArray[np.float64] = np.divide(both, either, out=np.zeros(len(both)), where=either > 0)
    return overlap


def best_threshold(videos: list[tuple[Rows, Rows]], *, tiou: float = 0.5) -> float:
    """Of `SWEEP`, the least score with the greatest F1 over all videos, ``(predicted, truth)`` each."""
    hits, shown = np.zeros(len(SWEEP)), np.zeros(len(SWEEP))
    for predicted, truth in videos:  # what scores lower takes nothing from what scores higher
        hit = judged(predicted, truth, tiou=tiou).hit
        above = predicted.score[:, None] >= SWEEP[None]
        hits += above[hit].sum(axis=0)
        shown += above.sum(axis=0)
    truths = sum(len(truth) for _, truth in videos)
    return float(SWEEP[(2 * hits / (shown + truths).clip(1)).argmax()])
