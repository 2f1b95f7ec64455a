import errno
import json
import os
import pickle
import shutil
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import xarray

from extract.errors import MachineError, RecipeMismatchError, StoreError, UsageError
from extract.store import FeatureSequence, FeatureStore, Receipt, UnknownVideoError, VideoFeatures
from extract.store.arrays import CHUNK_ROWS
from extract.store.objects._remote import RemoteObjects

WIDTH = 6
RECIPE = {"backbone": "tiny", "feature_width": WIDTH, "stored_dtype": "float16", "mean": (0.4, 0.5, 0.6)}


@pytest.fixture(autouse=True)
def quick_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore.create(tmp_path / "store", RECIPE)


def make_video(video_id: str, clips: int = 3, *, seed: int = 0, **changes: Any) -> VideoFeatures:
    rng = np.random.default_rng(seed)
    start_s = np.arange(clips) * 0.5
    values: dict[str, Any] = {
        "video_id": video_id,
        "features": rng.standard_normal((clips, WIDTH)).astype(np.float32),
        "start_s": start_s,
        "stop_s": start_s + 1.25,
        "real_frames": rng.integers(1, 17, clips, dtype=np.int32),
        "damaged": rng.random(clips) < 0.3,
        "duration_s": clips * 0.5,
        "fingerprint": f"print-{seed}",
        "status": "ok",
        "provenance": {"engine": "torch", "decoder": {"name": "pyav", "version": [18, 0]}},
    }
    return VideoFeatures(**{**values, **changes})


def add(store: FeatureStore, *videos: VideoFeatures) -> Receipt:
    receipt = store.write_segment(videos)
    store.commit(receipt)
    return receipt


def assert_holds(sequence: FeatureSequence, video: VideoFeatures, dtype: str = "float16") -> None:
    assert sequence.features.dtype == dtype
    np.testing.assert_array_equal(sequence.features, video.features.astype(dtype))
    for name in ("start_s", "stop_s", "real_frames", "damaged"):
        np.testing.assert_array_equal(getattr(sequence, name), getattr(video, name), strict=True)
    assert sequence.duration_s == video.duration_s
    assert len(sequence) == len(video.features)


def published(store: FeatureStore) -> dict[str, bytes]:
    files = (path for path in Path(store.url).rglob("*") if path.is_file())
    keys = {path.relative_to(Path(store.url)).as_posix(): path.read_bytes() for path in files}
    return {key: data for key, data in keys.items() if not key.startswith("_")}


# Videos in and out


def test_videos_come_back_as_they_went_in(store: FeatureStore) -> None:
    videos = [make_video(f"day/{name}.mp4", clips, seed=clips) for name, clips in (("b", 5), ("a", 1), ("c", 70))]
    add(store, *videos[:2])
    add(store, videos[2])
    for reader in (store, FeatureStore.open(Path(store.url)), pickle.loads(pickle.dumps(store))):
        assert list(reader) == ["day/a.mp4", "day/b.mp4", "day/c.mp4"]
        assert len(reader) == 3
        assert "day/a.mp4" in reader
        for video in videos:
            assert_holds(reader[video.video_id], video)
    assert store.nbytes == 76 * (WIDTH * 2 + 8 + 8 + 4 + 1)
    assert dict(store.recipe) == {**RECIPE, "mean": [0.4, 0.5, 0.6]}


def test_float32_is_kept_exactly(tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path / "store", {**RECIPE, "stored_dtype": "float32"})
    video = make_video("a", features=np.full((3, WIDTH), 1e6 + 1 / 16, np.float32))
    add(store, video)
    assert_holds(store["a"], video, "float32")


def test_what_is_read_can_be_changed_without_changing_the_store(store: FeatureStore) -> None:
    video = make_video("a")
    add(store, video)
    store["a"].features[:] = 0
    assert_holds(store["a"], video)


