"""Whole sequences read in random order from a local store that lies in memory, beside plain Zarr, all in one run.

    python benchmarks/store.py [FOLDER]    # writes benchmarks/results/store.json

The store of ``VIDEOS`` videos (about 0.8 GB) is made in FOLDER, or where temporary files go. In each of ``ROUNDS``
rounds each contestant reads the same videos in the same new order, in one thread; a ratio is that of two speeds in the
same round, and the median counts. Every contestant must first give equal rows. Speeds count the bytes that are handed
out. On the way it is timed what writing, publishing, compacting and opening take.
"""

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from common import save, table
from numpy.typing import NDArray

from extract.store import FeatureStore, VideoFeatures

VIDEOS, MEAN_CLIPS, SIGMA, WIDTH = 2_000, 200, 0.8, 1_024
VIDEOS_A_SEGMENT = 10
ROUNDS = 5
RECIPE = {"backbone": "none", "feature_width": WIDTH, "stored_dtype": "float16"}
NAMES = ("features", "clip_start", "clip_stop", "clip_real_frames", "clip_damaged")
ZARR, ONE_READ = "zarr-python, five arrays", "one read of a file, features alone"
OPEN = "import sys; from extract.store import FeatureStore; print(len(FeatureStore.open(sys.argv[1])))"

Columns = tuple[NDArray[Any], ...]
Read = Callable[[str], Columns]


def videos() -> Iterator[VideoFeatures]:
    """Videos of log-normal length; the rows of each are a window of the same noise."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((32_768, WIDTH), np.float32)
    lengths = rng.lognormal(np.log(MEAN_CLIPS) - SIGMA**2 / 2, SIGMA, VIDEOS)
    for number, clips in enumerate(np.ceil(lengths).astype(int)):
        first = rng.integers(len(noise) - clips)
        start_s = np.arange(clips) * 0.5
        yield VideoFeatures(
            video_id=f"{number // 100:03d}/{number:05d}.mp4",
            features=noise[first : first + clips],
            start_s=start_s,
            stop_s=start_s + 1.0,
            real_frames=np.full(clips, 16, np.int32),
            damaged=np.zeros(clips, np.bool_),
            duration_s=clips * 0.5,
            fingerprint=f"{number:032x}",
            status="ok",
            provenance={"engine": "none"},
        )


def write(path: Path) -> dict[str, float]:
    """Write, publish and compact the store at ``path``; seconds of each."""
    store, made, seconds = FeatureStore.create(path, RECIPE), videos(), 0.0
    while some := list(islice(made, VIDEOS_A_SEGMENT)):
        began = time.perf_counter()
        store.commit(store.write_segment(some))
        seconds += time.perf_counter() - began
    return {"write_s": seconds, "publish_s": timed(store.publish), "compact_s": timed(store.compact)}


def timed(work: Callable[[], object]) -> float:
    """Wall seconds of ``work``."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def opening_s(path: Path) -> tuple[float, float]:
    """Seconds to open the store and read its log here, and in a fresh process with all of its imports."""
    return timed(lambda: len(FeatureStore.open(path))), timed(
        lambda: subprocess.run([sys.executable, "-c", OPEN, path], check=True, stdout=subprocess.DEVNULL)
    )


def through_store(store: FeatureStore) -> Read:
    """A video by this project's own means, its CRC-32 checked."""

    def read(video_id: str) -> Columns:
        one = store[video_id]
        return one.features, one.start_s, one.stop_s, one.real_frames, one.damaged

    return read


def through_zarr(path: Path, names: tuple[str, ...]) -> Read:
    """A video by plain zarr-python, from open arrays; nothing is checked."""
    group = zarr.open_group(path, mode="r")
    arrays: list[Any] = [group[name] for name in names]
    ids, starts, sizes = (np.asarray(group[name]) for name in ("video_id", "row_start", "row_size"))
    rows = {video_id: slice(start, start + size) for video_id, start, size in zip(ids, starts, sizes, strict=True)}
    return lambda video_id: tuple(np.asarray(array[rows[video_id]]) for array in arrays)


