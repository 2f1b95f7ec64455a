"""What holds for any file, rate and span: a span is that part of the whole, and samples follow their plain rule."""

import bisect
import math
from collections.abc import Callable
from fractions import Fraction
from itertools import accumulate, pairwise
from pathlib import Path

import pytest
from footage import Rows, encode, read
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from extract.video import ReadReport, VideoInfo, open_video, probe

RATES = st.one_of(st.sampled_from([1.0, 7.0, 10.0, 12.5, 25.0, 29.97, 30.0, 100.0]), st.floats(0.5, 120))
SIDES = st.sampled_from([None, 32, 33, 64, 90])
SHARES = st.lists(st.floats(-0.05, 1.05), min_size=1, max_size=3)
FORMATS: dict[str, dict[str, object]] = {
    "mp4": {"options": {"bf": "3"}},
    "mkv": {"options": {"bf": "3", "x264-params": "open-gop=1"}, "gop": 8},
    "ts": {"options": {"bf": "2"}, "gop": 20},
    "mov": {"codec": "mpeg4", "options": {"bf": "2"}},
    "mpg": {"codec": "mpeg2video", "options": {"bf": "2"}},
    "avi": {"codec": "mpeg4", "options": {"bf": "2"}},
    "flv": {"options": {"bf": "2"}},
    "webm": {"codec": "libvpx", "options": {"deadline": "realtime", "cpu-used": "8"}},
}
# Containers that can hold frames at any time, with a clock of 1/1000 s in the files that are made here.
ANY_TIME = ("mp4", "mkv")


def bounded(examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )


@st.composite
def regular_files(draw: st.DrawFn) -> tuple[str, list[Fraction], Fraction]:
    suffix = draw(st.sampled_from(sorted(FORMATS)))
    rate = draw(st.sampled_from([Fraction(25), Fraction(30000, 1001), Fraction(24), Fraction(50)]))
    late = draw(st.sampled_from([0, 0, 1, 7])) if suffix in ANY_TIME else 0
    return suffix, [late + k / rate for k in range(draw(st.integers(1, 70)))], rate


@st.composite
def uneven_files(draw: st.DrawFn) -> tuple[str, list[Fraction], Fraction]:
    steps = draw(st.lists(st.sampled_from([8, 17, 20, 33, 40, 41, 100, 400, 3000]), min_size=4, max_size=50))
    times = [Fraction(0), *accumulate(Fraction(step, 1000) for step in steps)]
    return draw(st.sampled_from(ANY_TIME)), times, Fraction(25)


FILES = st.one_of(regular_files(), uneven_files())


def make(folder: Path, file: tuple[str, list[Fraction], Fraction]) -> tuple[Path, VideoInfo]:
    suffix, times, rate = file
    tick = Fraction(1, 1000) if suffix in ANY_TIME and rate == 25 else None
    path = encode(folder / f"any.{suffix}", times, rate=rate, tick=tick, **FORMATS[suffix])  # type: ignore[arg-type]
    return path, probe(path)


def cuts_of(rows: Rows, report: ReadReport, shares: list[float], *, on_frames: bool) -> list[float]:
    """Where to cut: at shares of the whole, or at frames' own times."""
    assert report.display_end_s is not None
    start, length = rows[0][0], report.display_end_s - rows[0][0]
    times = [row[0] for row in rows]
    inner = [start + share * length for share in shares]
    if on_frames:
        inner = [times[min(len(times) - 1, bisect.bisect_left(times, time))] for time in inner]
    return [-1e12, *sorted(set(inner)), 1e12]


@bounded(60)
@given(file=FILES, fps=st.one_of(st.none(), RATES), shares=SHARES, on_frames=st.booleans(), side=SIDES)
def test_spans_are_parts_of_the_whole(
    tmp_path: Path,
    file: tuple[str, list[Fraction], Fraction],
    fps: float | None,
    shares: list[float],
    on_frames: bool,
    side: int | None,
) -> None:
    path, info = make(tmp_path, file)
    options = {"fps": fps, "short_side": side}
    whole, report = read(path, **options)
    assume(whole)
    cuts = cuts_of(whole, report, shares, on_frames=on_frames)
    parts = [read(path, start_s=a, stop_s=b, **options) for a, b in pairwise(cuts)]
    assert [row for rows, _ in parts for row in rows] == whole
    assert sum(part.decoded_frames for _, part in parts) == report.decoded_frames
    assert info.variable_rate is False or not any(part.damaged_frames for _, part in parts)


@bounded(80)
@given(file=FILES)
def test_every_frame_comes_once_at_its_time(tmp_path: Path, file: tuple[str, list[Fraction], Fraction]) -> None:
    path, info = make(tmp_path, file)
    rows, report = read(path)
    assert [index for _, index, _ in rows] == list(range(len(file[1])))
    times = [time for time, *_ in rows]
    assert all(b > a for a, b in pairwise(times))
    assert times[0] == info.start_s
    wanted = [float(time - file[1][0]) for time in file[1]]
    assert [time - times[0] for time in times] == pytest.approx(wanted, abs=1.1e-3)
    assert report.damaged_frames == 0 or info.variable_rate is False
    assert report.bad_packets == report.repaired_times == report.clock_restarts == 0


@bounded(80)
@given(file=FILES, fps=RATES)
def test_samples_follow_the_rule(tmp_path: Path, file: tuple[str, list[Fraction], Fraction], fps: float) -> None:
    """Sample k shows the last frame not later than start + k / fps, but for the rounding of the clock."""
    path, info = make(tmp_path, file)
    native, report = read(path)
    rows, _ = read(path, fps=fps)
    assert report.display_end_s is not None
    times = [time for time, *_ in native]
    margin_s = 1e-6 if info.time_source == "count" else info.tick_s / 2
    assert [time for time, *_ in rows] == [
        info.start_s + k / fps for k in range(samples_before(report.display_end_s - margin_s, info.start_s, fps))
    ]
    for time, index, _ in rows:
        shown = bisect.bisect_right(times, time) - 1
        assert index == shown or (index == shown + 1 and times[index] - time <= margin_s)
    if fps <= 25 and info.variable_rate is False and info.average_fps > 25.5:
        assert all(b > a for (_, a, _), (_, b, _) in pairwise(rows))


def samples_before(end_s: float, start_s: float, fps: float) -> int:
    k = max(0, math.floor((end_s - start_s) * fps) - 2)
    while start_s + k / fps < end_s:
        k += 1
    return k


@bounded(30)
@given(file=regular_files(), side=st.integers(1, 200))
def test_size_is_what_was_promised(tmp_path: Path, file: tuple[str, list[Fraction], Fraction], side: int) -> None:
    path, info = make(tmp_path, file)
    with open_video(path, short_side=side) as reader:
        shapes = {batch.pixels.shape[1:] for batch in reader}
        assert shapes == {(reader.size[1], reader.size[0], 3)}
    assert min(reader.size) == side
    assert reader.size[0] == side * info.width // info.height
