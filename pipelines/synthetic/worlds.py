"""Data sets of motion worlds: trimmed clips, untrimmed videos, order and memory tasks, as real video files.

``DIR/videos/`` holds the files, ``DIR/annotations.json`` the task's labels (ActivityNet form), ``DIR/verbs.json``
every performance (ActivityNet form), ``DIR/ava_train.csv`` and ``DIR/ava_val.csv`` the performers of each subset once a
second (AVA form: video, second, x1, y1, x2, y2 in 0..1, action number, person) with ``DIR/actions.pbtxt`` for the
numbers, ``DIR/boxes.csv`` the performers of all videos in the same form, but for the memory world what a detector might
find (FAIR's form: video, second, x1, y1, x2, y2, nothing, score), and, for trimmed clips, ``DIR/kinetics.csv``
(label, youtube_id, time_start, time_end, split).
"""

import csv
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from extract.errors import InputError, MachineError, UsageError
from extract.interrupts import children_ignore_interrupts
from pipelines.annotations import Annotations, Segment, VideoAnnotation, write_activitynet
from pipelines.synthetic.encode import ENCODINGS, write_video
from pipelines.synthetic.memory import CLASSES, Detection, detections, labels_of, memory_events, places
from pipelines.synthetic.scene import Box, compose
from pipelines.synthetic.verbs import VERBS, Event

KINDS = ("trimmed", "untrimmed", "order", "memory")  # seeds depend on the place: new ones go to the end
MAX_SEED = 2**40  # seeds from here on belong to the pretraining of the embedded backbone
HELD_OUT = 3  # every third video is validation
ORDER_VERBS = ("grow", "orbit")  # the two whose order is the class of an order video

Row = tuple[int, int, str, Box]  # second, number of the actor, label, box


@dataclass(frozen=True, slots=True)
class Defaults:
    """Number of videos and seconds of each."""

    videos: int
    seconds: float
    shortest_s: float


DEFAULTS = {
    "trimmed": Defaults(160, 2.0, 1.0),
    "untrimmed": Defaults(12, 120.0, 10.0),
    "order": Defaults(96, 30.0, 16.0),
    "memory": Defaults(48, 120.0, 20.0),
}


@dataclass(frozen=True, slots=True)
class Script:
    """What one video shows. ``label`` covers the whole video where the task has one label a video."""

    video_id: str
    subset: str
    seed: tuple[int, ...]
    encoding: int
    duration_s: float
    events: tuple[Event, ...]
    label: str | None


@dataclass(frozen=True, slots=True)
class Seen:
    """Boxes of one video, once a second: those of performers, and in the memory world those a detector might find."""

    performers: list[Row]
    detections: list[Detection]


