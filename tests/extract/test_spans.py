"""Spans of a video: their clips are those of the single pass, and the store makes one video of them."""

import itertools
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from footage import KINDS, H, encode, overwrite_packets, regular
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.clipping import Clip, ClipSpan, SeamError, clips_of, reading_options
from extract.recipe import Recipe
from extract.store import FeatureStore, Receipt, Span, VideoFeatures
from extract.store.checksum import combined
from extract.video import open_video, probe

GRIDS = [(4, 1, 2), (8, 2, 16), (3, 1, 40), (1, 1, 1)]
WIDTH = 5
RECIPE = {"feature_width": WIDTH, "stored_dtype": "float16"}


def recipe(grid: tuple[int, int, int], fps: float | str) -> Recipe:
    clip_frames, frame_stride, hop = grid
    return Recipe.model_validate(
        {
            "backbone": "tiny",
            "weights_sha256": "0",
            "layer": "features",
            "feature_width": WIDTH,
            "clip_frames": clip_frames,
            "frame_stride": frame_stride,
            "hop": hop,
            "fps": fps,
            "short_side_px": H,
            "crop_px": H,
            "resize_kernel": "swscale-bilinear",
            "mean": (0.5, 0.5, 0.5),
            "std": (0.5, 0.5, 0.5),
            "precision": "fp32",
        }
    )


def signature(clip: Clip) -> tuple[int, float, float, int, bool]:
    return zlib.crc32(clip.frames.tobytes()), clip.start_s, clip.stop_s, clip.real_frames, clip.damaged


def read(
    path: Path, asked: Recipe, span: ClipSpan | None = None
) -> tuple[list[tuple[int, float, float, int, bool]], bool]:
    found = []
    with open_video(path, **reading_options(asked, "auto", span)) as reader:
        clips = clips_of(reader, asked, span)
        while True:
            try:
                found.append(signature(next(clips)))
            except StopIteration as end:
                return found, bool(end.value)


def read_in_spans(path: Path, asked: Recipe, bounds: list[int]) -> list[tuple[int, float, float, int, bool]]:
    info = probe(path)
    rate = info.average_fps if asked.fps == "native" else asked.fps
    found = []
    ends = []
    for first, stop in itertools.pairwise([*bounds, None]):
        assert first is not None
        clips, ended = read(path, asked, ClipSpan(first, stop, info.start_s, rate))
        found += clips
        ends.append(ended)
    assert ends[-1], "an open span goes to the end"
    assert ends == sorted(ends), "after the end nothing follows"
    return found


