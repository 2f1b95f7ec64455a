import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from extract.clips import ClipGrid
from extract.errors import MachineError, StoreError, UsageError
from extract.store import FeatureSequence, FeatureStore, VideoFeatures
from pipelines.exports import UNLABELLED, export_json, export_lines, export_store, export_video

WIDTH = 5
NTSC = 30_000 / 1_001
GRID = ClipGrid(clip_frames=4, frame_stride=1, hop=2)
ODD = ClipGrid(clip_frames=4, frame_stride=2, hop=3)  # spans 7 samples


@pytest.fixture(autouse=True)
def quick_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


def new_store(path: Path, grid: ClipGrid = GRID, fps: float | str = 10.0, dtype: str = "float16") -> FeatureStore:
    recipe = {
        "clip_frames": grid.clip_frames,
        "frame_stride": grid.frame_stride,
        "hop": grid.hop,
        "fps": fps,
        "feature_width": WIDTH,
        "stored_dtype": dtype,
    }
    return FeatureStore.create(path, recipe)


def clips_of(times_s: NDArray[np.float64], end_s: float, grid: ClipGrid) -> list[tuple[float, float, int]]:
    """Start, stop and real frames of the clips of a stretch of samples at ``times_s``, shown until ``end_s``."""
    ends = [*times_s[1:], end_s]
    marks = []
    for clip in range(grid.count(len(times_s))):
        numbers, real = grid.samples(clip, len(times_s))
        whole = real == grid.clip_frames
        marks.append((float(times_s[numbers[0]]), float(ends[numbers[-1]] if whole else end_s), real))
    return marks


Stretch: TypeAlias = tuple[NDArray[np.float64], float]


def add(store: FeatureStore, video_id: str, *stretches: Stretch, grid: ClipGrid = GRID, declared: float = 7.0) -> None:
    """Commit a video whose samples are shown at these times; each stretch has its own end."""
    marks = [mark for times_s, end_s in stretches for mark in clips_of(times_s, end_s, grid)]
    start_s, stop_s, real = zip(*marks, strict=True)
    features = np.random.default_rng(len(marks)).standard_normal((len(marks), WIDTH)).astype(np.float32)
    video = VideoFeatures(
        video_id=video_id,
        features=features,
        start_s=np.array(start_s),
        stop_s=np.array(stop_s),
        real_frames=np.array(real, np.int32),
        damaged=np.arange(len(marks)) == 1,
        duration_s=stretches[-1][1],
        fingerprint="print",
        status="ok",
        provenance={"average_fps": declared},
    )
    store.commit(store.write_segment([video]))


def even(samples: int, fps: float) -> Stretch:
    """Times of samples at a constant rate, and their end."""
    return np.arange(samples) / fps, samples / fps


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def centres(sequence: FeatureSequence) -> NDArray[np.float64]:
    return (sequence.start_s + sequence.stop_s) / 2


def database(folder: Path) -> dict[str, Any]:
    entries: dict[str, Any] = json.loads((folder / "annotations.json").read_text("utf-8"))["database"]
    return entries


# What the two readers compute, from what lies in the folder alone


class ActionFormer:
    """A feature is that of second (row * feat_stride + 0.5 * num_frames) / fps."""

    def __init__(self, folder: Path) -> None:
        config = yaml.safe_load((folder / "actionformer.yaml").read_text("utf-8"))
        assert config["dataset_name"] == "anet"
        self.config = config["dataset"]
        self.entries = json.loads(Path(self.config["json_file"]).read_text("utf-8"))["database"]

    def features(self, name: str) -> NDArray[np.float32]:
        path = os.path.join(self.config["feat_folder"], (self.config["file_prefix"] or "") + name)  # noqa: PTH118
        return np.load(path + self.config["file_ext"]).astype(np.float32)

    def seconds(self, name: str, row: NDArray[np.float64]) -> NDArray[np.float64]:
        fps = self.config["default_fps"] or self.entries[name]["fps"]
        return (row * self.config["feat_stride"] + 0.5 * self.config["num_frames"]) / fps

    def row(self, name: str, second: float) -> float:
        fps = self.config["default_fps"] or self.entries[name]["fps"]
        return (second * fps - 0.5 * self.config["num_frames"]) / self.config["feat_stride"]


