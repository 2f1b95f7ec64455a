"""Runs: folders with a trained head and everything that it was made with."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from extract.errors import InputError, UsageError
from pipelines.config import TrainSettings
from pipelines.curves import draw_curves
from pipelines.tasks import TASKS
from pipelines.whole import written_whole
from seqmodels import HeadSpec

HEAD_FILE = "head.safetensors"
RECORD_FILE = "run.json"
METRICS_FILE = "metrics.jsonl"
CARD_FILE = "README.md"
CURVES_FILE = "curves.svg"
SEEDS_FILE = "seeds.json"  # of a folder with the runs of several seeds


@dataclass(frozen=True, slots=True)
class Run:
    """A trained head in evaluation mode. ``record`` is the whole of ``run.json``.

    ``recipe`` is what the features that it was trained on were made with; other features mean nothing to it.
    """

    path: Path
    head: Any
    task: str
    head_name: str
    classes: tuple[str, ...]
    settings: TrainSettings
    recipe: Mapping[str, object]
    recipe_digest: str
    record: Mapping[str, Any]


def new_head(name: str, *, task: str, width: int, n_classes: int, settings: TrainSettings) -> nn.Module:
    """An untrained head of the size that ``settings`` ask for (random weights: torch's global seed).

    Raises:
        KeyError: the task has no such head.
        ValueError: a size in ``settings`` cannot be.
    """
    sizes = {each.name: getattr(settings, each.name) for each in fields(HeadSpec) if hasattr(settings, each.name)}
    sizes["window"] = settings.window or None
    chosen = TASKS[task]
    return chosen.heads[name](HeadSpec(width=width, n_classes=n_classes, per_step=chosen.per_step, **sizes))


def check_free(out: Path) -> None:
    """Refuse a place for a new run that is taken.

    Raises:
        UsageError: ``out`` exists (an empty folder is fine).
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    what = "holds a run already" if (out / RECORD_FILE).exists() else "exists and is not a run"
    raise UsageError(f"{out} {what}; expected a new folder. Choose another name, or remove it first")


def save_run(
    out: Path, head: nn.Module, *, record: Mapping[str, object], epochs: list[Mapping[str, object]], card: str
) -> Run:
    """Write a run folder under a temporary name beside ``out`` and rename it: all of it is there or nothing.

    Raises:
        UsageError: ``out`` is taken.
        MachineError: the folder cannot be written.
    """
    write_run(out, HEAD_FILE, safetensors.torch.save(head.state_dict()), record=record, epochs=epochs, card=card)
    return load_run(out)


def write_run(
    out: Path,
    weights_name: str,
    weights: bytes,
    *,
    record: Mapping[str, object],
    epochs: Sequence[Mapping[str, object]],
    card: str,
) -> None:
    """The files of a run of any kind, all or none. Errors as `save_run`."""
    check_free(out)
    with written_whole(out, "free space, or choose a folder that can be written") as partial:
        partial.mkdir()
        (partial / weights_name).write_bytes(weights)
        (partial / RECORD_FILE).write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", "utf-8")
        lines = [json.dumps(epoch, allow_nan=False) + "\n" for epoch in epochs]
        (partial / METRICS_FILE).write_text("".join(lines), "utf-8")
        (partial / CARD_FILE).write_text(card, "utf-8")
        if epochs:
            draw_curves(epochs, partial / CURVES_FILE)


def load_run(path: str | Path) -> Run:
    """Read a run folder.

    Raises:
        InputError: not a run, or its files do not belong together.
    """
    folder = Path(path)
    record = _read_record(folder)
    try:
        settings = TrainSettings.model_validate(record["settings"])
        with torch.random.fork_rng(devices=[]):  # the random start is overwritten; the caller's seed stays
            head = new_head(
                record["head"],
                task=record["task"],
                width=record["feature_width"],
                n_classes=len(record["classes"]),
                settings=settings,
            )
        head.load_state_dict(safetensors.torch.load_file(folder / HEAD_FILE))
    except (KeyError, ValueError, RuntimeError, OSError, SafetensorError) as error:
        raise InputError(
            f"{folder}: the run cannot be read ({error}); expected {RECORD_FILE} and {HEAD_FILE} as this version"
            " writes them. Train again"
        ) from error
    return Run(
        path=folder,
        head=head.eval(),
        task=record["task"],
        head_name=record["head"],
        classes=tuple(record["classes"]),
        settings=settings,
        recipe=record["recipe"],
        recipe_digest=record["recipe_digest"],
        record=record,
    )


def seed_folders(path: Path) -> list[Path]:
    """The runs in a folder of several seeds.

    Raises:
        InputError: its summary cannot be read.
    """
    try:
        return [path / name for name in json.loads((path / SEEDS_FILE).read_text("utf-8"))["runs"]]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path / SEEDS_FILE}: cannot be read ({error}); train again") from error


def _read_record(folder: Path) -> dict[str, Any]:
    try:
        record = json.loads((folder / RECORD_FILE).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder} is not a run: {RECORD_FILE} cannot be read ({error}); expected a folder that"
            " 'untrimmed train' wrote"
        ) from error
    if not isinstance(record, dict):
        raise InputError(f"{folder} is not a run: {RECORD_FILE} holds {type(record).__name__}; expected an object")
    return record
