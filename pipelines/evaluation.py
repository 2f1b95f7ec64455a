"""Evaluation of trained heads. N videos or steps, T steps of a video, C classes."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import extract.recipe
from extract.errors import RecipeMismatchError
from pipelines.annotations import Annotations, read_activitynet
from pipelines.checkpoint import Run, load_run
from pipelines.dataset import Example, Examples, Store, Task, collate, load_examples
from seqmodels import Head
from seqmodels.metrics import any_label_accuracy, per_class_ap, top_1_accuracy
from seqmodels.windows import step_logits


def evaluate(
    run: Run | str | Path, store: Store, *, annotations: Annotations | str | Path, subset: str = "validation"
) -> dict[str, Any]:
    """Figures of a run on the annotated videos of ``subset`` that are in ``store``.

    ``classify``: ``accuracy`` is the share of videos whose best class is theirs, ``map`` the mean over classes
    of the average precision over videos. ``label``: ``map`` over the steps of all videos together;
    ``accuracy`` is the share of steps whose best class is one of theirs, over steps that have a label.
    Classes without positives in ``subset`` are null and not in the mean. ``chance`` holds what an answer that
    is the same everywhere reaches at best.

    Raises:
        InputError: the run or the annotations cannot be used, or no video of ``subset`` is in the store.
        RecipeMismatchError: the store's features are of another recipe than those the head was trained on.
    """
    trained = run if isinstance(run, Run) else load_run(run)
    check_recipe(trained, store)
    truth = annotations if isinstance(annotations, Annotations) else read_activitynet(annotations)
    examples = load_examples(trained.task, store, truth, subset=subset, classes=trained.classes)
    scores = [score(trained.head, example) for example in examples.items]
    return report(trained.task, examples, scores, n_trained=len(trained.classes))


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


@torch.inference_mode()
def score(head: Head, example: Example) -> NDArray[np.float32]:
    """Logits of one video: ``(C,)``, or ``(T, C)`` of a head of the task ``label``."""
    if example.target.ndim:
        return step_logits(head, torch.from_numpy(example.features), torch.from_numpy(example.centre_s)).numpy()
    batch = collate([example])
    logits: NDArray[np.float32] = head(batch.features, batch.mask, batch.centre_s)[0].numpy()
    return logits


def report(task: Task, examples: Examples, scores: Iterable[NDArray[np.float32]], *, n_trained: int) -> dict[str, Any]:
    """The result of ``evaluate`` for logits of all ``examples``, in their order.

    Classes past the first ``n_trained`` were never trained: they get the lowest score everywhere.
    """
    n_classes = len(examples.classes)
    rows = _videos(examples, scores) if task == "classify" else _steps(examples, scores)
    logits, positives = rows
    unseen = n_classes - n_trained
    logits = np.pad(logits, ((0, 0), (0, unseen)), constant_values=-np.inf)
    mean_ap, each = per_class_ap(logits, positives)
    if task == "classify":
        accuracy = top_1_accuracy(logits, positives.argmax(axis=1))
    else:
        accuracy = any_label_accuracy(logits, positives)
    return {
        "protocol": task,
        "metrics": {"accuracy": accuracy, "map": mean_ap},
        "chance": _chance(positives),
        "per_threshold": {},
        "per_class": {label: {"ap": ap} for label, ap in zip(examples.classes, each, strict=True)},
        "notes": [*examples.notes, *_class_notes(examples.classes, each, n_trained)],
    }


def _videos(examples: Examples, scores: Iterable[NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    targets = np.array([int(example.target) for example in examples.items])
    return _softmax(np.stack(list(scores))), np.eye(len(examples.classes), dtype=np.bool_)[targets]


def _steps(examples: Examples, scores: Iterable[NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    targets = np.concatenate([example.target for example in examples.items])
    return np.concatenate(list(scores)), targets


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities ``(N, C)``: what makes one video's scores comparable with another's."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
    return result


def _chance(positives: NDArray[np.bool_]) -> dict[str, float | None]:
    """Of equal answers everywhere: accuracy of the most frequent class, mean AP of constant scores."""
    constant = np.zeros(positives.shape, dtype=np.float32)
    labelled = positives[positives.any(axis=1)]
    accuracy = float(labelled.mean(axis=0).max()) if len(labelled) else None
    return {"accuracy": accuracy, "map": per_class_ap(constant, positives)[0]}


def _class_notes(classes: tuple[str, ...], each: list[float | None], n_trained: int) -> list[str]:
    empty = [label for label, ap in zip(classes, each, strict=True) if ap is None]
    unseen = classes[n_trained:]
    notes = []
    if empty:
        notes.append(f"{len(empty)} classes have no positives here and are not in the mean: {', '.join(empty)}")
    if unseen:
        notes.append(f"{len(unseen)} classes were not in the training data and score lowest: {', '.join(unseen)}")
    return notes
