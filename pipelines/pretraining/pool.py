"""Decoded clips in one file, so that every epoch, every crop and every network reads them at the speed of memory.

T frames, H W pixels, C channels (3 colours, or 2 of optical flow), K classes.
"""

import hashlib
import json
import multiprocessing
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from extract.errors import InputError, MachineError, UsageError, VideoError
from extract.flow import FlowSettings, flow_for, flow_frames
from extract.interrupts import children_ignore_interrupts
from extract.video import probe
from extract.worker import decoding_process
from pipelines.pretraining.examples import Example

OnClip = Callable[[int, int], None]  # clips read, of so many
Job = TypeVar("Job")
Labelled = tuple[NDArray[np.uint8], NDArray[np.float32]] | str
"""Frames and target of a clip; or its name and why it cannot be read."""
_PENDING = 64
_INDEX, _PIXELS = "index.json", "pixels.bin"


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
    """

    pixels: NDArray[np.uint8]
    shapes: NDArray[np.int64]
    targets: NDArray[np.float32]
    failed: tuple[str, ...] = ()

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
    """Read ``examples`` into ``folder``, or find there what an earlier call with the same arguments read.

    Raises:
        InputError: not one of them can be read.
        MachineError: ``folder`` cannot be written, or the disk is full.
    """
    key = json.dumps([[[*asdict(example).values()] for example in examples], list(classes), str(looks)], default=str)
    return pool_from(key, examples, partial(_labelled, classes=classes, looks=looks), folder, workers, on_clip)


def pool_from(
    key: str, jobs: Sequence[Job], read: Callable[[Job], Labelled], folder: Path, workers: int, on_clip: OnClip
) -> Pool:
    """What ``read`` makes of each of ``jobs``, in order, kept in ``folder`` under ``key``. Errors as `pool_of`."""
    place = folder / hashlib.sha256(key.encode()).hexdigest()[:24]
    try:
        if not (place / _INDEX).exists():
            _read_into(place, jobs, read, workers, on_clip)
        index = json.loads((place / _INDEX).read_text("utf-8"))
        if not index["shapes"]:
            raise InputError(f"not one of {len(jobs)} clips can be read; first: {index['failed'][0]}")
        pixels = np.memmap(place / _PIXELS, np.uint8, "c")
    except OSError as error:
        raise MachineError(
            f"{place}: decoded clips cannot be kept ({error.strerror}); free space, or name another --cache"
        ) from error
    shapes, targets = np.array(index["shapes"], np.int64), np.array(index["targets"], np.float32)
    return Pool(pixels, shapes, targets, tuple(index["failed"]))


def _read_into(
    place: Path, jobs: Sequence[Job], read: Callable[[Job], Labelled], workers: int, on_clip: OnClip
) -> None:
    partly = place.with_suffix(".partial")
    shutil.rmtree(partly, ignore_errors=True)
    partly.mkdir(parents=True)
    shapes: list[tuple[int, ...]] = []
    targets: list[list[float]] = []
    failed: list[str] = []
    with (partly / _PIXELS).open("wb") as out:
        for number, found in enumerate(_in_order(jobs, read, workers)):
            if isinstance(found, str):
                failed.append(found)
            else:
                pixels, target = found
                out.write(pixels.tobytes())
                shapes.append(pixels.shape)
                targets.append(target.tolist())
            on_clip(number + 1, len(jobs))
    (partly / _INDEX).write_text(json.dumps({"shapes": shapes, "targets": targets, "failed": failed}), "utf-8")
    partly.replace(place)


def _in_order(jobs: Sequence[Job], read: Callable[[Job], Labelled], workers: int) -> Iterator[Labelled]:
    if workers < 2 or len(jobs) < 2 * workers:
        yield from map(read, jobs)
        return
    spawn = multiprocessing.get_context("spawn")  # a forked process inherits locks of decoder threads
    with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        with children_ignore_interrupts():
            pending = deque(pool.submit(read, job) for job in jobs[:_PENDING])
        for number in range(len(jobs)):
            found = pending.popleft().result()
            if number + _PENDING < len(jobs):
                pending.append(pool.submit(read, jobs[number + _PENDING]))
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
            begin_s = probe(example.path).start_s
            options |= {"start_s": begin_s + example.span_s[0], "stop_s": begin_s + example.span_s[1]}
        with decoding_process().open_video(example.path, **options) as reader:
            batches = [batch.pixels for batch in reader]
    except VideoError as error:
        return f"{example.path}: {error.detail}"
    except UsageError as error:  # a span without length
        return f"{example.path}: {error}"
    if not batches:
        return f"{example.path}: no frame in {example.span_s or 'it'}"
    frames = np.concatenate(batches)
    return looked(frames, looks)


def looked(frames: NDArray[np.uint8], looks: Looks) -> NDArray[np.uint8]:
    """(T, H, W, 3) as they are, or their flow (T, H, W, 2)."""
    if looks.flow is None:
        return frames
    return flow_frames(frames, flow_for(looks.flow))
