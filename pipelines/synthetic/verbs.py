"""The verbs: sixteen ways to move that no single frame can tell, and the pose each gives at each second.

Lengths are in units of the frame's height, angles in radians (counter-clockwise as seen on the screen),
times in seconds. x grows to the right, y grows downwards.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

TAU = 2 * math.pi


@dataclass(frozen=True, slots=True)
class Pose:
    """Where and how an actor is drawn. ``size`` is its radius; ``mix`` runs from blue (0) to orange (1)."""

    x: float
    y: float
    size: float
    angle: float
    mix: float
    visible: bool = True


@dataclass(frozen=True, slots=True)
class Event:
    """One performance of ``verb`` during the half-open interval [start_s, stop_s)."""

    verb: str
    start_s: float
    stop_s: float


@dataclass(frozen=True, slots=True)
class Manner:
    """How strongly a performance is made, drawn once for each event.

    ``reach``: length of a slide or of an approach; ``factor``: ratio of the sizes of grow and shrink;
    ``rate``: radians per second of rotate; ``cycles``: periods per second of what repeats;
    ``spin``: +1 or -1, the sense of an orbit; ``phase``: radians at which an orbit begins.
    """

    reach: float
    factor: float
    rate: float
    cycles: float
    spin: float
    phase: float


def draw_manner(rng: np.random.Generator, event: Event) -> Manner:
    """Random strength of ``event``; reach and factor grow with its duration so that the speed stays visible."""
    duration_s = event.stop_s - event.start_s
    return Manner(
        reach=min(0.62, rng.uniform(0.17, 0.25) * duration_s),
        factor=math.exp(min(1.2, rng.uniform(0.28, 0.40) * duration_s)),
        rate=rng.uniform(1.3, 2.6),
        cycles=rng.uniform(*_CYCLES.get(event.verb, (1.0, 1.0))),
        spin=rng.choice((-1.0, 1.0)),
        phase=rng.uniform(0, TAU),
    )


# Periods per second; the fastest stays under half of 10 samples per second.
_CYCLES = {"bounce": (0.8, 1.4), "shake": (2.2, 3.4), "blink": (1.2, 2.4), "orbit": (0.45, 0.8)}

# A motion: (rest pose, progress 0..1, seconds since the start, manner) -> pose.
Motion = Callable[[Pose, float, float, Manner], Pose]


def _slide(dx: float, dy: float) -> Motion:
    def motion(rest: Pose, progress: float, _t: float, how: Manner) -> Pose:
        along = (progress - 0.5) * how.reach
        return replace(rest, x=rest.x + dx * along, y=rest.y + dy * along)

    return motion


def _rotate(sense: float) -> Motion:
    def motion(rest: Pose, _progress: float, t: float, how: Manner) -> Pose:
        return replace(rest, angle=rest.angle + sense * how.rate * t)

    return motion


def _scale(sense: float) -> Motion:
    def motion(rest: Pose, progress: float, _t: float, how: Manner) -> Pose:
        return replace(rest, size=rest.size * how.factor ** (sense * (progress - 0.5)))

    return motion


def _recolour(start: float, stop: float) -> Motion:
    def motion(rest: Pose, progress: float, _t: float, _how: Manner) -> Pose:
        return replace(rest, mix=start + (stop - start) * progress)

    return motion


def _bounce(rest: Pose, _progress: float, t: float, how: Manner) -> Pose:
    return replace(rest, y=rest.y - 0.16 * abs(math.sin(math.pi * how.cycles * t)))


def _shake(rest: Pose, _progress: float, t: float, how: Manner) -> Pose:
    return replace(rest, x=rest.x + 0.04 * math.sin(TAU * how.cycles * t))


def _blink(rest: Pose, _progress: float, t: float, how: Manner) -> Pose:
    return replace(rest, visible=(how.cycles * t) % 1.0 < 0.55)


def _orbit(rest: Pose, _progress: float, t: float, how: Manner) -> Pose:
    turn = how.phase + how.spin * TAU * how.cycles * t
    return replace(rest, x=rest.x + 0.14 * math.cos(turn), y=rest.y + 0.14 * math.sin(turn))


def _meet(sense: float) -> Motion:
    """One of two partners: apart along ``phase`` by a distance that shrinks (``sense`` -1) or grows (+1)."""

    def motion(rest: Pose, progress: float, _t: float, how: Manner) -> Pose:
        gap = 0.11 + how.reach / 2 * (progress if sense > 0 else 1 - progress)
        return replace(rest, x=rest.x + gap * math.cos(how.phase), y=rest.y + gap * math.sin(how.phase))

    return motion


MOTIONS: dict[str, Motion] = {
    "slide_left": _slide(-1, 0),
    "slide_right": _slide(1, 0),
    "slide_up": _slide(0, -1),
    "slide_down": _slide(0, 1),
    "rotate_cw": _rotate(-1),
    "rotate_ccw": _rotate(1),
    "grow": _scale(1),
    "shrink": _scale(-1),
    "bounce": _bounce,
    "shake": _shake,
    "blink": _blink,
    "blue_to_orange": _recolour(0.0, 1.0),
    "orange_to_blue": _recolour(1.0, 0.0),
    "orbit": _orbit,
    "approach": _meet(-1),
    "part": _meet(1),
}
VERBS = tuple(MOTIONS)
PAIR_VERBS = frozenset({"approach", "part"})
COLOUR_VERBS = frozenset({"blue_to_orange", "orange_to_blue"})

# The verb that the same pixels show when mirrored left-right, and when played backwards.
MIRRORED = {"slide_left": "slide_right", "rotate_cw": "rotate_ccw"}
MIRRORED |= {b: a for a, b in MIRRORED.items()}
REVERSED = MIRRORED | {
    "slide_up": "slide_down",
    "slide_down": "slide_up",
    "grow": "shrink",
    "shrink": "grow",
    "blue_to_orange": "orange_to_blue",
    "orange_to_blue": "blue_to_orange",
    "approach": "part",
    "part": "approach",
}


def pose_at(rest: Pose, event: Event | None, how: Manner | None, t: float) -> Pose:
    """Pose at second ``t``: before the event as at its first instant, after it as at its last."""
    if event is None or how is None:
        return rest
    duration_s = event.stop_s - event.start_s
    since_s = min(max(t - event.start_s, 0.0), duration_s)
    pose = MOTIONS[event.verb](rest, since_s / duration_s, since_s, how)
    return pose if event.start_s <= t < event.stop_s else replace(pose, visible=True)
