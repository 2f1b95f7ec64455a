"""Moments out of the cosines of clips: windows as long as the query, the best of them, grown to what belongs to them.

R rows (clips of all videos, one video after the other), T clips of one video.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_GROWN = 0.9


@dataclass(frozen=True, slots=True)
class Moment:
    """Clips [first, stop) of a video, and the mean of the cosines in its best window."""

    first: int
    stop: int
    score: float


def best_windows(cosine: NDArray[np.float32], starts: NDArray[np.int64], length: int) -> NDArray[np.float64]:
    """(videos,): the best window of each video, by the mean of its cosines; -inf for a video without clips.

    ``cosine`` (R,), ``starts`` (videos + 1,): first row of each video. A video shorter than ``length`` is one window.
    """
    sizes = np.diff(starts)
    total = np.concatenate([[0.0], np.cumsum(cosine, dtype=np.float64)])
    best = np.full(len(sizes), -np.inf)
    short = (sizes > 0) & (sizes < length)
    best[short] = (total[starts[1:][short]] - total[starts[:-1][short]]) / sizes[short]
    long = np.flatnonzero(sizes >= length)
    if len(long):
        means = (total[length:] - total[:-length]) / length
        best[long] = _maxima(means, starts[long], starts[long + 1] - length + 1)
    return best


def moments_in(
    cosine: NDArray[np.float32], length: int, *, most: int, own: tuple[tuple[int, int], ...] = ()
) -> Iterator[tuple[Moment, bool]]:
    """Moments of one video ``(T,)``, none of them over another: first its ``own`` clips, then the best ``most`` others.

    The flag says which are its own. A moment is a window of ``length`` clips and those on both sides whose cosine is
    at least 0.9 of the window's.
    """
    length = min(length, len(cosine))
    total = np.concatenate([[0.0], np.cumsum(cosine, dtype=np.float64)])
    means = (total[length:] - total[:-length]) / length
    free = np.ones(len(cosine), np.bool_)
    for first, stop in own:
        score = float((total[stop] - total[first]) / (stop - first))
        moment = _grown(cosine, first, stop, score, np.ones_like(free))
        _take(means, free, moment, length)
        yield moment, True
    for _ in range(most):
        first = int(np.argmax(means))
        score = float(means[first])
        if score == -np.inf:
            return
        moment = _grown(cosine, first, first + length, score, free)
        _take(means, free, moment, length)
        yield moment, False


def _maxima(values: NDArray[np.float64], starts: NDArray[np.int64], stops: NDArray[np.int64]) -> NDArray[np.float64]:
    """The greatest value in each [start, stop), none of which is empty."""
    padded = np.append(values, -np.inf)
    found: NDArray[np.float64] = np.maximum.reduceat(padded, np.stack([starts, stops], 1).ravel())[::2]
    return found


def _grown(cosine: NDArray[np.float32], first: int, stop: int, score: float, free: NDArray[np.bool_]) -> Moment:
    enough = _GROWN * score if score > 0 else np.inf
    while first > 0 and free[first - 1] and cosine[first - 1] >= enough:
        first -= 1
    while stop < len(cosine) and free[stop] and cosine[stop] >= enough:
        stop += 1
    return Moment(first, stop, score)


def _take(means: NDArray[np.float64], free: NDArray[np.bool_], moment: Moment, length: int) -> None:
    means[max(0, moment.first - length + 1) : moment.stop] = -np.inf
    free[moment.first : moment.stop] = False