class OpenTad:
    """A feature is that of second (row * int(stride) + int(offset_frames)) / fps."""

    def __init__(self, folder: Path) -> None:
        self.config = yaml.safe_load((folder / "opentad.yaml").read_text("utf-8"))
        self.entries = json.loads(Path(self.config["ann_file"]).read_text("utf-8"))["database"]
        self.stride = int(self.config["feature_stride"] * self.config["sample_stride"])
        self.offset = int(self.config["offset_frames"])

    def features(self, name: str) -> NDArray[np.float32]:
        return np.load(Path(self.config["data_path"]) / f"{name}.npy").astype(np.float32)

    def rates(self, name: str) -> set[float]:
        """Some of its data sets take the rate of the configuration, others that of the video."""
        own = self.entries[name]["frame"] / self.entries[name]["duration"]
        return {own, self.config["fps"] if self.config["fps"] > 0 else own}

    def seconds(self, name: str, row: NDArray[np.float64]) -> NDArray[np.float64]:
        one, *other = [(row * self.stride + self.offset) / fps for fps in self.rates(name)]
        for seconds in other:
            np.testing.assert_allclose(seconds, one, rtol=1e-12)
        return one

    def row(self, name: str, second: float) -> float:
        return (second * max(self.rates(name)) - self.offset) / self.stride


READERS: Mapping[str, Any] = {"actionformer": ActionFormer, "opentad": OpenTad}
LOCALIZATION = pytest.mark.parametrize("layout", READERS)


@LOCALIZATION
@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize(("grid", "fps"), [(GRID, 10.0), (ODD, NTSC), (ClipGrid(8, 1, 8), 25.0)])
def test_readers_get_our_seconds(tmp_path: Path, layout: str, grid: ClipGrid, fps: float, native: bool) -> None:
    store = new_store(tmp_path / "store", grid, "native" if native else fps)
    add(store, "long.mp4", even(50_000, fps), grid=grid)
    add(store, "short.mp4", even(2, fps), grid=grid, declared=fps)
    result = export_store(store, tmp_path / "out", layout=layout)
    assert result.written == {"long.mp4": "long.npy", "short.mp4": "short.npy"}
    reader = READERS[layout](tmp_path / "out")
    for video_id in store:
        name, sequence = video_id.removesuffix(".mp4"), store[video_id]
        np.testing.assert_array_equal(reader.features(name), sequence.features.astype(np.float32))
        seconds = reader.seconds(name, np.arange(len(sequence), dtype=np.float64))
        whole = sequence.real_frames == grid.clip_frames
        np.testing.assert_allclose(seconds[whole], centres(sequence)[whole], rtol=0, atol=1e-9)
        half_s = grid.span / fps / 2
        np.testing.assert_allclose(seconds - half_s, sequence.start_s, rtol=0, atol=1e-9)
        entry = reader.entries[name]
        assert (entry["duration"], entry["clips"]) == (sequence.duration_s, len(sequence))
        assert (entry["padded_clips"], entry["video_id"]) == (int(np.sum(~whole)), video_id)
        assert entry["damaged_clips"] == int(np.sum(sequence.damaged))


@LOCALIZATION
def test_a_millisecond_clock_is_regular(tmp_path: Path, layout: str) -> None:
    store = new_store(tmp_path / "store", fps="native")
    times_s, end_s = even(20_001, NTSC)
    add(store, "a.mkv", (np.round(times_s, 3), round(end_s, 3)))
    assert export_store(store, tmp_path / "out", layout=layout).failed == ()
    seconds = READERS[layout](tmp_path / "out").seconds("a", np.arange(len(store["a.mkv"])))
    whole = store["a.mkv"].real_frames == GRID.clip_frames
    np.testing.assert_allclose(seconds[whole], centres(store["a.mkv"])[whole], rtol=0, atol=2e-3)
    assert 0 < database(tmp_path / "out")["a"]["error_s"] < 2e-3


def test_a_last_sample_shown_for_a_short_time_is_regular(tmp_path: Path) -> None:
    store = new_store(tmp_path / "store")
    times_s, _ = even(6, 10.0)
    add(store, "a.mp4", (times_s, 0.5 - 0.0005))  # the last sample's time, less the clock's rounding
    assert export_store(store, tmp_path / "out", layout="opentad").failed == ()


def irregular(kind: str) -> list[Stretch]:
    rng = np.random.default_rng(3)
    if kind == "hole":
        return [even(41, 10.0), (20 + np.arange(30) / 10, 23.0)]
    if kind == "late":
        return [(5 + np.arange(30) / 10, 8.0)]
    if kind == "one rate after another":
        return [(np.concatenate([np.arange(40) / 10, 4 + np.arange(40) / 20]), 6.0)]
    if kind == "standing still":
        return [(np.zeros(8), 0.0)]
    times_s = np.cumsum(rng.integers(1, 5, 200)) / 50
    return [(times_s - times_s[0], float(times_s[-1] - times_s[0]) + 0.02)]


