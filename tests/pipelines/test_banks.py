import time

import numpy as np
import pytest

from pipelines.banks import bank_of


def test_worked_example() -> None:
    second = np.array([40.0, 0.0, 10.0, 10.0, 10.0, 71.0])
    score = np.array([0.9, 0.9, 0.5, 0.9, 0.7, 0.9], np.float32)
    slots = bank_of(second, score, np.array([10.0, 200.0]), per_second=2)
    assert slots.index.tolist() == [[1, 3, 4, 0], [0, 0, 0, 0]]
    assert slots.mask.tolist() == [[True] * 4, [False] * 4]
    assert slots.offset_s.tolist() == [[-10.0, 0.0, 0.0, 30.0], [0.0] * 4]
    assert slots.index.dtype == np.int64
    assert slots.offset_s.dtype == np.float32


def test_both_ends_of_the_window_belong_to_it() -> None:
    slots = bank_of(np.array([0.0, 30.0, 60.0, 60.1]), np.ones(4, np.float32), np.array([30.0]), window_s=60)
    assert slots.offset_s.tolist() == [[-30.0, 0.0, 30.0]]


def test_equals_the_loops() -> None:
    rng = np.random.default_rng(0)
    second, score = rng.uniform(0, 50, 400).round(1), rng.random(400).astype(np.float32)
    queries = rng.uniform(-5, 55, 30)
    slots = bank_of(second, score, queries, window_s=10, per_second=3)
    for q, query in enumerate(queries):
        chosen = []
        for whole in range(51):
            rows = [i for i in range(400) if np.floor(second[i]) == whole]
            best = sorted(rows, key=lambda i: -score[i])[:3]
            chosen += [i for i in best if abs(second[i] - query) <= 5]
        assert sorted(slots.index[q][slots.mask[q]]) == sorted(chosen)
        np.testing.assert_allclose(
            slots.offset_s[q][slots.mask[q]], second[slots.index[q][slots.mask[q]]] - query, 1e-5
        )


def test_random_choice_is_within_the_second_and_repeatable() -> None:
    second, score = np.repeat(np.arange(5.0), 20), np.arange(100, dtype=np.float32)
    drawn = [bank_of(second, score, np.array([2.0]), rng=np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert np.array_equal(drawn[0].index, drawn[1].index)
    assert not np.array_equal(drawn[0].index, drawn[2].index)
    assert np.bincount(second[drawn[0].index[0]].astype(int)).tolist() == [5] * 5


def test_nothing_to_choose_from() -> None:
    empty = bank_of(np.zeros(0), np.zeros(0, np.float32), np.array([1.0, 2.0]))
    assert empty.index.shape == empty.mask.shape == empty.offset_s.shape == (2, 0)
    assert bank_of(np.zeros(3), np.zeros(3, np.float32), np.zeros(0)).index.shape == (0, 0)


def test_a_day_of_boxes() -> None:
    rng = np.random.default_rng(0)
    second, score = np.sort(rng.integers(0, 30_000, 100_000)).astype(float), rng.random(100_000).astype(np.float32)
    began = time.perf_counter()
    slots = bank_of(second, score, second[:5_000])
    assert time.perf_counter() - began < 5
    assert slots.mask.sum(axis=1).min() > 50


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"expected \(N,\), \(N,\), \(Q,\)"):
        bank_of(np.zeros(3), np.zeros(2, np.float32), np.zeros(1))
    with pytest.raises(ValueError, match="not finite"):
        bank_of(np.array([np.nan]), np.zeros(1, np.float32), np.zeros(1))
