"""Pretraining: clips from folders and annotations, crops, a loop that learns, repeats and goes on, weights to use."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Literal, cast

import numpy as np
import pytest
import torch
from commands import run
from numpy.typing import NDArray
from torch import Tensor, nn

import pipelines
from extract.backbones import Backbone, ClipDefaults, load_backbone
from extract.engine._model import ClipInput, ClipModel
from extract.errors import InputError, UsageError
from extract.flow import quantised
from pipelines.pretraining import PretrainSettings, pretrain, pretrain_settings
from pipelines.pretraining import run as running
from pipelines.pretraining.examples import read_examples
from pipelines.pretraining.fusing import fuse, stacked
from pipelines.pretraining.pool import Looks, Pool, pool_of
from pipelines.pretraining.run import figures
from pipelines.pretraining.views import Turns, backwards, drawn, mirrored, to_input, views
from pipelines.synthetic.encode import CLIP, write_video

RECIPE = ClipDefaults(4, 2, 2, 10.0, 12, 8, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
QUICK = {"epochs": 4, "batch": 4, "lr": 0.01, "fps": 5.0, "test_clips": 2, "relight": False}


def film(path: Path, colour: tuple[int, int, int], *, frames: int = 20) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(path.name)).integers(0, 60, (360, 640, 3), dtype=np.uint8)
    write_video(path, lambda _t: (noise // 2 + np.array(colour) // 2).astype(np.uint8), CLIP, list(range(frames)))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Red and blue clips, as train/LABEL/… and val/LABEL/…"""
    root = tmp_path_factory.mktemp("clips") / "clips"
    for label, colour in (("red", (250, 40, 40)), ("blue", (40, 40, 250))):
        for number in range(4):
            film(root / f"train/{label}/{label}{number}.mp4", colour, frames=18 + number)
        film(root / f"val/{label}/other.mp4", colour)
    return root


def test_folders_name_classes_and_subsets(clips: Path, tmp_path: Path) -> None:
    found = read_examples(clips)
    assert found.classes == ("blue", "red")
    assert [len(found.of(subset)) for subset in ("training", "validation")] == [8, 2]
    shutil.copytree(clips / "train", tmp_path / "plain")
    assert {row.subset for row in read_examples(tmp_path / "plain").rows} == {"training"}
    film(tmp_path / "plain/loose.mp4", (0, 0, 0))
    with pytest.raises(InputError, match=r"loose.mp4 lies in no folder of a class"):
        read_examples(tmp_path / "plain")


def test_annotations_name_clips_of_videos(clips: Path, tmp_path: Path) -> None:
    rows = ["label,youtube_id,time_start,time_end,split", "red,red0,0.5,1.5,train", "blue,blue1,0,1,train"]
    rows += ["red,gone,0,1,train", "red,other,0,2,test", "green,blue2,0,1,val"]
    (tmp_path / "k.csv").write_text("\n".join(rows))
    with pytest.raises(InputError, match="expected --videos FOLDER"):
        read_examples(tmp_path / "k.csv")
    found = read_examples(tmp_path / "k.csv", clips / "train")
    assert found.classes == ("blue", "red")
    assert [(row.path.name, row.label, row.span_s) for row in found.of("training")] == [
        ("red0.mp4", "red", (0.5, 1.5)),
        ("blue1.mp4", "blue", (0.0, 1.0)),
    ]
    assert "gone" in found.notes[0]
    assert "green" in found.notes[1]
    pool = pool_of(found.of("training"), found.classes, Looks(10.0, 24), tmp_path / "pool")
    assert pool.shapes.tolist() == [[10, 24, 32, 3]] * 2
    assert pool.targets.tolist() == [[0, 1], [1, 0]]


def test_one_class_is_too_few(clips: Path) -> None:
    with pytest.raises(InputError, match=r"1 classes in the subset training; expected two or more"):
        read_examples(clips / "train", None) if (clips / "train/red").rename(clips / "red") else None
    (clips / "red").rename(clips / "train/red")


