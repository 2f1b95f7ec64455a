"""Predictions: the head's own answers, from a store or from raw video, as rows, files and lines."""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from commands import run as command

from extract.errors import InputError, RecipeMismatchError, UsageError, VideoError
from extract.store import FeatureSequence, FeatureStore, VideoRecord
from pipelines.annotations.formats import FORMATS, read_document
from pipelines.checkpoint import Run
from pipelines.config import TrainSettings
from pipelines.dataset import Example
from pipelines.extraction import Options, run_extraction
from pipelines.predicting import Predicted, checked_run, predict, predict_stored, predict_videos, predicted_lines
from pipelines.predictions import (
    NO_SCORES,
    ONLY_BOXES,
    Curves,
    chosen_rows,
    read_predictions,
    settled_format,
    write_predictions,
)
from pipelines.scoring import Options as ScoreOptions
from pipelines.scoring import score
from pipelines.synthetic import synthesize
from pipelines.tasks import TASKS
from pipelines.tasks.said import best_threshold, cut, quantised
from pipelines.training import train


@dataclass(frozen=True)
class World:
    folder: Path
    store: FeatureStore
    label: Run
    localize: Run


@dataclass(frozen=True)
class SlowStore:
    """A store as if its features were of another recipe."""

    store: FeatureStore
    recipe: dict[str, object]
    recipe_digest: str = "other"

    @property
    def catalogue(self) -> Mapping[str, VideoRecord]:
        return self.store.catalogue

    def __iter__(self) -> Iterator[str]:
        return iter(self.store)

    def __getitem__(self, video_id: str) -> FeatureSequence:
        return self.store[video_id]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("predict")
    synthesize("untrimmed", folder / "world", videos=4, seconds=12, seed=3, workers=1)
    store, _ = run_extraction(folder / "world" / "videos", folder / "f.zarr", options=Options(engine="torch"))
    labels = folder / "world" / "annotations.json"
    label = train("label", store, annotations=labels, out=folder / "label", settings=TrainSettings(epochs=3))
    localize = train(
        "localize",
        store,
        annotations=labels,
        out=folder / "loc",
        head="temporalmaxer",
        settings=TrainSettings(epochs=2),
    )
    return World(folder, store, label, localize)


def test_rows_are_the_heads_own_answers(world: World) -> None:
    ids = list(world.store)
    annotations = TASKS["label"].read(world.folder / "world" / "annotations.json")
    found = predict_stored(world.label, world.store, ids)
    for subset in annotations.subsets:
        task = TASKS["label"]
        for item in task.load(world.store, annotations, subset=subset, classes=world.label.classes).items:
            stored = next(video_id for video_id in ids if Path(video_id).stem == Path(item.video_id).stem)
            answer = task.answer(world.label.head, item)
            np.testing.assert_array_equal(found.curves[stored].values, quantised(answer))
            np.testing.assert_array_equal(found.curves[stored].centre_s, item.centre_s)


def test_raw_video_gives_what_the_store_gives(world: World, tmp_path: Path) -> None:
    names = sorted(path.name for path in (world.folder / "world" / "videos").iterdir())
    raw = tmp_path / "a <b>'\"&" / "x.mp4"
    raw.parent.mkdir()
    shutil.copy(world.folder / "world" / "videos" / names[0], raw)
    moved = replace(world.localize, record={**world.localize.record, "store": str(tmp_path / "gone.zarr")})
    for run in (world.label, moved):
        ours = predict(run, raw, engine="torch")
        theirs = predict_stored(run, world.store, [names[0]])
        np.testing.assert_array_equal(ours.document.segments.span_s, theirs.document.segments.span_s)
        np.testing.assert_array_equal(ours.document.segments.score, theirs.document.segments.score)
        assert len(ours.document.segments)
        assert ours.document.videos == ("x.mp4",)
        assert ours.sources == {"x.mp4": str(raw)}


def test_features_that_are_there_are_not_made_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.predicting.run_extraction", lambda *_, **__: pytest.fail("extracted again"))
    videos = world.folder / "world" / "videos"
    assert len(predict(world.label, videos).document.videos) == 4
    assert len(predict(world.label, videos, store=world.store.url).document.videos) == 4


def test_a_store_is_made_and_kept(world: World, tmp_path: Path) -> None:
    elsewhere = replace(world.label, record={**world.label.record, "store": None})
    predict(
        elsewhere, sorted((world.folder / "world" / "videos").iterdir())[0], store=tmp_path / "new.zarr", engine="torch"
    )
    assert len(FeatureStore.open(tmp_path / "new.zarr")) == 1


def test_bad_videos_are_named_and_the_others_answered(world: World, tmp_path: Path) -> None:
    shutil.copy(sorted((world.folder / "world" / "videos").iterdir())[1], tmp_path / "good.mp4")
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    done = predict_videos(world.label, tmp_path, engine="torch")
    assert [failed["video"] for failed in done.failed] == ["bad.mp4"]
    assert done.predictions.document.videos == ("good.mp4",)
    with pytest.raises(VideoError, match=r"bad\.mp4"):
        predict(world.label, tmp_path, engine="torch")


