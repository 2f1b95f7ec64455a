"""Extraction beside its parts and beside the plain loop of other tools, all in one run.

    python benchmarks/extraction.py            # writes benchmarks/results/extraction.json

*plain loop*: decode a clip, run the network on it alone in fp32, take the next; one process. *decode alone* and
*model alone* are the limits that the whole can reach. Each is measured ``ROUNDS`` times in turn; the medians count.
"""

import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from common import measured, save

from extract.backbones import load_backbone
from extract.clipping import clips_of, reading_options
from extract.engine import ClipInput, Engine
from extract.recipe import Recipe
from extract.video import open_video
from pipelines import Options, synthesize
from pipelines.extraction import run_extraction
from pipelines.settling import settle

VIDEOS, SECONDS, ROUNDS = 24, 30.0, 3


def clips(files: list[Path], recipe: Recipe) -> Iterator[np.ndarray]:
    for file in files:
        with open_video(file, **reading_options(recipe, "auto")) as reader:
            yield from (clip.frames for clip in clips_of(reader, recipe))


def works_on(root: Path) -> dict[str, Callable[[], int]]:
    """What is measured, each on the videos below ``root`` and giving its number of clips."""
    files = sorted((root / "w/videos").iterdir())
    recipe = settle(Options(), root / "settled.zarr").recipe
    given = ClipInput(recipe.clip_frames, recipe.crop_px, recipe.mean, recipe.std)
    fast = Engine(load_backbone(), given, precision=recipe.precision)
    plain = load_backbone().network
    held = [clip for clip, _ in zip(clips(files, recipe), range(320), strict=False)]
    threads = torch.get_num_threads()

    def loop() -> int:
        count = 0
        for clip in clips(files, recipe):
            x = torch.from_numpy(clip).permute(3, 0, 1, 2)[None].float() / 255
            with torch.inference_mode():
                plain.features((x - recipe.mean[0]) / recipe.std[0])
            count += 1
        return count

    def whole(workers: int) -> int:
        with tempfile.TemporaryDirectory(dir=root) as out:
            _, summary = run_extraction(root / "w/videos", Path(out) / "f.zarr", options=Options(workers=workers))
        torch.set_num_threads(threads)
        return summary.clips

    return {
        "plain loop": loop,
        "decode alone": lambda: sum(1 for _ in clips(files, recipe)),
        "model alone": lambda: sum(len(batch) for batch in fast.run((None, clip) for clip in held)),
        "untrimmed, in process": lambda: whole(0),
        "untrimmed, 2 workers": lambda: whole(2),
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        synthesize("untrimmed", Path(folder) / "w", videos=VIDEOS, seconds=SECONDS, seed=1)
        works = works_on(Path(folder))
        rounds = [{name: measured(work) for name, work in works.items()} for _ in range(ROUNDS)]
    result = {
        name: {
            "clips_per_s": round(statistics.median(r[name][0] / r[name][1] for r in rounds), 1),
            "cpu_s_per_clip": round(statistics.median(r[name][2] / r[name][0] for r in rounds), 4),
        }
        for name in works
    }
    base = result["plain loop"]["clips_per_s"]
    for name, figures in result.items():
        figures["times_plain_loop"] = round(figures["clips_per_s"] / base, 2)
        print(f"{name:24}", figures)
    what = (
        f"{VIDEOS} untrimmed videos of {SECONDS:g} s, 160 x 120, H.264 and VP9; precision auto; "
        "the wall time includes starting the Dask workers"
    )
    save("extraction", what, result)


if __name__ == "__main__":
    main()