@LOCALIZATION
@pytest.mark.parametrize("kind", ["hole", "late", "one rate after another", "standing still", "varying"])
def test_an_irregular_video_is_refused_and_the_others_are_not(tmp_path: Path, layout: str, kind: str) -> None:
    store = new_store(tmp_path / "store", fps="native")
    add(store, "a.mp4", even(30, 10.0))
    add(store, "b.mp4", *irregular(kind))
    result = export_store(store, tmp_path / "out", layout=layout)
    assert list(result.written) == ["a.mp4"]
    (refused,) = result.failed
    assert (refused.video_id, refused.reason) == ("b.mp4", "irregular")
    assert list(database(tmp_path / "out")) == ["a"]
    assert not (tmp_path / "out" / "b.npy").exists()
    assert export_store(store, tmp_path / "npz", layout="npz").failed == ()


def test_a_refusal_says_where_and_what_to_do(tmp_path: Path) -> None:
    store = new_store(tmp_path / "store")
    add(store, "b.mp4", *irregular("hole"))
    result = export_store(store, tmp_path / "out", layout="opentad")
    detail = "because of a hole in time; npz has the seconds of each clip"
    assert result.failed[0].detail == f"clip 20 lies 16.000 s from where 10 frames per second put it, {detail}"
    assert not (tmp_path / "out").exists()


# Annotations

ANNOTATED = {
    "x": ("training", 9.0, [("run", 1.0, 4.0), ("jump", 2.5, 3.5)]),
    "day/y": ("validation", 4.0, [("swim", 0.0, 4.0)]),
    "elsewhere": ("training", 4.0, [("fly", 0.0, 4.0)]),
}


def write_annotations(path: Path) -> Path:
    entries = {
        name: {
            "subset": subset,
            "duration": duration_s,
            "annotations": [{"segment": [start, stop], "label": label} for label, start, stop in segments],
        }
        for name, (subset, duration_s, segments) in ANNOTATED.items()
    }
    path.write_text(json.dumps({"database": entries}), "utf-8")
    return path


@LOCALIZATION
def test_annotations_come_along(tmp_path: Path, layout: str) -> None:
    store = new_store(tmp_path / "store", ODD)
    for video_id in ("day/v_x.mp4", "day/y", "day/z.mp4"):
        add(store, video_id, even(90, 10.0), grid=ODD)
    result = export_store(store, tmp_path / "out", layout=layout, annotations=write_annotations(tmp_path / "a.json"))
    assert result.written == {"day/v_x.mp4": "x.npy", "day/y": "day_y.npy", "day/z.mp4": "day_z.npy"}
    assert result.notes == (
        "1 annotated videos are not in the store: elsewhere",
        f"1 videos are not annotated: subset '{UNLABELLED}': day/z.mp4",
    )
    reader = READERS[layout](tmp_path / "out")
    assert {name: entry["subset"] for name, entry in reader.entries.items()} == {
        "x": "training",
        "day_y": "validation",
        "day_z": UNLABELLED,
    }
    for row in reader.entries["x"]["annotations"]:
        start, stop = row["segment"]
        assert (row["label"], start, stop) in ANNOTATED["x"][2]
        np.testing.assert_allclose(reader.seconds("x", np.array(reader.row("x", start))), start, atol=1e-9)
    assert reader.row("x", float(centres(store["day/v_x.mp4"])[7])) == pytest.approx(7)
    assert reader.entries["day_z"]["annotations"] == []


def test_label_numbers_of_actionformer(tmp_path: Path) -> None:
    store = new_store(tmp_path / "store")
    add(store, "x.mp4", even(90, 10.0))
    add(store, "y.mp4", *irregular("hole"))
    export_store(store, tmp_path / "out", layout="actionformer", annotations=write_annotations(tmp_path / "a.json"))
    reader = ActionFormer(tmp_path / "out")
    numbers = {row["label"]: row["label_id"] for entry in reader.entries.values() for row in entry["annotations"]}
    assert numbers == {"jump": 0, "run": 1}
    assert (reader.config["num_classes"], reader.config["input_dim"]) == (len(numbers), WIDTH)


def test_class_list_of_opentad(tmp_path: Path) -> None:
    store = new_store(tmp_path / "store")
    add(store, "x.mp4", even(90, 10.0))
    export_store(store, tmp_path / "out", layout="opentad", annotations=write_annotations(tmp_path / "a.json"))
    assert Path(OpenTad(tmp_path / "out").config["class_map"]).read_text("utf-8") == "jump\nrun\n"


