"""Clips of real files made here, each picture with its index burned in; and of a reader that is made up."""

import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from footage import NTSC, H, encode, index_of, overwrite_packets, regular, uneven
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.clipping import Clip, clips_of, reading_options
from extract.clips import ClipGrid
from extract.errors import UsageError
from extract.recipe import Recipe
from extract.video import FrameBatch, ReadReport, VideoReader, open_video

Row = tuple[list[int], float, float, int]  # burned-in index of each frame, start_s, stop_s, real_frames


@dataclass(frozen=True)
class Made:
    """A file, the true times of its frames from the first one, and when the last one's display ends.

    The encoder shows the last frame as long as the one before it.
    """

    path: Path
    times: list[Fraction]
    end: Fraction


MAKERS: dict[str, Callable[[Path], Made]] = {
    "25.mp4": lambda p: Made(encode(p, regular(53)), regular(53), Fraction(53, 25)),
    "29.97.mp4": lambda p: Made(encode(p, regular(53, NTSC), rate=NTSC), regular(53, NTSC), 53 / NTSC),
    "uneven.mp4": lambda p: Made(
        encode(p, uneven(), tick=Fraction(1, 1000), options={"bf": "2"}), uneven(), uneven()[-1] + Fraction(1, 50)
    ),
    "late.ts": lambda p: Made(encode(p, [t + 7 for t in regular(53)]), regular(53), Fraction(53, 25)),
    "short.mp4": lambda p: Made(encode(p, regular(3)), regular(3), Fraction(3, 25)),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    folder = tmp_path_factory.mktemp("videos")
    return {name: make(folder / name) for name, make in MAKERS.items()}


def recipe(grid: tuple[int, int, int] = (4, 1, 2), **changes: Any) -> Recipe:
    clip_frames, frame_stride, hop = grid
    values: dict[str, Any] = {
        "backbone": "tiny_r2plus1d",
        "weights_sha256": "0",
        "layer": "global-mean",
        "feature_width": 256,
        "clip_frames": clip_frames,
        "frame_stride": frame_stride,
        "hop": hop,
        "fps": "native",
        "short_side_px": H,
        "crop_px": H,
        "resize_kernel": "swscale-bilinear",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "precision": "fp32",
    }
    return Recipe(**{**values, **changes})


def clips(path: Path, asked: Recipe) -> tuple[list[Clip], ReadReport]:
    with open_video(path, **reading_options(asked, "auto")) as reader:
        return list(clips_of(reader, asked)), reader.report


def rows(found: Sequence[Clip]) -> list[Row]:
    return [([index_of(f) for f in clip.frames], clip.start_s, clip.stop_s, clip.real_frames) for clip in found]


def plain_clips(samples: Sequence[tuple[float, int]], end_s: float, grid: tuple[int, int, int]) -> list[Row]:
    """The rule written plainly, for one stretch of (time, index) samples."""
    T, stride, hop = grid
    span = (T - 1) * stride + 1
    out: list[Row] = []
    for first in range(0, len(samples), hop):
        if first and first - hop + span >= len(samples):
            break  # the clip before reached the end
        wanted = [first + i * stride for i in range(T)]
        real = sum(k < len(samples) for k in wanted)
        indices = [samples[min(k, len(samples) - 1)][1] for k in wanted]
        stop_s = samples[first + span][0] if first + span < len(samples) else end_s
        out.append((indices, samples[first][0], stop_s, real))
    return out


def shown_at_rate(times: Sequence[float], end_s: float, fps: float) -> list[tuple[float, int]]:
    """(time, index) of the frame shown at each k / fps; 10 us for the rounding of clocks."""
    wanted = [k / fps for k in range(1000) if k / fps + 1e-5 < end_s]
    return [(t, sum(time <= t + 1e-5 for time in times) - 1) for t in wanted]


def assert_rows(found: list[Row], wanted: list[Row], within_s: float) -> None:
    assert [(indices, real) for indices, _, _, real in found] == [(indices, real) for indices, _, _, real in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert one[1:3] == pytest.approx(other[1:3], abs=within_s)


GRIDS = [(4, 1, 2), (4, 1, 4), (3, 3, 5), (2, 1, 9), (16, 1, 8)]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", MAKERS)
def test_native_clips_hold_the_frames_at_their_own_times(
    made: dict[str, Made], name: str, grid: tuple[int, int, int]
) -> None:
    file = made[name]
    samples = [(float(t), index) for index, t in enumerate(file.times)]
    found, report = clips(file.path, recipe(grid))
    within_s = 6e-4 if name == "uneven.mp4" else 1e-9  # its clock ticks in milliseconds
    assert_rows(rows(found), plain_clips(samples, float(file.end), grid), within_s)
    assert report.finished
    assert not any(clip.damaged for clip in found)
    assert all(clip.frames.shape == (grid[0], H, H, 3) and clip.frames.dtype == np.uint8 for clip in found)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", MAKERS)
def test_clips_at_ten_a_second_show_what_is_on_display(
    made: dict[str, Made], name: str, grid: tuple[int, int, int]
) -> None:
    file = made[name]
    samples = shown_at_rate([float(t) for t in file.times], float(file.end), 10)
    found, _ = clips(file.path, recipe(grid, fps=10.0))
    assert_rows(rows(found), plain_clips(samples, float(file.end), grid), 1e-3 if name == "uneven.mp4" else 1e-9)


def test_worked_numbers(made: dict[str, Made]) -> None:
    """53 frames at 25/s, 16 a clip, every 16."""
    found, _ = clips(made["25.mp4"].path, recipe((16, 1, 16)))
    assert [(row[1], row[2], row[3]) for row in rows(found)] == [
        (0.0, pytest.approx(0.64), 16),
        (0.64, pytest.approx(1.28), 16),
        (1.28, pytest.approx(1.92), 16),
        (1.92, pytest.approx(2.12), 5),
    ]
    tail = found[-1].frames
    assert [index_of(f) for f in tail] == [48, 49, 50, 51, *[52] * 12]
    np.testing.assert_array_equal(tail[5:], np.broadcast_to(tail[4], tail[5:].shape))


def test_the_containers_clock_is_not_in_the_seconds(made: dict[str, Made]) -> None:
    with open_video(made["late.ts"].path, **reading_options(recipe(), "auto")) as reader:
        assert reader.info.start_s >= 7
        assert next(clips_of(reader, recipe())).start_s == 0.0


def test_video_shorter_than_a_clip_gives_one_clip(made: dict[str, Made]) -> None:
    found, _ = clips(made["short.mp4"].path, recipe((16, 1, 1)))
    assert rows(found) == [([0, 1, *[2] * 14], 0.0, pytest.approx(0.12), 3)]


def test_crop_is_in_the_centre_of_the_resized_frame(made: dict[str, Made]) -> None:
    path = made["25.mp4"].path
    whole = next(iter(open_video(path, short_side=48))).pixels
    assert whole.shape[1:3] == (48, 72)
    found, _ = clips(path, recipe(short_side_px=48, crop_px=40))
    np.testing.assert_array_equal(found[0].frames, whole[:4, 4:44, 16:56])


def test_crop_larger_than_the_frame_is_refused(made: dict[str, Made]) -> None:
    with pytest.raises(UsageError, match="--crop 65 is larger than the resized frame, 96 x 64"):
        clips(made["25.mp4"].path, recipe(crop_px=65))


# Holes in time


def assert_holes(path: Path, starts: Sequence[Fraction], n: int, fps: float | None, within_s: float = 1e-3) -> None:
    """``n`` frames at 25/s from each of ``starts``: the grid begins anew at each."""
    wanted: list[Row] = []
    for part, start in enumerate(starts):
        times = [float(t) for t in regular(n)]
        end_s = n / 25
        samples = [(t, i) for i, t in enumerate(times)] if fps is None else shown_at_rate(times, end_s, fps)
        for indices, start_s, stop_s, real in plain_clips(samples, end_s, (4, 1, 3)):
            here = float(start)
            wanted.append(([i + part * n for i in indices], start_s + here, stop_s + here, real))
    found, report = clips(path, recipe((4, 1, 3), fps="native" if fps is None else fps))
    assert len(report.holes_s) == len(starts) - 1
    assert_rows(rows(found), wanted, within_s)


@pytest.mark.parametrize("fps", [None, 10.0])
def test_no_clip_spans_a_hole(tmp_path: Path, fps: float | None) -> None:
    starts = [Fraction(0), Fraction(4000)]
    times = [start + t for start in starts for t in regular(40)]
    assert_holes(encode(tmp_path / "hole.mkv", times, tick=Fraction(1, 1000)), starts, 40, fps)


@pytest.mark.parametrize("fps", [None, 10.0])
def test_several_holes_in_one_batch_of_frames(tmp_path: Path, fps: float | None) -> None:
    """The reader is ahead of the clips: it has seen all three holes when the first is reached."""
    starts = [Fraction(0), Fraction(100), Fraction(200), Fraction(350)]
    times = [start + t for start in starts for t in regular(5)]
    assert_holes(encode(tmp_path / "holes.mkv", times, tick=Fraction(1, 1000)), starts, 5, fps)


@pytest.mark.parametrize("start", [Fraction(0), Fraction(1), Fraction(1, 3), Fraction(7, 5)])
def test_ten_seconds_without_a_frame_are_not_yet_a_hole(start: Fraction) -> None:
    """In floating point, some of these differences are above 10."""
    for extra in range(20):
        times = [start + Fraction(extra, 100) + t for t in (Fraction(0), Fraction(1, 25), Fraction(251, 25))]
        reader = Fake(3, times=[float(t) for t in times])
        assert [clip.real_frames for clip in clips_of(reader.as_reader(), recipe((3, 1, 3), crop_px=1))] == [3]


def test_a_rest_after_a_hole_does_not_begin_the_grid_anew() -> None:
    reader = Fake(5, times=[0.0, 1.0, 50.0, 57.0, 58.0])
    reader.report.holes_s = ((2.0, 50.0),)
    found = list(clips_of(reader.as_reader(), recipe((2, 1, 2), crop_px=1)))
    assert [(clip.start_s, clip.stop_s, clip.real_frames) for clip in found] == [
        (0.0, 2.0, 2),
        (50.0, 58.0, 2),
        (58.0, 58.04, 1),
    ]


# Damage


@pytest.mark.parametrize("fps", ["native", 25.0])
def test_damage_reaches_the_clips_that_hold_it(tmp_path: Path, fps: float | str) -> None:
    path = encode(tmp_path / "broken.mp4", regular(60))
    overwrite_packets(path, range(15, 18))
    with open_video(path, fps=None if fps == "native" else float(fps)) as reader:
        flags = [bool(flag) for batch in reader for flag in batch.damaged]
    found, report = clips(path, recipe((4, 1, 2), fps=fps))
    assert report.partial
    assert [clip.damaged for clip in found] == [any(flags[k : k + 4]) for k in range(0, 2 * len(found), 2)]
    assert 0 < sum(clip.damaged for clip in found) < 10
    for clip in found:
        if not clip.damaged:
            first = round(clip.start_s * 25)
            real = clip.frames[: clip.real_frames]
            assert [index_of(f) for f in real] == list(range(first, first + clip.real_frames))


def test_cut_file_gives_the_clips_that_are_there(tmp_path: Path) -> None:
    path = encode(tmp_path / "cut.ts", regular(60))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    found, report = clips(path, recipe((4, 1, 2)))
    assert 5 < len(found) < 28
    assert not found[0].damaged
    assert [index_of(f) for f in found[0].frames] == [0, 1, 2, 3]
    assert report.display_end_s is not None
    with open_video(path) as reader:
        assert found[-1].stop_s == report.display_end_s - reader.info.start_s


# A reader that is made up: lengths that no test can encode, and every grid


class Fake:
    """Reads ``n`` frames of one size, whose first pixel bytes hold the frame's number."""

    def __init__(self, n: int, *, side: int = 1, times: Sequence[float] | None = None, rate: float = 25.0) -> None:
        self._n, self._side, self._rate = n, side, rate
        self._times = times
        self.size = (side, side)
        first_s = 0.0 if times is None else times[0]
        self.info = SimpleNamespace(start_s=first_s, average_fps=rate)
        self.report = SimpleNamespace(holes_s=(), display_end_s=self._time(n - 1) + 1 / rate if n else None)

    def as_reader(self) -> VideoReader:
        return cast(VideoReader, self)

    def _time(self, k: int) -> float:
        return k / self._rate if self._times is None else self._times[k]

    def __iter__(self) -> Iterator[FrameBatch]:
        for first in range(0, self._n, 32):
            numbers = np.arange(first, min(first + 32, self._n))
            pixels = np.zeros((len(numbers), self._side, self._side, 3), np.uint8)
            pixels[:, 0, 0, 0], pixels[:, 0, 0, 1] = numbers % 256, numbers // 256
            times = np.array([self._time(int(k)) for k in numbers])
            yield FrameBatch(pixels, times, np.zeros(len(numbers), np.bool_))


@settings(deadline=None)
@given(st.builds(ClipGrid, st.integers(1, 9), st.integers(1, 4), st.integers(1, 40)), st.integers(0, 150))
def test_streaming_follows_the_grid(grid: ClipGrid, n: int) -> None:
    asked = recipe((grid.clip_frames, grid.frame_stride, grid.hop), crop_px=1)
    found = list(clips_of(Fake(n).as_reader(), asked))
    assert len(found) == grid.count(n)
    for number, clip in enumerate(found):
        numbers, real = grid.samples(number, n)
        assert clip.frames[:, 0, 0, 0].tolist() == numbers
        assert clip.real_frames == real
        assert clip.start_s == numbers[0] / 25
        assert clip.stop_s == pytest.approx(min(n, grid.first_sample(number) + grid.span) / 25)


@pytest.mark.parametrize("grid", [(16, 1, 8), (4, 2, 1), (8, 4, 100), (1, 1, 3000)])
def test_memory_does_not_grow_with_the_length(grid: tuple[int, int, int]) -> None:
    """20,000 frames of 3 kB; a batch of 32 is 100 kB, and a few batches are alive at once."""
    asked = recipe(grid, crop_px=32)
    reader = Fake(20_000, side=32).as_reader()
    tracemalloc.start()
    try:
        last = None
        for clip in clips_of(reader, asked):
            last = clip
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert last is not None
    assert last.start_s == (ClipGrid(*grid).count(20_000) - 1) * grid[2] / 25
    assert peak < 1_500_000
