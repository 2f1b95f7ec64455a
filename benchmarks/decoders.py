"""Which frames each decoder shows: right, refused or wrong, for each file of a folder with known answers.

    python benchmarks/decoders.py FOLDER [REAL]            # writes benchmarks/results/decoders.json

FOLDER holds videos, their ``truth.json``, and ``check.py`` with ``judge`` and ``expand``, which read the index that is
burned into each picture. Each file is read with each decoder in a process of its own, so that a crash or a hang is a
result. *Right*: all frames in order, judged by ``check.py``; spans read alone equal the whole to the last bit; samples
at 10 and at 0.5 frames/s show the frames that the truth names; patches of known colour have it. Then the pixels: how
far each decoder's resized frames lie from PyTorch's antialiased bilinear interpolation of its own full-size frames,
and how far the decoders lie apart; on fixtures of each pixel format, and on the videos of REAL.
"""

import json
import subprocess
import sys
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import combinations, islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from common import DECODERS, save, table
from numpy.typing import NDArray

from extract.errors import MachineError, UntrimmedError, VideoError
from extract.video import open_video, read_frames

LIMIT_S = 300
RATES = (10, 0.5)
MANY_FRAMES, SOME_FRAMES = 2000, 400
WIDE_PX = 4096
PIXEL_FRAMES = 8
EDGES = (0.0, 0.23, 0.5, 0.77, 1.0)
TICK_S = 0.0006
HOLE_S = 10


@dataclass(frozen=True)
class Seen:
    """A frame that a reader gave: its second, what it shows, whether it is flagged as damaged."""

    time_s: float
    rgb: NDArray[np.uint8]
    damaged: bool


