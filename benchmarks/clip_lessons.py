"""Two lessons on time, as experiments: what happens at another moment than in training, and how far memory reaches.

A disc, grey else, is blue for two frames and orange for two; which came first? No share of colours tells. *Shift*: one
follows the other at one moment in training; the test moves the moment. *Distance*: grey frames lie between, few in
training and more in the test. Clips of 32 x 32 pixels, drawn with noise.

    python -m benchmarks.clip_lessons [--seeds N]

writes ``results/clip_lessons.json``, and tables and figure of docs/clip-models.md.
"""

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from benchmarks.common import fill_table, save
from extract.backbones import backbone_spec
from pipelines.pretraining.loop import Loop, scores
from pipelines.pretraining.pool import Pool
from pipelines.pretraining.run import new_network
from pipelines.pretraining.settings import PretrainSettings
from pipelines.pretraining.views import Turns

DOCS = Path(__file__).parents[1] / "docs"
SIDE_PX, PULSE = 32, 2
TRAINED_AT = 3  # the moment of training in the lesson on shift, in frames
GAPS = (0, 1, 2, 3, 4, 6, 8, 10, 12, 14, 16, 18, 20)
TRAINED_APART = 2  # at most, in the lesson on distance, in frames
CLIPS, TESTED = 1600, 300
SETTINGS = PretrainSettings(epochs=8, batch=32, lr=3e-3)
GREY, BLUE, ORANGE = (np.array(colour, np.float32) for colour in ((120, 120, 120), (60, 100, 220), (240, 150, 50)))
MODELS = {
    "late fusion, mean": "frames",
    "late fusion, fully connected": "late",
    "early fusion": "early",
    "slow fusion (3D CNN)": "slow",
    "inflated kernels": "inflated",
    "CNN + LSTM": "lstm",
    "3D CNN + non-local": "nonlocal",
    "recurrent CNN, GRU": "rcn-gru",
}
Pair = tuple[int, int]  # frames at which the first and the second colour begin


@dataclass(frozen=True)
class Lesson:
    """Clips of ``frames`` frames; pairs of the training, and of each test with its number in figure and table."""

    name: str
    title: str
    label: str
    frames: int
    train: list[Pair]
    tests: dict[int, list[Pair]]


def shift() -> Lesson:
    """One colour follows the other, at frame 3 of 16 in training."""
    at = range(16 - 2 * PULSE + 1)
    tests = {first: [(first, first + PULSE)] for first in at}
    title = f"Shift: trained at frame {TRAINED_AT}"
    return Lesson("shift", title, "first frame of the change", 16, tests[TRAINED_AT], tests)


def distance() -> Lesson:
    """So many frames between the colours, anywhere in 24 frames."""
    frames = 24
    tests = {gap: [(at, at + PULSE + gap) for at in range(frames - 2 * PULSE - gap + 1)] for gap in GAPS}
    train = [pair for gap in range(TRAINED_APART + 1) for pair in tests[gap]]
    title = f"Distance: trained at 0 to {TRAINED_APART} frames between"
    return Lesson("distance", title, "frames between the colours", frames, train, tests)


def clip(rng: np.random.Generator, frames: int, pair: Pair, *, orange_first: bool) -> NDArray[np.uint8]:
    """(T, H, W, 3): colours for `PULSE` frames from both frames of ``pair`` on."""
    colours = np.tile(GREY, (frames, 1))
    for at, colour in zip(pair, (ORANGE, BLUE) if orange_first else (BLUE, ORANGE), strict=True):
        colours[at : at + PULSE] = colour
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    middle, radius = rng.uniform(10, 22, 2), rng.uniform(5, 9)
    disc = ((y - middle[0]) ** 2 + (x - middle[1]) ** 2 < radius**2)[None, :, :, None]
    background = rng.uniform(40, 200, 3) + rng.normal(0, 20, (SIDE_PX, SIDE_PX, 3))
    seen = np.where(disc, colours[:, None, None], background) + rng.normal(0, 12, (frames, SIDE_PX, SIDE_PX, 3))
    return np.clip(seen, 0, 255).astype(np.uint8)


