"""A real sshd: Dask's scheduler and workers are started through it."""

import sys
from pathlib import Path

import yaml
from real.archive import Archive
from real.ssh import Sshd

from pipelines.extraction import Options, run_extraction


def test_extraction_over_ssh(sshd: Sshd, archive: Archive, tmp_path: Path) -> None:
    options = {
        "hosts": ["127.0.0.1"] * 3,
        "connect_options": sshd.connect_options,
        "scheduler_options": {"host": "127.0.0.1", "port": 0, "dashboard": False},
        "worker_options": {"host": "127.0.0.1", "nthreads": 1},
        "remote_python": sys.executable,
    }
    file = tmp_path / "ssh.yaml"
    file.write_text(yaml.safe_dump({"class": "distributed.SSHCluster", "options": options}))
    run_extraction(archive.folder, tmp_path / "f.zarr", options=Options(cluster=str(file)))
    archive.check(tmp_path / "f.zarr")
