"""All families of clip models side by side on made motion worlds, with equal data, steps and clips.

Networks that begin with another's weights have that one's steps besides. Every clip has two answers: its verb
(motion: no single frame tells it) and the noun of its actor (appearance: any frame does). A network learns both at
once, and is asked for the best of 16 verbs and of 8 nouns.

    python -m benchmarks.clip_models FOLDER [--clips N] [--epochs N] [--seed K] [--only MODEL…]

keeps decoded clips, weights and figures of each model in FOLDER, so that it goes on where it was stopped; with every
model there it writes ``results/clip_models.json``, and table and figures of docs/clip-models.md.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.svm import LinearSVC

from benchmarks.common import fill_table, save
from extract.backbones import Backbone, backbone_spec, load_backbone
from extract.backbones.described import described_bytes
from extract.flow import Flow, FlowSettings, flow_frames
from pipelines.pretraining.fusing import averaged, stacked
from pipelines.pretraining.loop import Loop, scores
from pipelines.pretraining.pool import Looks, Pool, pool_from
from pipelines.pretraining.run import clips_of, new_network
from pipelines.pretraining.settings import PretrainSettings
from pipelines.pretraining.views import Turns, to_input
from pipelines.pretraining.worlds import CLIP_S, FIRST_SEED, clip_events, world_pool
from pipelines.synthetic.scene import NOUNS, Scene, compose
from pipelines.synthetic.verbs import MIRRORED, REVERSED, VERBS

CLASSES = (*VERBS, *NOUNS)
DOCS = Path(__file__).parents[1] / "docs"
SEEDS = FIRST_SEED + 2 * 10**9  # apart from those of the embedded backbone
FLOW = FlowSettings(method="dis", bound_px=5.0)
FPS = 5.0
SIDE_PX = 64
SIZE = f"8x{SIDE_PX}"
INIT = "single frame"  # whose weights inflated networks begin with
# What the lecture calls it, our name, and what its weights begin as.
MODELS: dict[str, tuple[str, str | None]] = {
    INIT: ("frames:small:1x64", None),
    "late fusion, mean": (f"frames:small:{SIZE}", None),
    "late fusion, fully connected": (f"late:small:{SIZE}", None),
    "early fusion": (f"early:small:{SIZE}", None),
    "slow fusion (3D CNN)": (f"slow:small:{SIZE}", None),
    "C3D's pooling": (f"c3d:small:{SIZE}", None),
    "CNN + LSTM": (f"lstm:small:{SIZE}", None),
    "recurrent CNN, plain": (f"rcn:small:{SIZE}", None),
    "recurrent CNN, GRU": (f"rcn-gru:small:{SIZE}", None),
    "recurrent CNN, LSTM": (f"rcn-lstm:small:{SIZE}", None),
    "3D CNN + non-local": (f"nonlocal:small:{SIZE}", None),
    "3D kernels, from nothing": (f"inflated:small:{SIZE}", None),
    "inflated": (f"inflated:small:{SIZE}", INIT),
    "SlowFast": (f"slowfast:small:{SIZE}", None),
    "flow stack (temporal stream)": (f"early:small:{SIZE}:flow", None),
    "inflated, on flow": (f"inflated:small:{SIZE}:flow", INIT),
}
STREAMS = {
    "two-stream": (INIT, "flow stack (temporal stream)"),
    "two-stream inflated": ("inflated", "inflated, on flow"),
}


def draw(seed: int) -> tuple[Scene, NDArray[np.float32]]:
    """The scene of clip ``seed``, of one verb and no distractor, and its target: half the verb's, half the noun's.

    Where two actors of different nouns perform, only the verb counts.
    """
    rng, events = clip_events(seed, single=True)
    scene = compose(rng, events=events, duration_s=CLIP_S, distractors=0)
    nouns = {actor.look.noun for actor in scene.actors}
    target = np.zeros(len(CLASSES), np.float32)
    target[CLASSES.index(events[0].verb)] = 1.0
    if len(nouns) == 1:
        target[CLASSES.index(nouns.pop())] = 1.0
    return scene, target / target.sum()


def pools(folder: Path, clips: int, flow: FlowSettings | None = None) -> tuple[Pool, Pool]:
    """Clips to train on, and a fifth as many to test on, as colours or as their flow."""
    train = range(SEEDS, SEEDS + clips)
    test = range(SEEDS + 10**8, SEEDS + 10**8 + clips // 5)
    place, looks = folder / "clips", Looks(FPS, SIDE_PX)
    found = [
        world_pool(seeds, looks, place, draw, name="verb and noun", workers=2, on_clip=_show("clips"))
        for seeds in (train, test)
    ]
    if flow is not None:
        found = [
            pool_from(f"{seeds} {flow}", range(len(pool)), partial(_flow, pool, Flow(flow)), place, 1, _show("flow"))
            for seeds, pool in zip((train, test), found, strict=True)
        ]
    return found[0], found[1]


def _flow(pool: Pool, flow: Flow, number: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    return flow_frames(pool.clip(number), flow), pool.targets[number]


def right(found: NDArray[np.float32], pool: Pool) -> dict[str, Any]:
    """Accuracy of (N, K) on verbs, on nouns where there is one, and on each verb."""
    verbs, nouns = slice(0, len(VERBS)), slice(len(VERBS), None)
    truth = pool.targets[:, verbs].argmax(1)
    hits = found[:, verbs].argmax(1) == truth
    named = pool.targets[:, nouns].sum(1) > 0
    noun_hits = found[named, nouns].argmax(1) == pool.targets[named, nouns].argmax(1)
    per_verb = {verb: float(hits[truth == number].mean()) for number, verb in enumerate(VERBS)}
    return {"motion": float(hits.mean()), "appearance": float(noun_hits.mean()), "per_verb": per_verb}


def train_one(folder: Path, model: str, settings: PretrainSettings, clips: int, seed: int) -> dict[str, Any]:
    """Figures of ``model``; its weights and the probabilities of both pools are kept in ``folder``."""
    place = _place(folder, model, seed)
    done = place / "figures.json"
    name, init = MODELS[model]
    budget = {"clips": clips, "epochs": settings.epochs, "batch": settings.batch, "backbone": name, "init": init}
    if done.exists():
        kept = dict(json.loads(done.read_text("utf-8")))
        if kept | budget != kept:
            sys.exit(f"{place} is of another budget than {budget}; name another folder, or remove it")
        return kept
    place.mkdir(parents=True, exist_ok=True)
    spec = backbone_spec(name)
    recipe = replace(clips_of(spec, settings), short_side_px=spec.clips.crop_px)
    training, held_out = pools(folder, clips, FLOW if spec.channels == 2 else None)
    turns = Turns(_turned(MIRRORED), _turned(REVERSED))
    start = None if init is None else str(_place(folder, init, seed) / "weights.safetensors")
    torch.manual_seed(seed)
    network = new_network(name, spec, len(CLASSES), start)
    loop = Loop(network, training, recipe, turns, settings, seed, torch.device("cpu"))
    began = time.process_time()
    show = _show(model)
    for _ in range(settings.epochs):
        loop.run_epoch(lambda at: show(at.step, at.steps))
    train_cpu_s = time.process_time() - began
    rows = [scores(network, pool, recipe, times=1, crops=1, device=loop.device) for pool in (training, held_out)]
    np.savez(place / "scores.npz", training=rows[0], held_out=rows[1])
    (place / "weights.safetensors").write_bytes(described_bytes(network, name=name, clips=recipe, classes=CLASSES))
    backbone = Backbone(name, spec, network.eval())
    found = right(rows[1], held_out) | {
        **budget,
        "parameters": backbone.parameters,
        "gmac": backbone.multiply_adds(recipe.clip_frames, recipe.crop_px, recipe.crop_px) / 1e9,
        "train_cpu_s": train_cpu_s,
        "seed": seed,
    }
    done.write_text(json.dumps(found), "utf-8")
    return found


def _place(folder: Path, model: str, seed: int) -> Path:
    return folder / f"seed{seed}" / model.replace(" ", "_").replace(",", "")


def fused(folder: Path, name: str, clips: int, seed: int, rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Both streams of ``name`` by average, and by an SVM for the verbs and one for the nouns, from all models' rows."""
    scored = [np.load(_place(folder, model, seed) / "scores.npz") for model in STREAMS[name]]
    training, held_out = pools(folder, clips)
    figures = [rows[model] for model in STREAMS[name]]
    cost = {key: sum(each[key] for each in figures) for key in ("parameters", "gmac", "cpu_s_per_clip", "train_cpu_s")}
    svm = np.zeros_like(scored[0]["held_out"])
    for part in (slice(0, len(VERBS)), slice(len(VERBS), len(CLASSES))):
        known = training.targets[:, part].sum(1) > 0
        judge = LinearSVC(C=1.0, random_state=0)
        judge.fit(stacked([row["training"][known, part] for row in scored]), training.targets[known, part].argmax(1))
        svm[:, part] = judge.decision_function(stacked([row["held_out"][:, part] for row in scored]))
    average = averaged([row["held_out"] for row in scored])
    about = {"backbone": " + ".join(each["backbone"] for each in figures), "init": None, "seed": seed, **cost}
    return {
        f"{name}, average": right(average, held_out) | about,
        f"{name}, SVM": right(svm, held_out) | about,
    }


