"""Average precision, non-interpolated. N samples (videos or steps), C classes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def average_precision(scores: NDArray[np.floating[Any]], positives: NDArray[np.bool_]) -> float | None:
    """Sum over thresholds of precision times the gain in recall; None without a positive.

    Samples of equal score are one group: they pass a threshold together, so their order in the arrays does
    not matter (the rule of scikit-learn). Constant scores give the share of positives.

    Args:
        scores: ``(N,)``, higher is more certain; ``-inf`` is allowed, NaN is not.
        positives: ``(N,)``.

    Raises:
        ValueError: shapes that differ or a NaN score.
    """
    if scores.shape != positives.shape or scores.ndim != 1:
        raise ValueError(f"scores are {scores.shape}, positives {positives.shape}; expected two equal (N,)")
    if np.isnan(scores).any():
        raise ValueError("a score is NaN; expected numbers (the model may have diverged)")
    total = int(positives.sum())
    if total == 0:
        return None
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    group_ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], [True]))
    hits = np.cumsum(positives[order])[group_ends]
    precision = hits / (group_ends + 1)
    gained = np.diff(hits, prepend=0) / total
    return float(precision @ gained)


def per_class_ap(
    scores: NDArray[np.floating[Any]], positives: NDArray[np.bool_]
) -> tuple[float | None, list[float | None]]:
    """Mean over the classes that have a positive, and each class's average precision.

    ``scores`` and ``positives`` are ``(N, C)``. A class without positives is None and not in the mean; the
    mean of no class is None.
    """
    each = [average_precision(scores[:, c], positives[:, c]) for c in range(scores.shape[1])]
    defined = [value for value in each if value is not None]
    return (float(np.mean(defined)) if defined else None), each
