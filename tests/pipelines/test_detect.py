"""Detection with a feature bank, from AVA's files to frame mAP, on features drawn in the test."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from drawn import MemoryStore, clips
from numpy.typing import NDArray

from extract.errors import InputError
from pipelines.annotations import Annotations, Segment, VideoAnnotation
from pipelines.annotations.ava import AvaVideo, BoxScores
from pipelines.config import TrainSettings, checked_settings
from pipelines.dataset import Example
from pipelines.evaluation import evaluate
from pipelines.tasks import TASKS
from pipelines.tasks.detect import _people
from pipelines.training import train
from seqmodels import DETECTORS, HeadSpec

TASK = TASKS["detect"]
WIDTH = 12
CLASSES = ("signal", "answer after signal", "answer alone")


@dataclass(frozen=True)
class People:
    """Boxes of one video in a store."""

    features: NDArray[np.float32]
    second: NDArray[np.float64]
    box: NDArray[np.float32]
    box_score: NDArray[np.float32]

    @property
    def start_s(self) -> NDArray[np.float64]:
        return self.second - 0.5

    @property
    def stop_s(self) -> NDArray[np.float64]:
        return self.second + 0.5

    @property
    def damaged(self) -> NDArray[np.bool_]:
        return np.zeros(len(self.second), np.bool_)

    @property
    def duration_s(self) -> float:
        return 60.0


@dataclass(frozen=True)
class BoxStore:
    videos: dict[str, People]
    recipe: dict[str, object] = field(default_factory=lambda: {"backbone": "drawn", "pooling": "roi"})
    recipe_digest: str = "d1"

    def __iter__(self) -> Iterator[str]:
        return iter(self.videos)

    def __getitem__(self, video_id: str, /) -> People:
        return self.videos[video_id]


def memory_world(folder: Path, *, training: int = 24, validation: int = 12) -> BoxStore:
    """Answers at seconds 40 to 44 of an actor whose look is the same with and without the signal of another at second
    20; at the other seconds somebody idles whom nobody annotated.
    """
    rng = np.random.default_rng(0)
    looks = 3 * rng.standard_normal((3, WIDTH))  # idle, signal, answer
    videos, rows = {}, {"train": [], "val": []}  # type: dict[str, People], dict[str, list[str]]
    for number in range(training + validation):
        name, subset = f"v{number}", "train" if number < training else "val"
        signalled = number % 2 == 0
        second, kind, box = [], [], []
        for at in range(60):
            place = rng.uniform(0.1, 0.4, 2)
            corners = np.round((*place, *(place + 0.3)), 3)
            what = 1 if at == 20 and signalled else 2 if 40 <= at < 45 else 0
            second.append(float(at))
            kind.append(what)
            box.append(corners + rng.uniform(-0.01, 0.01, 4))
            if what:
                action = 1 if what == 1 else 2 if signalled else 3
                rows[subset].append(f"{name},{at:04d},{','.join(map(str, corners))},{action},1")
        features = looks[kind] + rng.standard_normal((60, WIDTH))
        videos[f"{name}.mp4"] = People(
            features.astype(np.float32),
            np.array(second),
            np.array(box, np.float32).clip(0, 1),
            rng.uniform(0.5, 1, 60).astype(np.float32),
        )
    for subset, lines in rows.items():
        (folder / f"ava_{subset}.csv").write_text("\n".join(lines) + "\n")
    items = (f'item {{ name: "{name}" id: {number} }}' for number, name in enumerate(CLASSES, start=1))
    (folder / "actions.pbtxt").write_text("\n".join(items))
    return BoxStore(videos)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[BoxStore, Path]:
    folder = tmp_path_factory.mktemp("ava")
    return memory_world(folder), folder


SIZES = {"epochs": 25, "hidden": 32, "lr": 0.003, "batch": 16}


def trained(world: tuple[BoxStore, Path], out: Path, head: str) -> float:
    store, folder = world
    settings = checked_settings(SIZES, head)
    run = train("detect", store, annotations=folder, out=out, head=head, settings=settings)
    result = evaluate(out, store, annotations=folder / "ava_train.csv")  # the file beside it is found
    assert result["metrics"] == run.record["result"]["metrics"]
    assert result["protocol"] == "detect"
    assert list(result["per_class"]) == list(CLASSES)
    figure: float = result["metrics"]["map"]
    return figure


def test_only_a_bank_tells_what_was_before(world: tuple[BoxStore, Path], tmp_path: Path) -> None:
    without = trained(world, tmp_path / "none", "bank-none")
    for head in ("bank-nonlocal", "bank-max"):
        assert trained(world, tmp_path / head, head) >= without + 0.1
    assert without <= 0.8


def test_stored_boxes_learn_what_the_annotated_one_does(world: tuple[BoxStore, Path]) -> None:
    store, folder = world
    examples = TASK.load(store, TASK.read(folder), subset="training")
    first, second = examples.items[0].target, examples.items[1].target
    assert first.rows.tolist() == [20, 40, 41, 42, 43, 44]
    assert first.actions.tolist() == [[True, False, False]] + [[False, True, False]] * 5
    assert second.actions.tolist() == [[False, False, True]] * 5
    assert examples.classes == CLASSES
    assert not any("stored box" in note for note in examples.notes)


def test_the_truth_itself_scores_one(world: tuple[BoxStore, Path]) -> None:
    store, folder = world
    examples = TASK.load(store, TASK.read(folder), subset="validation")
    answers = []
    for item in examples.items:
        rows, actions = item.target.rows, item.target.actions.astype(np.float32)
        answers.append(BoxScores(item.centre_s[rows], item.target.box[rows], actions))
    assert TASK.report(examples, answers, n_trained=3)["metrics"]["map"] == 1.0


def test_batches_are_the_same_boxes_whatever_the_order_of_videos(world: tuple[BoxStore, Path]) -> None:
    store, folder = world
    examples = TASK.load(store, TASK.read(folder), subset="training", settings=TrainSettings(bank_s=4.0))
    settings = TrainSettings(batch=7, bank_s=4.0)
    batches = list(TASK.batches(examples, settings, np.random.default_rng(1)))
    assert len(batches) == TASK.n_batches(examples, settings)
    assert sum(size for size, _ in batches) == sum(len(item.target.rows) for item in examples.items)
    for _, batch in batches:
        assert batch.mask.sum(dim=1).max() <= 5  # type: ignore[attr-defined]  # two seconds to each side
        assert batch.offset_s[batch.mask].abs().max() <= 2  # type: ignore[attr-defined]
        same = batch.mask & (batch.offset_s == 0)  # type: ignore[attr-defined]
        for roi, bank, own in zip(batch.roi, batch.bank, same, strict=True):  # type: ignore[attr-defined]
            assert (bank[own] == roi).all()


def test_missed_boxes_and_strange_ids_are_said(world: tuple[BoxStore, Path], tmp_path: Path) -> None:
    store, folder = world
    videos = dict(store.videos)
    whole = videos.pop("v24.mp4")
    videos["elsewhere.mp4"] = whole
    lone = videos["v25.mp4"]
    videos["v25.mp4"] = People(lone.features[:41], lone.second[:41], lone.box[:41], lone.box_score[:41])
    notes = TASK.load(BoxStore(videos), TASK.read(folder), subset="validation").notes
    assert any(
        "1 videos of subset 'validation' are annotated but not in the store" in note and "v24" in note for note in notes
    )
    assert any("1 videos are in the store but not annotated" in note and "elsewhere.mp4" in note for note in notes)
    assert any(note.startswith("4 of 60 annotated boxes have no stored box over them") for note in notes)


def test_features_of_clips_are_refused(world: tuple[BoxStore, Path]) -> None:
    store = MemoryStore({f"v{number}.mp4": clips(np.ones((4, WIDTH))) for number in range(36)})
    with pytest.raises(InputError, match=r"features of whole clips; expected features of boxes\. Extract with --boxes"):
        TASK.load(store, TASK.read(world[1]), subset="training")


def test_features_of_boxes_are_refused_by_the_others(world: tuple[BoxStore, Path]) -> None:
    store, _ = world
    annotations = Annotations.of([VideoAnnotation("v0", 60.0, "training", (Segment("answer", 40, 45),))])
    for task in ("classify", "label", "localize"):
        with pytest.raises(InputError, match="features of boxes; expected features of whole clips"):
            TASKS[task].load(store, annotations, subset="training")


def test_other_classes_than_the_head_s_are_refused(world: tuple[BoxStore, Path]) -> None:
    store, folder = world
    with pytest.raises(InputError, match="the head was trained on walk; expected the same classes"):
        TASK.load(store, TASK.read(folder), subset="validation", classes=["walk"])


def test_poses_exclude_each_other(world: tuple[BoxStore, Path], tmp_path: Path) -> None:
    store, _ = world
    folder = tmp_path / "ava"
    folder.mkdir()
    for path in world[1].iterdir():
        text = path.read_text().replace('signal"', 'sit"').replace("answer alone", "stand")
        (folder / path.name).write_text(text)
    settings = checked_settings({**SIZES, "epochs": 1}, "bank-none")
    run = train("detect", store, annotations=folder, out=tmp_path / "run", head="bank-none", settings=settings)
    assert run.head.exclusive.tolist() == [True, False, True]
    example = TASK.load(store, TASK.read(folder), subset="validation").items[0]
    scores = TASK.answer(run.head, example).score
    np.testing.assert_allclose(scores[:, 0] + scores[:, 2], 1, rtol=1e-5)


def test_a_video_without_boxes_is_answered_with_none() -> None:
    nothing = np.zeros((0, 4), np.float32)
    truth = AvaVideo(
        np.array([3.0]), np.ones((1, 4), np.float32), np.array([0]), np.array([1]), np.array([3.0]), np.zeros(0)
    )
    empty = People(np.zeros((0, WIDTH), np.float32), np.zeros(0), nothing, np.zeros(0, np.float32))
    example = Example("v", lambda: empty.features, empty.second, _people(empty, empty.second, truth, 3, 60.0), 60.0)
    head = DETECTORS["bank-nonlocal"](HeadSpec(width=WIDTH, n_classes=3, per_step=True, hidden=8)).eval()
    assert TASK.answer(head, example).score.shape == (0, 3)


def test_every_stored_box_is_answered_without_a_truth(world: tuple[BoxStore, Path]) -> None:
    store, _ = world
    clips, head = store["v0.mp4"], DETECTORS["bank-max"](HeadSpec(width=WIDTH, n_classes=3, per_step=True)).eval()
    bare = Example("v0.mp4", lambda: clips.features, clips.second, None, 60.0)
    example = TASK.unanswered(clips, bare, TrainSettings(), 3)
    answer = TASK.answer(head, example)
    said = TASK.said(answer, example, 0.5).boxes
    assert said is not None
    assert answer.score.shape == (60, 3)
    assert len(said.scores) == (answer.score >= 0.05).sum()
    assert set(said.second.tolist()) <= set(clips.second.tolist())
    rows = np.searchsorted(clips.second, said.second)
    np.testing.assert_array_equal(said.box, clips.box[rows])
    np.testing.assert_allclose(said.scores, answer.score[rows, said.labels])
    with pytest.raises(InputError, match="features of boxes; expected features of whole clips"):
        TASKS["label"].unanswered(clips, bare, TrainSettings(), 3)
