from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from extract.errors import InputError
from pipelines.annotations import Annotations, Segment, VideoAnnotation
from pipelines.config import TrainSettings
from pipelines.dataset import match_ids
from pipelines.tasks import TASKS


@dataclass(frozen=True)
class Clips:
    """Four overlapping clips of 2 s, one a second: centres at 1, 2, 3 and 4 s."""

    features: NDArray[np.float16] = field(default_factory=lambda: np.ones((4, 3), dtype=np.float16))
    start_s: NDArray[np.float64] = field(default_factory=lambda: np.arange(4.0))
    stop_s: NDArray[np.float64] = field(default_factory=lambda: np.arange(4.0) + 2)
    damaged: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(4, dtype=np.bool_))
    duration_s: float = 5.0


@dataclass(frozen=True)
class MemoryStore:
    videos: Mapping[str, Clips]
    recipe: Mapping[str, object] = field(default_factory=dict)
    recipe_digest: str = ""

    def __iter__(self) -> Iterator[str]:
        return iter(self.videos)

    def __getitem__(self, video_id: str, /) -> Clips:
        return self.videos[video_id]


def annotated(**videos: list[tuple[str, float, float]]) -> Annotations:
    return Annotations.of(
        VideoAnnotation(video_id, 5.0, "training", tuple(Segment(*row) for row in rows))
        for video_id, rows in videos.items()
    )


def test_step_is_positive_where_the_segment_holds_its_centre() -> None:
    annotations = annotated(v=[("run", 1.0, 3.0), ("jump", 2.5, 9.0), ("run", 4.0, 4.0)])
    examples = TASKS["label"].load(MemoryStore({"v": Clips()}), annotations, subset="training")
    assert examples.classes == ("jump", "run")
    assert examples.items[0].target.astype(int).T.tolist() == [[0, 0, 1, 1], [1, 1, 0, 0]]
    assert examples.items[0].features.dtype == np.float32
    assert examples.notes == (
        "1 segments end after their video does: v [2.5, 9] of 5.0 s",
        "1 segments hold the centre of no step (too short or too late) and label nothing: run (1)",
    )


def test_segments_in_another_unit_are_refused() -> None:
    annotations = annotated(v=[("run", 1000.0, 3000.0), ("jump", 2500.0, 4000.0), ("run", 0.0, 1.0)])
    with pytest.raises(InputError, match=r"2 of 3 segments end after .*v \[1000, 3000\] of 5.0 s.*milliseconds"):
        TASKS["label"].load(MemoryStore({"v": Clips()}), annotations, subset="training")


def test_classes_of_a_trained_head_come_first() -> None:
    annotations = annotated(v=[("run", 0, 5)])
    examples = TASKS["classify"].load(
        MemoryStore({"v": Clips()}), annotations, subset="training", classes=["walk", "jump"]
    )
    assert examples.classes == ("walk", "jump", "run")
    assert examples.items[0].target == 2


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", 0, 1), ("b", 2, 3)], r"'v' has 2 labels \(a, b\); classify needs exactly one a video"),
        ([], r"'v' has 0 labels \(none\)"),
    ],
)
def test_classify_needs_one_label_a_video(rows: list[tuple[str, float, float]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TASKS["classify"].load(MemoryStore({"v": Clips()}), annotated(v=rows), subset="training")


def test_what_does_not_meet_is_noted_and_so_is_damage() -> None:
    store = MemoryStore({"a.mp4": Clips(damaged=np.array([False, True, False, False])), "x.mp4": Clips()})
    annotations = annotated(a=[("run", 0, 5)], gone=[("run", 0, 5)])
    examples = TASKS["label"].load(store, annotations, subset="training")
    assert [item.video_id for item in examples.items] == ["a"]
    assert examples.notes == (
        "1 videos of subset 'training' are annotated but not in the store; they are left out: gone",
        "1 videos are in the store but not annotated; they are left out: x.mp4",
        "1 videos have clips of damaged stretches; they are used: a",
    )


def test_ids_match_exactly_then_by_stem_with_or_without_v() -> None:
    stored = ["train/abc.mp4", "def.mkv", "v_ghi.mp4", "jkl.mp4", "other/jkl.mp4", "a.b"]
    wanted = {"abc": "train/abc.mp4", "v_def": "def.mkv", "ghi": "v_ghi.mp4", "jkl.mp4": "jkl.mp4", "a.b": "a.b"}
    assert match_ids([*wanted, "nowhere"], stored) == wanted


@pytest.mark.parametrize(
    ("annotations", "stored", "message"),
    [
        (["jkl"], ["jkl.mp4", "o/jkl.mp4"], r"'jkl' fits 2 stored ones: jkl.mp4, o/jkl.mp4"),
        (["a", "v_a"], ["a.mp4"], r"stored video 'a.mp4' fits 2 annotated ones: a, v_a"),
        (["p", "q"], ["r.mp4"], r"0 of 2 annotated videos are among the 1 of the store: annotated are p, q; stored"),
        (["p"], [], r"stored are none"),
    ],
)
def test_ids_that_cannot_be_matched(annotations: list[str], stored: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        match_ids(annotations, stored)


def test_long_lists_of_videos_are_cut() -> None:
    with pytest.raises(InputError, match="n0, n1, n2, n3, n4 and 95 more"):
        match_ids([f"n{i}" for i in range(100)], ["x.mp4"])


def test_collate_pads_with_zeros() -> None:
    annotations = annotated(a=[("run", 0, 5)], b=[("run", 0, 5)])
    short = [np.zeros(2, dtype=np.bool_)]
    store = MemoryStore(
        {"a": Clips(), "b": Clips(np.ones((2, 3), np.float16), np.arange(2.0), np.arange(2.0) + 2, *short)}
    )
    task = TASKS["label"]
    features, mask, centre_s, targets = task.collate(TASKS["label"].load(store, annotations, subset="training").items)
    assert features.shape == (2, 4, 3)
    assert mask.sum(dim=1).tolist() == [4, 2]
    assert features[1, 2:].abs().sum() == 0
    assert centre_s[1].tolist() == [1, 2, 0, 0]
    assert targets[..., 0].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    whole = TASKS["classify"].load(store, annotations, subset="training").items
    assert torch.equal(TASKS["classify"].collate(whole).targets, torch.tensor([0, 0]))


def test_balanced_classes_come_equally_often() -> None:
    videos = {f"v{number}": [("rare" if number < 3 else "common", 0.0, 5.0)] for number in range(30)}
    store = MemoryStore({video_id: Clips() for video_id in videos})
    examples = TASKS["classify"].load(store, annotated(**videos), subset="training")
    rng, settings = np.random.default_rng(0), TrainSettings(balanced=True, batch=30)
    epochs = [TASKS["classify"].batches(examples, settings, rng) for _ in range(40)]
    targets = torch.cat([batch.targets for epoch in epochs for _, batch in epoch])  # type: ignore[attr-defined]
    assert len(targets) == 1200
    assert 0.45 < (targets == examples.classes.index("rare")).float().mean() < 0.55
