"""Training of heads on cached features."""

import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from extract.engine import settle_device
from extract.errors import UsageError
from extract.store import FeatureStore
from extract.urls import without_secrets
from pipelines.checkpoint import Run, check_free, new_head, save_run
from pipelines.config import TrainSettings, checked_settings
from pipelines.dataset import Examples, Store
from pipelines.fitting import Loop, Progress, figures, fit, fitting_threads
from pipelines.probes import PROBES, fit_probe
from pipelines.resume import Resume
from pipelines.tasks import TASKS, Task
from seqmodels.pooling import LinearHead

TRAINING_SUBSET = "training"


def train(
    task: str,
    store: Store,
    *,
    annotations: str | Path,
    out: str | Path,
    head: str | None = None,
    settings: TrainSettings | None = None,
    seed: int = 0,
    subset: str = "validation",
    device: str = "auto",
    on_progress: Callable[[Progress], None] = lambda _progress: None,
) -> Run:
    """Train a head on the subset ``training`` and measure it on ``subset``; write the run folder ``out``.

    The weights kept are those after the last epoch: nothing is chosen by the validation labels, so its figures are
    fair ones (but for ``patience`` in the settings, which chooses by them and says so in the card). The same store,
    annotations, settings and seed give the same weights, bit for bit, on one machine, also when the training was
    killed and the same call went on with it.

    Raises:
        UsageError: a task or head that there is not, ``out`` is taken, or the loss is no longer finite.
        InputError: annotations that cannot be used for the task, or that do not fit the store.
        MachineError: ``out`` cannot be written, or there is no such device.
    """
    asked = asked_for(task, store, annotations=annotations, head=head, settings=settings)
    chosen, name, folder = TASKS[task], asked["head"], Path(out)
    values = TrainSettings.model_validate(asked["settings"])
    check_free(folder)
    truth = chosen.read(annotations)
    examples = chosen.load(store, truth, subset=TRAINING_SUBSET, settings=values)
    held_out = None
    if subset in truth.subsets:
        held_out = chosen.load(store, truth, subset=subset, classes=examples.classes, settings=values)
    key = {
        **asked,
        "seed": seed,
        "classes": list(examples.classes),
        "feature_width": examples.width,
        "versions": {name: version(name) for name in ("untrimmed", "torch", "numpy", "scikit-learn")},
    }
    resume = Resume(folder, key)
    where = torch.device(settle_device(device))
    started = time.time()
    with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
        torch.manual_seed(seed)
        model = _new_head(chosen, name, examples, values)
        with fitting_threads(model):
            threads = torch.get_num_threads()
            model, loop = _fitted(chosen, name, model, examples, held_out, values, seed, where, resume, on_progress)
            result = figures(chosen, model.cpu(), held_out, len(examples.classes))
            threshold = chosen.threshold(model.eval(), examples)
    record = {
        **key,
        "recipe": dict(store.recipe),
        "threshold": threshold,
        **_origin(store, annotations),
        "threads": threads,
        "device": where.type,
        "epochs": None if loop is None else loop.epoch,
        "training_videos": [item.video_id for item in examples.items],
        "validation_subset": subset if held_out is not None else None,
        "validation_videos": [item.video_id for item in held_out.items] if held_out is not None else [],
        "notes": list(examples.notes),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "started_unix_s": started,
        "seconds": time.time() - started,
        "waiting_for_features_s": 0.0 if loop is None else loop.waiting_s,
        "result": result,
    }
    run = save_run(folder, model, record=record, epochs=[] if loop is None else loop.figures, card=_card(record))
    resume.remove()
    return run


def _origin(store: Store, annotations: str | Path) -> dict[str, Any]:
    """Where features, weights and labels were, for commands that are not told, and the least and greatest frame rate of
    the videos; None where that is not one place.
    """
    if not isinstance(store, FeatureStore):
        return {"store": None, "weights": None, "annotations": str(Path(annotations).absolute()), "frame_rates": None}
    videos = [record.provenance for record in store.catalogue.values()]
    weights = {str(video.get("weights")) for video in videos}
    rates = [rate for video in videos if isinstance(rate := video.get("average_fps"), int | float)]
    return {
        "store": without_secrets(store.url),
        "weights": weights.pop() if len(weights) == 1 else None,
        "annotations": str(Path(annotations).absolute()),
        "frame_rates": [min(rates), max(rates)] if rates else None,
    }


