"""Segments as runs of steps whose score is high enough.

T steps, N segments.
"""

import numpy as np
from numpy.typing import NDArray


def step_edges(centre_s: NDArray[np.float64], stop_s: float) -> NDArray[np.float64]:
    """Where steps begin and end: rising middles ``(T,)`` -> ``(T + 1,)``, halfway between two middles, from 0 on and
    up to ``stop_s``, the end of the video; T is at least 1.
    """
    if len(centre_s) == 1:
        return np.array([0.0, stop_s])
    first, last = (centre_s[1] - centre_s[0]) / 2, (centre_s[-1] - centre_s[-2]) / 2
    inner = (centre_s[1:] + centre_s[:-1]) / 2
    edges = np.concatenate(([centre_s[0] - first], inner, [centre_s[-1] + last]))
    return edges.clip(0, stop_s)


def runs_of(values: NDArray[np.uint8], threshold: float) -> NDArray[np.int64]:
    """Longest runs of steps ``(T,)`` of at least ``threshold`` times 255 -> ``(N, 2)``, [first, stop) step."""
    high = np.concatenate(([False], values >= threshold * 255, [False]))
    changes = np.flatnonzero(high[1:] != high[:-1])
    return changes.reshape(-1, 2)


def run_scores(values: NDArray[np.uint8], runs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean of each run over 255: ``(T,)``, ``(N, 2)`` -> ``(N,)``."""
    total = np.concatenate(([0], np.cumsum(values, dtype=np.int64)))
    means: NDArray[np.float64] = (total[runs[:, 1]] - total[runs[:, 0]]) / (runs[:, 1] - runs[:, 0]) / 255
    return means
