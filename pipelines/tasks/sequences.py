"""Tasks over sequences of steps that are annotated in segments of time.

B batch, T time steps, D feature width, C classes.
"""

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.annotations import Annotations, VideoAnnotation
from pipelines.annotations.temporal import read_annotations
from pipelines.config import TrainSettings
from pipelines.dataset import Example, Examples, Store, load_examples
from pipelines.tasks.task import Task, digest_of


class PaddedBatch(NamedTuple):
    """Videos padded to the longest: ``features`` ``(B, T, D)`` float32, ``mask`` ``(B, T)`` bool (real steps),
    ``centre_s`` ``(B, T)`` float64; what ``targets`` are, the task says.
    """

    features: Tensor
    mask: Tensor
    centre_s: Tensor
    targets: Any

    def to(self, device: torch.device) -> "PaddedBatch":
        """The batch on another device; targets that are no tensor stay."""
        targets = self.targets.to(device) if isinstance(self.targets, Tensor) else self.targets
        return PaddedBatch(self.features.to(device), self.mask.to(device), self.centre_s.to(device), targets)


class SequenceTask(Task):
    """Segments of time. ``by_steps``: what lies between the centres of two steps is lost."""

    by_steps: ClassVar[bool] = True

    def read(self, path: str | Path) -> Annotations:
        """See `read_annotations`."""
        return read_annotations(path)

    def digest(self, path: str | Path) -> str:
        """Of the file, or all files of the folder."""
        place = Path(path)
        files = sorted(file for file in place.rglob("*") if file.is_file()) if place.is_dir() else [place]
        return digest_of(files)

    def load(
        self,
        store: Store,
        annotations: Annotations,
        *,
        subset: str,
        classes: Sequence[str] | None = None,
        settings: TrainSettings | None = None,
    ) -> Examples:
        """See `load_examples`."""
        step_s = 0.0 if settings is None else settings.step_s
        return load_examples(
            self.target, store, annotations, subset=subset, classes=classes, by_steps=self.by_steps, step_s=step_s
        )

    def batches(
        self, examples: Examples, settings: TrainSettings, rng: np.random.Generator
    ) -> Iterator[tuple[int, PaddedBatch]]:
        """Augmented videos in random order."""
        order = self.order(examples.items, settings, rng)
        for first in range(0, len(order), settings.batch):
            chosen = [examples.items[i] for i in order[first : first + settings.batch]]
            batch = [self.augmented(example, examples.items, settings, rng) for example in chosen]
            yield len(batch), self.collate(batch)

    def n_batches(self, examples: Examples, settings: TrainSettings) -> int:
        """How many batches an epoch has."""
        return math.ceil(len(examples.items) / settings.batch)

    def order(self, items: Sequence[Example], _settings: TrainSettings, rng: np.random.Generator) -> NDArray[np.int64]:
        """Which videos an epoch shows, one after the other."""
        return rng.permutation(len(items))

    def augmented(
        self, example: Example, _items: Sequence[Example], settings: TrainSettings, rng: np.random.Generator
    ) -> Example:
        """The example as this epoch shows it: a random window of a long one."""
        return self.window(example, settings.max_steps, rng) if len(example) > settings.max_steps else example

    def window(self, example: Example, steps: int, rng: np.random.Generator) -> Example:
        """``steps`` consecutive steps at random."""
        first = int(rng.integers(0, len(example) - steps + 1))
        return self.replay(example, np.arange(first, first + steps))

    def replay(self, example: Example, steps: NDArray[np.int64]) -> Example:
        """The example as if these steps, ``(T',)``, were shown one after the other at its own mean pace."""
        features, times = example.read, example.regular_s(len(steps))
        return Example(
            example.video_id, lambda: features()[steps], times, self.replayed(example, steps), example.duration_s
        )

    def replayed(self, example: Example, _steps: NDArray[np.int64]) -> object:
        """The target of `replay`."""
        return example.target

    def collate(self, examples: Sequence[Example]) -> PaddedBatch:
        """Pad with zeros to the longest video."""
        longest = max(map(len, examples))
        arrays = [example.features for example in examples]
        features = torch.zeros(len(examples), longest, arrays[0].shape[1])
        mask = torch.zeros(len(examples), longest, dtype=torch.bool)
        centre_s = torch.zeros(len(examples), longest, dtype=torch.float64)
        for row, (example, array) in enumerate(zip(examples, arrays, strict=True)):
            features[row, : len(example)] = torch.from_numpy(array)
            mask[row, : len(example)] = True
            centre_s[row, : len(example)] = torch.from_numpy(example.centre_s)
        return PaddedBatch(features, mask, centre_s, self.collate_targets(examples, longest))

    @abstractmethod
    def target(self, video: VideoAnnotation, centre_s: NDArray[np.float64], classes: Sequence[str]) -> object:
        """What is to be learnt of a video whose steps have their middles at ``centre_s`` ``(T,)``.

        Raises:
            InputError: the annotation does not fit the task.
        """

    @abstractmethod
    def collate_targets(self, examples: Sequence[Example], longest: int) -> object:
        """The targets of a batch whose longest video has ``longest`` steps."""
