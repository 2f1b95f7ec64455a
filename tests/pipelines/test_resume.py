"""A training that was killed goes on to the same weights; several seeds; early stopping; the mean of the weights."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn import World, action_world, label_world

from extract.errors import InputError, UsageError
from pipelines import resume
from pipelines.config import TrainSettings, checked_settings
from pipelines.evaluation import evaluate
from pipelines.fitting import Progress
from pipelines.seeds import train_seeds
from pipelines.tasks import TASKS
from pipelines.training import train

SETTINGS = TrainSettings(epochs=6, hidden=16, ema=0.9, patience=5)


class Killed(BaseException):
    """Like a signal: nothing may catch it."""


def kill_after(epoch: int) -> Any:
    def on_progress(progress: Progress) -> None:
        if progress.epoch == epoch:
            raise Killed

    return on_progress


def kill_second(number: int, _progress: Progress) -> None:
    if number == 1:
        raise Killed


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return label_world(tmp_path_factory.mktemp("label"), training=6, validation=3)


@pytest.fixture(autouse=True)
def save_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "EVERY_S", 0.0)


@pytest.mark.parametrize("epoch", [1, 4])
def test_killed_and_called_again_gives_the_same_run(world: World, tmp_path: Path, epoch: int) -> None:
    train("label", world.store, annotations=world.path, out=tmp_path / "whole", settings=SETTINGS)
    asked: dict[str, Any] = {"annotations": world.path, "out": tmp_path / "run", "settings": SETTINGS}
    with pytest.raises(Killed):
        train("label", world.store, on_progress=kill_after(epoch), **asked)
    assert not (tmp_path / "run").exists()
    seen: list[int] = []
    train("label", world.store, on_progress=lambda progress: seen.append(progress.epoch), **asked)
    assert seen[0] == epoch  # the epoch that was killed after its end, before it was saved, is done again
    for name in ("head.safetensors", "metrics.jsonl"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "whole"]


def test_another_training_to_the_same_place_is_refused(world: World, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(
            "label",
            world.store,
            annotations=world.path,
            out=tmp_path / "run",
            settings=SETTINGS,
            on_progress=kill_after(3),
        )
    other = SETTINGS.model_copy(update={"lr": 0.5})
    with pytest.raises(
        UsageError,
        match=r"another training to this place was interrupted:\n  lr: 0.01 then, 0.5 now\n.*remove .*\.run\.training",
    ):
        train("label", world.store, annotations=world.path, out=tmp_path / "run", settings=other)


class Still:
    """A loop that has nothing to keep but its epoch."""

    device = torch.device("cpu")
    epoch = 1

    def state(self) -> dict[str, Any]:
        return {"epoch": self.epoch}

    def restore(self, state: Any) -> None:
        self.epoch = state["epoch"]


def test_a_kill_while_it_saves_leaves_what_was_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = {"lr": 0.1}
    kept = resume.Resume(tmp_path / "run", key)
    kept.save(Still())

    def killed(path: Path, *_args: object) -> None:
        path.open("w").close()
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", killed)
        with pytest.raises(Killed):
            kept.save(Still())
    again = Still()
    again.epoch = 0
    assert resume.Resume(tmp_path / "run", key).load(again) == 1


def test_what_nobody_can_tell_is_said(tmp_path: Path) -> None:
    resume.Resume(tmp_path / "run", {"lr": 0.1}).save(Still())
    kept = tmp_path / ".run.training" / resume.KEY_FILE
    for content in ("", "[1]"):
        kept.write_text(content)
        with pytest.raises(UsageError, match=r"training.json: cannot be read .* remove .*\.run\.training"):
            resume.Resume(tmp_path / "run", {"lr": 0.1})
    kept.unlink()
    (kept.parent / resume.STATE_FILE).unlink()
    resume.Resume(tmp_path / "run", {"lr": 0.1})


def test_seeds_have_a_mean_and_a_spread(world: World, tmp_path: Path) -> None:
    fast = TrainSettings(epochs=2, hidden=8)
    asked: dict[str, Any] = {"annotations": world.path, "out": tmp_path / "runs", "settings": fast, "seeds": 3}
    with pytest.raises(Killed):
        train_seeds("label", world.store, on_progress=kill_second, **asked)
    summary = train_seeds("label", world.store, **asked)
    each = [json.loads((tmp_path / "runs" / name / "run.json").read_text()) for name in summary["runs"]]
    assert [record["seed"] for record in each] == [0, 1, 2]
    maps = [record["result"]["metrics"]["map"] for record in each]
    assert len(set(maps)) == 3
    result = evaluate(tmp_path / "runs", world.store, annotations=world.path)
    assert result == summary["result"]
    assert result["metrics"]["map"] == pytest.approx(np.mean(maps))
    assert result["spread"]["map"] == pytest.approx(np.std(maps, ddof=1))
    with pytest.raises(UsageError, match="was trained with another settings than asked for now"):
        train_seeds("label", world.store, **{**asked, "settings": TrainSettings(epochs=3, hidden=8)})


def test_seeds_need_a_place_of_their_own(world: World, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="exists and is not a run"):
        train_seeds("label", world.store, annotations=world.path, out=tmp_path, seeds=2)
    with pytest.raises(UsageError, match="--seeds is 1; expected at least 2"):
        train_seeds("label", world.store, annotations=world.path, out=tmp_path / "new", seeds=1)
    (tmp_path / "seeds.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        evaluate(tmp_path, world.store, annotations=world.path)


def test_patience_keeps_the_best_weights_and_says_so(world: World, tmp_path: Path) -> None:
    settings = TrainSettings(epochs=60, hidden=16, lr=0.05, patience=2)
    run = train("label", world.store, annotations=world.path, out=tmp_path / "run", settings=settings)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    maps = [line["validation"]["map"] for line in lines]
    assert len(lines) < 60
    assert int(np.argmax(maps)) == len(maps) - 3
    assert run.record["result"]["metrics"]["map"] == pytest.approx(max(maps))
    assert "its figures there flatter it" in (tmp_path / "run" / "README.md").read_text()


def test_the_mean_of_the_weights_is_another_head(world: World, tmp_path: Path) -> None:
    weights = []
    for name, ema in (("a", 0.0), ("b", 0.99)):
        settings = TrainSettings(epochs=3, hidden=8, ema=ema)
        train("label", world.store, annotations=world.path, out=tmp_path / name, settings=settings)
        weights.append((tmp_path / name / "head.safetensors").read_bytes())
    assert weights[0] != weights[1]


def test_bf16_learns_too(world: World, tmp_path: Path) -> None:
    settings = TrainSettings(epochs=30, hidden=16, bf16=True)
    run = train("label", world.store, annotations=world.path, out=tmp_path / "run", settings=settings)
    assert run.record["result"]["metrics"]["map"] >= 0.6


def test_curves_are_a_picture(world: World, tmp_path: Path) -> None:
    train(
        "label", world.store, annotations=world.path, out=tmp_path / "run", settings=TrainSettings(epochs=5, hidden=8)
    )
    text = (tmp_path / "run" / "curves.svg").read_text()
    assert text.lstrip().startswith("<?xml")
    for word in ("epoch", "training loss", "map", "accuracy"):
        assert f">{word}<" in text


def test_features_that_are_waited_for_are_counted(tmp_path: Path) -> None:
    world = action_world(tmp_path, training=4, validation=2)
    settings = checked_settings({"epochs": 1, "iterations": 0, "hidden": 16}, "temporalmaxer")
    asked: dict[str, Any] = {"annotations": world.path, "out": tmp_path / "run", "settings": settings}
    run = train("localize", world.store, head="temporalmaxer", **asked)
    assert 0 <= run.record["waiting_for_features_s"] <= run.record["seconds"]


def test_another_store_s_features_do_not_go_on(world: World, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(
            "label",
            world.store,
            annotations=world.path,
            out=tmp_path / "run",
            settings=SETTINGS,
            on_progress=kill_after(3),
        )
    other = replace(world.store, recipe_digest="d2")
    with pytest.raises(UsageError, match="recipe_digest: 'd1' then, 'd2' now"):
        train("label", other, annotations=world.path, out=tmp_path / "run", settings=SETTINGS)


def test_tensorboard_is_told_of_every_epoch(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from pipelines.tensorboard import with_tensorboard

    seen: list[int] = []
    follow = with_tensorboard(tmp_path, lambda _, now: seen.append(now.epoch))
    for epoch, value in ((1, None), (2, 0.5)):
        follow(0, Progress(epoch, 2, 1 / epoch, "map", value))
    found = accumulator.EventAccumulator(str(tmp_path / "seed-0")).Reload()
    assert [(each.step, each.value) for each in found.Scalars("loss")] == [(1, 1.0), (2, 0.5)]
    assert [(each.step, each.value) for each in found.Scalars("map")] == [(2, 0.5)]
    assert seen == [1, 2]


def test_few_videos_are_shown_more_often(world: World, tmp_path: Path) -> None:
    settings = TrainSettings(epochs=2, batch=4, hidden=8, iterations=9)  # two batches of six videos
    run = train("label", world.store, annotations=world.path, out=tmp_path / "run", settings=settings)
    assert run.record["epochs"] == 5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("task", ["label", "localize"])
def test_a_gpu_gives_nearly_the_same(task: str, tmp_path: Path) -> None:
    world = action_world(tmp_path, training=6, validation=3)
    found = []
    for device in ("cpu", "cuda"):
        run = train(task, world.store, annotations=world.path, out=tmp_path / device, device=device)
        assert run.record["device"] == device
        found.append(run.record["result"]["metrics"][TASKS[task].metric])
    assert abs(found[0] - found[1]) < 0.1
