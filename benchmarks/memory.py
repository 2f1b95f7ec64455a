"""Memory while a long video is read to its end, beside a short one of the same kind.

    python benchmarks/memory.py [FILE…]            # writes benchmarks/results/memory.json

Each file is read with each decoder at ``short_side=128`` in a fresh process, which looks at its own resident memory
before the file is opened, at ten points of the read, and at its peak. Each kind of file in ``KINDS`` is made short
and long; the long one holds the packets of the short one again and again. FILE…: further videos, in the same table.
"""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.video.stream import VideoStream
from common import DECODERS, encode, footage, save, table

from extract.errors import UntrimmedError
from extract.video import open_video

POINTS = 10
LIMIT_S = 1800


@dataclass(frozen=True)
class Kind:
    """Footage of ``minutes``, and the same ``times`` as long. ``size`` in pixels."""

    size: tuple[int, int]
    rate: Fraction
    minutes: Fraction
    times: int

    def write(self, path: Path) -> Path:
        """The short file: it begins with a key frame and ends a closed group of pictures."""
        frames = footage(self.size, int(60 * self.minutes * self.rate))
        return encode(path, frames, size=self.size, rate=self.rate, options={"preset": "veryfast", "g": "250"})


KINDS = {
    "96x64, 0.5 frames/s": Kind((96, 64), Fraction(1, 2), Fraction(1), 600),
    "96x64, 30 frames/s": Kind((96, 64), Fraction(30), Fraction(1), 600),
    "1920x1080, 25 frames/s": Kind((1920, 1080), Fraction(25), Fraction(1, 10), 20),
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for number, (name, kind) in enumerate(KINDS.items()):
            short = kind.write(Path(folder) / f"short{number}.mp4")
            files[f"{name}, {float(kind.minutes):g} min"] = short
            long = repeat(short, Path(folder) / f"long{number}.mp4", kind.times)
            files[f"{name}, {float(kind.minutes * kind.times):g} min"] = long
        files |= {Path(name).name: Path(name) for name in sys.argv[1:]}
        result = {
            name: {decoder: in_fresh_process(file, decoder) for decoder in DECODERS} for name, file in files.items()
        }
    show(result)
    what = "resident MiB of one process: before opening the file, at ten points of the read, and the peak"
    save("memory", what, result)


def repeat(short: Path, out: Path, times: int) -> Path:
    """Write the packets of ``short`` one after the other, ``times`` times."""
    with av.open(str(short)) as source, av.open(str(out), "w") as container:
        given = source.streams.video[0]
        stream = container.add_stream_from_template(given)
        assert isinstance(stream, VideoStream)
        packets = [(bytes(p), p.pts, p.dts, p.duration, p.is_keyframe) for p in source.demux(given) if p.size]
        length = sum(duration for _, _, _, duration, _ in packets)
        for start in range(0, times * length, length):
            for data, pts, dts, duration, key in packets:
                packet = av.Packet(data)
                packet.pts, packet.dts, packet.duration = start + pts, start + dts, duration
                packet.is_keyframe, packet.time_base, packet.stream = key, given.time_base, stream
                container.mux(packet)
    return out


def in_fresh_process(file: Path, decoder: str) -> dict[str, Any]:
    """What a new process says of its reading of ``file``."""
    print(f"{decoder} reads {file.name}", file=sys.stderr)
    line = [sys.executable, __file__, "--read", str(file), decoder]
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"not finished after {LIMIT_S} s"}
    if done.returncode:
        return {"error": f"ended with {done.returncode}: {done.stderr[-200:]}"}
    return json.loads(done.stdout)


def read(file: Path, decoder: str) -> dict[str, Any]:
    """Read to the end; the memory of this process on the way."""
    before, began = resident("VmRSS"), time.perf_counter()
    points: list[float] = []
    frames = 0
    try:
        with open_video(file, short_side=128, decoder=decoder) as reader:
            length = reader.info.duration_s or 1.0
            for batch in reader:
                frames += len(batch)
                if (batch.pts_s[-1] - reader.info.start_s) * POINTS >= length * len(points) and len(points) < POINTS:
                    points.append(resident("VmRSS"))
    except UntrimmedError as error:
        return {"error": str(error).removeprefix(f"{file}: ")}
    return {
        "frames": frames,
        "seconds": round(time.perf_counter() - began, 1),
        "before_mib": before,
        "points_mib": points,
        "peak_mib": resident("VmHWM"),
    }


def resident(line: str) -> float:
    """A figure of this process's memory in MiB: ``VmRSS`` now, ``VmHWM`` its peak."""
    status = dict(row.split(":", 1) for row in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    return round(int(status[line].split()[0]) / 1024, 1)


def show(result: dict[str, dict[str, dict[str, Any]]]) -> None:
    """Print one row for each read."""
    header = ["video", "decoder", "frames", "s", "before, MiB", f"at {POINTS} points", "peak, MiB", "peak - before"]
    rows = []
    for name, reads in result.items():
        for decoder, r in reads.items():
            figures = ["", "", "", r["error"], "", ""] if "error" in r else _cells(r)
            rows.append([name, decoder, *figures])
    print(table(header, rows))


def _cells(r: dict[str, Any]) -> list[str]:
    points = " ".join(f"{point:.0f}" for point in r["points_mib"])
    figures = [r["before_mib"], points, r["peak_mib"], round(r["peak_mib"] - r["before_mib"], 1)]
    return [str(figure) for figure in (r["frames"], r["seconds"], *figures)]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--read"]:
        print(json.dumps(read(Path(sys.argv[2]), sys.argv[3])))
    else:
        main()