def _cpu_s(backbone: Backbone) -> float:
    """Processor seconds of one clip in one pass, plain torch in fp32 and the flow it needs, the quickest of five."""
    clips, is_flow, flow = backbone.spec.clips, backbone.spec.channels == 2, Flow(FLOW)
    shape = (clips.clip_frames, clips.crop_px, clips.crop_px, 3)
    frames = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    taken = []
    for _ in range(6):
        began = time.process_time()
        backbone.features(to_input([flow_frames(frames, flow) if is_flow else frames], clips))
        taken.append(time.process_time() - began)
    return min(taken[1:])


def _turned(swap: dict[str, str]) -> list[int]:
    return [CLASSES.index(swap.get(name, name)) for name in CLASSES]


def _show(what: str) -> Callable[[int, int], None]:
    began = time.monotonic()

    def show(done: int, total: int) -> None:
        if done % 100 == 0 or done == total:
            left = (time.monotonic() - began) / done * (total - done)
            print(f"{time.strftime('%H:%M:%S')} {what}: {done} of {total}, {left / 60:.1f} min left", flush=True)

    return show


def draw_figure(rows: dict[str, dict[str, Any]], path: Path) -> None:
    """Accuracy on motion and on appearance of every model, as bars."""
    figure = Figure(figsize=(8, 0.34 * len(rows) + 1), layout="constrained")
    axes = figure.subplots()
    at = np.arange(len(rows))[::-1]
    axes.barh(at + 0.2, [row["motion"] for row in rows.values()], 0.38, label="motion: 16 verbs", color="#2b6cb0")
    axes.barh(
        at - 0.2, [row["appearance"] for row in rows.values()], 0.38, label="appearance: 8 nouns", color="#b7c9de"
    )
    axes.axvline(1 / len(VERBS), color="#2b6cb0", lw=0.8, ls=":")
    axes.axvline(1 / len(NOUNS), color="#8aa4c2", lw=0.8, ls=":")
    axes.set_yticks(at, list(rows))
    axes.set_xlim(0, 1)
    axes.set_xlabel("accuracy on clips never seen (dotted: chance)")
    figure.legend(loc="outside upper right", frameon=False, ncols=2)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=110)


