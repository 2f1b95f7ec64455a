"""A real SLURM: its jobs are the workers."""

import sys
from pathlib import Path

import pytest
import yaml
from dask_jobqueue import SLURMCluster
from distributed import Client
from real.archive import Archive
from real.processes import wait_until
from real.slurm import Slurm

from pipelines.extraction import Options, Progress, run_extraction


def settings(folder: Path) -> dict[str, object]:
    return {
        "queue": "test",
        "cores": 1,
        "processes": 1,
        "memory": "1900MiB",
        "interface": "lo",
        "python": sys.executable,
        "local_directory": str(folder / "scratch"),
        "log_directory": str(folder / "jobs"),
        "scheduler_options": {"dashboard": False, "dashboard_address": None},
    }


@pytest.fixture(autouse=True)
def programs_find_it(cluster: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)


def test_a_job_is_a_worker_until_it_is_cancelled(cluster: Slurm, tmp_path: Path) -> None:
    with SLURMCluster(**settings(tmp_path)) as jobs, Client(jobs) as client:
        jobs.scale(1)
        client.wait_for_workers(1, timeout=60)
        assert client.submit(pow, 2, 5).result() == 32
        assert len(cluster.running()) == 1
        cluster.call("scancel", *cluster.running())
        wait_until(lambda: not client.scheduler_info()["workers"], "the worker's end")


def test_extraction_survives_a_cancelled_job(cluster: Slurm, archive: Archive, tmp_path: Path) -> None:
    cancelled: list[str] = []

    def cancel_one(progress: Progress) -> None:
        if progress.videos_done and not cancelled:
            cancelled.append(cluster.running()[0])
            cluster.call("scancel", *cancelled)

    file = tmp_path / "slurm.yaml"
    file.write_text(
        yaml.safe_dump({"class": "dask_jobqueue.SLURMCluster", "options": settings(tmp_path), "workers": 2})
    )
    out = tmp_path / "f.zarr"
    run_extraction(archive.folder, out, options=Options(cluster=str(file)), on_progress=cancel_one)
    assert cancelled
    archive.check(out)
