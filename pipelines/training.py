"""Training of a head on cached features, in one loop.

B batch, T time steps, D feature width, C classes, N training steps of all videos together.
"""

import contextlib
import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn

from extract.errors import UsageError
from pipelines.annotations import Annotations, read_activitynet
from pipelines.checkpoint import Run, check_free, new_head, save_run
from pipelines.config import TrainSettings
from pipelines.dataset import Batch, Example, Examples, Store, Task, collate, load_examples
from pipelines.evaluation import report, score
from seqmodels import HEADS, STEPS_ONLY, Head, fit_inputs, step_loss, video_loss
from seqmodels.augment import rescaled_steps, splice_steps

TRAINING_SUBSET = "training"
VALIDATIONS = 5
"""How often, at most, a training is measured on the validation subset on its way."""


@dataclass(frozen=True, slots=True)
class Progress:
    """After each epoch: epochs done and in all, and the mean training loss of the last one, in nats."""

    epoch: int
    epochs: int
    loss: float


def train(
    task: str,
    store: Store,
    *,
    annotations: str | Path,
    out: str | Path,
    head: str = "lstm",
    settings: TrainSettings | None = None,
    seed: int = 0,
    subset: str = "validation",
    on_progress: Callable[[Progress], None] | None = None,
) -> Run:
    """Train a head on the subset ``training`` and measure it on ``subset``; write the run folder ``out``.

    The weights kept are those after the last epoch. Nothing is chosen by the validation labels, so its
    figures are fair ones. The same store, annotations, settings and seed give the same weights, bit for bit, on
    one machine.

    Raises:
        UsageError: a task or head that is not in this version, or ``out`` is taken.
        UsageError: the loss is no longer finite, because the learning rate is too high.
        InputError: annotations that cannot be used for the task, or that do not fit the store.
        MachineError: ``out`` cannot be written.
    """
    chosen, folder, values = _checked_task(task, head), Path(out), settings or TrainSettings()
    check_free(folder)
    truth = read_activitynet(annotations)
    examples = load_examples(chosen, store, truth, subset=TRAINING_SUBSET)
    held_out = _held_out(chosen, store, truth, subset, examples.classes)
    started = time.time()
    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(seed)
        model = new_head(
            head,
            task=chosen,
            width=examples.items[0].features.shape[1],
            n_classes=len(examples.classes),
            settings=values,
        )
        epochs = fit(model, examples, held_out, task=chosen, settings=values, seed=seed, on_progress=on_progress)
        result = _figures(chosen, model, held_out, len(examples.classes))
    record = {
        **_record(chosen, head, values, seed, store, examples, held_out, subset),
        "annotations_sha256": hashlib.sha256(Path(annotations).read_bytes()).hexdigest(),
        "started_unix_s": started,
        "seconds": time.time() - started,
        "result": result,
    }
    return save_run(folder, model, record=record, epochs=epochs, card=_card(record))


def fit(
    head: Head,
    examples: Examples,
    held_out: Examples | None,
    *,
    task: Task,
    settings: TrainSettings,
    seed: int,
    on_progress: Callable[[Progress], None] | None = None,
) -> list[Mapping[str, object]]:
    """Train ``head`` in place and leave it in evaluation mode; one mapping of figures an epoch comes back.

    AdamW (Loshchilov & Hutter 2019), linear warm-up and cosine decay per iteration, clipped gradients.
    """
    rng = np.random.default_rng(seed)
    fit_inputs(head, [torch.from_numpy(item.features) for item in examples.items])
    per_epoch = math.ceil(len(examples.items) / settings.batch)
    optimizer = torch.optim.AdamW(head.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, _schedule(settings.epochs * per_epoch, settings.warmup))
    every = math.ceil(settings.epochs / VALIDATIONS)
    figures: list[Mapping[str, object]] = []
    for epoch in range(1, settings.epochs + 1):
        head.train()
        losses = []
        for batch in _batches(examples.items, settings, rng):
            loss = _loss(task, head, batch)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(head.parameters(), settings.clip_norm)
            optimizer.step()
            rates.step()
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                raise UsageError(
                    f"training diverged: the loss is {losses[-1]} in epoch {epoch} with lr={settings.lr:g}; "
                    "set a smaller one, such as --set lr=0.001"
                )
        head.eval()
        due = epoch % every == 0 or epoch == settings.epochs
        measured = _figures(task, head, held_out, len(examples.classes)) if due else None
        figures.append({"epoch": epoch, "loss": float(np.mean(losses)), "validation": _metrics(measured)})
        if on_progress is not None:
            on_progress(Progress(epoch, settings.epochs, float(np.mean(losses))))
    return figures


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Heads are small: more threads wait for each other longer than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _checked_task(task: str, head: str) -> Task:
    known = get_args(Task)
    if task not in known:
        later = " is not in this version" if task in ("localize", "detect") else " is not a task"
        raise UsageError(f"{task!r}{later}; there are {', '.join(known)}")
    if head not in HEADS:
        raise UsageError(f"no head is named {head!r}; there are {', '.join(HEADS)}")
    if task == "classify" and head in STEPS_ONLY:
        others = ", ".join(name for name in HEADS if name not in STEPS_ONLY)
        raise UsageError(f"the head {head!r} labels steps and cannot classify videos; heads that can: {others}")
    chosen: Task = "classify" if task == "classify" else "label"
    return chosen


