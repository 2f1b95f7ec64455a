"""Machines on one machine: each has a network and processes of its own, and a cable to one switch.

Namespaces live as long as their first process, so that nothing is left however the tests end, and the host's own
network is not touched: no address, no route, no name. It needs root and the right to make namespaces.
"""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from real.processes import BOX, boxed, kill_box, start

# Silence is noticed after these; Dask's own values are three times as long.
HURRIED = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "11s", "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "5s"}

PROGRAMS = ("ip", "nsenter", "unshare", "setpriv")


@dataclass(frozen=True, slots=True)
class Box:
    """Namespaces for network and processes; ``pid`` is of the first process in them."""

    process: subprocess.Popen[bytes]
    pid: int

    def enter(self, *command: object) -> list[str]:
        """The command line that runs ``command`` inside."""
        return ["nsenter", f"--target={self.pid}", "--net", "--pid", "--mount", *map(str, command)]

    def ip(self, *arguments: object) -> None:
        """Run iproute2's ``ip`` on the network inside; pids in ``arguments`` are those seen from here.

        Raises:
            CalledProcessError: it failed.
        """
        command = ["nsenter", f"--target={self.pid}", "--net", "ip", *map(str, arguments)]
        subprocess.run(command, check=True, capture_output=True, timeout=20)


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine, with its ``address`` at the switch."""

    box: Box
    switch: Box
    port: str
    address: str
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def popen(
        self, command: Sequence[object], log: Path, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start ``command`` on this machine, with its output in the file ``log``."""
        self.started.append(start(self.box.enter(*command), log, environment))
        return self.started[-1]

    def pull_cable(self) -> None:
        """Cut the machine off: both ends see silence, no connection is closed."""
        self.switch.ip("link", "set", self.port, "down")

    def plug(self) -> None:
        """Mend what `pull_cable` did."""
        self.switch.ip("link", "set", self.port, "up")

    def power_off(self) -> None:
        """Kill every process of the machine."""
        kill_box(self.box.process)
        for process in self.started:
            process.wait()


@contextmanager
def machines(count: int, log: Path) -> Iterator[list[Machine]]:
    """``count`` machines at one switch, 10.0.0.1 and up; powered off at the end. Complaints go to ``log``."""
    with ExitStack() as stack:
        switch = stack.enter_context(_box(log))
        switch.ip("link", "add", "switch", "type", "bridge")
        switch.ip("link", "set", "switch", "up")
        running = []
        for number in range(1, count + 1):
            running.append(_connect(stack.enter_context(_box(log)), switch, number))
            stack.callback(running[-1].power_off)
        yield running


@contextmanager
def _box(log: Path) -> Iterator[Box]:
    process = start([*BOX, "--net", "sleep", "infinity"], log)
    try:
        yield Box(process, boxed(process))
    finally:
        kill_box(process)


def _connect(box: Box, switch: Box, number: int) -> Machine:
    machine = Machine(box, switch, f"port{number}", f"10.0.0.{number}")
    peer = ("peer", "name", "eth0", "netns", box.pid)
    switch.ip("link", "add", machine.port, "type", "veth", *peer)
    switch.ip("link", "set", machine.port, "master", "switch", "up")
    box.ip("address", "add", f"{machine.address}/24", "dev", "eth0")
    for device in ("lo", "eth0"):
        box.ip("link", "set", device, "up")
    return machine
