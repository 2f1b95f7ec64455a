"""Running units of work: in this process, or on a local Dask cluster. The only module that knows Dask.

A worker returns receipts, never arrays. Nothing lives only in the scheduler: what the store's log does not have
is done again by the next run.
"""

import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError

import dask
from distributed import Client, Future, KilledWorker, LocalCluster, as_completed

from extract.errors import MachineError
from extract.interrupts import children_ignore_interrupts
from extract.worker import Failed, Setup, Unit, UnitResult, decoding_process, run_unit

_UNITS_PER_WORKER = 2  # submitted ahead, so that no worker waits for the client
_DASK_SETTINGS = {
    "distributed.scheduler.allowed-failures": 0,  # a unit whose worker dies comes back here at once
    "distributed.scheduler.worker-saturation": 1.0,  # few units wait on one worker, to die with it
    "distributed.worker.daemon": True,
    "distributed.comm.timeouts.connect": "60s",
}


def run_here(setup: Setup, units: Iterable[Unit], on_clips: Callable[[int], None]) -> Iterator[UnitResult]:
    """Run ``units`` one after the other in this process; ``on_clips`` hears of every batch."""
    try:
        for unit in units:
            yield run_unit(setup, unit, on_clips)
    finally:
        decoding_process().close()


def run_on_cluster(setup: Setup, units: Iterable[Unit], *, workers: int) -> Iterator[UnitResult]:
    """Run ``units`` on ``workers`` processes of this machine; results come as they are done.

    A unit whose worker died is tried once more, video by video, alone on a worker; a video whose worker dies
    again is the one that is to blame, and is reported as failed.

    Raises:
        MachineError: the cluster cannot be started, or a worker cannot write the store.
    """
    with dask.config.set(_DASK_SETTINGS), _cluster(workers) as cluster, Client(cluster) as client:
        suspects = yield from _run(client, setup, iter(units), _UNITS_PER_WORKER * workers)
        alone = (Unit((task,)) for unit in suspects for task in unit.tasks)
        killers = yield from _run(client, setup, alone, 1)
        for unit in killers:
            yield _blame(unit)


def _cluster(workers: int) -> LocalCluster:
    try:
        with children_ignore_interrupts():
            return LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
                memory_limit=0,
                silence_logs=logging.CRITICAL,
            )
    except (OSError, RuntimeError) as error:
        raise MachineError(
            f"no local Dask cluster of {workers} workers could be started ({error}): try workers=0, and in a script "
            'call this under `if __name__ == "__main__":`'
        ) from error


def _run(client: Client, setup: Setup, units: Iterator[Unit], window: int) -> Generator[UnitResult, None, list[Unit]]:
    """Keep ``window`` units submitted. Yields results; returns the units whose worker died."""
    pending: dict[str, Unit] = {}
    died: list[Unit] = []
    completed = as_completed()

    def submit_next() -> None:
        unit = next(units, None)
        if unit is not None:
            future = client.submit(run_unit, setup, unit, pure=False, retries=0)
            pending[str(future.key)] = unit
            completed.add(future)

    for _ in range(window):
        submit_next()
    for future in completed:
        unit = pending.pop(str(future.key))
        result = _result(future)
        if result is None:
            died.append(unit)
        else:
            yield result
        future.release()
        submit_next()
    return died


def _result(future: "Future[UnitResult]") -> UnitResult | None:
    """The future's result, None when its worker died; other errors are raised."""
    try:
        result: UnitResult = future.result()
    except KilledWorker:
        return None
    except CancelledError as error:
        raise MachineError("the Dask scheduler went away; run the same command again to go on") from error
    return result


def _blame(unit: Unit) -> UnitResult:
    task = unit.tasks[0]
    detail = "the worker process that read it died twice (a crash of the decoder, or out of memory)"
    failed = Failed(task.video_id, task.fingerprint, "worker_died", detail)
    return UnitResult(None, (failed,), 0, 0.0, 0.0, 0.0, 0.0)