def test_a_segment_without_a_commit_is_invisible(store: FeatureStore) -> None:
    receipt = store.write_segment([make_video("a")])
    assert "a" not in store
    FeatureStore.open(Path(store.url)).commit(Receipt.from_dict(json.loads(json.dumps(receipt.as_dict()))))
    assert "a" not in store
    store.refresh()
    assert_holds(store["a"], make_video("a"))


def test_receipts_are_small(store: FeatureStore) -> None:
    receipt = store.write_segment([make_video(f"video-{i}.mp4", 500) for i in range(4)])
    assert len(pickle.dumps(receipt)) < 4 * 1_000


def test_one_entry_names_several_segments(store: FeatureStore) -> None:
    store.commit(store.write_segment([make_video("a")]), store.write_segment([make_video("b")]))
    assert (store.version, list(store)) == (1, ["a", "b"])
    store.commit()
    assert store.version == 1


def test_the_catalogue_says_what_is_known_of_a_video(store: FeatureStore) -> None:
    receipt = add(store, make_video("a", 4), make_video("b", 2, status="partial"))
    record = store.catalogue["b"]
    assert record == receipt.videos[1]
    assert (record.rows, record.parts[0].first_row, record.status, record.duration_s) == (2, 4, "partial", 1.0)
    assert record.provenance == {"engine": "torch", "decoder": {"name": "pyav", "version": [18, 0]}}


def test_the_first_commit_of_a_fingerprint_wins(store: FeatureStore) -> None:
    late = FeatureStore.open(Path(store.url))
    first, second = make_video("a"), make_video("a", features=np.ones((3, WIDTH), np.float32))
    receipts = [store.write_segment([first]), late.write_segment([second])]
    store.commit(receipts[0])
    late.commit(receipts[1])
    store.refresh()
    for reader in (store, late):
        assert_holds(reader["a"], first)
        assert reader.catalogue["a"].parts[0].segment == receipts[0].segment


def test_a_replaced_file_is_a_new_version_and_may_come_back(store: FeatureStore) -> None:
    old, new = make_video("a", 2, seed=1), make_video("a", 4, seed=2)
    for video in (old, new, old):
        add(store, video)
        assert_holds(store["a"], video)
    assert len(store) == 1


def test_a_snapshot_stays_as_it_was(store: FeatureStore) -> None:
    add(store, make_video("a"))
    add(store, make_video("b"))
    snapshot = FeatureStore.open(Path(store.url), version=1)
    snapshot.refresh()
    assert list(pickle.loads(pickle.dumps(snapshot))) == list(snapshot) == ["a"]
    with pytest.raises(UsageError, match="open at version 1, for reading"):
        snapshot.record_failure("c", "print", "reason", "detail")
    with pytest.raises(StoreError, match="no version 3; expected a number from 0 to 2"):
        FeatureStore.open(Path(store.url), version=3)


def test_failures_are_kept_until_a_success(store: FeatureStore) -> None:
    store.record_failure("a", "print-0", "no-video-stream", "it holds sound alone")
    store.record_failure("b", "print-0", "truncated", "cut at 3 s")
    assert FeatureStore.open(Path(store.url)).failures["a"].reason == "no-video-stream"
    with pytest.raises(KeyError, match=r"'a': it failed \(no-video-stream: it holds sound alone\)"):
        store["a"]
    add(store, make_video("a"))
    assert list(store.failures) == ["b"]


def test_a_late_failure_of_what_succeeded_is_ignored(store: FeatureStore) -> None:
    add(store, make_video("a", seed=1))
    store.record_failure("a", "print-1", "timeout", "a slow worker")
    assert not store.failures
    store.record_failure("a", "print-2", "truncated", "the new file is broken")
    assert list(store.failures) == list(store) == ["a"]


