"""Division of the work: every clip once, in units that take about a minute, and no feature depends on it."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from footage import encode, regular
from hypothesis import given
from hypothesis import strategies as st

from extract.clipping import ClipSpan
from extract.measure import Speed
from extract.store import FeatureStore, SpanRecord
from extract.worker import Setup, Task
from pipelines import planning
from pipelines.extraction import Options, Plan, run_extraction
from pipelines.planning import Planned, Work, divide, gather
from pipelines.settling import settle

SPEED = Speed(open_s=0.1, decode_s_per_s=0.02, model_s_per_clip=0.05, threads=1)


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    return settle(Options(engine="torch", precision="fp32"), tmp_path_factory.mktemp("planning") / "f.zarr")


def planned(setup: Setup, video_id: str, seconds: float, *, splittable: bool = True) -> Planned:
    span = ClipSpan(0, None, 0.0, 10.0) if splittable else None
    return planning._estimate(Task(video_id, video_id, "print", seconds, span), setup.recipe)


def plan_of(setup: Setup, videos: list[Planned], slots: int = 2) -> Plan:
    return divide(Work(setup, tuple(videos), 0, (), (), 0), SPEED, slots=slots, cores=1.0)


def seconds_of(plan: Plan) -> list[float]:
    return [planning._wall_s(unit, plan) for unit in plan.units]


def test_ten_hours_among_a_thousand_short_ones(setup: Setup) -> None:
    short = [planned(setup, f"s{k}", 5.0 + k % 7, splittable=k % 2 == 0) for k in range(1000)]
    plan = plan_of(setup, [*short, planned(setup, "long", 36000.0)])
    found = [task.span for unit in plan.units for task in unit.tasks if task.video_id == "long"]
    spans = sorted((span for span in found if span is not None), key=lambda span: span.first)
    assert len(spans) == len(found)
    assert all(len(unit.tasks) == 1 for unit in plan.units if unit.tasks[0].video_id == "long")
    assert (spans[0].first, spans[-1].stop) == (0, None)
    assert [span.stop for span in spans[:-1]] == [span.first for span in spans[1:]]
    names = [task.video_id for unit in plan.units for task in unit.tasks if task.span is None]
    assert sorted(names) == sorted(video.task.video_id for video in short)
    assert max(seconds_of(plan)) < 1.1 * planning.UNIT_S
    assert sorted(seconds_of(plan))[1] > planning.UNIT_S / 2, "grouped, but for the last"


def test_little_work_keeps_every_worker_busy(setup: Setup) -> None:
    plan = plan_of(setup, [planned(setup, str(k), 60.0) for k in range(64)], slots=4)
    assert len(plan.units) >= 4 * planning.UNITS_PER_SLOT
    assert min(seconds_of(plan)) > planning.SHORTEST_UNIT_S / 2


def test_what_may_not_be_split_is_whole_and_first(setup: Setup) -> None:
    whole = planned(setup, "whole", 36000.0, splittable=False)
    plan = plan_of(setup, [planned(setup, "short", 5.0), whole])
    assert [task.video_id for task in plan.units[0].tasks] == ["whole"]
    assert plan.units[0].tasks[0].span is None
    assert plan.predicted_s == pytest.approx(seconds_of(plan)[0])


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 10), st.booleans()), max_size=6))
def test_gaps_and_spans_cover_every_clip(spans: list[tuple[int, int, bool]]) -> None:
    records = [
        cast(SpanRecord, SimpleNamespace(first_clip=first, stop_clip=first + rows, ends=ends))
        for first, rows, ends in spans
    ]
    gaps = list(planning._gaps(records))
    covered = {clip for first, stop in gaps for clip in range(first, 40 if stop is None else stop)}
    for record in records:
        covered |= set(range(record.first_clip, 40 if record.ends else record.stop_clip))
    assert covered == set(range(40))
    for first, stop in gaps:
        assert stop is None or first < stop


def test_a_long_video_in_pieces_is_the_single_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rate = Fraction(1, 2)
    encode(tmp_path / "long.mp4", regular(30, rate), rate=rate, tick=Fraction(1, 1000))
    options = Options(engine="torch", clip_frames=4, hop=4, crop=32, short_side=32)
    single, _ = run_extraction(tmp_path / "long.mp4", tmp_path / "one.zarr", options=options)
    monkeypatch.setattr(planning, "UNIT_S", 1.0)
    monkeypatch.setattr(planning, "SHORTEST_UNIT_S", 0.05)
    plans: list[Plan] = []
    run_extraction(
        tmp_path / "long.mp4", tmp_path / "two.zarr", options=replace(options, workers=2), on_plan=plans.append
    )
    assert len(plans[0].units) >= 4
    split = FeatureStore.open(tmp_path / "two.zarr")
    assert len(split.catalogue["long.mp4"].parts) == len(plans[0].units)
    assert len(single["long.mp4"]) == len(split["long.mp4"]) > 140
    assert single.catalogue["long.mp4"].crc32 == split.catalogue["long.mp4"].crc32
    for column in ("features", "start_s", "stop_s", "real_frames", "damaged"):
        np.testing.assert_array_equal(getattr(single["long.mp4"], column), getattr(split["long.mp4"], column))
    assert gather(tmp_path / "long.mp4", tmp_path / "two.zarr", options).videos == ()
