"""The main job: from video files to a feature store. Run it again to go on where it stopped."""

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from extract.errors import WorkerDiedError
from extract.job import Crew, crew
from extract.measure import measure
from extract.store import FeatureStore
from extract.worker import Failed, Task, Unit, UnitResult
from pipelines.events import EventLog, here
from pipelines.planning import UNREADABLE, Plan, Work, check_space, divide, gather, measured
from pipelines.settling import OnWait, Options, check_names, nobody_waits

__all__ = ["Options", "Plan", "Progress", "Summary", "extract", "prepare", "run_extraction"]


@dataclass
class Summary:
    """What an extraction did; ``bound_by`` is the stage that was busiest: decode, model or store.

    ``predicted_s``: what the plan said that the work would take; ``worked_s``: what it took. ``stopped``: Ctrl-C ended
    it before everything was done. ``boxes``: rows made, where features are of boxes; ``notes``: what was left out.
    """

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
    predicted_s: float | None = None
    worked_s: float = 0.0
    stopped: bool = False
    boxes: int | None = None
    notes: list[str] = field(default_factory=list)


@dataclass
class Progress:
    """State of a running job, handed to ``on_progress`` after every batch or unit."""

    videos: int
    video_s: float
    clips: int
    videos_done: int = 0
    clips_done: int = 0
    failed: int = 0
    stopping: bool = False


def extract(paths: str | Path | Sequence[str | Path], out: str | Path, **options: Any) -> FeatureStore:  # noqa: ANN401
    """Extract the clip features of every video in ``paths`` into the store ``out``; ``options`` as in `Options`.

    With ``workers`` above 0, a script must call it under ``if __name__ == "__main__":``, because the worker
    processes import the script.

    Errors as in `run_extraction`. Videos that failed are in the store's ``failures``.
    """
    check_names(options, [choice.name for choice in fields(Options)])
    store, _ = run_extraction(paths, out, options=Options(**options))
    return store


def run_extraction(
    paths: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    options: Options,
    on_progress: Callable[[Progress], None] = lambda _progress: None,
    on_plan: Callable[[Plan], None] = lambda _plan: None,
    on_wait: OnWait = nobody_waits,
) -> tuple[FeatureStore, Summary]:
    """Extract the clip features of every video in ``paths`` into the store ``out``, and publish it.

    What the store's log already has is skipped; videos that fail are recorded with their reason, and the rest is
    done. ``on_wait`` hears what takes time before the plan, ``on_plan`` is called once before the work begins,
    ``on_progress`` after every batch or unit. Ctrl-C lets the units in work end; a second one does not wait for them.

    Raises:
        UsageError: an option's value that cannot work.
        InputError: a path that does not exist, or nothing that looks like a video.
        StoreError, RecipeMismatchError: ``out`` is no store, or holds features of another recipe.
        MachineError: the disk is full, ``out`` cannot be written, or the cluster is gone.
    """
    began = time.monotonic()
    work = gather(paths, out, options, on_wait=on_wait)
    store = FeatureStore.open_or_create(out, work.setup.recipe.as_dict())
    summary = Summary(store.url, store.recipe_digest, already_done=work.done, notes=list(work.notes))
    summary.boxes = 0 if store.of_boxes else None
    job = _Job(store, work, summary, on_progress)
    try:
        for failed in work.failed:
            job.fail(failed)
        if work.videos:
            on_wait("starting workers", None)
            with crew(options.crewing, device=work.setup.device) as hands:
                plan = _planned(work, hands, options, on_wait)
                check_space(out, plan)
                on_plan(plan)
                job.run(plan, hands)
        else:
            on_plan(divide(work, None, slots=1, cores=work.setup.threads))
        store.publish()
    except BaseException as error:
        job.events.add("broken", error=f"{type(error).__name__}: {error}")
        raise
    else:
        job.close(time.monotonic() - began)
    finally:
        job.events.flush()
    return store, summary


def prepare(
    paths: str | Path | Sequence[str | Path], out: str | Path, options: Options, *, on_wait: OnWait = nobody_waits
) -> Plan:
    """The plan of `run_extraction` with these arguments, its speed measured in this process; writes nothing.

    Errors as there.
    """
    plan = measured(gather(paths, out, options, on_wait=on_wait), options, on_wait)
    check_space(out, plan)
    return plan


def _planned(work: Work, hands: Crew, options: Options, on_wait: OnWait) -> Plan:
    on_wait("measuring the speed", None)
    try:
        speed = hands.call(measure, work.setup, work.sample)
    except WorkerDiedError:  # perhaps of one of the videos, which is for the units to find out
        speed = None
    return divide(work, speed, slots=max(1, hands.slots, options.workers), cores=work.setup.cores)


