"""The same training with several seeds: a mean and a spread in place of one lucky figure."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from extract.errors import UsageError
from pipelines.checkpoint import SEEDS_FILE, check_free, load_run
from pipelines.dataset import Store
from pipelines.evaluation import mean_result
from pipelines.fitting import Progress
from pipelines.training import asked_for, train
from pipelines.whole import written_whole


def train_seeds(
    task: str,
    store: Store,
    *,
    annotations: str | Path,
    out: str | Path,
    seeds: int,
    seed: int = 0,
    on_progress: Callable[[int, Progress], None] = lambda _number, _progress: None,
    **options: Any,  # noqa: ANN401 - those of `train`
) -> dict[str, Any]:
    """`train` with ``seeds`` seeds from ``seed`` on, each into its own folder of ``out``, and what they say together:
    ``runs``, and ``result`` as `evaluate` gives it for ``out`` (None without validation videos).

    Runs that an earlier call of the same arguments finished stay.

    Raises:
        As `train`; UsageError: fewer than 2 seeds, or ``out`` holds something else.
    """
    folder = Path(out)
    if seeds < 2:
        raise UsageError(f"--seeds is {seeds}; expected at least 2, for a spread")
    asked = asked_for(task, store, annotations=annotations, head=options.get("head"), settings=options.get("settings"))
    names = [f"seed-{number}" for number in range(seed, seed + seeds)]
    _check_folder(folder, names, asked)
    for number, name in enumerate(names):
        if not (folder / name).exists():
            train(
                task,
                store,
                annotations=annotations,
                out=folder / name,
                seed=seed + number,
                on_progress=partial(on_progress, number),
                **options,
            )
    results = [load_run(folder / name).record["result"] for name in names]
    summary = {"runs": names, "result": None if results[0] is None else mean_result(results)}
    with written_whole(folder / SEEDS_FILE, "free space") as fresh:
        fresh.write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n", "utf-8")
    return summary


def _check_folder(folder: Path, names: Sequence[str], asked: Mapping[str, object]) -> None:
    """Only runs of this very training may be there."""
    found = {each.name for each in folder.iterdir()} if folder.is_dir() else set()
    if not found & {*names, *(f".{name}.training" for name in names)}:
        check_free(folder)
        return
    for name in sorted(found & set(names)):
        record = load_run(folder / name).record
        differing = [key for key in asked if record[key] != asked[key]]
        if differing:
            raise UsageError(
                f"{folder / name} was trained with another {' and '.join(differing)} than asked for now;"
                " choose another -o"
            )
