import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from extract.errors import StoreError
from extract.store import FeatureStore, VideoFeatures, arrays
from pipelines.verification import Verification, verification_json, verification_lines, verify_store

WIDTH = 4
RECIPE = {"feature_width": WIDTH, "stored_dtype": "float16"}
SHARD = arrays.TIME_CHUNK_ROWS  # the smallest that there is
SIZES = {"a": 3, "b": 2 * SHARD + 44, "c": 64, "d": 1, "e": SHARD + 2}  # shards hold ab, b, bcde and e


@pytest.fixture(autouse=True)
def small_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(arrays, "MAX_SHARD_ROWS", SHARD)


def add(store: FeatureStore, video_id: str, clips: int, fingerprint: str = "one") -> None:
    rng = np.random.default_rng(clips)
    start_s = np.arange(clips) * 0.5
    video = VideoFeatures(
        video_id=video_id,
        features=rng.standard_normal((clips, WIDTH)).astype(np.float32),
        start_s=start_s,
        stop_s=start_s + 1.25,
        real_frames=rng.integers(1, 17, clips, dtype=np.int32),
        damaged=np.arange(clips) % 2 == 1,
        duration_s=clips * 0.5,
        fingerprint=fingerprint,
        status="ok",
        provenance={},
    )
    store.commit(store.write_segment([video]))


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    store = FeatureStore.create(tmp_path / "store", RECIPE)
    for video_id, clips in SIZES.items():
        add(store, video_id, clips)
    return store


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def named(found: Verification) -> list[tuple[str, str]]:
    return [(damage.video_id, damage.where) for damage in found.damaged]


def test_a_whole_store(store: FeatureStore) -> None:
    store.publish()
    seen: list[tuple[int, int]] = []
    found = verify_store(store, lambda done, total: seen.append((done, total)))
    clips = sum(SIZES.values())
    assert found == Verification(store.url, 5, clips, 5, 0, ())
    assert seen[-1] == (2 * clips, 2 * clips)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert list(verification_lines(found))[-1] == "everything is as it was written"


def test_what_is_not_published_yet_is_no_damage(store: FeatureStore) -> None:
    assert verify_store(store) == Verification(store.url, 5, sum(SIZES.values()), 0, 5, ())
    store.publish()
    add(store, "f", 9)
    add(store, "b", 8, "another")
    found = verify_store(FeatureStore.open(store.url))
    assert (found.videos, found.published, found.unpublished, found.damaged) == (6, 5, 2, ())
    assert "2 videos are not published yet; `untrimmed compact` does that" in list(verification_lines(found))
    store.publish()
    found = verify_store(store)
    assert (found.videos, found.published, found.unpublished, found.damaged) == (6, 7, 0, ())


def test_a_snapshot_is_verified_beside_newer_publications(store: FeatureStore) -> None:
    old = FeatureStore.open(store.url, version=2)
    store.publish()
    found = verify_store(old)
    assert (found.videos, found.published, found.damaged) == (2, 5, ())


def test_a_store_that_is_no_folder() -> None:
    store = FeatureStore.create("memory://verified", RECIPE)
    add(store, "a", 3)
    store.publish()
    assert verify_store(store) == Verification(store.url, 1, 3, 1, 0, ())


def test_an_empty_store(tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path / "store", RECIPE)
    assert verify_store(store) == Verification(store.url, 0, 0, 0, 0, ())


def segment_of(store: FeatureStore, video_id: str) -> Path:
    segments = (Path(store.url) / "_segments").glob("*/*")
    (found,) = [path for path in segments if f'"video_id": "{video_id}"' in (path / "zarr.json").read_text("utf-8")]
    return found


def test_every_unreadable_video_is_named(store: FeatureStore) -> None:
    flip(segment_of(store, "a") / "features" / "c.0.0", 2)
    (segment_of(store, "c") / "clip_stop" / "c.0").unlink()
    last = segment_of(store, "e") / "clip_start" / "c.0"
    last.write_bytes(last.read_bytes()[:-8])
    found = verify_store(store)
    assert named(found) == [("a", "store"), ("c", "store"), ("e", "store")]
    for damage in found.damaged:
        with pytest.raises(StoreError, match=re.escape(damage.detail)):
            store[damage.video_id]


def rewritten(name: str, at: int | slice, value: Any) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        array = zarr.open_array(root / name, mode="r+")
        array[at] = value

    return change


PUBLISHED: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "one byte of a feature": (lambda root: flip(root / "features" / "c.0.0", 10), ["a"]),
    "a byte beyond the first shard": (lambda root: flip(root / "features" / "c.2.0", 100 * WIDTH * 2), ["c"]),
    "a shard": (lambda root: (root / "features" / "c.1.0").unlink(), ["b"]),
    "half a shard": (lambda root: os.truncate(root / "features" / "c.2.0", 700), ["b", "c", "d", "e"]),
    "times": (lambda root: (root / "clip_stop" / "c.3").unlink(), ["e"]),
    "a flag": (rewritten("clip_damaged", 0, True), ["a"]),
    "a checksum": (rewritten("crc32", 2, 7), ["c", "c"]),
    "a position": (rewritten("row_start", 4, 1), ["e"]),
    "a size": (rewritten("row_size", 3, 2), ["e", "", "d"]),
    "two sizes": (rewritten("row_size", slice(0, 2), [2, SIZES["b"] + 1]), ["a", "a", "b", "b", "b"]),
    "an id": (rewritten("video_id", 1, "x"), ["x"]),
    "the root": (lambda root: (root / "zarr.json").write_text("{", "utf-8"), [""]),
    "the sizes": (lambda root: (root / "row_size" / "c.0").write_bytes(b"none"), [""]),
}


@pytest.mark.parametrize("what", PUBLISHED)
def test_damage_of_what_is_published_is_named(store: FeatureStore, what: str) -> None:
    damage, expected = PUBLISHED[what]
    store.publish()
    damage(Path(store.url))
    found = verify_store(store)
    assert sorted(each.video_id for each in found.damaged) == sorted(expected)
    assert {each.where for each in found.damaged} == {"published"}
    assert all("restore that object from a copy of the store" in each.detail for each in found.damaged)


def test_results_for_programs_and_people(store: FeatureStore) -> None:
    store.publish()
    flip(Path(store.url) / "features" / "c.0.0", 10)
    found = verify_store(store)
    plain = json.loads(json.dumps(verification_json(found)))
    assert (plain["videos"], plain["published"], plain["unpublished"]) == (5, 5, 0)
    assert [(each["video"], each["where"]) for each in plain["damaged"]] == [("a", "published")]
    lines = list(verification_lines(found))
    assert lines[0] == f"{store.url}: 5 videos, {sum(SIZES.values())} clips read; 5 published versions"
    assert lines[1] == "1 damaged:"
    assert lines[2].startswith("  a (published): its published clips have CRC-32 ")