def test_an_unknown_video_is_told_with_near_names(store: FeatureStore) -> None:
    add(store, make_video("match/day1.mp4"), make_video("other.mp4"))
    with pytest.raises(UnknownVideoError, match=r"no video 'match/day2.mp4'; near: 'match/day1.mp4'"):
        store["match/day2.mp4"]
    with pytest.raises(KeyError, match="holds 2 others"):
        store["zzz"]


# Refusals


@pytest.mark.parametrize(
    ("dtype", "value", "message"),
    [
        ("float16", 70_000, r"b: clip 1, channel 2: 70000\.0 cannot be stored as float16: it ends at 65504"),
        ("float16", np.nan, r"b: clip 1, channel 2: nan cannot .* backbone itself computed it"),
        ("float32", np.inf, r"b: clip 1, channel 2: inf cannot be stored as float32"),
    ],
)
def test_values_that_do_not_fit_are_refused(tmp_path: Path, dtype: str, value: float, message: str) -> None:
    store = FeatureStore.create(tmp_path / "store", {**RECIPE, "stored_dtype": dtype})
    features = np.ones((3, WIDTH), np.float32)
    features[1, 2] = value
    with pytest.raises(StoreError, match=message):
        store.write_segment([make_video("a"), make_video("b", features=features)])
    assert not (Path(store.url) / "_segments").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": np.ones((3, WIDTH))}, "features is float64 .* expected float32"),
        ({"features": np.ones((0, WIDTH), np.float32)}, r"shape \(0, 6\); expected \(clips, D\)"),
        ({"start_s": np.zeros(2)}, r"start_s is float64 of shape \(2,\); expected float64 of shape \(3,\)"),
        ({"real_frames": np.ones(3)}, "real_frames is float64"),
        ({"duration_s": float("nan")}, "not finite"),
        ({"video_id": "caf\udce9.mp4"}, "not valid UTF-8"),
    ],
)
def test_wrong_arrays_are_refused_at_once(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_video(**{"video_id": "a", **changes})


def test_another_width_is_refused(store: FeatureStore) -> None:
    with pytest.raises(StoreError, match="a: features are 7 wide; the recipe of this store says 6"):
        store.write_segment([make_video("a", features=np.ones((3, 7), np.float32))])


def test_provenance_must_be_json(store: FeatureStore) -> None:
    with pytest.raises(UsageError, match="not plain JSON"):
        store.write_segment([make_video("a", provenance={"path": Path("a")})])
    with pytest.raises(UsageError, match="no videos"):
        store.write_segment([])


def test_receipts_of_other_stores_are_refused(store: FeatureStore, tmp_path: Path) -> None:
    same = FeatureStore.create(tmp_path / "same", RECIPE)
    with pytest.raises(StoreError, match="commit a receipt to the store that wrote it"):
        same.commit(store.write_segment([make_video("a")]))
    other = FeatureStore.create(tmp_path / "other", {**RECIPE, "backbone": "large"})
    with pytest.raises(StoreError, match="was made with recipe"):
        other.commit(store.write_segment([make_video("a")]))


def test_another_recipe_is_refused_with_the_difference(store: FeatureStore) -> None:
    assert FeatureStore.open_or_create(Path(store.url), RECIPE).recipe_digest == store.recipe_digest
    with pytest.raises(RecipeMismatchError) as caught:
        FeatureStore.open_or_create(Path(store.url), {**RECIPE, "backbone": "large"})
    assert "backbone: 'tiny' in the store, 'large' asked for" in str(caught.value)
    assert "Use another output folder (-o), or the same options as before" in str(caught.value)
    assert "mean" not in str(caught.value)


@pytest.mark.parametrize("recipe", [{}, {**RECIPE, "feature_width": 0}, {**RECIPE, "stored_dtype": "bfloat16"}])
def test_a_recipe_must_say_what_a_row_is(tmp_path: Path, recipe: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="feature_width"):
        FeatureStore.create(tmp_path / "store", recipe)
    assert not (tmp_path / "store").exists()


def test_a_folder_of_others_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.mp4").touch()
    for attempt in (FeatureStore.create, FeatureStore.open_or_create):
        with pytest.raises(StoreError, match="exists"):
            attempt(tmp_path, RECIPE)
        with pytest.raises(StoreError, match="exists"):
            attempt(tmp_path / "holiday.mp4", RECIPE)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.mp4"]
    with pytest.raises(StoreError, match=r"is not a feature store: it holds holiday\.mp4, no _log"):
        FeatureStore.open(tmp_path)
    with pytest.raises(StoreError, match="it is a file"):
        FeatureStore.open(tmp_path / "holiday.mp4")
    with pytest.raises(StoreError, match="no such folder"):
        FeatureStore.open(tmp_path / "nowhere")


def test_a_store_is_not_made_twice(store: FeatureStore) -> None:
    with pytest.raises(StoreError, match="not empty"):
        FeatureStore.create(Path(store.url), RECIPE)


def test_an_interrupted_creation_can_be_repeated(tmp_path: Path) -> None:
    (tmp_path / "_log").mkdir()
    (tmp_path / "_tmp").mkdir()
    (tmp_path / "_tmp" / "half").touch()
    assert len(FeatureStore.open_or_create(tmp_path, RECIPE)) == 0


def test_other_formats_and_changed_logs_are_refused(store: FeatureStore) -> None:
    first = Path(store.url) / "_log" / "000000000000.json"
    entry = json.loads(first.read_text())
    for changes, message in (
        ({"format_version": 1}, "version 1"),
        ({"recipe": {}}, "does not match its digest"),
    ):
        first.write_text(json.dumps({**entry, **changes}))
        with pytest.raises(StoreError, match=message):
            FeatureStore.open(Path(store.url))
    first.write_text("{")
    with pytest.raises(StoreError, match=r"000000000000\.json is not JSON"):
        FeatureStore.open(Path(store.url))
    first.write_text(json.dumps(entry))
    (Path(store.url) / "_log" / "000000000001.json").write_text(json.dumps({"kind": "merge"}))
    with pytest.raises(StoreError, match="log entry 1 is of kind 'merge'"):
        len(FeatureStore.open(Path(store.url)))


@pytest.mark.parametrize("name", ["features/c.0.0", "clip_start/c.0", "clip_damaged/c.0"])
@pytest.mark.parametrize("harm", ["flip", "cut", "lose"])
def test_damaged_bytes_are_noticed(store: FeatureStore, name: str, harm: str) -> None:
    receipt = add(store, make_video("a"), make_video("b"))
    path = Path(store.url) / receipt.segment / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    if harm == "lose":
        path.unlink()
    else:
        path.write_bytes(data if harm == "flip" else data[:-1])
    with pytest.raises(StoreError, match=r"b: the stored features are damaged .* Restore .*_segments"):
        store["b"]
    if harm != "lose":
        assert_holds(store["a"], make_video("a"))
    with pytest.raises(StoreError, match="are damaged"):
        store.publish()


# The machine refuses


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_full_or_failing_disk_leaves_the_store_whole(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    add(store, make_video("a"))
    store.publish()
    before = published(store)
    messages = {
        errno.ENOSPC: r"cannot write .*: the disk is full \([\d,]+ MB free\)\. Everything committed is safe",
        errno.EROFS: r"cannot write .*: Read-only file system\. Make the folder accessible",
        errno.EIO: "cannot write .*: Input/output error",
    }

    def refuse(descriptor: int, data: object) -> int:
        raise OSError(code, os.strerror(code))

    store.commit(store.write_segment([make_video("b")]))
    receipt = store.write_segment([make_video("c")])
    write = [make_video("c")]
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refuse)
        for action in (lambda: store.write_segment(write), lambda: store.commit(receipt), store.publish):
            with pytest.raises(MachineError, match=messages[code]):
                action()
    assert published(store) == before
    assert [path.name for path in (Path(store.url) / "_tmp").iterdir()] == ["publish.lock"]
    store.publish()
    assert xarray.open_zarr(Path(store.url)).sizes["video"] == 2


def test_a_file_system_without_hard_links_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(MachineError, match="no hard links"):
        FeatureStore.create(tmp_path / "store", RECIPE)


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_reading_needs_no_write_permission(store: FeatureStore) -> None:
    add(store, make_video("a"))
    folders = [Path(store.url), *(path for path in Path(store.url).rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o500)
    reader = FeatureStore.open(Path(store.url))
    assert_holds(reader["a"], make_video("a"))
    with pytest.raises(MachineError, match="Permission denied"):
        reader.write_segment([make_video("b")])
    for folder in folders:
        folder.chmod(0o700)


def test_reading_writes_nothing(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    add(store, make_video("a"))

    def forbid(*arguments: object, **options: object) -> None:
        raise AssertionError("a reader wrote")

    for name in ("write", "mkdir", "link", "replace"):
        monkeypatch.setattr(os, name, forbid)
    reader = FeatureStore.open_or_create(Path(store.url), RECIPE)
    reader.refresh()
    assert_holds(reader["a"], make_video("a"))


# The published arrays


def assert_published(store: FeatureStore, versions: list[VideoFeatures]) -> None:
    with xarray.open_zarr(Path(store.url)) as data:
        data = data.load()
    assert list(data.video_id.values) == [video.video_id for video in versions]
    assert data.sizes["clip"] == sum(len(video.features) for video in versions)
    for at, video in enumerate(versions):
        clips = data.isel(clip=slice(int(data.row_start[at]), int(data.row_start[at] + data.row_size[at])))
        columns = (
            clips.features,
            clips.clip_start,
            clips.clip_stop,
            clips.clip_real_frames,
            clips.clip_damaged,
        )
        values = (*(column.values for column in columns), float(data.video_duration[at]))
        assert_holds(FeatureSequence(*values), video)
        assert data.video_status[at] == ("ok", "partial").index(video.status)
        assert data.video_fingerprint[at] == video.fingerprint
        assert json.loads(str(data.video_provenance[at].values)) == video.provenance


def test_xarray_opens_what_was_published(store: FeatureStore) -> None:
    videos = [make_video("b", 100, seed=1), make_video("ä/1.mp4", 3, seed=2, status="partial")]
    add(store, *videos)
    store.publish()
    assert_published(store, videos)
    data = xarray.open_zarr(Path(store.url))
    assert [int(crc) for crc in data.crc32] == [store.catalogue[video.video_id].crc32 for video in videos]
    assert set(data.coords) == {"clip_start", "clip_stop", "video_id"}
    assert data.row_size.attrs["sample_dimension"] == "clip"
    assert data.clip_start.attrs["units"] == "s"
    assert data.attrs["recipe_digest"] == store.recipe_digest
    assert json.loads(data.attrs["recipe"]) == dict(store.recipe)


def test_an_empty_store_can_be_published_and_grows(store: FeatureStore) -> None:
    store.publish()
    assert dict(xarray.open_zarr(Path(store.url)).sizes) == {"clip": 0, "feature": WIDTH, "video": 0}
    add(store, make_video("a"))
    store.publish()
    assert_published(store, [make_video("a")])


def test_publishing_nothing_new_writes_nothing(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    add(store, make_video("a"))
    store.publish()
    store.record_failure("b", "print", "reason", "detail")
    add(store, make_video("a"))
    monkeypatch.setattr(os, "write", None)
    store.publish()


def test_versions_of_a_video_are_published_in_order(store: FeatureStore) -> None:
    versions = [
        make_video("a", 2, seed=1),
        make_video("b", 1),
        make_video("a", 5, seed=2),
        make_video("a", 2, seed=1),
    ]
    for video in versions:
        add(store, video)
        store.publish()
    assert_published(store, versions)
    assert list(xarray.open_zarr(Path(store.url)).video_replaces.values) == [-1, -1, 0, 2]


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extract.store.arrays.TIME_CHUNK_ROWS", CHUNK_ROWS)
    monkeypatch.setattr("extract.store.arrays.SHARD_BYTES", 2 * CHUNK_ROWS * WIDTH * 2)
    monkeypatch.setattr("extract.store.publish.VIDEO_CHUNK", 3)
    monkeypatch.setattr("extract.store.arrays.VIDEO_CHUNK", 3)


@pytest.mark.usefixtures("small_shards")
def test_publishing_step_by_step_equals_publishing_once(store: FeatureStore, tmp_path: Path) -> None:
    lengths = (1, 127, 128, 129, 64, 300, 5)
    videos = [make_video(f"video-{at}", clips, seed=clips) for at, clips in enumerate(lengths)]
    once = FeatureStore.create(tmp_path / "once", RECIPE)
    for video in videos:
        add(store, video)
        store.publish()
        add(once, video)
    once.publish()
    assert published(store) == published(once)
    assert_published(store, videos)
    shards = sorted(path.name for path in (Path(store.url) / "features").glob("c.*"))
    assert shards == [f"c.{number}.0" for number in range(6)]


@pytest.mark.usefixtures("small_shards")
def test_a_rewritten_shard_begins_with_the_bytes_it_had(store: FeatureStore) -> None:
    shard = Path(store.url) / "features" / "c.0.0"
    add(store, make_video("a", CHUNK_ROWS))
    store.publish()
    before = shard.read_bytes()
    add(store, make_video("b", CHUNK_ROWS))
    store.publish()
    chunk_bytes = CHUNK_ROWS * WIDTH * 2
    assert shard.read_bytes()[:chunk_bytes] == before[:chunk_bytes]
    assert len(shard.read_bytes()) == len(before) + chunk_bytes


def test_small_stores_stay_small(store: FeatureStore) -> None:
    add(store, make_video("a"))
    store.publish()
    assert sum(path.stat().st_size for path in Path(store.url).rglob("*") if path.is_file()) < 100_000


def test_a_segment_is_a_zarr_group_of_its_own(store: FeatureStore) -> None:
    videos = [make_video("a", 2), make_video("b", 3)]
    receipt = add(store, *videos)
    data = xarray.open_zarr(Path(store.url) / receipt.segment, consolidated=False).load()
    assert list(data.video_id.values) == ["a", "b"]
    assert list(data.row_size.values) == [2, 3]
    np.testing.assert_array_equal(data.features.values[2:], videos[1].features.astype(np.float16))
    assert data.attrs["receipt"] == json.loads(json.dumps(receipt.as_dict()))


def test_a_published_store_can_be_moved(store: FeatureStore, tmp_path: Path) -> None:
    add(store, make_video("a"))
    store.publish()
    moved = shutil.move(Path(store.url), tmp_path / "elsewhere")
    assert_holds(FeatureStore.open(moved)["a"], make_video("a"))
    assert_published(FeatureStore.open(moved), [make_video("a")])


def test_many_entries_of_a_far_log_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    store = FeatureStore.create(f"memory://{uuid4().hex}", RECIPE)
    for number in range(80):
        store.record_failure(f"{number}.mp4", "print", "empty", "0 bytes")
    reading: list[str] = []
    most = 0
    get = RemoteObjects.get

    def far(objects: RemoteObjects, key: str) -> bytes | None:
        nonlocal most
        reading.append(key)
        most = max(most, len(reading))
        time.sleep(0.01)
        data = get(objects, key)
        reading.remove(key)
        return data

    monkeypatch.setattr(RemoteObjects, "get", far)
    again = FeatureStore.open(store.url)
    assert list(again.failures) == [f"{number}.mp4" for number in range(80)]
    assert 16 <= most <= 32
    assert FeatureStore.open(store.url, version=50).version == 50
