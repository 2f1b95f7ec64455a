"""Evaluation of trained heads."""

from pathlib import Path
from typing import Any

import numpy as np

import extract.recipe
from extract.errors import InputError, RecipeMismatchError
from pipelines.annotations import Annotations
from pipelines.checkpoint import SEEDS_FILE, Run, load_run, seed_folders
from pipelines.dataset import Store
from pipelines.fitting import figures
from pipelines.tasks import TASKS


def evaluate(
    run: Run | str | Path, store: Store, *, annotations: Annotations | str | Path, subset: str = "validation"
) -> dict[str, Any]:
    """Figures of a run on the annotated videos of ``subset`` that are in ``store``; see the tasks for what they are.

    Classes without positives in ``subset`` are null and not in the mean. ``chance`` holds what an answer that is the
    same everywhere reaches at best, where that says something. Of a folder with runs of several seeds: their means,
    their standard deviations in ``spread``, and ``seeds``.

    Raises:
        InputError: the run or the annotations cannot be used, or no video of ``subset`` is in the store.
        RecipeMismatchError: the store's features are of another recipe than those the head was trained on.
    """
    if not isinstance(run, Run) and (Path(run) / SEEDS_FILE).exists():
        each = [evaluate(folder, store, annotations=annotations, subset=subset) for folder in seed_folders(Path(run))]
        return mean_result(each)
    trained = run if isinstance(run, Run) else load_run(run)
    check_recipe(trained, store)
    task = TASKS[trained.task]
    truth = task.read(annotations) if isinstance(annotations, str | Path) else annotations
    examples = task.load(store, truth, subset=subset, classes=trained.classes, settings=trained.settings)
    result = figures(task, trained.head, examples, len(trained.classes))
    assert result is not None  # noqa: S101 - there are examples
    return result


def check_recipe(run: Run, store: Store) -> None:
    """Refuse features of another recipe than the run's.

    Raises:
        RecipeMismatchError: names each key that differs.
    """
    if store.recipe_digest == run.recipe_digest:
        return
    lines = "\n  ".join(extract.recipe.difference(store.recipe, run.recipe, whose="in the run"))
    raise RecipeMismatchError(
        f"the head in {run.path} was trained on features of another recipe than the store's:\n  {lines}\n"
        "Use a store of the run's recipe, or train a head on this one"
    )


def mean_result(each: list[dict[str, Any]]) -> dict[str, Any]:
    """One result of several seeds' on the same videos: means, and ``spread``, their sample standard deviations.

    Raises:
        InputError: there is none.
    """
    if not each:
        raise InputError("a folder of several seeds without a run; expected seed-0 and so on. Train again")
    first = each[0]
    return {
        **first,
        "metrics": {name: _mean([one["metrics"][name] for one in each]) for name in first["metrics"]},
        "spread": {name: _spread([one["metrics"][name] for one in each]) for name in first["metrics"]},
        "seeds": [one["metrics"] for one in each],
        "per_threshold": {at: _mean([one["per_threshold"][at] for one in each]) for at in first["per_threshold"]},
        "per_class": {
            label: {name: _mean([one["per_class"][label][name] for one in each]) for name in row}
            for label, row in first["per_class"].items()
        },
    }


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def _spread(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.std(known, ddof=1)) if len(known) == len(values) > 1 else None
