"""Which rows of a video stand in the feature bank of a box.

N rows (boxes of one video), Q queries, S slots. Times are seconds from the video's start.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WINDOW_S = 60.0
PER_SECOND = 5


@dataclass(frozen=True, slots=True)
class Slots:
    """``index`` ``(Q, S)`` int64, rows of the video; ``mask`` ``(Q, S)`` bool, real slots, which come first and in
    order of time; ``offset_s`` ``(Q, S)`` float32, seconds from the query to the slot. Elsewhere both are 0.
    """

    index: NDArray[np.int64]
    mask: NDArray[np.bool_]
    offset_s: NDArray[np.float32]


def bank_of(
    second: NDArray[np.float64],
    score: NDArray[np.float32],
    query_s: NDArray[np.float64],
    *,
    window_s: float = WINDOW_S,
    per_second: int = PER_SECOND,
    rng: np.random.Generator | None = None,
) -> Slots:
    """The bank of each query: rows at most ``window_s / 2`` away, and of each whole second at most ``per_second``.

    Of a second with more rows, the highest scores are taken (of equal ones the first), or with ``rng`` random ones, the
    same for all queries of a call (Wu et al., "Long-Term Feature Banks", CVPR 2019, take 5 a second at random, within
    60 s). Memory is proportional to Q times the fullest window: ask for a batch of queries, not for all of a day.

    Args:
        second: ``(N,)`` of the rows, in any order.
        score: ``(N,)``, higher is better.
        query_s: ``(Q,)``.
        window_s: length of the window around a query.
        per_second: most rows of one whole second.
        rng: source of random choice; None: by score.

    Raises:
        ValueError: shapes that differ, or a time that is not finite.
    """
    if second.shape != score.shape or second.ndim != 1 or query_s.ndim != 1:
        raise ValueError(
            f"second is {second.shape}, score {score.shape}, query_s {query_s.shape}; expected (N,), (N,), (Q,)"
        )
    if not (np.isfinite(second).all() and np.isfinite(query_s).all()):
        raise ValueError("a time is not finite; expected seconds")
    kept = _kept(second, score, per_second, rng)
    times = second[kept]
    begin = np.searchsorted(times, query_s - window_s / 2, "left")
    count = np.searchsorted(times, query_s + window_s / 2, "right") - begin
    place = np.arange(count.max(initial=0))
    mask = place < count[:, None]
    row = np.where(mask, begin[:, None] + place, 0)
    offset_s = np.where(mask, times[row] - query_s[:, None], 0) if len(kept) else np.zeros(mask.shape)
    index = np.where(mask, kept[row], 0) if len(kept) else np.zeros(mask.shape, np.int64)
    return Slots(index, mask, offset_s.astype(np.float32))


def _kept(
    second: NDArray[np.float64], score: NDArray[np.float32], per_second: int, rng: np.random.Generator | None
) -> NDArray[np.int64]:
    """Rows that stand in any bank, in order of time: ``(N,)`` -> ``(K,)``."""
    preference = -score if rng is None else rng.random(len(second))
    whole = np.floor(second)
    order = np.lexsort((preference, whole))
    starts = np.flatnonzero(np.append(True, np.diff(whole[order]) != 0)) if len(second) else np.zeros(0, np.int64)
    rank = np.arange(len(second)) - np.repeat(starts, np.diff(np.append(starts, len(second))))
    kept = np.sort(order[rank < per_second])
    return kept[np.argsort(second[kept], kind="stable")]
