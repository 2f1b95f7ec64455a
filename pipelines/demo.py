"""The whole path on made videos: synthesize, extract on Dask workers, train, evaluate, predict on new videos, report.
Offline, on the CPU.
"""

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from extract.errors import InputError, MachineError
from extract.store import FeatureStore
from pipelines.console import Meter, complain, duration
from pipelines.evaluation import evaluate
from pipelines.extraction import Options, Summary, run_extraction
from pipelines.predicting import predict_videos
from pipelines.predictions import write_predictions
from pipelines.report.build import Report, report
from pipelines.show import follow_extraction, follow_training
from pipelines.synthetic import synthesize
from pipelines.training import train


@dataclass(frozen=True, slots=True)
class World:
    """One of the demo's data sets, and the task that is trained on it."""

    kind: str
    task: str
    videos: int
    seconds: float


WORLDS = (World("order", "classify", 84, 24.0), World("untrimmed", "label", 9, 60.0))
SEED = 7
MARK = ".untrimmed-demo"
HEADS = ("mean", "lstm")
LOCALIZER = "temporalmaxer"
NEW = World("untrimmed", "localize", 3, 60.0)
"""Videos that are predicted, and shown in the report; no head was trained on them."""


def run_demo(
    folder: Path, *, workers: int = 2, quiet: bool = False, worlds: Sequence[World] = WORLDS
) -> dict[str, Any]:
    """Do all of it in the new folder ``folder``; what an earlier demo left there is removed first.

    Two worlds: *order* (one label a video: which of two verbs, far apart, came first, so that a mean over time
    cannot tell) and *untrimmed* (every verb, labelled clip by clip, and found from when to when; the last of
    ``worlds``). The report is about new videos of its kind.

    Returns:
        Paths, figures of each head beside chance, and the seconds of each part.

    Raises:
        InputError: ``folder`` is not empty.
        MachineError: ``folder`` cannot be written.
    """
    _clear(folder)
    began = time.monotonic()
    for world in worlds:
        _make(folder / world.kind, world, SEED, quiet=quiet)
    made = time.monotonic()
    extraction = {world.kind: asdict(_extract(folder, world.kind, workers, quiet=quiet)) for world in worlds}
    extracted = time.monotonic()
    figures = {f"{world.task} {head}": _train(folder, world, head, quiet=quiet) for world in worlds for head in HEADS}
    localize = replace(worlds[-1], task=NEW.task)
    figures[f"{NEW.task} {LOCALIZER}"] = _train(folder, localize, LOCALIZER, quiet=quiet)
    trained = time.monotonic()
    shown = _show(folder, quiet=quiet)
    ended = time.monotonic()
    result = {
        "folder": str(folder.absolute()),
        "figures": figures,
        "extraction": extraction,
        "report": str(shown.path.absolute()),
        "counts": shown.counts,
        "seconds": {
            "make": made - began,
            "extract": extracted - made,
            "train and evaluate": trained - extracted,
            "predict and report": ended - trained,
        },
        "total_s": ended - began,
    }
    (folder / "demo.json").write_text(json.dumps(result, indent=2), encoding="utf-8")
    return result


def _clear(folder: Path) -> None:
    """Remove what an earlier demo made, and nothing else."""
    if folder.exists() and not (folder / MARK).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and is not a demo's folder; choose another -o")
    try:
        for name in (*(world.kind for world in WORLDS), *(f"{world.kind}.zarr" for world in WORLDS), "runs", "new"):
            if (folder / name).exists():
                shutil.rmtree(folder / name)
        for name in ("predictions.json", "report.html"):
            (folder / name).unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARK).touch()
    except OSError as error:
        raise MachineError(f"cannot make {folder}: {error.strerror}; choose another -o") from error


def _make(out: Path, world: World, seed: int, *, quiet: bool) -> None:
    _say(f"making {world.videos} videos of {world.seconds:g} s: the {world.kind} world", quiet=quiet)
    with Meter(f"synthesize {world.kind}", quiet=quiet) as meter:
        synthesize(
            world.kind,
            out,
            videos=world.videos,
            seconds=world.seconds,
            seed=seed,
            on_progress=lambda done, total: meter.show(done / total, f"{done} of {total} videos"),
        )


