"""Killing processes of a job, looking at its store meanwhile, and comparing what a rerun leaves with the truth.

Jobs are the command line, in children of a server that has imported everything: a job costs no imports.
"""

import multiprocessing
import os
import random
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import xarray
from footage import H, W, encode, regular
from numpy.typing import NDArray
from real.dask_parts import Part, Scheduler, start_scheduler, start_worker

from extract.measure import Speed
from extract.store import FeatureStore
from pipelines import cli, extraction, planning

LONG = "minute.mp4"  # is read in spans
FINISHED = 4  # the exit code of a job that did all it could: one file cannot be read
ENDS_S = 120.0  # within which every job ends
BEFORE_WORK = ("a Dask worker died in measure", "no local Dask cluster")  # what ends a job that has no plan yet
UNIT_S, SHORTEST_UNIT_S = 0.2, 0.1  # so that the archive is about a dozen units
SPEED = Speed(open_s=0.02, decode_s_per_s=0.005, model_s_per_clip=0.01, threads=1)  # they are the same on any machine
SMALL = ("--clip-frames", "8", "--crop", "32", "--short-side", "32", "--engine", "torch", "-q")

COLUMNS = ("features", "start_s", "stop_s", "real_frames", "damaged")
PUBLISHED = ("features", "clip_start", "clip_stop", "clip_real_frames", "clip_damaged")
_PAUSE_S = 0.03  # of the reader
_DECODES, _WORKS = "extract.video._child", "multiprocessing.spawn"

_warm = multiprocessing.get_context("forkserver")
_warm.set_forkserver_preload(
    [
        "extract.job._start",
        "pipelines.cli",
        "pipelines.extraction",
        "pipelines.show",
        "torch._dynamo",  # which torch imports when it first normalises a batch that is not there
        "xarray",
    ]
)


def make_archive(folder: Path) -> Path:
    """Nine videos in ``folder``: one of a minute, one with a hole, one with damage, one that cannot be read."""
    folder.mkdir()
    slow = Fraction(10)
    _write(folder / LONG, regular(600, slow), seed=0)
    _write(folder / "hole.mkv", [*regular(60, slow), *(t + 12 for t in regular(60, slow))], seed=1)
    damaged = bytearray(_write(folder / "damaged.mp4", regular(100, slow), seed=2).read_bytes())
    middle = len(damaged) // 2
    damaged[middle : middle + 2000] = bytes(2000)
    (folder / "damaged.mp4").write_bytes(damaged)
    for number, frames in enumerate((50, 10, 125, 78, 105)):
        _write(folder / f"short{number}.mp4", regular(frames), seed=3 + number)
    (folder / "text.mp4").write_text("not a video\n" * 100)
    return folder


def _write(path: Path, times: Sequence[Fraction], *, seed: int) -> Path:
    """A window that jumps about over noise of its own."""
    rng = np.random.default_rng(seed)
    scene = rng.integers(0, 255, (H + 60, W + 60, 3), np.uint8)
    places = rng.integers(0, 60, (97, 2))

    def picture(index: int) -> NDArray[np.uint8]:
        y, x = places[index % len(places)]
        return scene[y : y + H, x : x + W]

    return encode(path, times, rate=1 / (times[1] - times[0]), tick=Fraction(1, 1000), picture=picture)


class Truth:
    """The store at ``path``, of an undisturbed job, in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        store = FeatureStore.open(path)
        self.failures = dict(store.failures)
        self.recipe_digest = store.recipe_digest
        self.records = {video_id: _record(store, video_id) for video_id in store}
        self.columns = {video_id: _columns(store, video_id) for video_id in store}

    @property
    def clips(self) -> int:
        """Of all videos."""
        return sum(len(columns[0]) for columns in self.columns.values())

    def check(self, path: Path) -> None:
        """Assert that the store at ``path`` holds the same to the last bit, and is published as a whole."""
        store = FeatureStore.open(path)
        assert set(store) == set(self.records)
        assert dict(store.failures) == self.failures
        assert store.recipe_digest == self.recipe_digest
        for video_id in store:
            self.check_video(store, video_id)
        published = self.check_published(path)
        assert sorted(published) == sorted(self.records)

    def check_video(self, store: FeatureStore, video_id: str) -> None:
        """Assert that a video of ``store`` is the true one; its CRC-32 is checked on the way."""
        assert _record(store, video_id) == self.records[video_id]
        _same(video_id, _columns(store, video_id), self.columns[video_id])

    def check_published(self, path: Path) -> list[str]:
        """Assert that every video that the published arrays name is the true one; their ids."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            published = xarray.open_zarr(path, chunks=None).load()
        ids: list[str] = published["video_id"].to_numpy().tolist()
        sizes = published["row_size"].to_numpy()
        assert sizes.sum() == published.sizes["clip"]
        for video_id, stop, size in zip(ids, np.cumsum(sizes), sizes, strict=True):
            rows = tuple(published[name].to_numpy()[stop - size : stop] for name in PUBLISHED)
            _same(video_id, rows, self.columns[video_id])
        return ids


