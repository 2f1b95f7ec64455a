"""Cached features and annotations put together: what heads are trained and evaluated on.

T time steps (clips), D feature width, C classes, B batch.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from extract.errors import InputError
from pipelines.annotations import OVERSHOOT_S, Annotations, VideoAnnotation

Task = Literal["classify", "label"]

_SHOWN = 5


class Clips(Protocol):
    """The clips of one video in a store."""

    @property
    def features(self) -> NDArray[np.floating[Any]]:
        """``(T, D)``."""
        ...

    @property
    def start_s(self) -> NDArray[np.float64]:
        """``(T,)``."""
        ...

    @property
    def stop_s(self) -> NDArray[np.float64]:
        """``(T,)``."""
        ...

    @property
    def damaged(self) -> NDArray[np.bool_]:
        """``(T,)``, True where a clip holds frames of a damaged stretch."""
        ...

    @property
    def duration_s(self) -> float:
        """Length of the video."""
        ...


class Store(Protocol):
    """What is needed of a feature store (``extract.store.FeatureStore`` is one)."""

    @property
    def recipe(self) -> Mapping[str, object]:
        """What the features were made with."""
        ...

    @property
    def recipe_digest(self) -> str:
        """sha256 of the recipe."""
        ...

    def __iter__(self) -> Iterator[str]: ...

    def __getitem__(self, video_id: str, /) -> Clips: ...


@dataclass(frozen=True, slots=True)
class Example:
    """One video. ``features`` ``(T, D)`` float32; ``centre_s`` ``(T,)``, the middle of each step in seconds; ``target``
    is the class number, ``()`` int64, for ``classify``, and ``(T, C)`` bool for ``label``.
    """

    video_id: str
    features: NDArray[np.float32]
    centre_s: NDArray[np.float64]
    target: NDArray[Any]

    def __len__(self) -> int:
        return len(self.features)

    def replay(self, steps: NDArray[np.int64]) -> "Example":
        """The example as if these steps, ``(T',)``, were shown one after the other at its own mean pace."""
        target = self.target[steps] if self.target.ndim else self.target
        return Example(self.video_id, self.features[steps], self.regular_s(len(steps)), target)

    def regular_s(self, count: int) -> NDArray[np.float64]:
        """Centres of ``count`` steps at the example's mean pace, ``(count,)``."""
        hop_s = float(np.diff(self.centre_s).mean()) if len(self) > 1 else 1.0
        return float(self.centre_s[0]) + hop_s * np.arange(count, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Examples:
    """The videos of one subset that are annotated and stored, and notes on what is not as one might think."""

    items: tuple[Example, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def load_examples(
    task: Task, store: Store, annotations: Annotations, *, subset: str, classes: Sequence[str] | None = None
) -> Examples:
    """The annotated and stored videos of ``subset``, with targets for ``task``.

    ``classes`` fixes the first class numbers (those of a trained head); labels that are not among them follow,
    sorted. Without it, the classes are the subset's labels, sorted.

    ``label``: a step is positive for a class when a segment of it holds the centre of the step's clip,
    start <= centre < stop (Charades-localize and MultiTHUMOS too look at points in time, not at overlaps).
    ``classify``: the label that all segments of the video share.

    Raises:
        InputError: no video has the subset, none of its videos is in the store, most segments end after their
            video does, or a video to classify has not exactly one label.
    """
    chosen = annotations.subset(subset)
    matches = match_ids([video.video_id for video in chosen.videos], list(store))
    videos = [video for video in chosen.videos if video.video_id in matches]
    labels = sorted({label for video in videos for label in video.labels})
    known = list(classes) if classes is not None else []
    names = (*known, *(label for label in labels if label not in known))
    build = _classify_example if task == "classify" else _label_example
    items, damaged, unseen = [], [], Counter[str]()
    late: list[str] = []
    for video in videos:
        sequence = store[matches[video.video_id]]
        items.append(build(video, sequence, names))
        late += _late_segments(video, sequence)
        if sequence.damaged.any():
            damaged.append(video.video_id)
        if task == "label":
            unseen.update(_labels_on_no_step(video, sequence))
    _check_unit(late, sum(len(video.segments) for video in videos))
    notes = [
        *_note(late, "segments end after their video does"),
        *_matching_notes(chosen, matches, annotations, store, subset),
        *_note(damaged, "videos have clips of damaged stretches; they are used"),
        *_unseen_notes(unseen),
    ]
    return Examples(tuple(items), names, tuple(notes))


class Batch(NamedTuple):
    """Videos padded to the longest: ``features`` ``(B, T, D)`` float32, ``mask`` ``(B, T)`` bool (real steps),
    ``centre_s`` ``(B, T)`` float64, ``targets`` ``(B,)`` int64 or ``(B, T, C)`` float32.
    """

    features: Tensor
    mask: Tensor
    centre_s: Tensor
    targets: Tensor


def collate(examples: Sequence[Example]) -> Batch:
    """Pad with zeros to the longest video."""
    longest = max(map(len, examples))
    features = torch.zeros(len(examples), longest, examples[0].features.shape[1])
    mask = torch.zeros(len(examples), longest, dtype=torch.bool)
    centre_s = torch.zeros(len(examples), longest, dtype=torch.float64)
    for row, example in enumerate(examples):
        features[row, : len(example)] = torch.from_numpy(example.features)
        mask[row, : len(example)] = True
        centre_s[row, : len(example)] = torch.from_numpy(example.centre_s)
    return Batch(features, mask, centre_s, _collate_targets(examples, longest))


def match_ids(annotated: Sequence[str], stored: Sequence[str]) -> dict[str, str]:
    """Stored id of each annotated id that has one.

    An equal id first; else the only stored video whose file name without folder and extension is equal, with
    or without a leading ``v_`` (ActivityNet's files have it, its annotations do not).

    Raises:
        InputError: nothing matches, an annotated id fits several stored videos, or two fit one.
    """
    exact, by_stem = set(stored), defaultdict[str, list[str]](list)
    for video_id in stored:
        by_stem[_stem(video_id)].append(video_id)
    matches = {}
    for video_id in annotated:
        found = [video_id] if video_id in exact else by_stem.get(_stem(video_id), [])
        if len(found) > 1:
            raise InputError(
                f"annotated video {video_id!r} fits {len(found)} stored ones: {_list(found)}."
                " Use the stored ids in the annotations"
            )
        if found:
            matches[video_id] = found[0]
    _check_matches(matches, annotated, stored)
    return matches


def _check_matches(matches: Mapping[str, str], annotated: Sequence[str], stored: Sequence[str]) -> None:
    if annotated and not matches:
        raise InputError(
            f"0 of {len(annotated)} annotated videos are among the {len(stored)} of the store: annotated are"
            f" {_list(annotated)}; stored are {_list(stored)}. Extract the annotated videos into this store, or"
            " use the stored ids, or their file names, in the annotations"
        )
    twice = [stored_id for stored_id, count in Counter(matches.values()).items() if count > 1]
    if twice:
        rivals = [video_id for video_id, stored_id in matches.items() if stored_id == twice[0]]
        raise InputError(
            f"stored video {twice[0]!r} fits {len(rivals)} annotated ones: {_list(rivals)}."
            " Use the stored ids in the annotations"
        )


def _stem(video_id: str) -> str:
    path = PurePosixPath(video_id)
    name = path.stem if 1 < len(path.suffix) <= 5 else path.name
    return name.removeprefix("v_")


def _late_segments(video: VideoAnnotation, sequence: Clips) -> list[str]:
    stop_s = float(sequence.stop_s.max())
    return [
        f"{video.video_id} [{segment.start_s:g}, {segment.stop_s:g}] of {stop_s:.1f} s"
        for segment in video.segments
        if segment.stop_s > stop_s + OVERSHOOT_S
    ]


def _check_unit(late: Sequence[str], segments: int) -> None:
    """Some late segments may be of videos that were cut short; most of them are in another unit."""
    if 2 * len(late) > segments:
        raise InputError(
            f"{len(late)} of {segments} segments end after their video in the store does: {_list(late)};"
            " expected seconds from the video's start. Are they frames or milliseconds?"
        )


def _classify_example(video: VideoAnnotation, sequence: Clips, classes: Sequence[str]) -> Example:
    if len(video.labels) != 1:
        raise InputError(
            f"video {video.video_id!r} has {len(video.labels)} labels ({_list(sorted(video.labels))}); classify"
            " needs exactly one a video. Use the task 'label', or leave the video out of the annotations"
        )
    (label,) = video.labels
    target = np.asarray(classes.index(label), dtype=np.int64)
    return Example(video.video_id, _features(sequence), _centre_s(sequence), target)


def _label_example(video: VideoAnnotation, sequence: Clips, classes: Sequence[str]) -> Example:
    centre_s = _centre_s(sequence)
    target = np.zeros((len(centre_s), len(classes)), dtype=np.bool_)
    for segment in video.segments:
        inside = (segment.start_s <= centre_s) & (centre_s < segment.stop_s)
        target[inside, classes.index(segment.label)] = True
    return Example(video.video_id, _features(sequence), centre_s, target)


def _features(sequence: Clips) -> NDArray[np.float32]:
    return sequence.features.astype(np.float32)


def _centre_s(sequence: Clips) -> NDArray[np.float64]:
    return (sequence.start_s + sequence.stop_s) / 2


def _labels_on_no_step(video: VideoAnnotation, sequence: Clips) -> list[str]:
    centre_s = _centre_s(sequence)
    return [
        segment.label
        for segment in video.segments
        if not ((segment.start_s <= centre_s) & (centre_s < segment.stop_s)).any()
    ]


def _collate_targets(examples: Sequence[Example], longest: int) -> Tensor:
    if examples[0].target.ndim == 0:
        return torch.tensor([int(example.target) for example in examples])
    targets = torch.zeros(len(examples), longest, examples[0].target.shape[1])
    for row, example in enumerate(examples):
        targets[row, : len(example)] = torch.from_numpy(example.target)
    return targets


def _matching_notes(
    chosen: Annotations, matches: Mapping[str, str], annotations: Annotations, store: Store, subset: str
) -> list[str]:
    missing = [video.video_id for video in chosen.videos if video.video_id not in matches]
    named = {_stem(video.video_id) for video in annotations.videos}
    extra = [video_id for video_id in store if _stem(video_id) not in named]
    return [
        *_note(missing, f"videos of subset {subset!r} are annotated but not in the store; they are left out"),
        *_note(extra, "videos are in the store but not annotated; they are left out"),
    ]


def _unseen_notes(unseen: Counter[str]) -> list[str]:
    if not unseen:
        return []
    return [
        f"{unseen.total()} segments hold the centre of no step (too short or too late) and label nothing:"
        f" {_list([f'{label} ({count})' for label, count in unseen.most_common()])}"
    ]


def _note(videos: Sequence[str], what: str) -> list[str]:
    return [f"{len(videos)} {what}: {_list(videos)}"] if videos else []


def _list(values: Iterable[str]) -> str:
    kept = list(values)
    more = f" and {len(kept) - _SHOWN} more" if len(kept) > _SHOWN else ""
    return (", ".join(kept[:_SHOWN]) + more) or "none"
