"""Several stores of the same videos as one: features side by side on the first one's grid of seconds.

T time steps of the first store, D1, D2 … feature widths.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import InputError
from extract.recipe import digest
from extract.store import FeatureStore
from pipelines.dataset import Clips, Store, centres_s, resampled


def open_stores(first: str | Path, others: Sequence[str | Path]) -> Store:
    """The store at ``first``, with those of ``others`` beside it.

    Raises:
        InputError: one is no store, or they have no video in common.
    """
    stores = [FeatureStore.open(path) for path in (first, *others)]
    return JoinedStore(stores) if others else stores[0]


@dataclass(frozen=True, slots=True)
class JoinedClips:
    """Clips of the first store with the features of all: ``(T, D1 + D2 + …)``."""

    features: NDArray[np.floating[Any]]
    start_s: NDArray[np.float64]
    stop_s: NDArray[np.float64]
    damaged: NDArray[np.bool_]
    duration_s: float


class JoinedStore:
    """The videos that all ``stores`` have. Features of the others are taken at the centres of the first one's clips,
    linear between their own; a step is damaged where the nearest clip of any store is.

    Raises:
        InputError: no video is in all of them.
    """

    def __init__(self, stores: Sequence[Store]) -> None:
        self._stores = stores
        others = [set(store) for store in stores[1:]]
        self._ids = [video_id for video_id in stores[0] if all(video_id in ids for ids in others)]
        if not self._ids:
            raise InputError("the stores have no video in common; expected stores of the same videos, by their ids")

    @property
    def recipe(self) -> Mapping[str, object]:
        """The recipes, by the stores' order."""
        return {f"store {number}": dict(store.recipe) for number, store in enumerate(self._stores, start=1)}

    @property
    def recipe_digest(self) -> str:
        """Of all recipes."""
        return digest(self.recipe)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __getitem__(self, video_id: str, /) -> JoinedClips:
        first = self._stores[0][video_id]
        wanted_s = centres_s(first)
        others = [self._stores[number][video_id] for number in range(1, len(self._stores))]
        features = [first.features, *(resampled(clips.features, centres_s(clips), wanted_s) for clips in others)]
        damaged = [first.damaged, *(clips.damaged[_nearest(clips, wanted_s)] for clips in others)]
        return JoinedClips(
            np.concatenate(features, axis=1),
            first.start_s,
            first.stop_s,
            np.logical_or.reduce(damaged),
            first.duration_s,
        )


def _nearest(clips: Clips, wanted_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """The clip whose middle is nearest to each second."""
    middles = centres_s(clips)
    after = np.searchsorted(middles, wanted_s).clip(1, max(1, len(middles) - 1))
    if len(middles) == 1:
        return np.zeros(len(wanted_s), np.int64)
    before: NDArray[np.bool_] = wanted_s - middles[after - 1] < middles[after] - wanted_s
    return after - before
