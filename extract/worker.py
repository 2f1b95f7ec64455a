"""A worker's part of a job: one unit of work in, one segment in the store and one result out."""

import platform
import socket
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version

import numpy as np
import torch
from numpy.typing import NDArray

from extract.backbones import load_backbone
from extract.boxes import Boxes, ReadTo, box_features, boxed_clips, joined, widened
from extract.clipping import ClipSpan, SeamError, clips_of, reading_options
from extract.engine import ClipInput, Engine
from extract.errors import MachineError, UsageError, VideoError
from extract.flow import flow_library
from extract.prefetch import Prefetch
from extract.recipe import OWN_FEATURES, Recipe
from extract.store import FeatureStore, Receipt, Span, UnstorableError, VideoFeatures
from extract.urls import without_secrets
from extract.video import DecodingProcess, IsolatedReader, ReadReport, VideoInfo

_AHEAD_BYTES = 256 << 20
_TRANSIENT = frozenset(("io_error",))  # reasons that may pass: a storage or a network that failed
_SHOWN = 5
RETRY_AFTER_S = (1.0, 2.0, 4.0, 8.0, 15.0)


@dataclass(frozen=True, slots=True)
class Task:
    """One video of a job, or a span of it. ``duration_s`` is the container's figure, None where it has none.

    ``boxes``: all of the video, where the recipe's features are of boxes.
    """

    video_id: str
    path: str
    fingerprint: str
    duration_s: float | None
    span: ClipSpan | None = None
    boxes: Boxes | None = None


@dataclass(frozen=True, slots=True)
class Unit:
    """Some videos that one worker reads one after the other and writes as one segment."""

    tasks: tuple[Task, ...]


@dataclass(frozen=True, slots=True)
class Setup:
    """What every worker of a job needs to know; settled once, when the job is planned.

    ``threads`` compute clips in each worker, which has ``cores`` cores of its machine for itself. ``boxes_file`` is
    where the boxes are from, for the record.
    """

    store: str
    recipe: Recipe
    weights: str
    device: str
    engine: str
    decoder: str
    threads: int
    cores: float = 1.0
    job: str = ""
    boxes_file: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """A video that gave no features, and why: ``reason`` is a stable code, ``detail`` a sentence."""

    video_id: str
    fingerprint: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class UnitResult:
    """What became of a unit. ``video_s``: seconds of video read; the other ``*_s``: seconds each stage was busy.

    ``clips`` were computed. ``unsplit``: spans that would not add up to their videos, which are to be read in one
    piece. ``boxes``: rows made, where features are of boxes. ``notes``: what the user should hear of.
    """

    receipt: Receipt | None
    failed: tuple[Failed, ...]
    clips: int
    video_s: float
    decode_s: float
    model_s: float
    store_s: float
    unsplit: tuple[Task, ...] = ()
    boxes: int = 0
    notes: tuple[str, ...] = ()


@dataclass
class _Reading:
    """One video while its clips pass through the engine; frames are not kept.

    ``marks``: of each row. ``boxes``: of each computed clip, where features are of boxes. ``rows``: of each computed
    clip, (D,), or (N, D) of its boxes.
    """

    task: Task
    info: VideoInfo | None = None
    report: ReadReport | None = None
    failed: Failed | None = None
    seam: bool = False
    end: ReadTo | None = None
    frame: tuple[int, int] | None = None
    started: float = field(default_factory=time.time)
    marks: list[tuple[float, float, int, bool]] = field(default_factory=list)
    boxes: list[Boxes] = field(default_factory=list)
    rows: list[NDArray[np.float32]] = field(default_factory=list)

    @property
    def kept(self) -> bool:
        """Whether there are clips to store, be it without boxes."""
        return self.failed is None and not self.seam and self.end is not None and self.end.clips > 0

    @property
    def video_s(self) -> float:
        """Seconds of video from the first clip to the end of the last."""
        return 0.0 if self.end is None else self.end.stop_s - self.end.start_s


