"""Two lessons on time, as experiments: what happens at another moment than in training, and how far memory reaches.

*Shift*: a disc turns blue and then orange, or orange and then blue, grey before and after, always at one moment in
training; the test moves the moment. *Distance*: a disc is blue for a moment and orange for another, so many frames
apart; which came first? No share of colours tells either. Clips of 16 frames of 32 x 32 pixels, drawn with noise.

    python -m benchmarks.clip_lessons [--seeds N]

writes ``results/clip_lessons.json``, and tables and figure of docs/clip-models.md.
"""

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.common import fill_table, save
from extract.backbones import backbone_spec
from pipelines.pretraining.loop import Loop, scores
from pipelines.pretraining.pool import Pool
from pipelines.pretraining.run import new_network
from pipelines.pretraining.settings import PretrainSettings
from pipelines.pretraining.views import Turns

DOCS = Path(__file__).parents[1] / "docs"
FRAMES, SIDE_PX, PULSE = 16, 32, 2
TRAINED_AT = 3  # the moment of training, in frames
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
    "recurrent CNN, GRU": "rcn-gru",
}


def clip(rng: np.random.Generator, *, first: int, second: int, orange_first: bool) -> NDArray[np.uint8]:
    """(T, H, W, 3): colours for `PULSE` frames from frame ``first`` and from frame ``second`` on."""
    colours = np.tile(GREY, (FRAMES, 1))
    early, late = (ORANGE, BLUE) if orange_first else (BLUE, ORANGE)
    colours[first : first + PULSE], colours[second : second + PULSE] = early, late
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    middle, radius = rng.uniform(10, 22, 2), rng.uniform(5, 9)
    disc = ((y - middle[0]) ** 2 + (x - middle[1]) ** 2 < radius**2)[None, :, :, None]
    background = rng.uniform(40, 200, 3) + rng.normal(0, 20, (SIDE_PX, SIDE_PX, 3))
    frames = np.where(disc, colours[:, None, None], background) + rng.normal(0, 12, (FRAMES, SIDE_PX, SIDE_PX, 3))
    return np.clip(frames, 0, 255).astype(np.uint8)


def pool(seed: int, count: int, moments: list[tuple[int, int]]) -> Pool:
    """Clips of both classes, whose pulses are at one of ``moments`` each."""
    rng = np.random.default_rng(seed)
    classes = rng.permutation(np.arange(count) % 2)
    chosen = [moments[i] for i in rng.integers(len(moments), size=count)]
    clips = [
        clip(rng, first=first, second=second, orange_first=bool(label))
        for label, (first, second) in zip(classes, chosen, strict=True)
    ]
    shapes = np.tile([FRAMES, SIDE_PX, SIDE_PX, 3], (count, 1))
    return Pool(np.concatenate([each.ravel() for each in clips]), shapes, np.eye(2, dtype=np.float32)[classes])


def accuracies(family: str, seed: int, train: list[tuple[int, int]], tests: list[list[tuple[int, int]]]) -> list[float]:
    """Accuracy on each of ``tests`` after training on ``train``."""
    torch.set_num_threads(1)
    began = time.monotonic()
    name = f"{family}:small:{FRAMES}x{SIDE_PX}"
    spec = backbone_spec(name)
    torch.manual_seed(seed)
    network = new_network(name, spec, 2, None)
    device = torch.device("cpu")
    loop = Loop(network, pool(seed, CLIPS, train), spec.clips, Turns(), SETTINGS, seed, device)
    for _ in range(SETTINGS.epochs):
        loop.run_epoch(lambda _at: None)
    found = []
    for number, moments in enumerate(tests):
        held_out = pool(10_000 + 100 * seed + number, TESTED, moments)
        rows = scores(network, held_out, spec.clips, times=1, crops=1, device=device)
        found.append(float((rows.argmax(1) == held_out.targets.argmax(1)).mean()))
    shown = " ".join(f"{value:.2f}" for value in found)
    print(f"{family}, seed {seed}: {shown} ({time.monotonic() - began:.0f} s)", flush=True)
    return found


def lesson(
    seeds: int, train: list[tuple[int, int]], tests: list[list[tuple[int, int]]]
) -> dict[str, list[list[float]]]:
    """For every model, a row of accuracies for each seed; one process a core."""
    runs = [(family, seed) for family in MODELS.values() for seed in range(seeds)]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as processes:
        rows = processes.map(partial(accuracies, train=train, tests=tests), *zip(*runs, strict=True))
        return {model: [next(rows) for _ in range(seeds)] for model in MODELS}


def draw_figure(lessons: list[tuple[str, str, list[int], dict[str, list[list[float]]]]], path: Path) -> None:
    """A panel a lesson, a line a model."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, (title, label, at, found) in zip(figure.subplots(1, 2, sharey=True), lessons, strict=True):
        for model, rows in found.items():
            axes.plot(at, np.mean(rows, 0), marker="o", ms=3, label=model)
        axes.axhline(0.5, color="0.6", lw=0.8, ls=":")
        axes.set_title(title)
        axes.set_xlabel(label)
        axes.set_ylim(0, 1.03)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.axes[0].axvline(TRAINED_AT, color="0.6", lw=0.8)
    figure.axes[0].set_ylabel("accuracy (dotted: chance)")
    figure.axes[1].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Both lessons, as a table, JSON and a figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    moments = list(range(FRAMES - 2 * PULSE + 1))
    print("shift: change at frame", moments)
    shift = lesson(seeds, [(TRAINED_AT, TRAINED_AT + PULSE)], [[(at, at + PULSE)] for at in moments])
    gaps = list(range(FRAMES - 2 * PULSE + 1))
    by_gap = [[(at, at + PULSE + gap) for at in range(FRAMES - 2 * PULSE - gap + 1)] for gap in gaps]
    print("distance: frames between", gaps)
    distance = lesson(seeds, [pair for pairs in by_gap for pair in pairs], by_gap)
    result = {"moments": moments, "trained_at": TRAINED_AT, "shift": shift, "gaps": gaps, "distance": distance}
    save("clip_lessons", __doc__.splitlines()[0], result)
    panels = [
        (f"Shift: trained at frame {TRAINED_AT}", "first frame of the change in the test", moments, shift),
        ("Distance: trained at all distances", "frames between the two", gaps, distance),
    ]
    draw_figure(panels, DOCS / "pictures/clip-lessons.png")
    for name, label, (_, _, at, found) in (("shift", "change at", panels[0]), ("distance", "apart", panels[1])):
        rows = [[model, *(f"{value:.2f}" for value in np.mean(each, 0))] for model, each in found.items()]
        fill_table(DOCS / "clip-models.md", name, [label, *map(str, at)], rows)


if __name__ == "__main__":
    main()