def test_broken_clips_are_named_and_left_out(clips: Path, tmp_path: Path) -> None:
    shutil.copytree(clips, tmp_path / "c")
    (tmp_path / "c/train/red/broken.mp4").write_bytes(b"no video")
    examples = read_examples(tmp_path / "c")
    pool = pool_of(examples.of("training"), examples.classes, Looks(5.0, 16), tmp_path / "pool")
    assert len(pool) == 8
    assert "broken.mp4" in pool.failed[0]


def ramp(frames: int = 20, height: int = 12, width: int = 16, channels: int = 3) -> NDArray[np.uint8]:
    t, y, x = np.mgrid[:frames, :height, :width]
    return np.stack([t, y, x][:channels], 3).astype(np.uint8)


def test_random_crops_lie_anywhere_in_time_and_space() -> None:
    target = np.array([1, 0], np.float32)
    seen = set()
    for seed in range(300):
        clip, label = drawn(ramp(), target, RECIPE, Turns(), np.random.default_rng(seed))
        assert clip.shape == (4, 8, 8, 3)
        assert label is target
        first = clip[0, 0, 0]
        np.testing.assert_array_equal(clip[..., 0][:, 0, 0], first[0] + 2 * np.arange(4))
        np.testing.assert_array_equal(clip[0, :, 0, 1], first[1] + np.arange(8))
        np.testing.assert_array_equal(clip[0, 0, :, 2], first[2] + np.arange(8))
        seen.add(tuple(first.tolist()))
    assert {each[0] for each in seen} == set(range(14))
    assert {each[1] for each in seen} == set(range(5))
    assert {each[2] for each in seen} == set(range(9))


def test_short_clips_end_with_their_last_frame() -> None:
    clip, _ = drawn(ramp(5), np.zeros(1, np.float32), RECIPE, Turns(), np.random.default_rng(0))
    assert clip[:, 0, 0, 0].tolist() == [0, 2, 4, 4]
    (only,) = views(ramp(5), RECIPE, times=3, crops=1)
    assert only[:, 0, 0, 0].tolist() == [0, 2, 4, 4]


def test_views_are_spread_over_time_and_the_longer_side() -> None:
    found = list(views(ramp(), RECIPE, times=3, crops=3))
    corners = [view[0, 0, 0].tolist() for view in found]
    assert corners == [[t, 2, x] for t in (0, 6, 13) for x in (0, 4, 8)] or corners == [
        [t, 2, x] for t in (0, 7, 13) for x in (0, 4, 8)
    ]
    (middle,) = views(ramp(), RECIPE, times=1, crops=1)
    assert middle[0, 0, 0].tolist() == [6, 2, 4]


def test_crops_of_a_square_lie_along_one_side() -> None:
    square = ramp()[:, :, : ramp().shape[1]]
    corners = [view[0, 0, 0, 1:].tolist() for view in views(square, RECIPE, times=1, crops=3)]
    assert corners == [[0, 2], [2, 2], [4, 2]]


def test_turned_flow_moves_the_other_way() -> None:
    moving = np.stack([np.full((4, 4), 3.0), np.full((4, 4), -7.5)], 2).astype(np.float32)
    flow = np.stack([quantised(times * moving, 20.0) for times in (0, 1, 5)])
    opposite = np.stack([quantised(times * moving * (-1, 1), 20.0) for times in (0, 1, 5)])
    np.testing.assert_array_equal(mirrored(flow), opposite)
    np.testing.assert_array_equal(backwards(flow)[1], quantised(-moving, 20.0))
    np.testing.assert_array_equal(backwards(flow)[2], quantised(0 * moving, 20.0))


class Unchanged(nn.Module):
    """Gives its input."""

    def features(self, x: Tensor) -> Tensor:
        """The same tensor."""
        return x


