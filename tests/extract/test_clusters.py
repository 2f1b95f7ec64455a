"""Crews on schedulers that run already, and on clusters that a file describes; all on this machine."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from labour import DONE, SETUP, orders, toil

from extract.errors import MachineError
from extract.job import Crewing, _start, crew
from extract.job._dispatch import ClusterCrew
from extract.worker import Setup, UnitResult

OTHER_VERSION = """
import importlib.metadata as metadata
true_version = metadata.version
metadata.version = lambda name: "0.0.9" if name == "untrimmed" else true_version(name)
"""
NO_UNTRIMMED = """
import sys
sys.modules["extract"] = None
"""


@pytest.fixture
def setup() -> Setup:
    return replace(SETUP, job=uuid4().hex)


@contextmanager
def process(*command: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Python with ``command``, which finds what the tests find; killed in the end."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, *command], env=environment, **quiet) as running:
        try:
            yield running
        finally:
            running.kill()


class Outside:
    """A scheduler that its command line started, and workers as a test wants them."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.file = folder / "scheduler.json"
        self._stack = stack
        options = ("--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0")
        command = ("-m", "distributed.cli.dask_scheduler", "--scheduler-file", str(self.file), *options)
        self.scheduler = stack.enter_context(process(*command))
        until(self.file.exists)
        self.address: str = json.loads(self.file.read_text())["address"]

    def worker(self, before: str = "") -> None:
        """Another worker, of two threads; ``before`` is done first in its process."""
        code = f"{before}\nfrom distributed.cli.dask_worker import main\nmain()"
        options = ("--no-nanny", "--nthreads", "2", "--no-dashboard", "--host", "127.0.0.1")
        self._stack.enter_context(process("-c", code, self.address, *options))


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Outside]:
    with ExitStack() as stack:
        yield Outside(tmp_path, stack)


@contextmanager
def at(crewing: Crewing) -> Iterator[ClusterCrew]:
    with crew(crewing) as hands:
        assert isinstance(hands, ClusterCrew)
        yield hands


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ignore(_clips: int) -> None:
    """Nobody counts."""


def said(results: Iterator[UnitResult]) -> dict[str, str]:
    return {one.video_id: one.detail for result in results for one in result.failed if one.reason == DONE}


def test_a_scheduler_by_file_and_by_address_and_its_end(outside: Outside, setup: Setup, tmp_path: Path) -> None:
    outside.worker()
    with at(Crewing(scheduler=str(outside.file))) as hands:
        done = said(hands.run(setup, orders(*["span 0.1"] * 4), ignore, work=toil))
        assert hands.slots == 1
    moments = [moment for span in sorted(done.values()) for moment in span.split()]
    assert len(moments) == 2 * 4
    assert moments == sorted(moments), "one at a time in a process"
    with at(Crewing(scheduler=outside.address)) as hands:
        (note,) = hands.notes
        assert "tries a unit whose worker died 3 more times" in note
        results = hands.run(setup, orders("rest", f"hold {tmp_path / 'held'}", "rest"), ignore, work=toil)
        assert next(results).failed[0].video_id == "0"
        until((tmp_path / "held").exists)
        outside.scheduler.send_signal(signal.SIGKILL)
        began = time.monotonic()
        with pytest.raises(MachineError, match="scheduler went away; run the same command again to go on"):
            list(results)
        with pytest.raises(MachineError, match="scheduler went away"):
            hands.call(os.getpid)
        assert time.monotonic() - began < 10


def test_no_worker_and_workers_of_other_software(
    outside: Outside, setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_start, "_PATIENCE_S", 1.0)
    with at(Crewing(scheduler=outside.address)) as hands:
        with pytest.raises(MachineError, match=r"no Dask worker for 1 s; start some, such as `dask worker tcp:"):
            hands.call(os.getpid)
        with pytest.raises(MachineError, match="no Dask worker for 1 s"):
            list(hands.run(setup, orders("rest"), ignore, work=toil))
    monkeypatch.setattr(_start, "_PATIENCE_S", 30.0)
    with at(Crewing(scheduler=outside.address)) as hands:
        outside.worker(OTHER_VERSION)
        with pytest.raises(MachineError, match=r"worker tcp.* has untrimmed 0\.0\.9, this process .*install the same"):
            list(hands.run(setup, orders("rest"), ignore, work=toil))


def test_a_worker_without_untrimmed(outside: Outside, setup: Setup) -> None:
    outside.worker(NO_UNTRIMMED)
    with (
        at(Crewing(scheduler=outside.address)) as hands,
        pytest.raises(MachineError, match=r"a Dask worker cannot do this job .*extract.*install untrimmed"),
    ):
        list(hands.run(setup, orders("rest"), ignore, work=toil))
