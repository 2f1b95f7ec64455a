"""Network namespaces as machines: cables that are pulled, power that goes."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from real.archive import Archive, videos_done
from real.dask_parts import start_scheduler, start_worker
from real.netns import HURRIED, Machine
from real.processes import wait_until

TALK = "import socket, sys; socket.create_connection((sys.argv[1], 2222), timeout=0.5).recv(9)"
ANSWER = """
import socket
server = socket.create_server(("", 2222))
while True:
    server.accept()[0].send(b"hello")
"""


def test_a_pulled_cable_is_silence(three_machines: list[Machine], tmp_path: Path) -> None:
    server, near, far = three_machines
    log = tmp_path / "talk.log"
    server.popen([sys.executable, "-c", ANSWER], tmp_path / "answer.log")

    def hears(machine: Machine) -> bool:
        return machine.popen([sys.executable, "-c", TALK, server.address], log).wait() == 0

    wait_until(lambda: hears(near) and hears(far), "an answer")
    near.pull_cable()
    assert not hears(near)
    assert "timed out" in log.read_text()
    assert hears(far)
    near.plug()
    wait_until(lambda: hears(near), "an answer after the cable was plugged")
    far.power_off()
    server.power_off()
    assert not hears(near)


@pytest.mark.parametrize("accident", [Machine.pull_cable, pytest.param(Machine.power_off, marks=pytest.mark.more)])
def test_extraction_survives_the_loss_of_a_machine(
    accident: Callable[[Machine], None], three_machines: list[Machine], archive: Archive, tmp_path: Path
) -> None:
    head, near, far = three_machines
    out = tmp_path / "f.zarr"
    scheduler = start_scheduler(tmp_path, host=head.address, start=head.popen, environment=HURRIED)
    for name, machine in (("near", near), ("far", far)):
        start_worker(scheduler, name, host=machine.address, start=machine.popen, environment=HURRIED)
    command = [sys.executable, "-m", "pipelines.cli", "extract", archive.folder, "-o", out]
    job = head.popen([*command, "--scheduler", scheduler.file], tmp_path / "job.log", HURRIED)
    wait_until(lambda: videos_done(out) > 0, "the first videos in the store")
    assert job.poll() is None
    accident(far)
    assert job.wait(timeout=180) == 0, (tmp_path / "job.log").read_text()
    archive.check(out)