def through_file(store: FeatureStore) -> Read:
    """The features of a video by one read of its segment's file; nothing is checked."""
    records, root = dict(store.catalogue), store.url

    def read(video_id: str) -> Columns:
        (part,) = records[video_id].parts
        rows = np.empty((part.rows, WIDTH), np.float16)
        descriptor = os.open(f"{root}/{part.segment}/features/c.0.0", os.O_RDONLY)
        os.preadv(descriptor, [rows], part.first_row * 2 * WIDTH)
        os.close(descriptor)
        return (rows,)

    return read


def compacted_ids(store: FeatureStore) -> list[str]:
    """The videos whose clips are read from the published arrays, in log order."""
    stops = np.cumsum([record.rows for record in store.catalogue.values()])
    return [video_id for video_id, stop in zip(store.catalogue, stops, strict=True) if stop <= store.compacted]


def check_equal(reads: dict[str, Read], ids: list[str]) -> None:
    """Stop unless all give the same arrays, as far as they give them."""
    for video_id in ids:
        first, *others = (read(video_id) for read in reads.values())
        for other in others:
            for ours, theirs in zip(first, other, strict=False):
                np.testing.assert_array_equal(ours, theirs, strict=True)


def speed(read: Read, ids: list[str]) -> float:
    """Bytes/s."""
    began = time.perf_counter()
    n_bytes = sum(column.nbytes for video_id in ids for column in read(video_id))
    return n_bytes / (time.perf_counter() - began)


def measured(path: Path) -> dict[str, Any]:
    """All figures of a store made at ``path``."""
    figures = write(path)
    store = FeatureStore.open(path)
    before = FeatureStore.open(path, version=store.version - 1)
    assert before.compacted == 0 < store.compacted
    reads = {
        "store, compacted": through_store(store),
        "store, from segments": through_store(before),
        ZARR: through_zarr(path, NAMES),
        "zarr-python, features alone": through_zarr(path, NAMES[:1]),
        ONE_READ: through_file(store),
    }
    ids = compacted_ids(store)
    check_equal(reads, ids)
    rounds = []
    for number in range(ROUNDS):
        random.Random(number).shuffle(ids)
        rounds.append({name: speed(read, ids) for name, read in reads.items()})
    here_s, fresh_s = opening_s(path)
    return {
        "videos": len(store),
        "bytes": store.nbytes,
        "read": {name: reading(rounds, name, len(ids)) for name in reads},
        "written_videos_per_s": round(len(store) / figures["write_s"], 1),
        "written_bytes_per_s": round(store.nbytes / figures["write_s"]),
        **{name: round(seconds, 2) for name, seconds in figures.items()},
        "open_ms": round(1000 * here_s, 1),
        "open_in_a_fresh_process_ms": round(1000 * fresh_s, 1),
    }


def reading(rounds: list[dict[str, float]], name: str, n_videos: int) -> dict[str, Any]:
    """Median bytes/s of a contestant, and the median, least and greatest ratio to zarr-python and to one read."""
    result: dict[str, Any] = {"bytes_per_s": round(statistics.median(r[name] for r in rounds)), "videos": n_videos}
    for key, other in (
        ("times_zarr", "zarr-python, five arrays"),
        ("times_file", "one read of a file, features alone"),
    ):
        ratios = [r[name] / r[other] for r in rounds]
        result[key] = [round(figure(ratios), 2) for figure in (statistics.median, min, max)]
    return result


def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        result = measured(Path(folder) / "store")
    rows = [
        [name, f"{one['bytes_per_s'] / 1e9:.2f}"]
        + ["{:.2f} ({:.2f} to {:.2f})".format(*one[key]) for key in ("times_zarr", "times_file")]
        for name, one in result["read"].items()
    ]
    print(table(["random whole sequences", "GB/s", "times zarr-python", "times one read"], rows))
    print({name: value for name, value in result.items() if name != "read"})
    save("store", "reading whole sequences in random order, warm; writing and opening a store", result)


if __name__ == "__main__":
    main()
