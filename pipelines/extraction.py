"""The main job: from video files to a feature store. Run it again to go on where it stopped."""

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from extract.backbones import EMBEDDED, BackboneSpec, ClipDefaults, backbone_spec, load_backbone
from extract.backbones.loading import default_weights, is_named
from extract.clips import ClipGrid
from extract.engine import check_engine, settle_device, settle_engine, settle_precision
from extract.errors import InputError, MachineError, UsageError, VideoError
from extract.job import run_here, run_on_cluster
from extract.recipe import OWN_FEATURES, Recipe
from extract.sources import Found, Source, find_videos, fingerprint
from extract.store import FeatureStore
from extract.urls import without_secrets
from extract.video import VideoInfo, probe_all, resize_kernel
from extract.worker import Failed, Setup, Task, Unit, UnitResult, clip_input

UNIT_VIDEO_S = 600.0  # at most this much video in one unit of several videos
UNITS_PER_WORKER = 4  # at least, where there is video enough
SHORTEST_UNIT_S = 5.0
UNREADABLE = "unreadable"  # in place of a fingerprint
OnWait = Callable[[str, float | None], None]  # what takes time before the plan, and its share done where it is known


def _nobody_waits(_what: str, _share: float | None) -> None:
    """Nobody watches."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the user may choose; None is the backbone's own value. Hop, stride and clip length in samples."""

    backbone: str = EMBEDDED
    weights: str | None = None
    preset: str | None = None
    layer: str | None = None
    clip_frames: int | None = None
    frame_stride: int | None = None
    hop: int | None = None
    fps: float | str | None = None
    short_side: int | None = None
    crop: int | None = None
    precision: str = "auto"
    device: str = "auto"
    engine: str = "auto"
    decoder: str = "auto"
    workers: int = 0
    retry_failed: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What a job will do. ``failed`` are videos that cannot even be opened; ``known`` are failures of earlier runs."""

    setup: Setup
    units: tuple[Unit, ...]
    done: int
    known: tuple[Failed, ...]
    failed: tuple[Failed, ...]
    others: int

    @property
    def videos(self) -> int:
        """Videos still to read."""
        return sum(len(unit.tasks) for unit in self.units)

    @property
    def video_s(self) -> float:
        """Seconds of video still to read, as far as the containers say."""
        return sum(task.duration_s or 0.0 for unit in self.units for task in unit.tasks)

    @property
    def clips(self) -> int:
        """Estimated clips still to make."""
        return sum(_estimated_clips(task, self.setup.recipe) for unit in self.units for task in unit.tasks)


@dataclass
class Summary:
    """What an extraction did; ``bound_by`` is the stage that was busiest: decode, model or store."""

    store: str
    recipe: str
    videos: int = 0
    clips: int = 0
    failed: list[dict[str, str]] = field(default_factory=list)
    partial: list[str] = field(default_factory=list)
    already_done: int = 0
    seconds: float = 0.0
    clips_per_s: float = 0.0
    times_real_time: float = 0.0
    bound_by: str = "decode"
    busy_s: dict[str, float] = field(default_factory=dict)


@dataclass
class Progress:
    """State of a running job, handed to ``on_progress`` after every batch or unit."""

    videos: int
    video_s: float
    clips: int
    videos_done: int = 0
    clips_done: int = 0
    failed: int = 0


def extract(paths: str | Path | Sequence[str | Path], out: str | Path, **options: Any) -> FeatureStore:  # noqa: ANN401
    """Extract the clip features of every video in ``paths`` into the store ``out``; ``options`` as in `Options`.

    With ``workers`` above 0, a script must call it under ``if __name__ == "__main__":``, because the worker
    processes import the script.

    Errors as in `run_extraction`. Videos that failed are in the store's ``failures``.
    """
    known = [choice.name for choice in fields(Options)]
    for name in options:
        if name not in known:
            raise UsageError(f"no option is called {name!r}; there are {', '.join(known)}")
    store, _ = run_extraction(paths, out, options=Options(**options))
    return store


def run_extraction(
    paths: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    options: Options,
    on_progress: Callable[[Progress], None] = lambda _progress: None,
    on_plan: Callable[[Plan], None] = lambda _plan: None,
    on_wait: OnWait = _nobody_waits,
) -> tuple[FeatureStore, Summary]:
    """Extract the clip features of every video in ``paths`` into the store ``out``, and publish it.

    What the store's log already has is skipped; videos that fail are recorded with their reason, and the rest is
    done. ``on_wait`` hears what takes time before the plan, ``on_plan`` is called once before the work begins,
    ``on_progress`` after every batch or unit.

    Raises:
        UsageError: an option's value that cannot work.
        InputError: a path that does not exist, or nothing that looks like a video.
        StoreError, RecipeMismatchError: ``out`` is no store, or holds features of another recipe.
        MachineError: the disk is full, or ``out`` cannot be written.
    """
    plan = prepare(paths, out, options, on_wait=on_wait)
    store = FeatureStore.open_or_create(out, plan.setup.recipe.as_dict())
    on_plan(plan)
    summary = _run(plan, store, options, on_progress)
    store.publish()
    return store, summary


def prepare(
    paths: str | Path | Sequence[str | Path], out: str | Path, options: Options, *, on_wait: OnWait = _nobody_waits
) -> Plan:
    """The plan that `run_extraction` with these arguments follows; writes nothing into the store. Errors as there."""
    store = FeatureStore.find(out)
    _check(options, store)
    found = find_videos(_listed(paths))
    setup = settle(options, out, store, on_wait=on_wait)
    if store is not None:
        store.check_recipe(setup.recipe.as_dict())
    plan = make_plan(found, store, setup, options)
    _check_space(Path(out), plan)
    return plan


def _listed(paths: str | Path | Sequence[str | Path]) -> list[str | Path]:
    return [paths] if isinstance(paths, str | Path) else list(paths)


def _check(options: Options, store: FeatureStore | None) -> None:
    """What can be told of the options at once, before anything is searched, downloaded or tried."""
    spec = backbone_spec(options.backbone)
    _clips(options, spec)
    _check_inputs(options.backbone, spec)
    device = settle_device(options.device)
    check_engine(options.engine, device, settle_precision(_precision(options, store, device), device))
    resize_kernel(options.decoder)
    weights = options.weights or default_weights(spec)
    if not is_named(weights) and not any(Path(weights + suffix).exists() for suffix in ("", ".index")):
        raise InputError(f"no weights file {weights}; expected a checkpoint of {options.backbone}, or `pretrained`")


def settle(
    options: Options, out: str | Path, store: FeatureStore | None = None, *, on_wait: OnWait = _nobody_waits
) -> Setup:
    """Replace every "auto" and default by its value here and now; the precision by that of ``store``, if there.

    ``on_wait`` is told what takes time: a download, trying the engines.
    """
    spec = backbone_spec(options.backbone)
    clips = _clips(options, spec)
    _check_inputs(options.backbone, spec)
    device = settle_device(options.device)
    precision = settle_precision(_precision(options, store, device), device)
    weights = options.weights or default_weights(spec)
    backbone = load_backbone(options.backbone, weights, on_progress=_download_words(on_wait))
    width = backbone.width(clips.clip_frames, clips.crop_px, clips.crop_px, layer=options.layer)
    recipe = Recipe(
        backbone=options.backbone,
        weights_sha256=backbone.weights_sha256,
        layer=options.layer or OWN_FEATURES,
        feature_width=width,
        clip_frames=clips.clip_frames,
        frame_stride=clips.frame_stride,
        hop=clips.hop,
        fps=clips.fps,
        short_side_px=clips.short_side_px,
        crop_px=clips.crop_px,
        resize_kernel=resize_kernel(options.decoder),
        colour=clips.colour,
        mean=clips.mean,
        std=clips.std,
        precision=precision,
        pooling="global-mean" if options.layer or spec.embedded else "network",
    )
    cores = len(os.sched_getaffinity(0))  # of this process; a cluster may give it few of many
    threads = max(1, cores // max(1, options.workers))  # decoding goes on beside them, and seldom needs a core
    engine = settle_engine(
        options.engine,
        backbone,
        clip_input(recipe),
        device=device,
        precision=precision,
        threads=threads,
        on_wait=lambda what: on_wait(what, None),
    )
    if not is_named(weights):
        weights = str(Path(weights).absolute())
    return Setup(str(Path(out).absolute()), recipe, weights, device, engine, options.decoder, threads)


def _clips(options: Options, spec: BackboneSpec) -> ClipDefaults:
    """The backbone's or the preset's clips, with what the user chose."""
    if options.preset is not None and options.preset not in spec.presets:
        known = f"it has {', '.join(spec.presets)}" if spec.presets else "it has none"
        raise UsageError(f"--preset {options.preset}: {options.backbone} has no such preset; {known}")
    clips = spec.clips if options.preset is None else spec.presets[options.preset]
    clips = replace(
        clips,
        clip_frames=_or(options.clip_frames, clips.clip_frames),
        frame_stride=_or(options.frame_stride, clips.frame_stride),
        hop=_or(options.hop, clips.hop),
        fps=_rate(options.fps, clips.fps),
        short_side_px=_or(options.short_side, clips.short_side_px),
        crop_px=_or(options.crop, clips.crop_px),
    )
    if clips.crop_px > clips.short_side_px:
        raise UsageError(
            f"--crop {clips.crop_px} is more than --short-side {clips.short_side_px}; expected at most that"
        )
    return clips


def _check_inputs(name: str, spec: BackboneSpec) -> None:
    if spec.channels != 3:
        raise UsageError(f"{name} reads optical flow, which extract does not compute yet; take i3d_inception_rgb")
    if spec.detection:
        raise UsageError(f"{name} describes boxes, which extract does not read yet; take one for whole clips")


def _precision(options: Options, store: FeatureStore | None, device: str) -> str:
    if options.precision != "auto" or store is None:
        return options.precision
    precision = str(store.recipe.get("precision", "auto"))
    if precision == "fp16" and device == "cpu":
        raise MachineError(f"{store.path} was made in fp16, which only GPUs compute; go on with it on a GPU")
    return precision


def _download_words(on_wait: OnWait) -> Callable[[int, int | None], None]:
    def on_bytes(done: int, total: int | None) -> None:
        of = f" of {total / 1e6:.0f}" if total else ""
        on_wait(f"downloading weights: {done / 1e6:.0f}{of} MB", done / total if total else None)

    return on_bytes


def _or(given: int | None, default: int) -> int:
    if given is None:
        return default
    if given < 1:
        raise UsageError(f"{given} is too small; clip length, stride, hop and sizes are whole numbers of at least 1")
    return given


def _rate(given: float | str | None, default: float | Literal["native"]) -> float | Literal["native"]:
    if given is None:
        return default
    if given == "native":
        return "native"
    try:
        rate = float(given)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= 1000:
        raise UsageError(f"--fps {given}; expected samples per second (above 0, at most 1000), or native")
    return rate


def make_plan(found: Found, store: FeatureStore | None, setup: Setup, options: Options) -> Plan:
    """Probe what the store does not have yet, and cut it into units of work, longest videos first."""
    tasks: list[Task] = []
    known: list[Failed] = []
    failed: list[Failed] = []
    done = 0
    catalogue, failures = ({}, {}) if store is None else (store.catalogue, store.failures)
    with ThreadPoolExecutor(min(32, 4 * (os.cpu_count() or 1))) as pool:
        for source, mark in zip(found.sources, pool.map(_fingerprint, found.sources), strict=True):
            record, failure = catalogue.get(source.video_id), failures.get(source.video_id)
            if isinstance(mark, Failed):
                failed.append(mark)
            elif record is not None and record.fingerprint == mark:
                done += 1
            elif record is not None and record.provenance["uri"] != without_secrets(source.path):
                raise InputError(
                    f"{without_secrets(source.path)} would be stored as {source.video_id!r}, but that is "
                    f"{record.provenance['uri']} in the store; give the folder that holds both, or another -o"
                )
            elif failure is not None and failure.fingerprint == mark and not options.retry_failed:
                known.append(Failed(source.video_id, mark, failure.reason, failure.detail))
            else:
                tasks.append(Task(source.video_id, source.path, mark, None))
    probed = [
        _probed(task, answer) for task, answer in zip(tasks, probe_all([task.path for task in tasks]), strict=True)
    ]
    failed.extend(task for task in probed if isinstance(task, Failed))
    readable = [task for task in probed if isinstance(task, Task)]
    units = tuple(_units(readable, max(1, options.workers)))
    return Plan(setup, units, done, tuple(known), tuple(failed), found.others)


def _fingerprint(source: Source) -> str | Failed:
    readable_id = source.video_id.encode("utf-8", "backslashreplace").decode()
    if readable_id != source.video_id:
        return Failed(readable_id, UNREADABLE, "name", "its name is not valid UTF-8; rename the file")
    try:
        return fingerprint(source.path)
    except VideoError as error:
        return Failed(source.video_id, UNREADABLE, error.reason, error.detail)


def _probed(task: Task, answer: VideoInfo | VideoError) -> Task | Failed:
    if isinstance(answer, VideoError):
        return Failed(task.video_id, task.fingerprint, answer.reason, answer.detail)
    return Task(task.video_id, task.path, task.fingerprint, answer.duration_s)


def _units(tasks: Sequence[Task], workers: int) -> Iterator[Unit]:
    """Group videos so that no unit of several holds more than a fair share; a long video is a unit by itself."""
    total_s = sum(task.duration_s or 0.0 for task in tasks)
    most_s = min(UNIT_VIDEO_S, max(SHORTEST_UNIT_S, total_s / (workers * UNITS_PER_WORKER)))
    group: list[Task] = []
    group_s = 0.0
    for task in sorted(tasks, key=lambda task: (-(task.duration_s or 0.0), task.video_id)):
        if group and group_s + (task.duration_s or 0.0) > most_s:
            yield Unit(tuple(group))
            group, group_s = [], 0.0
        group.append(task)
        group_s += task.duration_s or 0.0
    if group:
        yield Unit(tuple(group))


def _estimated_clips(task: Task, recipe: Recipe) -> int:
    rate = 30.0 if recipe.fps == "native" else recipe.fps
    samples = round((task.duration_s or 0.0) * rate)
    return max(1, ClipGrid(recipe.clip_frames, recipe.frame_stride, recipe.hop).count(samples))


def _check_space(out: Path, plan: Plan) -> None:
    """Twice the features' size: once in the segments, once in the published arrays."""
    needed = (
        2 * plan.clips * plan.setup.recipe.feature_width * (2 if plan.setup.recipe.stored_dtype == "float16" else 4)
    )
    free = shutil.disk_usage(next(place for place in (out.absolute(), *out.absolute().parents) if place.exists())).free
    if needed > free:
        raise MachineError(
            f"{out} needs about {needed / 1e6:.1f} MB for {plan.clips} clips, {free / 1e6:.1f} MB are free; "
            "free some space, choose another -o, or a larger --hop"
        )


