"""Made motion worlds as clips to pretrain on: the data of the embedded backbone.

Every clip is drawn, encoded as H.264, and decoded and resized by the project's own reader, so that the network learns
from pictures as extraction will show them. Seeds are apart from every seed that ``untrimmed synthesize`` accepts (those
are below ``FIRST_SEED``). K classes: the verbs, and "idle".
"""

import tempfile
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from extract.video import read_frames
from pipelines.pretraining.pool import Looks, OnClip, Pool, looked, pool_from
from pipelines.pretraining.views import Turns
from pipelines.synthetic.encode import CLIP, write_video
from pipelines.synthetic.scene import Scene, compose
from pipelines.synthetic.verbs import MIRRORED, REVERSED, VERBS, Event

FIRST_SEED = 2**40
IDLE = "idle"
CLASSES = (*VERBS, IDLE)
FRAMES = 16
CLIP_S = FRAMES / float(CLIP.rate)
_APART = 10**9  # the seeds of held-out clips from those of training

Draw = Callable[[int], tuple[Scene, NDArray[np.float32]]]


def sample_events(rng: np.random.Generator) -> list[Event]:
    """What happens in one clip of 1.6 s: nothing (8 %), one verb, or two at once (20 %)."""
    count = rng.choice((0, 1, 2), p=(0.08, 0.72, 0.20))
    events = []
    for verb in rng.choice(VERBS, count, replace=False):
        start_s = rng.uniform(-1.5, 0.25)
        events.append(Event(str(verb), start_s, max(1.4, start_s + rng.uniform(2.0, 3.5))))
    return events


def clip_events(seed: int, *, single: bool) -> tuple[np.random.Generator, list[Event]]:
    """The events of clip ``seed``, and the generator that goes on to its scene. ``single``: exactly one verb."""
    rng = np.random.default_rng(seed)
    events = sample_events(rng)
    while single and len(events) != 1:
        events = sample_events(rng)
    return rng, events


def clip_target(events: list[Event]) -> NDArray[np.float32]:
    """Distribution (K,) over CLASSES: equal shares of the events, or idle."""
    target = np.zeros(len(CLASSES), np.float32)
    for event in events:
        target[CLASSES.index(event.verb)] = 1 / len(events)
    target[-1] = not events
    return target


def draw(seed: int, *, single: bool) -> tuple[Scene, NDArray[np.float32]]:
    """The scene of clip ``seed``, and its target."""
    rng, events = clip_events(seed, single=single)
    scene = compose(rng, events=events, duration_s=CLIP_S, distractors=int(rng.integers(0, 4)))
    return scene, clip_target(events)


def filmed(scene: Scene, looks: Looks) -> NDArray[np.uint8]:
    """The middle square of ``scene`` (T, S, S, C), encoded and read as extraction would read it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_video(path, scene.frame, CLIP, list(range(FRAMES)))
        batches = read_frames(path, fps=looks.fps, short_side=looks.short_side_px)
        frames = np.concatenate([batch.pixels for batch in batches])
    left = (frames.shape[2] - looks.short_side_px) // 2
    frames = frames[:, :, left : left + looks.short_side_px]
    return looked(frames, looks)


def film(seed: int, looks: Looks, drawing: Draw) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Clip ``seed`` and its target."""
    scene, target = drawing(seed)
    return filmed(scene, looks), target


def world_pool(
    seeds: range, looks: Looks, folder: Path, drawing: Draw, *, name: str, workers: int, on_clip: OnClip
) -> Pool:
    """The clips of ``seeds``, or what an earlier call of this version with the same arguments made.

    Errors as `pool_of`.
    """
    key = f"{name} {seeds} {looks} {version('untrimmed')}"
    return pool_from(key, list(seeds), partial(film, looks=looks, drawing=drawing), folder, workers, on_clip)


def worlds(
    examples: int, looks: Looks, folder: Path, *, workers: int, on_clip: OnClip = lambda _done, _total: None
) -> tuple[Pool, Pool, Turns]:
    """Clips to train on, a tenth as many of one verb each to test on, and what they show when they are turned round."""
    apart = FIRST_SEED + _APART
    training = range(FIRST_SEED, FIRST_SEED + examples)
    held_out = range(apart, apart + max(1, examples // 10))
    pools = [
        world_pool(
            seeds,
            looks,
            folder,
            partial(draw, single=single),
            name=f"single={single}",
            workers=workers,
            on_clip=on_clip,
        )
        for seeds, single in ((training, False), (held_out, True))
    ]
    return pools[0], pools[1], Turns(_permutation(MIRRORED), _permutation(REVERSED))


def _permutation(swap: dict[str, str]) -> list[int]:
    return [CLASSES.index(swap.get(name, name)) for name in CLASSES]
