"""Training the embedded backbone on trimmed motion worlds, from nothing, by one command::

    python -m pipelines.pretrain -o FOLDER

which writes the weights, their figures and their card.
Every clip is rendered, encoded as H.264, and decoded and resized by the project's own reader, so that the network
learns from pictures as extraction will show them. Seeds are apart from every seed that ``untrimmed synthesize``
accepts (those are below ``FIRST_SEED``).
"""

import argparse
import json
import math
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn

from extract.backbones import BACKBONES, EMBEDDED
from extract.backbones.tiny import TinyR2Plus1D
from extract.engine import has_amx
from extract.video import read_frames
from pipelines.synthetic.encode import CLIP, write_video
from pipelines.synthetic.scene import compose
from pipelines.synthetic.verbs import MIRRORED, REVERSED, VERBS, Event

FIRST_SEED = 2**40
IDLE = "idle"
CLASSES = (*VERBS, IDLE)
CLIPS = BACKBONES[EMBEDDED].clips
FRAMES, SIDE_PX = CLIPS.clip_frames, CLIPS.crop_px
CLIP_S = FRAMES / float(CLIPS.fps)
MEAN, STD = CLIPS.mean[0], CLIPS.std[0]  # of the 0..1 range, every channel


@dataclass(frozen=True)
class Settings:
    """Amount of data and schedule. ``clips`` are distinct; each epoch sees all, mirrored or reversed at random."""

    clips: int = 16_000
    held_out: int = 1_600
    epochs: int = 5
    batch: int = 32
    lr: float = 2e-3
    weight_decay: float = 0.05
    warmup_steps: int = 300
    seed: int = FIRST_SEED


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


