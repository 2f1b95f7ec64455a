"""Localization from annotations to figures, on features drawn in the test."""

from pathlib import Path

import numpy as np
import pytest
import torch
from drawn import MemoryStore, World, action_world, at_hop, clips

from extract.errors import InputError
from pipelines.annotations import Annotations, Segment, VideoAnnotation
from pipelines.checkpoint import load_run
from pipelines.config import checked_settings
from pipelines.dataset import Example, Shelf, resampled
from pipelines.evaluation import evaluate
from pipelines.tasks import TASKS
from pipelines.tasks.localize import to_seconds, to_steps
from pipelines.training import train
from seqmodels.segments import Found

TASK = TASKS["localize"]
RNG = np.random.default_rng(0)
FAST = {"epochs": 12, "iterations": 0, "hidden": 32, "lr": 0.003, "batch": 2, "ema": 0.8}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return action_world(tmp_path_factory.mktemp("actions"))


@pytest.mark.parametrize("head", ["actionformer", "temporalmaxer"])
def test_finds_planted_actions(world: World, tmp_path: Path, head: str) -> None:
    settings = checked_settings(FAST, head)
    run = train("localize", world.store, annotations=world.path, out=tmp_path / "run", head=head, settings=settings)
    result = evaluate(tmp_path / "run", world.store, annotations=world.path)
    assert result["metrics"]["average_map"] >= 0.8
    assert result["metrics"] == run.record["result"]["metrics"]
    assert list(result["per_threshold"]) == ["0.30", "0.40", "0.50", "0.60", "0.70"]
    mean = np.mean(list(result["per_threshold"].values()))
    assert result["metrics"]["average_map"] == pytest.approx(mean)
    assert load_run(tmp_path / "run").head_name == head


def test_the_truth_itself_scores_one(world: World) -> None:
    examples = TASK.load(world.store, world.annotations, subset="validation")
    answers = [
        Found(item.target[:, :2], np.ones(len(item.target)), item.target[:, 2].astype(np.int64))
        for item in examples.items
    ]
    assert TASK.report(examples, answers, n_trained=3)["metrics"]["average_map"] == 1.0


def test_steps_and_seconds_are_inverse() -> None:
    centre_s = np.array([0.5, 1.0, 2.0, 4.0])
    assert to_steps(np.array([0.5, 1.5, 3.0]), centre_s).tolist() == [0, 1.5, 2.5]
    seconds = np.array([-3.0, 0.1, 0.7, 3.9, 9.0])
    np.testing.assert_allclose(to_seconds(to_steps(seconds, centre_s), centre_s), seconds)
    assert to_steps(np.array([2.0]), np.array([1.5])).tolist() == [0.5]


def test_a_window_keeps_segments_of_which_half_is_left() -> None:
    table = np.array([[0.0, 4.0, 0], [8.0, 12.0, 1], [17.0, 30.0, 2], [90.0, 95.0, 0]])
    example = Example("v", lambda: RNG.standard_normal((100, 3)), 0.5 + np.arange(100.0), table, 100.0)
    for _ in range(50):
        window = TASK.window(example, 10, RNG)  # type: ignore[attr-defined]
        start, stop = window.centre_s[0] - 0.5, window.centre_s[-1] + 0.5
        kept = [
            [max(a, start), min(b, stop), label]
            for a, b, label in table.tolist()
            if min(b, stop) - max(a, start) >= 0.5 * (b - a)
        ]
        assert window.target.tolist() == kept
        assert window.features.shape == (10, 3)


def test_long_sequences_are_learnt_in_windows(world: World) -> None:
    examples = TASK.load(world.store, world.annotations, subset="training")
    settings = checked_settings({"max_steps": 20, "batch": 4})
    lengths = [batch.features.shape[1] for _, batch in TASK.batches(examples, settings, RNG)]  # type: ignore[attr-defined]
    assert lengths == [20, 20, 20]


