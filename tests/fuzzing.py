"""Reading broken files in a child process, and judging what came out against the intact file.

What a reader can know, and so what counts as a lie:

- Its word for the time of a picture is the container's. Where the broken file gives an unspoilt packet another time
  than the intact one did, its picture at that time is ``retimed``: true to this file. Raw streams, AVI and
  the like have no times; there the order alone is judged.
- Its word for a picture is the decoder's. A codec without checksums decodes altered bytes to an altered picture,
  often with no sign of it. Such a picture is ``silent``: wrong, but no reader can know; also where a header that the
  decoder needs (parameter sets, pixel format, rotation) was altered, and where packets are missing or doubled in a
  file that has no times, or whose first packets came to look like a varying rate, in which no gap can tell.
- A wrong picture or a wrong time without a flag and without such an excuse is a ``lie``.

A picture is right only if all its pixels are those of the intact file; ``blemished`` ones show the right index.
"""

import contextlib
import hashlib
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import av
from footage import index_of

from extract.errors import VideoError
from extract.video import FrameBatch, ReadReport, VideoInfo, open_video

Digest = bytes


@dataclass(frozen=True)
class Row:
    """A frame handed out: its time, the index seen in it (-1: none), its flag, a digest of its pixels."""

    time: float
    index: int
    damaged: bool
    digest: Digest


@dataclass(frozen=True)
class Sent:
    """A packet: its time and what identifies its bytes."""

    time: float | None
    key: bool
    digest: Digest


@dataclass(frozen=True)
class Intact:
    """An intact file: what its reader gives, and its packets."""

    info: VideoInfo
    rows: list[Row]
    packets: list[Sent]
    header: tuple[object, ...]

    def pictures(self) -> dict[Digest, int]:
        return {row.digest: row.index for row in self.rows}

    def indices(self) -> dict[Digest, int]:
        """Frame index of each packet, where the container times them."""
        by_time = {row.time: row.index for row in self.rows}
        return {p.digest: by_time[p.time] for p in self.packets if p.time in by_time}


@dataclass
class Outcome:
    """What became of one broken file. ``verdicts`` counts its frames."""

    ending: str
    verdicts: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    peak_mb: float = 0.0


def _digest(data: bytes) -> Digest:
    return hashlib.blake2b(data, digest_size=12).digest()


def packets_of(path: Path) -> tuple[list[Sent], tuple[object, ...]]:
    """The video packets as far as they can be read, and the header that decoding them depends on."""
    with av.open(str(path), metadata_errors="replace") as container:
        stream = container.streams.video[0]
        codec = stream.codec_context
        header = (codec.name, codec.extradata, codec.width, codec.height, codec.pix_fmt)
        sent: list[Sent] = []
        with contextlib.suppress(av.FFmpegError, IndexError):
            for packet in container.demux(stream):
                if packet.size:
                    pts = packet.pts
                    seconds = None if pts is None else float(pts * (stream.time_base or Fraction(1, av.time_base)))
                    sent.append(Sent(seconds, packet.is_keyframe, _digest(bytes(packet))))
        return sent, header


def rows_of(batches: Iterator[FrameBatch]) -> Iterator[Row]:
    for batch in batches:
        for pixels, seconds, damaged in zip(batch.pixels, batch.pts_s, batch.damaged, strict=True):
            yield Row(float(seconds), index_of(pixels), bool(damaged), _digest(pixels.tobytes()))


def intact(path: Path) -> Intact:
    packets, header = packets_of(path)
    with open_video(path) as reader:
        rows = list(rows_of(iter(reader)))
        return Intact(reader.info, rows, packets, (*header, *shape(reader.info)))


def shape(info: VideoInfo) -> tuple[object, ...]:
    """How the header says that pictures are turned for display."""
    return info.rotation, info.mirrored


