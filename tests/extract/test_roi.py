"""Features of boxes: which clip a box is read from, what is read there, and the stores that hold it."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray
from footage import encode, regular
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from extract.backbones import EMBEDDED, load_backbone
from extract.boxes import OVERSHOOT_S, Boxes, ReadTo, box_features, boxed_clips, boxed_fingerprint, content_of, widened
from extract.clipping import ClipSpan, clips_of, reading_options
from extract.engine import ClipInput, Engine, settle_engine
from extract.errors import StoreError, UsageError
from extract.recipe import Recipe, RoiPooling
from extract.store import FeatureStore, VideoFeatures
from extract.video import open_video, probe
from extract.worker import Setup, Task, Unit, UnitResult, clip_input, decoding_process, features_of, run_unit
from pipelines.comparison import compare_sample
from pipelines.exports import export_video
from pipelines.verification import verify_store

SIDE = 32
MEAN, STD = (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)
Floats = NDArray[np.float64]


def recipe_of(grid: tuple[int, int, int] = (8, 1, 4), fps: float | str = 10.0, **changes: Any) -> Recipe:
    clip_frames, frame_stride, hop = grid
    values: dict[str, Any] = {
        "backbone": EMBEDDED,
        "weights_sha256": "0",
        "layer": "features",
        "feature_width": 256,
        "clip_frames": clip_frames,
        "frame_stride": frame_stride,
        "hop": hop,
        "fps": fps,
        "short_side_px": SIDE,
        "crop_px": None,
        "resize_kernel": "swscale-bilinear",
        "mean": MEAN,
        "std": STD,
        "precision": "fp32",
        "pooling": "roi",
        "roi": {"stride_px": 32, "aligned": True},
    }
    return Recipe.model_validate({**values, **changes})


def boxes_at(seconds: Sequence[float], seed: int = 0) -> Boxes:
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.uniform(0, 0.98, (len(seconds), 2, 2)), axis=1) + np.array([[0.0], [0.02]])
    box = corners.reshape(-1, 4).astype(np.float32)
    return Boxes(np.sort(np.array(seconds, np.float64)), box, rng.uniform(0, 1, len(seconds)).astype(np.float32))


def noise(index: int) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(index // 3).integers(0, 256, (8, 12, 3), np.uint8)
    return np.kron(coarse, np.ones((8, 8, 1), np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames of three shapes: 96 x 64, 64 x 96, and 192 x 64 in display."""
    folder = tmp_path_factory.mktemp("videos")
    encode(folder / "wide.mp4", regular(70), picture=noise, options={"bf": "2"})
    encode(folder / "high.mp4", regular(40), picture=noise, rotation=90)
    encode(folder / "long.mp4", regular(50), picture=noise, aspect=Fraction(2))
    return folder


