import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from seqmodels.metrics import any_label_accuracy, average_precision, per_class_ap, top_1_accuracy


def test_worked_example() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6])
    positives = np.array([True, False, True, False])
    assert average_precision(scores, positives) == pytest.approx((1 / 1 + 2 / 3) / 2)


@given(
    st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=60).filter(
        lambda rows: any(positive for _, positive in rows)
    )
)
def test_equals_scikit_learn_with_ties(rows: list[tuple[int, bool]]) -> None:
    scores = np.array([score / 7 for score, _ in rows])
    positives = np.array([positive for _, positive in rows])
    expected = average_precision_score(positives, scores)
    assert average_precision(scores, positives) == pytest.approx(expected, abs=1e-12)


def test_ties_do_not_depend_on_the_order_of_samples() -> None:
    scores, positives = np.zeros(4), np.array([True, False, False, False])
    assert average_precision(scores, positives) == average_precision(scores, positives[::-1]) == 0.25


def test_no_positive_is_undefined_and_not_in_the_mean() -> None:
    positives = np.array([[True, False], [False, False]])
    scores = np.array([[0.1, 0.5], [0.2, 0.5]])
    assert per_class_ap(scores, positives) == (0.5, [0.5, None])
    assert per_class_ap(scores, np.zeros((2, 2), dtype=np.bool_)) == (None, [None, None])


def test_minus_infinity_ranks_last_and_nan_is_refused() -> None:
    positives = np.array([True, False])
    assert average_precision(np.array([-np.inf, 0.0]), positives) == 0.5
    with pytest.raises(ValueError, match="NaN"):
        average_precision(np.array([np.nan, 0.0]), positives)
    with pytest.raises(ValueError, match=r"expected two equal"):
        average_precision(np.zeros(3), positives)


def test_accuracies() -> None:
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]])
    assert top_1_accuracy(scores, np.array([0, 1, 1])) == pytest.approx(2 / 3)
    positives = np.array([[True, True], [False, True], [False, False]])
    assert any_label_accuracy(scores, positives) == 0.5
    assert any_label_accuracy(scores[:0], positives[:0]) is None
    assert top_1_accuracy(scores[:0], np.zeros(0, dtype=np.int64)) is None
