"""Feature stores in memory, and worlds of features drawn for the tests."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.annotations import Annotations, Segment, VideoAnnotation, write_activitynet

KINDS, WIDTH, BACKGROUND = 16, 256, 2.0
SIGNAL = 3.3
"""Distance of an event's mean from the origin, in standard deviations of the noise: a linear probe of single
steps (logistic regression, 3,000 training steps, 16 kinds) reaches 87 %."""


@dataclass(frozen=True)
class Clips:
    features: NDArray[np.float32]
    start_s: NDArray[np.float64]
    stop_s: NDArray[np.float64]
    damaged: NDArray[np.bool_]
    duration_s: float


@dataclass(frozen=True)
class MemoryStore:
    videos: Mapping[str, Clips]
    recipe: Mapping[str, object] = field(default_factory=lambda: {"backbone": "drawn", "hop": 16})
    recipe_digest: str = "d1"

    def __iter__(self) -> Iterator[str]:
        return iter(self.videos)

    def __getitem__(self, video_id: str, /) -> Clips:
        return self.videos[video_id]


@dataclass(frozen=True)
class World:
    store: MemoryStore
    annotations: Annotations
    path: Path


def clips(features: NDArray[np.float64]) -> Clips:
    start_s = np.arange(len(features), dtype=np.float64)
    damaged = np.zeros(len(features), dtype=np.bool_)
    return Clips(features.astype(np.float32), start_s, start_s + 1, damaged, float(len(features)))


def drawn(kinds: NDArray[np.int64], means: NDArray[np.float64], rng: np.random.Generator) -> Clips:
    """Steps around the mean of their kind, each feature with another scale and offset; on top, a background
    that differs between videos, in a few directions and stronger than the events.
    """
    backgrounds = np.random.default_rng(99).standard_normal((20, means.shape[1])) / np.sqrt(means.shape[1])
    background = BACKGROUND * rng.standard_normal(20) @ backgrounds
    steps = SIGNAL * means[kinds] + background + rng.standard_normal((len(kinds), means.shape[1]))
    return clips(steps * np.linspace(0.5, 2, means.shape[1]) + np.linspace(-1, 1, means.shape[1]))


def unit_rows(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    rows = rng.standard_normal((count, WIDTH))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def order_kinds(reverse: bool, rng: np.random.Generator) -> NDArray[np.int64]:
    """Kind 0 in the first quarter and kind 1 in the last, or the reverse; others and idle steps between."""
    n_steps = int(rng.integers(15, 81))
    kinds = np.full(n_steps, KINDS)
    at = int(rng.integers(0, 4))
    while at < n_steps:
        length = int(rng.integers(2, 5))
        kinds[at : at + length] = rng.integers(2, KINDS)
        at += length + int(rng.integers(1, 6))
    quarter = n_steps // 4
    for kind, low in ((int(reverse), 0), (int(not reverse), n_steps - quarter)):
        length = int(rng.integers(2, 5))
        start = low + int(rng.integers(0, max(1, quarter - length + 1)))
        kinds[start : start + length] = kind
    return kinds


def order_world(folder: Path, seed: int, *, training: int, validation: int) -> World:
    rng = np.random.default_rng(seed)
    means = unit_rows(KINDS + 1, rng)
    videos, annotated = {}, []
    for number in range(training + validation):
        video = drawn(order_kinds(number % 2 == 1, rng), means, rng)
        videos[f"order/{number:03d}.mp4"] = video
        subset = "training" if number < training else "validation"
        label = ("first then second", "second then first")[number % 2]
        whole = (Segment(label, 0.0, video.duration_s),)
        annotated.append(VideoAnnotation(f"{number:03d}", video.duration_s, subset, whole))
    return written(folder, MemoryStore(videos), annotated)


def label_world(folder: Path, *, training: int = 12, validation: int = 8, kinds: int = 4) -> World:
    rng = np.random.default_rng(3)
    means = unit_rows(kinds + 1, rng)
    videos, annotated = {}, []
    for number in range(training + validation):
        steps = rng.integers(0, kinds + 1, 10).repeat(4)
        videos[f"{number}.mp4"] = drawn(steps, means, rng)
        segments = tuple(
            Segment(f"kind {steps[at]}", float(at), at + 4.0) for at in range(0, 40, 4) if steps[at] < kinds
        )
        subset = "training" if number < training else "validation"
        annotated.append(VideoAnnotation(f"{number}.mp4", 40.0, subset, segments))
    return written(folder, MemoryStore(videos), annotated)


def written(folder: Path, store: MemoryStore, annotated: list[VideoAnnotation]) -> World:
    annotations = Annotations.of(annotated)
    write_activitynet(annotations, folder / "annotations.json")
    return World(store, annotations, folder / "annotations.json")


def action_world(folder: Path, *, training: int = 12, validation: int = 6, classes: int = 3, steps: int = 64) -> World:
    """Noise, with three actions of 5 to 14 steps in each video, whose steps have their class's mean; half a second a
    step.
    """
    rng = np.random.default_rng(5)
    means = 4 * rng.standard_normal((classes, 16))
    videos, annotated = {}, []
    for number in range(training + validation):
        features, segments = rng.standard_normal((steps, 16)), []
        for slot, label in enumerate(rng.permutation(classes)):
            start = 21 * slot + int(rng.integers(0, 6))
            stop = start + int(rng.integers(5, 15))
            features[start:stop] += means[label]
            segments.append(Segment(f"action {label}", 0.5 * start, 0.5 * stop))
        videos[f"{number}.mp4"] = at_hop(clips(features), 0.5)
        subset = "training" if number < training else "validation"
        annotated.append(VideoAnnotation(f"{number}.mp4", 0.5 * steps, subset, tuple(segments)))
    return written(folder, MemoryStore(videos), annotated)


def at_hop(found: Clips, hop_s: float) -> Clips:
    """The same clips, ``hop_s`` long and apart."""
    start_s = hop_s * np.arange(len(found.features))
    return Clips(found.features, start_s, start_s + hop_s, found.damaged, hop_s * len(found.features))