def synthesize(
    kind: str,
    out: Path,
    *,
    videos: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    workers: int | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Annotations:
    """Make the ``kind`` of world in the new folder ``out``; the same arguments give the same files.

    Args:
        kind: "trimmed", "untrimmed", "order" or "memory".
        out: a folder that does not exist yet, or is empty.
        videos: how many; every third is validation.
        seconds: length of each.
        seed: 0 .. 2**40 - 1.
        workers: processes; by default one for each core.
        on_progress: called with (videos done, videos in all).

    Returns:
        What ``annotations.json`` holds.

    Raises:
        UsageError: unknown kind, or a number outside its range.
        InputError: ``out`` is a file, or a folder that is not empty.
        MachineError: ``out`` cannot be written.
    """
    scripts = write_scripts(kind, videos=videos, seconds=seconds, seed=seed)
    folder = _new_folder(out)
    seen: dict[str, Seen] = {}
    for script, found in _perform_all(kind, scripts, folder, workers or os.cpu_count() or 1):
        seen[script.video_id] = found
        on_progress(len(seen), len(scripts))
    annotations = _annotations(scripts, lambda s: _task_segments(kind, s))
    try:
        write_activitynet(annotations, out / "annotations.json")
        write_activitynet(_annotations(scripts, _verb_segments), out / "verbs.json")
        names = CLASSES if kind == "memory" else VERBS
        _write_ava(out, scripts, seen, names)
        if kind == "memory":
            _write_detections(out / "boxes.csv", seen)
        else:
            _write_rows(out / "boxes.csv", seen, sorted(seen), names)
        if kind == "trimmed":
            _write_kinetics(out / "kinetics.csv", scripts)
    except OSError as error:
        raise _unwritable(out, error) from error
    return annotations


def write_scripts(kind: str, *, videos: int | None, seconds: float | None, seed: int) -> list[Script]:
    """The scripts of all videos of one world, decided before anything is drawn."""
    if kind not in DEFAULTS:
        raise UsageError(f"no world called {kind!r}; expected one of {', '.join(KINDS)}")
    defaults = DEFAULTS[kind]
    count = defaults.videos if videos is None else videos
    duration_s = defaults.seconds if seconds is None else seconds
    if count < 1:
        raise UsageError(f"--videos is {count}; expected at least 1")
    if not defaults.shortest_s <= duration_s <= 86_400:
        raise UsageError(
            f"--seconds is {duration_s:g}; a video of the {kind} world lasts {defaults.shortest_s:g} to 86400 seconds"
        )
    if not 0 <= seed < MAX_SEED:
        raise UsageError(f"--seed is {seed}; expected 0 to {MAX_SEED - 1} (higher ones trained the embedded backbone)")
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    subsets = _subsets(count, rng)
    labels = _labels(kind, subsets, rng)
    encodings = rng.permutation(count) % len(ENCODINGS)
    return [
        _script(kind, number, subset, labels[number], int(encodings[number]), duration_s, seed)
        for number, subset in enumerate(subsets)
    ]


def _subsets(count: int, rng: np.random.Generator) -> list[str]:
    names = np.where(np.arange(count) % HELD_OUT == HELD_OUT - 1, "validation", "training")
    return [str(name) for name in rng.permutation(names)]


def _labels(kind: str, subsets: Sequence[str], rng: np.random.Generator) -> list[str]:
    """One label a video, balanced within each subset. Untrimmed videos have none of their own."""
    first, second = ORDER_VERBS
    choices = VERBS if kind == "trimmed" else (f"{first}_then_{second}", f"{second}_then_{first}")
    labels = [""] * len(subsets)
    for subset in ("training", "validation"):
        numbers = [i for i, name in enumerate(subsets) if name == subset]
        for i, number in enumerate(rng.permutation(numbers)):
            labels[int(number)] = choices[i % len(choices)]
    return labels


def _script(kind: str, number: int, subset: str, label: str, encoding: int, duration_s: float, seed: int) -> Script:
    key = (seed, KINDS.index(kind), number)
    rng = np.random.default_rng([*key, 0])
    events = _EVENTS[kind](rng, duration_s, label)
    name = f"{kind}_{number:05d}{ENCODINGS[encoding].suffix}"
    whole = label if kind in ("trimmed", "order") else None
    return Script(name, subset, key, encoding, duration_s, tuple(events), whole)


def _trimmed_events(_rng: np.random.Generator, duration_s: float, label: str) -> list[Event]:
    return [Event(label, 0.0, duration_s)]


def _untrimmed_events(rng: np.random.Generator, duration_s: float, _label: str) -> list[Event]:
    """Verbs with idle stretches of 1.5 to 6 s between them; one in four is overlapped by another actor's."""
    events: list[Event] = []
    now = rng.uniform(1.0, 4.0)
    deck = _deck(rng, VERBS)
    while True:
        event = _event(rng, next(deck), now)
        if event.stop_s > duration_s - 0.5:
            return events
        events.append(event)
        overlapping = _event(rng, next(deck), now + rng.uniform(0.5, 1.5))
        if rng.random() < 0.25 and overlapping.verb != event.verb and overlapping.stop_s < duration_s - 0.5:
            events.append(overlapping)
        now = max(e.stop_s for e in events) + rng.uniform(1.5, 6.0)


def _order_events(rng: np.random.Generator, duration_s: float, label: str) -> list[Event]:
    """The label's two verbs, early and late, with other verbs around them that say nothing."""
    first, second = label.split("_then_")
    early = _event(rng, first, rng.uniform(0.06, 0.20) * duration_s)
    late = _event(rng, second, rng.uniform(0.68, 0.80) * duration_s)
    others = _deck(rng, [verb for verb in VERBS if verb not in ORDER_VERBS])
    events, now = [early, late], early.stop_s + rng.uniform(1.5, 3.0)
    while now + 5.0 < late.start_s:
        events.append(_event(rng, next(others), now))
        now = events[-1].stop_s + rng.uniform(1.5, 5.0)
    return sorted(events, key=lambda event: event.start_s)


_EVENTS: dict[str, Callable[[np.random.Generator, float, str], list[Event]]] = {
    "trimmed": _trimmed_events,
    "untrimmed": _untrimmed_events,
    "order": _order_events,
    "memory": lambda rng, duration_s, _label: memory_events(rng, duration_s),
}


def _event(rng: np.random.Generator, verb: str, start_s: float) -> Event:
    return Event(verb, float(start_s), float(start_s + rng.uniform(2.0, 3.5)))


def _deck(rng: np.random.Generator, verbs: Sequence[str]) -> Iterator[str]:
    """All verbs in random order, again and again: every verb about equally often."""
    while True:
        yield from (str(verb) for verb in rng.permutation(list(verbs)))


def _new_folder(out: Path) -> Path:
    if out.is_file():
        raise InputError(f"{out} is a file; expected a folder to make the world in; choose another -o")
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out} is not empty; a world is made in a new folder: choose another -o, or remove it")
    try:
        (out / "videos").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(f"cannot make {out / 'videos'}: {error.strerror}; choose another -o") from error
    return out / "videos"