class _Job:
    """The coordinator's part of a job: results in, log entries out."""

    def __init__(
        self, store: FeatureStore, work: Work, summary: Summary, on_progress: Callable[[Progress], None]
    ) -> None:
        self._store, self._summary, self._on_progress = store, summary, on_progress
        self._setup = work.setup
        self._failures = {failed.video_id: failed for failed in work.known}
        self._whole: list[Task] = []
        self._elsewhere: set[str] = set()
        self._ours: set[str] = set()
        self._video_s = 0.0
        self._busy = {"decode": 0.0, "model": 0.0, "store": 0.0}
        self._progress = Progress(0, 0.0, 0)
        self.events = EventLog(store, work.setup.job)

    def run(self, plan: Plan, hands: Crew) -> None:
        """Have the units of ``plan`` done, and then, whole, the videos that could not be read in spans."""
        began = time.monotonic()
        self._progress = Progress(plan.videos, plan.video_s, plan.clips, failed=len(self._failures))
        self._summary.predicted_s = plan.predicted_s
        self.events.add("planned", **here(), **_described(plan), recipe=self._store.recipe_digest)
        self.events.flush()
        with self._stoppable(hands):
            self._take(hands.run(self._setup, self._still_wanted(plan.units), self._count))
            while self._whole and not self._summary.stopped:
                units = [Unit((task,)) for task in self._whole]
                self._whole = []
                self._take(hands.run(self._setup, units, self._count))
        self._summary.worked_s = time.monotonic() - began

    def fail(self, failed: Failed) -> None:
        """Write a failure to the log, once. A video whose features are there stays good while its file is away."""
        known = self._store.failures.get(failed.video_id)
        same = known is not None and (known.fingerprint, known.reason) == (failed.fingerprint, failed.reason)
        away = failed.fingerprint == UNREADABLE and failed.video_id in self._store
        if not same and not away:
            self._store.record_failure(failed.video_id, failed.fingerprint, failed.reason, failed.detail)
        self._failures[failed.video_id] = failed
        self.events.add("failed", video=failed.video_id, reason=failed.reason, detail=failed.detail)

    def close(self, seconds: float) -> None:
        """Complete the summary."""
        summary = self._summary
        summary.failed = [
            {"video": f.video_id, "reason": f.reason, "detail": f.detail} for f in self._failures.values()
        ]
        summary.already_done += len(self._elsewhere)
        summary.seconds = seconds
        summary.clips_per_s = summary.clips / summary.worked_s if summary.worked_s else 0.0
        summary.times_real_time = self._video_s / summary.worked_s if summary.worked_s else 0.0
        summary.busy_s = self._busy
        summary.bound_by = max(self._busy, key=lambda stage: self._busy[stage])
        self.events.add("stopped" if summary.stopped else "finished", **asdict(summary))

    def _take(self, results: Iterable[UnitResult]) -> None:
        for result in results:
            if result.receipt is not None:
                self._commit(result)
            for failed in result.failed:
                self.fail(failed)
            for task in result.unsplit:
                self._unsplit(task)
            self._video_s += result.video_s
            self._summary.clips += result.clips
            self._summary.notes += result.notes
            if self._summary.boxes is not None:
                self._summary.boxes += result.boxes
            self._busy = {stage: self._busy[stage] + getattr(result, f"{stage}_s") for stage in self._busy}
            self._progress.videos_done = self._summary.videos + len(self._elsewhere)
            self._progress.failed = len(self._failures)
            self._on_progress(self._progress)

    def _commit(self, result: UnitResult) -> None:
        assert result.receipt is not None  # noqa: S101
        receipt = result.receipt
        self._store.commit(receipt)
        done = [*receipt.videos, *self._completed(result)]
        self._summary.videos += len(done)
        self._ours |= {video.video_id for video in done}
        self._summary.partial += [video.video_id for video in done if video.status == "partial"]
        self.events.add(
            "unit",
            videos=[video.video_id for video in receipt.videos],
            spans=[[span.video_id, span.first_clip, span.stop_clip] for span in receipt.spans],
            clips=result.clips,
            decode_s=round(result.decode_s, 3),
            model_s=round(result.model_s, 3),
            store_s=round(result.store_s, 3),
        )

    def _completed(self, result: UnitResult) -> Iterator[Any]:
        """Videos that the spans of ``result`` made whole."""
        assert result.receipt is not None  # noqa: S101
        for span in result.receipt.spans:
            record = self._store.catalogue.get(span.video_id)
            if record is not None and any(part.segment == span.part.segment for part in record.parts):
                yield record

    def _unsplit(self, task: Task) -> None:
        if self._store.unsplit.get(task.video_id) != task.fingerprint:
            self._store.record_unsplit(task.video_id, task.fingerprint)
            self._whole.append(replace(task, span=None))
            self.events.add("unsplit", video=task.video_id)

    def _still_wanted(self, units: Iterable[Unit]) -> Iterator[Unit]:
        """Without spans of videos that failed, or are read whole; and without what another client did meanwhile."""
        for unit in units:
            others = {task.video_id for task in unit.tasks if self._is_done(task)}
            self._elsewhere |= others - self._ours
            tasks = tuple(task for task in unit.tasks if task.video_id not in others and not self._given_up(task))
            if tasks:
                yield Unit(tasks)

    def _is_done(self, task: Task) -> bool:
        record = self._store.catalogue.get(task.video_id)
        return record is not None and record.fingerprint == task.fingerprint

    def _given_up(self, task: Task) -> bool:
        unsplit = self._store.unsplit.get(task.video_id) == task.fingerprint
        return task.span is not None and (unsplit or task.video_id in self._failures)

    def _count(self, clips: int) -> None:
        self._progress.clips_done += clips
        self._on_progress(self._progress)

    @contextmanager
    def _stoppable(self, hands: Crew) -> Iterator[None]:
        """Inside, the first Ctrl-C drains the crew, and the next one is KeyboardInterrupt again."""
        if threading.current_thread() is not threading.main_thread():
            yield  # signals are the main thread's
            return

        def drain(_signal: int, _frame: object) -> None:
            signal.signal(signal.SIGINT, before)
            self._summary.stopped = self._progress.stopping = True
            hands.drain()
            self._on_progress(self._progress)

        before = signal.signal(signal.SIGINT, drain)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def _described(plan: Plan) -> dict[str, Any]:
    return {
        "videos": plan.videos,
        "video_s": round(plan.video_s, 3),
        "clips": plan.clips,
        "units": len(plan.units),
        "slots": plan.slots,
        "predicted_s": plan.predicted_s,
        "already_done": plan.work.done,
    }
