"""Cached features and annotations put together: what heads are trained and evaluated on.

T time steps (clips), D feature width, C classes.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from extract.errors import InputError
from pipelines.annotations import OVERSHOOT_S, Annotations, VideoAnnotation
from pipelines.notes import noted, shown

Read = Callable[[], NDArray[np.floating[Any]]]
Target = Callable[[VideoAnnotation, NDArray[np.float64], Sequence[str]], Any]
"""What is to be learnt of a video, from its annotation, the centres of its steps ``(T,)`` and the classes."""

MEMORY_SHARE = 4  # a quarter of the machine's memory holds features; those beyond it are read again and again


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
    """One video. ``read`` gives its features ``(T, D)``, from memory or from the store; ``centre_s`` ``(T,)`` is the
    middle of each step in seconds; what ``target`` is, its task says.
    """

    video_id: str
    read: Read
    centre_s: NDArray[np.float64]
    target: Any
    duration_s: float = 0.0

    def __len__(self) -> int:
        return len(self.centre_s)

    @property
    def features(self) -> NDArray[np.float32]:
        """``(T, D)``."""
        return self.read().astype(np.float32, copy=False)

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

    @property
    def width(self) -> int:
        """D."""
        return int(self.items[0].read().shape[1])


class Shelf:
    """Features of stored videos: kept in memory while there is room, read again where there is none.

    ``step_s``: seconds between the steps of a grid that they are resampled to; 0 leaves them as stored.
    """

    def __init__(self, store: Store, *, step_s: float = 0.0, room: int | None = None) -> None:
        self._store, self._step_s = store, step_s
        self._room = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MEMORY_SHARE if room is None else room

    def take(self, stored_id: str) -> tuple[Clips, NDArray[np.float64], Read]:
        """A video's clips, the centres of its steps, and how to get their features.

        Raises:
            StoreError: the stored bytes are damaged.
        """
        clips = self._store[stored_id]
        centre_s = _grid(clips, self._step_s)
        features = _on_grid(clips, centre_s) if self._step_s else clips.features
        if features.nbytes > self._room:
            return clips, centre_s, lambda: self._again(stored_id, centre_s)
        self._room -= features.nbytes
        return clips, centre_s, lambda: features

    def _again(self, stored_id: str, centre_s: NDArray[np.float64]) -> NDArray[np.floating[Any]]:
        clips = self._store[stored_id]
        return _on_grid(clips, centre_s) if self._step_s else clips.features


def centres_s(clips: Clips) -> NDArray[np.float64]:
    """Middles of the clips ``(T,)``; of boxes, when they were seen."""
    second: NDArray[np.float64] | None = getattr(clips, "second", None)
    return (clips.start_s + clips.stop_s) / 2 if second is None else second


def resampled(
    features: NDArray[np.floating[Any]], centre_s: NDArray[np.float64], wanted_s: NDArray[np.float64]
) -> NDArray[np.floating[Any]]:
    """``(T, D)`` at rising seconds ``(T,)`` -> ``(T', D)`` at ``(T',)``: linear between, nearest beyond the ends."""
    after = np.searchsorted(centre_s, wanted_s).clip(1, max(1, len(centre_s) - 1))
    if len(centre_s) == 1:
        return features[np.zeros(len(wanted_s), np.int64)]
    gap = centre_s[after] - centre_s[after - 1]
    share = ((wanted_s - centre_s[after - 1]) / gap).clip(0, 1)[:, None]
    mixed: NDArray[np.floating[Any]] = (1 - share) * features[after - 1] + share * features[after]
    return mixed.astype(features.dtype)


def _grid(clips: Clips, step_s: float) -> NDArray[np.float64]:
    centre_s = centres_s(clips)
    return np.arange(centre_s[0], centre_s[-1] + step_s / 2, step_s) if step_s else centre_s


def _on_grid(clips: Clips, centre_s: NDArray[np.float64]) -> NDArray[np.floating[Any]]:
    return resampled(clips.features, centres_s(clips), centre_s)


def load_examples(
    target: Target,
    store: Store,
    annotations: Annotations,
    *,
    subset: str,
    classes: Sequence[str] | None = None,
    by_steps: bool = True,
    step_s: float = 0.0,
) -> Examples:
    """The annotated and stored videos of ``subset``, with what ``target`` makes of each.

    ``classes`` fixes the first class numbers (those of a trained head); labels that are not among them follow,
    sorted. Without it, the classes are the subset's labels, sorted. ``by_steps``: what holds the centre of no step is
    lost to the task, and noted. ``step_s``: see `Shelf`.

    Raises:
        InputError: no video has the subset, none of its videos is in the store, its features are of boxes, most
            segments end after their video does, or ``target`` refuses a video.
    """
    chosen = annotations.subset(subset)
    matches = match_ids([video.video_id for video in chosen.videos], list(store))
    videos = [video for video in chosen.videos if video.video_id in matches]
    labels = sorted({label for video in videos for label in video.labels})
    known = list(classes) if classes is not None else []
    names = (*known, *(label for label in labels if label not in known))
    shelf = Shelf(store, step_s=step_s)
    items, damaged, unseen = [], [], Counter[str]()
    late: list[str] = []
    for video in videos:
        clips, centre_s, read = shelf.take(matches[video.video_id])
        check_of_clips(clips)
        wanted = target(video, centre_s, names)
        items.append(Example(video.video_id, read, centre_s, wanted, clips.duration_s))
        late += _late_segments(video, clips)
        if clips.damaged.any():
            damaged.append(video.video_id)
        if by_steps:
            unseen.update(_labels_on_no_step(video, centre_s))
    _check_unit(late, sum(len(video.segments) for video in videos))
    notes = [
        *noted(late, "segments end after their video does"),
        *matching_notes(
            [video.video_id for video in chosen.videos],
            matches,
            [video.video_id for video in annotations.videos],
            store,
            subset,
        ),
        *noted(damaged, "videos have clips of damaged stretches; they are used"),
        *_unseen_notes(unseen),
    ]
    return Examples(tuple(items), names, tuple(notes))


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
                f"annotated video {video_id!r} fits {len(found)} stored ones: {shown(found)}."
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
            f" {shown(annotated)}; stored are {shown(stored)}. Extract the annotated videos into this store, or"
            " use the stored ids, or their file names, in the annotations"
        )
    twice = [stored_id for stored_id, count in Counter(matches.values()).items() if count > 1]
    if twice:
        rivals = [video_id for video_id, stored_id in matches.items() if stored_id == twice[0]]
        raise InputError(
            f"stored video {twice[0]!r} fits {len(rivals)} annotated ones: {shown(rivals)}."
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


def check_of_clips(clips: Clips) -> None:
    """Refuse features of boxes.

    Raises:
        InputError: they are.
    """
    if getattr(clips, "box", None) is not None:
        raise InputError(
            "the store has features of boxes; expected features of whole clips. Extract without --boxes, or use the"
            " task 'detect'"
        )


def _check_unit(late: Sequence[str], segments: int) -> None:
    """Some late segments may be of videos that were cut short; most of them are in another unit."""
    if 2 * len(late) > segments:
        raise InputError(
            f"{len(late)} of {segments} segments end after their video in the store does: {shown(late)};"
            " expected seconds from the video's start. Are they frames or milliseconds?"
        )


def _labels_on_no_step(video: VideoAnnotation, centre_s: NDArray[np.float64]) -> list[str]:
    return [
        segment.label
        for segment in video.segments
        if not ((segment.start_s <= centre_s) & (centre_s < segment.stop_s)).any()
    ]


def matching_notes(
    wanted: Sequence[str], matches: Mapping[str, str], annotated: Sequence[str], store: Store, subset: str
) -> list[str]:
    """Which ``wanted`` videos of ``subset`` are not stored, and which stored ones are not ``annotated`` at all."""
    missing = [video_id for video_id in wanted if video_id not in matches]
    named = {_stem(video_id) for video_id in annotated}
    extra = [video_id for video_id in store if _stem(video_id) not in named]
    return [
        *noted(missing, f"videos of subset {subset!r} are annotated but not in the store; they are left out"),
        *noted(extra, "videos are in the store but not annotated; they are left out"),
    ]


def _unseen_notes(unseen: Counter[str]) -> list[str]:
    if not unseen:
        return []
    return [
        f"{unseen.total()} segments hold the centre of no step (too short or too late) and label nothing:"
        f" {shown([f'{label} ({count})' for label, count in unseen.most_common()])}"
    ]
