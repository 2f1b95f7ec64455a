"""Tests with real parts: daemons, namespaces, processes. They run where UNTRIMMED_REAL_PARTS=1, as in .ci/run."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from real import netns, slurm, ssh
from real.archive import Archive, make_archive
from real.processes import BOX


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "real: starts daemons or namespaces; needs UNTRIMMED_REAL_PARTS=1, mostly root")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is in this folder, and skip it where nobody asked for it."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.real)
            if os.environ.get("UNTRIMMED_REAL_PARTS") != "1":
                item.add_marker(pytest.mark.skip(reason="starts daemons; UNTRIMMED_REAL_PARTS=1 allows that"))


def require(programs: Sequence[str]) -> None:
    """Skip the test where ``programs`` are missing, or namespaces may not be made."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (.ci/packages installs them)")
    box = subprocess.run([*BOX, "--net", "true"], capture_output=True, text=True, check=False)
    if box.returncode:
        pytest.skip(f"this user may not make namespaces: {box.stderr.strip()}")


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return make_archive(tmp_path_factory.mktemp("real"))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[slurm.Slurm]:
    require(slurm.PROGRAMS)
    folder = tmp_path / "slurm"
    folder.mkdir()
    with slurm.slurm(folder) as running:
        yield running


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[ssh.Sshd]:
    require(ssh.PROGRAMS)
    folder = tmp_path / "sshd"
    folder.mkdir()
    with ssh.sshd(folder) as running:
        yield running


@pytest.fixture
def three_machines(tmp_path: Path) -> Iterator[list[netns.Machine]]:
    require(netns.PROGRAMS)
    with netns.machines(3, tmp_path / "machines.log") as running:
        yield running
