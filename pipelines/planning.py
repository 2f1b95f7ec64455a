"""What is to be read, and its division into units of work."""

import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from extract.boxes import OVERSHOOT_S, Boxes, boxed_fingerprint
from extract.clipping import ClipSpan, grid_of
from extract.errors import InputError, MachineError, VideoError
from extract.measure import Speed, measure
from extract.recipe import Recipe
from extract.remote import is_url
from extract.sources import Found, Source, find_videos, fingerprint
from extract.store import FeatureStore, SpanRecord
from extract.urls import without_secrets
from extract.video import VideoInfo, probe_all
from extract.worker import Failed, Setup, Task, Unit
from pipelines.boxes import boxes_of, read_boxes
from pipelines.settling import OnWait, Options, check, nobody_waits, settle

UNIT_S = 60.0  # of one worker's time: long against what a unit costs by itself, short against what a crash costs
SHORTEST_UNIT_S = 3.0
UNITS_PER_SLOT = 4  # at least, where there is work enough
UNREADABLE = "unreadable"  # in place of a fingerprint
_ANY_SPEED = Speed(
    open_s=0.02, decode_s_per_s=0.05, model_s_per_clip=0.05, threads=1
)  # where nothing could be measured
_SPLIT_DECODERS = ("auto", "pyav")
_SAMPLED = 3


@dataclass(frozen=True, slots=True)
class Planned:
    """A task, and what can be told of it: ``clips`` is an estimate; with boxes, of those that have any ``computed``."""

    task: Task
    video_s: float
    clips: int

    @property
    def computed(self) -> int:
        """How many clips the network will see."""
        boxes = self.task.boxes
        if boxes is None:
            return self.clips
        share = 1.0 if self.task.duration_s is None else min(1.0, self.video_s / max(self.task.duration_s, 1e-9))
        return min(self.clips, math.ceil(share * len(set(boxes.second.tolist()))))