@pytest.fixture(scope="module", autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    decoding_process().close()


# Which clip


Row = tuple[float, float, float, float]  # second, score, and the times of the clip


def read(path: Path, recipe: Recipe, boxes: Boxes, span: ClipSpan | None = None) -> tuple[list[Row], ReadTo]:
    found: list[Row] = []
    with open_video(path, **reading_options(recipe, "auto", widened(span))) as reader:
        clips = boxed_clips(reader, recipe, boxes, span)
        while True:
            try:
                boxed = next(clips)
            except StopIteration as end:
                return found, end.value
            assert len(boxed.boxes)
            times = (boxed.clip.start_s, boxed.clip.stop_s)
            found += [(t, s, *times) for t, s in zip(boxed.boxes.second, boxed.boxes.score, strict=True)]


def plain(path: Path, recipe: Recipe, boxes: Boxes) -> list[Row]:
    """The rule written plainly."""
    with open_video(path, **reading_options(recipe, "auto")) as reader:
        times = [(clip.start_s, clip.stop_s) for clip in clips_of(reader, recipe)]
    middles = np.array([(start_s + stop_s) / 2 for start_s, stop_s in times])
    kept = [at for at in range(len(boxes)) if boxes.second[at] <= times[-1][1] + OVERSHOOT_S]
    nearest = [int(np.argmin(np.abs(middles - boxes.second[at]))) for at in kept]  # argmin takes the first of equals
    return [(boxes.second[at], boxes.score[at], *times[clip]) for at, clip in zip(kept, nearest, strict=True)]


@pytest.fixture(scope="module")
def minute(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode(tmp_path_factory.mktemp("minute") / "minute.mp4", regular(111), options={"bf": "2"})


@settings(max_examples=30, deadline=None)
@given(
    grid=st.tuples(st.integers(1, 9), st.integers(1, 2), st.integers(1, 30)),
    fps=st.sampled_from([5.0, 12.5, "native"]),
    bounds=st.sets(st.integers(1, 60), max_size=4),
    seconds=st.lists(st.integers(0, 240).map(lambda n: n / 40), max_size=20),
)
def test_a_box_is_read_from_the_clip_with_the_nearest_middle_however_the_video_is_cut(
    minute: Path, grid: tuple[int, int, int], fps: float | str, bounds: set[int], seconds: list[float]
) -> None:
    recipe, boxes = recipe_of(grid, fps), boxes_at(seconds)
    whole, end = read(minute, recipe, boxes)
    assert [row[:2] for row in whole] == [row[:2] for row in plain(minute, recipe, boxes)]
    away = [abs(t - (start + stop) / 2) for t, _, start, stop in whole]
    np.testing.assert_allclose(away, [abs(t - (a + b) / 2) for t, _, a, b in plain(minute, recipe, boxes)], atol=1e-9)
    assert (end.ends, len(end.late)) == (True, len(boxes) - len(whole))
    info = probe(minute)
    rate = info.average_fps if fps == "native" else float(fps)
    parts, clips = [], 0
    for first, stop in itertools.pairwise([0, *sorted(bounds), None]):
        assert first is not None
        rows, part = read(minute, recipe, boxes, ClipSpan(first, stop, info.start_s, rate))
        parts += rows
        clips += part.clips
        assert part.ends == (first + part.clips == end.clips or part.clips == 0)
    assert (parts, clips) == (whole, end.clips)


def test_a_box_in_the_middle_of_two_clips_is_of_the_earlier_one(minute: Path) -> None:
    (row,), _ = read(minute, recipe_of((10, 1, 10)), boxes_at([1.0]))
    assert row[2:] == pytest.approx((0.0, 1.0))


# What is read there


def reference(maps: Floats, box: Floats, stride: float, *, aligned: bool) -> Floats:
    """RoIAlign (He et al., ICCV 2017) of maps (D, H, W) at a box in pixels, 7 x 7, then maxima: loops in float64."""
    x1, y1, x2, y2 = box / stride - (0.5 if aligned else 0.0)
    width, height = x2 - x1, y2 - y1
    if not aligned:
        width, height = max(width, 1.0), max(height, 1.0)
    nx, ny = max(1, int(np.ceil(width / 7))), max(1, int(np.ceil(height / 7)))

    def at(y: float, x: float) -> Floats:
        if not (-1 <= y <= maps.shape[1] and -1 <= x <= maps.shape[2]):
            return np.zeros(len(maps))
        y, x = min(max(y, 0), maps.shape[1] - 1), min(max(x, 0), maps.shape[2] - 1)
        top, left = int(y), int(x)
        low, right = min(top + 1, maps.shape[1] - 1), min(left + 1, maps.shape[2] - 1)
        dy, dx = y - top, x - left
        upper = maps[:, top, left] * (1 - dx) + maps[:, top, right] * dx
        lower = maps[:, low, left] * (1 - dx) + maps[:, low, right] * dx
        return np.asarray(upper * (1 - dy) + lower * dy)

    bins = [
        np.mean(
            [
                at(y1 + (row + (j + 0.5) / ny) * height / 7, x1 + (column + (i + 0.5) / nx) * width / 7)
                for j in range(ny)
                for i in range(nx)
            ],
            axis=0,
        )
        for row in range(7)
        for column in range(7)
    ]
    return np.asarray(np.max(bins, axis=0))


@pytest.mark.parametrize("aligned", [True, False])
def test_rois_are_those_of_a_plain_computation(aligned: bool) -> None:
    maps = np.random.default_rng(0).standard_normal((5, 16, 21)).astype(np.float32)
    boxes = boxes_at(range(12))
    found = box_features(maps, boxes, (250, 330), RoiPooling(stride_px=16, aligned=aligned))
    pixels = boxes.box.astype(np.float64) * [330, 250, 330, 250]
    wanted = [reference(maps.astype(np.float64), box, 16, aligned=aligned) for box in pixels]
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert box_features(maps, Boxes.none(), (250, 330), RoiPooling(stride_px=16, aligned=aligned)).shape == (0, 5)


def setup_of(tmp_path: Path, recipe: Recipe | None = None, weights: str = "random:0") -> Setup:
    recipe = recipe or recipe_of()
    digest = load_backbone(recipe.backbone, weights).weights_sha256
    recipe = recipe.model_copy(update={"weights_sha256": digest})
    store = FeatureStore.open_or_create(tmp_path / "store", recipe.as_dict())
    return Setup(store.url, recipe, weights, "cpu", "torch", "auto", threads=1, boxes_file="people.csv")


def task_of(folder: Path, name: str, boxes: Boxes) -> Task:
    return Task(name, str(folder / name), boxed_fingerprint(f"print of {name}", boxes), None, boxes=boxes)


def exact(path: Path, recipe: Recipe, boxes: Boxes, *, fps: float) -> Floats:
    """Features of boxes in float64, from frames that are decoded and cut into clips here."""
    with open_video(path, fps=fps, short_side=recipe.short_side_px) as reader:
        batches = list(reader)
        end_s = (reader.report.display_end_s or 0.0) - reader.info.start_s
        times = np.concatenate([batch.pts_s for batch in batches]) - reader.info.start_s
    frames = np.concatenate([batch.pixels for batch in batches])
    T, hop, n = recipe.clip_frames, recipe.hop, len(frames)
    starts = [k for k in range(0, n, hop) if k == 0 or k - hop + T < n]
    middle = np.array([(times[k] + (times[k + T] if k + T < n else end_s)) / 2 for k in starts])
    network = load_backbone(recipe.backbone, "random:0").network.double()
    rows = []
    for second, box in zip(boxes.second, boxes.box.astype(np.float64), strict=True):
        first = starts[int(np.argmin(np.abs(middle - second)))]
        clip = frames[[min(first + i, n - 1) for i in range(T)]].astype(np.float64)
        pixels = torch.from_numpy((clip / 255 - MEAN) / STD).permute(3, 0, 1, 2)[None]
        with torch.inference_mode():
            maps = network.maps(pixels)[0].mean(1).numpy()
        size = [frames.shape[2], frames.shape[1]] * 2
        assert recipe.roi is not None
        rows.append(reference(maps, box * size, recipe.roi.stride_px, aligned=recipe.roi.aligned))
    return np.array(rows)


@pytest.mark.parametrize("name", ["wide.mp4", "high.mp4", "long.mp4"])
def test_features_are_those_of_a_plain_computation_in_float64(folder: Path, tmp_path: Path, name: str) -> None:
    recipe, boxes = recipe_of(short_side_px=64), boxes_at([0.0, 0.3, 0.31, 1.0, 1.5, 1.5, 2.6])
    found = features_of(setup_of(tmp_path, recipe), task_of(folder, name, boxes))
    wanted = exact(folder / name, recipe, boxes, fps=10.0)[: len(found.features)]
    assert len(found.features) == 7
    np.testing.assert_allclose(found.features, wanted, atol=1e-5 * float(np.abs(wanted).max()))
    np.testing.assert_array_equal(found.second, boxes.second)
    np.testing.assert_array_equal(found.box, boxes.box)
    np.testing.assert_array_equal(found.box_score, boxes.score)
    assert (found.start_s <= found.stop_s).all()


def test_detection_networks_have_their_own_head(folder: Path, tmp_path: Path) -> None:
    name = "slow_r50_detection"
    recipe = recipe_of((4, 2, 4), backbone=name, feature_width=2048, roi={"stride_px": 16, "aligned": False})
    boxes = boxes_at([0.2, 0.2])
    found = features_of(setup_of(tmp_path, recipe), task_of(folder, "wide.mp4", boxes))
    with open_video(folder / "wide.mp4", **reading_options(recipe, "auto")) as reader:
        clip = next(clips_of(reader, recipe)).frames
    pixels = (torch.from_numpy(clip).permute(3, 0, 1, 2)[None] / 255 - 0.45) / 0.225
    corners = torch.from_numpy(boxes.box) * torch.tensor([clip.shape[2], clip.shape[1]] * 2)
    backbone = load_backbone(name, "random:0")
    wanted = backbone.features(pixels, torch.cat([torch.zeros(2, 1), corners], 1)).numpy()
    np.testing.assert_allclose(found.features, wanted, atol=1e-4 * float(np.abs(wanted).max()))
    assert backbone.box_width(4, 64) == 2048


# The same, however it is done


def committed(setup: Setup, *units: Unit) -> list[UnitResult]:
    results = [run_unit(setup, unit) for unit in units]
    for result in results:
        assert not result.failed
        if result.receipt is not None:
            FeatureStore.open(setup.store).commit(result.receipt)
    return results


def assert_same(ours: FeatureStore, theirs: FeatureStore) -> None:
    assert list(ours) == list(theirs)
    for name in ours:
        assert ours.catalogue[name].crc32 == theirs.catalogue[name].crc32
        for array in ("features", "start_s", "stop_s", "real_frames", "damaged", "box", "box_score", "second"):
            np.testing.assert_array_equal(getattr(ours[name], array), getattr(theirs[name], array), strict=True)


def test_same_bits_in_any_company_with_any_threads_and_in_spans(folder: Path, tmp_path: Path) -> None:
    boxes = {
        "wide.mp4": boxes_at([0.0, 0.4, 0.4, 1.0, 1.2, 2.5, 2.79], 1),
        "high.mp4": boxes_at([0.7, 0.9], 2),
        "long.mp4": Boxes.none(),
    }
    tasks = [task_of(folder, name, own) for name, own in boxes.items()]
    (tmp_path / "one").mkdir()
    one = setup_of(tmp_path / "one")
    (result,) = committed(one, Unit(tuple(tasks)))
    assert (result.boxes, result.clips, result.notes) == (9, 5, ())
    assert result.video_s == pytest.approx(2.8 + 1.6 + 2.0)
    (tmp_path / "other").mkdir()
    other = replace(setup_of(tmp_path / "other"), threads=3)
    start_s = probe(folder / "wide.mp4").start_s
    spans = [ClipSpan(first, stop, start_s, 10.0) for first, stop in ((0, 1), (1, 3), (3, 5), (5, None))]
    pieces = [Unit((replace(tasks[0], span=span),)) for span in reversed(spans)]
    results = committed(other, Unit((tasks[2], tasks[1])), *pieces)
    assert sum(each.boxes for each in results) == 9
    stores = [FeatureStore.open(setup.store) for setup in (one, other)]
    assert len(stores[1].catalogue["wide.mp4"].parts) == len(results) - 1
    assert stores[1].catalogue["wide.mp4"].provenance["boxes"] == 7
    assert_same(*stores)
    for store in stores:
        store.publish()
        assert_same(FeatureStore.open(store.url), stores[0])
        assert verify_store(store).damaged == ()


def test_spans_that_follow_each_other_are_told_from_their_clips(folder: Path, tmp_path: Path) -> None:
    setup, boxes = setup_of(tmp_path), boxes_at([2.0])
    start_s = probe(folder / "wide.mp4").start_s
    task = replace(task_of(folder, "wide.mp4", boxes), span=ClipSpan(0, 3, start_s, 10.0))
    committed(setup, Unit((task,)))
    store = FeatureStore.open(setup.store)
    (span,) = store.spans["wide.mp4"]
    assert (span.part.rows, span.clips, span.stop_clip) == (0, 3, 3)
    committed(setup, Unit((replace(task, span=ClipSpan(3, None, start_s, 10.0)),)))
    store.refresh()
    assert (len(store["wide.mp4"]), store.spans) == (1, {})


def test_the_engine_takes_clips_of_any_size() -> None:
    backbone = load_backbone(EMBEDDED, "random:0")
    given = ClipInput(4, SIDE, MEAN, STD, maps=True)
    rng = np.random.default_rng(0)
    shapes = [(32, 48), (32, 48), (64, 32), (32, 48), (32, 32)]
    clips = [rng.integers(0, 256, (4, *shape, 3), np.uint8) for shape in shapes]
    engine = Engine(backbone, given, threads=2)
    batches = list(engine.run(enumerate(clips)))
    assert [[key for key, _ in batch] for batch in batches] == [[0, 1], [2], [3], [4]]
    for key, maps in itertools.chain.from_iterable(batches):
        assert maps.shape == (256, -(-shapes[key][0] // 32), -(-shapes[key][1] // 32))
        np.testing.assert_array_equal(maps, Engine(backbone, given).features(clips[key][None])[0])
    settled = {"device": "cpu", "precision": "fp32"}
    assert settle_engine("auto", backbone, given, **settled) == "torch"  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="--engine compile computes no features of boxes yet"):
        settle_engine("compile", backbone, given, **settled)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["mvit_v2_s", "frames:alexnet"])
def test_networks_without_maps_to_read_boxes_from_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=rf"{name} .*(read boxes from).*ake another backbone"):
        load_backbone(name, "random:0").box_width(16, 224)


# The store


def features(video_id: str, n: int, *, of_boxes: bool = True, **changes: Any) -> VideoFeatures:
    boxes = boxes_at(np.arange(n) / 2, n)
    own = {"box": boxes.box, "box_score": boxes.score, "second": boxes.second} if of_boxes else {}
    values: dict[str, Any] = {
        "video_id": video_id,
        "features": np.random.default_rng(n).standard_normal((n, 5)).astype(np.float32),
        "start_s": np.arange(n) * 0.5,
        "stop_s": np.arange(n) * 0.5 + 1,
        "real_frames": np.full(n, 8, np.int32),
        "damaged": np.zeros(n, np.bool_),
        "duration_s": 60.0,
        "fingerprint": "print",
        "status": "ok",
        "provenance": {},
        **own,
    }
    return VideoFeatures(**{**values, **changes})


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore.create(tmp_path / "store", {"feature_width": 5, "stored_dtype": "float16", "roi": {}})


@pytest.mark.parametrize("sizes", [(0,), (0, 3), (3, 0), (2, 0, 0, 4), (0, 0), (1500, 0, 7), (0, 66_000, 0)])
def test_videos_with_and_without_boxes(store: FeatureStore, tmp_path: Path, sizes: tuple[int, ...]) -> None:
    videos = [features(f"{at}.mp4", n) for at, n in enumerate(sizes)]
    store.commit(store.write_segment(videos[:1]))
    store.publish()
    for video in videos[1:]:
        store.commit(store.write_segment([video]))
    store.publish()
    for reader in (store, FeatureStore.open(store.url)):
        for video in videos:
            sequence = reader[video.video_id]
            assert len(sequence) == len(video.features)
            np.testing.assert_array_equal(sequence.features, video.features.astype(np.float16), strict=True)
            for name in ("start_s", "box", "box_score", "second"):
                np.testing.assert_array_equal(getattr(sequence, name), getattr(video, name), strict=True)
    assert store.nbytes == sum(sizes) * (5 * 2 + 8 + 8 + 4 + 1 + 16 + 4 + 8)
    found = verify_store(store)
    assert (found.damaged, found.published, found.clips) == ((), len(sizes), sum(sizes))
    dataset = xarray.open_zarr(store.url)
    assert dataset["box"].shape == (sum(sizes), 4)
    assert dataset["row_size"].values.tolist() == list(sizes)
    np.testing.assert_array_equal(dataset["second"], np.concatenate([video.second for video in videos]))  # type: ignore[arg-type]
    store.compact()
    assert store.compacted == sum(sizes) // 65_536 * 65_536
    store.collect(grace_s=0)
    assert verify_store(FeatureStore.open(store.url)).damaged == ()
    export_video(store, "0.mp4", tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as arrays:
        np.testing.assert_array_equal(arrays["box"], videos[0].box)
        assert {"box_score", "second"} < set(arrays)


@pytest.mark.parametrize("array", ["box", "box_score", "second"])
def test_damaged_boxes_are_noticed(store: FeatureStore, array: str) -> None:
    receipt = store.write_segment([features("v", 3)])
    store.commit(receipt)
    (file,) = Path(store.url, receipt.segment, array).glob("c.*")
    data = bytearray(file.read_bytes())
    data[5] ^= 1
    file.write_bytes(data)
    with pytest.raises(StoreError, match="damaged"):
        store["v"]
    assert [damage.video_id for damage in verify_store(store).damaged] == ["v"]


def test_clips_and_boxes_do_not_mix(store: FeatureStore, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="v: features are of clips; the recipe of this store says otherwise"):
        store.write_segment([features("v", 3, of_boxes=False)])
    pooled = FeatureStore.create(tmp_path / "pooled", {"feature_width": 5, "stored_dtype": "float16"})
    with pytest.raises(StoreError, match="v: features are of boxes"):
        pooled.write_segment([features("v", 3)])
    pooled.commit(pooled.write_segment([features("v", 3, of_boxes=False)]))
    assert (pooled["v"].box, pooled["v"].box_score, pooled["v"].second) == (None, None, None)
    assert (pooled.of_boxes, store.of_boxes) == (False, True)
    with pytest.raises(UsageError, match=r"v: features have shape \(0, 5\)"):
        features("v", 0, of_boxes=False)
    with pytest.raises(UsageError, match="v: there are boxes, but no second"):
        features("v", 3, second=None)
    with pytest.raises(UsageError, match=r"v: box is float64 of shape \(3, 4\); expected float32"):
        features("v", 3, box=np.zeros((3, 4)))


def test_a_sample_is_extracted_again_with_the_stored_boxes(folder: Path, tmp_path: Path) -> None:
    setup, boxes = setup_of(tmp_path), boxes_at([0.5, 1.0, 9.0])
    from extract.sources import fingerprint

    task = task_of(folder, "wide.mp4", boxes)
    task = replace(task, fingerprint=boxed_fingerprint(fingerprint(folder / "wide.mp4"), boxes))
    (result,) = committed(setup, Unit((task,)))
    assert result.notes == ("wide.mp4: 1 boxes after its end at 2.8 s are left out, of seconds 9",)
    store = FeatureStore.open(setup.store)
    record = store.catalogue["wide.mp4"]
    keys = ("boxes_file", "boxes", "boxes_after_end")
    assert [record.provenance[key] for key in keys] == ["people.csv", 3, 1]
    assert content_of(record.fingerprint) == fingerprint(folder / "wide.mp4")
    (compared,) = compare_sample(store, 1.0)
    assert compared.problem == ""
    assert clip_input(setup.recipe) == ClipInput(8, SIDE, MEAN, STD, "rgb", None, maps=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"second": np.array([1.0, 0.5])},
        {"second": np.array([0.0, np.nan])},
        {"box": np.array([[0, 0, 1, 1], [0.5, 0, 0.5, 1]], np.float32)},
        {"box": np.array([[0, 0, 1, 1], [0, 0, 1, 1.5]], np.float32)},
        {"score": np.zeros(3, np.float32)},
        {"box": np.zeros((2, 4))},
    ],
)
def test_boxes_that_are_none_are_refused(wrong: dict[str, Any]) -> None:
    good = boxes_at([0.0, 1.0])
    with pytest.raises(UsageError, match="expected"):
        replace(good, **wrong)