def asked_for(
    task: str, store: Store, *, annotations: str | Path, head: str | None, settings: TrainSettings | None
) -> dict[str, Any]:
    """What a training is to be, as its record will say it, whatever its seed.

    Raises:
        UsageError: there is no such task, or no such head.
        InputError: the annotations cannot be read.
    """
    chosen = checked_task(task)
    name = checked_head(chosen, head)
    values = checked_settings({}, name) if settings is None else settings
    return {
        "task": task,
        "head": name,
        "settings": values.model_dump(mode="json"),
        "recipe_digest": store.recipe_digest,
        "annotations_sha256": chosen.digest(annotations),
    }


def checked_task(task: str) -> Task:
    """The task of this name.

    Raises:
        UsageError: there is none.
    """
    if task not in TASKS:
        raise UsageError(f"{task!r} is not a task; there are {', '.join(TASKS)}")
    return TASKS[task]


def checked_head(task: Task, head: str | None) -> str:
    """The head of this name, or the task's own.

    Raises:
        UsageError: the task has no such head; says which tasks have it, where there are some.
    """
    if head is None:
        return task.default
    if head not in task.heads:
        others = [other.name for other in TASKS.values() if head in other.heads]
        what = f"the head {head!r} is for {' and '.join(others)}, not for {task.name}" if others else (
            f"no head is named {head!r}"
        )  # fmt: skip
        raise UsageError(f"{what}; there are {', '.join(task.heads)}")
    return head


def _new_head(task: Task, name: str, examples: Examples, settings: TrainSettings) -> nn.Module:
    try:
        return new_head(name, task=task.name, width=examples.width, n_classes=len(examples.classes), settings=settings)
    except ValueError as error:
        raise UsageError(f"the head {name} cannot be built: {error}. Change it with --set") from error


def _fitted(
    task: Task,
    name: str,
    head: nn.Module,
    examples: Examples,
    held_out: Examples | None,
    settings: TrainSettings,
    seed: int,
    device: torch.device,
    resume: Resume,
    on_progress: Callable[[Progress], None],
) -> tuple[nn.Module, Loop | None]:
    """The trained head, and the loop that trained it, where there was one."""
    task.prepare(head, examples, settings)
    if isinstance(head, LinearHead) and name in PROBES:
        return fit_probe(name, head, examples, settings), None
    loop = Loop(task, head, examples, held_out, settings, device, np.random.default_rng(seed))
    resume.load(loop)
    return fit(loop, on_progress=on_progress, on_epoch=resume.save), loop


def _card(record: Mapping[str, Any]) -> str:
    """What the run is, for people: ``README.md`` of the folder."""
    result = record["result"]
    recipe = record["recipe"]
    metrics = [
        f"- {name}: {shown_figure(value)}{_chance(result, name)}"
        for name, value in (result["metrics"].items() if result else ())
    ] or ["- none: the annotations have no such subset"]
    patience = record["settings"]["patience"]
    chosen = "the best of all epochs on the videos below: its figures there flatter it" if patience else "those after"
    lines = [
        f"# {record['head']} head for {record['task']}",
        "",
        f"Trained on the features of {recipe.get('backbone', 'several stores')} (recipe"
        f" `{record['recipe_digest'][:12]}`) of {len(record['training_videos'])} videos, seed {record['seed']},"
        f" in {record['seconds']:.1f} s; {record['parameters']:,} parameters. The weights are {chosen}"
        f"{'' if patience else ' the last epoch'}.",
        "",
        f"{len(record['classes'])} classes: {', '.join(record['classes'])}.",
        "",
        f"## Result on {len(record['validation_videos'])} videos of subset {record['validation_subset']!r}",
        "",
        *metrics,
        "",
        *(["![loss and figures](curves.svg)", ""] if record["epochs"] else []),
        "## Limits",
        "",
        "It answers for features of this recipe alone, and knows only the classes above. Figures on another kind"
        " of video are unknown.",
        *(f"- {note}" for note in [*record["notes"], *(result["notes"] if result else [])]),
        "",
        "`run.json` has the settings, versions and video ids; `metrics.jsonl` one line an epoch.",
    ]
    return "\n".join(lines) + "\n"


def _chance(result: Mapping[str, Any], name: str) -> str:
    chance = result["chance"].get(name)
    return "" if chance is None else f" (chance {shown_figure(chance)})"


def shown_figure(value: float | None) -> str:
    """With three decimals."""
    return "undefined" if value is None else f"{value:.3f}"