def _extract(folder: Path, kind: str, workers: int, *, quiet: bool) -> Summary:
    _say(f"extracting clip features of the {kind} world", quiet=quiet)
    with Meter(f"extract {kind}", quiet=quiet) as meter:
        on_plan, on_progress = follow_extraction(meter, quiet=quiet)
        _, summary = run_extraction(
            folder / kind / "videos",
            folder / f"{kind}.zarr",
            options=Options(workers=workers),
            on_plan=on_plan,
            on_progress=on_progress,
        )
    return summary


def _train(folder: Path, world: World, head: str, *, quiet: bool) -> dict[str, Any]:
    _say(f"training {head} to {world.task}", quiet=quiet)
    store = FeatureStore.open(folder / f"{world.kind}.zarr")
    labels = folder / world.kind / "annotations.json"
    with Meter(f"train {head}", quiet=quiet) as meter:
        run = train(
            world.task,
            store,
            annotations=labels,
            out=folder / "runs" / f"{world.task}-{head}",
            head=head,
            on_progress=partial(follow_training(meter, 1), 0),
        )
    return evaluate(run, store, annotations=labels)


def _show(folder: Path, *, quiet: bool) -> Report:
    """Predict on new, raw videos, and make the report."""
    _make(folder / "new", NEW, SEED + 1, quiet=quiet)
    _say(f"predicting on them with {LOCALIZER}, and making the report", quiet=quiet)
    with Meter("predict", quiet=quiet) as meter:
        _, on_progress = follow_extraction(meter, quiet=True)
        done = predict_videos(
            folder / "runs" / f"{NEW.task}-{LOCALIZER}", folder / "new" / "videos", on_progress=on_progress
        )
    write_predictions(done.predictions, folder / "predictions.json")
    with Meter("report", quiet=quiet) as meter:
        return report(
            folder / "predictions.json",
            folder / "report.html",
            truth=folder / "new" / "annotations.json",
            title="What happens in three videos that the head has never seen",
            on_progress=meter.show,
        )


def _say(text: str, *, quiet: bool) -> None:
    if not quiet:
        complain(text)


def demo_lines(result: dict[str, Any]) -> Iterator[str]:
    """The result as people read it."""
    figures = result["figures"]
    yield "order of two events far apart (classify, held-out videos), accuracy:"
    yield from _beside(figures, "classify", "accuracy")
    yield "what happens in each clip of untrimmed video (label, held-out videos), mean average precision:"
    yield from _beside(figures, "label", "map")
    yield "from when to when (localize, held-out videos), mean average precision over tIoU .3 to .7:"
    yield f"  {'TemporalMaxer':20} {figures[f'{NEW.task} {LOCALIZER}']['metrics']['average_map']:.2f}"
    extraction = result["extraction"]
    clips = sum(part["clips"] for part in extraction.values())
    seconds = sum(part["seconds"] for part in extraction.values())
    yield f"extracted {clips} clips at {clips / seconds:.0f} clips/s; all in {duration(result['total_s'])}"
    yield f"everything lies in {result['folder']}:"
    yield "  order/, untrimmed/             videos and their labels"
    yield "  order.zarr, untrimmed.zarr     features: untrimmed info, or xarray.open_zarr"
    yield "  runs/                          trained heads, each with its card (README.md)"
    yield "  new/, predictions.json         videos that no head has seen, and what was predicted of them"
    yield "  demo.json                      these figures"
    yield f"look at it: open {result['report']} in a browser, or: untrimmed view {result['report']}"
    yield "next: untrimmed extract YOUR_VIDEOS -o features.zarr"


def _beside(figures: dict[str, Any], task: str, metric: str) -> Iterator[str]:
    chance = figures[f"{task} mean"]["chance"][metric]
    names = {"mean": "mean-pool baseline", "lstm": "LSTM"}
    yield f"  {'chance':20} {chance:.2f}"
    for head in HEADS:
        yield f"  {names[head]:20} {figures[f'{task} {head}']['metrics'][metric]:.2f}"
