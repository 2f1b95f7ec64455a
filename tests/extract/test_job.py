"""The same units in this process and in others give the same features; what is not a video's fault surfaces."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from extract.backbones import EMBEDDED, load_backbone
from extract.errors import MachineError, UsageError
from extract.job import Crewing, crew
from extract.recipe import Recipe
from extract.store import FeatureStore
from extract.worker import Setup, Task, Unit, UnitResult

SIDE = 32
FRAMES = {"a.mp4": 25, "b.mp4": 10, "c.mp4": 61}
SECONDS = {"a.mp4": 1.0, "b.mp4": 0.4, "c.mp4": 2.44}
CLIPS = {"a.mp4": 3, "b.mp4": 1, "c.mp4": 7}  # 10, 4 and 25 samples; 4 to a clip


def encode(path: Path, n: int, seed: int) -> None:
    """``n`` pictures at 25/s of a bright square that wanders on a dark ground."""
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25), options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        stream.codec_context.thread_count = 1
        for _ in range(n):
            picture = np.full((SIDE, SIDE, 3), 30, np.uint8)
            x, y = rng.integers(0, SIDE - 8, 2)
            picture[y : y + 8, x : x + 8] = rng.integers(100, 256, 3)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for seed, (name, n) in enumerate(FRAMES.items()):
        encode(folder / name, n, seed)
    return folder


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    recipe = Recipe(
        backbone=EMBEDDED,
        weights_sha256=load_backbone(EMBEDDED, "random:0").weights_sha256,
        layer="features",
        feature_width=256,
        clip_frames=4,
        frame_stride=1,
        hop=4,
        fps=10.0,
        short_side_px=SIDE,
        crop_px=SIDE,
        resize_kernel="swscale-bilinear",
        mean=(0.45, 0.45, 0.45),
        std=(0.225, 0.225, 0.225),
        precision="fp32",
    )
    store = FeatureStore.create(tmp_path / "store", recipe.as_dict())
    return Setup(store.url, recipe, "random:0", "cpu", "torch", "auto", threads=1)


def task(folder: Path, name: str) -> Task:
    return Task(name, str(folder / name), f"print of {name}", None)


def crcs(results: Sequence[UnitResult]) -> dict[str, int]:
    return {
        video.video_id: video.crc32
        for result in results
        if result.receipt is not None
        for video in result.receipt.videos
    }


def done(setup: Setup, *units: Unit) -> list[UnitResult]:
    with crew(Crewing()) as hands:
        return list(hands.run(setup, units, lambda _clips: None))


def test_units_run_here(setup: Setup, folder: Path) -> None:
    heard: list[int] = []
    units = [Unit((task(folder, "c.mp4"),)), Unit((task(folder, "b.mp4"), task(folder, "a.mp4")))]
    with crew(Crewing()) as hands:
        assert hands.slots == 1
        results = list(hands.run(setup, units, heard.append))
    assert [result.clips for result in results] == [7, 4]
    assert sum(heard) == 11
    assert len(heard) > 2, "told while a unit is computed, not at its end"
    assert [result.failed for result in results] == [(), ()]
    assert [result.video_s for result in results] == pytest.approx([2.44, 1.4])
    assert all(min(result.decode_s, result.model_s, result.store_s) > 0 for result in results)
    store = FeatureStore.open(setup.store)
    assert list(store) == [], "nobody sees a segment before it is committed"
    for result in results:
        assert result.receipt is not None
        store.commit(result.receipt)
    assert {name: len(store[name]) for name in store} == CLIPS
    assert {name: store[name].duration_s for name in store} == pytest.approx(SECONDS)
    np.testing.assert_allclose(store["b.mp4"].start_s, [0.0])
    np.testing.assert_allclose(store["b.mp4"].stop_s, [0.4])
    np.testing.assert_allclose(store["a.mp4"].stop_s, [0.4, 0.8, 1.0])
    assert store["a.mp4"].real_frames.tolist() == [4, 4, 2]


def test_features_do_not_depend_on_the_units(setup: Setup, folder: Path) -> None:
    together = done(setup, Unit(tuple(task(folder, name) for name in FRAMES)))
    alone = done(setup, *(Unit((task(folder, name),)) for name in reversed(FRAMES)))
    assert crcs(together) == crcs(alone)
    assert len(set(crcs(alone).values())) == 3


def test_a_video_that_fails_does_not_touch_the_others(setup: Setup, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    results = done(
        setup,
        Unit((task(folder, "a.mp4"), task(tmp_path, "empty.mp4"), task(folder, "b.mp4"))),
        Unit((task(tmp_path, "gone.mp4"),)),
    )
    assert [[(f.video_id, f.fingerprint, f.reason) for f in result.failed] for result in results] == [
        [("empty.mp4", "print of empty.mp4", "empty")],
        [("gone.mp4", "print of gone.mp4", "missing")],
    ]
    assert "0 bytes" in results[0].failed[0].detail
    assert crcs(results) == crcs(done(setup, Unit((task(folder, "a.mp4"), task(folder, "b.mp4")))))
    assert results[1].receipt is None
    assert results[1].clips == 0


def test_errors_that_are_not_a_videos_surface(setup: Setup, folder: Path) -> None:
    unit = Unit((task(folder, "a.mp4"),))
    with pytest.raises(UsageError, match="--crop 33 is larger than the resized frame"):
        done(replace(setup, recipe=setup.recipe.model_copy(update={"crop_px": 33})), unit)
    with pytest.raises(MachineError, match=r"weights of tiny_r2plus1d \(random:1\) .*every worker the same file"):
        done(replace(setup, weights="random:1"), unit)


def test_other_processes_give_equal_features(setup: Setup, folder: Path) -> None:
    units = [Unit((task(folder, "a.mp4"),)), Unit((task(folder, "c.mp4"), task(folder, "b.mp4")))]
    heard: list[int] = []
    with crew(Crewing(workers=1)) as hands:
        results = list(hands.run(setup, units, heard.append))
        with pytest.raises(MachineError, match=r"\(random:1\) have digest .*every worker the same file"):
            list(hands.run(replace(setup, weights="random:1"), units[:1], heard.append))
    assert crcs(results) == crcs(done(setup, *(Unit((task(folder, name),)) for name in FRAMES)))
    assert sum(result.clips for result in results) == sum(heard) == sum(CLIPS.values())
    store = FeatureStore.open(setup.store)
    store.commit(*(result.receipt for result in results if result.receipt is not None))
    assert {name: len(store[name]) for name in store} == CLIPS