def _record(store: FeatureStore, video_id: str) -> tuple[object, ...]:
    record = store.catalogue[video_id]
    return record.rows, record.crc32, record.fingerprint, record.status, record.duration_s


def _columns(store: FeatureStore, video_id: str) -> tuple[NDArray[Any], ...]:
    sequence = store[video_id]
    return tuple(getattr(sequence, name) for name in COLUMNS)


def _same(video_id: str, ours: tuple[NDArray[Any], ...], theirs: tuple[NDArray[Any], ...]) -> None:
    for name, a, b in zip(COLUMNS, ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=f"{name} of {video_id}")


@dataclass
class Seen:
    """What a reader looked at beside a job: ``videos`` read, ``published`` groups opened, what was wrong."""

    videos: int = 0
    published: int = 0
    wrong: list[str] = field(default_factory=list)


@contextmanager
def reader(out: Path, truth: Truth) -> Iterator[Seen]:
    """A process that reads the store at ``out`` all the time, and holds it against ``truth``.

    What it saw is complete when the block is left.
    """
    seen = Seen()
    ours, theirs = _warm.Pipe()
    process = _warm.Process(target=_read, args=(out, truth.path, theirs))
    process.start()
    theirs.close()
    ours.recv()  # it is ready
    try:
        yield seen
    finally:
        ours.send(None)
        seen.videos, seen.published, seen.wrong = ours.recv()
        process.join()


def _read(out: Path, undisturbed: Path, connection: Connection) -> None:
    truth, rng, seen = Truth(undisturbed), random.Random(0), Seen()
    connection.send(None)
    while not connection.poll(_PAUSE_S):
        try:
            _look(out, truth, rng, seen)
        except Exception as error:  # whatever it is, it is what the test looks for
            seen.wrong.append(f"{type(error).__name__}: {error}"[:500])
    connection.send((seen.videos, seen.published, seen.wrong))


def _look(out: Path, truth: Truth, rng: random.Random, seen: Seen) -> None:
    store = FeatureStore.find(out)
    if store is None:
        return
    if len(store):
        truth.check_video(store, rng.choice(list(store)))
        seen.videos += 1
    if (out / "zarr.json").exists():
        truth.check_published(out)
        seen.published += 1


@dataclass(frozen=True, slots=True)
class Command:
    """``untrimmed extract ARCHIVE -o OUT`` on ``workers`` or ``scheduler``; in small units, or in a single one."""

    archive: Path
    out: Path
    workers: int = 0
    scheduler: str | None = None
    single: bool = False

    @property
    def log(self) -> Path:
        """Where its output goes, that of all its runs."""
        return self.out.with_name(f"{self.out.name}.log")

    def arguments(self, *more: str) -> list[str]:
        """Of the command line, with the program's name."""
        where = ["--workers", str(self.workers)] if self.scheduler is None else ["--scheduler", self.scheduler]
        return ["untrimmed", "extract", str(self.archive), "-o", str(self.out), *SMALL, *where, *more]

    def start(self, *more: str) -> BaseProcess:
        """Run it in a process and a session of its own."""
        process = _warm.Process(target=_run, args=(self.log, self.arguments(*more), self.single))
        process.start()
        return process

    def finish(self, *more: str, code: int = FINISHED) -> float:
        """Run it to its end; its wall seconds. AssertionError where it ends with another exit code."""
        began = time.monotonic()
        process = self.start(*more)
        process.join(ENDS_S)
        assert process.exitcode == code, f"exit code {process.exitcode}\n{self.log.read_text()}"
        return time.monotonic() - began


def _run(log: Path, arguments: list[str], single: bool) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the tests were started with
    with log.open("ab") as output:
        for number in (1, 2):
            os.dup2(output.fileno(), number)
    if not single:
        planning.UNIT_S, planning.SHORTEST_UNIT_S = UNIT_S, SHORTEST_UNIT_S
    extraction.divide = _divide
    sys.argv = arguments
    cli.main()


def _divide(work: planning.Work, speed: Speed | None, *, slots: int, cores: float) -> planning.Plan:
    return planning.divide(work, speed and SPEED, slots=slots, cores=1)


