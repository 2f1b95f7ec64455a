"""Prediction and report of a long video beside a short one: peak memory, seconds, and the size of the page.

    python benchmarks/predict.py        # 3 min; writes results/predict.json

Features are drawn (256 wide, the embedded backbone's hop of 0.8 s), because decoding has a benchmark of its own
(`memory.py`); heads have random weights. Each length and head in a fresh process, which also notes what it needed
before the video.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from common import save, table

from extract.store import FeatureStore, VideoFeatures
from pipelines.checkpoint import load_run, new_head, save_run
from pipelines.config import checked_settings
from pipelines.predicting import predict_stored
from pipelines.predictions import write_predictions
from pipelines.report.build import report

WIDTH, CLASSES, HOP_S = 256, 20, 0.8
HOURS = (1 / 6, 1.0, 10.0)
HEADS = (("label", "lstm"), ("label", "attention"), ("localize", "actionformer"))
RECIPE = {"backbone": "tiny_r2plus1d", "feature_width": WIDTH, "stored_dtype": "float16", "hop": 8, "drawn": True}


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def make(folder: Path) -> None:
    """A store with a video of each length, and a run of each head."""
    store = FeatureStore.open_or_create(folder / "f.zarr", RECIPE)
    rng = np.random.default_rng(0)
    for hours in HOURS:
        clips = int(3600 * hours / HOP_S)
        start_s = HOP_S * np.arange(clips)
        video = VideoFeatures(
            f"{hours:.2f}.mp4", rng.standard_normal((clips, WIDTH), np.float32), start_s, start_s + 2 * HOP_S,
            np.full(clips, 16, np.int32), np.zeros(clips, np.bool_), 3600 * hours, "x", "ok", {"uri": "nowhere"},
        )  # fmt: skip
        receipt = store.write_segment([video])
        assert receipt is not None
        store.commit(receipt)
    store.publish()
    for task, name in HEADS:
        torch.manual_seed(0)
        settings = checked_settings({"window": "50"} if name == "attention" else {}, name)
        head = new_head(name, task=task, width=WIDTH, n_classes=CLASSES, settings=settings)
        record = {
            "task": task, "head": name, "settings": settings.model_dump(mode="json"), "recipe": RECIPE,
            "recipe_digest": store.recipe_digest, "classes": [f"class {n}" for n in range(CLASSES)],
            "feature_width": WIDTH, "threshold": 0.55,
        }  # fmt: skip
        save_run(folder / f"{task}-{name}", head, record=record, epochs=[], card="")


def predicted(folder: Path, run: str, hours: str) -> dict[str, float]:
    """One prediction and its report, in this process."""
    store, trained = FeatureStore.open(folder / "f.zarr"), load_run(folder / run)
    predict_stored(trained, store, [f"{HOURS[0]:.2f}.mp4"])
    before, began = peak_mb(), time.perf_counter()
    found = predict_stored(trained, store, [f"{hours}.mp4"])
    after, took = peak_mb(), time.perf_counter() - began
    write_predictions(found, folder / f"{run}-{hours}.json")
    began = time.perf_counter()
    page = report(folder / f"{run}-{hours}.json", folder / f"{run}-{hours}.html")
    return {
        "before_mb": round(before),
        "more_mb": round(after - before),
        "seconds": round(took, 2),
        "report_more_mb": round(peak_mb() - after),
        "report_s": round(time.perf_counter() - began, 2),
        "page_mb": round(page.bytes / 1e6, 2),
        "segments": len(found.document.segments),
    }


def main() -> None:
    result = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder)
        for task, head in HEADS:
            for hours in HOURS:
                command = [sys.executable, __file__, str(folder), f"{task}-{head}", f"{hours:.2f}"]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                result[f"{task} {head}, {hours:.2f} h"] = json.loads(done.stdout)
    columns = list(next(iter(result.values())))
    print(table(["", *columns], [[name, *map(str, row.values())] for name, row in result.items()]))
    save("predict", "peak memory, seconds and page of predictions on drawn features, each in a fresh process", result)


if __name__ == "__main__":
    if len(sys.argv) == 4:
        print(json.dumps(predicted(Path(sys.argv[1]), *sys.argv[2:])))
    else:
        main()
