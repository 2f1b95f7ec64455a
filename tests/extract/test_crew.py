"""Crews under way: nothing is lost when workers, GPUs and clients end, and what cannot go on says so.

The work is that of `labour`; one crew of two processes serves all tests that leave it whole.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from labour import CLIPS, DONE, SETUP, orders, toil

from extract.errors import DeviceLostError, MachineError
from extract.job import Crew, Crewing, _dispatch, crew
from extract.job._dispatch import ClusterCrew
from extract.job._here import HereCrew
from extract.worker import Failed, Setup, Unit, UnitResult


@pytest.fixture(scope="module")
def shared() -> Iterator[ClusterCrew]:
    with crew(Crewing(workers=2)) as hands:
        assert isinstance(hands, ClusterCrew)
        yield hands


@pytest.fixture
def two(shared: ClusterCrew) -> ClusterCrew:
    """Two processes, after what the test before did to them."""
    shared.client.wait_for_workers(2, timeout=20)
    return shared


@pytest.fixture
def setup() -> Setup:
    return replace(SETUP, job=uuid4().hex)


@pytest.fixture(params=["here", "two"])
def any_crew(request: pytest.FixtureRequest) -> Iterator[Crew]:
    if request.param == "two":
        yield request.getfixturevalue("two")
    else:
        with crew(Crewing()) as hands:
            yield hands


def run(
    hands: Crew, setup: Setup, units: "Iterator[Unit] | list[Unit]", told: list[int] | None = None
) -> Iterator[UnitResult]:
    assert isinstance(hands, ClusterCrew | HereCrew)
    return hands.run(setup, units, (told if told is not None else []).append, work=toil)


def said(results: "Iterator[UnitResult] | list[UnitResult]") -> dict[str, Failed]:
    """By video; none twice."""
    everything = [one for result in results for one in result.failed]
    by_video = {one.video_id: one for one in everything}
    assert len(by_video) == len(everything)
    return by_video


def test_all_units_are_done_and_their_clips_told(any_crew: Crew, setup: Setup) -> None:
    told: list[int] = []
    results = said(run(any_crew, setup, orders(*["rest"] * 30), told))
    assert sorted(map(int, results)) == list(range(30))
    assert sum(told) == 30 * CLIPS


def test_units_are_taken_as_they_are_needed(any_crew: Crew, setup: Setup) -> None:
    taken = 0

    def units() -> Iterator[Unit]:
        nonlocal taken
        for unit in orders(*["rest"] * 20):
            taken += 1
            yield unit

    for done, _ in enumerate(run(any_crew, setup, units())):
        assert taken <= done + 2 * 2 + 1
    assert taken == 20


def test_errors_of_the_work_end_the_run_and_leave_the_crew(any_crew: Crew, setup: Setup) -> None:
    with pytest.raises(ZeroDivisionError, match="a mistake in the work"):
        list(run(any_crew, setup, orders("rest", "fail", "rest")))
    assert len(said(run(any_crew, setup, orders("rest", "rest")))) == 2


def test_calls_are_done_where_the_work_is(two: ClusterCrew) -> None:
    with crew(Crewing()) as here:
        assert here.call(os.getpid) == os.getpid()
        assert here.call(divmod, 7, 2) == (3, 1)
    assert two.call(os.getpid) != os.getpid()
    assert two.call(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        two.call(divmod, 7, 0)


def test_poison_is_named_and_the_innocent_are_cleared(two: ClusterCrew, setup: Setup, tmp_path: Path) -> None:
    paths = ["rest 0.01"] * 40
    paths[5], paths[20], paths[39] = "die", f"die-once {tmp_path / 'died'}", "lose-gpu"
    units = orders(*paths)
    (before,), (poison,), (after,) = (unit.tasks for unit in (units[4], units[5], units[6]))
    units[4:7] = [Unit((before, poison, after))]
    told: list[int] = []
    results = said(run(two, setup, units, told))
    assert len(results) == 40
    blamed = {video: one for video, one in results.items() if one.reason != DONE}
    assert sorted(blamed) == ["39", "5"]
    assert blamed["5"] == Failed("5", "print", "worker_died", blamed["5"].detail)
    assert "died, and again when nothing else was running: it was killed by SIGKILL" in blamed["5"].detail
    assert "the GPU fell off the bus" in blamed["39"].detail
    assert sum(told) == 38 * CLIPS


def test_a_lost_gpu_of_this_process_is_raised(setup: Setup) -> None:
    with crew(Crewing()) as here, pytest.raises(DeviceLostError, match="fell off the bus"):
        list(run(here, setup, orders("lose-gpu")))


def test_workers_that_die_of_everything_end_the_run(
    two: ClusterCrew, setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_dispatch, "_FEWEST_DEATHS", 2)
    monkeypatch.setattr(_dispatch, "_DEATHS_PER_SLOT", 0)
    with pytest.raises(MachineError, match=r"2 workers died one after the other.*SIGKILL.*fewer --workers"):
        list(run(two, setup, orders(*["die"] * 10)))
    time.sleep(0.5)  # for the deaths of others that had begun


def test_a_machines_error_stops_the_other_units(two: ClusterCrew, setup: Setup, tmp_path: Path) -> None:
    marker = tmp_path / "under-way"
    with pytest.raises(MachineError, match="no space left for segments"):
        list(run(two, setup, orders(f"go-on {marker}", f"lack-space {marker}")))
    wait_for(Path(f"{marker}.stopped"))


def test_results_nobody_wants_any_more_stop_the_units(two: ClusterCrew, setup: Setup, tmp_path: Path) -> None:
    marker = tmp_path / "under-way"
    results = run(two, setup, orders("rest", f"go-on {marker}"))
    assert next(results).failed[0].video_id == "0"
    wait_for(marker)
    results.close()  # type: ignore[attr-defined]
    wait_for(Path(f"{marker}.stopped"))


def test_drained_here_it_ends_with_the_unit_that_is_done(setup: Setup) -> None:
    with crew(Crewing()) as here:
        results = run(here, setup, orders("rest", "rest", "rest"))
        next(results)
        here.drain()
        assert list(results) == []
        assert list(run(here, setup, orders("rest"))) == []


def wait_for(marker: Path) -> None:
    deadline = time.monotonic() + 20
    while not marker.exists():
        assert time.monotonic() < deadline, f"{marker.name} never came"
        time.sleep(0.02)
