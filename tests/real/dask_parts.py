"""Dask's scheduler and workers as their own command line starts them, on this machine or on one of `netns`."""

import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil
from real import processes


class Start(Protocol):
    """`processes.start`, or a machine's `popen`."""

    def __call__(
        self, command: Sequence[object], log: Path, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]: ...


@dataclass(frozen=True, slots=True)
class Part:
    """A scheduler, a worker, or a nanny with its worker."""

    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """Kill all of it."""
        processes.kill(self.process)

    def freeze(self) -> None:
        """Stop all of it, without ending anything."""
        processes.signal_group(self.process, signal.SIGSTOP)

    def thaw(self) -> None:
        """End what `freeze` began."""
        processes.signal_group(self.process, signal.SIGCONT)

    def kill_worker(self) -> None:
        """Kill the worker of a nanny, which starts another."""
        for child in psutil.Process(self.process.pid).children(recursive=True):
            if "multiprocessing.spawn" in " ".join(child.cmdline()):
                child.kill()


@dataclass(frozen=True, slots=True)
class Scheduler(Part):
    """A scheduler that listens; ``file`` is what Dask calls its scheduler file."""

    file: Path

    @property
    def address(self) -> str:
        """Such as tcp://127.0.0.1:8786."""
        return str(json.loads(self.file.read_text())["address"])


def start_scheduler(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    start: Start = processes.start,
    environment: Mapping[str, str] | None = None,
) -> Scheduler:
    """A scheduler with its file and its log in ``folder``, once it listens."""
    file = folder / "scheduler.json"
    options = ("--host", host, "--port", 0, "--no-dashboard", "--scheduler-file", file)
    process = start(
        [sys.executable, "-m", "distributed.cli.dask_scheduler", *options], folder / "scheduler.log", environment
    )
    processes.wait_until(file.exists, f"a scheduler in {folder} (see its log)")
    return Scheduler(process, file)


def start_worker(
    scheduler: Scheduler,
    name: str,
    *,
    host: str = "127.0.0.1",
    nanny: bool = True,
    start: Start = processes.start,
    environment: Mapping[str, str] | None = None,
) -> Part:
    """A worker of one thread, on its way to the scheduler; its log is beside the scheduler's."""
    folder = scheduler.file.parent
    options = ["--scheduler-file", scheduler.file, "--host", host, "--name", name, "--nthreads", 1, "--no-dashboard"]
    options += ["--local-directory", folder, "--memory-limit", 0, "--nanny" if nanny else "--no-nanny"]
    command = [sys.executable, "-m", "distributed.cli.dask_worker", *options]
    return Part(start(command, folder / f"{name}.log", environment))