def draw_verbs(rows: dict[str, dict[str, Any]], path: Path) -> None:
    """Accuracy of every model on every verb, as shades with their numbers."""
    found = np.array([[row["per_verb"][verb] for verb in VERBS] for row in rows.values()])
    figure = Figure(figsize=(10, 0.32 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    axes.imshow(found, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(found):
        shade = "white" if value > 0.6 else "black"
        axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=7, color=shade)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_xticks(range(len(VERBS)), [verb.replace("_", " ") for verb in VERBS], rotation=40, ha="left")
    axes.tick_params(top=True, bottom=False, labeltop=True, labelbottom=False, length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Train what is missing, then write the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int, default=4000)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=list(MODELS), default=list(MODELS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    settings = PretrainSettings(epochs=given.epochs, batch=16, fps=FPS)
    rows = {}
    for model in given.only:
        rows[model] = train_one(given.folder, model, settings, given.clips, given.seed)
        print(model, {key: value for key, value in rows[model].items() if key != "per_verb"}, flush=True)
    if len(rows) < len(MODELS):
        sys.exit(0)
    for row in rows.values():  # all in one run, side by side
        row["cpu_s_per_clip"] = _cpu_s(load_backbone(row["backbone"], "random:0"))
    for name in STREAMS:
        rows |= fused(given.folder, name, given.clips, given.seed, rows)
    save("clip_models", __doc__.splitlines()[0], {"clips": given.clips, "epochs": given.epochs, "models": rows})
    draw_figure(rows, DOCS / "pictures/clip-models.png")
    draw_verbs(rows, DOCS / "pictures/clip-models-verbs.png")
    header = ["model", "backbone", "motion", "appearance", "parameters", "GMAC", "CPU ms a clip"]
    lines = [
        [
            name,
            " + ".join(f"`{each}`" for each in row["backbone"].split(" + ")),
            f"{row['motion']:.3f}",
            f"{row['appearance']:.3f}",
            f"{row['parameters']:,}",
            f"{row['gmac']:.3f}",
            f"{1000 * row['cpu_s_per_clip']:.1f}",
        ]
        for name, row in rows.items()
    ]
    lines.append(["chance", "", f"{1 / len(VERBS):.3f}", f"{1 / len(NOUNS):.3f}", "", "", ""])
    fill_table(DOCS / "clip-models.md", "models", header, lines)


if __name__ == "__main__":
    main()
