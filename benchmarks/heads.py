"""What the heads reach on held-out videos of the motion worlds, with three seeds.

    python benchmarks/heads.py FOLDER [TASK…]    # writes benchmarks/results/heads.json and the tables of docs/heads.md

Makes the worlds in FOLDER and extracts them with the embedded backbone; trainings that are there stay, so the command
goes on where it was stopped. All settings are the defaults.
"""

import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from common import fill_table, machine

from extract.store import FeatureStore
from pipelines.console import Meter
from pipelines.extraction import Options, run_extraction
from pipelines.seeds import train_seeds
from pipelines.show import follow_training
from pipelines.synthetic import synthesize
from pipelines.tasks import TASKS

SEEDS, WORLD_SEED = 3, 1
DOCS = Path(__file__).parents[1] / "docs" / "heads.md"
RESULTS = Path(__file__).parent / "results" / "heads.json"


@dataclass(frozen=True)
class World:
    """A data set, and the heads of a task that are tried on it."""

    kind: str
    videos: int
    seconds: float
    heads: tuple[str, ...]
    annotations: str = "annotations.json"


TRIED = {
    "classify": World("order", 96, 30.0, ("mean", "max", "linear", "svm", "attention-pool", "netvlad", "lstm", "gru",
                                          "attention")),
    "label": World("untrimmed", 60, 60.0, ("mean", "linear", "lstm", "gru", "attention", "ms-tcn")),
    "localize": World("untrimmed", 60, 60.0, ("actionformer", "temporalmaxer", "proposals", "watershed")),
    "detect": World("memory", 48, 120.0, ("bank-none", "bank-mean", "bank-max", "bank-nonlocal"), annotations=""),
}  # fmt: skip


def main(folder: Path, tasks: list[str]) -> None:
    for task in tasks:
        world = TRIED[task]
        store = prepared(folder, world)
        found = {head: tried(folder, task, world, store, head) for head in world.heads}
        keep(task, found)
        write_table(task, found)


def prepared(folder: Path, world: World) -> FeatureStore:
    """The world's features, made where they are not there yet."""
    videos, store = folder / world.kind, folder / f"{world.kind}.zarr"
    if not videos.exists():
        print(f"making {world.videos} videos: {world.kind}")
        synthesize(world.kind, videos, videos=world.videos, seconds=world.seconds, seed=WORLD_SEED)
    boxes = videos / "boxes.csv" if world.kind == "memory" else None
    return run_extraction(videos / "videos", store, options=Options(boxes=boxes))[0]


def tried(folder: Path, task: str, world: World, store: FeatureStore, head: str) -> dict[str, Any]:
    """The figures of one head."""
    out = folder / "runs" / f"{task}-{head}"
    out.parent.mkdir(exist_ok=True)
    with Meter(f"{task} {head}") as meter:
        summary = train_seeds(
            task,
            store,
            annotations=folder / world.kind / world.annotations,
            out=out,
            seeds=SEEDS,
            head=head,
            on_progress=partial(follow_training(meter, SEEDS)),
        )
    records = [json.loads((out / name / "run.json").read_text()) for name in summary["runs"]]
    result = summary["result"]
    figures = {
        "metrics": result["metrics"],
        "spread": result["spread"],
        "seeds": result["seeds"],
        "chance": result["chance"],
        "per_threshold": result["per_threshold"],
        "parameters": records[0]["parameters"],
        "seconds": sum(record["seconds"] for record in records) / len(records),
    }
    print(task, head, {name: round(value, 3) for name, value in figures["metrics"].items()})
    return figures


def keep(task: str, found: dict[str, Any]) -> None:
    """Put the figures of one task into the results; those of the others stay."""
    known = json.loads(RESULTS.read_text())["result"] if RESULTS.exists() else {}
    text = {"what": "figures on held-out videos of motion worlds, three seeds", "machine": machine()}
    RESULTS.write_text(json.dumps({**text, "result": {**known, task: found}}, indent=2) + "\n")


def write_table(task: str, found: dict[str, Any]) -> None:
    """Replace the table between the marks of ``task`` in the page."""
    metrics = list(next(iter(found.values()))["metrics"])
    official = TASKS[task].metric
    header = [
        "head",
        *(f"{name}, mean ± sd of {SEEDS} seeds" for name in metrics),
        f"each {official}",
        "parameters",
        "s",
    ]
    rows = [
        [
            f"`{head}`",
            *(f"{row['metrics'][name]:.3f} ± {row['spread'][name]:.3f}" for name in metrics),
            " · ".join(f"{seed[official]:.3f}" for seed in row["seeds"]),
            f"{row['parameters']:,}",
            f"{row['seconds']:.0f}",
        ]
        for head, row in found.items()
    ]
    chance = next(iter(found.values()))["chance"]
    if chance:
        rows.append(["chance", *(f"{chance[name]:.3f}" for name in metrics), "", "", ""])
    fill_table(DOCS, task, header, rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or list(TRIED))
