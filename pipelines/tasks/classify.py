"""One class a video. N videos, C classes."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from extract.errors import InputError
from pipelines.annotations import VideoAnnotation
from pipelines.config import TrainSettings
from pipelines.dataset import Example, Examples
from pipelines.notes import shown
from pipelines.tasks.label import constant_chance
from pipelines.tasks.said import Said
from pipelines.tasks.sequences import PaddedBatch, SequenceTask
from pipelines.tasks.task import class_notes, device_of
from seqmodels import VIDEO_HEADS, Head, video_loss
from seqmodels.augment import rescaled_steps, splice_steps
from seqmodels.metrics import per_class_ap, top_1_accuracy
from seqmodels.segments import Found

MOST_SAID = 5


class Classify(SequenceTask):
    """The label that all segments of a video share. ``target``: its class number, ``()`` int64.

    ``accuracy`` is the share of videos whose best class is theirs, ``map`` the mean over classes of the average
    precision over videos.
    """

    name = "classify"
    metric = "accuracy"
    heads: ClassVar = VIDEO_HEADS
    default = "lstm"
    per_step = False

    def target(
        self, video: VideoAnnotation, _centre_s: NDArray[np.float64], classes: Sequence[str]
    ) -> NDArray[np.int64]:
        """The class number."""
        if len(video.labels) != 1:
            raise InputError(
                f"video {video.video_id!r} has {len(video.labels)} labels ({shown(sorted(video.labels))}); classify"
                " needs exactly one a video. Use the task 'label', or leave the video out of the annotations"
            )
        (label,) = video.labels
        return np.asarray(classes.index(label), dtype=np.int64)

    def order(self, items: Sequence[Example], settings: TrainSettings, rng: np.random.Generator) -> NDArray[np.int64]:
        """Each video once; or, ``balanced``, as many draws in which each class comes equally often."""
        if not settings.balanced:
            return super().order(items, settings, rng)
        targets = np.array([int(item.target) for item in items])
        weights = 1 / np.bincount(targets)[targets]
        return rng.choice(len(items), len(items), p=weights / weights.sum())

    def augmented(
        self, example: Example, items: Sequence[Example], settings: TrainSettings, rng: np.random.Generator
    ) -> Example:
        """Sometimes with the ending of another video of its class, and always at another speed."""
        if rng.random() < settings.splice:
            example = self._spliced(example, items, rng)
        return self.replay(example, rescaled_steps(len(example), rng, factor=settings.time_scale))

    def _spliced(self, example: Example, items: Sequence[Example], rng: np.random.Generator) -> Example:
        rivals = [item for item in items if item.target == example.target]
        other = rivals[rng.integers(len(rivals))]
        head, tail = splice_steps(len(example), len(other), rng)
        features = np.concatenate([example.features[head], other.features[tail]])
        times = example.regular_s(len(features))
        return Example(example.video_id, lambda: features, times, example.target, example.duration_s)

    def collate_targets(self, examples: Sequence[Example], _longest: int) -> Tensor:
        """``(B,)`` int64."""
        return torch.tensor([int(example.target) for example in examples])

    def loss(self, head: Head, batch: PaddedBatch, _settings: TrainSettings) -> Tensor:
        """Cross-entropy."""
        (logits,) = head.every_stage(batch.features, batch.mask, batch.centre_s)
        return video_loss(logits, batch.targets)

    @torch.inference_mode()
    def answer(self, head: Head, example: Example) -> NDArray[np.float32]:
        """Logits ``(C,)``."""
        batch = self.collate([example])
        where = device_of(head)
        logits = head(batch.features.to(where), batch.mask.to(where), batch.centre_s.to(where))
        result: NDArray[np.float32] = logits[0].float().cpu().numpy()
        return result

    def said(self, answer: NDArray[np.float32], example: Example, _threshold: float) -> Said:
        """The `MOST_SAID` most probable classes, each over the whole video."""
        scores = _softmax(answer[None])[0].astype(np.float64)
        best = np.argsort(-scores, kind="stable")[:MOST_SAID]
        whole = np.tile([0.0, example.duration_s], (len(best), 1))
        return Said(segments=Found(whole, scores[best], best))

    def report(self, examples: Examples, answers: Sequence[NDArray[np.float32]], *, n_trained: int) -> dict[str, Any]:
        """``accuracy`` and ``map``, beside those of an answer that is the same everywhere."""
        targets = np.array([int(example.target) for example in examples.items])
        positives = np.eye(len(examples.classes), dtype=np.bool_)[targets]
        unseen = len(examples.classes) - n_trained
        scores = np.pad(_softmax(np.stack(answers)), ((0, 0), (0, unseen)), constant_values=-np.inf)
        mean_ap, each = per_class_ap(scores, positives)
        return {
            "protocol": self.name,
            "metrics": {"accuracy": top_1_accuracy(scores, targets), "map": mean_ap},
            "chance": constant_chance(positives),
            "per_threshold": {},
            "per_class": {label: {"ap": ap} for label, ap in zip(examples.classes, each, strict=True)},
            "notes": [*examples.notes, *class_notes(examples.classes, each, n_trained)],
        }


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities ``(N, C)``: what makes one video's scores comparable with another's."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
    return result