def test_what_cannot_be_is_refused(world: World, tmp_path: Path) -> None:
    video = sorted((world.folder / "world" / "videos").iterdir())[0]
    with pytest.raises(RecipeMismatchError, match="weights_sha256"):
        predict(world.label, video, weights="random:1", store=tmp_path / "x.zarr", engine="torch")
    other, _ = run_extraction(video, tmp_path / "other.zarr", options=Options(hop=16, engine="torch"))
    with pytest.raises(RecipeMismatchError, match="hop: 16 in the store, 8 in the run"):
        predict(world.label, video, store=other.url)
    with pytest.raises(UsageError, match="no option is called 'hop'"):
        predict(world.label, video, hop=3)
    with pytest.raises(UsageError, match=r"--threshold 1\.5; expected a score"):
        predict(world.label, video, threshold=1.5)
    (tmp_path / "seeds.json").write_text("{}")
    with pytest.raises(UsageError, match="several seeds; expected one of them"):
        checked_run(tmp_path)
    with pytest.raises(UsageError, match="2 joined stores"):
        checked_run(replace(world.label, recipe={"store 1": {}, "store 2": {}}))
    with pytest.raises(UsageError, match="about boxes: expected --boxes FILE"):
        predict(replace(world.label, recipe={**world.label.recipe, "roi": {}}, recipe_digest="x"), video)


def test_a_file_holds_all_of_it_and_scores_as_activitynets(world: World, tmp_path: Path) -> None:
    ours = predict_stored(world.label, world.store, list(world.store), threshold=0.1)
    assert write_predictions(ours, tmp_path / "p.json") == "activitynet"
    again = read_predictions(tmp_path / "p.json")
    assert again.about == json.loads(json.dumps(ours.about))
    assert (again.threshold, again.sources, again.document.media) == (0.1, ours.sources, ours.document.media)
    assert again.document.labels == world.label.classes
    assert [*again.segments()] == [*ours.segments()]
    for video, curves in ours.curves.items():
        np.testing.assert_array_equal(again.curves[video].values, curves.values)
        np.testing.assert_allclose(again.curves[video].centre_s, curves.centre_s, atol=1e-6)
    truth = world.folder / "world" / "annotations.json"
    result = score("activitynet", truth, tmp_path / "p.json", options=ScoreOptions(subset="validation"))
    assert result["protocol"] == "activitynet"
    with pytest.raises(UsageError, match="exists; choose another name"):
        write_predictions(ours, tmp_path / "p.json")
    (tmp_path / "other.json").write_text('{"results": {"untrimmed": []}, "version": "untrimmed"}')
    assert read_predictions(tmp_path / "other.json").about == {}
    (tmp_path / "broken.json").write_text((tmp_path / "p.json").read_text().replace('"sources"', '"sauces"'))
    with pytest.raises(InputError, match="'untrimmed' holds is broken"):
        read_predictions(tmp_path / "broken.json")


def test_irregular_and_silent_curves_come_back(world: World, tmp_path: Path) -> None:
    ours = predict_stored(world.label, world.store, list(world.store)[:1])
    video, labels = ours.document.videos[0], len(ours.document.labels)
    curves = {
        "irregular": Curves(np.array([0.1, 0.2, 0.7]), np.arange(3 * labels, dtype=np.uint8).reshape(labels, 3)),
        "silent": Curves(np.array([0.5, 1.0]), np.zeros((labels, 2), np.uint8)),
    }
    for name, each in curves.items():
        write_predictions(replace(ours, curves={video: each}), tmp_path / f"{name}.json")
        found = read_predictions(tmp_path / f"{name}.json").curves[video]
        np.testing.assert_allclose(found.centre_s, each.centre_s, atol=1e-9)
        np.testing.assert_array_equal(found.values, each.values)


def test_labels_are_no_predictions(world: World) -> None:
    with pytest.raises(InputError, match="no row has a score"):
        read_predictions(world.folder / "world" / "annotations.json")