@pytest.mark.parametrize("colour", ["rgb", "bgr"])
def test_input_is_normalised_as_in_extraction(colour: Literal["rgb", "bgr"]) -> None:
    recipe = replace(RECIPE, mean=(0.3, 0.4, 0.5), std=(0.1, 0.2, 0.3), colour=colour)
    clip = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 4, 3), np.uint8)
    x = to_input(list(clip), recipe)
    red, blue = (0, 2) if colour == "rgb" else (2, 0)
    for channel, frames in ((red, clip[..., 0]), (1, clip[..., 1]), (blue, clip[..., 2])):
        wanted = (frames / 255 - recipe.mean[channel]) / recipe.std[channel]
        np.testing.assert_allclose(x[:, channel].numpy(), wanted, rtol=1e-4, atol=1e-5)
    given = ClipInput(frames=4, side_px=4, mean=recipe.mean, std=recipe.std, colour=colour)
    extracted = ClipModel(cast(Backbone, SimpleNamespace(network=Unchanged())), given)(torch.from_numpy(clip))
    torch.testing.assert_close(x, extracted, rtol=1e-5, atol=1e-5)


def test_figures_on_worked_numbers() -> None:
    found = np.array([[0.6, 0.4, 0.0], [0.5, 0.3, 0.2], [0.2, 0.3, 0.5], [0.5, 0.1, 0.4]], np.float32)
    result = figures(found, np.array([0, 1, 2, 2]), ["a", "b", "c"])
    assert result["accuracy"] == 0.5
    assert result["per_class"] == {"a": 1.0, "b": 0.0, "c": 0.5}
    assert result["mean_class_accuracy"] == 0.5
    assert result["top_5"] is None
    equal = figures(np.full((3, 3), 1 / 3, np.float32), np.array([0, 1, 2]), ["a", "b", "c"])
    assert equal["per_class"] == {"a": 1.0, "b": 0.0, "c": 0.0}, "who answers the same to all has one answer"