# Names


@LOCALIZATION
def test_two_videos_of_one_name_are_both_refused(tmp_path: Path, layout: str) -> None:
    store = new_store(tmp_path / "store")
    for video_id in ("a/x.mp4", "a_x.mkv", "a/x/y.mp4"):
        add(store, video_id, even(9, 10.0))
    result = export_store(store, tmp_path / "out", layout=layout)
    assert result.written == {"a/x/y.mp4": "a_x_y.npy"}
    assert [(refused.video_id, refused.reason) for refused in result.failed] == [
        ("a/x.mp4", "name"),
        ("a_x.mkv", "name"),
    ]
    assert "'a_x' as that of 'a_x.mkv'" in result.failed[0].detail


@pytest.mark.parametrize("video_id", ["../a.mp4", "/a.mp4", "a/./b.mp4", "a//b.mp4"])
def test_no_file_leaves_the_folder(tmp_path: Path, video_id: str) -> None:
    store = new_store(tmp_path / "store")
    add(store, video_id, even(9, 10.0))
    add(store, "b.mp4", even(9, 10.0))
    result = export_store(store, tmp_path / "out" / "deep", layout="npy")
    assert [(refused.video_id, refused.reason) for refused in result.failed] == [(video_id, "name")]
    assert files(tmp_path / "out") == {"deep/b.mp4.npy"}


# Plain layouts


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_one_video(tmp_path: Path, dtype: str) -> None:
    store = new_store(tmp_path / "store", dtype=dtype)
    add(store, "day/a.mp4", even(21, 10.0))
    for file in (tmp_path / "new" / "a.npy", tmp_path / "a.npz"):
        result = export_video(store, "day/a.mp4", file)
        assert (result.output, result.layout, result.written) == (str(file), file.suffix[1:], {"day/a.mp4": file.name})
    features = np.load(tmp_path / "new" / "a.npy")
    assert features.dtype == dtype
    np.testing.assert_array_equal(features, store["day/a.mp4"].features)
    assert_is(np.load(tmp_path / "a.npz"), store["day/a.mp4"])


def assert_is(arrays: Mapping[str, NDArray[Any]], sequence: FeatureSequence) -> None:
    assert set(arrays) == {"features", "start_s", "stop_s", "real_frames", "damaged", "duration_s"}
    for name, values in arrays.items():
        np.testing.assert_array_equal(values, getattr(sequence, name), strict=name != "duration_s")


@pytest.mark.parametrize("layout", ["npy", "npz"])
def test_a_store_keeps_its_folders(tmp_path: Path, layout: str) -> None:
    store = new_store(tmp_path / "store")
    for video_id in ("day/a.mp4", "day/a.mkv", "b"):
        add(store, video_id, even(21, 10.0))
    seen: list[tuple[int, int]] = []
    result = export_store(store, tmp_path / "out", layout=layout, on_progress=lambda *now: seen.append(now))
    assert result.written == {video_id: f"{video_id}.{layout}" for video_id in store}
    assert files(tmp_path / "out") == set(result.written.values())
    assert seen == [(1, 3), (2, 3), (3, 3)]
    for video_id, file in result.written.items():
        if layout == "npz":
            assert_is(np.load(tmp_path / "out" / file), store[video_id])
        else:
            np.testing.assert_array_equal(np.load(tmp_path / "out" / file), store[video_id].features)


# What goes wrong


@pytest.fixture
def small(tmp_path: Path) -> FeatureStore:
    store = new_store(tmp_path / "store")
    for video_id in ("a.mp4", "b.mp4", "c.mp4"):
        add(store, video_id, even(21, 10.0))
    return store


@pytest.mark.parametrize("layout", ["npy", "npz", *READERS])
def test_a_second_export_changes_nothing(tmp_path: Path, small: FeatureStore, layout: str) -> None:
    first = export_store(small, tmp_path / "out", layout=layout)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert export_store(small, tmp_path / "out", layout=layout) == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize("name", ["b.npy", "annotations.json", "opentad.yaml", "category_idx.txt"])
