"""The clip grid: worked numbers, and what must hold for all numbers."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.clips import ClipGrid
from extract.errors import UsageError

grids = st.builds(ClipGrid, st.integers(1, 20), st.integers(1, 5), st.integers(1, 40))
lengths = st.integers(0, 300)


@pytest.mark.parametrize(
    ("grid", "n_samples", "clips"),
    [
        # as many full clips as there are, nothing over
        ((4, 1, 4), 8, [([0, 1, 2, 3], 4), ([4, 5, 6, 7], 4)]),
        ((4, 1, 2), 8, [([0, 1, 2, 3], 4), ([2, 3, 4, 5], 4), ([4, 5, 6, 7], 4)]),
        # a tail
        ((4, 1, 4), 9, [([0, 1, 2, 3], 4), ([4, 5, 6, 7], 4), ([8, 8, 8, 8], 1)]),
        ((4, 1, 2), 7, [([0, 1, 2, 3], 4), ([2, 3, 4, 5], 4), ([4, 5, 6, 6], 3)]),
        ((4, 1, 1), 5, [([0, 1, 2, 3], 4), ([1, 2, 3, 4], 4)]),
        # shorter than a clip, and empty
        ((4, 1, 2), 3, [([0, 1, 2, 2], 3)]),
        ((4, 1, 2), 1, [([0, 0, 0, 0], 1)]),
        ((4, 1, 2), 0, []),
        # hop > span: what lies between two clips is in none
        ((2, 1, 5), 5, [([0, 1], 2)]),
        ((2, 1, 5), 6, [([0, 1], 2), ([5, 5], 1)]),
        ((2, 1, 5), 7, [([0, 1], 2), ([5, 6], 2)]),
        ((2, 1, 5), 10, [([0, 1], 2), ([5, 6], 2)]),
        # stride > 1
        ((3, 2, 5), 10, [([0, 2, 4], 3), ([5, 7, 9], 3)]),
        ((3, 2, 5), 9, [([0, 2, 4], 3), ([5, 7, 8], 2)]),
        ((3, 3, 2), 8, [([0, 3, 6], 3), ([2, 5, 7], 2)]),
        ((1, 7, 1), 2, [([0], 1), ([1], 1)]),
    ],
)
def test_worked_numbers(grid: tuple[int, int, int], n_samples: int, clips: list[tuple[list[int], int]]) -> None:
    clip_grid = ClipGrid(*grid)
    assert clip_grid.count(n_samples) == len(clips)
    assert [clip_grid.samples(clip, n_samples) for clip in range(len(clips))] == clips


def test_span_counts_both_ends() -> None:
    assert ClipGrid(16, 1, 8).span == 16
    assert ClipGrid(16, 4, 8).span == 61
    assert ClipGrid(1, 9, 8).span == 1


@pytest.mark.parametrize("name", ["clip_frames", "frame_stride", "hop"])
@pytest.mark.parametrize("value", [0, -3])
def test_values_below_one_are_refused(name: str, value: int) -> None:
    with pytest.raises(UsageError, match=f"{name} is {value}; expected a whole number of at least 1"):
        ClipGrid(**{"clip_frames": 16, "frame_stride": 1, "hop": 8, name: value})


@given(grids, lengths)
def test_all_clips_but_the_last_are_full(grid: ClipGrid, n: int) -> None:
    clips = [grid.samples(clip, n) for clip in range(grid.count(n))]
    assert all(real == grid.clip_frames for _, real in clips[:-1])
    assert all(real >= 1 for _, real in clips)
    for clip, (numbers, real) in enumerate(clips):
        assert len(numbers) == grid.clip_frames
        assert numbers[0] == grid.first_sample(clip) == clip * grid.hop
        assert all(b - a == grid.frame_stride for a, b in pairwise(numbers[:real]))
        assert all(number == n - 1 for number in numbers[real:])


@given(grids, lengths)
def test_every_sample_lies_in_a_clip_when_clips_meet(grid: ClipGrid, n: int) -> None:
    covered = {k for clip in range(grid.count(n)) for k in range(clip * grid.hop, clip * grid.hop + grid.span)}
    if grid.hop <= grid.span:
        assert covered >= set(range(n))
    else:
        assert {k for k in range(n) if k % grid.hop < grid.span} <= covered


@given(grids, lengths)
def test_count_is_minimal(grid: ClipGrid, n: int) -> None:
    """Without the last clip, a sample that a clip can hold would be in none."""
    count = grid.count(n)
    assert (count == 0) == (n == 0)
    if count > 1:
        held = (count - 2) * grid.hop + grid.span  # the last but one clip ends here
        assert max(held, (count - 1) * grid.hop) < n


@given(grids, lengths)
def test_count_never_falls_as_the_video_grows(grid: ClipGrid, n: int) -> None:
    assert 0 <= grid.count(n + 1) - grid.count(n) <= 1