def run_unit(setup: Setup, unit: Unit, on_clips: Callable[[int], None] = lambda _clips: None) -> UnitResult:
    """Read the unit's videos, run the backbone, and write one segment, which nobody sees before it is committed.

    Decoding goes on in a process of its own while the backbone computes, so that a decoder's crash ends no more than
    its video. A video that fails is named in the result and does not touch the others; where its storage failed, it is
    tried again, for about half a minute. ``on_clips`` is called with the number of clips of each batch.

    Raises:
        MachineError: the store cannot be written, or the memory is too small for one clip.
        DeviceLostError: the GPU answers no more.
        InterruptedError: `stop_units` was called.
    """
    engine = engine_for(setup)
    readings, busy = _compute(setup, engine, unit.tasks, on_clips)
    for wait_s in RETRY_AFTER_S:
        again = [at for at, r in enumerate(readings) if r.failed is not None and r.failed.reason in _TRANSIENT]
        if not again:
            break
        time.sleep(wait_s)
        fresh, more = _compute(setup, engine, [readings[at].task for at in again], on_clips)
        busy = busy + more
        for at, reading in zip(again, fresh, strict=True):
            readings[at] = reading
    began = time.perf_counter()
    receipt = _write(setup, readings)
    return UnitResult(
        receipt=receipt,
        failed=tuple(reading.failed for reading in readings if reading.failed is not None),
        clips=sum(len(reading.rows) for reading in readings if reading.kept),
        video_s=sum(reading.video_s for reading in readings if reading.kept),
        decode_s=busy.decode_s,
        model_s=busy.model_s,
        store_s=time.perf_counter() - began,
        unsplit=tuple(reading.task for reading in readings if reading.seam),
        boxes=sum(len(boxes) for reading in readings if reading.kept for boxes in reading.boxes),
        notes=tuple(note for reading in readings if reading.kept for note in _notes(reading)),
    )


def features_of(setup: Setup, task: Task) -> VideoFeatures:
    """The features of one video, written nowhere. Raises VideoError where it cannot be read."""
    (reading,), _ = _compute(setup, engine_for(setup), [task], lambda _clips: None)
    if reading.failed is not None:
        raise VideoError(task.path, reading.failed.reason, reading.failed.detail)
    return _video_features(setup, reading)


@dataclass(frozen=True, slots=True)
class _Busy:
    decode_s: float
    model_s: float

    def __add__(self, other: "_Busy") -> "_Busy":
        return _Busy(self.decode_s + other.decode_s, self.model_s + other.model_s)


def _compute(
    setup: Setup, engine: Engine, tasks: Sequence[Task], on_clips: Callable[[int], None]
) -> tuple[list[_Reading], _Busy]:
    """Read ``tasks`` and run the backbone over their clips."""
    readings = [_Reading(task) for task in tasks]
    began = time.perf_counter()
    process, clips = decoding_process(), _read_all(setup, readings)
    # After an error nobody waits for the child: it is killed before the reading thread is joined.
    with (
        _on_error(process.close),
        Prefetch(clips, clips_ahead(setup.recipe)) as decoding,
        _on_error(process.kill),
    ):
        for batch in engine.run(decoding):
            _check_stop(setup.job)
            for reading, row in batch:
                reading.rows.append(_of_boxes(setup.recipe, reading, row))
            on_clips(len(batch))
    model_s = time.perf_counter() - began - decoding.waiting_s
    return readings, _Busy(decoding.producing_s, model_s)