def _perform_all(kind: str, scripts: Sequence[Script], folder: Path, workers: int) -> Iterator[tuple[Script, Seen]]:
    if workers <= 1:
        yield from ((script, perform(kind, script, folder)) for script in scripts)
        return
    spawn = multiprocessing.get_context("spawn")  # a forked process inherits locks of decoder threads
    with ProcessPoolExecutor(min(workers, len(scripts)), mp_context=spawn) as pool:
        with children_ignore_interrupts():
            futures = {pool.submit(perform, kind, script, folder): script for script in scripts}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def perform(kind: str, script: Script, folder: Path) -> Seen:
    """Draw and encode one video; returns its boxes at whole seconds."""
    rng = np.random.default_rng([*script.seed, 1])
    distractors = int(rng.integers(1, 4))
    scene = compose(
        rng,
        events=script.events,
        duration_s=script.duration_s,
        distractors=distractors,
        places=places(np.random.default_rng([*script.seed, 2]), script.events) if kind == "memory" else None,
    )
    encoding = ENCODINGS[script.encoding]
    unfinished = folder / f".{script.video_id}"
    try:
        write_video(
            unfinished.with_suffix(f".part{encoding.suffix}"),
            scene.frame,
            encoding,
            encoding.times(script.duration_s, rng),
        )
        unfinished.with_suffix(f".part{encoding.suffix}").replace(folder / script.video_id)
    except OSError as error:
        raise _unwritable(folder / script.video_id, error) from error
    labels = dict(zip(script.events, _labels_of(kind, script), strict=True))
    performers = [
        (second, number, labels[event], box)
        for second in range(int(script.duration_s))
        for number, event, box in scene.boxes(second)
    ]
    if kind != "memory":
        return Seen(performers, [])
    return Seen(performers, detections(np.random.default_rng([*script.seed, 3]), scene, script.duration_s))


def _labels_of(kind: str, script: Script) -> list[str]:
    return labels_of(script.events) if kind == "memory" else [event.verb for event in script.events]


def _unwritable(path: Path, error: OSError) -> MachineError:
    return MachineError(f"cannot write {path}: {error.strerror or error}; free some space or choose another -o")


def _annotations(scripts: Sequence[Script], segments: Callable[[Script], tuple[Segment, ...]]) -> Annotations:
    return Annotations.of(VideoAnnotation(s.video_id, s.duration_s, s.subset, segments(s)) for s in scripts)


def _task_segments(kind: str, script: Script) -> tuple[Segment, ...]:
    if script.label is not None:
        return (Segment(script.label, 0.0, script.duration_s),)
    labels = _labels_of(kind, script)
    return tuple(_segment(event, label) for event, label in zip(script.events, labels, strict=True))


def _verb_segments(script: Script) -> tuple[Segment, ...]:
    return tuple(_segment(event, event.verb) for event in script.events)


def _segment(event: Event, label: str) -> Segment:
    return Segment(label, round(event.start_s, 3), round(event.stop_s, 3))


def _write_rows(path: Path, seen: dict[str, Seen], videos: Sequence[str], names: Sequence[str]) -> None:
    """The performers in ``videos``."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        for video_id in videos:
            for second, actor, label, box in seen[video_id].performers:
                rows.writerow([video_id, second, *(f"{x:.4f}" for x in box), names.index(label) + 1, actor])


def _write_names(path: Path, names: Sequence[str]) -> None:
    items = (f"item {{\n  name: {json.dumps(name)}\n  id: {i + 1}\n}}\n" for i, name in enumerate(names))
    path.write_text("".join(items), encoding="utf-8")


def _write_ava(out: Path, scripts: Sequence[Script], seen: dict[str, Seen], names: Sequence[str]) -> None:
    """The performers of each subset, and the class list."""
    for subset, name in (("training", "ava_train.csv"), ("validation", "ava_val.csv")):
        videos = sorted(script.video_id for script in scripts if script.subset == subset)
        if videos:
            _write_rows(out / name, seen, videos, names)
    _write_names(out / "actions.pbtxt", names)


def _write_detections(path: Path, seen: dict[str, Seen]) -> None:
    """What a detector might find."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        for video in sorted(seen):
            for found in seen[video].detections:
                rows.writerow([video, found.second, *(f"{x:.4f}" for x in found.box), "", f"{found.score:.4f}"])


def _write_kinetics(path: Path, scripts: Sequence[Script]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["label", "youtube_id", "time_start", "time_end", "split"])
        for script in scripts:
            rows.writerow([script.label, script.video_id, 0, f"{script.duration_s:g}", script.subset])
