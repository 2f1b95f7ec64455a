"""What a job does inside a worker process. Functions travel by name: a worker needs the same untrimmed, no more."""

import os
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import TypeVar

from distributed import Scheduler, Worker, get_worker

from extract.errors import DeviceLostError, MachineError
from extract.worker import Setup, Unit, UnitResult

Work = Callable[[Setup, Unit, Callable[[int], None]], UnitResult]
Answer = TypeVar("Answer")

_TELL_EVERY_S = 1.0
_LAST_WORDS_S = 1.0  # what a message needs to leave the process
_GPU_LOST = 70  # exit status
_one_at_a_time = threading.Lock()  # a worker may have several threads, but there is one engine and one decoder


def own_version() -> str:
    """The version of this process's untrimmed."""
    return version("untrimmed")


def do_unit(tag: str, unit: Unit, *, work: Work, setup: Setup, topic: str, client_version: str) -> UnitResult:
    """Do ``unit``, telling ``topic`` at its beginning and about every second how many clips are new.

    A process whose GPU is lost says so and ends, so that the unit comes to another one.
    """
    worker = get_worker()
    _check_version(worker, client_version)
    with _one_at_a_time:
        telling = _Telling(worker, topic, tag)
        try:
            return work(setup, unit, telling.add)
        except DeviceLostError as error:
            worker.log_event(topic, (tag, str(error)))
            time.sleep(_LAST_WORDS_S)
            os._exit(_GPU_LOST)


def do_call(function: Callable[..., Answer], arguments: tuple[object, ...], *, client_version: str) -> Answer:
    """``function(*arguments)``, while no unit is done in this process."""
    _check_version(get_worker(), client_version)
    with _one_at_a_time:
        return function(*arguments)


class _Telling:
    """Messages ``(tag, new clips)``; the first one, of none, says that the unit has begun."""

    def __init__(self, worker: Worker, topic: str, tag: str) -> None:
        self._worker, self._topic, self._tag = worker, topic, tag
        self._new, self._told = 0, 0.0
        self.add(0)

    def add(self, clips: int) -> None:
        self._new += clips
        if time.monotonic() - self._told >= _TELL_EVERY_S:
            self._worker.log_event(self._topic, (self._tag, self._new))
            self._new, self._told = 0, time.monotonic()


def _check_version(worker: Worker, client_version: str) -> None:
    if own_version() != client_version:
        raise MachineError(
            f"worker {worker.address} has untrimmed {own_version()}, this process {client_version}; "
            "install the same version on every machine of the cluster"
        )


def allowed_failures(dask_scheduler: Scheduler) -> int:
    """How often a scheduler tries a task again whose worker died; run by the scheduler."""
    allowed: int = dask_scheduler.allowed_failures
    return allowed
