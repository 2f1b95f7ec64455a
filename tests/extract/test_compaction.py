"""Compaction, garbage collection, and the two places where clips can be read."""

import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
import zarr

from extract.errors import StoreError
from extract.store import FeatureStore, Receipt, Span, VideoFeatures
from extract.store import arrays as layout
from extract.store.published import in_ranges, through_zarr

WIDTH = 6
RECIPE = {"feature_width": WIDTH, "stored_dtype": "float16"}
SHARD = 128


@pytest.fixture(autouse=True)
def small_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(layout, "TIME_CHUNK_ROWS", layout.CHUNK_ROWS)
    monkeypatch.setattr(layout, "SHARD_BYTES", SHARD * WIDTH * 2)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore.create(tmp_path / "store", RECIPE)


def video(name: str, clips: int, **changes: Any) -> VideoFeatures:
    rng = np.random.default_rng(clips)
    values: dict[str, Any] = {
        "video_id": name,
        "features": rng.standard_normal((clips, WIDTH)).astype(np.float32),
        "start_s": np.arange(clips) * 0.5,
        "stop_s": np.arange(clips) * 0.5 + 1,
        "real_frames": rng.integers(1, 17, clips, dtype=np.int32),
        "damaged": rng.random(clips) < 0.3,
        "duration_s": clips * 0.5,
        "fingerprint": "print",
        "status": "ok",
        "provenance": {},
    }
    return VideoFeatures(**{**values, **changes})


def add(store: FeatureStore, *videos: VideoFeatures) -> Receipt:
    receipt = store.write_segment(videos)
    store.commit(receipt)
    return receipt


def filled(store: FeatureStore) -> dict[str, Receipt]:
    """1,000 clips in 8 shards of 128, the last of 104; only the last video lies in a shard that is not full."""
    sizes = {"a": 100, "b": 28, "c": 300, "d": 468, "e": 104}
    return {name: add(store, video(name, size)) for name, size in sizes.items()}


def contents(store: FeatureStore) -> dict[str, tuple[bytes, ...]]:
    names = ("features", "start_s", "stop_s", "real_frames", "damaged")
    return {name: tuple(getattr(store[name], column).tobytes() for column in names) for name in store}


def segments(store: FeatureStore) -> set[str]:
    return {path.parent.relative_to(store.url).as_posix() for path in Path(store.url).glob("_segments/*/*/zarr.json")}


def test_compaction_leaves_what_is_not_in_full_shards(store: FeatureStore) -> None:
    receipts = filled(store)
    before, snapshot = contents(store), FeatureStore.open(store.url, version=store.version)
    assert store.compact() == 7 * SHARD == store.compacted
    assert store.compact() == 7 * SHARD, "nothing more to do"
    assert segments(store) == {receipt.segment for receipt in receipts.values()}, "collect deletes, and nothing else"
    assert store.collect(grace_s=3600).objects == 0
    collected = store.collect(grace_s=0)
    assert collected.objects > 4
    assert collected.size_bytes > 4 * 1000
    assert segments(store) == {receipts["e"].segment}
    for reader in (store, FeatureStore.open(store.url), snapshot):
        assert contents(reader) == before
    add(store, video("f", 200))
    store.publish()
    assert contents(FeatureStore.open(store.url)) == {**before, **contents_of("f", 200, store)}
    assert xarray.open_zarr(store.url).sizes["clip"] == 1200
    assert store.compact() == 9 * SHARD
    store.collect(grace_s=0)
    assert segments(store) == {store.catalogue["f"].parts[0].segment}


def contents_of(name: str, clips: int, store: FeatureStore) -> dict[str, tuple[bytes, ...]]:
    expected = video(name, clips)
    columns = (expected.features.astype(np.float16), expected.start_s, expected.stop_s, expected.real_frames)
    return {name: tuple(column.tobytes() for column in (*columns, expected.damaged))}