def pool(seed: int, count: int, frames: int, pairs: list[Pair]) -> Pool:
    """Clips of both classes, each with its colours at one of ``pairs``."""
    rng = np.random.default_rng(seed)
    classes = rng.permutation(np.arange(count) % 2)
    chosen = [pairs[i] for i in rng.integers(len(pairs), size=count)]
    clips = [clip(rng, frames, pair, orange_first=bool(label)) for label, pair in zip(classes, chosen, strict=True)]
    shapes = np.tile([frames, SIDE_PX, SIDE_PX, 3], (count, 1))
    return Pool(np.concatenate([each.ravel() for each in clips]), shapes, np.eye(2, dtype=np.float32)[classes])


def accuracies(family: str, seed: int, lesson: Lesson) -> list[float]:
    """Accuracy on each test of ``lesson`` after its training."""
    torch.set_num_threads(1)
    began = time.monotonic()
    name = f"{family}:small:{lesson.frames}x{SIDE_PX}"
    spec = backbone_spec(name)
    torch.manual_seed(seed)
    network = new_network(name, spec, 2, None)
    device = torch.device("cpu")
    loop = Loop(network, pool(seed, CLIPS, lesson.frames, lesson.train), spec.clips, Turns(), SETTINGS, seed, device)
    for _ in range(SETTINGS.epochs):
        loop.run_epoch(lambda _at: None)
    found = []
    for number, pairs in lesson.tests.items():
        held_out = pool(10_000 + 100 * seed + number, TESTED, lesson.frames, pairs)
        rows = scores(network, held_out, spec.clips, times=1, crops=1, device=device)
        found.append(float((rows.argmax(1) == held_out.targets.argmax(1)).mean()))
    shown = " ".join(f"{value:.2f}" for value in found)
    print(f"{lesson.title}: {family}, seed {seed}: {shown} ({time.monotonic() - began:.0f} s)", flush=True)
    return found


Found = dict[str, list[list[float]]]  # for every model, a row of accuracies for each seed


def learn(lessons: list[Lesson], seeds: int) -> list[Found]:
    """What every model knows after each of ``lessons``; one process a core."""
    runs = [(lesson, family, seed) for lesson in lessons for family in MODELS.values() for seed in range(seeds)]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as processes:
        rows = [processes.submit(accuracies, family, seed, lesson) for lesson, family, seed in runs]
        found = iter([row.result() for row in rows])
    return [{model: [next(found) for _ in range(seeds)] for model in MODELS} for _ in lessons]


def draw_figure(lessons: list[Lesson], found: list[Found], path: Path) -> None:
    """A panel a lesson, a line a model."""
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    for axes, lesson, models in zip(figure.subplots(1, 2, sharey=True), lessons, found, strict=True):
        for model, rows in models.items():
            axes.plot([*lesson.tests], np.mean(rows, 0), marker="o", ms=3, label=model)
        trained = [number for number, pairs in lesson.tests.items() if set(pairs) <= set(lesson.train)]
        axes.axvspan(min(trained) - 0.3, max(trained) + 0.3, color="0.9", lw=0)
        axes.axhline(0.5, color="0.6", lw=0.8, ls=":")
        axes.set_title(lesson.title)
        axes.set_xlabel(lesson.label)
        axes.set_ylim(0, 1.03)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.axes[0].set_ylabel("accuracy (grey: as trained, dotted: chance)")
    lines, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside right center", frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Both lessons, as a table, JSON and a figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    lessons = [shift(), distance()]
    found = learn(lessons, parser.parse_args().seeds)
    kept = {
        lesson.name: {"trained": lesson.train, "tested": [*lesson.tests], "found": models}
        for lesson, models in zip(lessons, found, strict=True)
    }
    save("clip_lessons", __doc__.splitlines()[0], kept)
    draw_figure(lessons, found, DOCS / "pictures/clip-lessons.png")
    for lesson, models in zip(lessons, found, strict=True):
        rows = [[model, *(f"{value:.2f}" for value in np.mean(each, 0))] for model, each in models.items()]
        fill_table(DOCS / "clip-models.md", lesson.name, [lesson.label, *map(str, lesson.tests)], rows)


if __name__ == "__main__":
    main()