@dataclass(frozen=True)
class Trial:
    """One file with one decoder. ``truth``: what is known of the file; ``check``: the folder's check.py."""

    file: Path
    decoder: str
    truth: dict[str, Any]
    check: Any

    @property
    def limit(self) -> int | None:
        """How many frames are judged; None: all."""
        return SOME_FRAMES if self.truth.get("frames", 0) > MANY_FRAMES else None

    def read(self, **options: float) -> Iterator[Seen]:
        """The frames, of huge pictures small ones."""
        small = max(self.truth.get("display_size", [0])) > WIDE_PX
        batches = read_frames(self.file, decoder=self.decoder, short_side=128 if small else None, **options)
        for batch in batches:
            for rgb, time_s, damaged in zip(batch.pixels, batch.pts_s, batch.damaged, strict=True):
                yield Seen(float(time_s), rgb, bool(damaged))

    def index(self, seen: Seen) -> int:
        """The index burned into a frame."""
        return int(self.check.read_index(seen.rgb))

    def outcome(self) -> str:
        """``right``, ``refuses (why)`` or ``WRONG: what``."""
        frames, error = self._sequential()
        if isinstance(error, MachineError):
            return f"refuses ({error})"
        refused = isinstance(error, VideoError) and error.reason == f"{self.decoder}_refused"
        wrong = self._wrong_in_order(frames, error, refused=refused)
        if wrong is None and refused and self.truth["outcome"] != "refuse":
            return f"refuses ({_why(error)})"
        if wrong is None and frames:
            wrong = self._wrong_colours(frames) or self._wrong_spans(frames)
            for fps in RATES:
                wrong = wrong or self._wrong_samples(frames, fps)
        return "right" if wrong is None else f"WRONG: {wrong}"

    def _sequential(self) -> tuple[list[Seen], UntrimmedError | None]:
        frames: list[Seen] = []
        try:
            frames.extend(islice(self.read(), self.limit))
        except UntrimmedError as error:
            return frames, error
        return frames, None

    def _wrong_in_order(self, frames: list[Seen], error: UntrimmedError | None, *, refused: bool) -> str | None:
        """What ``check.judge`` finds; of a reader that refused half-way, in the frames before that."""

        def replay(_: str) -> Iterator[tuple[float, NDArray[np.uint8], bool]]:
            yield from ((seen.time_s, seen.rgb, seen.damaged) for seen in frames)
            if error is not None:
                raise error

        if refused and not frames:
            return None
        limit = len(frames) if refused else self.limit
        right, text = self.check.judge(self.file.name, replay, own_error=UntrimmedError, limit=limit)
        return None if right or (refused and " 0 unflagged wrong" in text) else f"in order: {text}"

    def _wrong_colours(self, frames: list[Seen]) -> str | None:
        patches = self.truth.get("rgb_patches")
        if patches is None:
            return None
        lower = frames[0].rgb[85:131].astype(float)
        found = [lower[:, 32 * k + 8 : 32 * k + 24].mean((0, 1)) for k in range(len(patches["expected"]))]
        off = float(np.abs(np.array(found) - patches["expected"]).max())
        return None if off <= patches["tolerance"] else f"colours off by {off:.1f} grey levels"

    def _wrong_spans(self, frames: list[Seen]) -> str | None:
        """Each span, cut between frames and at a frame, read alone."""
        first, last = frames[0].time_s, frames[-1].time_s
        after = last if self.limit else last + 1
        edges = [first + (after - first) * share for share in EDGES] + [frames[len(frames) // 3].time_s]
        for start, stop in pairwise(sorted(set(edges))):
            want = [seen for seen in frames if start <= seen.time_s < stop]
            got = list(self.read(start_s=start, stop_s=stop))
            if [(s.time_s, s.damaged) for s in got] != [(s.time_s, s.damaged) for s in want]:
                return f"span [{start:.3f}, {stop:.3f}): times or flags of {len(got)} frames, {len(want)} expected"
            if not all(np.array_equal(a.rgb, b.rgb) for a, b in zip(got, want, strict=True)):
                return f"span [{start:.3f}, {stop:.3f}): other pixels than in the whole"
        return self._wrong_tail() if self.limit else None

    def _wrong_tail(self) -> str | None:
        """The last span of a file too long to read whole, by the truth."""
        last_s = self.truth["last_s"]
        got = list(self.read(start_s=last_s - 30))
        want = self.check.expand(self.truth["indices"])[-len(got) :]
        right = got and [self.index(seen) for seen in got] == want and abs(got[-1].time_s - last_s) < 0.0015
        return None if right else f"last span: {len(got)} frames, the last at {got[-1].time_s if got else None} s"

    def _wrong_samples(self, frames: list[Seen], fps: float) -> str | None:
        """Samples at ``fps``: none missing, each showing the frame that the truth names."""
        what, stop = f"samples at {fps:g}/s", {"stop_s": frames[-1].time_s} if self.limit else {}
        got = list(self.read(fps=fps, **stop))
        first, times = frames[0].time_s, [seen.time_s for seen in frames]
        numbers = [round((seen.time_s - first) * fps) for seen in got]
        if any(abs(first + n / fps - seen.time_s) > 1e-6 for n, seen in zip(numbers, got, strict=True)):
            return f"{what}: not at the sample times"
        missing = sorted(set(self._due(times, fps)) - set(numbers))
        if missing or len(set(numbers)) != len(numbers):
            return f"{what}: {len(missing)} missing {missing[:3]}, {len(numbers) - len(set(numbers))} repeated"
        lies = [(round(s.time_s, 3), self.index(s)) for s in got if not s.damaged and not self._shows(s, frames, times)]
        return f"{what}: {len(lies)} of {len(got)} show another frame, such as {lies[0]}" if lies else None

    @staticmethod
    def _due(times: list[float], fps: float) -> Iterator[int]:
        """Numbers of the samples that must be there: those on display in frames before the last, outside holes."""
        number = 0
        for start, stop in pairwise(times):
            while (time := times[0] + number / fps) < stop:
                if time < start + TICK_S or stop - start < HOLE_S:
                    yield number
                number += 1

    def _shows(self, seen: Seen, frames: list[Seen], times: list[float]) -> bool:
        """Whether a sample shows the frame due at its time; at a frame's edge, within a tick, either."""
        if self.truth["outcome"] == "partial":
            number = int((seen.time_s - self.truth["start_s"]) * 25 + TICK_S)
            return self.index(seen) == number + (30 if self.file.name == "no_first_keyframe.ts" else 0)
        due = {bisect_right(times, seen.time_s + slack) - 1 for slack in (-1e-6, TICK_S)}
        return self.index(seen) in {self.index(frames[max(0, k)]) for k in due}


def _why(error: UntrimmedError | None) -> str:
    """The reason in a refusal, without the file's name and the remedy."""
    detail = getattr(error, "detail", str(error))
    return detail.partition(": ")[2].partition(";")[0] or detail


def trial(folder: Path, name: str, decoder: str) -> str:
    """The outcome of one file with one decoder, in this process."""
    sys.path.insert(0, str(folder))
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))["files"][name]
    return Trial(folder / name, decoder, truth, import_module("check")).outcome()


def pixels(file: Path) -> dict[str, Any]:
    """Distances in grey levels, [mean, greatest], in the first frames of ``file``."""
    small: dict[str, NDArray[np.uint8]] = {}
    whole: dict[str, NDArray[np.uint8]] = {}
    for decoder in DECODERS:
        try:
            small[decoder], whole[decoder] = (_first_frames(file, decoder, side) for side in (128, None))
        except UntrimmedError:
            continue
    with open_video(file) as reader:
        info = reader.info
    return {
        "pixel_format": info.pixel_format,
        "size": [info.width, info.height],
        "to_reference": {name: _distance(small[name], _reference(whole[name], small[name].shape)) for name in small},
        "between_small": {f"{a}, {b}": _distance(small[a], small[b]) for a, b in combinations(small, 2)},
        "between_whole": {f"{a}, {b}": _distance(whole[a], whole[b]) for a, b in combinations(whole, 2)},
    }


