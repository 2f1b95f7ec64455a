"""Whether decoding and computing overlap, and whether a second worker doubles the work; all in one run.

    python benchmarks/overlap.py            # writes benchmarks/results/overlap.json

Everything has one computing thread. *decode alone* reads the clips in a decoding process, *model alone* computes held
clips, *whole* does units of the job in this process, from opening the files to segments in the store; its limit is
the slower of both. *worker* counts clips per second of one and of two worker processes of one thread, warm, whose
network is so heavy that decoding hardly counts; *bare* is two processes that only compute, beside one.
Each is measured ``ROUNDS`` times in turn; the medians count.
"""

import statistics
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
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

ROUNDS = 5
SIZES = {"small": (160, 120), "middle": (640, 360), "large": (1280, 720)}
RATE, SECONDS, FILES = Fraction(25), 20, 8
HEAVY = Options(
    backbone="r3d_18", weights="random:0", engine="openvino", precision="fp32", hop=16, fps=10.0, short_side=72, crop=56
)
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
    """Clips per second of one and of two workers, and of processes that only compute."""
    frames = np.zeros((24, setup.recipe.clip_frames, *2 * (setup.recipe.crop_px,), 3), np.uint8)
    with (
        crew(Crewing(workers=1)) as one,
        crew(Crewing(workers=2)) as two,
        ProcessPoolExecutor(2, mp_context=get_context("spawn")) as bare,
    ):

        def computed(count: int) -> int:
            return sum(bare.map(compute, [setup] * count, [frames] * count))

        works = {
            "one": lambda: done(one, setup, tasks[::2], tasks[1::2]),
            "two": lambda: done(two, setup, tasks[::2], tasks[1::2]),
            "bare one": lambda: computed(1),
            "bare two": lambda: computed(2),
        }
        for work in works.values():
            work()  # loads the network in every process
        rounds = [{name: measured(work) for name, work in works.items()} for _ in range(ROUNDS)]
    speed = [{name: count / wall_s for name, (count, wall_s, _) in figures.items()} for figures in rounds]
    return {
        **{f"clips_per_s, {name}": statistics.median(s[name] for s in speed) for name in works},
        "two / one": statistics.median(s["two"] / s["one"] for s in speed),
        "bare two / one": statistics.median(s["bare two"] / s["bare one"] for s in speed),
    }


def compute(setup: Setup, frames: NDArray[np.uint8]) -> int:
    """Compute ``frames``, which is all that this process does."""
    return len(engine_for(setup).features(frames))


def main() -> None:
    torch.set_num_threads(1)
    result: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        tasks = {name: make(root / name, size) for name, size in SIZES.items()}
        for name in SIZES:
            result[name] = overlap(settled(LIGHT, root / f"{name}.store"), tasks[name])
            print(name, result[name], flush=True)
        result["workers"] = workers(settled(HEAVY, root / "heavy.store"), tasks["small"][:4])
        print("workers", result["workers"], flush=True)
    what = (
        f"{FILES} H.264 videos of {SECONDS} s at {RATE} frames/s, 160 x 120, 640 x 360 and 1280 x 720, "
        "the embedded network; workers with r3d_18; OpenVINO in fp32, one thread"
    )
    save("overlap", what, result)


if __name__ == "__main__":
    main()
