"""Pictures of odd stores and odd names."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray

from extract.store import FeatureStore, VideoFeatures
from pipelines.mapping import _scatter, laid_out, map_store
from pipelines.pictures import picture

HOSTILE = (
    "$\\frac{1}{0}$",
    "$broken",
    "_hidden",
    "<script>alert(1)</script>",
    "跳ぶ 🏃",
    "a" * 500,
    "\x1b[31m",
    "\ud800x",
)


@pytest.mark.parametrize("ending", [".png", ".svg"])
def test_any_name_stands_in_the_legend_as_it_is(tmp_path: Path, ending: str) -> None:
    places = np.random.default_rng(0).normal(size=(5 * len(HOSTILE), 2))
    with picture(tmp_path / f"map{ending}", (6, 5)) as figure:
        axes = figure.subplots()
        _scatter(axes, places, HOSTILE * 5)
        legend = axes.get_legend()
        assert legend is not None
        said = [text.get_text() for text in legend.get_texts()]
    assert {"$\\frac{1}{0}$", "_hidden", "跳ぶ 🏃", "x"} <= set(said)
    assert len(said) == len(HOSTILE)
    assert max(map(len, said)) <= 24
    if ending == ".svg":
        assert "<script" not in (tmp_path / "map.svg").read_text("utf-8")


def test_more_names_than_colours_share_one_grey() -> None:
    figure = Figure()
    axes = figure.subplots()
    names = [str(k % 40) for k in range(400)] + ["no label"] * 5
    _scatter(axes, np.zeros((405, 2)), names)
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()][:2] == ["no label", "other labels"]
    assert len(legend.get_texts()) == 23


@pytest.mark.parametrize("features", [np.ones((30, 8), np.float32), np.zeros((7, 3), np.float32)])
def test_clips_that_are_all_alike_are_one_point(features: NDArray[np.float32]) -> None:
    assert (laid_out(features, 0) == 0).all()
    almost = features + np.random.default_rng(0).normal(size=features.shape).astype(np.float32) * 1e-3
    assert np.isfinite(laid_out(almost, 0)).all()


def test_features_of_one_number_have_a_map() -> None:
    places = laid_out(np.arange(12, dtype=np.float32)[:, None], 0)
    assert places.shape == (12, 2)
    assert np.isfinite(places).all()


def test_a_still_video_has_a_map(tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path / "f.zarr", {"stored_dtype": "float16", "feature_width": 4})
    starts = np.arange(9, dtype=np.float64)
    still = VideoFeatures(
        video_id="still.mp4",
        fingerprint="f",
        features=np.ones((9, 4), np.float32),
        start_s=starts,
        stop_s=starts + 1,
        real_frames=np.full(9, 16, np.int32),
        damaged=np.zeros(9, bool),
        duration_s=9.0,
        status="ok",
        provenance={"uri": str(tmp_path / "gone.mp4")},
    )
    store.commit(store.write_segment([still]))
    assert map_store(tmp_path / "f.zarr", tmp_path / "map.png") == 9
    assert (tmp_path / "map.png").stat().st_size > 1000
