"""Finding people at key seconds, with a detector that finds what is white; and the real one's parts."""

import csv
import json
import re
from collections import OrderedDict
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
from extract.errors import InputError, UsageError
from extract.people import PeopleDetector
from extract.video import DecodingProcess
from pipelines import people as command
from pipelines.boxes import read_boxes
from pipelines.cli import app
from pipelines.people import detect_people, people_in


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
