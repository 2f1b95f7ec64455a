"""Segments of time: scored candidates, overlaps, non-maximum suppression.

M, N segments, rows of [start, stop]; the unit of time does not matter.
"""

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Method = Literal["gaussian", "linear", "hard"]


class Found(NamedTuple):
    """Segments that a head found: ``segments`` ``(M, 2)`` float64, ``scores`` ``(M,)`` float64 in 0..1, ``labels``
    ``(M,)`` int64 class numbers.
    """

    segments: NDArray[np.float64]
    scores: NDArray[np.float64]
    labels: NDArray[np.int64]

    def take(self, rows: NDArray[Any]) -> "Found":
        """Some of them."""
        return Found(self.segments[rows], self.scores[rows], self.labels[rows])


def none_found() -> Found:
    """No segments."""
    return Found(np.empty((0, 2)), np.empty(0), np.empty(0, np.int64))


def joined(parts: list[Found]) -> Found:
    """All segments of all ``parts``."""
    if not parts:
        return none_found()
    return Found(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def temporal_iou(first: Floats, second: Floats) -> NDArray[np.float64]:
    """Overlap over union: ``(M, 2)``, ``(N, 2)`` -> ``(M, N)`` float64; NaN between two of no length (0 / 0)."""
    first, second = np.asarray(first, np.float64)[:, None], np.asarray(second, np.float64)[None]
    shared = (np.minimum(first[..., 1], second[..., 1]) - np.maximum(first[..., 0], second[..., 0])).clip(0)
    union = (first[..., 1] - first[..., 0]) + (second[..., 1] - second[..., 0]) - shared
    with np.errstate(invalid="ignore", divide="ignore"):
        result: NDArray[np.float64] = shared / union
    return result


def suppress(
    segments: Floats,
    scores: Floats,
    *,
    method: Method = "gaussian",
    sigma: float = 0.5,
    iou_threshold: float = 0.5,
    min_score: float = 0.001,
    most: int = 200,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Non-maximum suppression of segments of one class: soft (Bodla et al., ICCV 2017) or hard.

    The best one left is taken, and the scores of the others fall by their overlap with it: ``gaussian`` by ``exp(-iou
    ** 2 / sigma)``; ``linear`` by ``1 - iou`` and ``hard`` to 0, from ``iou_threshold`` on. Those at or below
    ``min_score`` are gone; the first in the input wins a tie. The defaults are ActionFormer's (Zhang et al., ECCV
    2022).

    Returns:
        The rows that are kept, at most ``most``, best first, and their new scores.
    """
    starts, stops = np.asarray(segments, np.float64).T
    lengths, left = stops - starts, np.array(scores, np.float64)
    rows: list[int] = []
    values: list[float] = []
    while len(rows) < most and len(left) and left[best := int(left.argmax())] > min_score:
        rows.append(best)
        values.append(left[best])
        shared = (np.minimum(stops, stops[best]) - np.maximum(starts, starts[best])).clip(0)
        union = lengths + lengths[best] - shared
        left *= _decay(
            np.divide(shared, union, out=np.zeros_like(union), where=union > 0), method, sigma, iou_threshold
        )
        left[best] = -np.inf
    return np.array(rows, np.int64), np.array(values, np.float64)


def _decay(overlap: NDArray[np.float64], method: Method, sigma: float, iou_threshold: float) -> NDArray[np.float64]:
    if method == "gaussian":
        return np.exp(-(overlap**2) / sigma)
    lower = 1 - overlap if method == "linear" else np.zeros_like(overlap)
    return np.where(overlap >= iou_threshold, lower, 1.0)


def suppress_by_class(found: Found, *, most: int = 200, **options: Any) -> Found:  # noqa: ANN401 - those of `suppress`
    """`suppress` each class alone, then the ``most`` best of all classes, best first."""
    parts = []
    for label in np.unique(found.labels):
        mine = found.take(np.flatnonzero(found.labels == label))
        rows, scores = suppress(mine.segments, mine.scores, most=most, **options)
        parts.append(Found(mine.segments[rows], scores, mine.labels[rows]))
    result = joined(parts)
    return result.take(np.argsort(-result.scores, kind="stable")[:most])