def _run(plan: Plan, store: FeatureStore, options: Options, on_progress: Callable[[Progress], None]) -> Summary:
    began = time.monotonic()
    progress = Progress(plan.videos, plan.video_s, plan.clips)
    summary = Summary(str(store.path), store.recipe_digest, already_done=plan.done)
    busy = {"decode": 0.0, "model": 0.0, "store": 0.0}
    for failed in plan.failed:
        _record(store, failed)
    failures = [*plan.known, *plan.failed]
    video_s = 0.0
    for result in _results(plan, options, progress, on_progress):
        if result.receipt is not None:
            store.commit(result.receipt)
            summary.partial += [video.video_id for video in result.receipt.videos if video.status == "partial"]
        for failed in result.failed:
            _record(store, failed)
        failures += result.failed
        summary.videos += len(result.receipt.videos) if result.receipt else 0
        summary.clips += result.clips
        video_s += result.video_s
        busy = {stage: busy[stage] + getattr(result, f"{stage}_s") for stage in busy}
        progress.videos_done, progress.failed = summary.videos, len(failures)
        if options.workers:
            progress.clips_done = summary.clips
        on_progress(progress)
    summary.failed = [{"video": f.video_id, "reason": f.reason, "detail": f.detail} for f in failures]
    summary.seconds = time.monotonic() - began
    summary.clips_per_s = summary.clips / summary.seconds if summary.seconds else 0.0
    summary.times_real_time = video_s / summary.seconds if summary.seconds else 0.0
    summary.busy_s = busy
    summary.bound_by = max(busy, key=lambda stage: busy[stage])
    return summary


def _record(store: FeatureStore, failed: Failed) -> None:
    """Write a failure to the log, once. A video whose features are there stays good while its file is away."""
    known = store.failures.get(failed.video_id)
    same = known is not None and (known.fingerprint, known.reason) == (failed.fingerprint, failed.reason)
    if not same and not (failed.fingerprint == UNREADABLE and failed.video_id in store):
        store.record_failure(failed.video_id, failed.fingerprint, failed.reason, failed.detail)


def _results(
    plan: Plan, options: Options, progress: Progress, on_progress: Callable[[Progress], None]
) -> Iterable[UnitResult]:
    if not plan.units:
        return []
    if options.workers:
        return run_on_cluster(plan.setup, plan.units, workers=options.workers)

    def count(clips: int) -> None:
        progress.clips_done += clips
        on_progress(progress)

    return run_here(plan.setup, plan.units, count)
