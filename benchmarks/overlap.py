"""Whether decoding and computing overlap, and whether a second worker doubles the work; all in one run.

    python benchmarks/overlap.py            # writes overlap.json and workers.json of benchmarks/results
    python benchmarks/overlap.py workers    # one of them

Everything has one computing thread. *decode alone* reads the clips in a decoding process, *model alone* computes held
clips, *whole* does units of the job in this process, from opening the files to segments in the store; its limit is
the slower of both. *worker* counts clips per second of one and of two worker processes of one thread, warm, whose
network is so heavy that decoding hardly counts; *bare* is two processes that only compute, beside one.
Each is measured several times in turn; the medians count.
"""

import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from common import encode, footage, measured, save
from numpy.typing import NDArray

from extract.clipping import Clip, clips_of, reading_options
from extract.job import Crew, Crewing, crew
from extract.job._here import HereCrew
from extract.sources import fingerprint
from extract.store import FeatureStore
from extract.video import DecodingProcess
from extract.worker import Setup, Task, Unit, engine_for
from pipelines.settling import Options, settle

ROUNDS, ROUNDS_OF_WORKERS = 5, 2
SIZES = {"small": (160, 120), "middle": (640, 360), "large": (1280, 720)}
RATE, SECONDS, FILES = Fraction(25), 20, 8
HEAVY = Options(backbone="r3d_18", weights="random:0", engine="openvino", precision="fp32", hop=16, fps=10.0)
LIGHT = Options(engine="openvino", precision="fp32")


def make(root: Path, size: tuple[int, int]) -> list[Task]:
    """``FILES`` equal videos, which it writes."""
    root.mkdir()
    first = encode(root / "0.mp4", footage(size, int(RATE * SECONDS)), size=size, rate=RATE)
    for number in range(1, FILES):
        (root / f"{number}.mp4").write_bytes(first.read_bytes())
    return [Task(file.name, str(file), fingerprint(str(file)), SECONDS) for file in sorted(root.iterdir())]


def settled(options: Options, out: Path) -> Setup:
    """A job's setup with one thread, and its empty store."""
    setup = replace(settle(options, out), threads=1, cores=1.0)
    FeatureStore.create(out, setup.recipe.as_dict())
    return setup


def decoded(process: DecodingProcess, setup: Setup, tasks: list[Task]) -> Iterator[Clip]:
    """All clips, as a worker's decoding process gives them."""
    for task in tasks:
        with process.open_video(task.path, **reading_options(setup.recipe, "auto")) as reader:
            yield from clips_of(reader, setup.recipe)


def ignore(_clips: int) -> None:
    """Nobody counts."""


def done(hands: Crew, setup: Setup, *units: list[Task]) -> int:
    """The clips of ``units``, which ``hands`` do."""
    return sum(result.clips for result in hands.run(setup, [Unit(tuple(tasks)) for tasks in units], ignore))


def overlap(setup: Setup, tasks: list[Task]) -> dict[str, float]:
    """Seconds of decoding alone, of computing alone, and of both."""
    with closing(HereCrew()) as here, DecodingProcess() as process:
        held = [clip.frames for clip in decoded(process, setup, tasks)]
        engine = engine_for(setup)
        done(here, setup, tasks[:1])
        works: dict[str, Callable[[], int]] = {
            "decode alone": lambda: sum(1 for _ in decoded(process, setup, tasks)),
            "model alone": lambda: sum(len(batch) for batch in engine.run((None, frames) for frames in held)),
            "whole": lambda: done(here, setup, tasks),
        }
        rounds = [{name: measured(work) for name, work in works.items()} for _ in range(ROUNDS)]
    assert all(one[name][0] == len(held) for one in rounds for name in works)
    seconds = {name: statistics.median(one[name][1] for one in rounds) for name in works}
    limit = [one["whole"][1] / max(one["decode alone"][1], one["model alone"][1]) for one in rounds]
    return {"clips": len(held), **seconds, "whole / slower part": statistics.median(limit)}


def workers(setup: Setup, tasks: list[Task]) -> dict[str, float]:
    """Clips per second of one and of two workers, and of processes that only compute; none is idle beside another."""
    frames = np.zeros((12, setup.recipe.clip_frames, *2 * (setup.recipe.crop_px,), 3), np.uint8)

    def job(count: int) -> float:
        with crew(Crewing(workers=count)) as hands:
            done(hands, setup, *([task] for task in tasks[:count]))  # loads the network in every process
            return speed(lambda: done(hands, setup, tasks[::2], tasks[1::2]))

    def bare(count: int) -> float:
        with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
            work = partial(pool.map, compute, [setup] * count, [frames] * count)
            sum(work())
            return speed(lambda: sum(work()))

    rounds = [
        {"one": job(1), "two": job(2), "bare one": bare(1), "bare two": bare(2)} for _ in range(ROUNDS_OF_WORKERS)
    ]
    return {
        **{f"clips_per_s, {name}": statistics.median(one[name] for one in rounds) for name in rounds[0]},
        "two / one": statistics.median(one["two"] / one["one"] for one in rounds),
        "bare two / one": statistics.median(one["bare two"] / one["bare one"] for one in rounds),
    }


def speed(work: Callable[[], int]) -> float:
    """Clips per second."""
    count, wall_s, _ = measured(work)
    return count / wall_s


def compute(setup: Setup, frames: NDArray[np.uint8]) -> int:
    """Compute ``frames``, which is all that this process does."""
    return len(engine_for(setup).features(frames))


def main() -> None:
    torch.set_num_threads(1)
    parts = sys.argv[1:] or ["overlap", "workers"]
    what = f"H.264 videos of {SECONDS} s at {RATE} frames/s; OpenVINO in fp32, one thread"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        tasks = {name: make(root / name, size) for name, size in SIZES.items()}
        if "overlap" in parts:
            figures = {name: overlap(settled(LIGHT, root / f"{name}.store"), tasks[name]) for name in SIZES}
            save("overlap", f"{FILES} {what}; 160 x 120, 640 x 360 and 1280 x 720; the embedded network", figures)
        if "workers" in parts:
            counted = workers(settled(HEAVY, root / "heavy.store"), tasks["small"][:4])
            save("workers", f"4 {what}; 160 x 120; r3d_18, 16 frames of 112 x 112", counted)


if __name__ == "__main__":
    main()