@dataclass(frozen=True, slots=True)
class Work:
    """What a job has to do, before it is divided.

    ``videos``: whole ones, and the missing spans of those that were begun. ``failed`` cannot even be opened; ``known``
    failed in earlier runs; ``others`` are files that are no videos by their names; ``notes`` the user should read.
    """

    setup: Setup
    videos: tuple[Planned, ...]
    done: int
    known: tuple[Failed, ...]
    failed: tuple[Failed, ...]
    others: int
    notes: tuple[str, ...] = ()

    @property
    def sample(self) -> tuple[Task, ...]:
        """A few videos of middling length, whole, to measure the speed with."""
        middle = sorted(self.videos, key=lambda video: video.video_s)[len(self.videos) // 2 :]
        return tuple(replace(video.task, span=None) for video in middle[:_SAMPLED])


@dataclass(frozen=True, slots=True)
class Plan:
    """The units of a job, longest first, for ``slots`` workers with ``cores`` cores each."""

    work: Work
    units: tuple[Unit, ...]
    speed: Speed | None
    slots: int
    cores: float

    @property
    def setup(self) -> Setup:
        """What every worker needs to know."""
        return self.work.setup

    @property
    def videos(self) -> int:
        """Videos still to read."""
        return len({video.task.video_id for video in self.work.videos})

    @property
    def video_s(self) -> float:
        """Seconds of video still to read, as far as the containers say."""
        return sum(video.video_s for video in self.work.videos)

    @property
    def clips(self) -> int:
        """Estimated clips still to compute."""
        return sum(video.computed for video in self.work.videos)

    @property
    def boxes(self) -> int | None:
        """Boxes of the videos still to read; None where features are of clips."""
        if self.setup.recipe.roi is None:
            return None
        of = {video.task.video_id: video.task.boxes for video in self.work.videos}
        return sum(len(boxes) for boxes in of.values() if boxes is not None)

    @property
    def predicted_s(self) -> float | None:
        """How long the units will take, from the measured speed; None where nothing could be measured."""
        if self.speed is None:
            return None
        share = 1 / self.slots
        longest = max((_wall_s(unit, self) for unit in self.units), default=0.0)
        all_s = self.speed.wall_s(share * self.videos, share * self.video_s, share * self.clips, self.cores)
        return max(longest, all_s)

    @property
    def predicted_bound(self) -> str | None:
        """The stage that will be busiest."""
        if self.speed is None:
            return None
        decode_s = self.speed.decode_s(self.videos, self.video_s)
        return "decode" if decode_s > self.speed.model_s(self.clips) else "model"

    @property
    def store_bytes(self) -> int:
        """What the features will take: once in segments, once in the published arrays."""
        recipe = self.setup.recipe
        row_bytes = recipe.feature_width * (2 if recipe.stored_dtype == "float16" else 4) + 21
        return 2 * (self.clips * row_bytes if self.boxes is None else self.boxes * (row_bytes + 28))


def _wall_s(unit: Unit, plan: Plan) -> float:
    assert plan.speed is not None  # noqa: S101
    recipe = plan.setup.recipe
    parts = [_estimate(task, recipe) for task in unit.tasks]
    return plan.speed.wall_s(len(parts), sum(p.video_s for p in parts), sum(p.computed for p in parts), plan.cores)


def gather(
    paths: str | Path | Sequence[str | Path], out: str | Path, options: Options, *, on_wait: OnWait = nobody_waits
) -> Work:
    """Find and probe what the store ``out`` does not have yet; writes nothing. Errors as `run_extraction` has."""
    store = FeatureStore.find(out)
    check(options, store)
    listed = None if options.boxes is None else read_boxes(options.boxes)
    found = find_videos([paths] if isinstance(paths, str | Path) else list(paths))
    boxes, notes = (None, []) if listed is None else boxes_of(listed, [source.video_id for source in found.sources])
    setup = settle(options, out, store, on_wait=on_wait)
    if store is not None:
        store.check_recipe(setup.recipe.as_dict())
    work = _work(found, store, setup, options, on_wait, boxes)
    if boxes is not None:
        _check_clock([video.task for video in work.videos], str(options.boxes))
    return replace(work, notes=tuple(notes))


def _check_clock(tasks: Iterable[Task], file: str) -> None:
    """A few boxes behind the end of a video may be; most of them are on another clock."""
    count, late, example = 0, 0, ""
    for task in {task.video_id: task for task in tasks}.values():
        if task.boxes is not None and task.duration_s is not None and len(task.boxes):
            behind = int((task.boxes.second > task.duration_s + OVERSHOOT_S).sum())
            count, late = count + len(task.boxes), late + behind
            if behind and not example:
                example = f"second {task.boxes.second[-1]:g} of {task.video_id}, which is {task.duration_s:.1f} s long"
    if 2 * late > count:
        raise InputError(
            f"{file}: {late} of {count} boxes come after the end of their video, such as {example}; expected seconds "
            "from the video's first frame. AVA's timestamps count from the film's start, and its cut clips start at "
            "900 s: subtract 900, or give the whole films"
        )


def _work(
    found: Found,
    store: FeatureStore | None,
    setup: Setup,
    options: Options,
    on_wait: OnWait,
    boxes: Mapping[str, Boxes] | None,
) -> Work:
    tasks: list[Task] = []
    known: list[Failed] = []
    failed: list[Failed] = []
    done = 0
    catalogue, failures = ({}, {}) if store is None else (store.catalogue, store.failures)
    with ThreadPoolExecutor(min(32, 4 * (os.cpu_count() or 1))) as pool:
        for source, content in zip(found.sources, pool.map(_fingerprint, found.sources), strict=True):
            own = None if boxes is None else boxes[source.video_id]
            mark = content if own is None or isinstance(content, Failed) else boxed_fingerprint(content, own)
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
                tasks.append(Task(source.video_id, source.path, mark, None, boxes=own))
    videos: list[Planned] = []
    for at, (task, answer) in enumerate(zip(tasks, probe_all([task.path for task in tasks]), strict=True)):
        on_wait(f"probing: {at + 1} of {len(tasks)} videos", (at + 1) / len(tasks))
        if isinstance(answer, VideoError):
            failed.append(Failed(task.video_id, task.fingerprint, answer.reason, answer.detail))
        else:
            videos += _missing(replace(task, duration_s=answer.duration_s), answer, store, setup)
    return Work(setup, tuple(videos), done, tuple(known), tuple(failed), found.others)


def _fingerprint(source: Source) -> str | Failed:
    readable_id = source.video_id.encode("utf-8", "backslashreplace").decode()
    if readable_id != source.video_id:
        return Failed(readable_id, UNREADABLE, "name", "its name is not valid UTF-8; rename the file")
    try:
        return fingerprint(source.path)
    except VideoError as error:
        return Failed(source.video_id, UNREADABLE, error.reason, error.detail)


def _missing(task: Task, info: VideoInfo, store: FeatureStore | None, setup: Setup) -> Iterator[Planned]:
    """The whole video; or, where it may be read in spans, those that the store does not have."""
    recipe = setup.recipe
    rate = _sample_rate(info, setup)
    unsplit = store is not None and store.unsplit.get(task.video_id) == task.fingerprint
    if rate is None or unsplit:
        yield _estimate(task, recipe)
        return
    begun = [] if store is None else store.spans.get(task.video_id, [])
    for first, stop in _gaps([span for span in begun if span.fingerprint == task.fingerprint]):
        yield _estimate(replace(task, span=ClipSpan(first, stop, info.start_s, rate)), recipe)


def _sample_rate(info: VideoInfo, setup: Setup) -> float | None:
    """Samples per second, where they are numbered by time alone; None for a video that must be read in one piece."""
    if info.duration_s is None or not info.seekable or setup.decoder not in _SPLIT_DECODERS:
        return None
    if setup.recipe.fps != "native":
        return setup.recipe.fps
    return None if info.variable_rate else info.average_fps


def _gaps(spans: Iterable[SpanRecord]) -> Iterator[tuple[int, int | None]]:
    """The clips [first, stop) that are missing between ``spans``, such that all together follow each other."""
    at = 0
    for span in sorted(spans, key=lambda span: span.first_clip):
        if span.first_clip < at:
            continue
        if span.first_clip > at:
            yield at, span.first_clip
        if span.ends:
            return
        at = span.stop_clip
    yield at, None


def _estimate(task: Task, recipe: Recipe) -> Planned:
    """``task`` with about how many clips it has, and how much video."""
    video_s = task.duration_s or 0.0
    rate = task.span.rate if task.span is not None else 30.0 if recipe.fps == "native" else recipe.fps
    count = max(1, grid_of(recipe).count(round(video_s * rate)))
    if task.span is None:
        return Planned(task, video_s, count)
    stop = count if task.span.stop is None else task.span.stop
    clips = max(1, stop - task.span.first)
    return Planned(task, min(video_s, clips * recipe.hop / rate), clips)


def divide(work: Work, speed: Speed | None, *, slots: int, cores: float) -> Plan:
    """Cut what is long and group what is short, so that a unit takes about a minute of a worker's time, or less
    where there is little to do. ``cores``: those of one worker.
    """
    assumed = speed or _ANY_SPEED
    recipe = work.setup.recipe
    videos = work.videos
    all_s = assumed.wall_s(len(videos), sum(v.video_s for v in videos), sum(v.computed for v in videos), cores)
    share_s = all_s / (slots * UNITS_PER_SLOT) if slots > 1 else UNIT_S
    most_s = min(UNIT_S, max(SHORTEST_UNIT_S, share_s))

    def cost_s(video: Planned) -> float:
        return assumed.wall_s(1, video.video_s, video.computed, cores)

    pieces = [piece for video in videos for piece in _cut(video, recipe, math.ceil(cost_s(video) / most_s))]
    costs = {id(piece): cost_s(piece) for piece in pieces}
    units = tuple(_grouped(sorted(pieces, key=lambda piece: -costs[id(piece)]), costs, most_s))
    return Plan(work, units, speed, slots, cores)


def _cut(video: Planned, recipe: Recipe, pieces: int) -> Iterator[Planned]:
    """``video`` in so many spans of equal length; whole if it may not be cut, or is short."""
    span = video.task.span
    if span is None:
        yield video
        return
    pieces = min(pieces, video.clips)
    if pieces < 2 and span.first == 0 and span.stop is None:
        yield _estimate(replace(video.task, span=None), recipe)
        return
    bounds = [span.first + round(video.clips * at / max(1, pieces)) for at in range(max(1, pieces))]
    for first, stop in zip(bounds, [*bounds[1:], span.stop], strict=True):
        yield _estimate(replace(video.task, span=replace(span, first=first, stop=stop)), recipe)


def _grouped(videos: Sequence[Planned], costs: Mapping[int, float], most_s: float) -> Iterator[Unit]:
    """Units that cost at most ``most_s``; what costs more, and every span, is one by itself."""
    group: list[Task] = []
    group_s = 0.0
    for video in videos:
        if video.task.span is not None:
            yield Unit((video.task,))
            continue
        if group and group_s + costs[id(video)] > most_s:
            yield Unit(tuple(group))
            group, group_s = [], 0.0
        group.append(video.task)
        group_s += costs[id(video)]
    if group:
        yield Unit(tuple(group))


def check_space(out: str | Path, plan: Plan) -> None:
    """Refuse a job whose features will not fit on the disk.

    Raises:
        MachineError: they will not.
    """
    if is_url(str(out)):
        return
    place = Path(out).absolute()
    free = shutil.disk_usage(next(folder for folder in (place, *place.parents) if folder.exists())).free
    if plan.store_bytes > free:
        raise MachineError(
            f"{out} needs about {plan.store_bytes / 1e6:.1f} MB for {plan.clips} clips, {free / 1e6:.1f} MB are free; "
            "free some space, choose another -o, or a larger --hop"
        )


def estimate(paths: str | Path | Sequence[str | Path], options: Options, *, on_wait: OnWait = nobody_waits) -> Plan:
    """The plan for an empty store, its speed measured in this process. Errors as `run_extraction` has."""
    with tempfile.TemporaryDirectory() as folder:
        work = gather(paths, Path(folder) / "store", options, on_wait=on_wait)
    return measured(work, options, on_wait)


def measured(work: Work, options: Options, on_wait: OnWait) -> Plan:
    """``work`` divided by the speed of this process."""
    speed = None
    if work.videos:
        on_wait("measuring the speed", None)
        speed = measure(work.setup, work.sample)
    return divide(work, speed, slots=max(1, options.workers), cores=work.setup.cores)


def plan_json(plan: Plan) -> dict[str, object]:
    """The plan's figures as plain values."""
    speed = plan.speed
    return {
        "videos": plan.videos,
        "video_s": plan.video_s,
        "clips": plan.clips,
        **({} if plan.boxes is None else {"boxes": plan.boxes, "notes": list(plan.work.notes)}),
        "store_bytes": plan.store_bytes,
        "workers": plan.slots,
        "predicted_s": plan.predicted_s,
        "bound_by": plan.predicted_bound,
        "decode_times_real_time": None if speed is None or not speed.decode_s_per_s else 1 / speed.decode_s_per_s,
        "model_clips_per_s": None if speed is None else 1 / speed.model_s_per_clip,
        "already_done": plan.work.done,
        "failed": [{"video": f.video_id, "reason": f.reason, "detail": f.detail} for f in plan.work.failed],
    }
