"""Searching a store: clips a second against what reading and numpy take, and how often what is found is the same verb.

python benchmarks/search.py [--world WORLD_STORE ANNOTATIONS] [--share 1.0]
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import save, table
from numpy.typing import NDArray

from extract.store import FeatureStore, VideoFeatures
from pipelines.search import Query, search

VIDEO_CLIPS = 5_000
WIDTHS = {256: 1_000_000, 2304: 200_000}
REPEATS = 5


def fabricate(folder: Path, width: int, clips: int) -> FeatureStore:
    """A published store of float16 features that no two clips share, as after `compact`."""
    recipe = {"backbone": "made", "feature_width": width, "stored_dtype": "float16"}
    store = FeatureStore.create(folder, recipe)
    rng = np.random.default_rng(0)
    base = rng.standard_normal((VIDEO_CLIPS, width), dtype=np.float32)
    start_s = np.arange(VIDEO_CLIPS) * 0.8
    for number in range(clips // VIDEO_CLIPS):
        features = np.roll(base, number, axis=1) + rng.standard_normal(width, dtype=np.float32) / 2
        others = (start_s, start_s + 1.6, np.full(VIDEO_CLIPS, 16, np.int32), np.zeros(VIDEO_CLIPS, np.bool_))
        end_s = VIDEO_CLIPS * 0.8 + 0.8
        store.commit(store.write_segment([VideoFeatures(f"v{number}", features, *others, end_s, "x", "ok", {})]))
    store.publish()
    store.compact()
    store.collect(grace_s=0)
    return store


def best_s(work: Callable[[], object]) -> float:
    """The quickest of some runs."""
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def in_numpy(features: NDArray[np.float16], direction: NDArray[np.float32], centre: NDArray[np.float32]) -> object:
    """The same cosines of the loaded array, in the plainest way that fits into memory."""
    found = []
    for first in range(0, len(features), 65_536):
        rows = features[first : first + 65_536].astype(np.float32) - centre
        found.append(rows @ direction / np.linalg.norm(rows, axis=1))
    return np.concatenate(found)


def speed(width: int, clips: int) -> dict[str, Any]:
    """Seconds of a whole search beside those of reading the bytes once and of numpy on the loaded array."""
    with tempfile.TemporaryDirectory() as folder:
        store = fabricate(Path(folder, "store"), width, clips)
        query = Query("v3", 100.0, 106.0)
        laid = store.layout()
        search_s = best_s(lambda: search(store, [query]))
        read_s = best_s(lambda: [store.features_of(laid, block) for block in laid.blocks])
        features = np.concatenate([store.features_of(laid, block) for block in laid.blocks])
        direction, centre = features[0].astype(np.float32), features[:1000].astype(np.float32).mean(0)
        words = features.view(np.uint64)
        memory_s = best_s(lambda: np.bitwise_or.reduce(words, axis=None))
        numpy_s = best_s(lambda: in_numpy(features, direction, centre))
    gigabytes = features.nbytes / 1e9
    return {
        "width": width,
        "clips": clips,
        "gigabytes": round(gigabytes, 3),
        "search_s": round(search_s, 3),
        "clips_per_s": round(clips / search_s),
        "search_gb_per_s": round(gigabytes / search_s, 2),
        "read_alone_gb_per_s": round(gigabytes / read_s, 2),
        "memory_alone_gb_per_s": round(gigabytes / memory_s, 2),
        "numpy_on_the_loaded_array_s": round(numpy_s, 3),
        "numpy_over_search": round(numpy_s / search_s, 2),
    }


def precision(store: FeatureStore, annotations: Path, k: int = 20) -> dict[str, Any]:
    """Of the first ``k`` for each annotated moment: how many have their middle in one of the same verb, and chance."""
    database = json.loads(annotations.read_text())["database"]
    truths = [
        (video_id, *annotation["segment"], annotation["label"])
        for video_id, video in database.items()
        for annotation in video["annotations"]
    ]
    total_s = sum(video["duration"] for video in database.values())
    hits, chances = [], []
    for video_id, start_s, stop_s, label in truths:
        others = [r for r in search(store, [Query(video_id, start_s, stop_s)], k=k).results if not r.is_self]
        same = [truth for truth in truths if truth[3] == label]
        for result in others:
            middle = (result.start_s + result.stop_s) / 2
            hits.append(any(v == result.video_id and a <= middle < b for v, a, b, _ in same))
        chances.append(sum(b - a for _, a, b, _ in same) / total_s)
    return {
        "videos": len(database),
        "queries": len(truths),
        "verbs": len({truth[3] for truth in truths}),
        f"precision_at_{k}": round(float(np.mean(hits)), 3),
        "chance": round(float(np.mean(chances)), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--world", nargs=2, metavar=("STORE", "ANNOTATIONS"))
    parser.add_argument("--share", type=float, default=1.0, help="of the clips, on small machines")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    rows = [speed(width, int(clips * options.share)) for width, clips in WIDTHS.items()]
    result: dict[str, Any] = {"load_before": round(load, 1), "load_after": round(os.getloadavg()[0], 1), "speed": rows}
    if options.world:
        result["verbs"] = precision(FeatureStore.open(options.world[0]), Path(options.world[1]))
    print(table(list(rows[0]), [[str(value) for value in row.values()] for row in rows]))
    print(json.dumps(result, indent=2))
    save("search", "`untrimmed search`: see benchmarks/search.py", result)


if __name__ == "__main__":
    main()