def _held_out(task: Task, store: Store, truth: Annotations, subset: str, classes: Sequence[str]) -> Examples | None:
    """The validation videos; None when the annotations have no such subset."""
    if subset not in truth.subsets:
        return None
    return load_examples(task, store, truth, subset=subset, classes=classes)


def _schedule(iterations: int, warmup: float) -> Callable[[int], float]:
    """Factor of the learning rate at an iteration: linear up to 1, then half a cosine to 0."""
    rising = max(1, round(warmup * iterations))

    def factor(iteration: int) -> float:
        if iteration < rising:
            return (iteration + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * (iteration - rising) / max(1, iterations - rising)))

    return factor


def _batches(items: Sequence[Example], settings: TrainSettings, rng: np.random.Generator) -> Iterator[Batch]:
    """One epoch of augmented batches, in random order."""
    order = rng.permutation(len(items))
    for first in range(0, len(order), settings.batch):
        chosen = order[first : first + settings.batch]
        yield collate([_augmented(items[i], items, settings, rng) for i in chosen])


def _augmented(
    example: Example, items: Sequence[Example], settings: TrainSettings, rng: np.random.Generator
) -> Example:
    if example.target.ndim == 0 and rng.random() < settings.splice:
        example = _spliced(example, items, rng)
    return example.replay(rescaled_steps(len(example), rng, factor=settings.time_scale))


def _spliced(example: Example, items: Sequence[Example], rng: np.random.Generator) -> Example:
    """``example`` up to some place, and from there another video of its class."""
    rivals = [item for item in items if item.target == example.target]
    other = rivals[rng.integers(len(rivals))]
    head, tail = splice_steps(len(example), len(other), rng)
    features = np.concatenate([example.features[head], other.features[tail]])
    return Example(example.video_id, features, example.regular_s(len(features)), example.target)


def _loss(task: Task, head: Head, batch: Batch) -> Tensor:
    stages = head.every_stage(batch.features, batch.mask, batch.centre_s)
    if task == "classify":
        losses = [video_loss(logits, batch.targets) for logits in stages]
    else:
        losses = [step_loss(logits, batch.targets, batch.mask) for logits in stages]
    return torch.stack(losses).sum()


def _figures(task: Task, head: Head, held_out: Examples | None, n_trained: int) -> dict[str, Any] | None:
    if held_out is None:
        return None
    return report(task, held_out, [score(head, item) for item in held_out.items], n_trained=n_trained)


def _metrics(figures: Mapping[str, Any] | None) -> object:
    return None if figures is None else figures["metrics"]


def _record(
    task: Task,
    head: str,
    settings: TrainSettings,
    seed: int,
    store: Store,
    examples: Examples,
    held_out: Examples | None,
    subset: str,
) -> dict[str, Any]:
    return {
        "task": task,
        "head": head,
        "classes": list(examples.classes),
        "feature_width": examples.items[0].features.shape[1],
        "settings": settings.model_dump(mode="json"),
        "seed": seed,
        "threads": torch.get_num_threads(),
        "recipe": dict(store.recipe),
        "recipe_digest": store.recipe_digest,
        "versions": {name: version(name) for name in ("untrimmed", "torch", "numpy")},
        "training_videos": [item.video_id for item in examples.items],
        "validation_subset": subset if held_out is not None else None,
        "validation_videos": [item.video_id for item in held_out.items] if held_out is not None else [],
        "notes": list(examples.notes),
    }


def _card(record: Mapping[str, Any]) -> str:
    """What the run is, for people: ``README.md`` of the folder."""
    result = record["result"]
    recipe = record["recipe"]
    figures = [
        f"- {name}: {_shown(value)} (chance {_shown(result['chance'][name])})"
        for name, value in (result["metrics"].items() if result else ())
    ] or ["- none: the annotations have no such subset"]
    lines = [
        f"# {record['head']} head for {record['task']}",
        "",
        f"Trained on the features of {recipe.get('backbone', 'an unnamed backbone')} (recipe"
        f" `{record['recipe_digest'][:12]}`) of {len(record['training_videos'])} videos, seed {record['seed']},"
        f" in {record['seconds']:.1f} s. The weights are those after the last epoch.",
        "",
        f"{len(record['classes'])} classes: {', '.join(record['classes'])}.",
        "",
        f"## Result on {len(record['validation_videos'])} videos of subset {record['validation_subset']!r}",
        "",
        *figures,
        "",
        "## Limits",
        "",
        "It answers for features of this recipe alone, and knows only the classes above. Figures on another kind"
        " of video are unknown.",
        *(f"- {note}" for note in [*record["notes"], *(result["notes"] if result else [])]),
        "",
        "`run.json` has the settings, versions and video ids; `metrics.jsonl` one line an epoch.",
    ]
    return "\n".join(lines) + "\n"


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
