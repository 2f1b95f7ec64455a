"""Processes of the tests' own. None outlives the test process, however that ends."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

POLL_S = 0.02
# A process and all its descendants, in whatever session: they end with it.
BOX = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


def start(
    command: Sequence[object], log: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start ``command`` in a session of its own, output in ``log``; ``environment`` is added to this process's own."""
    with log.open("ab") as output:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )


def signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Signal ``process`` and what it started, as far as that stayed in its group."""
    if process.poll() is None:
        os.killpg(process.pid, number)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill ``process`` and its group, and wait for it."""
    signal_group(process, signal.SIGKILL)
    process.wait()


def boxed(process: subprocess.Popen[bytes]) -> int:
    """The pid, as seen from here, of the first process in the `BOX` that ``process`` is."""
    children: list[psutil.Process] = []

    def born() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        children[:] = psutil.Process(process.pid).children()
        return bool(children)

    wait_until(born, "the first process of a box")
    return int(children[0].pid)


def kill_box(process: subprocess.Popen[bytes]) -> None:
    """Kill all that runs in the `BOX` that ``process`` is, and wait until nothing does."""
    if process.poll() is None:
        for first in psutil.Process(process.pid).children():
            first.kill()
    process.wait()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def accepts(port: int) -> bool:
    """Whether something listens on ``port`` of 127.0.0.1."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    """Poll until ``condition`` holds.

    Raises:
        TimeoutError: it did not in ``timeout_s``; the message says ``what`` did not come.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_s} s")
        time.sleep(POLL_S)
