"""What all tasks have in common."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn

from extract.errors import InputError
from pipelines.config import TrainSettings
from pipelines.dataset import Clips, Example, Examples, Store, check_of_clips
from pipelines.tasks.said import Said
from seqmodels import HeadSpec


class Batch(Protocol):
    """What a head learns from at once."""

    def to(self, device: torch.device, /) -> Self:
        """The batch on another device."""
        ...


class Task(ABC):
    """One question to heads: how its truth is read, what is learnt from it, how the answers are scored.

    ``metric`` is the official figure, which early stopping looks at; ``heads`` are those that serve, ``default`` the
    one for who names none; ``per_step`` tells heads that can do both what to answer.
    """

    name: ClassVar[str]
    metric: ClassVar[str]
    heads: ClassVar[Mapping[str, Callable[[HeadSpec], nn.Module]]]
    default: ClassVar[str]
    per_step: ClassVar[bool] = True

    @abstractmethod
    def read(self, path: str | Path) -> Any:  # noqa: ANN401 - what `load` takes; has ``subsets``
        """The truth in a file.

        Raises:
            InputError: it cannot be read, or breaks its form.
        """

    @abstractmethod
    def digest(self, path: str | Path) -> str:
        """Hexadecimal sha256 of the truth in a file.

        Raises:
            InputError: it cannot be read.
        """

    @abstractmethod
    def load(
        self,
        store: Store,
        annotations: Any,  # noqa: ANN401 - what `read` gives
        *,
        subset: str,
        classes: Sequence[str] | None = None,
        settings: TrainSettings | None = None,
    ) -> Examples:
        """The annotated and stored videos of ``subset``. ``classes`` are those of a trained head.

        Raises:
            InputError: there is no such subset, or nothing of it is in the store, or it does not fit the task.
        """

    def prepare(self, head: nn.Module, examples: Examples, _settings: TrainSettings) -> None:
        """Set the constants of ``head`` that come from the training videos."""
        head.inputs.fit(_Features([item for item in examples.items if len(item)]))  # type: ignore[operator, union-attr]

    @abstractmethod
    def batches(
        self, examples: Examples, settings: TrainSettings, rng: np.random.Generator
    ) -> Iterator[tuple[int, Batch]]:
        """One epoch of augmented batches in random order, each with the number of what it holds."""

    @abstractmethod
    def n_batches(self, examples: Examples, settings: TrainSettings) -> int:
        """How many batches an epoch has."""

    @abstractmethod
    def loss(self, head: Any, batch: Any, settings: TrainSettings) -> Tensor:  # noqa: ANN401 - `heads`, `batches`
        """What training makes smaller: a scalar."""

    @abstractmethod
    def answer(self, head: Any, example: Example) -> Any:  # noqa: ANN401 - one of `heads`; what `report` takes
        """What a head in evaluation mode says of one video."""

    def unanswered(self, clips: Clips, example: Example, _settings: TrainSettings, _n_classes: int) -> Example:
        """``example``, which has no target, as `answer` takes it, with all of ``clips`` to be answered.

        Raises:
            InputError: the features do not fit the task.
        """
        check_of_clips(clips)
        return example

    @abstractmethod
    def said(self, answer: Any, example: Example, threshold: float) -> Said:  # noqa: ANN401 - what `answer` gives
        """An answer as segments or boxes; ``threshold`` (0..1) cuts scores of steps into segments."""

    def threshold(self, _head: Any, _examples: Examples) -> float:  # noqa: ANN401 - one of `heads`
        """A good ``threshold`` of `said`, 0..1, from the training videos."""
        return 0.5

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
