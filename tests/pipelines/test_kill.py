"""Jobs that are killed or interrupted, and run again, leave what an undisturbed one leaves; readers see no halves.

`benchmarks/kill.py` does the same a hundred times, with more victims: docs/kill.md has its table.
"""

import os
import random
import shutil
import signal
import time
from pathlib import Path

import killing
import pytest
from killing import Command, Moment, Truth

from extract.store import FeatureStore
from pipelines.events import read_events

STOPPED = 130


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """What a job makes that reads every video in one piece; the archive is beside it."""
    folder = tmp_path_factory.mktemp("killing")
    out = folder / "single.zarr"
    Command(killing.make_archive(folder / "archive"), out, single=True).finish()
    return Truth(out)


def command(truth: Truth, out: Path, workers: int = 0, *, single: bool = False) -> Command:
    return Command(truth.path.parent / "archive", out, workers, single=single)


@pytest.mark.parametrize(
    ("workers", "victim", "pattern"),
    [
        (0, "client", "features"),
        (0, "client and children", "_segments/*/*"),
        (0, "decoder", "_log/*"),
        (2, "worker", "_log/*"),
    ],
)
def test_killed_and_run_again_it_is_as_if_nothing_had_happened(
    workers: int, victim: str, pattern: str, truth: Truth, tmp_path: Path
) -> None:
    rng = random.Random(f"{workers} {victim} {pattern}")
    moment = Moment(pattern=pattern, count=rng.randint(2, 8) if pattern != "features" else 1)
    job = command(truth, tmp_path / "f.zarr", workers)
    outcome = killing.strike(job, victim, moment, rng, truth=truth)
    assert outcome.struck
    assert outcome.seen.videos > 0
    assert len(FeatureStore.open(job.out).catalogue[killing.LONG].parts) > 1


def test_an_interrupt_lets_the_units_in_work_end(truth: Truth, tmp_path: Path) -> None:
    out = tmp_path / "f.zarr"
    job = command(truth, out, workers=1).start()
    Moment(pattern="_log/*", count=4).wait(out, job.is_alive)
    assert job.pid is not None
    os.killpg(job.pid, signal.SIGINT)
    job.join(killing.ENDS_S)
    said = command(truth, out).log.read_text()
    assert job.exitcode == STOPPED, said
    assert "stopped. An extraction goes on from here when the same command is run again" in said
    assert "Traceback" not in said
    store = FeatureStore.open(out)
    *_, last = read_events(store, store.jobs()[-1])
    assert last["event"] == "stopped", "in good order"
    assert store.published.videos == len(store) < len(truth.records)
    command(truth, out).finish()
    truth.check(out)


def test_a_second_interrupt_does_not_wait(truth: Truth, tmp_path: Path) -> None:
    out = tmp_path / "f.zarr"
    job = command(truth, out, single=True).start("--hop", "1")
    Moment(pattern="_jobs/*/*").wait(out, job.is_alive)
    assert job.pid is not None
    for _ in range(2):
        time.sleep(0.3)
        assert job.is_alive(), "the unit takes longer"
        os.killpg(job.pid, signal.SIGINT)
    job.join(killing.ENDS_S)
    said = command(truth, out).log.read_text()
    assert job.exitcode == STOPPED, said
    assert "Traceback" not in said
    assert len(FeatureStore.open(out)) == 0


def test_what_is_not_the_truth_is_noticed(truth: Truth, tmp_path: Path) -> None:
    out = tmp_path / "f.zarr"
    shutil.copytree(truth.path, out)
    truth.check(out)
    shard = out / "features/c.0.0"
    data = bytearray(shard.read_bytes())
    data[1000] ^= 1
    with killing.reader(out, truth) as seen:
        (tmp_path / "damaged").write_bytes(data)
        (tmp_path / "damaged").replace(shard)  # never half of it
        time.sleep(2)
    assert seen.videos > 0
    assert "features of" in seen.wrong[0]
    with pytest.raises(AssertionError, match="features of"):
        truth.check(out)
