"""Figures of samples with any number of labels: videos or frames of them. N samples, C classes."""

import numpy as np
from numpy.typing import NDArray

from seqmodels.metrics.ranking import Form, Ranking

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def dense_ranking(scores: Floats, positives: Bools, video: NDArray[np.int64], *, form: Form = "hits") -> Ranking:
    """All samples ranked for each class: ``(N, C)``, ``(N, C)``, and each sample's video ``(N,)``. ``-inf`` is last."""
    n, classes = scores.shape
    true_video, true_label = np.nonzero(positives)
    return Ranking(
        label=np.repeat(np.arange(classes), n),
        video=np.tile(video, classes),
        score=scores.T.ravel(),
        hits=positives.T.reshape(-1, 1),
        true_label=true_label,
        true_video=video[true_video],
        n_labels=classes,
        form=form,
    )


def top_ranking(scores: Floats, positives: Bools, k: int, *, pooled: bool) -> Ranking:
    """The ``k`` best classes of each sample, all ranked together (``pooled``: one label) or by class.

    All positives are there to find, also those that are not among the ``k`` best (YouTube-8M's starter code,
    `eval_util.py`). Of equal scores the lower class, and the earlier sample, goes first.
    """
    k = min(k, scores.shape[1])
    best = np.sort(np.argsort(-scores, axis=1, kind="stable")[:, :k], axis=1)
    sample = np.repeat(np.arange(len(scores)), k)
    label = best.ravel()
    true_sample, true_label = np.nonzero(positives)
    return Ranking(
        label=np.zeros_like(label) if pooled else label,
        video=sample,
        score=scores[sample, label],
        hits=positives[sample, label][:, None],
        true_label=np.zeros_like(true_label) if pooled else true_label,
        true_video=true_sample,
        n_labels=1 if pooled else scores.shape[1],
        form="hits",
    )


def precision_at_equal_recall(scores: Floats, positives: Bools) -> Floats:
    """PERR of each sample ``(N,)``: of its as many best classes as it has labels, the share that is right and scored
    above 0; 0 for a sample without labels (YouTube-8M's starter code, `eval_util.py`).
    """
    counts = positives.sum(axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")
    right = np.take_along_axis(positives & (scores > 0), order, axis=1).cumsum(axis=1)
    at = np.take_along_axis(right, np.maximum(counts - 1, 0)[:, None], axis=1)[:, 0]
    result: Floats = np.divide(at, counts, out=np.zeros(len(scores)), where=counts > 0)
    return result


def top_k_hits(scores: Floats, labels: NDArray[np.int64], k: int) -> Bools:
    """Whether each sample's class ``(N,)`` is among its ``k`` highest scores ``(N, C)``. Of equal scores the higher
    class number goes first, as where the last ``k`` of a rising sort are taken (mmaction2, `top_k_accuracy`).
    """
    best = np.argsort(scores, axis=1, kind="stable")[:, -k:]
    result: Bools = (best == labels[:, None]).any(axis=1)
    return result


def top_k_range(scores: Floats, labels: NDArray[np.int64], k: int) -> tuple[float, float]:
    """Least and greatest share of `top_k_hits` that the order of equal scores allows."""
    own = scores[np.arange(len(labels)), labels][:, None]
    above, equal = (scores > own).sum(axis=1), (scores == own).sum(axis=1)
    return float((above + equal <= k).mean()), float((above < k).mean())


def mean_class_accuracy(
    scores: Floats, labels: NDArray[np.int64], weight: Floats | None = None
) -> tuple[float, Floats]:
    """Mean, over the classes that are a label or an answer of any sample, of the share of the class's samples that are
    answered right (0 where it has none), as mmaction2's `mean_class_accuracy` has it. The first class wins a tie.

    Returns:
        The mean, and each class's accuracy ``(C,)``, NaN for classes that are neither.
    """
    counts = np.ones(len(labels)) if weight is None else weight
    answers = scores.argmax(axis=1)
    classes = scores.shape[1]
    total = np.bincount(labels, counts, minlength=classes)
    right = np.bincount(labels, counts * (answers == labels), minlength=classes)
    met = (total + np.bincount(answers, counts, minlength=classes)) > 0
    each = np.divide(right, total, out=np.zeros(classes), where=total > 0)
    each[~met] = np.nan
    return float(np.nanmean(each)), each