def render_clip(job: tuple[int, bool]) -> NDArray[np.uint8]:
    """One clip (T, H, W, 3) uint8 of (seed, single): drawn, encoded, and read as extraction would read it."""
    seed, single = job
    rng, events = clip_events(seed, single=single)
    scene = compose(rng, events=events, duration_s=CLIP_S, distractors=int(rng.integers(0, 4)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_video(path, scene.frame, CLIP, list(range(FRAMES)))
        frames = np.concatenate([batch.pixels for batch in read_frames(path, short_side=SIDE_PX)])
    left = (frames.shape[2] - SIDE_PX) // 2
    return frames[:, :, left : left + SIDE_PX]


def clip_pool(path: Path, seeds: range, *, single: bool, workers: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """All clips of ``seeds`` in a memory-mapped file (N, T, H, W, 3), and their targets (N, K).

    A file that an earlier run finished is used again.
    """
    targets = np.stack([clip_target(clip_events(seed, single=single)[1]) for seed in seeds])
    if path.exists():
        return np.load(path, mmap_mode="c"), targets
    unfinished = path.with_suffix(".part")
    pool = np.lib.format.open_memmap(unfinished, "w+", np.uint8, (len(seeds), FRAMES, SIDE_PX, SIDE_PX, 3))
    started = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(workers) as processes:
        jobs = ((seed, single) for seed in seeds)
        for i, clip in enumerate(processes.imap(render_clip, jobs, chunksize=16)):
            pool[i] = clip
            if (i + 1) % 1000 == 0:
                _say(f"rendered {i + 1} of {len(seeds)} clips, {(i + 1) / (time.monotonic() - started):.0f} clips/s")
    pool.flush()
    unfinished.rename(path)
    return pool, targets


def _permutation(swap: dict[str, str]) -> list[int]:
    return [CLASSES.index(swap.get(name, name)) for name in CLASSES]


_MIRROR, _REVERSE = _permutation(MIRRORED), _permutation(REVERSED)


def augment(
    clip: NDArray[np.uint8], target: NDArray[np.float32], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Mirror and reverse at random, with the verbs that the pixels then show."""
    if rng.random() < 0.5:
        clip, target = clip[:, :, ::-1], target[_MIRROR]
    if rng.random() < 0.5:
        clip, target = clip[::-1], target[_REVERSE]
    return clip, target


def to_input(clips: NDArray[np.uint8], *, frames: str) -> Tensor:
    """(B, T, H, W, 3) uint8 -> (B, 3, T, H, W) normalised; ``frames`` is "all" or "middle" (T = 1)."""
    if frames == "middle":
        clips = clips[:, FRAMES // 2 : FRAMES // 2 + 1]
    x = torch.from_numpy(np.ascontiguousarray(clips)).permute(0, 4, 1, 2, 3)
    return (x.float() / 255 - MEAN) / STD


def batches(
    pool: NDArray[np.uint8], targets: NDArray[np.float32], settings: Settings, epoch: int
) -> Iterator[tuple[NDArray[np.uint8], Tensor]]:
    """Augmented batches of one epoch, with brightness and contrast drawn per clip."""
    rng = np.random.default_rng([settings.seed, epoch])
    order = rng.permutation(len(pool))
    for at in range(0, len(order) - settings.batch + 1, settings.batch):
        pairs = [augment(pool[i], targets[i], rng) for i in order[at : at + settings.batch]]
        yield np.stack([p[0] for p in pairs]), torch.from_numpy(np.stack([p[1] for p in pairs]))


def learning_rate(settings: Settings, step: int, steps: int) -> float:
    """Linear warm-up, then a cosine down to zero."""
    if step < settings.warmup_steps:
        return settings.lr * (step + 1) / settings.warmup_steps
    done = (step - settings.warmup_steps) / max(1, steps - settings.warmup_steps)
    return settings.lr * 0.5 * (1 + math.cos(math.pi * done))


def _relit(x: Tensor) -> Tensor:
    """Another contrast and brightness for each clip of (B, C, T, H, W)."""
    contrast, brightness = torch.empty(2, len(x), 1, 1, 1, 1)
    relit: Tensor = x * contrast.uniform_(0.8, 1.2) + brightness.uniform_(-0.3, 0.3)
    return relit


def _autocast() -> torch.autocast:
    """bfloat16 where the processor multiplies it in hardware."""
    return torch.autocast("cpu", torch.bfloat16, enabled=has_amx())


def fit(pool: NDArray[np.uint8], targets: NDArray[np.float32], settings: Settings, *, frames: str) -> TinyR2Plus1D:
    """Train from random weights (seeded); ``frames`` as in `to_input`. Returns the network in eval mode."""
    torch.manual_seed(settings.seed % 2**63)
    model = TinyR2Plus1D(len(CLASSES)).to(memory_format=torch.channels_last_3d)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    )
    steps, step, started = settings.epochs * (len(pool) // settings.batch), 0, time.monotonic()
    for epoch in range(settings.epochs):
        total = 0.0
        for clips, target in batches(pool, targets, settings, epoch):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(settings, step, steps)
            x = _relit(to_input(clips, frames=frames)).contiguous(memory_format=torch.channels_last_3d)
            with _autocast():
                loss = nn.functional.cross_entropy(model(x), target, label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            step, total = step + 1, total + loss.item()
            if step % 100 == 0:
                left = (time.monotonic() - started) / step * (steps - step)
                _say(f"{frames}: step {step} of {steps}, loss {loss.item():.3f}, {left / 60:.0f} min left")
        _say(f"{frames}: epoch {epoch + 1}, mean loss {total / (len(pool) // settings.batch):.3f}")
    return model.eval()


def accuracy_per_verb(
    model: TinyR2Plus1D, pool: NDArray[np.uint8], targets: NDArray[np.float32], *, frames: str
) -> dict[str, float]:
    """Fraction right over the verbs (idle is not among the choices), for each verb and ``mean``."""
    hits: dict[str, list[bool]] = {verb: [] for verb in VERBS}
    with torch.inference_mode():
        for at in range(0, len(pool), 32):
            logits = model(to_input(pool[at : at + 32], frames=frames))[:, : len(VERBS)]
            for guess, target in zip(logits.argmax(1).tolist(), targets[at : at + 32], strict=True):
                truth = int(target.argmax())
                hits[VERBS[truth]].append(guess == truth)
    result = {verb: float(np.mean(found)) for verb, found in hits.items() if found}
    return result | {"mean": float(np.mean([hit for found in hits.values() for hit in found]))}


def card(figures: dict[str, Any]) -> str:
    """The model card of the weights with these figures (as in ``figures.json``)."""
    settings, moving, still = figures["settings"], figures["all"], figures["middle"]
    parameters = sum(p.numel() for p in TinyR2Plus1D(len(CLASSES)).parameters())
    rows = "".join(
        f"| {verb} | {moving['accuracy'][verb]:.3f} | {still['accuracy'][verb]:.3f} |\n" for verb in (*VERBS, "mean")
    )
    return _CARD.format(
        parameters=parameters / 1e6,
        seed=settings["seed"],
        clips=settings["clips"],
        held_out=settings["held_out"],
        epochs=settings["epochs"],
        moving_min=moving["train_s"] / 60,
        still_min=still["train_s"] / 60,
        rows=rows,
    )


_CARD = """# tiny_r2plus1d

The embedded backbone: an R(2+1)D residual network of {parameters:.2f} M parameters. Clips of 16 frames at 10
samples a second, 112 x 112 pixels, RGB in 0..1, mean 0.45 and standard deviation 0.225 in every channel; 256
features, the global mean before the linear layer. Apache-2.0.

## Data and training

{clips} clips of synthetic motion worlds (see docs/worlds.md), seeds from {seed} on, which `untrimmed
synthesize` refuses. Each is drawn, encoded as H.264, and read back as extraction reads: 8 % show no verb, 72 %
one, 20 % two at once. {epochs} epochs, mirrored and reversed in time at random with the verb that the pixels
then show; AdamW, cosine schedule, cross-entropy over 16 verbs and "idle". No real video, no human label.

    python -m pipelines.pretrain -o FOLDER

makes it again ({moving_min:.0f} minutes of training on one CPU core with AMX, {still_min:.0f} for the single-
frame network beside it; rendering comes first). Another machine or torch gives weights of the same quality, not
of the same bits.

## Held-out accuracy

{held_out} clips of seeds never trained on, one verb each, the best of 16 verbs (chance 0.0625). *Single frame*:
the same network, of equal size, trained the same way on the middle frame of each clip alone.

| verb | 16 frames | single frame |
|---|---|---|
{rows}
## Limits

It has seen drawn shapes only, and knows sixteen ways of moving. On real video its features are a motion
descriptor without any notion of people, objects or scenes: good for trying the tools, for tests and teaching,
not for publishing results about real actions. Verbs of objects smaller than about a tenth of the frame's
height, slower than about a tenth of it a second, or faster than 5 periods a second are not in its data. The
centre crop does not see the sides of a wide frame.
"""


def _say(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, flush=True)  # noqa: T201


def main() -> None:
    """Render, train both networks, measure, and write weights and figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=Settings.clips)
    parser.add_argument("--epochs", type=int, default=Settings.epochs)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    settings = Settings(clips=given.clips, epochs=given.epochs)
    given.out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    first = settings.seed
    pool = clip_pool(given.out / "pool.npy", range(first, first + settings.clips), single=False, workers=given.workers)
    apart = first + 10**9
    test = clip_pool(
        given.out / "test.npy", range(apart, apart + settings.held_out), single=True, workers=given.workers
    )
    _say("rendered")
    figures: dict[str, Any] = {"settings": settings.__dict__}
    for frames in ("all", "middle"):
        began = time.monotonic()
        model = fit(*pool, settings, frames=frames)
        figures[frames] = {
            "accuracy": accuracy_per_verb(model, *test, frames=frames),
            "train_s": time.monotonic() - began,
        }
        _say(f"{frames}: {figures[frames]}")
        if frames == "all":
            state = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
            (given.out / "tiny_r2plus1d.safetensors").write_bytes(save(state))
    figures["total_s"] = time.monotonic() - started
    (given.out / "figures.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
    (given.out / "tiny_r2plus1d.md").write_text(card(figures), encoding="utf-8")


if __name__ == "__main__":
    main()
