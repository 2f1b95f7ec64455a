"""The memory world: what an actor's performance is called depends on what another actor did up to 30 s before.

Two verbs are signals; four are responses. A response is named after the last signal that ended in the ``MEMORY_S``
seconds before it starts, or "alone" when none did. Three out of four facts about a window of 30 s to each side are
traps: signals further back, signals of the other kind before the last one, and signals that come later.

A video tells *stories*: responses alone, a signal, responses after it, another signal, responses after that one; then
nothing until the last signal is forgotten. Every story has the same number of responses of each of the three names.
"""

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.synthetic.scene import ASPECT, Actor, Box, Scene
from pipelines.synthetic.verbs import Event

SIGNALS = ("blink", "shake")
RESPONSES = ("rotate_cw", "grow", "bounce", "orbit")
MEMORY_S = 30.0
ALONE = "alone"
CLASSES = (*SIGNALS, *(f"{verb}_{how}" for verb in RESPONSES for how in (ALONE, *(f"after_{s}" for s in SIGNALS))))

_IN_A_ROW = 4  # responses of one name in a story
_RECENT_S = 24.0  # responses begin this soon after their signal, so that a window of 30 s still holds it …
_FORGOTTEN_S = 31.0  # … or this late after the last one
_PAUSES_S = (2.0, 2.0, 1.8, 1.6, 1.4, 1.2, 1.0, 0.8, *[0.6] * 20)  # tried until a story fits

Decks = dict[str, Iterator[str]]


def labels_of(events: Sequence[Event]) -> list[str]:
    """The class of each of ``events``, all of one video and each by other actors."""
    signals = sorted((event for event in events if event.verb in SIGNALS), key=lambda signal: signal.stop_s)
    stops_s = [signal.stop_s for signal in signals]
    labels = []
    for event in events:
        last = bisect_right(stops_s, event.start_s) - 1
        if event.verb in SIGNALS:
            labels.append(event.verb)
        elif last < 0 or event.start_s - stops_s[last] > MEMORY_S:
            labels.append(f"{event.verb}_{ALONE}")
        else:
            labels.append(f"{event.verb}_after_{signals[last].verb}")
    return labels


def memory_events(rng: np.random.Generator, duration_s: float) -> list[Event]:
    """As many stories as fit into ``duration_s``, in order of their starts."""
    decks = {name: _deck(rng) for name in (ALONE, *SIGNALS)}
    in_a_row = min(_IN_A_ROW, max(1, int(duration_s / 15)))
    events: list[Event] = []
    while more := _more(rng, events, duration_s - 0.5, decks, in_a_row):
        events += more
    return events


def _more(
    rng: np.random.Generator, events: Sequence[Event], until_s: float, decks: Decks, in_a_row: int
) -> list[Event]:
    """One story of both signals, or as often two, of one signal each: what is in the window tells something, but not
    all. Nothing when none fits.
    """
    start_s = events[-1].stop_s if events else 0.0
    forgotten_s = max((e.stop_s + _FORGOTTEN_S for e in events if e.verb in SIGNALS), default=0.0)
    first, second = (str(signal) for signal in rng.permutation(SIGNALS))
    pairs = [[[first, first], [second, second]]] if rng.random() < 0.5 else []
    for plan in [*pairs, [[first, second]]]:
        for pause_s in _PAUSES_S:
            told = list(_told(rng, plan, max(start_s, forgotten_s), decks, in_a_row, pause_s))
            if max(event.stop_s for event in told) < until_s:
                return told
    return []


def _told(
    rng: np.random.Generator, plan: Sequence[Sequence[str]], start_s: float, decks: Decks, in_a_row: int, pause_s: float
) -> Iterator[Event]:
    """Events of the stories of ``plan``, each a list of signals, with pauses of up to ``pause_s`` between them."""
    now = start_s
    for signals in plan:
        for name in (ALONE, *signals):
            if name != ALONE:
                signal = _event(rng, name, now + rng.uniform(0.3, pause_s))
                yield signal
                now = signal.stop_s
            responses = _responses(rng, now, decks[name], in_a_row, pause_s)
            yield from responses
            now = max(event.stop_s for event in responses)
        now = max(now, signal.stop_s + _FORGOTTEN_S)


