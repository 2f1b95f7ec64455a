"""Reports of a trained run: its own predictions, the truth it was made for, its official figures."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from reports import payload_of

from extract.errors import InputError, UsageError
from extract.store import FeatureStore
from pipelines.annotations.ava import read_ava
from pipelines.checkpoint import RECORD_FILE
from pipelines.config import TrainSettings
from pipelines.evaluation import evaluate
from pipelines.extraction import Options, run_extraction
from pipelines.report.build import report
from pipelines.report.payload import shown_videos
from pipelines.report.subject import _boxes_of, subject_of
from pipelines.synthetic import synthesize
from pipelines.training import train


@dataclass(frozen=True)
class World:
    folder: Path
    labels: Path
    store: FeatureStore


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("subject")
    synthesize("untrimmed", folder / "world", videos=3, seconds=10, seed=3, workers=1)
    store, _ = run_extraction(folder / "world" / "videos", folder / "f.zarr", options=Options(engine="torch"))
    labels = folder / "world" / "annotations.json"
    train("label", store, annotations=labels, out=folder / "label", settings=TrainSettings(epochs=2))
    settings = TrainSettings(epochs=2)
    train("localize", store, annotations=labels, out=folder / "loc", head="watershed", settings=settings)
    return World(folder, labels, store)


@pytest.mark.parametrize("name", ["label", "loc"])
def test_a_run_is_shown_on_the_videos_it_was_not_trained_on(world: World, tmp_path: Path, name: str) -> None:
    done = report(world.folder / name, tmp_path / "r.html")
    data = payload_of(done.path)
    official = evaluate(world.folder / name, world.store, annotations=world.labels)
    assert data["metrics"] == official["metrics"]
    assert data["protocol"] == official["protocol"]
    database = json.loads(world.labels.read_text())["database"]
    wanted = [video for video, entry in database.items() if entry["subset"] == "validation"]
    assert [Path(video["id"]).stem for video in data["videos"]] == [Path(video).stem for video in wanted]
    for video, video_id in zip(data["videos"], wanted, strict=True):
        assert len(video["truth"]["label"]) == len(database[video_id]["annotations"])
        assert (tmp_path / video["src"]).resolve() == world.folder / "world" / "videos" / video["id"]
        assert (video["curves"] is None) == (name == "loc")
        assert video["thumbs"]
        assert None not in (video["fps"], video["width"], video["height"])
    facts = dict(data["provenance"])
    assert facts["run"] == name
    assert facts["truth"] == "annotations.json, subset validation"
    assert facts["store"] == "f.zarr"
    assert len(facts["weights sha256"]) == len(facts["recipe digest"]) == 12
    assert str(world.folder) not in done.path.read_text("utf-8")
    assert done.counts["hits"] + done.counts["misses"] == sum(len(video["truth"]["label"]) for video in data["videos"])


def test_what_is_counted_is_what_is_predicted(world: World) -> None:
    subject = subject_of(world.folder / "label", truth=None, subset="training", store=None)
    videos, labels = shown_videos(subject.predictions, subject.truth)
    for video in videos:
        rows = [row for row in subject.predictions.segments() if row.video == video.video_id]
        found = video.at(subject.predictions.threshold)
        order = np.lexsort((found.span_s[:, 0], found.label))
        theirs = sorted((labels.index(row.label), row.start_s, row.stop_s, row.score) for row in rows)
        assert [labels[number] for number in found.label[order]] == [labels[row[0]] for row in theirs]
        np.testing.assert_allclose(found.span_s[order], [row[1:3] for row in theirs], atol=1e-3)
        np.testing.assert_allclose(found.score[order], [row[3] for row in theirs], atol=1e-9)


def test_features_and_labels_that_moved_are_named(world: World, tmp_path: Path) -> None:
    run = shutil.copytree(world.folder / "label", tmp_path / "run")
    record = json.loads((run / RECORD_FILE).read_text())
    (run / RECORD_FILE).write_text(json.dumps({**record, "annotations": str(tmp_path / "gone.json")}))
    with pytest.raises(InputError, match=r"gone\.json, the labels of .*run, are not there any more; name them by"):
        report(run, tmp_path / "r.html")
    (run / RECORD_FILE).write_text(json.dumps({**record, "store": None, "annotations": None}))
    with pytest.raises(UsageError, match="does not say where its features are; expected --store"):
        report(run, tmp_path / "r.html", truth=world.labels)
    done = report(run, tmp_path / "r.html", truth=world.labels, store=world.store.url)
    assert done.videos
    with pytest.raises(UsageError, match="--subset is of the truth"):
        subject_of(tmp_path / "p.json", truth=None, subset="x", store=None)


def test_missing_videos_are_named_and_the_page_is_made(world: World, tmp_path: Path) -> None:
    moved = tmp_path / "moved" / "it's <i>"
    shutil.copytree(world.folder / "world" / "videos", moved)
    hidden = world.folder / "hidden"
    (world.folder / "world" / "videos").rename(hidden)
    try:
        done = report(world.folder / "label", tmp_path / "r.html")
        assert len(done.missing) == done.videos
        assert any("videos were not found" in note for note in done.notes)
        assert payload_of(done.path)["videos"][0]["src"] is None
        first = payload_of(report(world.folder / "label", tmp_path / "r.html", videos=moved).path)["videos"][0]
        assert first["src"].startswith("moved/it%27s%20%3Ci%3E/")
        next(path for path in moved.rglob("*") if path.name == Path(first["id"]).name).write_bytes(b"broken")
        broken = payload_of(report(world.folder / "label", tmp_path / "r.html", videos=moved).path)["videos"][0]
        assert broken["src"] is None
        assert "cannot be read" in broken["notes"][0]
        assert str(tmp_path) not in broken["notes"][0]
    finally:
        hidden.rename(world.folder / "world" / "videos")


def test_a_folder_of_seeds_is_refused(world: World, tmp_path: Path) -> None:
    (tmp_path / "seeds.json").write_text("{}")
    with pytest.raises(UsageError, match="several seeds; expected one of them"):
        report(tmp_path, tmp_path / "r.html")


def test_boxes_of_the_truth_are_those_of_the_subset(tmp_path: Path) -> None:
    (tmp_path / "ava_train.csv").write_text("a,0001,0.1,0.1,0.5,0.5,2,7\n")
    (tmp_path / "ava_val.csv").write_text("b,0001,0.1,0.1,0.5,0.5,1,\nb,0002,0.2,0.2,0.5,0.5,2,4\n")
    (tmp_path / "x.pbtxt").write_text('item { name: "sit" id: 1 }\nitem { name: "run" id: 2 }\n')
    found = _boxes_of(read_ava(tmp_path), "validation")
    assert found.videos == ("b",)
    assert found.labels == ("sit", "run")
    assert found.boxes.label.tolist() == [0, 1]
    assert found.boxes.track.tolist() == [-1, 4]
    assert found.boxes.second.tolist() == [1, 2]
