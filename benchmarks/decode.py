"""Reading video with each decoder, beside the ffmpeg command line as the ceiling, all in one run.

    python benchmarks/decode.py            # writes benchmarks/results/decode.json

Every contestant has one decoding thread (decord demuxes in another). A time includes opening the file, but neither
imports nor the start of the ffmpeg process. In each of ``ROUNDS`` rounds each contestant reads once, in turn; a ratio
is that of two times in the same round, and the median of the ratios counts. Before it is measured, each reader must
give all frames with the right times, or it is left out. Frames are those of the file, whatever is handed out.
"""

import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import cpu_s, decoders_for, encode, footage, measured, save, table

from extract.video import read_frames

ROUNDS = 5
RATE = Fraction(25)
FFMPEG = ("ffmpeg", "-nostdin", "-v", "error", "-filter_threads", "1", "-threads", "1")
SCALED = ("-vf", "scale={0}:{1}:flags=bilinear", "-pix_fmt", "rgb24", "-f", "null")
CEILING = "ffmpeg, decode alone"


@dataclass(frozen=True)
class Footage:
    """A file to make: ``size`` in pixels, a bit rate as such video has it, key frames every ``gop`` frames."""

    size: tuple[int, int]
    frames: int
    bit_rate: int
    codec: str = "libx264"
    gop: int = 250

    def write(self, path: Path) -> Path:
        """Encode it with B-frames and closed groups of pictures."""
        x264 = {"preset": "medium", "bf": "3", "g": str(self.gop)}
        x265 = {"preset": "veryfast", "x265-params": f"open-gop=0:keyint={self.gop}:log-level=error"}
        return encode(
            path,
            footage(self.size, self.frames),
            size=self.size,
            rate=RATE,
            codec=self.codec,
            bit_rate=self.bit_rate,
            options=x264 if self.codec == "libx264" else x265,
        )


FILES = {
    "H.264 320x240": Footage((320, 240), 700, 350_000),
    "H.264 1280x720": Footage((1280, 720), 175, 2_700_000),
    "H.264 1920x1080": Footage((1920, 1080), 80, 5_500_000),
    "HEVC 1280x720": Footage((1280, 720), 175, 1_800_000, codec="libx265", gop=50),
    "H.264 1280x720, 30 s": Footage((1280, 720), 750, 2_700_000),
    "H.264 640x360, key frames every 2 s": Footage((640, 360), 3000, 900_000, gop=50),
}


@dataclass
class Case:
    """Contestants that read the same: each gives the number of the file's frames that it went through."""

    name: str
    works: dict[str, Callable[[], int]]
    rounds: list[dict[str, tuple[int, float, float]]] = field(default_factory=list)

    def run(self) -> None:
        """One more round."""
        self.rounds.append({name: measured(work) for name, work in self.works.items()})

    def result(self, start: tuple[float, float]) -> dict[str, dict[str, Any]]:
        """Figures of each contestant; ``start``: wall and processor seconds that ffmpeg takes to start."""
        for measures in self.rounds:
            for name, (count, wall, cpu) in measures.items():
                if name.startswith("ffmpeg"):
                    measures[name] = count, wall - start[0], cpu - start[1]
        speeds = {name: [r[name][0] / r[name][1] for r in self.rounds] for name in self.works}
        costs = {name: [1000 * r[name][2] / r[name][0] for r in self.rounds] for name in self.works}
        readers = [name for name in self.works if not name.startswith("ffmpeg")]
        fastest = max(readers, key=lambda name: statistics.median(speeds[name]))
        return {
            name: {
                "frames_per_s": round(statistics.median(speeds[name]), 1),
                "cpu_s_per_1000_frames": round(statistics.median(costs[name]), 3),
                "times_first": _ratios(speeds[name], speeds[next(iter(self.works))]),
                "times_fastest_reader": _ratios(speeds[name], speeds[fastest]),
            }
            for name in self.works
        }


def _ratios(ours: list[float], theirs: list[float]) -> list[float]:
    """Median, least and greatest ratio of two speeds in the same round."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return [round(figure(ratios), 2) for figure in (statistics.median, min, max)]


def read(file: Path, frames: int, **options: Any) -> int:  # noqa: ANN401
    """Read to the end with the project's reader."""
    for _ in read_frames(file, **options):
        pass
    return frames


def command(file: Path, frames: int, *before: str, after: tuple[str, ...] = ("-f", "null")) -> int:
    """Read with the ffmpeg command line; options ``before`` and ``after`` the input."""
    line = [*FFMPEG, *before, "-i", str(file), "-vsync", "passthrough", *after, "-"]
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
    return frames


def start_of_ffmpeg() -> tuple[float, float]:
    """Wall and processor seconds to load ffmpeg: the least of several."""
    measures = []
    for _ in range(7):
        wall, cpu = time.perf_counter(), cpu_s()
        subprocess.run(["ffmpeg", "-v", "error", "-version"], check=True, stdout=subprocess.DEVNULL)
        measures.append((time.perf_counter() - wall, cpu_s() - cpu))
    return min(measures)


