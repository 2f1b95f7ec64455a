"""What a job does inside a worker process. Functions travel by name: a worker needs the same untrimmed, no more."""

import os
import pickle
import threading
import time
from collections.abc import Callable
from importlib.metadata import version

from dask._task_spec import Task as DaskTask
from dask.utils import apply
from distributed import Worker, get_worker

from extract.errors import DeviceLostError, MachineError
from extract.worker import Setup, Unit, UnitResult

Work = Callable[[Setup, Unit, Callable[[int], None]], UnitResult]

_TELL_EVERY_S = 1.0
_LAST_WORDS_S = 1.0  # what a message needs to leave the process
_GPU_LOST = 70  # exit status
_one_at_a_time = threading.Lock()  # a worker may have several threads, but there is one engine and one decoder


def packed(key: str, function: Callable[..., object], *arguments: object) -> DaskTask:
    """The task ``function(*arguments)`` in a form that the worker unpacks while it does it.

    So a scheduler needs no untrimmed; and where a worker has none, its task fails, and not its connection.

    It is marked as a data producer: the scheduler then keeps it until a worker can begin it, and no death of a worker
    touches it before. Others are dealt out to the workers at once, to wait there behind units that take minutes.
    """
    here = DaskTask(None, pickle.loads, pickle.dumps(unpack))
    return DaskTask(key, apply, here, (own_version(), pickle.dumps((function, arguments))), _data_producer=True)


def own_version() -> str:
    """The version of this process's untrimmed."""
    return version("untrimmed")


def unpack(client_version: str, work: bytes) -> object:
    """Do what was `packed`, alone in this process.

    Raises:
        MachineError: the client has another version of untrimmed.
    """
    if own_version() != client_version:
        raise MachineError(
            f"worker {get_worker().address} has untrimmed {own_version()}, this process {client_version}; "
            "install the same version on every machine of the cluster"
        )
    with _one_at_a_time:
        function, arguments = pickle.loads(work)
        result: object = function(*arguments)
        return result


def do_unit(work: Work, setup: Setup, unit: Unit, topic: str, tag: str) -> UnitResult:
    """Do ``unit``, telling ``topic`` at its beginning and about every second how many clips are new.

    A process whose GPU is lost says so and ends, so that the unit comes to another one.
    """
    worker = get_worker()
    telling = _Telling(worker, topic, tag)
    try:
        return work(setup, unit, telling.add)
    except DeviceLostError as error:
        worker.log_event(topic, (tag, str(error)))
        time.sleep(_LAST_WORDS_S)
        os._exit(_GPU_LOST)


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
