"""Units sent to the workers of a Dask cluster, and their results.

The client holds the units; a few more than can be done at once are with the scheduler. A unit whose worker died
is a suspect. When all others are done, the videos of the suspects are done one by one with nothing beside them, and
one whose worker dies again is to blame.
"""

import asyncio
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, wait
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from queue import Empty, SimpleQueue
from typing import Any, TypeVar, cast
from uuid import uuid4

from distributed import Client, Future, KilledWorker
from distributed.comm.core import CommClosedError

from extract.errors import MachineError, WorkerDiedError
from extract.job._hands import Work, do_unit, own_version, packed
from extract.worker import Failed, Setup, Task, Unit, UnitResult, run_unit, stop_units

Answer = TypeVar("Answer")

_LOOK_EVERY_S = 0.5
_STOP_S = 5.0  # for telling the workers to stop
_EXIT_SEEN_S = 2.0  # between a worker's connection lost and its exit status read
_FEWEST_DEATHS, _DEATHS_PER_SLOT = 8, 4  # in a row, with no unit done between them: no video is at fault


class ClusterCrew:
    """Workers of a Dask cluster, of which ``client`` is a client. Each process does one unit at a time.

    ``patience_s``: how long there may be no worker at all; ``advice``: what to do then. ``exits``: exit statuses by
    the address of processes that died, None where nobody sees them. ``notes``: what the user should know.
    """

    def __init__(
        self,
        client: Client,
        *,
        patience_s: float,
        advice: str,
        exits: dict[str, int] | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.notes = notes
        self.slots: int = client.scheduler_info(n_workers=0)["n_workers"]
        self.client = cast(Any, client)  # its types allow for clients that have not started
        self._exits = exits
        self._patience_s, self._advice = patience_s, advice
        self._workers_seen = time.monotonic()
        self.draining = False
        self.inbox: SimpleQueue[object] = SimpleQueue()
        self._loop = self.client.loop.asyncio_loop
        self._looking = asyncio.run_coroutine_threadsafe(self._look(), self._loop)

    def call(self, function: Callable[..., Answer], *arguments: object) -> Answer:
        """``function(*arguments)``, done by one of the workers; its errors are raised.

        Raises:
            WorkerDiedError: it died.
            MachineError: there is no worker, or the scheduler went away.
        """
        future = self.send(uuid4().hex, function, *arguments)
        answer = asyncio.run_coroutine_threadsafe(_outcome(self.client, future), self._loop)
        while not wait([answer], _LOOK_EVERY_S).done:
            self.check()
        outcome = answer.result()
        future.release()
        if isinstance(outcome, KilledWorker):
            raise WorkerDiedError(f"a Dask worker died in {function.__name__}: {self.how_died(outcome)}") from outcome
        if isinstance(outcome, Exception):
            raise explained(outcome)
        return outcome  # type: ignore[return-value]

    def run(
        self, setup: Setup, units: Iterable[Unit], on_clips: Callable[[int], None], *, work: Work = run_unit
    ) -> Iterator[UnitResult]:
        """Do the units; results come as they are done.

        ``on_clips`` hears about every second how many clips are new; a negative number where work was lost.

        Raises:
            MachineError: there is no worker, all of them die, the scheduler went away, or a worker cannot go on.
        """
        run = _Run(self, setup, on_clips, work)
        try:
            yield from run.results(iter(units))
        finally:
            run.close()

    def send(self, tag: str, function: Callable[..., object], *arguments: object) -> "Future[Any]":
        """Have ``function(*arguments)`` done; ``tag`` is unique."""
        key = f"untrimmed-{tag}"
        task = packed(key, function, *arguments)
        future: Future[Any] = self.client.get({key: task}, key, sync=False, retries=0, fifo_timeout="0 ms")
        return future

    def drain(self) -> None:
        """Begin no other unit; may be called from a signal handler or another thread."""
        self.draining = True
        self.inbox.put(None)

    def close(self) -> None:
        """Look at the cluster no more; the client stays open."""
        self._looking.cancel()

    def check(self) -> None:
        """Raise MachineError if the scheduler is gone, or if there was no worker for too long."""
        if self.client.status != "running":
            raise _scheduler_gone()
        if time.monotonic() - self._workers_seen > self._patience_s:
            exits = [*(self._exits or {}).values()][-1:]
            last = f"the last one {described_exit(exits[0])}; " if exits else ""
            raise MachineError(f"no Dask worker for {self._patience_s:.0f} s; {last}{self._advice}")

    def how_died(self, killed: KilledWorker) -> str:
        """How the worker's process ended, as far as anybody saw it."""
        address = killed.last_worker.address
        deadline = time.monotonic() + _EXIT_SEEN_S
        while self._exits is not None and time.monotonic() < deadline:
            if address in self._exits:
                return f"it {described_exit(self._exits[address])}"
            time.sleep(0.05)
        return f"the connection to {address} was lost"

    def stop(self, job: str) -> None:
        """Have the units of ``job`` end at their next batch, on every worker that answers soon."""
        if self.client.status == "running":
            wait([asyncio.run_coroutine_threadsafe(_stop(self.client, job), self._loop)], _STOP_S)

    async def _look(self) -> None:
        while True:
            with suppress(OSError):  # the client's status will tell
                self.slots = (await self.client.scheduler.identity(n_workers=0))["n_workers"]
                if self.slots:
                    self._workers_seen = time.monotonic()
            await asyncio.sleep(_LOOK_EVERY_S)


@dataclass
class _Flight:
    """A unit that the scheduler has. ``clips``: how many `on_clips` was told of."""

    unit: Unit
    future: Future[Any]
    clips: int = 0
    begun: bool = False
    last_words: str | None = None


class _Run:
    """One list of units on its way through the cluster."""

    def __init__(self, crew: ClusterCrew, setup: Setup, on_clips: Callable[[int], None], work: Work) -> None:
        self._crew, self._client, self._inbox = crew, crew.client, crew.inbox
        self._setup, self._on_clips, self._work = setup, on_clips, work
        self._flights: dict[str, _Flight] = {}
        self._suspects: list[Unit] = []
        self._blamed: set[str] = set()
        self._done = self._deaths_in_a_row = 0
        self._topic = f"untrimmed-{uuid4().hex}"
        self._client.subscribe_topic(self._topic, lambda event: crew.inbox.put(event[1]))

    def results(self, units: Iterator[Unit]) -> Iterator[UnitResult]:
        """All units, then the suspects alone."""
        yield from self._lane(units, lambda: 2 * max(1, self._crew.slots), self._suspect)
        yield from self._lane(self._alone(), lambda: 1, self._blame)

    def close(self) -> None:
        """Stop what is still being done."""
        if self._flights:
            self._forget(list(self._flights))
            self._crew.stop(self._setup.job)
        if self._client.status == "running":
            self._client.unsubscribe_topic(self._topic)

    def _lane(
        self, units: Iterator[Unit], window: Callable[[], int], on_death: Callable[[_Flight, str], Iterator[UnitResult]]
    ) -> Iterator[UnitResult]:
        while True:
            if self._crew.draining:
                self._forget([tag for tag, flight in self._flights.items() if not flight.begun])
            else:
                for unit in islice(units, max(0, window() - len(self._flights))):
                    self._submit(unit)
            if not self._flights:
                return
            for flight, outcome in self._landed():
                if isinstance(outcome, KilledWorker):
                    yield from on_death(flight, flight.last_words or self._crew.how_died(outcome))
                elif isinstance(outcome, Exception):
                    raise explained(outcome)
                else:
                    self._done, self._deaths_in_a_row = self._done + 1, 0
                    yield outcome
            self._crew.check()

    def _submit(self, unit: Unit) -> None:
        tag = uuid4().hex
        future = self._crew.send(tag, do_unit, self._work, self._setup, unit, self._topic, tag)
        self._flights[tag] = _Flight(unit, future)
        asyncio.run_coroutine_threadsafe(self._deliver(tag, future), self._client.loop.asyncio_loop)

    async def _deliver(self, tag: str, future: Future[Any]) -> None:
        self._inbox.put((tag, await _outcome(self._client, future)))

    def _landed(self) -> Iterator[tuple[_Flight, UnitResult | Exception]]:
        """Wait a moment for news; take all there are. Yields the flights that ended."""
        for tag, news in self._news():
            flight = self._flights.get(tag)
            if flight is None:
                continue  # of another run, or given up
            if isinstance(news, int):  # none at the beginning, which may be another worker's
                flight.begun = True
                self._count(flight, flight.clips + news if news else 0)
            elif isinstance(news, str):
                flight.last_words = news
            else:
                del self._flights[tag]
                flight.future.release()
                self._count(flight, news.clips if isinstance(news, UnitResult) else 0)
                yield flight, news

    def _news(self) -> Iterator[tuple[str, int | str | UnitResult | Exception]]:
        with suppress(Empty):
            message: Any = self._inbox.get(timeout=_LOOK_EVERY_S)
            while True:
                if message is not None:
                    yield message
                message = self._inbox.get_nowait()

    def _count(self, flight: _Flight, clips: int) -> None:
        if clips != flight.clips:
            self._on_clips(clips - flight.clips)
        flight.clips = clips

    def _forget(self, tags: Iterable[str]) -> None:
        futures = [self._flights.pop(tag).future for tag in tags]
        if futures and self._client.status == "running":
            self._client.cancel(futures)

    def _suspect(self, flight: _Flight, how: str) -> Iterator[UnitResult]:
        self._deaths_in_a_row += 1
        self._suspects.append(flight.unit)
        self._check_deaths(how)
        return iter(())

    def _alone(self) -> Iterator[Unit]:
        for unit in self._suspects:
            for task in unit.tasks:
                if task.video_id not in self._blamed:
                    yield Unit((task,))

    def _blame(self, flight: _Flight, how: str) -> Iterator[UnitResult]:
        self._deaths_in_a_row += 1
        if not self._done:
            self._check_deaths(how)
        (task,) = flight.unit.tasks
        self._blamed.add(task.video_id)
        yield _poison(task, how)

    def _check_deaths(self, how: str) -> None:
        if self._deaths_in_a_row >= max(_FEWEST_DEATHS, _DEATHS_PER_SLOT * self._crew.slots):
            raise MachineError(
                f"{self._deaths_in_a_row} workers died one after the other, and no unit was done; the last one: {how}. "
                "Use fewer --workers if memory is short; `untrimmed doctor` shows what else may be wrong"
            )


def described_exit(status: int) -> str:
    """A process's exit status in words: "was killed by SIGKILL", "ended with status 1"."""
    if status >= 0:
        return f"ended with status {status}"
    name = signal.Signals(-status).name
    return f"was killed by {name}{' (often for want of memory)' if name == 'SIGKILL' else ''}"


async def _outcome(client: Client, future: Future[Any]) -> object:
    """What ``future`` comes to, an error if it is one."""
    try:
        (outcome,) = await client.gather([future], asynchronous=True)
    except Exception as error:  # whatever the work raises: it is raised where it is waited for
        return error
    return outcome


async def _stop(client: Client, job: str) -> None:
    with suppress(OSError):
        await client.run(stop_units, job, on_error="ignore")


def _scheduler_gone() -> MachineError:
    return MachineError("the Dask scheduler went away; run the same command again to go on")


def explained(error: Exception) -> Exception:
    """``error`` of the work, or what stands behind an error of Dask."""
    if isinstance(error, CancelledError | CommClosedError):  # before a result was there; while it was fetched
        return _scheduler_gone()
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == "extract":
        return MachineError(f"a Dask worker cannot do this job ({error}); install untrimmed {own_version()} there")
    return error


def _poison(task: Task, how: str) -> UnitResult:
    detail = f"the worker process that read it died, and again when nothing else was running: {how}"
    failed = Failed(task.video_id, task.fingerprint, "worker_died", detail)
    return UnitResult(None, (failed,), clips=0, video_s=0.0, decode_s=0.0, model_s=0.0, store_s=0.0)
