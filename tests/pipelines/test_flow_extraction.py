"""Features of optical flow of real files: in spans, by workers, in both engines, and as recorded."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from footage import encode, regular
from numpy.typing import NDArray
from torch import nn

from extract.backbones import load_backbone
from extract.backbones.described import described_bytes
from extract.engine import openvino_available
from extract.flow import FlowSettings
from extract.store import FeatureStore
from pipelines import planning, predicting
from pipelines.checkpoint import Run
from pipelines.extraction import Options, run_extraction
from pipelines.settling import settle

more = pytest.mark.more
OPTIONS = Options(
    backbone="i3d_inception_flow",
    engine="torch",
    precision="fp32",
    flow="dis",
    clip_frames=8,
    hop=8,
    short_side=40,
    crop=40,
)
COLUMNS = ("features", "start_s", "stop_s", "real_frames", "damaged")


def drifting(index: int) -> NDArray[np.uint8]:
    """Noise that moves two pixels to the right and one up with each picture."""
    noise = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8).repeat(4, 0).repeat(4, 1)
    return np.roll(noise, (-index, 2 * index), axis=(0, 1))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """97 samples at 25 a second: the last clip of 8 begins with the last of them."""
    path = tmp_path_factory.mktemp("videos") / "drift.mp4"
    return encode(path, regular(97), rate=Fraction(25), picture=drifting)


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Options:
    """With weights whose norms have seen noise: the features of merely random ones are too small for float16."""
    made = load_backbone(OPTIONS.backbone, "random:0")
    norms = [part for part in made.network.modules() if isinstance(part, nn.BatchNorm3d)]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    with torch.no_grad():
        made.network.features(torch.randn(2, 2, 16, 40, 40, generator=torch.Generator().manual_seed(0)) / 4)
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    path.write_bytes(described_bytes(made.network, name=made.name, clips=made.spec.clips, classes=[]))
    return replace(OPTIONS, weights=str(path))


@pytest.fixture(scope="module")
def single(video: Path, options: Options, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return run_extraction(video, tmp_path_factory.mktemp("stores") / "one.zarr", options=options)[0]


def assert_equal(store: FeatureStore, other: FeatureStore) -> None:
    assert store.catalogue["drift.mp4"].crc32 == other.catalogue["drift.mp4"].crc32
    for column in COLUMNS:
        np.testing.assert_array_equal(getattr(store["drift.mp4"], column), getattr(other["drift.mp4"], column))


def test_rows_are_of_the_seconds_of_rgb(video: Path, single: FeatureStore, tmp_path: Path) -> None:
    of_rgb = replace(OPTIONS, backbone="i3d_inception_rgb", weights="random:0", flow=None)
    rgb, _ = run_extraction(video, tmp_path / "rgb.zarr", options=of_rgb)
    ours, theirs = single["drift.mp4"], rgb["drift.mp4"]
    assert len(ours) == len(theirs) == 13
    np.testing.assert_array_equal(ours.start_s, theirs.start_s)
    np.testing.assert_array_equal(ours.stop_s, theirs.stop_s)
    assert ours.real_frames.tolist() == [8] * 12 + [0]
    assert theirs.real_frames.tolist() == [8] * 12 + [1]
    assert np.abs(ours.features).mean() > 0.01
    assert len({row.tobytes() for row in ours.features}) == 13


def test_recipe_and_provenance_say_how_the_flow_was_made(single: FeatureStore) -> None:
    assert single.recipe["flow"] == FlowSettings(method="dis").model_dump()
    assert single.recipe["mean"] == single.recipe["std"] == [0.5, 0.5]
    assert str(single.catalogue["drift.mp4"].provenance["flow_library"]).startswith("opencv ")


def test_spans_are_the_single_pass(
    video: Path, options: Options, single: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "UNIT_S", 0.1)
    monkeypatch.setattr(planning, "SHORTEST_UNIT_S", 0.01)
    split, _ = run_extraction(video, tmp_path / "split.zarr", options=options)
    assert len(split.catalogue["drift.mp4"].parts) >= 3
    assert_equal(split, single)


@more
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_give_the_same_store(
    video: Path, options: Options, single: FeatureStore, tmp_path: Path, workers: int
) -> None:
    assert_equal(run_extraction(video, tmp_path / "f.zarr", options=replace(options, workers=workers))[0], single)


@more
@pytest.mark.parametrize("decoder", ["pyav", "decord", "torchcodec"])
def test_decoders_give_features_that_are_alike(
    video: Path, options: Options, single: FeatureStore, tmp_path: Path, decoder: str
) -> None:
    store, _ = run_extraction(video, tmp_path / "f.zarr", options=replace(options, decoder=decoder))
    ours, theirs = (each["drift.mp4"].features.astype(np.float64) for each in (store, single))
    if decoder == "pyav":
        np.testing.assert_array_equal(ours, theirs)
    assert np.linalg.norm(ours - theirs) < 0.05 * np.linalg.norm(theirs)


@more
@pytest.mark.skipif(not openvino_available(), reason="no OpenVINO")
def test_openvino_gives_the_features_of_torch(
    video: Path, options: Options, single: FeatureStore, tmp_path: Path
) -> None:
    store, _ = run_extraction(video, tmp_path / "f.zarr", options=replace(options, engine="openvino"))
    np.testing.assert_allclose(store["drift.mp4"].features, single["drift.mp4"].features, rtol=2e-2, atol=2e-3)


def test_the_method_is_the_networks_own_unless_another_is_asked_for(tmp_path: Path) -> None:
    recipe = settle(replace(OPTIONS, weights="random:0", flow=None), tmp_path / "f.zarr").recipe
    assert recipe.flow == FlowSettings(method="tvl1")


def test_weights_that_name_their_flow_are_given_it(tmp_path: Path) -> None:
    made = load_backbone("frames:small:flow", "random:0")
    trained = FlowSettings(method="dis", bound_px=8.0)
    (tmp_path / "w.safetensors").write_bytes(
        described_bytes(made.network, name=made.name, clips=made.spec.clips, classes=["a"], flow=trained)
    )
    options = Options(backbone=made.name, weights=str(tmp_path / "w.safetensors"), engine="torch")
    assert settle(options, tmp_path / "f.zarr").recipe.flow == trained
    asked = settle(replace(options, flow="tvl1"), tmp_path / "f.zarr").recipe.flow
    assert asked == FlowSettings(method="tvl1", bound_px=8.0)


def test_a_run_goes_on_with_the_flow_of_its_features(options: Options, single: FeatureStore) -> None:
    run = Run.__new__(Run)
    object.__setattr__(run, "recipe", single.recipe)
    object.__setattr__(run, "record", {"weights": options.weights})
    again = predicting.options_of(run, engine="torch")
    assert again.flow == "dis"
    assert settle(again, "f.zarr").recipe.as_dict() == single.recipe
