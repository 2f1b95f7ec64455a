"""Extraction with the backbones of the field: their clips, their checkpoints, and what they cannot do."""

import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import run

import pipelines
from extract.backbones import BACKBONES, EMBEDDED, load_backbone
from extract.clipping import clips_of, reading_options
from extract.errors import InputError, MachineError, UsageError
from extract.recipe import Recipe
from extract.store import FeatureStore
from extract.video import open_video
from pipelines.comparison import TOLERANCES
from pipelines.settling import Options, settle

SMALL = {"short_side": 64, "crop": 64}


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PyTorch file of slowfast_r50_4x16, as training scripts write it; beside it one of the small network."""
    path = tmp_path_factory.mktemp("weights") / "slowfast.pth"
    for name, file in (("slowfast_r50_4x16", path), (EMBEDDED, path.with_name("small.pth"))):
        torch.save({"epoch": 1, "model_state": load_backbone(name, "random:3").network.state_dict()}, file)
    return path


@pytest.fixture(scope="session")
def server(checkpoint: Path) -> Iterator[str]:
    """The checkpoint behind http."""
    handler = partial(_Quiet, directory=str(checkpoint.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def by_hand(store: FeatureStore, video: Path, weights: object) -> np.ndarray:
    """Features of each clip of ``video`` by the store's recipe, in plain torch."""
    recipe = Recipe.model_validate(dict(store.recipe))
    backbone = load_backbone(recipe.backbone, str(weights))
    mean, std = (torch.tensor(values).view(3, 1, 1, 1) for values in (recipe.mean, recipe.std))
    rows = []
    with open_video(video, **reading_options(recipe, "auto")) as reader:
        for clip in clips_of(reader, recipe):
            pixels = torch.from_numpy(clip.frames).permute(3, 0, 1, 2).float() / 255
            x = (pixels.flip(0) if recipe.colour == "bgr" else pixels) - mean
            rows.append(backbone.features((x / std)[None])[0].numpy())
    return np.stack(rows)


def assert_features(store: FeatureStore, video_id: str, video: Path, weights: object) -> None:
    wanted, found = by_hand(store, video, weights), store[video_id].features.astype(np.float32)
    assert found.shape == wanted.shape
    apart = np.linalg.norm(found - wanted, axis=1) / np.linalg.norm(wanted, axis=1)
    assert apart.max() < 0.01


def test_a_checkpoint_from_end_to_end(archive: Path, checkpoint: Path, tmp_path: Path) -> None:
    video = archive / "a/same.mp4"
    options = {"backbone": "slowfast_r50_4x16", "weights": str(checkpoint), "engine": "torch", **SMALL}
    store = pipelines.extract(video, tmp_path / "f.zarr", **options)
    assert_features(store, "same.mp4", video, checkpoint)
    recipe = store.recipe
    assert (recipe["clip_frames"], recipe["frame_stride"], recipe["fps"]) == (32, 2, 30.0)
    assert (recipe["layer"], recipe["pooling"]) == ("features", "network")
    assert store.catalogue["same.mp4"].provenance["weights"] == str(checkpoint)
    in_worker = pipelines.extract(video, tmp_path / "g.zarr", **options, workers=1)
    np.testing.assert_array_equal(in_worker["same.mp4"].features, store["same.mp4"].features)


def test_c3d_gets_bgr(archive: Path, tmp_path: Path) -> None:
    video = archive / "a/same.mp4"
    options = {"backbone": "c3d_sports1m", "weights": "random:0", "engine": "torch", "hop": 64}
    store = pipelines.extract(video, tmp_path / "f.zarr", **options)
    assert store.recipe["colour"] == "bgr"
    assert_features(store, "same.mp4", video, "random:0")


def test_engines_go_on_with_each_others_stores(archive: Path, tmp_path: Path) -> None:
    options = {"backbone": "x3d_xs", "weights": "random:0", **SMALL}
    video = archive / "a/same.mp4"
    first = pipelines.extract(video, tmp_path / "f.zarr", **options, engine="torch")
    second = pipelines.extract(video, tmp_path / "g.zarr", **options, engine="auto")
    assert first.recipe_digest == second.recipe_digest
    most = TOLERANCES[str(first.recipe["precision"])]  # 2e-3 in fp32
    for video_id in first:
        torch_rows, rows = (store[video_id].features.astype(np.float32) for store in (first, second))
        np.testing.assert_allclose(rows, torch_rows, atol=most * np.abs(torch_rows).max())
        assert str(first.catalogue[video_id].provenance["engine"]).startswith("torch ")