@dataclass(frozen=True, slots=True)
class Moment:
    """``after_s`` seconds after the start; or, with ``pattern``, when ``count`` more paths in the store match it."""

    after_s: float = 0.0
    pattern: str = ""
    count: int = 1

    @property
    def kind(self) -> str:
        """In a word."""
        return {"": "any time", "_log/*": "log entry", "_segments/*/*": "segment"}.get(self.pattern, "publication")

    def wait(self, out: Path, alive: Callable[[], bool]) -> None:
        """Return at the moment, or when the job is not ``alive`` any more."""
        began, before = time.monotonic(), self._matching(out)
        while alive():
            if self._matching(out) - before >= self.count if self.pattern else time.monotonic() - began >= self.after_s:
                return
            time.sleep(0.001)

    def _matching(self, out: Path) -> int:
        return sum(1 for _ in out.glob(self.pattern)) if self.pattern else 0


def random_moment(rng: random.Random, undisturbed_s: float, *, publication: bool) -> Moment:
    """Half of them some time of an undisturbed run, the others at a step of the writing, or of the ``publication``."""
    if rng.random() < 0.5:
        return Moment(after_s=rng.uniform(0, undisturbed_s))
    steps = [("_log/*", rng.randint(1, 12)), ("_segments/*/*", rng.randint(1, 10))]
    if publication:
        steps += [(pattern, 1) for pattern in ("features", "clip_stop", "row_size", "zarr.json")]
    pattern, count = rng.choice(steps)
    return Moment(pattern=pattern, count=count)


class Outside:
    """A scheduler and two nannies with a worker each, as Dask's command line starts them."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._started = folder, 0
        self.scheduler: Scheduler | None = None
        self.nannies: list[Part] = []

    def mend(self) -> str:
        """Start what does not run; the address of the scheduler."""
        if self.scheduler is None or self.scheduler.process.poll() is not None:
            self.close()
            self._started += 1
            folder = self._folder / f"dask{self._started}"
            folder.mkdir(parents=True)
            self.scheduler = start_scheduler(folder)
        self.nannies = [nanny for nanny in self.nannies if nanny.process.poll() is None]
        while len(self.nannies) < 2:
            self._started += 1
            self.nannies.append(start_worker(self.scheduler, f"nanny{self._started}"))
        return self.scheduler.address

    def close(self) -> None:
        """Kill all of it."""
        for part in (*self.nannies, self.scheduler):
            if part is not None:
                part.kill()
        self.nannies = []


@dataclass(frozen=True, slots=True)
class Scene:
    """A running job, and the cluster that it runs on, if that is another's."""

    job: BaseProcess
    outside: Outside | None

    def find(self, text: str) -> list[psutil.Process]:
        """Processes of the job and of the cluster that have ``text`` in their command lines."""
        roots = [self.job.pid] if self.outside is None else [n.process.pid for n in self.outside.nannies]
        children = [child for root in roots for child in _descendants(root)]
        return [child for child in children if text in " ".join(_command_line(child))]


def _command_line(process: psutil.Process) -> list[str]:
    with suppress(psutil.NoSuchProcess):
        line: list[str] = process.cmdline()
        return line
    return []


Kill = Callable[[Scene, random.Random], bool]  # whether somebody died


def kill_client(scene: Scene, _rng: random.Random) -> bool:
    """The command alone: its workers and decoders see that it is gone."""
    return scene.job.is_alive() and _kill(scene.job.pid)


def kill_client_and_children(scene: Scene, rng: random.Random) -> bool:
    """The command first, then whatever descends from it."""
    children = _descendants(scene.job.pid)
    killed = kill_client(scene, rng)
    for child in children:
        _kill(child.pid)
    return killed


def kill_decoder(scene: Scene, rng: random.Random) -> bool:
    """A decoding process, once there is one."""
    return _kill_one(scene, _DECODES, rng)


def kill_worker(scene: Scene, rng: random.Random) -> bool:
    """A worker process under its nanny, once there is one."""
    return _kill_one(scene, _WORKS, rng)


def kill_nanny(scene: Scene, rng: random.Random) -> bool:
    """A nanny alone; its worker sees that it is gone."""
    assert scene.outside is not None
    if not scene.job.is_alive():
        return False
    nanny = rng.choice(scene.outside.nannies).process
    children = _descendants(nanny.pid)
    killed = _kill(nanny.pid)
    check_gone(children)
    return killed


def kill_nanny_and_worker(scene: Scene, rng: random.Random) -> bool:
    """A nanny and its group, as when a machine stops."""
    assert scene.outside is not None
    if not scene.job.is_alive():
        return False
    nanny = rng.choice(scene.outside.nannies)
    children = _descendants(nanny.process.pid)
    nanny.kill()
    check_gone(children)
    return True


