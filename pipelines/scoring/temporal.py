"""Protocols over segments of time: ActivityNet's three tasks, and THUMOS14. V videos, R weightings of them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from extract.errors import InputError, UsageError
from pipelines.scoring.breakdown import by_duration, error_kinds
from pipelines.scoring.rows import Compared, read_compared
from pipelines.scoring.scored import (
    Floats,
    Options,
    Scored,
    at,
    class_figures,
    mean_over_thresholds,
    order_range,
    tie_range,
    value,
)
from seqmodels.metrics.localization import (
    ACTIVITYNET_THRESHOLDS,
    THUMOS_THRESHOLDS,
    Pairs,
    Spans,
    activitynet_taken,
    overlapping,
    ranking_of,
    thumos_kit_ranking,
    wanted_pairs,
)
from seqmodels.metrics.matching import cells, pairs_within, places, rank_by_score, take_in_turn
from seqmodels.metrics.proposal_recall import proposal_recall
from seqmodels.metrics.ranking import Form, Ranking, Ties, equal_scores, mean_ap

KITS: dict[str, Form] = {"11-point": "11-point", "hits": "hits"}
KIT_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
TOP_K = (1, 3, 5)
RECALLED = (1, 5, 10, 50, 100)


def activitynet(truth: Path, predictions: Path, options: Options) -> Scored:
    """ActivityNet's detection task: mean average precision, averaged over tIoU .5:.05:.95.

    The rules are those of the official code (activitynet/ActivityNet, `Evaluation/eval_detection.py`), see
    `activitynet_ranking`. Classes are those of the truth in the subset ("validation"); a class without predictions
    counts 0; predictions for any other video are false.
    """
    compared = read_compared(truth, predictions, options, subsets=("validation",))
    return _localized(compared, ACTIVITYNET_THRESHOLDS)


def thumos14(truth: Path, predictions: Path, options: Options) -> Scored:
    """THUMOS14's temporal localization, as is the practice: ActivityNet's code over tIoU .3:.1:.7, subset "test".

    With ``kit`` as the challenge's MATLAB kit has it, which matches in another way (`thumos_kit_ranking`) over tIoU
    .1:.1:.7, and is far stricter with predictions that were not thinned; ``average_map`` is over .3:.1:.7 then, too.
    Intervals of the class Ambiguous belong to the kit alone.
    """
    compared = read_compared(truth, predictions, options, subsets=("test", "validation"))
    if options.kit is None:
        return _localized(compared, THUMOS_THRESHOLDS)
    if options.kit not in KITS:
        raise UsageError(f"--kit is {options.kit!r}; expected one of {', '.join(KITS)}")
    rankings = thumos_kit_ranking(
        compared.truth,
        compared.found,
        len(compared.labels),
        KIT_THRESHOLDS,
        ambiguous=compared.ambiguous,
        form=KITS[options.kit],
    )
    counted = slice(KIT_THRESHOLDS.index(0.3), None)
    ap = np.concatenate([ranking.ap() for ranking in rankings], axis=1)
    maps = mean_ap(ap)

    def resample(weights: Floats) -> Floats:
        each = [mean_ap(ranking.resampled(weights))[:, 0] for ranking in rankings[counted]]
        return np.mean(each, axis=0)  # type: ignore[no-any-return]

    ties = [[mean_ap(r.ap(ties=order))[0] for r in rankings[counted]] for order in ("file", "best", "worst")]
    return Scored(
        metrics={"average_map": value(float(maps[counted].mean()))},
        headline="average_map",
        videos=compared.videos,
        resample=resample,
        per_threshold={at(t): value(x) for t, x in zip(KIT_THRESHOLDS, maps.tolist(), strict=True)},
        per_class=class_figures(compared.labels, ap[:, counted], list(KIT_THRESHOLDS)[counted]),
        tied=tie_range(float(np.mean(each)) for each in ties),
        trouble=compared.trouble,
        notes=compared.notes,
    )


def _localized(compared: Compared, thresholds: Sequence[float]) -> Scored:
    truth, n_labels = compared.truth, len(compared.labels)
    # In the order of ranking, so that all sorts to come find it sorted; equal scores stay in the order of the file.
    found = compared.found = compared.found.take(np.lexsort((-compared.found.score, compared.found.label)))
    pairs = wanted_pairs(truth, found)
    taken = activitynet_taken(pairs, found.score, len(truth), thresholds)
    ranking = ranking_of(truth, found, taken >= 0, n_labels)
    ap = ranking.ap()
    maps = mean_ap(ap)
    undefined = len(np.unique(pairs.left[np.isnan(pairs.overlap)]))
    if undefined:
        compared.notes.append(
            f"{undefined} predictions of no length lie on truth of no length: the overlap is 0 / 0, which the protocol"
            " takes for right at every threshold"
        )
    return Scored(
        metrics={"average_map": value(float(maps.mean()))},
        headline="average_map",
        videos=compared.videos,
        resample=mean_over_thresholds(ranking),
        per_threshold={at(t): value(x) for t, x in zip(thresholds, maps.tolist(), strict=True)},
        per_class=class_figures(compared.labels, ap, thresholds),
        tied=_tied(ranking, pairs, thresholds, float(maps.mean())),
        trouble=compared.trouble,
        notes=compared.notes,
        details={
            "recall": _recall_at(compared, pairs, thresholds),
            "by_duration": by_duration(truth, ranking, taken, pairs),
            "errors": error_kinds(truth, found, ranking, thresholds[0], float(maps[0])),
        },
    )


def _tied(ranking: Ranking, pairs: Pairs, thresholds: Sequence[float], base: float) -> tuple[float, float] | None:
    """The range of the average, ``base`` as the file has it, over the orders kindest and unkindest to right ones."""
    if not equal_scores(ranking.label, ranking.score):
        return None
    best = np.zeros(len(ranking.score))
    np.maximum.at(best, pairs.left, np.nan_to_num(pairs.overlap, nan=1.0, posinf=1.0))
    figures = [base]
    orders: tuple[tuple[Ties, Floats], ...] = (("best", -best), ("worst", best))
    for ties, tiebreak in orders:
        taken = activitynet_taken(pairs, ranking.score, len(ranking.true_label), thresholds, tiebreak=tiebreak)
        figures.append(float(mean_ap(replace(ranking, hits=taken >= 0).ap(ties=ties)).mean()))
    return tie_range(figures)


def _recall_at(compared: Compared, pairs: Pairs, thresholds: Sequence[float]) -> dict[str, dict[str, float | None]]:
    """Recall@kx: of each class and video the k · (number of true segments) best predictions are kept; the share of a
    class's true segments that one of them reaches, mean over classes (ActionFormer's `metrics.py`).
    """
    truth, found = compared.truth, compared.found
    cell, true_cell = cells((found.video, truth.video), (found.label, truth.label))
    size = max(cell.max(initial=-1), true_cell.max(initial=-1)) + 1
    truths = np.bincount(true_cell, minlength=size)
    rank = rank_by_score(cell, found.score)
    left, right, overlap = pairs
    result: dict[str, dict[str, float | None]] = {}
    for k in (1, 5):
        kept = (rank < k * truths[cell])[left]
        values = {}
        for threshold in thresholds:
            reached = np.zeros(len(truth), np.bool_)
            reached[right[kept & (overlap >= threshold)]] = True
            totals = np.bincount(truth.label, minlength=len(compared.labels))
            each = np.bincount(truth.label[reached], minlength=len(compared.labels))[totals > 0] / totals[totals > 0]
            values[at(threshold)] = value(float(each.mean())) if len(each) else None
        result[f"{k}x"] = values
    return result


def activitynet_proposals(truth: Path, predictions: Path, options: Options) -> Scored:
    """ActivityNet's proposal task: average recall over tIoU .5:.05:.95 at N proposals of a video (``ar_at_N``) and the
    area under that curve in percent (``auc``); see `proposal_recall`. Videos without truth do not count.
    """
    compared = read_compared(truth, predictions, options, subsets=("validation",), labelled=False)
    there = np.unique(compared.truth.video)
    if len(there) == 0:
        raise InputError(f"{truth}: no true segment in the subset; expected one or more")
    number = np.full(len(compared.videos) + 1, -1)
    number[there] = np.arange(len(there))
    true, every = (replace(rows, video=number[rows.video]) for rows in (compared.truth, compared.found))
    own = every.take(every.video >= 0)
    result = proposal_recall(true, own, len(there), max_per_video=options.max_proposals, n_proposals=len(every))
    recall = result.recall()
    most = result.per_video[-1]
    shown = [n for n in RECALLED if n <= most * (1 + 1e-9)]
    metrics: dict[str, float | None] = {"auc": result.auc(recall)}
    metrics |= {f"ar_at_{n}": result.at(recall, n) for n in shown}
    return Scored(
        metrics=metrics,
        headline="auc",
        videos=[compared.videos[i] for i in there],
        resample=lambda weights: np.array([result.auc(result.recall(weight)) for weight in weights]),
        per_threshold={at(t): value(float(x)) for t, x in zip(ACTIVITYNET_THRESHOLDS, recall[:, -1], strict=True)},
        tied=_tied_proposals(true, own, len(there), options, len(every)),
        trouble=compared.trouble,
        notes=[*compared.notes, f"per_threshold is the recall at {most:g} proposals of a video, the end of the curve"],
        details={
            "curve": {"proposals_per_video": result.per_video.tolist(), "average_recall": recall.mean(axis=0).tolist()}
        },
    )


def _tied_proposals(
    truth: Spans, own: Spans, n_videos: int, options: Options, total: int
) -> tuple[float, float] | None:
    if not equal_scores(own.video, own.score):
        return None
    best = np.zeros(len(own))
    left, _, overlap = overlapping(own, truth, labels=False)
    np.maximum.at(best, left, np.nan_to_num(overlap, nan=0.0))
    figures = []
    for key in (np.zeros(len(own)), -best, best):
        rows = own.take(np.argsort(key, kind="stable"))
        result = proposal_recall(truth, rows, n_videos, max_per_video=options.max_proposals, n_proposals=total)
        figures.append(result.auc(result.recall()))
    return tie_range(figures)


def activitynet_classification(truth: Path, predictions: Path, options: Options) -> Scored:
    """ActivityNet's untrimmed classification: ``map``, and ``top_K``, the share of videos with one of their labels
    among their K best (`average_hit_at_K`: the mean share of their labels).

    The rules are those of `Evaluation/eval_classification.py`: labels of a video count once; each class ranks all
    predictions of all videos; a second prediction of one label for one video is false; the average precision is the
    area under the precision envelope.
    """
    compared = read_compared(truth, predictions, options, subsets=("validation",))
    pairs = np.unique(np.stack((compared.truth.video, compared.truth.label), axis=1), axis=0)
    true = Spans(pairs[:, 0], pairs[:, 1], np.zeros((len(pairs), 2)), np.zeros(len(pairs)))
    found = compared.found
    n_labels, n_videos = len(compared.labels), len(compared.videos)
    turn = places(np.argsort(-found.score, kind="stable"))
    left, right = pairs_within(*cells((found.video, true.video), (found.label, true.label)))
    hits = take_in_turn(left, right, turn, len(true))[:, None] >= 0
    ranking = Ranking(found.label, found.video, found.score, hits, true.label, true.video, n_labels)
    ap = ranking.ap()
    labelled = np.unique(true.video)
    metrics: dict[str, float | None] = {"map": value(float(mean_ap(ap)[0]))}
    for k in TOP_K:
        share = _share_in_top(found, true, n_videos, k)[labelled]
        metrics[f"top_{k}"] = value(float(np.ceil(share).mean())) if len(share) else None
        metrics[f"average_hit_at_{k}"] = value(float(share.mean())) if len(share) else None
    compared.trouble = [note for note in compared.trouble if "true segments" not in note]
    return Scored(
        metrics=metrics,
        headline="map",
        videos=compared.videos,
        resample=mean_over_thresholds(ranking),
        per_class=class_figures(compared.labels, ap, (0.5,)),
        tied=order_range(ranking),
        trouble=compared.trouble,
        notes=compared.notes,
    )


def _share_in_top(found: Spans, true: Spans, n_videos: int, k: int) -> NDArray[np.float64]:
    """Share of each video's labels that are among its ``k`` best predictions ``(V,)``; NaN without labels."""
    best = found.take(rank_by_score(found.video, found.score) < k)
    cell, true_cell = cells((best.video, true.video), (best.label, true.label))
    got = np.bincount(true.video[np.isin(true_cell, cell)], minlength=n_videos)
    with np.errstate(invalid="ignore"):
        result: NDArray[np.float64] = got / np.bincount(true.video, minlength=n_videos)
    return result
