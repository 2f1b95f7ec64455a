"""The main job end to end, on real encoded files: features, times, resumption, failures, equality."""

import shutil
import warnings
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
import xarray
from numpy.typing import NDArray

import pipelines
from extract.clipping import Clip, ClipSpan, clips_of
from extract.clips import ClipGrid
from extract.engine import Engine
from extract.errors import InputError, MachineError, RecipeMismatchError, UsageError
from extract.recipe import Recipe
from extract.store import FeatureStore
from extract.video import VideoReader, open_video, probe
from pipelines.extraction import Options, prepare, run_extraction

from .conftest import assert_equal_stores

SHARED_VIDEOS = Path(__file__).parents[2].parent / "shared" / "videos"


def test_every_video_has_its_clips_at_its_seconds(archive: Path, undisturbed: FeatureStore) -> None:
    files = {p.relative_to(archive).as_posix() for p in archive.rglob("*.*")}
    assert set(undisturbed) == files
    assert "a/same.mp4" in files
    assert "b/same.mp4" in files
    for video_id in undisturbed:
        sequence, info = undisturbed[video_id], probe(archive / video_id)
        assert info.duration_s is not None
        with open_video(archive / video_id, fps=10) as reader:
            samples = sum(len(batch) for batch in reader)
        assert len(sequence) == ClipGrid(16, 1, 8).count(samples)
        np.testing.assert_allclose(sequence.start_s, 0.8 * np.arange(len(sequence)), atol=1e-9)
        assert sequence.stop_s[-1] == sequence.duration_s == pytest.approx(info.duration_s, abs=0.05)
        np.testing.assert_allclose(sequence.stop_s[:-1], sequence.start_s[:-1] + 1.6, atol=1e-9)
        assert sequence.real_frames[-1] == samples - 8 * (len(sequence) - 1)
        assert np.isfinite(sequence.features).all()
        assert sequence.features.std() > 0


def test_published_store_opens_with_xarray(undisturbed: FeatureStore) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        published = xarray.open_zarr(undisturbed.url)
    assert {"features", "clip_start", "clip_stop", "row_size", "video_id"} <= set(published.variables)
    ids = published["video_id"].to_numpy().tolist()
    ends = np.cumsum(published["row_size"].to_numpy())
    for video_id, end in zip(ids, ends, strict=True):
        rows = slice(end - len(undisturbed[video_id]), end)
        np.testing.assert_array_equal(published["features"][rows].to_numpy(), undisturbed[video_id].features)
        np.testing.assert_array_equal(published["clip_start"][rows].to_numpy(), undisturbed[video_id].start_s)


def test_provenance_names_file_decoder_engine(archive: Path, undisturbed: FeatureStore) -> None:
    record = undisturbed.catalogue["a/same.mp4"]
    assert record.provenance["uri"] == str(archive / "a/same.mp4")
    assert record.provenance["codec"] == "h264"
    assert record.provenance["decoder"] == "pyav"
    assert record.provenance["decoded_frames"] == 50
    assert str(record.provenance["engine"]).startswith(("torch ", "openvino "))
    assert record.provenance["weights"] == "embedded"


@pytest.mark.parametrize("workers", [2, pytest.param(4, marks=pytest.mark.more)])
def test_any_number_of_workers_gives_the_same_store(
    archive: Path, undisturbed: FeatureStore, tmp_path: Path, workers: int
) -> None:
    store, summary = run_extraction(archive, tmp_path / "f.zarr", options=Options(workers=workers))
    assert summary.videos == len(undisturbed)
    assert_equal_stores(store, undisturbed)


def test_rerun_reads_nothing_again(archive: Path, tmp_path: Path) -> None:
    first = pipelines.extract(archive / "a", tmp_path / "f.zarr")
    _, again = run_extraction(archive / "a", tmp_path / "f.zarr", options=Options())
    assert (again.videos, again.clips, again.already_done) == (0, 0, len(first))
    assert prepare(archive / "a", tmp_path / "f.zarr", Options()).videos == 0