def _of_boxes(recipe: Recipe, reading: _Reading, row: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the engine says of the next clip of ``reading`` as rows: as it is, or, of maps, at the clip's boxes."""
    if recipe.roi is None:
        return row
    assert reading.frame is not None  # noqa: S101 - a clip was read
    return box_features(row, reading.boxes[len(reading.rows)], reading.frame, recipe.roi)


_stopped_jobs: set[str] = set()


def stop_units(job: str) -> None:
    """Have the units of ``job`` in this process end at their next batch, with InterruptedError."""
    _stopped_jobs.add(job)


def _check_stop(job: str) -> None:
    if job in _stopped_jobs:
        raise InterruptedError("the job was stopped")


@contextmanager
def _on_error(act: Callable[[], None]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        act()
        raise


@lru_cache(maxsize=1)
def decoding_process() -> DecodingProcess:
    """One for each process, and for all its units; it ends with this process, or when it is closed."""
    return DecodingProcess()


def clip_input(recipe: Recipe) -> ClipInput:
    """What the engine is given by ``recipe``."""
    layer = None if recipe.layer == OWN_FEATURES else recipe.layer
    side_px = recipe.short_side_px if recipe.crop_px is None else recipe.crop_px
    maps = recipe.roi is not None
    return ClipInput(recipe.clip_frames, side_px, recipe.mean, recipe.std, recipe.colour, layer, maps)


def engine_for(setup: Setup) -> Engine:
    """The engine of a job in this process; loaded when it is first asked for."""
    return _engine(setup.recipe, setup.weights, setup.device, setup.engine, setup.threads)


@lru_cache(maxsize=1)
def _engine(recipe: Recipe, weights: str, device: str, engine: str, threads: int) -> Engine:
    """One engine for each process: loaded with its first unit, never sent over the network."""
    backbone = load_backbone(recipe.backbone, weights)
    if backbone.weights_sha256 != recipe.weights_sha256:
        raise MachineError(
            f"this worker's weights of {recipe.backbone} ({without_secrets(weights)}) have digest "
            f"{backbone.weights_sha256[:12]}, the job's {recipe.weights_sha256[:12]}; give every worker the same file"
        )
    return Engine(
        backbone, clip_input(recipe), engine=engine, device=device, precision=recipe.precision, threads=threads
    )


def clips_ahead(recipe: Recipe) -> int:
    """How many decoded clips may wait for the backbone."""
    frame_px = 2 * recipe.short_side_px**2 if recipe.crop_px is None else recipe.crop_px**2
    return max(1, min(48, _AHEAD_BYTES // (len(recipe.mean) * recipe.clip_frames * frame_px)))


def _read_all(setup: Setup, readings: list[_Reading]) -> Iterator[tuple[_Reading, NDArray[np.uint8]]]:
    for reading in readings:
        try:
            for frames in _read(setup, reading):
                yield reading, frames
        except SeamError:
            reading.seam = True
        except VideoError as error:
            reading.failed = _failed(reading.task, error.reason, error.detail)
        except (MachineError, UsageError):
            raise  # not this video's fault
        except Exception as error:  # whatever a strange file brings about: it must not stop the others
            reading.failed = _failed(reading.task, "unexpected", f"{type(error).__name__}: {error}")


def _read(setup: Setup, reading: _Reading) -> Iterator[NDArray[np.uint8]]:
    reading.started = time.time()
    task = reading.task
    span = task.span if task.boxes is None else widened(task.span)
    options = reading_options(setup.recipe, setup.decoder, span)
    with decoding_process().open_video(task.path, **options) as reader:
        reading.info = reader.info
        if task.boxes is None:
            reading.end = yield from _read_clips(reader, setup, reading)
        else:
            reading.end = yield from _read_boxes(reader, setup, reading, task.boxes)
        reading.report = reader.report
    if not reading.end.clips and task.span is None:
        raise VideoError(task.path, "no_frames", "no frame could be decoded")


def _read_clips(reader: IsolatedReader, setup: Setup, reading: _Reading) -> Generator[NDArray[np.uint8], None, ReadTo]:
    clips = clips_of(reader, setup.recipe, reading.task.span, device=setup.device)
    while True:
        try:
            clip = next(clips)
        except StopIteration as end:
            first_s, last_s = (reading.marks[0][0], reading.marks[-1][1]) if reading.marks else (0.0, 0.0)
            return ReadTo(end.value, len(reading.marks), first_s, last_s)
        reading.marks.append((clip.start_s, clip.stop_s, clip.real_frames, clip.damaged))
        yield clip.frames


def _read_boxes(
    reader: IsolatedReader, setup: Setup, reading: _Reading, boxes: Boxes
) -> Generator[NDArray[np.uint8], None, ReadTo]:
    clips = boxed_clips(reader, setup.recipe, boxes, reading.task.span, device=setup.device)
    while True:
        try:
            boxed = next(clips)
        except StopIteration as end:
            read: ReadTo = end.value
            return read
        clip = boxed.clip
        reading.frame = clip.frames.shape[1], clip.frames.shape[2]
        reading.marks += [(clip.start_s, clip.stop_s, clip.real_frames, clip.damaged)] * len(boxed.boxes)
        reading.boxes.append(boxed.boxes)
        yield clip.frames


def _notes(reading: _Reading) -> Iterator[str]:
    """What the user should hear of a video that was read."""
    if reading.end is not None and len(reading.end.late):
        late = reading.end.late
        seconds = [f"{second:g}" for second in np.unique(late.second)]
        more = f" and {len(seconds) - _SHOWN} more" if len(seconds) > _SHOWN else ""
        yield (
            f"{reading.task.video_id}: {len(late)} boxes after its end at {reading.end.stop_s:.1f} s are left out, "
            f"of seconds {', '.join(seconds[:_SHOWN])}{more}"
        )


def _failed(task: Task, reason: str, detail: str) -> Failed:
    return Failed(task.video_id, task.fingerprint, reason, detail)


def _write(setup: Setup, readings: list[_Reading]) -> Receipt | None:
    """One segment of what did not fail; a video whose values the store cannot hold fails, and the others go on."""
    store = FeatureStore.open(setup.store)
    videos = {r.task.video_id: _video_features(setup, r) for r in readings if r.kept}
    while videos:
        try:
            return store.write_segment(list(videos.values()))
        except UnstorableError as error:
            del videos[error.video_id]
            (reading,) = (r for r in readings if r.task.video_id == error.video_id)
            reading.failed = _failed(reading.task, "overflow", error.detail)
    return None


def _video_features(setup: Setup, reading: _Reading) -> VideoFeatures:
    report, info = reading.report, reading.info
    assert info is not None and report is not None and report.display_end_s is not None  # noqa: S101, PT018 - read to its end
    assert reading.end is not None  # noqa: S101 - read to its end
    start_s, stop_s, real_frames, damaged = zip(*reading.marks, strict=True) if reading.marks else ((),) * 4
    boxes = None if reading.task.boxes is None else joined(reading.boxes)
    return VideoFeatures(
        video_id=reading.task.video_id,
        features=np.vstack([np.empty((0, setup.recipe.feature_width), np.float32), *reading.rows]),
        start_s=np.array(start_s, np.float64),
        stop_s=np.array(stop_s, np.float64),
        real_frames=np.array(real_frames, np.int32),
        damaged=np.array(damaged, np.bool_),
        duration_s=report.display_end_s - info.start_s,
        fingerprint=reading.task.fingerprint,
        status="partial" if report.partial else "ok",
        provenance=_provenance(setup, reading, info, report),
        span=None if reading.task.span is None else Span(reading.task.span.first, reading.end.ends, reading.end.clips),
        box=None if boxes is None else boxes.box,
        box_score=None if boxes is None else boxes.score,
        second=None if boxes is None else boxes.second,
    )


def _provenance(setup: Setup, reading: _Reading, info: VideoInfo, report: ReadReport) -> dict[str, object]:
    """All that may differ between two extractions of equal recipes, and what was odd about the file."""
    return {
        "uri": without_secrets(reading.task.path),
        "size_bytes": info.size_bytes,
        "container": info.container,
        "codec": info.codec,
        "width": info.width,
        "height": info.height,
        "average_fps": info.average_fps,
        "variable_rate": info.variable_rate,
        "clock_start_s": info.start_s,
        "declared_frames": info.declared_frames,
        "declared_duration_s": info.duration_s,
        "decoded_frames": report.decoded_frames,
        "bad_packets": report.bad_packets,
        "damaged_spans_s": [list(span) for span in report.damaged_spans_s],
        "repaired_times": report.repaired_times,
        "clock_restarts": report.clock_restarts,
        "holes_s": [list(hole) for hole in report.holes_s],
        **_boxes_provenance(setup, reading),
        "short_by_s": report.short_by_s,
        "warnings": list(report.warnings),
        "decoder": report.decoder,
        "decoder_library": report.library,
        **({} if setup.recipe.flow is None else {"flow_library": flow_library(setup.recipe.flow)}),
        "engine": _engine_name(setup.engine),
        "weights": without_secrets(setup.weights),
        "device": _device_name(setup.device),
        "host": socket.gethostname(),
        "untrimmed": version("untrimmed"),
        "started_unix_s": reading.started,
        "finished_unix_s": time.time(),
    }


def _boxes_provenance(setup: Setup, reading: _Reading) -> dict[str, object]:
    """Where the boxes are from, how many there were, and how many of them come after the video's end."""
    if reading.task.boxes is None or reading.end is None:
        return {}
    late = len(reading.end.late)
    return {"boxes_file": setup.boxes_file, "boxes": len(reading.task.boxes), "boxes_after_end": late}


def _engine_name(engine: str) -> str:
    if engine == "openvino":
        return f"openvino {version('openvino')}"
    return f"torch {version('torch')} {'compiled' if engine == 'compile' else 'eager'}"


@lru_cache(maxsize=1)
def _device_name(device: str) -> str:
    if device == "cuda":
        return f"cuda: {torch.cuda.get_device_name()}"
    return f"cpu: {torch.cpu.get_capabilities().get('cpu_name') or platform.machine()}"