class Judge:
    """Judges the frames of one broken file. ``bases``: the intact files whose bytes are in it."""

    def __init__(self, path: Path, info: VideoInfo, bases: list[Intact]) -> None:
        self._base, self._timed = bases[0], info.time_source == bases[0].info.time_source == "container"
        self._pictures = {digest: i for base in bases for digest, i in base.pictures().items()}
        self._indices = {digest: i for base in bases for digest, i in base.indices().items()}
        self._keys = {p.digest for base in bases for p in base.packets if p.key}
        self._known = {p.digest for base in bases for p in base.packets}
        self._times = {row.index: row.time for row in bases[0].rows}
        self._packets, header = packets_of(path)
        self._same_header = (*header, *shape(info)) == bases[0].header
        self._paced = self._timed and info.variable_rate is False
        self._same_order = [p.digest for p in self._packets] == [p.digest for p in bases[0].packets]
        self._tick = info.tick_s
        self._claims = {(p.time, self._indices.get(p.digest)) for p in self._packets}

    def verdicts(self, rows: list[Row], report: ReadReport) -> list[str]:
        """One for each row: right, flagged, retimed, blemished, silent, spoilt or misplaced (the last two are lies)."""
        shifts: list[float] = []
        out = [self._verdict(row, shifts) for row in rows]
        if len(shifts) > report.clock_restarts:
            out.append("misplaced")
        return out

    def _verdict(self, row: Row, shifts: list[float]) -> str:
        if row.damaged:
            return "flagged"
        index = self._pictures.get(row.digest)
        if index is None:
            return self._excuse(row)
        if self._close(row.time, self._times.get(index)):
            return "right"
        if not self._timed:
            return "retimed"
        wanted = [row.time - t for t, i in self._claims if i == index and t is not None]
        if any(abs(shift - known) < 1.01 * self._tick for shift in wanted for known in (0.0, *shifts)):
            return "retimed"
        if not wanted or self._altered_at(row.time):
            return self._excuse(row)
        shifts.append(min(wanted, key=abs))
        return "retimed"

    def _excuse(self, row: Row) -> str:
        right = self._close(row.time, self._times.get(row.index)) if self._timed else row.index >= 0
        if right and any(p.digest not in self._known for p in self._packets):
            return "blemished"
        return "silent" if self._altered_before(row.time) else "spoilt"

    def _altered_at(self, seconds: float) -> bool:
        return any(
            p.time is not None and self._close(p.time, seconds) and p.digest not in self._known for p in self._packets
        )

    def _altered_before(self, seconds: float) -> bool:
        """Whether bytes changed that the picture at ``seconds`` is decoded from, or may have without a trace."""
        if not self._same_header or not (self._paced or self._same_order):
            return True
        places = [k for k, p in enumerate(self._packets) if p.time is not None and self._close(p.time, seconds)]
        if not self._timed or not places:
            return any(p.digest not in self._known for p in self._packets)
        span = self._packets[self._group(places[0], seconds) : places[0] + 1]
        return any(p.digest not in self._known for p in span)

    def _group(self, place: int, seconds: float) -> int:
        """Number of the latest intact key packet that the packet at ``place`` can depend on alone."""
        for k in range(place, -1, -1):
            packet = self._packets[k]
            if packet.digest in self._keys and packet.time is not None and packet.time <= seconds + 1e-6:
                return k
        return 0

    @staticmethod
    def _close(a: float, b: float | None) -> bool:
        return b is not None and abs(a - b) < 1e-6


def read_broken(path: Path, bases: list[Intact]) -> Outcome:
    """Read ``path`` in full and judge it."""
    rows: list[Row] = []
    try:
        with open_video(path) as reader:
            rows.extend(rows_of(iter(reader)))
            info, report = reader.info, reader.report
    except VideoError as error:
        return Outcome(f"refused: {error.reason}" if not rows else f"broke off: {error.reason}")
    verdicts = Judge(path, info, bases).verdicts(rows, report)
    outcome = Outcome("read", Counter(verdicts))
    if any(b.time <= a.time for a, b in pairwise(rows)):
        outcome.verdicts["unordered"] += 1
    wrong = ("spoilt", "misplaced", "silent")
    outcome.notes = [f"{v} {r.time:.4f} {r.index}" for v, r in zip(verdicts, rows, strict=False) if v in wrong]
    return outcome


def _peak_mb() -> float:
    """Highest memory of this process since the last call, in MB; 0 where the system does not tell."""
    try:
        text = Path("/proc/self/status").read_text("ascii")
        Path("/proc/self/clear_refs").write_text("5", "ascii")
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1000 for line in text.splitlines() if line.startswith("VmHWM")), 0.0)


def serve(pipe: Connection, noise: str, bases: dict[str, Intact]) -> None:
    """Read what the pipe names, (path, names of its bases), and send an `Outcome` for each, until None."""
    with Path(noise).open("wb") as log:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log.fileno(), stream.fileno())
        said = 0
        while (job := pipe.recv()) is not None:
            path, names = job
            _peak_mb()
            start = time.perf_counter()
            try:
                outcome = read_broken(Path(path), [bases[name] for name in names])
            except Exception as error:  # whatever it is, it is the finding
                outcome = Outcome(f"foreign: {type(error).__name__}: {error}")
            outcome.seconds, outcome.peak_mb = time.perf_counter() - start, _peak_mb()
            sys.stderr.flush()
            if (size := os.fstat(log.fileno()).st_size) > said:
                outcome.notes.append("noise on stdout or stderr")
                outcome.verdicts["noise"] += 1
                said = size
            pipe.send(outcome)


class Child:
    """A process that reads broken files, started anew after it crashed or was killed for a hang."""

    def __init__(self, folder: Path, bases: dict[str, Intact]) -> None:
        self._folder, self._bases = folder, bases
        self._start()

    def _start(self) -> None:
        context = get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=serve, args=(other, str(self._folder / "noise"), self._bases))
        self._process.start()
        other.close()

    def read(self, path: Path, names: list[str], limit_s: float) -> Outcome:
        """The outcome for ``path``, a hang after ``limit_s`` and a crash among them."""
        self._pipe.send((str(path), names))
        if not self._pipe.poll(limit_s):
            return self._again("hang")
        try:
            outcome: Outcome = self._pipe.recv()
        except EOFError:
            self._process.join()
            return self._again(f"crash: exit code {self._process.exitcode}")
        return outcome

    def _again(self, ending: str) -> Outcome:
        self.close()
        self._start()
        return Outcome(ending)

    def close(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()
