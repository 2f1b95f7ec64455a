"""Dask's scheduler and workers in processes of their own, which are killed and frozen."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from real.archive import Archive, videos_done
from real.dask_parts import Part, Scheduler, start_scheduler, start_worker
from real.processes import start, wait_until

from pipelines.extraction import Options, run_extraction

# A worker that says nothing is given up after ten heartbeats, of which each takes as long as this.
HURRIED = {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "5s"}


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[Scheduler]:
    running = start_scheduler(tmp_path, environment=HURRIED)
    yield running
    running.kill()


@pytest.fixture
def workers(scheduler: Scheduler) -> Iterator[list[Part]]:
    running = [start_worker(scheduler, name) for name in ("a", "b")]
    yield running
    for worker in running:
        worker.kill()


def extraction(archive: Archive, out: Path, scheduler: Scheduler) -> subprocess.Popen[bytes]:
    """`untrimmed extract` on ``scheduler``, with some videos done and some not."""
    command = [sys.executable, "-m", "pipelines.cli", "extract", archive.folder, "-o", out]
    job = start([*command, "--scheduler", scheduler.address], out.with_name("job.log"))
    wait_until(lambda: videos_done(out) > 0, "the first videos in the store")
    assert job.poll() is None
    return job


@pytest.mark.parametrize(
    "accident",
    [
        Part.kill,
        pytest.param(Part.kill_worker, marks=pytest.mark.more),  # tests/pipelines/test_kill.py does so, too
        pytest.param(Part.freeze, marks=pytest.mark.more),  # silence, as of a pulled cable; Dask waits 30 s for it
    ],
)
def test_extraction_survives_an_accident_of_a_worker(
    accident: Callable[[Part], None], scheduler: Scheduler, workers: list[Part], archive: Archive, tmp_path: Path
) -> None:
    job = extraction(archive, tmp_path / "f.zarr", scheduler)
    accident(workers[0])
    assert job.wait(timeout=180) == 0, (tmp_path / "job.log").read_text()
    archive.check(tmp_path / "f.zarr")


def test_a_scheduler_that_dies_ends_the_job_and_a_rerun_goes_on(
    scheduler: Scheduler, workers: list[Part], archive: Archive, tmp_path: Path
) -> None:
    out = tmp_path / "f.zarr"
    job = extraction(archive, out, scheduler)
    scheduler.kill()
    assert job.wait(timeout=90) == 3
    said = (tmp_path / "job.log").read_text()
    assert "scheduler" in said
    assert "Traceback" not in said
    done = videos_done(out)
    assert 0 < done < len(list(archive.folder.glob("*/*")))
    _, summary = run_extraction(archive.folder, out, options=Options())
    assert summary.already_done == done
    archive.check(out)
