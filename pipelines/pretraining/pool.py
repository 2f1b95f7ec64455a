"""Decoded clips in one file, so that every epoch, every crop and every network reads them at the speed of memory.

T frames, H W pixels, C channels (3 colours, or 2 of optical flow), K classes.
"""

import fcntl
import hashlib
import json
import math
import multiprocessing
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from extract.cache import room_beside
from extract.errors import InputError, MachineError, UsageError, VideoError, WorkerDiedError
from extract.flow import FlowSettings, flow_for, flow_frames, flow_library
from extract.interrupts import children_ignore_interrupts
from extract.worker import decoding_process
from pipelines.pretraining.examples import Example

OnClip = Callable[[int, int], None]  # clips read, of so many
Job = TypeVar("Job")
Labelled = tuple[NDArray[np.uint8], NDArray[np.float32]] | str
"""Frames and target of a clip; or its name and why it cannot be read."""
_AHEAD = 4  # clips that wait in memory, of each process
_INDEX, _PIXELS, _LOCK = "index.json", "pixels.bin", "lock"
_FIELDS = {"shapes", "targets", "clips", "failed", "digest"}


@dataclass(frozen=True, slots=True)
class Looks:
    """How frames are read: samples per second, shorter side in pixels, and, for flow, by which method."""

    fps: float
    short_side_px: int
    flow: FlowSettings | None = None


@dataclass(frozen=True, eq=False)
class Pool:
    """Clips of any length and size, behind each other.

    Attributes:
        pixels: all bytes of all clips.
        shapes: (N, 4) T, H, W, C of each.
        targets: (N, K) float32, a distribution over the classes.
        failed: which clips could not be read, and why; they are not among the N.
        names: (N,) which clip each is, wherever its folder lies.
        digest: of names, pixels, shapes and targets.
    """

    pixels: NDArray[np.uint8]
    shapes: NDArray[np.int64]
    targets: NDArray[np.float32]
    failed: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    digest: str = ""

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """(N,) where each clip begins in ``pixels``."""
        return np.concatenate([[0], np.cumsum(self.shapes.prod(1))[:-1]])

    def __len__(self) -> int:
        return len(self.shapes)

    def clip(self, number: int) -> NDArray[np.uint8]:
        """(T, H, W, C) uint8."""
        shape = self.shapes[number]
        start = self.starts[number]
        return self.pixels[start : start + shape.prod()].reshape(shape)


def pool_of(
    examples: Sequence[Example],
    classes: Sequence[str],
    looks: Looks,
    folder: Path,
    *,
    workers: int = 1,
    on_clip: OnClip = lambda _done, _total: None,
) -> Pool:
    """Read ``examples`` into ``folder``, or find there what an earlier call with the same arguments and files read.

    Raises:
        InputError: not one of them can be read.
        MachineError: ``folder`` cannot be written, or the disk is full.
    """
    libraries = [version("av"), "" if looks.flow is None else flow_library(looks.flow)]  # others may give other bits
    key = json.dumps([[_keyed(example) for example in examples], list(classes), str(looks), libraries])
    return pool_from(key, examples, partial(_labelled, classes=classes, looks=looks), folder, workers, on_clip)


def _keyed(example: Example) -> list[object]:
    """What is read depends on this: a file of other size or time of change is another one."""
    stamp = None
    with suppress(OSError):  # reading it will tell why
        status = example.path.stat()
        stamp = status.st_size, status.st_mtime_ns
    return [str(example.path.absolute()), example.label, example.span_s, example.name, stamp]


def pool_from(
    key: str, jobs: Sequence[Job], read: Callable[[Job], Labelled], folder: Path, workers: int, on_clip: OnClip
) -> Pool:
    """What ``read`` makes of each of ``jobs``, in order, kept in ``folder`` under ``key``. Errors as `pool_of`.

    Clips that could not be read are tried again.
    """
    place = folder / hashlib.sha256(key.encode()).hexdigest()[:24]
    try:
        index = _kept(place)
        if index is None or _readable_now(index, jobs, read):
            _read_into(place, jobs, read, workers, on_clip)
            index = _kept(place)
        if index is None:
            raise MachineError(f"{place}: decoded clips were removed while they were read; run the same command again")
        if not index["shapes"]:
            raise InputError(f"not one of {len(jobs)} clips can be read; first: {index['failed'][0]}")
        pixels = np.memmap(place / _PIXELS, np.uint8, "c")
    except MachineError:
        raise
    except OSError as error:
        raise MachineError(
            f"{place}: decoded clips cannot be kept ({error.strerror}); free space, or name another --cache"
        ) from error
    return Pool(
        pixels,
        np.array(index["shapes"], np.int64),
        np.array(index["targets"], np.float32),
        tuple(index["failed"]),
        tuple(str(jobs[number]) for number in index["clips"]),
        index["digest"],
    )


def _kept(place: Path) -> dict[str, Any] | None:
    """The index of the clips in ``place``; None where there are none, or not all bytes of them."""
    try:
        index = json.loads((place / _INDEX).read_text("utf-8"))
        held = (place / _PIXELS).stat().st_size
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(index, dict) or index.keys() != _FIELDS:  # of another version
        return None
    return index if held == sum(math.prod(shape) for shape in index["shapes"]) else None


