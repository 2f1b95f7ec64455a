"""Is training bound by arithmetic? How much of its time a head computes, and how near it comes to the machine's best.

    python benchmarks/training.py [reading] [actionformer]    # writes benchmarks/results/training.json

*reading*: ``SEQUENCES`` sequences of features that exist nowhere but in a store on this disk. A head learns from them
through the real loop, with its features in memory after the first reading, and with every feature read again from the
store in every epoch; the share of the wall time in which it did not wait for features is its time in the model.

*actionformer*: THUMOS14's size with made-up features, ``VIDEOS`` of ``STEPS`` steps of ``WIDTH`` features, in batches
of two, at the paper's 512 channels. The seconds of ``BATCHES`` batches stand for the epoch's; floating-point operations
are counted by torch. The peak is the best of some matrix products on the same threads, measured before and after.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import save, table
from torch.utils.flop_counter import FlopCounterMode

from extract.store import FeatureStore, VideoFeatures
from pipelines import dataset
from pipelines.annotations import Annotations, Segment, VideoAnnotation
from pipelines.checkpoint import new_head
from pipelines.config import checked_settings
from pipelines.dataset import Examples
from pipelines.fitting import Loop, _epoch, fitting_threads, learn
from pipelines.tasks import TASKS

SEQUENCES, SHORT, NARROW = 1_000, (60, 400), 512
HEADS = (("classify", "mean"), ("classify", "lstm"), ("label", "lstm"), ("localize", "temporalmaxer"))
VIDEOS, STEPS, WIDTH, CLASSES = 200, 2_304, 2_048, 20
BATCHES = 6
HOP_S = 4 / 30
PRODUCTS = (1_024, 2_048, 4_096)


def main(parts: list[str]) -> None:
    known = Path(__file__).parent / "results" / "training.json"
    found: dict[str, Any] = json.loads(known.read_text())["result"] if known.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        if "reading" in parts:
            found["reading"] = reading(Path(folder))
        if "actionformer" in parts:
            found["actionformer"] = actionformer(Path(folder))
    save("training", "time in the model; ActionFormer at THUMOS14's size", found)


def reading(folder: Path) -> list[dict[str, Any]]:
    """Each head, with and without memory for the features."""
    rng = np.random.default_rng(0)
    store = made(folder / "many.zarr", [int(rng.integers(*SHORT)) for _ in range(SEQUENCES)], NARROW)
    rows = []
    for task, head in HEADS:
        for share, where in ((4, "memory"), (10**12, "the store")):
            dataset.MEMORY_SHARE = share
            loop = prepared(task, head, store, annotated(store, task), {"epochs": 1})
            with fitting_threads(loop.head):
                _epoch(loop)  # the first reading, and what torch does once
                loop.waiting_s, began = 0.0, time.perf_counter()
                _epoch(loop)
            wall_s = time.perf_counter() - began
            rows.append(
                {"task": task, "head": head, "features": where, "epoch_s": wall_s, "model": 1 - loop.waiting_s / wall_s}
            )
            print(rows[-1])
    print(table(["task", "head", "features from", "s an epoch", "time in the model"], [
        [row["task"], row["head"], row["features"], f"{row['epoch_s']:.1f}", f"{row['model']:.1%}"] for row in rows
    ]))  # fmt: skip
    return rows


def actionformer(folder: Path) -> dict[str, Any]:
    """Seconds of an epoch, and the share of the peak."""
    store = made(folder / "thumos.zarr", [STEPS] * VIDEOS, WIDTH)
    settings = {"hidden": 512, "batch": 2, "max_steps": STEPS}
    loop = prepared("localize", "actionformer", store, annotated(store, "localize"), settings)
    before = peak()
    batches = loop.task.batches(loop.examples, loop.settings, loop.rng)
    loop.head.train()
    with FlopCounterMode(display=False) as counter:
        learn(loop, next(batches)[1])
    operations = counter.get_total_flops()
    began = time.perf_counter()
    for _ in range(BATCHES):
        learn(loop, next(batches)[1])
    seconds = (time.perf_counter() - began) / BATCHES
    best = max(before, peak())
    result = {
        "parameters": sum(parameter.numel() for parameter in loop.head.parameters()),
        "threads": torch.get_num_threads(),
        "batch_s": seconds,
        "epoch_s": seconds * loop.task.n_batches(loop.examples, loop.settings),
        "gflop_per_batch": operations / 1e9,
        "gflop_per_s": operations / seconds / 1e9,
        "peak_gflop_per_s": best / 1e9,
        "share_of_peak": operations / seconds / best,
    }
    print(result)
    return result


def prepared(task: str, head: str, store: FeatureStore, truth: Annotations, settings: dict[str, object]) -> Loop:
    """A training before its first epoch."""
    values, chosen = checked_settings(settings, head), TASKS[task]
    examples = chosen.load(store, truth, subset="training", settings=values)
    model = new_head(head, task=task, width=examples.width, n_classes=len(examples.classes), settings=values)
    chosen.prepare(model, Examples(examples.items[:20], examples.classes, ()), values)
    return Loop(chosen, model, examples, None, values, torch.device("cpu"), np.random.default_rng(0))


def peak() -> float:
    """Operations a second of the best matrix product."""
    return max(product(size) for size in PRODUCTS)


def product(size: int) -> float:
    a, b = torch.randn(size, size), torch.randn(size, size)
    a @ b
    times = []
    for _ in range(5):
        began = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - began)
    return 2 * size**3 / min(times)


def made(path: Path, lengths: list[int], width: int) -> FeatureStore:
    """A published store of made-up features."""
    store = FeatureStore.create(path, {"backbone": "made up", "feature_width": width, "stored_dtype": "float16"})
    for first in range(0, len(lengths), 20):
        videos = [video(first + at, length, width) for at, length in enumerate(lengths[first : first + 20])]
        store.commit(store.write_segment(videos))
    store.publish()
    store.compact()
    return store


def video(number: int, length: int, width: int) -> VideoFeatures:
    start_s = HOP_S * np.arange(length)
    return VideoFeatures(
        video_id=f"{number:04d}.mp4",
        features=np.random.default_rng(number).standard_normal((length, width), np.float32),
        start_s=start_s,
        stop_s=start_s + 16 / 30,
        real_frames=np.full(length, 16, np.int32),
        damaged=np.zeros(length, np.bool_),
        duration_s=float(HOP_S * length + 0.4),
        fingerprint=f"{number}",
        status="ok",
        provenance={},
    )


def annotated(store: FeatureStore, task: str) -> Annotations:
    """Made-up labels: for `classify` one a video, else about one action in 12 s."""
    return Annotations.of(labelled(store, task))


def labelled(store: FeatureStore, task: str) -> Iterator[VideoAnnotation]:
    rng = np.random.default_rng(0)
    for video_id in store:
        duration_s = store.catalogue[video_id].duration_s
        count = 1 if task == "classify" else max(1, int(duration_s / 12))
        starts = rng.uniform(0, 0.9 * duration_s, count)
        rows = (
            [(0.0, duration_s)] if task == "classify" else [(a, min(duration_s, a + rng.uniform(1, 8))) for a in starts]
        )
        segments = tuple(Segment(f"class {rng.integers(CLASSES)}", float(a), float(b)) for a, b in rows)
        yield VideoAnnotation(video_id, duration_s, "training", segments)


if __name__ == "__main__":
    main(sys.argv[1:] or ["reading", "actionformer"])
