"""Scenes: actors with random looks on textured, moving, noisy backgrounds, drawn frame by frame.

H, W are pixels; lengths are in units of the frame's height; times in seconds.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipelines.synthetic.verbs import COLOUR_VERBS, PAIR_VERBS, TAU, Event, Manner, Pose, draw_manner, pose_at

HEIGHT_PX, WIDTH_PX = 120, 160
ASPECT = WIDTH_PX / HEIGHT_PX
FADE_S = 0.8  # actors enter and leave by fading: a change that is no verb
MARGIN = 0.25  # of the height: how far the background texture reaches beyond the frame

Floats = NDArray[np.float32]
Box = tuple[float, float, float, float]


def _polygon(n: int) -> Callable[[Floats], Floats]:
    def radius(theta: Floats) -> Floats:
        edge: Floats = math.cos(math.pi / n) / np.cos(theta % (TAU / n) - math.pi / n)
        return edge

    return radius


def _petals(n: int, depth: float) -> Callable[[Floats], Floats]:
    return lambda theta: np.asarray(1 - depth + depth * np.cos(n * theta), np.float32)


def _bar(theta: Floats) -> Floats:
    return np.asarray(0.45 / np.hypot(0.45 * np.cos(theta), np.sin(theta)), np.float32)


# Nouns: outline radius in units of the actor's size, at each angle around its middle.
NOUNS: dict[str, Callable[[Floats], Floats]] = {
    "disc": lambda theta: np.ones_like(theta),
    "triangle": _polygon(3),
    "square": _polygon(4),
    "pentagon": _polygon(5),
    "bar": _bar,
    "star": _petals(5, 0.28),
    "flower": _petals(7, 0.18),
    "drop": _petals(1, 0.30),
}

# Textures: brightness 0..1 at local coordinates (u, v) in units of the actor's size. None is uniform, so
# that a turning disc is seen to turn.
TEXTURES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "half": lambda u, v: (u + 0.0 * v > 0).astype(np.float32),
    "stripes": lambda u, v: (np.sin(7.0 * u + 0.0 * v) > 0).astype(np.float32),
    "shade": lambda u, v: np.clip(0.5 + 0.5 * u + 0.2 * v, 0, 1),
    "spot": lambda u, v: ((u - 0.4) ** 2 + v**2 > 0.09).astype(np.float32),
}


@dataclass(frozen=True, slots=True)
class Look:
    """Noun, texture and the two colours (0..255) between which ``Pose.mix`` chooses."""

    noun: str
    texture: str
    blue: tuple[float, float, float]
    orange: tuple[float, float, float]
    contrast: float


@dataclass(frozen=True, slots=True)
class Actor:
    """A drawn thing. Without an event it is a distractor: it only sways a little."""

    look: Look
    rest: Pose
    enters_s: float
    leaves_s: float
    sway: tuple[float, float, float]  # amplitude, radians per second, phase
    event: Event | None = None
    how: Manner | None = None

    def pose(self, t: float) -> Pose:
        """Pose at second ``t``, with the sway that every actor has."""
        pose = pose_at(self.rest, self.event, self.how, t)
        amplitude, speed, phase = self.sway
        return replace(
            pose,
            x=pose.x + amplitude * math.sin(speed * t + phase),
            y=pose.y + amplitude * math.cos(0.7 * speed * t + phase),
        )

    def opacity(self, t: float) -> float:
        """0..1 at second ``t``: fading in after ``enters_s``, out before ``leaves_s``."""
        return float(np.clip(min(t - self.enters_s, self.leaves_s - t) / FADE_S, 0, 1))


@dataclass(frozen=True, slots=True)
class Layer:
    """One background texture (H', W', 3) and its wandering: amplitude and angular speed in x and y."""

    texture: Floats
    amplitude: tuple[float, float]
    speed: tuple[float, float]
    phase: tuple[float, float]

    def offset(self, t: float) -> tuple[float, float]:
        """Shift (x, y) at second ``t``, within ±MARGIN."""
        ax, ay = self.amplitude
        return (
            ax * math.sin(self.speed[0] * t + self.phase[0]),
            ay * math.sin(self.speed[1] * t + self.phase[1]),
        )


@dataclass(frozen=True)
class Scene:
    """Everything that is needed to draw the frame of any second. ``camera`` moves the world and its actors."""

    actors: tuple[Actor, ...]
    camera: Layer
    haze: Layer
    noise: Floats  # (K, H, W): a few noise images, one chosen for each frame
    seed: int

    def frame(self, t: float) -> NDArray[np.uint8]:
        """The picture at second ``t``: (H, W, 3) uint8 RGB."""
        canvas = 0.7 * _shifted(self.camera.texture, self.camera.offset(t))
        canvas += 0.3 * _shifted(self.haze.texture, self.haze.offset(t))
        for actor in self.actors:
            _draw(canvas, actor, t, self.camera.offset(t))
        tick = hash((self.seed, round(t * 90_000)))
        noise = np.roll(self.noise[tick % len(self.noise)], (tick // 7) % HEIGHT_PX, axis=0)
        picture: NDArray[np.uint8] = np.clip(canvas + noise[..., None], 0, 255).astype(np.uint8)
        return picture

    def boxes(self, t: float) -> list[tuple[int, Event, Box]]:
        """(actor number, event, (x1, y1, x2, y2) in 0..1 of the frame) of each actor performing at ``t``."""
        return [
            (number, actor.event, self.box(actor, t))
            for number, actor in enumerate(self.actors)
            if actor.event is not None and actor.event.start_s <= t < actor.event.stop_s
        ]

    def box(self, actor: Actor, t: float) -> Box:
        """(x1, y1, x2, y2) of ``actor`` at second ``t`` in 0..1 of the frame, cut at its edges."""
        dx, dy = self.camera.offset(t)
        p = actor.pose(t)
        x1, x2 = (np.clip((p.x - dx + side * p.size) / ASPECT, 0, 1) for side in (-1, 1))
        y1, y2 = (np.clip(p.y - dy + side * p.size, 0, 1) for side in (-1, 1))
        return float(x1), float(y1), float(x2), float(y2)


def _shifted(texture: Floats, offset: tuple[float, float]) -> Floats:
    """The (H, W, 3) window of ``texture`` at ``offset``, bilinear between pixels."""
    margin_px = MARGIN * HEIGHT_PX
    x, y = margin_px + offset[0] * HEIGHT_PX, margin_px + offset[1] * HEIGHT_PX
    col, row = int(x), int(y)
    fx, fy = np.float32(x - col), np.float32(y - row)
    block = texture[row : row + HEIGHT_PX + 1, col : col + WIDTH_PX + 1]
    rows = block[:-1] * (1 - fy) + block[1:] * fy
    return (rows[:, :-1] * (1 - fx) + rows[:, 1:] * fx).astype(np.float32)


def _draw(canvas: Floats, actor: Actor, t: float, camera: tuple[float, float]) -> None:
    """Blend ``actor`` into ``canvas`` (H, W, 3) in place."""
    opacity = actor.opacity(t)
    pose = actor.pose(t)
    if opacity == 0 or not pose.visible:
        return
    x_px, y_px = (pose.x - camera[0]) * HEIGHT_PX, (pose.y - camera[1]) * HEIGHT_PX
    size_px = pose.size * HEIGHT_PX
    reach = size_px * 1.05 + 1
    top, bottom = max(0, int(y_px - reach)), min(HEIGHT_PX, int(y_px + reach) + 2)
    left, right = max(0, int(x_px - reach)), min(WIDTH_PX, int(x_px + reach) + 2)
    if top >= bottom or left >= right:
        return
    dy = ((np.arange(top, bottom, dtype=np.float32) - y_px) / size_px)[:, None]
    dx = ((np.arange(left, right, dtype=np.float32) - x_px) / size_px)[None, :]
    cos, sin = math.cos(pose.angle), math.sin(pose.angle)
    u, v = dx * cos - dy * sin, dx * sin + dy * cos
    outline = NOUNS[actor.look.noun](np.arctan2(v, u))
    cover = np.clip((outline - np.hypot(u, v)) * size_px + 0.5, 0, 1) * opacity
    blue, orange = np.array((actor.look.blue, actor.look.orange), np.float32)
    shade = 1 - actor.look.contrast * (1 - TEXTURES[actor.look.texture](u, v))
    colour = (blue + (orange - blue) * np.float32(pose.mix)) * shade[..., None]
    patch = canvas[top:bottom, left:right]
    patch += (colour - patch) * cover[..., None]


def compose(
    rng: np.random.Generator,
    *,
    events: Sequence[Event],
    duration_s: float,
    distractors: int,
    places: Sequence[tuple[float, float]] | None = None,
) -> Scene:
    """A random scene in which each of ``events`` is performed by actors of its own (two for approach, part).

    ``places`` has the middle (x, y) of each event; by default all are near the middle of the frame.
    """
    actors = [_distractor(rng, duration_s) for _ in range(distractors)]
    for i, event in enumerate(events):
        actors.extend(_performers(rng, event, None if places is None else places[i]))
    order = rng.permutation(len(actors))
    return Scene(
        actors=tuple(actors[i] for i in order),
        camera=_layer(rng, 0.10),
        haze=_layer(rng, 0.20),
        noise=rng.normal(0, rng.uniform(2, 7), (4, HEIGHT_PX, WIDTH_PX)).astype(np.float32),
        seed=int(rng.integers(2**31)),
    )


def _look(rng: np.random.Generator, *, family: bool) -> Look:
    """``family``: on the way from blue to orange; otherwise of any colour (both ends the same)."""
    jitter = rng.uniform(-25, 25, (2, 3))
    blue, orange = np.clip(np.array([(40, 90, 225), (245, 140, 30)]) + jitter, 0, 255)
    if not family:
        blue = orange = rng.uniform(20, 255, 3)
    return Look(
        noun=str(rng.choice(list(NOUNS))),
        texture=str(rng.choice(list(TEXTURES))),
        blue=(float(blue[0]), float(blue[1]), float(blue[2])),
        orange=(float(orange[0]), float(orange[1]), float(orange[2])),
        contrast=float(rng.uniform(0.45, 0.8)),
    )


def _rest(rng: np.random.Generator, spread: float) -> Pose:
    """A pose in the middle of the frame, at most ``spread`` away from it in x and y."""
    return Pose(
        x=ASPECT / 2 + rng.uniform(-spread, spread),
        y=0.5 + rng.uniform(-spread, spread),
        size=rng.uniform(0.09, 0.15),
        angle=rng.uniform(0, TAU),
        mix=rng.uniform(0, 1),
    )


def _sway(rng: np.random.Generator) -> tuple[float, float, float]:
    return (rng.uniform(0, 0.012), rng.uniform(0.8, 1.8), rng.uniform(0, TAU))


def _distractor(rng: np.random.Generator, duration_s: float) -> Actor:
    """Present throughout, or for a random part of the time."""
    enters, leaves = -2 * FADE_S, duration_s + 2 * FADE_S
    if rng.random() < 0.4:
        enters, leaves = sorted(rng.uniform(-FADE_S, duration_s + FADE_S, 2))
    look = _look(rng, family=rng.random() < 0.6)
    return Actor(look, _rest(rng, 0.42), enters, leaves, _sway(rng))


def _performers(rng: np.random.Generator, event: Event, place: tuple[float, float] | None) -> list[Actor]:
    how = draw_manner(rng, event)
    enters = event.start_s - FADE_S - rng.uniform(0, 2.5)
    leaves = event.stop_s + FADE_S + rng.uniform(0, 2.5)
    rest = _rest(rng, 0.16)
    if place is not None:
        rest = replace(rest, x=place[0], y=place[1])
    if event.verb not in PAIR_VERBS:
        family = event.verb in COLOUR_VERBS or rng.random() < 0.6
        return [Actor(_look(rng, family=family), rest, enters, leaves, _sway(rng), event, how)]
    partners = []
    for turn in (0.0, math.pi):
        side = replace(how, phase=how.phase + turn)
        pose = replace(_rest(rng, 0.0), x=rest.x, y=rest.y, size=rng.uniform(0.07, 0.11))
        look = _look(rng, family=rng.random() < 0.6)
        partners.append(Actor(look, pose, enters, leaves, _sway(rng), event, side))
    return partners


def _layer(rng: np.random.Generator, amplitude: float) -> Layer:
    """A texture of a few random gratings; wanders by ``amplitude`` at most, slower than any verb."""
    height = int(HEIGHT_PX * (1 + 2 * MARGIN)) + 2
    width = int(WIDTH_PX + HEIGHT_PX * 2 * MARGIN) + 2
    rows, cols = np.mgrid[:height, :width].astype(np.float32)
    texture = np.tile(rng.uniform(50, 190, 3).astype(np.float32), (height, width, 1))
    for _ in range(5):
        angle, wavelength = rng.uniform(0, TAU), rng.uniform(8, 90)
        wave = np.sin(TAU / wavelength * (cols * math.cos(angle) + rows * math.sin(angle)) + rng.uniform(0, TAU))
        texture += wave[..., None] * rng.uniform(-22, 22, 3).astype(np.float32)
    return Layer(
        texture=np.clip(texture, 0, 255),
        amplitude=(rng.uniform(0, amplitude), rng.uniform(0, amplitude)),
        speed=(rng.uniform(0.1, 0.45), rng.uniform(0.1, 0.45)),
        phase=(rng.uniform(0, TAU), rng.uniform(0, TAU)),
    )