def test_the_command(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    video = sorted((world.folder / "world" / "videos").iterdir())[0]
    assert command(monkeypatch, "predict", world.label.path, video, "-o", tmp_path / "p.json", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["threshold"] == world.label.record["threshold"]
    rows = [*read_predictions(tmp_path / "p.json").segments()]
    assert len(printed["videos"][video.name]["segments"]) == len(rows)
    assert command(monkeypatch, "predict", world.label.path, video, "--threshold", "0") == 0
    assert f"{video.name}: {len(world.label.classes)} segments" in capsys.readouterr().out
    assert command(monkeypatch, "predict", world.label.path, video, "-o", tmp_path / "p.vtt") == 0
    assert "webvtt cannot hold scores over time" in capsys.readouterr().out
    monkeypatch.setattr("pipelines.predicting.predict_videos", lambda *_, **__: pytest.fail("worked before it looked"))
    assert command(monkeypatch, "predict", world.label.path, video, "-o", tmp_path / "p.json") == 2
    assert "exists; choose another name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "to", "boxes", "form"),
    [
        ("p.json", None, False, "activitynet"),
        ("p.vtt", None, False, "webvtt"),
        ("p.json", None, True, "coco-vid"),
        ("p", None, True, "ava"),
        ("p.json", "via", True, "via"),
    ],
)
def test_the_format_of_a_name(name: str, to: str | None, boxes: bool, form: str, tmp_path: Path) -> None:
    assert settled_format(tmp_path / name, to, boxes=boxes) == form


@pytest.mark.parametrize(
    ("name", "to", "boxes", "says"),
    [
        ("p", "mot", False, "mot holds boxes, and these are segments; expected activitynet"),
        ("p", "webvtt", True, "webvtt holds segments, and these are boxes; expected ava"),
        (
            "p.csv",
            None,
            True,
            "numbers in place of labels, and a list of classes beside; expected the name",
        ),
        ("p", "xls", False, "format 'xls' is unknown"),
    ],
)
def test_a_format_that_cannot_be(name: str, to: str | None, boxes: bool, says: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=says):
        settled_format(tmp_path / name, to, boxes=boxes)


def test_formats_hold_what_is_said_of_them(world: World, tmp_path: Path) -> None:
    found = predict_stored(world.localize, world.store, list(world.store)[:2])
    assert (found.document.segments.score < 0.2).any()
    for form in FORMATS:
        if form in ONLY_BOXES:
            continue
        write_predictions(found, tmp_path / form, form, min_score=0.0)
        again = read_document(tmp_path / form, fps=10).segments
        assert len(again) >= len(found.document.segments) or form in ("mstcn", "cvat")  # labels of frames
        assert np.isfinite(again.score).all() == (form not in NO_SCORES)
    few = chosen_rows(found, "srt").segments
    assert (few.score >= 0.2).all()
    assert len(few) == (found.document.segments.score >= 0.2).sum()
    done = Predicted(found, ())
    assert "srt holds no scores" in "\n".join(predicted_lines(done, tmp_path / "x", "srt"))
    assert "below 0.5 are left out" in "\n".join(predicted_lines(done, tmp_path / "x", "parquet", 0.5))


def test_runs_of_a_curve() -> None:
    curves = np.array([[0, 200, 255, 10, 128], [0, 0, 0, 0, 0]], np.uint8)
    found = cut(curves, np.array([1.0, 2.0, 3.0, 4.0, 5.0]), 5.2, 0.5)
    np.testing.assert_allclose(found.segments, [[1.5, 3.5], [4.5, 5.2]])
    np.testing.assert_allclose(found.scores, [455 / 2 / 255, 128 / 255])
    assert found.labels.tolist() == [0, 0]


def test_the_best_threshold_separates() -> None:
    rng = np.random.default_rng(0)
    target = rng.random((200, 3)) < 0.2
    values = np.where(target.T, rng.integers(61, 120, (3, 200)), rng.integers(0, 60, (3, 200))).astype(np.uint8)
    assert 59 / 255 < best_threshold([values], [target]) <= values[target.T].min() / 255
    assert best_threshold([values], [np.zeros_like(target)]) == 0.5


def test_a_video_as_a_whole() -> None:
    task, example = TASKS["classify"], Example("v", lambda: np.zeros((4, 2), np.float32), np.arange(4.0), None, 8.0)
    said = task.said(np.log(np.array([0.1, 0.6, 0.3], np.float32)), example, 0.5)
    assert said.segments is not None
    np.testing.assert_allclose(said.segments.scores, [0.6, 0.3, 0.1], rtol=1e-6)
    assert said.segments.labels.tolist() == [1, 2, 0]
    assert said.segments.segments.tolist() == [[0, 8]] * 3


def test_videos_unlike_those_of_the_training_are_named(world: World, tmp_path: Path) -> None:
    ids = list(world.store)[:1]
    rates = world.label.record["frame_rates"]
    rate = float(world.store.catalogue[ids[0]].provenance["average_fps"])
    assert rates[0] <= rate <= rates[1]

    def notes(run: Run, fps: object) -> tuple[str, ...]:
        store = SlowStore(world.store, {**world.store.recipe, "fps": fps})
        trained = replace(run, recipe=store.recipe, recipe_digest=store.recipe_digest)
        return predict_stored(trained, store, ids).document.notes  # type: ignore[arg-type]

    assert notes(world.label, 10.0) == ()
    (repeated,) = notes(world.label, 2 * rate)
    assert repeated == f"{ids[0]}: {rate:g} frames/s, fewer than the {2 * rate:g} samples/s of the run's features:" + (
        " frames repeat"
    )
    assert notes(world.label, "native") == ()
    other = replace(world.label, record={**world.label.record, "frame_rates": [2 * rate, 3 * rate]})
    (native,) = notes(other, "native")
    assert "clips here are of another length in seconds" in native
    found = replace(predict_stored(world.label, world.store, ids))
    noted = replace(found, document=replace(found.document, notes=(native,)))
    write_predictions(noted, tmp_path / "p.json")
    assert read_predictions(tmp_path / "p.json").document.notes == (native,)