def test_changed_file_is_read_again(archive: Path, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    shutil.copy(archive / "a/same.mp4", videos / "x.mp4")
    before = pipelines.extract(videos, tmp_path / "f.zarr")["x.mp4"].features
    shutil.copy(archive / "b/same.mp4", videos / "x.mp4")
    store, summary = run_extraction(videos, tmp_path / "f.zarr", options=Options())
    assert summary.videos == 1
    assert not np.array_equal(store["x.mp4"].features, before)


def test_bad_files_are_named_and_the_rest_is_done(archive: Path, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    shutil.copytree(archive / "a", videos)
    (videos / "empty.mp4").touch()
    (videos / "text.mp4").write_text("not a video\n" * 100)
    whole = (videos / "same.mp4").read_bytes()
    (videos / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    store, summary = run_extraction(videos, tmp_path / "f.zarr", options=Options())
    failed = {failure["video"]: failure["reason"] for failure in summary.failed}
    assert failed.keys() == {"empty.mp4", "text.mp4", "cut.mp4"}
    assert failed["empty.mp4"] == "empty"
    assert set(store.failures) == set(failed)
    assert len(store) == len(list((archive / "a").iterdir()))
    _, again = run_extraction(videos, tmp_path / "f.zarr", options=Options())
    assert {failure["video"] for failure in again.failed} == set(failed), "a failure is never forgotten"
    shutil.copy(archive / "b/same.mp4", videos / "empty.mp4")
    _, mended = run_extraction(videos, tmp_path / "f.zarr", options=Options(retry_failed=True))
    assert mended.videos == 1
    assert {failure["video"] for failure in mended.failed} == {"text.mp4", "cut.mp4"}


def test_a_folder_with_the_same_names_is_refused(archive: Path, tmp_path: Path) -> None:
    """Both hold same.mp4: one must not take the other's place."""
    out = tmp_path / "f.zarr"
    pipelines.extract(archive / "a", out)
    with pytest.raises(InputError, match=r"b/same.mp4 would be stored as 'same.mp4', but that is .*a/same.mp4"):
        pipelines.extract(archive / "b", out)


def test_creation_cut_short_is_no_obstacle(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "f.zarr/_log").mkdir(parents=True)
    assert len(pipelines.extract(archive / "a/same.mp4", tmp_path / "f.zarr")) == 1


def test_an_unforeseen_error_in_one_video_does_not_stop_the_others(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sometimes(
        reader: VideoReader, recipe: Recipe, span: ClipSpan | None, *, device: str
    ) -> Generator[Clip, None, bool]:
        if reader.info.path.endswith("same.mp4"):
            raise ZeroDivisionError("strange file")
        return (yield from clips_of(reader, recipe, span, device=device))

    monkeypatch.setattr("extract.worker.clips_of", sometimes)
    store, summary = run_extraction(archive / "a", tmp_path / "f.zarr", options=Options())
    (failure,) = summary.failed
    assert failure == {"video": "same.mp4", "reason": "unexpected", "detail": "ZeroDivisionError: strange file"}
    assert len(store) == len(list((archive / "a").iterdir())) - 1


def test_features_that_float16_cannot_hold_fail_their_video(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def huge(_self: Engine, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.full((len(clips), 256), 1e6, np.float32)

    monkeypatch.setattr(Engine, "features", huge)
    store, summary = run_extraction(archive / "a/same.mp4", tmp_path / "f.zarr", options=Options())
    assert [failure["reason"] for failure in summary.failed] == ["overflow"]
    assert len(store) == 0
    assert list(store.failures) == ["same.mp4"]
    _, again = run_extraction(archive / "a/same.mp4", tmp_path / "f.zarr", options=Options())
    assert [failure["reason"] for failure in again.failed] == ["overflow"], "not tried again unless asked"


def test_another_recipe_is_refused_with_the_difference(archive: Path, tmp_path: Path) -> None:
    pipelines.extract(archive / "a/same.mp4", tmp_path / "f.zarr")
    with pytest.raises(RecipeMismatchError, match=r"hop.*8.*4"):
        pipelines.extract(archive / "a/same.mp4", tmp_path / "f.zarr", hop=4)


def test_auto_precision_follows_the_store(archive: Path, tmp_path: Path) -> None:
    pipelines.extract(archive / "a/same.mp4", tmp_path / "f.zarr", precision="fp32")
    store = pipelines.extract(archive / "a", tmp_path / "f.zarr", precision="auto")
    assert store.recipe["precision"] == "fp32"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hop": 0}, "at least 1"),
        ({"fps": "fast"}, "--fps fast"),
        ({"fps": 0.0}, "--fps 0"),
        ({"crop": 300}, "--crop 300 is more than --short-side 112"),
        ({"precision": "int3"}, "expected auto, fp32, bf16 or fp16"),
        ({"device": "tpu"}, "expected auto, cpu or cuda"),
        ({"decoder": "vlc"}, "vlc"),
        ({"backbone": "alexnet"}, "no backbone called 'alexnet'"),
        ({"weights": "random:x"}, "whole number"),
        ({"colour": "bgr"}, "no option is called 'colour'"),
    ],
)
def test_impossible_options(archive: Path, tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        pipelines.extract(archive, tmp_path / "f.zarr", **options)
    assert not (tmp_path / "f.zarr").exists()


def test_bad_places(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        pipelines.extract(tmp_path / "nowhere", tmp_path / "f.zarr")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no video in"):
        pipelines.extract(tmp_path / "empty", tmp_path / "f.zarr")
    assert not (tmp_path / "f.zarr").exists()


def test_full_disk_leaves_a_whole_store(
    archive: Path, undisturbed: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "f.zarr"
    pipelines.extract(archive / "a/same.mp4", out)

    def full(_self: FeatureStore, _videos: object) -> None:
        raise MachineError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(FeatureStore, "write_segment", full)
        with pytest.raises(MachineError, match="No space left"):
            pipelines.extract(archive / "a", out)
    assert list(FeatureStore.open(out)) == ["same.mp4"]
    store = pipelines.extract(archive / "a", out)
    assert len(store) == len(list((archive / "a").iterdir()))


@pytest.mark.skipif(not SHARED_VIDEOS.is_dir(), reason="no ../shared/videos beside this checkout")
def test_real_videos_all_give_clips_at_true_seconds(tmp_path: Path) -> None:
    store, summary = run_extraction(SHARED_VIDEOS, tmp_path / "f.zarr", options=Options())
    assert summary.failed == []
    assert summary.partial == ["corrupted.mp4"]
    for video_id in store:
        sequence = store[video_id]
        with open_video(SHARED_VIDEOS / video_id) as reader:
            for _ in reader:
                pass
            report, info = reader.report, reader.info
        assert report.display_end_s is not None
        assert sequence.start_s[0] == 0
        assert sequence.stop_s[-1] == pytest.approx(report.display_end_s - info.start_s, abs=1e-6)
        assert (np.diff(sequence.start_s) > 0).all()
        assert (sequence.stop_s > sequence.start_s).all()
