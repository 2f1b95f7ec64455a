"""Clips of optical flow: their grid is that of RGB clips, each pair is computed once, and spans are the single pass."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from footage import H, encode, overwrite_packets, regular
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from extract import clipping
from extract.clipping import Clip, ClipSpan, SeamError, clips_of, reading_options
from extract.clips import ClipGrid
from extract.flow import Flow, FlowSettings, flow_frames
from extract.recipe import Recipe
from extract.video import FrameBatch, VideoReader, open_video, probe

Pixels = NDArray[np.uint8]
RATE = 25.0


def recipe(grid: tuple[int, int, int], *, flow: str | None = "dis", **changes: Any) -> Recipe:
    clip_frames, frame_stride, hop = grid
    values: dict[str, Any] = {
        "backbone": "i3d_inception_flow",
        "weights_sha256": "0",
        "layer": "features",
        "feature_width": 1024,
        "clip_frames": clip_frames,
        "frame_stride": frame_stride,
        "hop": hop,
        "fps": "native",
        "short_side_px": H,
        "crop_px": H,
        "resize_kernel": "swscale-bilinear",
        "mean": (0.5,) * (3 if flow is None else 2),
        "std": (0.5,) * (3 if flow is None else 2),
        "precision": "fp32",
        "flow": None if flow is None else {"method": flow},
    }
    return Recipe(**{**values, **changes})


class Told:
    """A flow whose 8 bits are the first bytes of both pictures; notes which pairs it was given."""

    settings = FlowSettings(method="dis")

    def __init__(self) -> None:
        self.pairs: list[tuple[int, int]] = []

    def __call__(self, before: Pixels, after: Pixels) -> NDArray[np.float32]:
        first = before[0, 0, 0], after[0, 0, 0]
        self.pairs.append((int(first[0]), int(first[1])))
        return np.broadcast_to(np.array(first, np.float32) * 40 / 255 - 20, (*before.shape[:2], 2))


class Fake:
    """Reads pictures whose first byte is their number; ``damaged`` are some of them, and ``holes_s`` lie between."""

    def __init__(
        self,
        n: int,
        *,
        times: Sequence[float] | None = None,
        damaged: Sequence[int] = (),
        holes_s: Sequence[tuple[float, float]] = (),
    ) -> None:
        self._times = [k / RATE for k in range(n)] if times is None else times
        self._damaged = np.isin(np.arange(n), damaged)
        self.size = (1, 1)
        self.info = SimpleNamespace(start_s=0.0)
        self.report = SimpleNamespace(holes_s=tuple(holes_s), display_end_s=self._times[-1] + 1 / RATE)

    def __iter__(self) -> Iterator[FrameBatch]:
        n = len(self._times)
        for first in range(0, n, 32):
            numbers = np.arange(first, min(first + 32, n))
            pixels = np.broadcast_to(numbers.astype(np.uint8)[:, None, None, None], (len(numbers), 1, 1, 3))
            yield FrameBatch(pixels, np.array(self._times)[numbers], self._damaged[numbers])


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    flow = Told()
    monkeypatch.setattr(clipping, "flow_for", lambda _settings, _device: flow)
    return flow


def clips(reader: Fake, grid: tuple[int, int, int], flow: str | None = "dis") -> list[Clip]:
    return list(clips_of(cast(VideoReader, reader), recipe(grid, flow=flow, crop_px=1)))


def pairs_of(clip: Clip) -> list[tuple[int, int]]:
    return [(int(x), int(y)) for x, y in clip.frames[:, 0, 0]]


@settings(deadline=None)
@given(st.builds(ClipGrid, st.integers(1, 9), st.integers(1, 4), st.integers(1, 40)), st.integers(1, 150))
def test_clips_of_flow_are_those_of_rgb_with_the_flow_to_the_next_sample(grid: ClipGrid, n: int) -> None:
    told, sizes = Told(), (grid.clip_frames, grid.frame_stride, grid.hop)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clipping, "flow_for", lambda _settings, _device: told)
        found = clips(Fake(n), sizes)
    rgb = clips(Fake(n), sizes, flow=None)
    assert [(clip.start_s, clip.stop_s) for clip in found] == [(clip.start_s, clip.stop_s) for clip in rgb]
    assert len(set(told.pairs)) == len(told.pairs), "each pair once"
    for clip, same in zip(found, rgb, strict=True):
        numbers = [min(int(number), n - 2) for number in same.frames[:, 0, 0, 0]]
        wanted = [(number, number + 1) for number in numbers] if n > 1 else [(128, 128)] * grid.clip_frames
        assert pairs_of(clip) == wanted
        assert clip.real_frames == sum(
            k < n - 1 for k in range(round(clip.start_s * RATE), n, grid.frame_stride)[: grid.clip_frames]
        )


def test_only_the_flow_that_clips_hold_is_computed(told: Told) -> None:
    clips(Fake(100), (2, 8, 50))
    assert told.pairs == [(0, 1), (8, 9), (50, 51), (58, 59)]


def test_no_flow_spans_a_hole(told: Told) -> None:
    times = [0.0, 0.04, 0.08, 100.0, 100.04, 200.0]
    found = clips(Fake(6, times=times, holes_s=[(0.12, 100.0), (100.08, 200.0)]), (2, 1, 2))
    rest = (128, 128)
    assert [pairs_of(clip) for clip in found] == [[(0, 1), (1, 2)], [(1, 2), (1, 2)], [(3, 4), (3, 4)], [rest, rest]]
    assert [clip.start_s for clip in found] == [0.0, 0.08, 100.0, 200.0]
    assert [clip.real_frames for clip in found] == [2, 0, 1, 0]


def test_flow_is_damaged_where_one_of_its_pictures_is(told: Told) -> None:
    found = clips(Fake(12, damaged=[4, 11]), (2, 1, 2))
    assert [clip.damaged for clip in found] == [False, True, True, False, False, True]  # 3 to 4; 4 to 5; 10 to 11
    assert [clip.damaged for clip in clips(Fake(1, damaged=[0]), (2, 1, 2))] == [True]


def test_flow_is_of_the_whole_picture_and_cropped_then(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", regular(7))
    asked = recipe((3, 1, 3), crop_px=32)
    with open_video(path, **reading_options(asked, "auto")) as reader:
        found = list(clips_of(reader, asked))
    with open_video(path, short_side=H) as reader:
        frames = np.concatenate([batch.pixels for batch in reader])
    whole = flow_frames(frames, Flow(FlowSettings(method="dis")))[:, 16:48, 32:64]
    np.testing.assert_array_equal(found[0].frames, whole[0:3])
    np.testing.assert_array_equal(found[1].frames, whole[3:6])
    np.testing.assert_array_equal(found[2].frames, whole[[6, 6, 6]])
    assert found[0].frames.dtype == np.uint8
    assert len(found) == 3


# Spans


def read(path: Path, asked: Recipe, span: ClipSpan | None = None) -> tuple[list[tuple[Any, ...]], bool]:
    found = []
    with open_video(path, **reading_options(asked, "auto", span)) as reader:
        reading = clips_of(reader, asked, span)
        while True:
            try:
                clip = next(reading)
            except StopIteration as end:
                return found, bool(end.value)
            found.append((clip.frames.tobytes(), clip.start_s, clip.stop_s, clip.real_frames, clip.damaged))


def read_in_spans(path: Path, asked: Recipe, bounds: Sequence[int]) -> list[tuple[Any, ...]]:
    info = probe(path)
    rate = info.average_fps if asked.fps == "native" else asked.fps
    parts = [
        read(path, asked, ClipSpan(first, stop, info.start_s, rate))
        for first, stop in itertools.pairwise([*bounds, None])
        if first is not None
    ]
    assert parts[-1][1], "an open span goes to the end"
    return [clip for clips, _ in parts for clip in clips]


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode(tmp_path_factory.mktemp("videos") / "minute.mp4", regular(97), options={"bf": "2"})


def checksum(before: Pixels, after: Pixels) -> NDArray[np.float32]:
    """In place of a flow: what both pictures are, quickly."""
    sums = [float(np.add.reduce(each, axis=None, dtype=np.int64) % 250) for each in (before, after)]
    return np.broadcast_to(np.array(sums, np.float32) * 40 / 255 - 20, (*before.shape[:2], 2))


@settings(max_examples=20, deadline=None)
@given(
    grid=st.tuples(st.integers(1, 9), st.integers(1, 3), st.integers(1, 30)),
    fps=st.sampled_from([5.0, 12.5, "native"]),
    bounds=st.sets(st.integers(1, 60), max_size=3),
)
def test_any_cut_of_any_grid(footage: Path, grid: tuple[int, int, int], fps: float | str, bounds: set[int]) -> None:
    made: Callable[..., NDArray[np.float32]] = checksum
    made.settings = FlowSettings(method="dis")  # type: ignore[attr-defined]
    asked = recipe(grid, fps=fps)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clipping, "flow_for", lambda _settings, _device: made)
        assert read_in_spans(footage, asked, [0, *sorted(bounds)]) == read(footage, asked)[0]


def test_spans_of_true_flow_are_the_single_pass(footage: Path) -> None:
    """The last clip begins with the last of 97 samples, so that its flow is from before it."""
    asked = recipe((4, 1, 8), crop_px=48)
    whole, ended = read(footage, asked)
    assert ended
    assert len(whole) == 13
    assert whole[-1][3] == 0
    assert read_in_spans(footage, asked, [0, 3, 12]) == whole


@pytest.mark.parametrize("name", ["hole.mkv", "broken.mp4"])
def test_what_would_not_add_up_is_refused(tmp_path: Path, name: str) -> None:
    if name == "hole.mkv":
        path = encode(tmp_path / name, [*regular(20), *(t + 100 for t in regular(20))], tick=Fraction(1, 1000))
    else:
        path = encode(tmp_path / name, regular(60))
        overwrite_packets(path, range(15, 18))
    with pytest.raises(SeamError):
        read_in_spans(path, recipe((4, 1, 4), fps=10.0), [0, 2, 4])