def is_right(file: Path, frames: int, options: dict[str, Any]) -> bool:
    """Whether the reader gives the frames of the right times (decoders.py looks at what the frames show)."""
    step = 1 / RATE if options.get("fps") is None else 1 / Fraction(str(options["fps"]))
    times = np.concatenate([batch.pts_s for batch in read_frames(file, **options)])
    due = np.arange(0, float(frames / RATE) - 1e-9, float(step))
    right = len(times) == len(due) and np.allclose(times, due, atol=1e-6)
    if not right:
        print(f"left out, because its times are wrong: {options} on {file.name}")
    return right


def readers(file: Path, frames: int, decoders: tuple[str, ...], **options: Any) -> dict[str, Callable[[], int]]:  # noqa: ANN401
    """The project's reader with each decoder that is right."""
    choices = {name: {**options, "decoder": name} for name in decoders}
    return {
        name: partial(read, file, frames, **choice)
        for name, choice in choices.items()
        if is_right(file, frames, choice)
    }


def dense(name: str, file: Path, decoders: tuple[str, ...]) -> list[Case]:
    """All frames of a file, small and whole."""
    made = FILES[name]
    small, whole = SCALED[1].format(128 * made.size[0] // made.size[1], 128), SCALED[1].format(*made.size)
    ceiling = {CEILING: partial(command, file, made.frames)}
    return [
        Case(
            f"{name}, all frames, short side 128",
            ceiling
            | {"ffmpeg, scaled to rgb24": partial(command, file, made.frames, after=("-vf", small, *SCALED[2:]))}
            | readers(file, made.frames, decoders, short_side=128),
        ),
        Case(
            f"{name}, all frames, full size",
            ceiling
            | {
                "ffmpeg, to rgb24": partial(command, file, made.frames, after=("-vf", whole, *SCALED[2:])),
                "ffmpeg, rgb24 written": partial(
                    command, file, made.frames, after=("-pix_fmt", "rgb24", "-f", "rawvideo")
                ),
            }
            | readers(file, made.frames, decoders),
        ),
    ]


def sparse(name: str, file: Path, decoders: tuple[str, ...], fps: float) -> Case:
    """Few frames of a file."""
    frames = FILES[name].frames
    keys = partial(command, file, frames, "-skip_frame", "nokey")
    return Case(
        f"{name}, {fps:g} frames/s, short side 128",
        {CEILING: partial(command, file, frames), "ffmpeg, key frames alone": keys}
        | readers(file, frames, decoders, fps=fps, short_side=128),
    )


def pairs(name: str, file: Path, decoders: tuple[str, ...]) -> list[Case]:
    """One reader against two in two threads."""

    def both(one: Callable[[], int]) -> int:
        with ThreadPoolExecutor(2) as pool:
            return sum(pool.map(lambda work: work(), [one, one]))

    ones = readers(file, FILES[name].frames, decoders, short_side=128)
    return [
        Case(f"{name}, threads: {who}", {f"{who}, one reader": one, f"{who}, two in two threads": partial(both, one)})
        for who, one in ones.items()
    ]


def cases(files: dict[str, Path]) -> list[Case]:
    """All that is measured."""
    decoders = decoders_for(next(iter(files.values())))
    *plain, long, keyed = files
    found = [case for name in plain for case in dense(name, files[name], decoders)]
    found += [sparse(long, files[long], decoders, 1), sparse(keyed, files[keyed], decoders, 0.1)]
    return found + pairs(plain[1], files[plain[1]], decoders)


def show(name: str, figures: dict[str, dict[str, Any]]) -> None:
    """Print a case as a table."""
    first = next(iter(figures))
    header = [name, "frames/s", "CPU s / 1000 frames", f"times {first}", "times fastest reader"]
    rows = [
        [who, f"{f['frames_per_s']:.0f}", f"{f['cpu_s_per_1000_frames']:.2f}"]
        + ["{:.2f} ({:.2f} to {:.2f})".format(*f[key]) for key in ("times_first", "times_fastest_reader")]
        for who, f in figures.items()
    ]
    print(f"\n{table(header, rows)}", flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = {name: made.write(Path(folder) / f"{n}.mp4") for n, (name, made) in enumerate(FILES.items())}
        found = cases(files)
        for _ in range(ROUNDS):
            for case in found:
                case.run()
    start = start_of_ffmpeg()
    result = {case.name: case.result(start) for case in found}
    for name, figures in result.items():
        show(name, figures)
    ffmpeg = subprocess.run(["ffmpeg", "-version"], check=True, capture_output=True, text=True).stdout.split()[2]
    what = (
        f"median of {ROUNDS} rounds; ratios of speeds are [median, least, greatest] of the rounds, "
        f"times_first to the case's first contestant; ffmpeg {ffmpeg} without its start of {start[0]:.3f} s"
    )
    save("decode", what, result)


if __name__ == "__main__":
    main()
