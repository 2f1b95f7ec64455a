"""What all tasks have in common.

B batch, T time steps, D feature width, C classes.
"""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from extract.errors import InputError
from pipelines.annotations import Annotations, VideoAnnotation, read_activitynet
from pipelines.config import TrainSettings
from pipelines.dataset import Example, Examples, Store, load_examples
from seqmodels import HeadSpec

Build = Callable[[HeadSpec], nn.Module]


class Batch(NamedTuple):
    """Videos padded to the longest: ``features`` ``(B, T, D)`` float32, ``mask`` ``(B, T)`` bool (real steps),
    ``centre_s`` ``(B, T)`` float64; what ``targets`` are, the task says.
    """

    features: Tensor
    mask: Tensor
    centre_s: Tensor
    targets: Any

    def to(self, device: torch.device) -> "Batch":
        """The batch on another device; targets that are no tensor stay."""
        targets = self.targets.to(device) if isinstance(self.targets, Tensor) else self.targets
        return Batch(self.features.to(device), self.mask.to(device), self.centre_s.to(device), targets)


class Task(ABC):
    """One question to heads: how its truth is read, what is learnt from it, how the answers are scored.

    ``metric`` is the official figure, which early stopping looks at; ``heads`` are those that serve, ``default`` the
    one for who names none; ``per_step`` tells heads that can do both what to answer; ``by_steps`` whether what lies
    between the centres of two steps is lost.
    """

    name: ClassVar[str]
    metric: ClassVar[str]
    heads: ClassVar[Mapping[str, Build]]
    default: ClassVar[str]
    per_step: ClassVar[bool] = True
    by_steps: ClassVar[bool] = True

    def read(self, path: str | Path) -> Annotations:
        """The truth in a file.

        Raises:
            InputError: it cannot be read, or breaks its form.
        """
        return read_activitynet(path)

    def digest(self, path: str | Path) -> str:
        """Hexadecimal sha256 of the truth in a file.

        Raises:
            InputError: it cannot be read.
        """
        return digest_of([Path(path)])

    def load(
        self,
        store: Store,
        annotations: Annotations,
        *,
        subset: str,
        classes: Sequence[str] | None = None,
        settings: TrainSettings | None = None,
    ) -> Examples:
        """The videos of ``subset``: see `load_examples`."""
        step_s = 0.0 if settings is None else settings.step_s
        return load_examples(
            self.target, store, annotations, subset=subset, classes=classes, by_steps=self.by_steps, step_s=step_s
        )

    def prepare(self, head: nn.Module, examples: Examples) -> None:
        """Set the constants of ``head`` that come from the training videos."""
        head.inputs.fit(_Features(examples.items))  # type: ignore[operator, union-attr]

    def batches(
        self, examples: Examples, settings: TrainSettings, rng: np.random.Generator
    ) -> Iterator[tuple[int, Batch]]:
        """One epoch of augmented batches in random order, each with the number of its videos."""
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

    def collate(self, examples: Sequence[Example]) -> Batch:
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
        return Batch(features, mask, centre_s, self.collate_targets(examples, longest))

    @abstractmethod
    def target(self, video: VideoAnnotation, centre_s: NDArray[np.float64], classes: Sequence[str]) -> object:
        """What is to be learnt of a video whose steps have their middles at ``centre_s`` ``(T,)``.

        Raises:
            InputError: the annotation does not fit the task.
        """

    @abstractmethod
    def collate_targets(self, examples: Sequence[Example], longest: int) -> object:
        """The targets of a batch whose longest video has ``longest`` steps."""

    @abstractmethod
    def loss(self, head: Any, batch: Batch, settings: TrainSettings) -> Tensor:  # noqa: ANN401 - one of `heads`
        """What training makes smaller: a scalar."""

    @abstractmethod
    def answer(self, head: Any, example: Example) -> Any:  # noqa: ANN401 - one of `heads`; what `report` takes
        """What a head in evaluation mode says of one video."""

    @abstractmethod
    def report(self, examples: Examples, answers: Sequence[Any], *, n_trained: int) -> dict[str, Any]:
        """The figures of the answers for all ``examples``, in their order, as `evaluate` gives them.

        Classes past the first ``n_trained`` were never trained.
        """


def digest_of(paths: Sequence[Path]) -> str:
    """Hexadecimal sha256 of the bytes of files, one after the other.

    Raises:
        InputError: one cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        try:
            digest.update(path.read_bytes())
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); expected annotations") from error
    return digest.hexdigest()


class _Features:
    """The features of all videos ``(T, D)``, one after the other, as often as wanted."""

    def __init__(self, items: Sequence[Example]) -> None:
        self._items = items

    def __iter__(self) -> Iterator[Tensor]:
        return (torch.from_numpy(item.features) for item in self._items)


def class_notes(classes: Sequence[str], each: Sequence[float | None], n_trained: int) -> list[str]:
    """What is to be said of classes without positives here, and of those that were never trained."""
    empty = [label for label, ap in zip(classes, each, strict=True) if ap is None]
    unseen = classes[n_trained:]
    notes = []
    if empty:
        notes.append(f"{len(empty)} classes have no positives here and are not in the mean: {', '.join(empty)}")
    if unseen:
        notes.append(f"{len(unseen)} classes were not in the training data and score lowest: {', '.join(unseen)}")
    return notes


def device_of(head: nn.Module) -> torch.device:
    """Where its parameters are."""
    return next(head.parameters()).device