def test_collection_spares_what_is_needed_or_young(store: FeatureStore) -> None:
    receipts = filled(store)
    begun = add(store, video("long", 10, span=Span(0, ends=False)))
    lost = store.write_segment([video("lost", 5)])
    late = add(store, video("a", 99))
    debris = Path(store.url, "_tmp", "half")
    debris.write_bytes(b"x" * 100)
    store.collect(grace_s=60)
    assert lost.segment in segments(store)
    long_ago = time.time() - 7200
    for path in (*Path(store.url, lost.segment).rglob("*"), *Path(store.url, late.segment).rglob("*"), debris):
        os.utime(path, (long_ago, long_ago))
    store.collect(grace_s=3600)
    assert segments(store) == {begun.segment, *(receipt.segment for receipt in receipts.values())}
    assert not debris.exists()
    assert Path(store.url, "_tmp", "publish.lock").exists()
    with pytest.raises(StoreError, match="has no _segments"):
        store.commit(lost)


def test_each_place_has_what_the_other_lost(store: FeatureStore) -> None:
    receipts = filled(store)
    before = contents(store)
    store.publish()
    Path(store.url, receipts["c"].segment, "features/c.0.0").unlink()
    data = Path(store.url, receipts["e"].segment, "clip_start/c.0")
    data.write_bytes(bytes([data.read_bytes()[0] ^ 1]) + data.read_bytes()[1:])
    assert contents(store) == before
    shutil.copytree(store.url, Path(store.url).parent / "compacted")
    compacted = FeatureStore.open(Path(store.url).parent / "compacted")
    compacted.compact()
    shard = Path(compacted.url, "features/c.0.0")
    shard.write_bytes(bytes([shard.read_bytes()[0] ^ 1]) + shard.read_bytes()[1:])
    assert contents(compacted) == before
    shutil.rmtree(Path(compacted.url, receipts["a"].segment))
    with pytest.raises(StoreError, match="a: the stored features are damaged"):
        compacted["a"]


def test_damaged_published_clips_are_not_compacted(store: FeatureStore) -> None:
    filled(store)
    store.publish()
    shard = Path(store.url, "clip_damaged/c.1")
    shard.write_bytes(bytes([shard.read_bytes()[0] ^ 1]) + shard.read_bytes()[1:])
    with pytest.raises(StoreError, match="c: its published clips are damaged"):
        store.compact()
    assert store.compacted == 0


def test_what_others_wrote_anew_is_read_through_zarr(store: FeatureStore) -> None:
    """As a tool may that copies a store with compression, or other chunks."""
    filled(store)
    before = contents(store)
    store.compact()
    group = zarr.open_group(store.url, mode="r")
    for spec in store._specs:
        values = np.asarray(group[spec.name][:])  # type: ignore[index]
        attributes, dimensions = dict(group[spec.name].attrs), spec.dimensions
        zarr.create_array(
            store.url,
            name=spec.name,
            data=values,
            chunks=(50, *spec.row_shape),
            overwrite=True,
            attributes=attributes,
            dimension_names=dimensions,
        )
    store.collect(grace_s=0)
    assert len(segments(store)) == 1
    assert contents(FeatureStore.open(store.url)) == before


def test_ranges_and_zarr_give_equal_clips(store: FeatureStore) -> None:
    filled(store)
    store.publish()
    for start, rows in ((0, 1), (127, 2), (100, 700), (896, 104), (999, 1)):
        ours = in_ranges(store._objects, store._specs, start, rows)
        theirs = through_zarr(store._objects, store._specs, start, rows)
        assert ours is not None
        assert theirs is not None
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other, strict=True)
    assert through_zarr(store._objects, store._specs, 999, 2) is None


def test_an_index_of_other_order_is_not_trusted(store: FeatureStore) -> None:
    """The chunks of a shard may lie in any order; then rows are not where ranges would look for them."""
    filled(store)
    store.publish()
    shard = Path(store.url, "features/c.0.0")
    data, chunk = shard.read_bytes(), layout.CHUNK_ROWS * WIDTH * 2
    index = np.frombuffer(data[2 * chunk : -4], np.uint64).reshape(2, 2)[::-1]
    shard.write_bytes(data[chunk : 2 * chunk] + data[:chunk] + layout._checked_bytes(index))
    assert in_ranges(store._objects, store._specs, 0, 128) is None
    columns = through_zarr(store._objects, store._specs, 0, 128)
    assert columns is not None
    expected = np.concatenate([store["a"].features, store["b"].features])
    np.testing.assert_array_equal(columns[0], expected)
