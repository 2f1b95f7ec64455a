"""Figures against scikit-learn, and what is said of classes without positives or without training."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, average_precision_score

from pipelines.dataset import Example, Examples
from pipelines.tasks import TASKS

RNG = np.random.default_rng(0)


def label_examples(*, classes: tuple[str, ...], empty: int | None = None) -> Examples:
    items = []
    for number in range(5):
        target = RNG.random((12, len(classes))) < 0.3
        if empty is not None:
            target[:, empty] = False
        items.append(Example(f"{number}", lambda: np.zeros((12, 2), np.float32), np.arange(12.0), target))
    return Examples(tuple(items), classes, ())


def test_label_figures_equal_scikit_learn() -> None:
    examples = label_examples(classes=("a", "b", "c"))
    scores = [RNG.standard_normal((12, 3)).astype(np.float32) for _ in range(5)]
    result = TASKS["label"].report(examples, scores, n_trained=3)
    truth, pooled = np.concatenate([item.target for item in examples.items]), np.concatenate(scores)
    expected = average_precision_score(truth, pooled, average=None)
    assert [each["ap"] for each in result["per_class"].values()] == pytest.approx(list(expected))
    assert result["metrics"]["map"] == pytest.approx(expected.mean())
    assert result["chance"]["map"] == pytest.approx(truth.mean())
    labelled = truth.any(axis=1)
    hits = truth[np.arange(60), pooled.argmax(axis=1)]
    assert result["metrics"]["accuracy"] == pytest.approx(hits[labelled].mean())


def test_classify_figures_equal_scikit_learn() -> None:
    targets = RNG.integers(0, 3, 40)
    items = [
        Example(str(i), lambda: np.zeros((1, 2), np.float32), np.zeros(1), np.asarray(t)) for i, t in enumerate(targets)
    ]
    scores = [RNG.standard_normal(3).astype(np.float32) for _ in items]
    result = TASKS["classify"].report(Examples(tuple(items), ("a", "b", "c"), ()), scores, n_trained=3)
    logits = np.stack(scores).astype(np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = average_precision_score(np.eye(3)[targets], probabilities, average=None)
    assert [each["ap"] for each in result["per_class"].values()] == pytest.approx(list(expected), abs=1e-6)
    assert result["metrics"]["accuracy"] == pytest.approx(accuracy_score(targets, logits.argmax(axis=1)))
    assert result["chance"]["accuracy"] == pytest.approx(np.bincount(targets).max() / 40)
    assert set(result) == {"protocol", "metrics", "chance", "per_threshold", "per_class", "notes"}


def test_class_without_positives_is_null_and_noted() -> None:
    examples = label_examples(classes=("a", "b"), empty=1)
    scores = [RNG.standard_normal((12, 2)).astype(np.float32) for _ in range(5)]
    result = TASKS["label"].report(examples, scores, n_trained=2)
    assert result["per_class"]["b"] == {"ap": None}
    assert result["metrics"]["map"] == result["per_class"]["a"]["ap"]
    assert result["notes"] == ["1 classes have no positives here and are not in the mean: b"]


def test_class_that_was_never_trained_stays_in_the_mean_at_chance() -> None:
    examples = label_examples(classes=("a", "new"))
    scores = [RNG.standard_normal((12, 1)).astype(np.float32) for _ in range(5)]
    result = TASKS["label"].report(examples, scores, n_trained=1)
    share = np.concatenate([item.target for item in examples.items])[:, 1].mean()
    assert result["per_class"]["new"]["ap"] == pytest.approx(share)
    assert result["notes"] == ["1 classes were not in the training data and score lowest: new"]