@pytest.mark.parametrize("name", [name for name in KINDS if not name.startswith("uneven")])
@pytest.mark.parametrize("fps", [10.0, "native"])
def test_spans_are_the_single_pass(name: str, fps: float | str, tmp_path: Path) -> None:
    path = KINDS[name](tmp_path / name)
    for grid in GRIDS:
        asked = recipe(grid, fps)
        whole, ended = read(path, asked)
        assert ended
        for bounds in ([0, 1], [0, 1, 2, 3], [0, len(whole) // 2, len(whole) - 1], [0, len(whole), len(whole) + 5]):
            assert read_in_spans(path, asked, sorted(set(bounds))) == whole


@pytest.fixture(scope="module")
def minute(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode(tmp_path_factory.mktemp("videos") / "minute.mp4", regular(211), options={"bf": "2"})


@settings(max_examples=25, deadline=None)
@given(
    grid=st.tuples(st.integers(1, 9), st.integers(1, 3), st.integers(1, 30)),
    fps=st.sampled_from([5.0, 12.5, 23.976, "native"]),
    bounds=st.sets(st.integers(1, 120), max_size=4),
)
def test_any_cut_of_any_grid(minute: Path, grid: tuple[int, int, int], fps: float | str, bounds: set[int]) -> None:
    asked = recipe(grid, fps)
    assert read_in_spans(minute, asked, [0, *sorted(bounds)]) == read(minute, asked)[0]


def test_what_would_not_add_up_is_refused(tmp_path: Path) -> None:
    hole = encode(tmp_path / "hole.mkv", [*regular(40), *(t + 100 for t in regular(40))], tick=Fraction(1, 1000))
    broken = encode(tmp_path / "broken.mp4", regular(60))
    overwrite_packets(broken, range(15, 18))
    uneven = KINDS["uneven.mp4"](tmp_path / "uneven.mp4")
    for path, fps in ((hole, 10.0), (broken, 10.0), (uneven, "native")):
        with pytest.raises(SeamError):
            read_in_spans(path, recipe((4, 1, 4), fps), [0, 2, 4])
    asked = recipe((4, 1, 4), 10.0)
    assert read_in_spans(KINDS["uneven.mp4"](tmp_path / "rate.mp4"), asked, [0, 3]) == read(uneven, asked)[0]


@given(parts=st.lists(st.binary(max_size=300), max_size=6))
def test_checksums_of_parts_combine(parts: list[bytes]) -> None:
    assert combined((zlib.crc32(part), len(part)) for part in parts) == zlib.crc32(b"".join(parts))


# In the store


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore.create(tmp_path / "store", RECIPE)


def video(clips: range, *, ends: bool = True, whole: bool = False, fingerprint: str = "print") -> VideoFeatures:
    """Clips ``clips`` of the video v; what clip k holds depends on k alone."""
    numbers = np.arange(clips.start, clips.stop)
    return VideoFeatures(
        video_id="v",
        features=np.stack([np.random.default_rng(k).standard_normal(WIDTH) for k in numbers]).astype(np.float32),
        start_s=numbers * 0.5,
        stop_s=numbers * 0.5 + 1,
        real_frames=np.full(len(numbers), 16, np.int32),
        damaged=numbers % 7 == 0,
        duration_s=float(clips.stop),
        fingerprint=fingerprint,
        status="ok",
        provenance={"host": f"h{clips.start}", "decoded_frames": len(numbers), "started_unix_s": 100.0 - clips.start},
        span=None if whole else Span(clips.start, ends),
    )


def commit(store: FeatureStore, *videos: VideoFeatures) -> list[Receipt]:
    receipts = [store.write_segment([each]) for each in videos]
    for receipt in receipts:
        store.commit(receipt)
    return receipts


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_spans_in_any_order_make_the_video(store: FeatureStore, tmp_path: Path, order: tuple[int, ...]) -> None:
    spans = [video(range(90), ends=False), video(range(90, 130), ends=False), video(range(130, 131))]
    for at in order[:2]:
        commit(store, spans[at])
        assert "v" not in store
    assert sum(span.part.rows for span in store.spans["v"]) < 131
    commit(store, spans[order[2]])
    whole = FeatureStore.create(tmp_path / "whole", RECIPE)
    commit(whole, video(range(131), whole=True))
    for reader in (store, FeatureStore.open(store.url)):
        assert not reader.spans
        ours, theirs = reader.catalogue["v"], whole.catalogue["v"]
        assert (ours.rows, ours.crc32, ours.duration_s) == (131, theirs.crc32, 131.0)
        assert [part.rows for part in ours.parts] == [90, 40, 1]
        assert (ours.provenance["decoded_frames"], ours.provenance["started_unix_s"]) == (131, -30.0)
        assert [span["first_clip"] for span in ours.provenance["spans"]] == [0, 90, 130]  # type: ignore[attr-defined]
        for name in ("features", "start_s", "stop_s", "real_frames", "damaged"):
            np.testing.assert_array_equal(getattr(reader["v"], name), getattr(whole["v"], name))
    store.publish()
    whole.publish()
    for name in ("features/c.0.0", "clip_start/c.0", "row_size/c.0", "crc32/c.0"):
        assert Path(store.url, name).read_bytes() == Path(whole.url, name).read_bytes()


def test_of_overlapping_spans_those_that_follow_each_other_are_taken(store: FeatureStore) -> None:
    commit(
        store,
        video(range(50), ends=False),
        video(range(30), ends=False),
        video(range(60, 80)),
        video(range(20, 60), ends=False),
    )
    assert "v" not in store
    commit(store, video(range(30, 60), ends=False))
    assert [part.rows for part in store.catalogue["v"].parts] == [30, 30, 20]
    commit(store, video(range(50, 80)))
    assert len(store["v"]) == 80
    assert not store.spans


def test_spans_of_another_file_or_after_the_whole_do_not_count(store: FeatureStore) -> None:
    commit(store, video(range(10), ends=False), video(range(10, 20), fingerprint="other"))
    assert "v" not in store
    assert [span.fingerprint for span in store.spans["v"]] == ["other"]
    store.record_unsplit("v", "other")
    assert not store.spans
    commit(store, video(range(10), ends=False, fingerprint="other"), video(range(10, 20), fingerprint="other"))
    assert "v" not in store
    assert store.unsplit == {"v": "other"}
    commit(store, video(range(20), whole=True, fingerprint="other"))
    assert len(store["v"]) == 20
    commit(store, video(range(3), ends=False, fingerprint="other"))
    assert not store.spans