def test_presets_and_layers(tmp_path: Path) -> None:
    def settled(**options: object) -> Recipe:
        return settle(Options(**options), tmp_path / "f.zarr").recipe  # type: ignore[arg-type]

    i3d = {"backbone": "i3d_inception_rgb", "weights": "random:0", "engine": "torch"}
    recipe = settled(**i3d, preset="thumos14", crop=64, short_side=64)
    assert (recipe.clip_frames, recipe.hop, recipe.fps, recipe.crop_px) == (16, 4, "native", 64)
    recipe = settled(**i3d, layer="body.mixed_4f", clip_frames=16)
    assert (recipe.layer, recipe.feature_width, recipe.pooling) == ("body.mixed_4f", 832, "global-mean")
    assert settled(backbone="frames:resnet18", weights="random:0", engine="torch").clip_frames == 1
    digests = {settled(**i3d).weights_sha256, settled(backbone=EMBEDDED).weights_sha256}
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "thumos14"}, "--preset thumos14: tiny_r2plus1d has no such preset; it has none"),
        ({"backbone": "i3d_inception_rgb", "preset": "x"}, "it has thumos14, activitynet, video_features"),
        ({"flow": "dis"}, "--flow dis: tiny_r2plus1d reads RGB frames; leave out --flow"),
        (
            {"backbone": "i3d_inception_flow", "flow": "brox"},
            "flow called 'brox'; expected dis, tvl1, raft_large",
        ),
        ({"backbone": "slowfast_r50_detection"}, "slowfast_r50_detection describes boxes"),
        ({"backbone": "c3d_sports1m", "crop": 100, "weights": "random:0"}, "expected clips of 16 x 112 x 112"),
        ({"backbone": "slowfast_r50_8x8", "clip_frames": 30, "weights": "random:0"}, "a multiple of alpha = 4"),
        ({"layer": "nowhere"}, "no layer 'nowhere'"),
        ({"engine": "onnx"}, "--engine 'onnx'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    archive: Path, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        pipelines.extract(archive, tmp_path / "f.zarr", **options)
    assert not (tmp_path / "f.zarr").exists()


# Weights from the network


def test_weights_by_url(server: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNTRIMMED_CACHE", str(tmp_path))
    heard: list[tuple[int, int | None]] = []
    url = f"{server}/{checkpoint.name}"
    backbone = load_backbone("slowfast_r50_4x16", url, on_progress=lambda *now: heard.append(now))
    assert backbone.weights_sha256 == load_backbone("slowfast_r50_4x16", checkpoint).weights_sha256
    assert heard[-1] == (checkpoint.stat().st_size,) * 2
    heard.clear()
    load_backbone("slowfast_r50_4x16", url, on_progress=lambda *now: heard.append(now))
    assert len(heard) <= 1, "downloaded once"
    with pytest.raises(InputError, match=r"404.*--weights FILE"):
        load_backbone("slowfast_r50_4x16", f"{server}/nowhere.pth")


def test_extract_says_what_it_waits_for(
    server: str, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UNTRIMMED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("pipelines.console.LINE_EVERY_S", 0.0)
    video, url = archive / "a/same.mp4", f"{server}/small.pth"
    backbone = ["--weights", url, "--short-side", 64, "--crop", 64]
    assert run(monkeypatch, "extract", video, "-o", tmp_path / "f.zarr", *backbone, "--json") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["videos"] == 1
    assert "downloading weights" in shown.err
    assert f"trying the engines for {EMBEDDED}, once on this machine" in shown.err


@pytest.mark.parametrize("wrong", [{"engine": "onnx"}, {"precision": "int3"}, {"decoder": "vlc"}, {"device": "tpu"}])
def test_wrong_options_are_told_before_a_download(
    wrong: dict[str, str], archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("extract.backbones.loading.fetch", None)
    with pytest.raises(UsageError, match=next(iter(wrong.values()))):
        pipelines.extract(archive, tmp_path / "f.zarr", backbone="i3d_r50", **wrong)
    with pytest.raises(InputError, match="does not exist"):
        pipelines.extract(tmp_path / "nowhere", tmp_path / "f.zarr", backbone="i3d_r50")


def test_offline_without_weights_says_what_to_do(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("https_proxy", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("UNTRIMMED_CACHE", str(tmp_path / "cache"))
    assert run(monkeypatch, "extract", archive, "-o", tmp_path / "f.zarr", "--backbone", "i3d_r50") == 3
    told = capsys.readouterr().err
    for part in ("I3D_8x8_R50.pyth", str(tmp_path / "cache"), "--weights FILE"):
        assert part in told
    with pytest.raises(MachineError):
        pipelines.extract(archive, tmp_path / "f.zarr", backbone="i3d_r50")


# The command


def test_backbones_lists_all(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "backbones", "--json") == 0
    listed = json.loads(capsys.readouterr().out)["backbones"]
    assert [backbone["name"] for backbone in listed] == list(BACKBONES)
    for backbone in listed:
        assert backbone["parameters"] > 1e6
        assert backbone["gmac"] > 0
        assert backbone["licence"]
        assert backbone["clips"]["clip_frames"] >= 1
    assert [b["name"] for b in listed if b["weights_here"]] == [EMBEDDED]
    assert run(monkeypatch, "backbones") == 0
    shown = capsys.readouterr().out
    for name in BACKBONES:
        assert name in shown


def test_backbones_shows_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "backbones", "i3d_inception_rgb") == 0
    shown = capsys.readouterr().out
    for part in ("preset thumos14", "16 frames, stride 1, hop 4, every frame", "rgb_imagenet.pt", "mean 0.5 0.5 0.5"):
        assert part in shown
    assert run(monkeypatch, "backbones", "frames:resnet50", "--json") == 0
    assert json.loads(capsys.readouterr().out)["feature_width"] == 2048
    assert run(monkeypatch, "backbones", "slowfst") == 2
    assert "did you mean 'slowfast" in capsys.readouterr().err
