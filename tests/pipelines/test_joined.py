"""Several stores as one, and linear heads by scikit-learn."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn import Clips, MemoryStore, World, at_hop, clips, label_world, order_world
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from extract.errors import InputError, RecipeMismatchError
from pipelines.config import checked_settings
from pipelines.evaluation import evaluate
from pipelines.joined import JoinedStore
from pipelines.tasks import TASKS
from pipelines.training import train


def damaged_at(found: Clips, step: int) -> Clips:
    found.damaged[step] = True
    return found


def test_features_of_the_second_are_taken_at_the_first_one_s_seconds() -> None:
    seconds = np.arange(8.0)[:, None]
    first = MemoryStore({"a": clips(seconds), "only here": clips(seconds)})  # centres at 0.5, 1.5 …
    second = MemoryStore({"a": damaged_at(at_hop(clips(np.repeat(seconds, 2, axis=1)), 2.0), 1)})  # at 1, 3, …
    joined = JoinedStore([first, second])
    assert list(joined) == ["a"]
    found = joined["a"]
    assert found.features.shape == (8, 3)
    np.testing.assert_allclose(found.features[:, 0], np.arange(8))
    np.testing.assert_allclose(found.features[:, 1], ((np.arange(8) + 0.5) / 2 - 0.5).clip(0))
    assert found.damaged.tolist() == [False, False, True, True, False, False, False, False]
    assert joined.recipe_digest not in (first.recipe_digest, second.recipe_digest)


def test_stores_of_other_videos_are_refused() -> None:
    one, other = MemoryStore({"a": clips(np.ones((2, 1)))}), MemoryStore({"b": clips(np.ones((2, 1)))})
    with pytest.raises(InputError, match="no video in common"):
        JoinedStore([one, other])


def test_a_run_on_two_streams_wants_both(tmp_path: Path) -> None:
    world = label_world(tmp_path, training=4, validation=2)
    joined = JoinedStore([world.store, world.store])
    settings = checked_settings({"epochs": 1, "hidden": 8})
    train("label", joined, annotations=world.path, out=tmp_path / "run", settings=settings)
    assert evaluate(tmp_path / "run", joined, annotations=world.path)["metrics"]["map"] is not None
    with pytest.raises(RecipeMismatchError, match="store 2"):
        evaluate(tmp_path / "run", world.store, annotations=world.path)


@pytest.fixture(scope="module")
def order(tmp_path_factory: pytest.TempPathFactory) -> World:
    return order_world(tmp_path_factory.mktemp("order"), 3, training=30, validation=12)


@pytest.mark.parametrize(("head", "model"), [("linear", LogisticRegression), ("svm", LinearSVC)])
def test_probes_are_scikit_learn_s(order: World, tmp_path: Path, head: str, model: Any) -> None:
    settings = checked_settings({"c": 0.1}, head)
    run = train("classify", order.store, annotations=order.path, out=tmp_path / "run", head=head, settings=settings)
    training, held_out = (
        TASKS["classify"].load(order.store, order.annotations, subset=subset) for subset in ("training", "validation")
    )
    steps = np.concatenate([item.features for item in training.items]).astype(np.float64)
    mean, scale = steps.mean(axis=0), steps.std(axis=0)

    def rows(examples: Any) -> Any:
        return np.stack([((item.features - mean) / scale).mean(axis=0) for item in examples.items])

    reference = model(C=0.1, max_iter=10_000).fit(rows(training), [int(item.target) for item in training.items])
    ours = np.stack([TASKS["classify"].answer(run.head, item) for item in held_out.items])
    np.testing.assert_allclose(ours[:, 1], reference.decision_function(rows(held_out)), atol=2e-2)
    np.testing.assert_allclose(ours[:, 0], -ours[:, 1], atol=2e-2)
    assert run.record["epochs"] is None
    assert not (tmp_path / "run" / "curves.svg").exists()


@pytest.mark.parametrize("head", ["linear", "svm"])
def test_probes_label_steps(tmp_path: Path, head: str) -> None:
    world = label_world(tmp_path, training=6, validation=4)
    run = train("label", world.store, annotations=world.path, out=tmp_path / "run", head=head)
    assert run.record["result"]["metrics"]["map"] >= 0.8
    again = train("label", world.store, annotations=world.path, out=tmp_path / "again", head=head, seed=5)
    for name, values in run.head.state_dict().items():
        assert torch.equal(values, again.head.state_dict()[name]), name