@pytest.fixture(scope="module")
def trained(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "slow"
    torch.set_num_threads(1)
    pretrain("slow:small:4x32", clips, out=out, settings=pretrain_settings(QUICK))
    return out


def test_a_run_learns_repeats_and_tells(trained: Path, clips: Path, tmp_path: Path) -> None:
    record = json.loads((trained / "run.json").read_text())
    assert record["result"]["accuracy"] == 1.0
    assert record["classes"] == ["blue", "red"]
    assert len((trained / "metrics.jsonl").read_text().splitlines()) == 4
    assert (trained / "curves.svg").stat().st_size > 1000
    pretrain("slow:small:4x32", clips, out=tmp_path / "again", settings=pretrain_settings(QUICK))
    assert (tmp_path / "again/weights.safetensors").read_bytes() == (trained / "weights.safetensors").read_bytes()
    with pytest.raises(UsageError, match="holds a run already"):
        pretrain("slow:small:4x32", clips, out=trained)


def test_stopped_and_called_again_it_is_as_if_undisturbed(
    trained: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.resume.EVERY_S", 0.0)

    def stop(at: running.Progress) -> None:
        if at.epoch == 3:
            raise KeyboardInterrupt

    settings = pretrain_settings(QUICK)
    with pytest.raises(KeyboardInterrupt):
        pretrain("slow:small:4x32", clips, out=tmp_path / "run", settings=settings, on_progress=stop)
    assert not (tmp_path / "run").exists()
    epochs: list[int] = []
    pretrain(
        "slow:small:4x32",
        clips,
        out=tmp_path / "run",
        settings=settings,
        on_progress=lambda at: epochs.append(at.epoch),
    )
    assert set(epochs) == {3, 4}
    assert (tmp_path / "run/weights.safetensors").read_bytes() == (trained / "weights.safetensors").read_bytes()


def test_extraction_takes_weights_clips_and_classes_from_a_run(trained: Path, clips: Path, tmp_path: Path) -> None:
    weights = trained / "weights.safetensors"
    backbone = load_backbone("slow:small:4x32", weights)
    assert backbone.spec.classes == ("blue", "red")
    assert backbone.spec.clips.fps == 5.0
    store = pipelines.extract(
        clips / "val",
        tmp_path / "f.zarr",
        backbone="slow:small:4x32",
        weights=weights,
        engine="torch",
        precision="fp32",
    )
    assert store.recipe["fps"] == 5.0
    assert store["red/other.mp4"].features.shape[1] == 128


def test_begins_with_an_image_networks_weights(clips: Path, tmp_path: Path) -> None:
    settings = pretrain_settings(QUICK | {"epochs": 1})
    pretrain("frames:small:1x32", clips, out=tmp_path / "image", settings=settings, cache=tmp_path / "clips")
    start = str(tmp_path / "image/weights.safetensors")
    image = load_backbone("frames:small:1x32", start).network
    spec = running.backbone_spec("inflated:small:4x32")
    network = running.new_network("inflated:small:4x32", spec, 2, start).eval()
    picture = torch.randn(1, 3, 1, 32, 32)
    torch.testing.assert_close(network(picture.repeat(1, 1, 4, 1, 1)), image(picture), rtol=1e-4, atol=1e-5)
    with pytest.raises(UsageError, match="frames:small has no official weights"):
        pretrain("inflated:small:4x32", clips, out=tmp_path / "x", init="imagenet", settings=settings)
    again = running.new_network("frames:small:1x32", running.backbone_spec("frames:small:1x32"), 2, start)
    torch.testing.assert_close(again.eval()(picture), image(picture))


def test_streams_are_fused(trained: Path, clips: Path, tmp_path: Path) -> None:
    pretrain("frames:small:1x32", clips, out=tmp_path / "image", settings=PretrainSettings(**QUICK | {"epochs": 1}))
    found = fuse([trained, tmp_path / "image"])
    assert found["streams"][0]["accuracy"] == 1.0
    assert found["svm"]["accuracy"] == 1.0
    assert found["validation_clips"] == 2
    with pytest.raises(InputError, match="expected two or more"):
        fuse([trained])
    with pytest.raises(InputError, match="is no run of `untrimmed pretrain`"):
        fuse([trained, tmp_path])
    rows = stacked([np.array([[3, 4]], np.float32), np.array([[0, 2]], np.float32)])
    np.testing.assert_allclose(rows, [[0.6, 0.8, 0, 1]])


def test_settings_that_cannot_be(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no setting is named 'epoch'; did you mean 'epochs'"):
        pretrain_settings({"epoch": 3})
    with pytest.raises(UsageError, match="short_side is 20; expected at least the crop of 32 px"):
        pretrain("slow:small:4x32", clips, out=tmp_path / "r", settings=PretrainSettings(short_side=20))
    with pytest.raises(UsageError, match="classifies boxes"):
        pretrain("slow_r50_detection", clips, out=tmp_path / "r")


def test_command_prints_what_it_reached(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["early:small:4x32", clips, "-o", tmp_path / "run", "--set", "epochs=1", "--set", "batch=4", "--json"]
    assert run(monkeypatch, "pretrain", *arguments) == 0
    found = json.loads(capfd.readouterr().out)
    assert (found["backbone"], found["training_clips"], found["task"]) == ("early:small:4x32", 8, "pretrain")
    assert run(monkeypatch, "evaluate", tmp_path / "run", tmp_path, "--annotations", clips) == 3


def test_a_pool_of_any_sizes_gives_each_clip(tmp_path: Path) -> None:
    a, b = np.full((2, 3, 4, 3), 7, np.uint8), np.full((1, 5, 2, 3), 9, np.uint8)
    pixels = np.concatenate([a.ravel(), b.ravel()])
    pool = Pool(pixels, np.array([a.shape, b.shape]), np.eye(2, dtype=np.float32))
    np.testing.assert_array_equal(pool.clip(0), a)
    np.testing.assert_array_equal(pool.clip(1), b)