def kill_scheduler(scene: Scene, _rng: random.Random) -> bool:
    """The scheduler."""
    assert scene.outside is not None
    assert scene.outside.scheduler is not None
    if not scene.job.is_alive():
        return False
    scene.outside.scheduler.kill()
    return True


def _kill_one(scene: Scene, text: str, rng: random.Random) -> bool:
    """Where there is none yet, the first one is killed some moments after its birth."""
    born = False
    while scene.job.is_alive():
        found = scene.find(text)
        if found:
            time.sleep(rng.uniform(0, 1) if born else 0)
            return _kill(rng.choice(found).pid)
        born = True
        time.sleep(0.01)
    return False


def _kill(pid: int | None) -> bool:
    assert pid is not None
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False


KILLS: dict[str, Kill] = {
    "client": kill_client,
    "client and children": kill_client_and_children,
    "decoder": kill_decoder,
    "worker": kill_worker,
    "nanny": kill_nanny,
    "nanny and worker": kill_nanny_and_worker,
    "scheduler": kill_scheduler,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one job that was struck and run again.

    ``struck``: whether the victim lived at the moment. ``code``: how the job ended, and ``ended_s`` when, in seconds
    from its start. ``kept_clips``: in the store at that time;
    ``crashed``: videos that had failed because their decoder was gone. ``rerun_s``: what the rerun took.
    """

    struck: bool
    code: int
    ended_s: float
    kept_clips: int
    crashed: int
    rerun_s: float
    seen: Seen


def strike(
    command: Command, victim: str, moment: Moment, rng: random.Random, *, truth: Truth, outside: Outside | None = None
) -> Outcome:
    """Start the job, kill ``victim`` at ``moment``, run it again; a reader looks all the time.

    Raises:
        AssertionError: the store is not the true one in the end, the reader saw what is not true, the job did not end
            as it must, or left processes.
    """
    with reader(command.out, truth) as seen:
        began = time.monotonic()
        job = command.start()
        moment.wait(command.out, job.is_alive)
        children = _descendants(job.pid)
        struck = KILLS[victim](Scene(job, outside), rng)
        job.join(ENDS_S)
        ended_s = time.monotonic() - began
        check_end(command, job.exitcode, victim if struck else "nobody")
        struck = struck and not (victim.startswith("client") and job.exitcode == FINISHED)  # just before
        kept_clips, crashed = state(command.out)
        again = command if outside is None else replace(command, scheduler=outside.mend())
        rerun_s = again.finish(*(("--retry-failed",) if victim == "decoder" else ()))
    check_seen(seen)
    truth.check(command.out)
    check_gone(children)
    return Outcome(struck, job.exitcode or 0, ended_s, kept_clips, crashed, rerun_s, seen)


def _descendants(pid: int | None) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


def check_gone(processes: list[psutil.Process]) -> None:
    """Assert that ``processes`` end soon."""
    _, left = psutil.wait_procs(processes, timeout=20)
    assert not left, f"left over: {[_command_line(process) for process in left]}"


def check_end(command: Command, code: int | None, victim: str) -> None:
    """Assert that the exit code is what it must be when ``victim`` was killed, and what was said."""
    said = command.log.read_text()
    assert code is not None, f"still running after {ENDS_S} s\n{said}"
    assert "Traceback" not in said, said
    codes = {FINISHED}
    if victim.startswith("client"):
        codes.add(-signal.SIGKILL)
    elif victim == "scheduler":
        codes.add(3)
        assert code == FINISHED or ("scheduler" in said and "run" in said), said
    elif any(words in said for words in BEFORE_WORK):
        codes.add(3)
    assert code in codes, f"exit code {code} when the victim was {victim}\n{said}"


def check_seen(seen: Seen) -> None:
    """Assert that a reader saw nothing but the truth."""
    assert not seen.wrong, f"{len(seen.wrong)} readings, the first: {seen.wrong[0]}"


def state(out: Path) -> tuple[int, int]:
    """Clips of videos, and of spans of some, that the store at ``out`` has; its videos whose decoder died."""
    store = FeatureStore.find(out)
    if store is None:
        return 0, 0
    spans = [span.part.rows for begun in store.spans.values() for span in begun]
    crashed = [failure for failure in store.failures.values() if failure.reason == "decoder_crashed"]
    return sum(record.rows for record in store.catalogue.values()) + sum(spans), len(crashed)


if __name__ == "__main__":
    _run(Path(sys.argv[1]), sys.argv[2:], single=False)