def _first_frames(file: Path, decoder: str, short_side: int | None) -> NDArray[np.uint8]:
    batches = read_frames(file, decoder=decoder, short_side=short_side)
    return np.stack(list(islice((rgb.copy() for batch in batches for rgb in batch.pixels), PIXEL_FRAMES)))


def _reference(frames: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """``frames`` (N, H, W, 3) in the height and width of ``shape``, computed in float64 and rounded."""
    import torch

    planes = torch.from_numpy(frames).permute(0, 3, 1, 2).double()
    resized = torch.nn.functional.interpolate(planes, shape[1:3], mode="bilinear", antialias=True)
    return resized.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()


def _distance(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> list[float]:
    off = np.abs(a.astype(np.int16) - b)
    return [round(float(off.mean()), 3), int(off.max())]


def in_fresh_process(*arguments: str) -> Any:  # noqa: ANN401
    """What this script prints as JSON when it is called with ``arguments``; or how that ended."""
    line = [sys.executable, __file__, *arguments]
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"WRONG: no result after {LIMIT_S} s"
    if done.returncode:
        return f"WRONG: ends with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}"
    return json.loads(done.stdout)


def one_of_each(folder: Path, truth: dict[str, Any]) -> list[Path]:
    """A fixture of each pixel format and parity of size."""
    found: dict[tuple[str, bool], Path] = {}
    for name, entry in truth.items():
        if entry["outcome"] == "decode" and not entry["rotation_tag"] and max(entry["display_size"]) < WIDE_PX:
            found.setdefault((entry["pix_fmt"], any(side % 2 for side in entry["display_size"])), folder / name)
    return list(found.values())


def show_outcomes(outcomes: dict[str, dict[str, str]]) -> None:
    """Print one row for each outcome: how many files of each decoder have it, and which."""
    groups: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, of_decoder in outcomes.items():
        for decoder, outcome in of_decoder.items():
            groups[outcome][decoder].append(name)
    header = ["outcome", *DECODERS]
    order = sorted(groups, key=lambda outcome: ("right", "refuses", "WRONG:").index(outcome.split()[0]))
    rows = [[outcome, *(_files(outcome, groups[outcome][decoder]) for decoder in DECODERS)] for outcome in order]
    print(table(header, rows))


def _files(outcome: str, names: list[str]) -> str:
    listed = "" if outcome == "right" or not names else f": {', '.join(names)}"
    return f"{len(names)}{listed}"


def show_pixels(distances: dict[str, Any]) -> None:
    """Print mean and greatest distances of each video."""
    pairs = [f"{a}, {b}" for a, b in combinations(DECODERS, 2)]
    header = ["video", "pixels", "size", *(f"{name} to reference" for name in DECODERS)]
    header += [f"{pair}: small" for pair in pairs] + [f"{pair}: whole" for pair in pairs]
    rows = []
    for name, d in distances.items():
        if isinstance(d, str):
            rows.append([name, d, *([""] * (len(header) - 2))])
            continue
        found = [d["to_reference"].get(who) for who in DECODERS]
        found += [d[key].get(pair) for key in ("between_small", "between_whole") for pair in pairs]
        cells = ["" if f is None else f"{f[0]:.2f} / {f[1]}" for f in found]
        rows.append([name, d["pixel_format"], "{} x {}".format(*d["size"]), *cells])
    print("\nMean / greatest distance in grey levels\n\n" + table(header, rows))


def main(folder: Path, real: Path | None) -> None:
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))["files"]
    names = [name for name in sorted(truth) if (folder / name).exists()]
    outcomes = {
        name: {decoder: in_fresh_process("--trial", str(folder), name, decoder) for decoder in DECODERS}
        for name in names
    }
    show_outcomes(outcomes)
    files = one_of_each(folder, {name: truth[name] for name in names})
    if real is not None:
        files += sorted(file for file in real.iterdir() if file.suffix != ".md")
    distances = {file.name: in_fresh_process("--pixels", str(file)) for file in files}
    show_pixels(distances)
    what = f"outcomes of {len(names)} files; [mean, greatest] distance in grey levels of {len(files)} videos at 128 px"
    save("decoders", what, {"outcomes": outcomes, "pixels": distances})


if __name__ == "__main__":
    if sys.argv[1] == "--trial":
        print(json.dumps(trial(Path(sys.argv[2]), sys.argv[3], sys.argv[4])))
    elif sys.argv[1] == "--pixels":
        print(json.dumps(pixels(Path(sys.argv[2]))))
    else:
        main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