def _readable_now(index: dict[str, Any], jobs: Sequence[Job], read: Callable[[Job], Labelled]) -> bool:
    """Whether a clip that could not be read then can be now."""
    then = set(index["clips"])
    return any(not isinstance(read(job), str) for number, job in enumerate(jobs) if number not in then)


def _read_into(
    place: Path, jobs: Sequence[Job], read: Callable[[Job], Labelled], workers: int, on_clip: OnClip
) -> None:
    shapes: list[tuple[int, ...]] = []
    targets: list[list[float]] = []
    clips: list[int] = []
    failed: list[str] = []
    digest = hashlib.sha256()
    with _room(place) as partly:
        with (partly / _PIXELS).open("wb") as out:
            for number, found in enumerate(_in_order(jobs, read, workers)):
                if isinstance(found, str):
                    failed.append(found)
                else:
                    pixels, target = found
                    content = pixels.tobytes()
                    out.write(content)
                    shapes.append(pixels.shape)
                    targets.append(target.tolist())
                    clips.append(number)
                    digest.update(f"{jobs[number]} {pixels.shape} {targets[-1]}".encode("utf-8", "surrogateescape"))
                    digest.update(content)
                on_clip(number + 1, len(jobs))
        index = {"shapes": shapes, "targets": targets, "clips": clips, "failed": failed, "digest": digest.hexdigest()}
        (partly / _INDEX).write_text(json.dumps(index), "utf-8")
        _put(partly, place, len(failed))


def _put(partly: Path, place: Path, failed: int) -> None:
    """Make ``partly`` what is in ``place``, unless another training was faster and could read as much."""
    there = _kept(place)
    if there is not None and len(there["failed"]) <= failed:
        return
    with suppress(FileNotFoundError):
        place.rename(partly.with_name("old"))
    try:
        partly.rename(place)
    except OSError:
        if _kept(place) is None:
            raise


@contextmanager
def _room(place: Path) -> Iterator[Path]:
    """A folder of nobody else's for what is to become ``place``; what is left in it is gone in the end.

    Rooms are locked by their processes. Those whose processes were killed are removed.
    """
    for lock in place.parent.glob(f".unfinished-*/{_LOCK}"):
        with suppress(OSError), lock.open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)
    with room_beside(place) as room, (room / "new").open("wb") as held:
        with suppress(OSError):  # a file system without locks: nobody can remove it then
            fcntl.flock(held, fcntl.LOCK_EX)
        (room / "new").rename(room / _LOCK)
        partly = room / place.name
        partly.mkdir()
        yield partly


def _in_order(jobs: Sequence[Job], read: Callable[[Job], Labelled], workers: int) -> Iterator[Labelled]:
    if workers < 2 or len(jobs) < 2 * workers:
        yield from map(read, jobs)
        return
    spawn = multiprocessing.get_context("spawn")  # a forked process inherits locks of decoder threads
    with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        with children_ignore_interrupts():
            pending = deque(pool.submit(read, job) for job in jobs[: _AHEAD * workers])
        ahead = len(pending)
        for number in range(len(jobs)):
            try:
                found = pending.popleft().result()
                if number + ahead < len(jobs):
                    pending.append(pool.submit(read, jobs[number + ahead]))
            except BrokenProcessPool as error:
                raise WorkerDiedError(
                    f"a process that decodes ended while {jobs[number]} was next; it may have lacked memory. Try fewer "
                    "--workers"
                ) from error
            yield found


def _labelled(example: Example, classes: Sequence[str], looks: Looks) -> Labelled:
    frames = frames_of(example, looks)
    if isinstance(frames, str):
        return frames
    target = np.zeros(len(classes), np.float32)
    target[classes.index(example.label)] = 1
    return frames, target


def frames_of(example: Example, looks: Looks) -> NDArray[np.uint8] | str:
    """(T, H, W, C) uint8 of one clip; or its name and why it cannot be read."""
    options: dict[str, Any] = {"fps": looks.fps, "short_side": looks.short_side_px}
    try:
        if example.span_s is not None:  # seconds from the first frame
            begin_s = decoding_process().probe(example.path).start_s
            options |= {"start_s": begin_s + example.span_s[0], "stop_s": begin_s + example.span_s[1]}
        with decoding_process().open_video(example.path, **options) as reader:
            batches = [batch.pixels for batch in reader]
        report = reader.report
    except VideoError as error:
        return f"{example.path}: {error.detail}"
    except UsageError as error:  # a span without length
        return f"{example.path}: {error}"
    if not batches:
        return f"{example.path}: no frame in {example.span_s or 'it'}"
    if report.bad_packets or report.damaged_frames:
        return (
            f"{example.path}: damaged ({report.bad_packets} packets cannot be decoded, {report.damaged_frames} of "
            f"{report.decoded_frames} frames may be wrong); repair it, or leave it out"
        )
    frames = np.concatenate(batches)
    return looked(frames, looks)


def looked(frames: NDArray[np.uint8], looks: Looks) -> NDArray[np.uint8]:
    """(T, H, W, 3) as they are, or their flow (T, H, W, 2)."""
    if looks.flow is None:
        return frames
    return flow_frames(frames, flow_for(looks.flow))
