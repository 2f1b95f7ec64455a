"""Assignment in turn, ranking and average precision, against loops that do it one by one."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from seqmodels.metrics.localization import Spans, activitynet_ranking, thumos_kit_ranking
from seqmodels.metrics.matching import cells, pairs_within, rank_in_group, take_in_turn
from seqmodels.metrics.ranking import Ranking, equal_scores, mean_ap, ranked_ap


def test_pairs_within() -> None:
    left, right = pairs_within(np.array([3, 1, 9]), np.array([1, 3, 3]))
    assert list(zip(left.tolist(), right.tolist(), strict=True)) == [(0, 1), (0, 2), (1, 0)]


def test_cells_are_equal_where_all_keys_are() -> None:
    left, right = cells((np.array([0, 0, 5]), np.array([5, 0])), (np.array([1, 2, 1]), np.array([1, 2])))
    assert (left[:, None] == right).tolist() == [[False, False], [False, True], [True, False]]


def test_rank_in_group() -> None:
    assert rank_in_group(np.array([2, 1, 2, 2, 1])).tolist() == [0, 0, 1, 2, 1]
    assert rank_in_group(np.zeros(0)).tolist() == []


@pytest.mark.parametrize("seed", range(40))
def test_taking_in_turn_is_the_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_left, n_right = rng.integers(0, 12, 2)
    lists = [rng.permutation(n_right)[: rng.integers(0, n_right + 1)] for _ in range(n_left)]
    turn = rng.permutation(n_left)
    free, expected = set(range(n_right)), np.full(n_left, -1)
    for row in np.argsort(turn):
        for wanted in lists[row]:
            if wanted in free:
                free.remove(wanted)
                expected[row] = wanted
                break
    left = np.repeat(np.arange(n_left), [len(each) for each in lists]).astype(np.int64)
    right = np.concatenate([np.zeros(0, np.int64), *lists]).astype(np.int64)
    assert take_in_turn(left, right, turn, int(n_right)).tolist() == expected.tolist()


def drawn_spans(rng: np.random.Generator, count: int, *, scored: bool) -> Spans:
    start = rng.integers(0, 8, count).astype(float)
    span = np.stack((start, start + rng.integers(0, 5, count)), axis=1)  # some of no length
    score = rng.permutation(count) / 100 if scored else np.zeros(count)
    return Spans(rng.integers(0, 2, count), rng.integers(0, 2, count), span, score)


def looped_hits(truth: Spans, found: Spans, threshold: float) -> np.ndarray:
    """What `eval_detection.py` says in words: one prediction after the other."""
    taken, hits = set(), np.zeros(len(found), bool)
    for row in np.argsort(-found.score, kind="stable"):
        near = []
        for other in range(len(truth)):
            if truth.video[other] != found.video[row] or truth.label[other] != found.label[row]:
                continue
            (a, b), (c, d) = found.span[row], truth.span[other]
            shared = max(0.0, min(b, d) - max(a, c))
            union = (b - a) + (d - c) - shared
            near.append((np.inf if union == 0 else shared / union, other))
        for overlap, other in sorted(near, reverse=True):
            if overlap >= threshold and other not in taken:
                taken.add(other)
                hits[row] = True
                break
    return hits


@pytest.mark.parametrize("seed", range(60))
def test_activitynets_rule_is_the_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, found = (
        drawn_spans(rng, rng.integers(0, 8), scored=False),
        drawn_spans(rng, rng.integers(0, 15), scored=True),
    )
    thresholds = (0.2, 0.5, 1.0)
    ranking = activitynet_ranking(truth, found, 2, thresholds)
    for k, threshold in enumerate(thresholds):
        assert ranking.hits[:, k].tolist() == looped_hits(truth, found, threshold).tolist()


def looped_ap(hits: list[bool], total: int) -> float:
    """Area under the envelope, by its definition."""
    points = [(sum(hits[:n]) / total, sum(hits[:n]) / n) for n in range(1, len(hits) + 1)]
    area, before = 0.0, 0.0
    for recall, _ in points:
        area += (recall - before) * max(p for r, p in points if r >= recall)
        before = recall
    return area


@pytest.mark.parametrize("seed", range(30))
def test_forms_of_average_precision(seed: int) -> None:
    rng = np.random.default_rng(seed)
    hits = rng.random(rng.integers(1, 20)) < 0.4
    total = int(hits.sum() + rng.integers(1, 4))
    assert float(ranked_ap(hits, total, "envelope")) == pytest.approx(looped_ap(hits.tolist(), total), abs=1e-12)
    if hits.any():
        score = -np.arange(len(hits), dtype=float)
        assert float(ranked_ap(hits, int(hits.sum()), "hits")) == pytest.approx(average_precision_score(hits, score))


def test_forms_by_hand() -> None:
    hits = np.array([True, False, True, False])
    assert float(ranked_ap(hits, 4, "envelope")) == pytest.approx((1 + 2 / 3) / 4)
    assert float(ranked_ap(hits, 4, "hits")) == pytest.approx((1 + 2 / 3) / 4)
    # Recall is 1/4, then 1/2: precision 1 at 0, .1, .2; 2/3 at .3, .4, .5.
    assert float(ranked_ap(hits, 4, "11-point")) == pytest.approx((3 * 1 + 3 * 2 / 3) / 11)
    # From (precision 1, recall 0): 1/4 · 1, then 1/4 · (1/2 + 2/3) / 2.
    assert float(ranked_ap(hits, 4, "trapezoid")) == pytest.approx(0.25 + 0.25 * (0.5 + 2 / 3) / 2)
    assert np.isnan(ranked_ap(hits, 0, "envelope"))


def test_the_kit_takes_by_overlap_and_forgives_ambiguous_intervals() -> None:
    truth = Spans(np.array([0]), np.array([0]), np.array([[10.0, 20.0]]), np.zeros(1))
    span = np.array([[10.0, 18.0], [10.0, 20.0], [30.0, 40.0], [50.0, 60.0]])
    found = Spans(np.zeros(4, int), np.zeros(4, int), span, np.array([0.9, 0.5, 0.8, 0.1]))
    ambiguous = Spans(np.array([0]), np.array([0]), np.array([[39.0, 45.0]]), np.zeros(1))
    (ranking,) = thumos_kit_ranking(truth, found, 1, (0.5,), ambiguous=ambiguous, form="hits")
    # The lower score is right, as it overlaps more; the third is left out.
    assert ranking.score[ranking.hits[:, 0]].tolist() == [0.5]
    assert len(ranking.score) == 3
    assert ranking.ap()[0, 0] == pytest.approx(1 / 2)
    # "Above", not "at": a tIoU of 1 does not pass 1.
    (none,) = thumos_kit_ranking(truth, found, 1, (1.0,), ambiguous=ambiguous, form="hits")
    assert not none.hits.any()


def drawn_ranking(rng: np.random.Generator, videos: int = 5) -> Ranking:
    count, true = 40, 25
    return Ranking(
        label=rng.integers(0, 3, count),
        video=rng.integers(-1, videos, count),
        score=rng.permutation(count).astype(float),
        hits=rng.random((count, 2)) < 0.4,
        true_label=rng.integers(0, 3, true),
        true_video=rng.integers(0, videos, true),
        n_labels=4,
    )


def test_videos_that_count_twice_are_there_twice() -> None:
    ranking = drawn_ranking(np.random.default_rng(0))
    weight = np.array([2.0, 0, 1, 3, 1])
    counts = np.append(weight, 1)[ranking.video].astype(int)  # the last is of videos without truth
    rows = np.repeat(np.arange(len(counts)), counts)
    true = np.repeat(np.arange(25), weight[ranking.true_video].astype(int))
    copied = Ranking(
        ranking.label[rows], ranking.video[rows], ranking.score[rows], ranking.hits[rows],
        ranking.true_label[true], ranking.true_video[true], 4,
    )  # fmt: skip
    once = np.ones((1, 5))
    np.testing.assert_allclose(ranking.resampled(once)[0], ranking.ap(), atol=1e-12)
    # Copies of one prediction count together: the precision after the last of them.
    expected = grouped_ap(copied)
    np.testing.assert_allclose(ranking.resampled(weight[None])[0], expected, atol=1e-12)


def grouped_ap(ranking: Ranking) -> np.ndarray:
    result = np.full((4, 2), np.nan)
    for c, k in itertools.product(range(4), range(2)):
        total = (ranking.true_label == c).sum()
        if not total:
            continue
        score, hits = ranking.score[ranking.label == c], ranking.hits[ranking.label == c, k]
        points = [(hits[score >= s].sum() / total, hits[score >= s].mean()) for s in sorted(set(score), reverse=True)]
        recall = [0.0, *(r for r, _ in points)]
        best = [max(p for _, p in points[i:]) for i in range(len(points))]
        result[c, k] = sum((recall[i + 1] - recall[i]) * best[i] for i in range(len(points)))
    return result


def test_mean_leaves_out_labels_without_truth() -> None:
    ap = np.array([[0.5], [np.nan], [1.0]])
    assert mean_ap(ap).tolist() == [0.75]
    assert np.isnan(mean_ap(np.full((2, 1), np.nan))).all()


def test_best_and_worst_order_of_equal_scores() -> None:
    hits = np.array([[False], [True], [True], [False]])
    zeros = np.zeros(4, int)
    ranking = Ranking(zeros, zeros, np.array([0.5, 0.5, 0.5, 0.1]), hits, zeros[:2], zeros[:2], 1)
    assert equal_scores(ranking.label, ranking.score)
    assert not equal_scores(np.array([0, 0, 1]), np.array([0.5, 0.4, 0.5]))
    assert ranking.ap(ties="best")[0, 0] == 1
    assert ranking.ap(ties="worst")[0, 0] == pytest.approx(2 / 3)
    assert ranking.ap()[0, 0] == pytest.approx(2 / 3)
    kept = np.array([[False], [True], [True], [True]])
    assert ranking.ap(kept=kept)[0, 0] == 1
