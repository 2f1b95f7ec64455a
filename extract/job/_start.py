"""Clusters to work on: own processes, a scheduler that runs already, or any class of Dask that a file names."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import dask
import torch
from distributed import Client, Nanny, Scheduler, SpecCluster
from distributed.deploy.cluster import Cluster
from distributed.versions import VersionMismatchWarning

from extract.errors import MachineError, UsageError
from extract.interrupts import children_ignore_interrupts
from extract.job._cluster_file import ClusterFile, read_cluster_file
from extract.job._dispatch import ClusterCrew
from extract.urls import URL

_CONNECT_S = 15.0
_LOCAL_PATIENCE_S = 60.0
_PATIENCE_S = 300.0
_SETTINGS = {
    "distributed.scheduler.allowed-failures": 0,  # a unit whose worker dies comes back here at once
    "distributed.scheduler.worker-saturation": 1.0,  # no unit waits on a worker, to die with it
    "distributed.scheduler.unknown-task-duration": "60s",  # adaptive clusters grow at once
    "distributed.deploy.lost-worker-timeout": "60s",  # a worker that restarts is not given up
    "distributed.worker.daemon": True,
    "distributed.comm.timeouts.connect": "60s",
    "distributed.worker.profile.enabled": False,  # looks at every thread 100 times a second, for a page nobody opens
}
_LOGGERS = ("distributed", "distributed.client", "distributed.gc", "tornado", "tornado.application", "asyncio")


@contextmanager
def own_processes(workers: int, device: str) -> Iterator[ClusterCrew]:
    """``workers`` processes of this machine; for "cuda" each has one of the visible GPUs.

    Raises:
        MachineError: they cannot be started.
    """
    exits: dict[str, int] = {}
    advice = "its processes end before they are ready; try fewer --workers, or none"
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(_SETTINGS))
        stack.enter_context(_quiet())
        cluster = stack.enter_context(_own_cluster(workers, device, exits))
        client = stack.enter_context(Client(cluster, set_as_default=False))
        yield stack.enter_context(
            closing(ClusterCrew(client, patience_s=_LOCAL_PATIENCE_S, advice=advice, exits=exits))
        )


@contextmanager
def running_scheduler(name: str) -> Iterator[ClusterCrew]:
    """The workers of the scheduler at the address ``name``, or in the scheduler file ``name``.

    Raises:
        UsageError: there is no such file, or the address is none.
        MachineError: nobody answers there.
    """
    if URL.match(name) is None and not Path(name).is_file():
        raise UsageError(f"--scheduler {name}: no such file; expected tcp://HOST:PORT, or the path of a scheduler file")
    advice = f"start some, such as `dask worker {name} --nthreads 1`, and run the same command again to go on"
    with ExitStack() as stack:
        stack.enter_context(_quiet())
        client = stack.enter_context(_connected(name))
        yield stack.enter_context(
            closing(ClusterCrew(client, patience_s=_PATIENCE_S, advice=advice, notes=_notes(client)))
        )


@contextmanager
def cluster_of_file(path: Path, workers: int) -> Iterator[ClusterCrew]:
    """The cluster that the file describes, with ``workers`` workers unless that is 0.

    Raises:
        UsageError: the file is not as expected, or its class does not take the options.
        MachineError: the class cannot be imported, or the cluster not be started.
    """
    file = read_cluster_file(path)
    advice = "see what became of those that were asked for; `wait_s` in the file gives them more time"
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(_SETTINGS))
        stack.enter_context(_quiet())
        cluster = stack.enter_context(_cluster_of(file, workers))
        client = stack.enter_context(Client(cluster, set_as_default=False))
        yield stack.enter_context(
            closing(ClusterCrew(client, patience_s=file.wait_s, advice=advice, notes=_notes(client)))
        )


class _WatchedNanny(Nanny):
    """Writes down how its worker processes end."""

    def __init__(self, *args: Any, exits: dict[str, int], **options: Any) -> None:  # noqa: ANN401 - Dask's own
        super().__init__(*args, **options)
        self._exits = exits

    def _on_worker_exit_sync(self, exitcode: int) -> None:
        self._exits[self.worker_address] = exitcode
        super()._on_worker_exit_sync(exitcode)  # type: ignore[no-untyped-call]


def _own_cluster(workers: int, device: str, exits: dict[str, int]) -> SpecCluster:
    gpus = visible_gpus() if device.startswith("cuda") else []
    common = {"host": "127.0.0.1", "nthreads": 1, "memory_limit": 0, "silence_logs": logging.CRITICAL, "exits": exits}
    gpu_of = [{"CUDA_VISIBLE_DEVICES": gpus[at % len(gpus)]} if gpus else {} for at in range(workers)]
    scheduler = {"host": "127.0.0.1", "dashboard": False, "dashboard_address": "127.0.0.1:0"}
    try:
        with children_ignore_interrupts():
            return SpecCluster(
                scheduler={"cls": Scheduler, "options": scheduler},
                workers={at: {"cls": _WatchedNanny, "options": {**common, "env": gpu_of[at]}} for at in range(workers)},
            )
    except (OSError, RuntimeError) as error:
        raise MachineError(
            f"no local Dask cluster of {workers} workers could be started ({error}): try workers=0, and in a script "
            'call this under `if __name__ == "__main__":`'
        ) from error


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return [str(at) for at in range(torch.cuda.device_count())]
    return [name.strip() for name in named.split(",") if name.strip()]


def _connected(name: str) -> Client:
    where = {"address": name} if URL.match(name) else {"scheduler_file": name}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", VersionMismatchWarning)  # said in the crew's notes
            return Client(**where, timeout=_CONNECT_S, set_as_default=False)
    except OSError as error:
        raise MachineError(
            f"--scheduler {name}: no Dask scheduler answers there within {_CONNECT_S:.0f} s ({error}); see that it "
            "runs, and that this machine reaches it"
        ) from error
    except (ValueError, TypeError) as error:  # an address of another form; TLS without certificates
        raise UsageError(f"--scheduler {name}: {error}; expected tcp://HOST:PORT or tls://HOST:PORT") from error


def _cluster_of(file: ClusterFile, workers: int) -> Cluster:
    name = file.kind.__name__
    given = ", ".join(file.options) or "none"
    try:
        with children_ignore_interrupts(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Port .* is already in use", UserWarning)  # of a dashboard
            cluster = file.kind(**file.options)
    except TypeError as error:
        raise file.usage_error(f"{name} does not take the options {given}: {error}") from error
    except Exception as error:
        raise file.machine_error(f"{name} with the options {given} was not started: {error}") from error
    try:
        wanted = workers or file.workers
        if wanted:
            cluster.scale(wanted)
        elif file.adapt is not None:
            cluster.adapt(**file.adapt)
    except (TypeError, ValueError, NotImplementedError, AttributeError) as error:
        cluster.close()
        raise file.usage_error(f"{name} cannot get workers so: {type(error).__name__} {error}") from error
    return cluster


def _notes(client: Client) -> tuple[str, ...]:
    return (*_version_notes(client), *_failure_notes(client))


def _version_notes(client: Client) -> Iterator[str]:
    versions: Any = client.get_versions()
    ours = versions["client"]["packages"]
    for package in ("python", "dask", "distributed"):
        theirs = {place["packages"][package] for place in (versions["scheduler"], *versions["workers"].values())}
        if theirs != {ours[package]}:
            yield (
                f"{package} is {ours[package]} here, and {', '.join(sorted(theirs))} on the cluster; "
                "work may fail that would not with equal versions"
            )


def _failure_notes(client: Client) -> Iterator[str]:
    allowed = client.run_on_scheduler(dask.config.get, "distributed.scheduler.allowed-failures")
    if allowed:
        yield (
            f"the scheduler tries a unit whose worker died {allowed} more times, each time on another worker "
            "(its setting distributed.scheduler.allowed-failures); with 0, one that kills workers kills fewer"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Dask reports deaths of workers and schedulers as it pleases; here they are errors or results."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
