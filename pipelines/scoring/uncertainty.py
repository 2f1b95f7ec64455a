"""How sure a figure is: bootstrap over videos (Efron 1979), alone and paired. V videos, R resamples."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.scoring.scored import Scored, value

LEVEL = 0.95
DRAWN = 1000


def draws(n_videos: int, count: int, seed: int = 0) -> NDArray[np.float64]:
    """How often each video is drawn when as many as there are are drawn with replacement: ``(R, V)``."""
    rng = np.random.default_rng(seed)
    return np.stack(
        [np.bincount(rng.integers(0, n_videos, n_videos), minlength=n_videos) for _ in range(count)]
    ).astype(np.float64)


def interval(scored: Scored, weights: NDArray[np.float64]) -> dict[str, Any]:
    """The headline's 95 % interval by percentiles, and how many resamples it is of (those that define it)."""
    return {"metric": scored.headline, "videos": weights.shape[1], **_percentiles(scored.resample(weights))}


def paired(one: Scored, other: Scored, weights: NDArray[np.float64]) -> dict[str, Any]:
    """The headline of ``one`` less that of ``other`` on the same resamples of the videos: its value, 95 % interval, and
    the two-sided p of no difference, twice the smaller share of resamples on either side of 0.
    """
    mine, others = one.metrics[one.headline], other.metrics[other.headline]
    difference = one.resample(weights) - other.resample(weights)
    known = difference[~np.isnan(difference)]
    sides = [float((known <= 0).mean()), float((known >= 0).mean())] if len(known) else [np.nan]
    return {
        "metric": one.headline,
        "value": mine,
        "other": others,
        "difference": None if mine is None or others is None else mine - others,
        **_percentiles(difference),
        "p": value(min(1.0, 2 * min(sides))),
    }


def _percentiles(values: NDArray[np.float64]) -> dict[str, Any]:
    known = values[~np.isnan(values)]
    if len(known) == 0:
        return {"low": None, "high": None, "resamples": 0}
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"low": float(low), "high": float(high), "resamples": len(known)}
