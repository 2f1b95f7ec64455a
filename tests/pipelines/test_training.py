"""Training, evaluation and saved runs together, on features drawn in the test."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from drawn import World, label_world, order_world

from extract.errors import InputError, RecipeMismatchError, UsageError
from pipelines.checkpoint import load_run
from pipelines.config import TrainSettings, checked_settings, settings_from
from pipelines.evaluation import evaluate
from pipelines.fitting import Progress
from pipelines.training import train


@pytest.fixture(scope="module")
def order(tmp_path_factory: pytest.TempPathFactory) -> World:
    return order_world(tmp_path_factory.mktemp("order"), 7, training=64, validation=100)


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> World:
    return label_world(tmp_path_factory.mktemp("label"))


@pytest.fixture(scope="module")
def lstm_run(order: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "lstm"
    train("classify", order.store, annotations=order.path, out=out)
    return out


FAST = TrainSettings(epochs=2)


def test_lstm_learns_the_order_of_far_events(order: World, lstm_run: Path) -> None:
    result = evaluate(lstm_run, order.store, annotations=order.path)
    assert result["metrics"]["accuracy"] >= 0.9
    assert result["metrics"]["map"] >= 0.95
    assert result["chance"] == {"accuracy": 0.5, "map": 0.5}
    assert result["notes"] == []


def test_mean_pooling_cannot(order: World, tmp_path: Path) -> None:
    run = train("classify", order.store, annotations=order.path, out=tmp_path / "mean", head="mean")
    assert evaluate(run, order.store, annotations=order.path)["metrics"]["accuracy"] <= 0.7


def test_labels_steps_far_above_chance(labels: World, tmp_path: Path) -> None:
    run = train("label", labels.store, annotations=labels.path, out=tmp_path / "run")
    result = evaluate(run, labels.store, annotations=labels.path)
    assert result["protocol"] == "label"
    assert result["metrics"]["map"] >= 0.9
    assert result["metrics"]["accuracy"] >= 0.9
    assert result["chance"]["map"] <= 0.3
    assert set(result["per_class"]) == {"kind 0", "kind 1", "kind 2", "kind 3"}


def test_run_folder(order: World, lstm_run: Path) -> None:
    assert {path.name for path in lstm_run.iterdir()} == {
        "head.safetensors", "run.json", "metrics.jsonl", "README.md", "curves.svg"
    }  # fmt: skip
    assert list(lstm_run.parent.iterdir()) == [lstm_run]
    record = json.loads((lstm_run / "run.json").read_text())
    assert record["recipe"] == {"backbone": "drawn", "hop": 16}
    assert len(record["training_videos"]) == 64
    assert record["result"]["metrics"] == evaluate(lstm_run, order.store, annotations=order.path)["metrics"]
    epochs = [json.loads(line) for line in (lstm_run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in epochs] == list(range(1, TrainSettings().epochs + 1))
    assert epochs[-1]["loss"] < epochs[0]["loss"]
    assert epochs[-1]["validation"] == record["result"]["metrics"]
    assert "(chance 0.500)" in (lstm_run / "README.md").read_text()


def test_loaded_run_is_complete(lstm_run: Path) -> None:
    run = load_run(lstm_run)
    assert (run.task, run.head_name, run.recipe_digest) == ("classify", "lstm", "d1")
    assert run.classes == ("first then second", "second then first")
    assert run.settings == TrainSettings()
    assert not run.head.training


def test_same_seed_same_weights_other_seed_others(labels: World, tmp_path: Path) -> None:
    weights = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train("label", labels.store, annotations=labels.path, out=tmp_path / name, settings=FAST, seed=seed)
        weights.append((tmp_path / name / "head.safetensors").read_bytes())
        torch.rand(3)
    assert weights[0] == weights[1] != weights[2]


def test_training_leaves_torch_s_seed_alone(labels: World, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    train("label", labels.store, annotations=labels.path, out=tmp_path / "run", settings=FAST)
    assert torch.equal(torch.rand(1), expected)


def test_reports_progress(labels: World, tmp_path: Path) -> None:
    seen: list[Progress] = []
    train("label", labels.store, annotations=labels.path, out=tmp_path / "run", settings=FAST, on_progress=seen.append)
    assert [(each.epoch, each.epochs) for each in seen] == [(1, 2), (2, 2)]


def test_without_validation_videos(labels: World, tmp_path: Path) -> None:
    run = train("label", labels.store, annotations=labels.path, out=tmp_path / "run", settings=FAST, subset="testing")
    assert run.record["result"] is None
    assert "no such subset" in (tmp_path / "run" / "README.md").read_text()
    with pytest.raises(InputError, match=r"subset 'testing'; the annotations have 'training', 'validation'"):
        evaluate(run, labels.store, annotations=labels.path, subset="testing")


def test_refuses_features_of_another_recipe(order: World, lstm_run: Path) -> None:
    other = replace(order.store, recipe={"backbone": "drawn", "hop": 8}, recipe_digest="d2")
    with pytest.raises(RecipeMismatchError, match=r"hop: 8 in the store, 16 in the run"):
        evaluate(lstm_run, other, annotations=order.path)


@pytest.mark.parametrize(
    ("task", "head", "message"),
    [
        ("clasify", "lstm", "'clasify' is not a task; there are classify, label, localize"),
        ("classify", "ms-tcn", "the head 'ms-tcn' is for label, not for classify; there are mean, max,"),
        ("localize", "lstm", "the head 'lstm' is for classify and label, not for localize; there are actionformer,"),
        (
            "label",
            "lstn",
            "no head is named 'lstn'; there are mean, max, linear, svm, attention-pool, netvlad, lstm, gru, attention,"
            " ms-tcn",
        ),
    ],
)
def test_refuses_unknown_tasks_and_heads(labels: World, tmp_path: Path, task: str, head: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        train(task, labels.store, annotations=labels.path, out=tmp_path / "run", head=head)


def test_refuses_a_place_that_is_taken(labels: World, lstm_run: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for out, message in ((lstm_run, "holds a run already"), (tmp_path, "exists and is not a run")):
        with pytest.raises(UsageError, match=message):
            train("label", labels.store, annotations=labels.path, out=out)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_broken_runs_are_refused(lstm_run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a run"):
        load_run(tmp_path)
    for name in ("run.json", "head.safetensors"):
        (tmp_path / name).write_bytes((lstm_run / name).read_bytes()[:-100])
    with pytest.raises(InputError, match="is not a run"):
        load_run(tmp_path)
    (tmp_path / "run.json").write_bytes((lstm_run / "run.json").read_bytes())
    with pytest.raises(InputError, match="the run cannot be read"):
        load_run(tmp_path)


def test_divergence_is_the_settings_fault(labels: World, tmp_path: Path) -> None:
    wild = checked_settings({"lr": 1e30, "clip_norm": 1e30})
    with pytest.raises(UsageError, match=r"training diverged.*smaller"):
        train("label", labels.store, annotations=labels.path, out=tmp_path / "r", settings=wild)
    assert not (tmp_path / "r").exists()


def test_settings() -> None:
    assert settings_from(["epochs=7", "lr = 0.5"]) == TrainSettings(epochs=7, lr=0.5)
    with pytest.raises(UsageError, match=r"no setting is named 'epoch'; did you mean 'epochs'\?"):
        settings_from(["epoch=7"])
    with pytest.raises(UsageError, match="no setting is named 'zzz'; there are epochs, batch"):
        checked_settings({"zzz": 1})
    with pytest.raises(UsageError, match=r"setting epochs is '0'; expected: .*greater than or equal to 1"):
        settings_from(["epochs=0"])
    with pytest.raises(UsageError, match="has no '='"):
        settings_from(["epochs"])
