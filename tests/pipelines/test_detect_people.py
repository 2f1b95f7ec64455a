"""Finding people at key seconds, with a detector that finds what is white; and the real one's parts."""

import csv
import json
import re
from collections import OrderedDict
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from footage import H, W, encode, regular, uneven
from numpy.typing import NDArray
from torch import nn
from typer.testing import CliRunner

from extract import people as finder
from extract.errors import InputError, MachineError, UsageError
from extract.people import PeopleDetector
from extract.video import DecodingProcess
from pipelines import people as command
from pipelines.boxes import read_boxes
from pipelines.cli import app
from pipelines.people import People, detect_people, people_in


def walker(index: int) -> NDArray[np.uint8]:
    """A white square of 16 pixels on black, whose left side is at pixel ``index``."""
    picture = np.zeros((H, W, 3), np.uint8)
    picture[24:40, index : index + 16] = 255
    return picture


def white(picture: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    height, width = picture.shape[:2]
    ys, xs = np.nonzero(picture.mean(2) > 128)
    if not len(xs):
        return np.empty((0, 4), np.float32), np.empty(0, np.float32)
    box = [xs.min() / width, ys.min() / height, (xs.max() + 1) / width, (ys.max() + 1) / height]
    return np.array([box], np.float32), np.array([0.9], np.float32)


@pytest.fixture
def finds_white(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The real detector's place is taken; gives the options that it was made with."""
    made: list[dict[str, Any]] = []

    def make(weights: str, **options: Any) -> Any:
        made.append({"weights": weights, **options})
        return white

    monkeypatch.setattr(command, "PeopleDetector", make)
    monkeypatch.setattr(command, "SIDE_PX", H)
    return made


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    encode(folder / "walk.mp4", regular(70), picture=walker, options={"bf": "2"})
    encode(folder / "dark.mp4", regular(30), picture=lambda _index: np.zeros((H, W, 3), np.uint8))
    (folder / "broken.mp4").write_bytes(b"no video at all" * 99)
    return folder


def test_boxes_at_whole_seconds_in_the_form_that_others_read(
    archive: Path, tmp_path: Path, finds_white: list[dict[str, Any]]
) -> None:
    found = detect_people(archive, tmp_path / "boxes.csv")
    assert (found.videos, found.key_seconds, found.people, found.tracked) == (2, 5, 3, 3)
    assert [(each["video"], each["reason"]) for each in found.failed] == [("broken.mp4", "not_media")]
    with (tmp_path / "boxes.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert [row[:2] + row[6:] for row in rows] == [["walk.mp4", str(second), "", "0.9000"] for second in range(3)]
    for row, left in zip(rows, (0, 25, 50), strict=True):  # 25 frames a second
        np.testing.assert_allclose(np.float64(row[2:6]), [left / W, 24 / H, (left + 16) / W, 40 / H], atol=1.1 / H)
    boxes = read_boxes(tmp_path / "boxes.csv").videos["walk.mp4"]
    assert boxes.second.tolist() == [0.0, 1.0, 2.0]
    with (tmp_path / "boxes.tracks.csv").open(newline="") as file:
        heading, *tracked = csv.reader(file)
    assert heading == ["video", "second", "x1", "y1", "x2", "y2", "track", "score"]
    assert [row[6] for row in tracked] == ["0", "1", "2"], "25 pixels a second are too fast for one of 16"
    assert [[*row[:6], "", row[7]] for row in tracked] == rows
    assert finds_white == [{"weights": "pretrained", "min_score": 0.8, "device": "cpu", **kept(finds_white)}]


def kept(made: list[dict[str, Any]]) -> dict[str, Any]:
    return {"on_progress": made[0]["on_progress"]}


def test_seconds_are_presentation_times(tmp_path: Path, finds_white: list[dict[str, Any]]) -> None:
    times = uneven()
    path = encode(tmp_path / "uneven.mp4", [t + 3 for t in times], tick=Fraction(1, 1000), picture=walker)
    with DecodingProcess() as process:
        boxes, looked = people_in(process, str(path), white, 0.5)
    wanted = [0.5 * k for k in range(looked)]
    shown = [sum(float(t) <= second + 1e-6 for t in times) - 1 for second in wanted]
    assert boxes.second.tolist() == wanted
    np.testing.assert_allclose(boxes.box[:, 0] * W, shown, atol=1)
    assert looked == 14


def test_the_command(archive: Path, tmp_path: Path, finds_white: list[dict[str, Any]]) -> None:
    run = CliRunner()
    arguments = [
        "detect-people",
        str(archive),
        "-o",
        str(tmp_path / "b.csv"),
        "--every",
        "0.5",
        "--weights",
        "random:3",
    ]
    done = run.invoke(app, [*arguments, "--min-score", "0.5", "--device", "cpu", "-q", "--json"])
    assert done.exit_code == 4, done.output
    result = json.loads(done.stdout)
    assert (result["people"], result["failed"][0]["video"]) == (6, "broken.mp4")
    assert (finds_white[0]["weights"], finds_white[0]["min_score"]) == ("random:3", 0.5)
    assert (tmp_path / "b.csv").read_text().splitlines()[1].startswith("walk.mp4,0.5,")
    again = run.invoke(app, [*arguments, "-q"])
    assert isinstance(again.exception, UsageError)
    assert "b.csv exists; move it away" in str(again.exception)
    wrong = run.invoke(app, ["detect-people", str(archive), "-o", str(tmp_path / "c.csv"), "--every", "0", "-q"])
    assert "--every 0.0; expected seconds, above 0" in str(wrong.exception)
    assert not list(tmp_path.glob("unfinished*"))
    extracted = run.invoke(
        app, ["extract", str(archive / "walk.mp4"), "-o", str(tmp_path / "s"), "--boxes", str(tmp_path / "b.csv"), "-q"]
    )
    assert extracted.exit_code == 0, extracted.output
    assert "6 boxes in" in extracted.output


# A detection that was interrupted

NAMES = ["1.mp4", "2.mp4", "3.mp4"]


@pytest.fixture
def walks(tmp_path: Path) -> Path:
    """Three videos of three key seconds each."""
    (tmp_path / "videos").mkdir()
    for shift, name in enumerate(NAMES):
        encode(tmp_path / "videos" / name, regular(60), picture=lambda index, shift=shift: walker(index + 3 * shift))
    return tmp_path / "videos"


class Interrupted:
    """Finds what is white, but raises ``error`` at the ``at``-th picture; counts the pictures."""

    def __init__(self, error: BaseException | None = None, at: int = 0) -> None:
        self.error, self.at, self.seen = error, at, 0

    def __call__(self, picture: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self.seen += 1
        if self.error is not None and self.seen == self.at:
            raise self.error
        return white(picture)


@pytest.fixture
def with_detector(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``(detector, paths, out, options) -> People``."""
    monkeypatch.setattr(command, "SIDE_PX", H)

    def run(detector: Interrupted, paths: Path, out: Path, **options: Any) -> People:
        monkeypatch.setattr(command, "PeopleDetector", lambda *_, **__: detector)
        return detect_people(paths, out, **options)

    return run


def files_of(out: Path) -> tuple[bytes, bytes]:
    return out.read_bytes(), out.with_suffix(".tracks.csv").read_bytes()


def folder_of(out: Path) -> Path:
    return out.parent / f".{out.name}.detecting"


def test_interrupted_and_called_again_gives_the_same_files(walks: Path, tmp_path: Path, with_detector: Any) -> None:
    whole, out = tmp_path / "whole.csv", tmp_path / "new" / "b.csv"
    undisturbed = with_detector(Interrupted(), walks, whole)
    assert (undisturbed.videos, undisturbed.key_seconds) == (3, 9)
    with pytest.raises(KeyboardInterrupt):
        with_detector(Interrupted(KeyboardInterrupt(), at=8), walks, out)
    assert not out.exists()
    kept = sorted(folder_of(out).glob("video-*.json"))
    assert len(kept) == 2
    half = kept[0].read_bytes()[:40]  # ended in the middle of a write
    kept[0].with_suffix(".partial-1").write_bytes(half)
    with pytest.raises(MachineError, match="the disk"):
        with_detector(Interrupted(MachineError("the disk"), at=2), walks, out)
    (folder_of(out) / "boxes").write_text("1.mp4,0")
    again = Interrupted()
    found = with_detector(again, walks, out)
    assert again.seen == 3, "the third video alone"
    assert files_of(out) == files_of(whole)
    assert replace(found, boxes="", tracks="", seconds=0) == replace(undisturbed, boxes="", tracks="", seconds=0)
    assert {path.name for path in out.parent.iterdir()} == {"b.csv", "b.tracks.csv"}


def test_what_a_broken_disk_left_is_found_again(walks: Path, tmp_path: Path, with_detector: Any) -> None:
    out = tmp_path / "b.csv"
    with pytest.raises(KeyboardInterrupt):
        with_detector(Interrupted(KeyboardInterrupt(), at=8), walks, out)
    for path, text in zip(sorted(folder_of(out).iterdir()), ("", '{"rows', "[]"), strict=True):
        path.write_text(text)
    again = Interrupted()
    assert with_detector(again, walks, out).people == 9
    assert again.seen == 9


def test_other_options_do_not_go_on(walks: Path, tmp_path: Path, with_detector: Any) -> None:
    out, weights = tmp_path / "b.csv", tmp_path / "w.pth"
    weights.write_bytes(b"one")
    with pytest.raises(KeyboardInterrupt):
        with_detector(Interrupted(KeyboardInterrupt(), at=1), walks, out, every_s=0.5)
    with pytest.raises(KeyboardInterrupt):  # nothing was kept: other options may begin
        with_detector(Interrupted(KeyboardInterrupt(), at=5), walks, out, weights=weights)
    for options, difference in (
        ({"every_s": 2}, r"--every 1\.0 then, 2\.0 now\n"),
        ({"min_score": 0.5}, r"--min-score 0\.8 then, 0\.5 now\n"),
        ({"weights": "random:1"}, r"--weights sha256:[0-9a-f]{64} then, random:1 now\n"),
        ({"weights": "pretrained"}, "then, fasterrcnn_resnet50_fpn_coco-258fb6c6.pth now\n"),
    ):
        with pytest.raises(UsageError, match=difference) as refused:
            with_detector(Interrupted(), walks, out, **{"weights": weights, **options})
        assert str(refused.value).endswith(f"or remove {folder_of(out)}")
    weights.write_bytes(b"other")
    with pytest.raises(UsageError, match="--weights sha256:"):
        with_detector(Interrupted(), walks, out, weights=weights)
    weights.write_bytes(b"one")
    again = Interrupted()
    with_detector(again, walks, out, weights=weights.rename(tmp_path / "moved.pth"))
    assert again.seen == 6


def test_changed_and_failed_videos_are_read_again(walks: Path, tmp_path: Path, with_detector: Any) -> None:
    out = tmp_path / "b.csv"
    good = (walks / "2.mp4").read_bytes()
    (walks / "2.mp4").write_bytes(b"no video" * 99)
    with pytest.raises(KeyboardInterrupt):
        with_detector(Interrupted(KeyboardInterrupt(), at=5), walks, out)
    (walks / "2.mp4").write_bytes(good)
    encode(walks / "1.mp4", regular(30), picture=walker)
    again = Interrupted()
    found = with_detector(again, walks, out)
    assert (again.seen, found.failed) == (2 + 3 + 3, [])
    rows = [line.split(",")[:2] for line in out.read_text().splitlines()]
    assert [row for row in rows if row[0] == "1.mp4"] == [["1.mp4", "0"], ["1.mp4", "1"]]


def test_a_strange_video_does_not_end_the_others(walks: Path, tmp_path: Path, with_detector: Any) -> None:
    out = tmp_path / "b.csv"
    (walks / "\udcff.mp4").write_bytes((walks / "1.mp4").read_bytes())
    found = with_detector(Interrupted(IndexError("of no use"), at=4), walks, out)
    assert found.failed == [
        {"video": "2.mp4", "reason": "unexpected", "detail": "IndexError: of no use"},
        {"video": "\\udcff.mp4", "reason": "name", "detail": "its name is not valid UTF-8; rename the file"},
    ]
    assert {line.split(",")[0] for line in out.read_text().splitlines()} == {"1.mp4", "3.mp4"}
    assert not folder_of(out).exists()


@pytest.mark.parametrize("error", [UsageError("x"), torch.OutOfMemoryError("x"), torch.AcceleratorError("x")])
def test_what_is_not_a_videos_fault_ends_it_and_the_rest_is_kept(
    walks: Path, tmp_path: Path, with_detector: Any, error: Exception
) -> None:
    with pytest.raises(UsageError if isinstance(error, UsageError) else MachineError, match="x"):
        with_detector(Interrupted(error, at=4), walks, tmp_path / "b.csv")
    assert len(list(folder_of(tmp_path / "b.csv").glob("video-*.json"))) == 1


def test_a_full_disk(walks: Path, tmp_path: Path, with_detector: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    told = r"detecting/key\.json cannot be written \(No space left on device\); free space"
    with pytest.raises(MachineError, match=told):
        with_detector(Interrupted(), walks, tmp_path / "b.csv")


# The real detector


class Stub(nn.Module):
    def forward(self, pictures: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        assert pictures[0].shape == (3, 60, 80)
        assert float(pictures[0].max()) == 1.0
        boxes = torch.tensor([[8.0, 6.0, 40.0, 30.0], [0.0, 0.0, 9.0, 9.0], [-4.0, 0.0, 84.0, 60.0]])
        return [{"boxes": boxes, "labels": torch.tensor([1, 3, 1]), "scores": torch.tensor([0.9, 0.8, 0.7])}]


def test_people_alone_in_parts_of_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finder, "_loaded", lambda *_: Stub())
    boxes, scores = PeopleDetector()(np.full((60, 80, 3), 255, np.uint8))
    np.testing.assert_allclose(boxes, [[0.1, 0.1, 0.5, 0.5], [0, 0, 1, 1]])
    np.testing.assert_allclose(scores, [0.9, 0.7])
    assert (boxes.dtype, scores.dtype) == (np.float32, np.float32)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return finder._network(0.0)


def old_name(name: str) -> str:
    """As in the official file, which is older than the layers' names today."""
    return re.sub(r"(rpn\.head\.conv|(?:inner|layer)_blocks\.\d)(?:\.0)+\.", r"\1.", name)


def test_the_network_is_torchvisions_and_takes_its_official_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, network: nn.Module
) -> None:
    from torchvision.models.detection import fasterrcnn_resnet50_fpn

    theirs = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None).eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0
    state = {old_name(k): v for k, v in theirs.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert {"rpn.head.conv.weight", "backbone.fpn.inner_blocks.0.weight"} < set(state)
    asked: list[tuple[str, str]] = []

    def fetch(url: str, *, sha256_prefix: str, on_progress: object) -> Path:
        asked.append((url, sha256_prefix))
        return tmp_path

    monkeypatch.setattr(finder, "fetch", fetch)
    monkeypatch.setattr(finder, "_network", lambda _score: network)
    monkeypatch.setattr(finder, "read_tensors", lambda _path: OrderedDict(state))
    assert PeopleDetector()._network is network
    assert asked == [(finder.URL, "258fb6c6")]
    picture = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        ours = network.backbone(picture)  # type: ignore[operator]
        for key, maps in theirs.backbone(picture).items():
            torch.testing.assert_close(ours[key], maps, rtol=1e-4, atol=1e-4)
    monkeypatch.setattr(finder, "read_tensors", lambda _path: {"body.weight": torch.zeros(1)})
    with pytest.raises(InputError, match="another network than torchvision's fasterrcnn_resnet50_fpn: Missing key"):
        PeopleDetector(tmp_path / "x.pth")


def test_weights_by_a_seed(monkeypatch: pytest.MonkeyPatch, network: nn.Module) -> None:
    monkeypatch.setattr(finder, "_network", lambda _score: nn.Linear(3, 3))
    state = torch.get_rng_state()
    five, again, six = (PeopleDetector(f"random:{seed}")._network.weight for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(five, again)  # type: ignore[arg-type]
    assert not torch.equal(five, six)  # type: ignore[arg-type]
    monkeypatch.setattr(finder, "_network", lambda _score: network)
    network.transform.min_size = (48,)  # type: ignore[union-attr]
    boxes, scores = PeopleDetector("random:5")(np.zeros((48, 64, 3), np.uint8))
    assert boxes.shape == (len(scores), 4)
    with pytest.raises(UsageError, match="--weights random:x: the seed is not a whole number"):
        PeopleDetector("random:x")
    with pytest.raises(UsageError, match=r"--min-score 1\.5; expected a number from 0 to 1"):
        PeopleDetector("random:0", min_score=1.5)
    with pytest.raises(InputError, match="there is no such file"):
        PeopleDetector("nowhere.pth")
