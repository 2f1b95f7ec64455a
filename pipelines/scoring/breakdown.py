"""Where a localization figure comes from: by length of the truth, and by kind of error. C labels, K thresholds."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.scoring.scored import value
from seqmodels.metrics.localization import Pairs, Spans, overlapping
from seqmodels.metrics.matching import rank_by_score
from seqmodels.metrics.ranking import Ranking, mean_ap

NEAR = 0.1
"""Least tIoU of a prediction that is about a true segment at all (Alwassel et al., "Diagnosing error in temporal action
detectors", ECCV 2018)."""
_SHARES = ("shortest third", "middle third", "longest third")


def by_duration(truth: Spans, ranking: Ranking, taken: NDArray[np.int64], pairs: Pairs) -> list[dict[str, Any]]:
    """Average mAP over the shortest, middle and longest third of the true segments.

    For each third the truth of other lengths is neither to find nor false when found: predictions that take it
    (``taken`` ``(M, K)``) are left out, and so are false ones that overlap it more than any of the third. The other
    false ones stay in all thirds.
    """
    if len(truth) == 0:
        return []
    length = np.diff(truth.span, axis=1)[:, 0]
    third = np.searchsorted(np.quantile(length, [1 / 3, 2 / 3]), length, side="left")
    nearest = np.full(len(ranking.score), -1)
    first = np.append(True, pairs.left[1:] != pairs.left[:-1])[: len(pairs.left)]
    nearest[pairs.left[first]] = third[pairs.right[first]]
    of_taken = np.where(taken >= 0, third[taken], nearest[:, None])  # (M, K)
    rows = []
    for number, name in enumerate(_SHARES):
        inside = third == number
        if not inside.any():
            continue
        part = replace(ranking, true_label=truth.label[inside], true_video=truth.video[inside])
        ap = part.ap(kept=(of_taken == number) | (of_taken == -1))
        rows.append(
            {
                "segments": name,
                "seconds": [value(float(length[inside].min())), value(float(length[inside].max()))],
                "count": int(inside.sum()),
                "average_map": value(float(mean_ap(ap).mean())),
            }
        )
    return rows


def error_kinds(truth: Spans, found: Spans, ranking: Ranking, threshold: float, base: float) -> dict[str, Any]:
    """What is wrong with the predictions that matter: of each class the best, as many as it has true segments.

    At the lowest threshold a false one is *double* (on a true segment of its class that another took), of wrong
    *localization* (tIoU with its class from .1 to the threshold), a *confusion* (tIoU of .1 or more with another class
    alone), or *background*. *missed* counts true segments that no prediction at all is right on. ``gain`` is how much
    the mAP at this threshold rises when all false predictions of a kind, of any rank, are taken away. After Alwassel et
    al., ECCV 2018, with one kind for both forms of confusion. ``base``: the mAP with all of them.
    """
    hit = ranking.hits[:, 0]
    kind = _kinds(truth, found, hit, threshold)
    totals = np.bincount(truth.label, minlength=ranking.n_labels)
    top = rank_by_score(found.label, found.score) < totals[found.label]
    first = ranking.at(0)
    result: dict[str, Any] = {
        "threshold": float(threshold),
        "predictions": int(top.sum()),
        "right": int((top & hit).sum()),
    }
    for number, name in enumerate(("double", "localization", "confusion", "background")):
        gone = kind == number
        gain = float(mean_ap(first.ap(kept=~gone[:, None]))[0]) - base if gone.any() else 0.0
        result[name] = {"count": int((top & gone).sum()), "gain": value(gain)}
    result["missed"] = {"count": int(len(truth) - hit.sum())}
    return result


def _kinds(truth: Spans, found: Spans, hit: NDArray[np.bool_], threshold: float) -> NDArray[np.int64]:
    """The kind of each prediction ``(M,)``: 0 double, 1 localization, 2 confusion, 3 background, -1 right."""
    own, other = np.zeros(len(hit)), np.zeros(len(hit))
    left, right, overlap = overlapping(found, truth, labels=False)
    overlap = np.nan_to_num(overlap, nan=0.0, posinf=0.0)
    same = found.label[left] == truth.label[right]
    np.maximum.at(own, left[same], overlap[same])
    np.maximum.at(other, left[~same], overlap[~same])
    kind = np.select([hit, own >= threshold, own >= NEAR, other >= NEAR], [-1, 0, 1, 2], 3)
    return kind.astype(np.int64)
