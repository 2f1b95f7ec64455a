"""Any number of classes in each step. N steps of all videos, T of one, C classes."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.annotations import VideoAnnotation
from pipelines.config import TrainSettings
from pipelines.dataset import Example, Examples
from pipelines.tasks.said import Said, best_threshold, cut, quantised
from pipelines.tasks.sequences import PaddedBatch, SequenceTask
from pipelines.tasks.task import class_notes, device_of
from seqmodels import HEADS, Head, smoothness, step_loss
from seqmodels.augment import rescaled_steps
from seqmodels.metrics import any_label_accuracy, per_class_ap
from seqmodels.windows import step_logits


class Label(SequenceTask):
    """The classes of every step. ``target``: ``(T, C)`` bool.

    A step is positive for a class when a segment of it holds the centre of the step's clip, start <= centre < stop
    (Charades-localize and MultiTHUMOS too look at points in time, not at overlaps). ``map`` is over the steps of all
    videos together; ``accuracy`` is the share of steps whose best class is one of theirs, over steps that have a label.
    """

    name = "label"
    metric = "map"
    heads: ClassVar = HEADS
    default = "lstm"

    def target(
        self, video: VideoAnnotation, centre_s: NDArray[np.float64], classes: Sequence[str]
    ) -> NDArray[np.bool_]:
        """``(T, C)``."""
        target = np.zeros((len(centre_s), len(classes)), dtype=np.bool_)
        for segment in video.segments:
            inside = (segment.start_s <= centre_s) & (centre_s < segment.stop_s)
            target[inside, classes.index(segment.label)] = True
        return target

    def augmented(
        self, example: Example, items: Sequence[Example], settings: TrainSettings, rng: np.random.Generator
    ) -> Example:
        """A window of a long one, at another speed."""
        example = super().augmented(example, items, settings, rng)
        return self.replay(example, rescaled_steps(len(example), rng, factor=settings.time_scale))

    def replayed(self, example: Example, steps: NDArray[np.int64]) -> NDArray[np.bool_]:
        """``(T', C)``."""
        target: NDArray[np.bool_] = example.target[steps]
        return target

    def collate_targets(self, examples: Sequence[Example], longest: int) -> Tensor:
        """``(B, T, C)`` float32."""
        targets = torch.zeros(len(examples), longest, examples[0].target.shape[1])
        for row, example in enumerate(examples):
            targets[row, : len(example)] = torch.from_numpy(example.target)
        return targets

    def loss(self, head: Head, batch: PaddedBatch, settings: TrainSettings) -> Tensor:
        """Binary cross-entropy, and a share of how unsteady the answer is, of each stage."""
        losses = []
        for logits in head.every_stage(batch.features, batch.mask, batch.centre_s):
            losses.append(step_loss(logits, batch.targets, batch.mask))
            if settings.smoothing:
                losses.append(settings.smoothing * smoothness(logits, batch.mask))
        return torch.stack(losses).sum()

    def answer(self, head: Head, example: Example) -> NDArray[np.float32]:
        """Logits ``(T, C)``."""
        where = device_of(head)
        features, times = (torch.from_numpy(values).to(where) for values in (example.features, example.centre_s))
        result: NDArray[np.float32] = step_logits(head, features, times).float().cpu().numpy()
        return result

    def said(self, answer: NDArray[np.float32], example: Example, threshold: float) -> Said:
        """Each class's probability over time, and its runs at or above ``threshold``."""
        curves = quantised(answer)
        stop_s = example.duration_s or float(example.centre_s[-1])
        return Said(segments=cut(curves, example.centre_s, stop_s, threshold), curves=curves)

    def threshold(self, head: Head, examples: Examples) -> float:
        """See `best_threshold`."""
        curves = [quantised(self.answer(head, item)) for item in examples.items]
        return best_threshold(curves, [item.target for item in examples.items])

    def report(self, examples: Examples, answers: Sequence[NDArray[np.float32]], *, n_trained: int) -> dict[str, Any]:
        """``accuracy`` and ``map``, beside those of an answer that is the same everywhere."""
        positives = np.concatenate([example.target for example in examples.items])
        unseen = len(examples.classes) - n_trained
        scores = np.pad(np.concatenate(list(answers)), ((0, 0), (0, unseen)), constant_values=-np.inf)
        mean_ap, each = per_class_ap(scores, positives)
        return {
            "protocol": self.name,
            "metrics": {"accuracy": any_label_accuracy(scores, positives), "map": mean_ap},
            "chance": constant_chance(positives),
            "per_threshold": {},
            "per_class": {label: {"ap": ap} for label, ap in zip(examples.classes, each, strict=True)},
            "notes": [*examples.notes, *class_notes(examples.classes, each, n_trained)],
        }


def constant_chance(positives: NDArray[np.bool_]) -> dict[str, float | None]:
    """Of equal answers everywhere: accuracy of the most frequent class, mean AP of constant scores. ``(N, C)``."""
    constant = np.zeros(positives.shape, dtype=np.float32)
    labelled = positives[positives.any(axis=1)]
    accuracy = float(labelled.mean(axis=0).max()) if len(labelled) else None
    return {"accuracy": accuracy, "map": per_class_ap(constant, positives)[0]}