def test_other_content_is_not_overwritten(tmp_path: Path, small: FeatureStore, name: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine", "utf-8")
    with pytest.raises(UsageError, match=f"{name} exists with other content; move it away"):
        export_store(small, tmp_path / "out", layout="opentad")
    assert (tmp_path / "out" / name).read_text("utf-8") == "mine"
    assert not [file for file in files(tmp_path / "out") if "partial" in file]


def test_a_full_disk_leaves_no_half_file_and_the_next_run_goes_on(
    tmp_path: Path, small: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, calls = np.save, []

    def fills_up(stream: BinaryIO, values: NDArray[Any]) -> None:
        calls.append(len(values))
        if len(calls) == 2:
            stream.write(b"\x93NUMPY")
            raise OSError(28, "No space left on device")
        whole(stream, values)

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", fills_up)
        with pytest.raises(MachineError, match=r"b\.mp4\.npy cannot be written \(No space left on device\); free some"):
            export_store(small, tmp_path / "out")
    assert files(tmp_path / "out") == {"a.mp4.npy"}
    assert list(export_store(small, tmp_path / "out").written) == ["a.mp4", "b.mp4", "c.mp4"]


def test_a_damaged_video_is_named_and_the_others_are_written(tmp_path: Path, small: FeatureStore) -> None:
    segments = sorted((tmp_path / "store" / "_segments").glob("*/*"))
    (segment,) = [path for path in segments if "b.mp4" in (path / "zarr.json").read_text("utf-8")]
    stored = segment / "features" / "c.0.0"
    data = bytearray(stored.read_bytes())
    data[3] ^= 1
    stored.write_bytes(data)
    result = export_store(small, tmp_path / "out", layout="npz")
    assert list(result.written) == ["a.mp4", "c.mp4"]
    assert [(refused.video_id, refused.reason) for refused in result.failed] == [("b.mp4", "damaged")]


def test_mistakes_are_told_before_anything_is_written(tmp_path: Path, small: FeatureStore) -> None:
    labels = write_annotations(tmp_path / "a.json")
    out = tmp_path / "out"
    with pytest.raises(UsageError, match="layout 'csv' is unknown; expected npy, npz, actionformer, opentad"):
        export_store(small, out, layout="csv")
    with pytest.raises(UsageError, match="npz holds no annotations; expected --annotations with actionformer or"):
        export_store(small, out, layout="npz", annotations=labels)
    with pytest.raises(UsageError, match="is a feature store itself"):
        export_store(small, tmp_path / "store")
    with pytest.raises(UsageError, match=r"a\.csv ends in \.csv; expected a file called \.npy or \.npz"):
        export_video(small, "a.mp4", out / "a.csv")
    with pytest.raises(StoreError, match=r"has no video 'x\.mp4'"):
        export_video(small, "x.mp4", out / "a.npy")
    assert not out.exists()


def test_stores_that_give_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no video; extract some into it first"):
        export_store(new_store(tmp_path / "empty"), tmp_path / "out")
    bare = FeatureStore.create(tmp_path / "bare", {"feature_width": WIDTH, "stored_dtype": "float16"})
    add(bare, "a.mp4", even(9, 10.0))
    with pytest.raises(StoreError, match="the recipe does not say how clips are cut"):
        export_store(bare, tmp_path / "out", layout="opentad")
    assert list(export_store(bare, tmp_path / "out", layout="npz").written) == ["a.mp4"]


# The whole way


@LOCALIZATION
def test_real_videos_of_any_encoding_are_regular_at_a_fixed_rate(
    undisturbed: FeatureStore, tmp_path: Path, layout: str
) -> None:
    result = export_store(undisturbed, tmp_path / "out", layout=layout)
    assert (set(result.written), result.failed) == (set(undisturbed), ())
    reader = READERS[layout](tmp_path / "out")
    fps = float(str(undisturbed.recipe["fps"]))
    for video_id, file in result.written.items():
        sequence = undisturbed[video_id]
        seconds = reader.seconds(file.removesuffix(".npy"), np.arange(len(sequence)))
        whole = sequence.real_frames == undisturbed.recipe["clip_frames"]
        np.testing.assert_allclose(seconds[whole], centres(sequence)[whole], rtol=0, atol=0.5 / fps + 1e-3)


# What is said


def test_results_for_programs_and_people(tmp_path: Path, small: FeatureStore) -> None:
    add(small, "z.mp4", *irregular("hole"))
    result = export_store(small, tmp_path / "out", layout="opentad")
    plain = json.loads(json.dumps(export_json(result)))
    assert (plain["videos"], plain["layout"], plain["output"]) == (3, "opentad", str(tmp_path / "out"))
    assert plain["files"]["a.mp4"] == "a.npy"
    assert [(each["video"], each["reason"]) for each in plain["failed"]] == [("z.mp4", "irregular")]
    lines = list(export_lines(result))
    assert lines[0] == f"3 videos, opentad: {tmp_path / 'out'}"
    assert lines[1] == "1 videos were not exported:"
    assert lines[2].startswith("  z.mp4: clip ")
    assert lines[2].endswith("[irregular]")