def test_other_strides_come_onto_one_grid() -> None:
    ramp = np.arange(40.0)[:, None] * np.ones(4)
    store = MemoryStore({"a": clips(ramp), "b": at_hop(clips(ramp / 4), 0.25)})  # both show when their clip begins
    for video_id, half_s in (("a", 0.5), ("b", 0.125)):
        _, centre_s, read = Shelf(store, step_s=0.5).take(video_id)
        assert np.allclose(np.diff(centre_s), 0.5)
        np.testing.assert_allclose(read()[:, 0], centre_s - half_s, atol=1e-5)


def test_resampling_stays_within_its_ends() -> None:
    values = resampled(np.array([[0.0], [2.0]], np.float32), np.array([1.0, 3.0]), np.array([0.0, 1.0, 2.5, 9.0]))
    assert values[:, 0].tolist() == [0, 0, 1.5, 2]
    lone = resampled(np.array([[7.0]], np.float16), np.array([1.0]), np.array([0.0, 5.0]))
    assert lone[:, 0].tolist() == [7, 7]
    assert lone.dtype == np.float16


def test_what_does_not_fit_in_memory_is_read_again(world: World) -> None:
    reads = []

    class Counting(MemoryStore):
        def __getitem__(self, video_id: str, /) -> object:  # type: ignore[override]
            reads.append(video_id)
            return super().__getitem__(video_id)

    shelf = Shelf(Counting(world.store.videos), room=5000)  # one video of 64 x 16 float32
    first, second = shelf.take("0.mp4")[2], shelf.take("1.mp4")[2]
    for _ in range(3):
        np.testing.assert_array_equal(first(), world.store["0.mp4"].features)
        np.testing.assert_array_equal(second(), world.store["1.mp4"].features)
    assert reads == ["0.mp4"] + ["1.mp4"] * 4


def test_frames_in_place_of_seconds_are_refused(world: World) -> None:
    def in_frames(video: VideoAnnotation) -> VideoAnnotation:
        rows = (Segment(each.label, 25 * each.start_s + 40, 25 * each.stop_s + 40) for each in video.segments)
        return VideoAnnotation(video.video_id, 1e6, video.subset, tuple(rows))

    with pytest.raises(InputError, match=r"segments end after their video in the store does: .*Are they frames"):
        TASK.load(world.store, Annotations.of(map(in_frames, world.annotations.videos)), subset="training")


def test_classes_without_training_or_truth_are_named(world: World) -> None:
    annotations = Annotations.of(
        [VideoAnnotation("12.mp4", 32.0, "validation", (Segment("action 0", 1, 2), Segment("never seen", 3, 4)))]
    )
    examples = TASK.load(world.store, annotations, subset="validation", classes=["action 0", "action 1"])
    found = Found(np.array([[1.0, 2.0]]), np.array([0.5]), np.array([0]))
    result = TASK.report(examples, [found], n_trained=2)
    assert result["per_class"] == {"action 0": {"ap": 1.0}, "action 1": {"ap": None}, "never seen": {"ap": 0.0}}
    assert result["metrics"]["average_map"] == 0.5
    assert any("1 classes have no positives here" in note and "action 1" in note for note in result["notes"])
    assert any("1 classes were not in the training data" in note and "never seen" in note for note in result["notes"])


@pytest.mark.parametrize(("duration_s", "kept"), [(60.0, 200), (1200.0, 200), (6000.0, 1000)])
def test_long_videos_keep_more_segments(duration_s: float, kept: int) -> None:
    class Everything(torch.nn.Linear):
        """Finds a segment on each of a thousand steps."""

        def find(self, features: torch.Tensor) -> Found:
            at = np.arange(len(features), dtype=np.float64)
            return Found(np.column_stack((at, at + 0.5)), np.full(len(at), 0.9), np.zeros(len(at), np.int64))

    centre_s = duration_s / 1000 * (0.5 + np.arange(1000))
    example = Example("v", lambda: np.zeros((1000, 2), np.float32), centre_s, None, duration_s)
    assert len(TASK.answer(Everything(1, 1), example).scores) == kept