def _responses(
    rng: np.random.Generator, start_s: float, deck: Iterator[str], count: int, pause_s: float
) -> list[Event]:
    """``count`` responses from ``start_s`` on; two in five begin while the one before them still goes on."""
    verbs = [next(deck) for _ in range(count)]
    while True:
        events: list[Event] = []
        now = start_s
        for verb in verbs:
            begin_s = now + rng.uniform(0.3, pause_s)
            if events and rng.random() < 0.4:
                begin_s = events[-1].start_s + rng.uniform(0.5, 1.5)
            events.append(_event(rng, verb, begin_s))
            now = max(now, events[-1].stop_s)
        if events[-1].start_s - start_s < _RECENT_S:
            return events


def _deck(rng: np.random.Generator) -> Iterator[str]:
    while True:
        yield from (str(verb) for verb in rng.permutation(RESPONSES))


def _event(rng: np.random.Generator, verb: str, start_s: float) -> Event:
    return Event(verb, float(start_s), float(start_s + rng.uniform(2.0, 3.5)))


def places(rng: np.random.Generator, events: Sequence[Event]) -> list[tuple[float, float]]:
    """Where each event happens (x, y), apart from those that are on the screen at the same time."""
    chosen: list[tuple[float, float]] = []
    for event in events:
        busy = [
            place
            for place, other in zip(chosen, events, strict=False)
            if other.start_s < event.stop_s + _LINGER_S and event.start_s < other.stop_s + _LINGER_S
        ]
        drawn = rng.uniform((0.24, 0.26), (ASPECT - 0.24, 0.74), (40, 2))
        gaps = [min((math.dist(place, other) for other in busy), default=1.0) for place in drawn]
        best = next((i for i, gap in enumerate(gaps) if gap > _APART), int(np.argmax(gaps)))
        chosen.append((float(drawn[best, 0]), float(drawn[best, 1])))
    return chosen


_LINGER_S = 1.0
_APART = 0.45


@dataclass(frozen=True, slots=True)
class Detection:
    """One box (x1, y1, x2, y2 in 0..1 of the frame) that a detector of actors might give, with its score."""

    second: int
    box: Box
    score: float


def detections(rng: np.random.Generator, scene: Scene, duration_s: float) -> list[Detection]:
    """What a fair detector would find once a second: performers, jittered, one in twenty missed; one in three of the
    other actors on the screen, and now and then nothing at all, with lower scores.
    """
    found = []
    for second in range(int(duration_s)):
        boxes = [
            Detection(second, _jittered(rng, scene.box(actor, second)), _score(rng, performs=performs))
            for actor, performs in _on_screen(scene, second)
            if rng.random() < (0.95 if performs else 0.33)
        ]
        if rng.random() < 0.05:
            x, y, size = rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.8), rng.uniform(0.07, 0.2)
            boxes.append(Detection(second, _jittered(rng, (x - size, y - size, x + size, y + size)), _score(rng)))
        found += sorted(boxes, key=lambda detection: -detection.score)
    return [d for d in found if d.box[0] < d.box[2] and d.box[1] < d.box[3]]


def _on_screen(scene: Scene, second: int) -> Iterator[tuple[Actor, bool]]:
    for actor in scene.actors:
        performs = actor.event is not None and actor.event.start_s <= second < actor.event.stop_s
        if performs or actor.opacity(second) > 0.5:
            yield actor, performs


def _jittered(rng: np.random.Generator, box: Box) -> Box:
    x1, y1, x2, y2 = box
    shift, stretch = rng.normal(0, 0.05, 2), np.exp(rng.normal(0, 0.06, 2)) / 2
    x, y = (x1 + x2) / 2 + shift[0] * (x2 - x1), (y1 + y2) / 2 + shift[1] * (y2 - y1)
    width, height = stretch * (x2 - x1, y2 - y1)
    corners = np.clip((x - width, y - height, x + width, y + height), 0, 1)
    return tuple(float(corner) for corner in corners)  # type: ignore[return-value]


def _score(rng: np.random.Generator, *, performs: bool = False) -> float:
    middle, spread = (0.94, 0.04) if performs else (0.70, 0.14)
    return float(np.clip(rng.normal(middle, spread), 0.05, 0.999))
