"""Stores under fire: writers killed at every write, racing writers, readers beside a publisher.

The children run this very file. They only import before they fork, so that no thread is lost on the way.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray

import extract
from extract.store import FeatureStore, VideoFeatures

RECIPE = {"backbone": "tiny", "feature_width": 4, "stored_dtype": "float32"}
ROOT = str(Path(extract.__file__).parents[1])
BATCHES = (("a", "b"), ("c",), ("d", "e"))


def make_video(video_id: str, clips: int = 70) -> VideoFeatures:
    """All features of a video are one number that follows from its id."""
    value = float(sum(video_id.encode()))
    return VideoFeatures(
        video_id=video_id,
        features=np.full((clips, 4), value, np.float32),
        start_s=np.arange(clips, dtype=np.float64),
        stop_s=np.arange(clips, dtype=np.float64) + 1,
        real_frames=np.full(clips, 16, np.int32),
        damaged=np.zeros(clips, bool),
        duration_s=float(clips),
        fingerprint="print",
        status="ok",
        provenance={},
    )


def run_job(path: Path, batches: tuple[tuple[str, ...], ...] = BATCHES) -> None:
    """What a coordinator does, from whatever an earlier run left."""
    store = FeatureStore.open_or_create(path, RECIPE)
    for batch in batches:
        if any(video_id not in store for video_id in batch):
            store.commit(store.write_segment([make_video(video_id) for video_id in batch]))
    store.publish()


def check_published(path: Path) -> int:
    """Every video that the published arrays name is whole; returns their number."""
    data = xarray.open_zarr(path, chunks=None).load()
    sizes = data.row_size.values
    expected = [float(sum(video_id.encode())) for video_id in data.video_id.values]
    assert sizes.sum() == data.sizes["clip"]
    assert (data.features.values == np.repeat(expected, sizes)[:, None]).all()
    starts = [np.arange(size) for size in sizes]
    np.testing.assert_array_equal(data.clip_start.values, np.concatenate([[], *starts]))
    return len(sizes)


def contents(path: Path) -> dict[str, str]:
    """Digest of every published object."""
    keys = (file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    published = sorted(key for key in keys if not key.startswith("_"))
    return {key: hashlib.sha256((path / key).read_bytes()).hexdigest() for key in published}


# In the children


def kill_at(names: tuple[str, ...], n: int) -> None:
    """Have this process killed at its ``n``-th call of these functions of ``os``; ``write`` half done."""
    calls = 0

    def dying(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == n:
                if name == "write":
                    original(arguments[0], arguments[1][: len(arguments[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **options)

        return call

    for name in names:
        setattr(os, name, dying(name, getattr(os, name)))


def forked(action: Callable[[], object]) -> bool:
    """Run ``action`` in a child; False when it was killed."""
    child = os.fork()
    if child == 0:
        try:
            action()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status not in (0, signal.SIGKILL):
        raise AssertionError(f"a child ended with status {status}")
    return status == 0


def kill_everywhere(start: Path, batches: tuple[tuple[str, ...], ...], names: tuple[str, ...], step: int) -> int:
    """Kill the job at every ``step``-th call, from a copy of ``start``, then run it again; how many times."""
    with tempfile.TemporaryDirectory() as folder:
        undisturbed = Path(folder) / "undisturbed"
        shutil.copytree(start, undisturbed)
        forked(lambda: run_job(undisturbed, batches))
        for kills, n in enumerate(range(1, 1000, step)):
            path = Path(folder) / str(n)
            shutil.copytree(start, path)

            def killed(path: Path = path, n: int = n) -> None:
                kill_at(names, n)
                run_job(path, batches)

            def recovered(path: Path = path) -> None:
                if (path / "zarr.json").exists():
                    check_published(path)
                run_job(path, batches)
                assert contents(path) == contents(undisturbed)

            if forked(killed):
                return kills
            assert forked(recovered)
    raise AssertionError("the job does not end")


def child_kill(work: str) -> None:
    empty, begun, committed = (Path(work) / name for name in ("empty", "begun", "committed"))
    empty.mkdir()
    forked(lambda: run_job(begun, BATCHES[:2]))
    shutil.copytree(begun, committed)

    def commit_last() -> None:
        store = FeatureStore.open(committed)
        store.commit(store.write_segment([make_video(video_id) for video_id in BATCHES[2]]))

    forked(commit_last)
    kills = {
        "creation": kill_everywhere(empty, (), ("link", "mkdir"), 5),
        "segment": kill_everywhere(begun, BATCHES, ("replace", "link"), 5),
        "publication": kill_everywhere(committed, BATCHES, ("replace",), 4),
        "half": kill_everywhere(begun, BATCHES, ("write",), 5),
    }
    sys.stdout.write(json.dumps(kills))


def child_commit(path: str, name: str) -> None:
    store = FeatureStore.open(path)
    shared = store.write_segment([make_video("shared")])
    own = store.write_segment([make_video(f"own-{name}", 2)])
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    store.commit(shared)
    for at in range(30):
        store.record_failure(f"{name}-{at}", "print", "reason", "detail")
    store.commit(own)
    store.publish()


def child_publish(path: str, videos: str) -> None:
    store = FeatureStore.open(path)
    for at in range(int(videos)):
        store.commit(store.write_segment([make_video(f"video-{at}", 50 + at)]))
        store.publish()


# In the tests


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", __file__, *map(str, arguments)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": ROOT}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    store = FeatureStore.create(tmp_path / "store", RECIPE)
    store.publish()
    return store


def test_a_job_killed_at_any_write_ends_like_one_undisturbed(tmp_path: Path) -> None:
    child = start("kill", tmp_path)
    output = child.communicate(timeout=120)[0]
    assert child.returncode == 0
    kills = json.loads(output)
    assert kills["creation"] >= 3
    assert kills["segment"] >= 9
    assert kills["publication"] >= 8
    assert kills["half"] >= 9


def test_racing_coordinators_lose_and_duplicate_nothing(store: FeatureStore) -> None:
    children = [start("commit", Path(store.url), name) for name in ("x", "y", "z")]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        child.communicate(timeout=60)
    assert [child.returncode for child in children] == [0, 0, 0]
    store.refresh()
    assert store.version == 3 * 32
    assert set(store) == {"shared", "own-x", "own-y", "own-z"}
    assert set(store.failures) == {f"{name}-{at}" for name in "xyz" for at in range(30)}
    entries = [json.loads(path.read_text()) for path in (Path(store.url) / "_log").iterdir()]
    assert len({entry["id"] for entry in entries}) == len(entries) == store.version + 1
    assert check_published(Path(store.url)) == 4


def test_a_reader_beside_a_publisher_sees_whole_versions(store: FeatureStore) -> None:
    child = start("publish", Path(store.url), 12)
    seen = []
    while child.poll() is None:
        seen.append(check_published(Path(store.url)))
    child.communicate()
    assert child.returncode == 0
    assert seen == sorted(seen)
    assert len(set(seen)) > 2
    assert check_published(Path(store.url)) == 12


if __name__ == "__main__":
    setattr(os, "fsync", lambda _: None)  # noqa: B010
    children: dict[str, Callable[..., None]]
    children = {"kill": child_kill, "commit": child_commit, "publish": child_publish}
    children[sys.argv[1]](*sys.argv[2:])
