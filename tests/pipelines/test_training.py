"""Training, evaluation and saved runs together, on features drawn in the test."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from extract.errors import InputError, RecipeMismatchError, UsageError
from pipelines.annotations import Annotations, Segment, VideoAnnotation, write_activitynet
from pipelines.checkpoint import load_run
from pipelines.config import TrainSettings, checked_settings, settings_from
from pipelines.evaluation import evaluate
from pipelines.fitting import Progress
from pipelines.training import train

KINDS, WIDTH, BACKGROUND = 16, 256, 2.0
SIGNAL = 3.3
"""Distance of an event's mean from the origin, in standard deviations of the noise: a linear probe of single
steps (logistic regression, 3,000 training steps, 16 kinds) reaches 87 %."""


@dataclass(frozen=True)
class Clips:
    features: NDArray[np.float32]
    start_s: NDArray[np.float64]
    stop_s: NDArray[np.float64]
    damaged: NDArray[np.bool_]
    duration_s: float


@dataclass(frozen=True)
class MemoryStore:
    videos: Mapping[str, Clips]
    recipe: Mapping[str, object] = field(default_factory=lambda: {"backbone": "drawn", "hop": 16})
    recipe_digest: str = "d1"

    def __iter__(self) -> Iterator[str]:
        return iter(self.videos)

    def __getitem__(self, video_id: str, /) -> Clips:
        return self.videos[video_id]


@dataclass(frozen=True)
class World:
    store: MemoryStore
    annotations: Annotations
    path: Path


def clips(features: NDArray[np.float64]) -> Clips:
    start_s = np.arange(len(features), dtype=np.float64)
    damaged = np.zeros(len(features), dtype=np.bool_)
    return Clips(features.astype(np.float32), start_s, start_s + 1, damaged, float(len(features)))


def drawn(kinds: NDArray[np.int64], means: NDArray[np.float64], rng: np.random.Generator) -> Clips:
    """Steps around the mean of their kind, each feature with another scale and offset; on top, a background
    that differs between videos, in a few directions and stronger than the events.
    """
    backgrounds = np.random.default_rng(99).standard_normal((20, means.shape[1])) / np.sqrt(means.shape[1])
    background = BACKGROUND * rng.standard_normal(20) @ backgrounds
    steps = SIGNAL * means[kinds] + background + rng.standard_normal((len(kinds), means.shape[1]))
    return clips(steps * np.linspace(0.5, 2, means.shape[1]) + np.linspace(-1, 1, means.shape[1]))


def unit_rows(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    rows = rng.standard_normal((count, WIDTH))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def order_kinds(reverse: bool, rng: np.random.Generator) -> NDArray[np.int64]:
    """Kind 0 in the first quarter and kind 1 in the last, or the reverse; others and idle steps between."""
    n_steps = int(rng.integers(15, 81))
    kinds = np.full(n_steps, KINDS)
    at = int(rng.integers(0, 4))
    while at < n_steps:
        length = int(rng.integers(2, 5))
        kinds[at : at + length] = rng.integers(2, KINDS)
        at += length + int(rng.integers(1, 6))
    quarter = n_steps // 4
    for kind, low in ((int(reverse), 0), (int(not reverse), n_steps - quarter)):
        length = int(rng.integers(2, 5))
        start = low + int(rng.integers(0, max(1, quarter - length + 1)))
        kinds[start : start + length] = kind
    return kinds


def order_world(folder: Path, seed: int, *, training: int, validation: int) -> World:
    rng = np.random.default_rng(seed)
    means = unit_rows(KINDS + 1, rng)
    videos, annotated = {}, []
    for number in range(training + validation):
        video = drawn(order_kinds(number % 2 == 1, rng), means, rng)
        videos[f"order/{number:03d}.mp4"] = video
        subset = "training" if number < training else "validation"
        label = ("first then second", "second then first")[number % 2]
        whole = (Segment(label, 0.0, video.duration_s),)
        annotated.append(VideoAnnotation(f"{number:03d}", video.duration_s, subset, whole))
    return written(folder, MemoryStore(videos), annotated)


def label_world(folder: Path, *, training: int = 12, validation: int = 8, kinds: int = 4) -> World:
    rng = np.random.default_rng(3)
    means = unit_rows(kinds + 1, rng)
    videos, annotated = {}, []
    for number in range(training + validation):
        steps = rng.integers(0, kinds + 1, 10).repeat(4)
        videos[f"{number}.mp4"] = drawn(steps, means, rng)
        segments = tuple(
            Segment(f"kind {steps[at]}", float(at), at + 4.0) for at in range(0, 40, 4) if steps[at] < kinds
        )
        subset = "training" if number < training else "validation"
        annotated.append(VideoAnnotation(f"{number}.mp4", 40.0, subset, segments))
    return written(folder, MemoryStore(videos), annotated)


def written(folder: Path, store: MemoryStore, annotated: list[VideoAnnotation]) -> World:
    annotations = Annotations.of(annotated)
    write_activitynet(annotations, folder / "annotations.json")
    return World(store, annotations, folder / "annotations.json")


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
