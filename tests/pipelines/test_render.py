"""What is drawn lies where and when it is said to be."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from footage import encode, regular
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from extract.errors import InputError, UsageError
from extract.store import FeatureSequence, FeatureStore, VideoFeatures
from extract.video import open_video, probe
from pipelines.annotations.document import Media
from pipelines.annotations.formats import read_document
from pipelines.cli import app
from pipelines.mapping import labels_at, laid_out, map_store, sampled, spread
from pipelines.pictures import (
    colour_of,
    draw_similarity,
    draw_timeline,
    lanes,
    pooled_rows,
    shortened,
    tick_seconds,
)
from pipelines.predictions import Curves
from pipelines.render import Look, Overlay, Timeline, ink_on, look_up, render_video
from pipelines.report.payload import Shown
from pipelines.report.verdicts import Rows

LABELS = ("jump", "$\\frac{1}{$ <b>throw</b>")
GREY = np.full((240, 360, 3), 128, np.uint8)


def rows(*given: tuple[int, float, float, float], box: NDArray[np.float64] | None = None) -> Rows:
    label, start, stop, score = (np.array(column, np.float64) for column in zip(*given, strict=True))
    return Rows(label.astype(np.int64), np.column_stack((start, stop)), score, box)


def segments(**changes: object) -> Shown:
    found = rows((0, 2.0, 4.0, 0.9), (1, 3.0, 6.0, 0.7), (0, 8.0, 9.0, 0.1))
    truth = rows((0, 2.5, 4.5, np.nan))
    given = {"predicted": found, "truth": truth, "curves": None, "tracks": None, **changes}
    return Shown("a.mp4", Media(10.0, 25.0, 96, 64), **given)  # type: ignore[arg-type]


def boxes() -> Shown:
    place = np.array([[0.25, 0.25, 0.5, 0.75], [0.25, 0.25, 0.5, 0.75], [0.6, 0.5, 0.9, 0.9]])
    found = rows((0, 1.0, 1.0, 0.9), (1, 1.0, 1.0, 0.8), (0, 4.0, 4.0, 0.6), box=place)
    truth = rows((0, 1.0, 1.0, np.nan), box=place[:1])
    return segments(predicted=found, truth=truth, tracks=(np.array([3, 3, -1]), np.array([-1])))


def has(pixels: NDArray[np.uint8], colour: tuple[int, int, int]) -> bool:
    return bool((np.abs(pixels.astype(int) - colour).max(axis=-1) < 12).any())


def opened(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_labels_stand_on_the_picture_while_they_are_so() -> None:
    overlay = Overlay(Look(segments(), LABELS, 0.5, None), (360, 240))
    at = {second: overlay.drawn(GREY, second) for second in (1.0, 3.5, 5.0, 8.5)}
    assert {picture.shape for picture in at.values()} == {(overlay.size[1], overlay.size[0], 3)}
    left, right = (slice(0, 240), slice(0, 180)), (slice(0, 240), slice(290, 360))
    assert has(at[3.5][left], colour_of(0))
    assert has(at[3.5][left], colour_of(1))
    assert has(at[3.5][right], colour_of(0))
    assert not has(at[3.5][right], colour_of(1))
    assert not has(at[5.0][left], colour_of(0))
    assert has(at[5.0][left], colour_of(1))
    for quiet in (1.0, 8.5):  # the last one is below the threshold
        assert (at[quiet][:240] == 128).all()


def test_boxes_are_drawn_around_their_place_near_their_moment() -> None:
    overlay = Overlay(Look(boxes(), LABELS, 0.5, None), (360, 240))
    near = overlay.drawn(GREY, 1.3)
    colour = np.array(colour_of(3))
    ys, xs = np.nonzero(np.abs(near[:240].astype(int) - colour).max(axis=-1) < 12)
    assert (xs.min(), ys.max()) == pytest.approx((90, 180), abs=2)
    assert (near[100:140, 100:170] == 128).all()  # only the border is painted
    assert (overlay.drawn(GREY, 2.5)[:240] == 128).all()
    assert has(overlay.drawn(GREY, 3.6)[120:240, 200:330], colour_of(0))


def test_the_timeline_shows_each_segment_and_the_moment() -> None:
    video = segments()
    bar = Timeline(video, video.at(0.5), 600, 12)
    pictures = {second: bar.at(second) for second in (0.0, 5.0, 10.0)}
    assert pictures[0.0].shape == (bar.height, 600, 3)
    x = {second: 72 + round(second / 10 * (600 - 12 - 72)) for second in (0.0, 3.0, 5.0, 10.0)}
    for second in (0.0, 5.0, 10.0):
        assert (pictures[second][4, x[second]] == 255).all()
    assert has(pictures[0.0][:, x[3.0]], colour_of(0))
    assert has(pictures[0.0][:, x[3.0] + 5], colour_of(1))
    assert not has(pictures[0.0][:, 72 + round(0.85 * 516)], colour_of(0))


def test_many_labels_and_narrow_pictures_are_drawn_too() -> None:
    many = rows(*((label, 1.0, 1.0, 0.9) for label in range(60)), box=np.tile([0.0, 0.1, 0.9, 1.0], (60, 1)))
    video = segments(predicted=many, truth=None, tracks=(np.full(60, -1), np.zeros(0, np.int64)))
    for size in ((360, 240), (40, 120), (2, 120)):
        overlay = Overlay(Look(video, [str(label) for label in range(60)], 0.5, None), size)
        assert overlay.drawn(GREY[: size[1], : size[0]], 1.0).shape == (overlay.size[1], size[0], 3)
        assert Overlay(Look(segments(), LABELS, 0.0, None), size).drawn(GREY[: size[1], : size[0]], 3.5).any()


def write_files(folder: Path) -> tuple[Path, Path]:
    entries = [{"label": "jump", "score": 0.9, "segment": [1.0, 2.0]}]
    predictions = {"version": "VERSION 1.3", "results": {"a": entries, "b": entries}, "external_data": {}}
    (folder / "found.json").write_text(json.dumps(predictions))
    one = {"subset": "validation", "duration": 4.0, "annotations": [{"label": "jump", "segment": [1.2, 2.1]}]}
    (folder / "labels.json").write_text(json.dumps({"version": "VERSION 1.3", "database": {"a": one, "b": one}}))
    (folder / "videos").mkdir()
    encode(folder / "videos" / "a.mp4", regular(100), rotation=90)
    return folder / "found.json", folder / "labels.json"


def test_the_rendered_video_keeps_its_seconds(tmp_path: Path) -> None:
    found, labels = write_files(tmp_path)
    options = ["--video", "a", "--videos", str(tmp_path / "videos"), "--truth", str(labels), "--height", "180"]
    out = tmp_path / "out.webm"
    done = CliRunner().invoke(app, ["render", "video", str(found), "-o", str(out), "--json", *options])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["video"] == "a"
    info = probe(out)
    assert (info.codec, info.width) == ("vp9", 120)
    assert info.duration_s == pytest.approx(4.0, abs=0.05)
    with open_video(out) as reader:
        pictures = {
            round(float(t), 2): p.copy() for batch in reader for p, t in zip(batch.pixels, batch.pts_s, strict=True)
        }
    assert len(pictures) == 100
    changed = {
        t: bool(np.abs(p[4:20, 4:60].astype(int) - pictures[0.0][4:20, 4:60]).mean() > 20) for t, p in pictures.items()
    }
    assert [t for t in pictures if changed[t]] == [t for t in pictures if 1.0 <= t < 2.1]


def test_what_cannot_be_drawn_is_said(tmp_path: Path) -> None:
    found, _ = write_files(tmp_path)
    with pytest.raises(UsageError, match="has 2 videos; name one by --video: a, b"):
        look_up(found)
    with pytest.raises(UsageError, match="'c' is not in"):
        look_up(found, "c")
    look = look_up(found, "b")
    with pytest.raises(InputError, match="'b' is not found; name the folder"):
        render_video(look, tmp_path / "b.webm")
    with pytest.raises(UsageError, match=r"\.webm or \.mp4"):
        render_video(look, tmp_path / "b.gif")
    with pytest.raises(UsageError, match="at least 120"):
        render_video(look, tmp_path / "b.mp4", height_px=10)
    with pytest.raises(UsageError, match=r"\.png or \.svg"):
        draw_timeline(look.video, look.labels, 0.5, tmp_path / "b.pdf")


@pytest.mark.parametrize("ending", [".png", ".svg"])
def test_a_timeline_is_drawn_the_same_each_time_with_any_label(tmp_path: Path, ending: str) -> None:
    curves = Curves(np.arange(10) + 0.5, np.arange(20, dtype=np.uint8).reshape(2, 10) * 12)
    for name in ("one", "two"):
        draw_timeline(segments(curves=curves), LABELS, 0.5, tmp_path / f"{name}{ending}")
    assert (tmp_path / f"one{ending}").read_bytes() == (tmp_path / f"two{ending}").read_bytes()
    draw_timeline(boxes(), LABELS, 0.5, tmp_path / f"boxes{ending}")
    if ending == ".png":
        assert has(opened(tmp_path / "one.png"), colour_of(0))


def sequence(clips: int, *, period: int = 10) -> FeatureSequence:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((period, 8))[np.arange(clips) % period] + 0.1 * rng.standard_normal((clips, 8))
    start = np.arange(clips, dtype=np.float64)
    whole = np.ones(clips, np.int32)
    return FeatureSequence(
        features.astype(np.float32), start, start + 1, whole, np.zeros(clips, np.bool_), float(clips)
    )


def test_the_similarity_of_a_long_video_is_drawn_fast(tmp_path: Path) -> None:
    began = time.monotonic()
    draw_similarity(sequence(36_000), "day.mp4", tmp_path / "same.png")
    assert time.monotonic() - began < 20
    assert min(opened(tmp_path / "same.png").shape[:2]) > 500
    draw_similarity(sequence(1), "one.mp4", tmp_path / "one.png")
    with pytest.raises(InputError, match="no clips"):
        draw_similarity(sequence(0), "none.mp4", tmp_path / "none.png")


def test_rows_are_pooled_in_order() -> None:
    np.testing.assert_allclose(pooled_rows(np.arange(8.0)[:, None], 4)[:, 0], [0.5, 2.5, 4.5, 6.5])
    assert pooled_rows(np.zeros((3, 2)), 10).shape == (3, 2)


def a_store(path: Path, clips: int = 30) -> FeatureStore:
    store = FeatureStore.create(path, {"feature_width": 8, "stored_dtype": "float32"})
    for number in range(2):
        made = sequence(clips, period=3)
        store.commit(
            store.write_segment(
                [
                    VideoFeatures(
                        f"{number}.mp4",
                        fingerprint=f"{number}",
                        features=made.features,
                        start_s=made.start_s,
                        stop_s=made.stop_s,
                        real_frames=made.real_frames,
                        damaged=made.damaged,
                        duration_s=made.duration_s,
                        status="complete",
                        provenance={},
                    )
                ]
            )
        )
    return store


def test_a_map_puts_alike_clips_together(tmp_path: Path) -> None:
    places = laid_out(sequence(45, period=3).features, 0)
    np.testing.assert_array_equal(places, laid_out(sequence(45, period=3).features, 0))
    away = np.linalg.norm(places[:, None] - places[None], axis=2) + np.diag(np.full(45, np.inf))
    assert ((away.argmin(axis=1) - np.arange(45)) % 3 == 0).mean() > 0.95


def test_the_map_of_a_store_is_drawn_with_labels_and_pictures(tmp_path: Path) -> None:
    store = a_store(tmp_path / "store")
    assert (len(sampled(store, 100).second), len(sampled(store, 25).second)) == (60, 20)
    np.testing.assert_array_equal(sampled(store, 25).second, [*np.arange(0.5, 30, 3), *np.arange(0.5, 30, 3)])
    encode(tmp_path / "0.mp4", regular(50))
    entries = [{"label": "jump", "segment": [0, 20]}, {"label": "throw", "segment": [10, 12]}]
    one = {"subset": "validation", "duration": 30.0, "annotations": entries}
    (tmp_path / "labels.json").write_text(json.dumps({"version": "VERSION 1.3", "database": {"0": one}}))
    named = labels_at(sampled(store, 100), read_document(tmp_path / "labels.json"))
    assert named[:30] == ["jump"] * 10 + ["throw"] * 2 + ["jump"] * 8 + ["no label"] * 10
    assert set(named[30:]) == {"no label"}
    options = ["--annotations", str(tmp_path / "labels.json"), "--videos", str(tmp_path), "--json"]
    done = CliRunner().invoke(app, ["render", "map", str(tmp_path / "store"), "-o", str(tmp_path / "m.png"), *options])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["clips"] == 60
    pixels = opened(tmp_path / "m.png")
    assert has(pixels, colour_of(0))
    assert has(pixels, colour_of(1))
    a_store(tmp_path / "small", clips=2)
    with pytest.raises(InputError, match="has 4 clips; expected at least 5"):
        map_store(tmp_path / "small", tmp_path / "s.png")


def test_picked_clips_are_spread() -> None:
    points = np.array([[0.0, 0], [0.1, 0], [10, 0], [0, 10], [10, 10]])
    assert set(spread(points, 4)) >= {2, 3, 4}
    assert len(spread(np.zeros((5, 2)), 4)) == 1


def test_small_arithmetic() -> None:
    assert tick_seconds(60, most=8) == [0, 10, 20, 30, 40, 50, 60]
    assert len(tick_seconds(10 * 86400, most=6)) <= 8
    assert shortened("a\nb\x00  c" + "d" * 50, 8) == "a b cdd…"
    lane, count = lanes(np.array([[0.0, 5], [4, 6], [5, 7], [0, 9], [1, 9]]), 3)
    assert count == 3
    assert (lane[0], lane[2]) == (lane[0], lane[0])
    assert ink_on((240, 228, 66)) == (16, 16, 16)
    assert ink_on((0, 114, 178)) == (255, 255, 255)
