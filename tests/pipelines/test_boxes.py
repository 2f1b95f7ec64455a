"""Files of boxes, and extraction with them from the command line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pipelines
from extract.boxes import content_of
from extract.errors import InputError, RecipeMismatchError, UsageError
from extract.sources import fingerprint
from extract.store import FeatureStore
from pipelines.boxes import boxes_of, read_boxes
from pipelines.cli import app
from pipelines.extraction import Options, Summary, prepare, run_extraction
from pipelines.planning import gather


def listed(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


FAIR = (
    "b,0903,0.1,0.2,0.5,0.9,,0.75",
    "a,902.5,0.2,0.2,0.5,0.9,,0.5",
    "b,0902,0.3,0.2,0.5,0.9,,0.25",
    "b,0902,0.1,0.2,0.5,0.9,,0.95",
    "b,0902,0.1,0.2,0.5,0.9,,0.95",
)


def test_what_a_detector_found(tmp_path: Path) -> None:
    found = read_boxes(listed(tmp_path / "b.csv", *FAIR))
    assert (list(found.videos), found.notes) == (["b", "a"], ())
    boxes = found.videos["b"]
    assert boxes.second.tolist() == [902.0, 902.0, 902.0, 903.0]
    np.testing.assert_array_equal(boxes.score, np.float32([0.25, 0.95, 0.95, 0.75]))  # those of a second as in the file
    np.testing.assert_array_equal(boxes.box[:, 0], np.float32([0.3, 0.1, 0.1, 0.1]))
    assert (boxes.second.dtype, boxes.box.dtype, boxes.score.dtype) == (np.float64, np.float32, np.float32)


def test_what_people_annotated_has_a_row_for_each_action(tmp_path: Path) -> None:
    rows = [
        f"v,{second},0.1,0.2,0.5,0.9,{action},{person}"
        for second, action, person in ((3, 12, 0), (3, 80, 0), (2, 12, 0))
    ]
    boxes = read_boxes(listed(tmp_path / "b.csv", *rows, "v,3,0.1,0.2,0.5,0.8,12,1")).videos["v"]
    assert boxes.second.tolist() == [2.0, 3.0, 3.0]
    assert boxes.score.tolist() == [1.0, 1.0, 1.0]
    for columns in (6, 7):
        short = [",".join(row.split(",")[:columns]) for row in rows]
        assert len(read_boxes(listed(tmp_path / "c.csv", *short)).videos["v"]) == 2
    assert read_boxes(listed(tmp_path / "d.csv", "v,1,0,0,1,1,")).videos["v"].score.tolist() == [1.0]


def test_rounding_is_cut_and_boxes_without_extent_are_left_out(tmp_path: Path) -> None:
    rows = ["v,1,-0.004,0,1.004,1", "v,2,0.5,0,0.5,1", "v,2,0.6,0,0.5,1", "", "v,3,0.1,0.9,0.2,0.8"]
    found = read_boxes(listed(tmp_path / "b.csv", *rows))
    assert found.videos["v"].box.tolist() == [[0, 0, 1, 1]]
    assert found.notes == (
        f"{tmp_path / 'b.csv'}: 3 boxes are reversed or empty, and left out: line 2, line 3, line 5",
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "has no boxes; expected rows of video, second"),
        (["v,1,0,0,1,1", "v,1,0,0,1"], "line 2 has 5 columns; expected 6 to 8"),
        (["v,1,0,0,1,1,,0.5,7"], "line 1 has 9 columns"),
        (["video,second,x1,y1,x2,y2"], "line 1: 'second' is not a number"),
        (["v,1,0,0,nan,1"], "line 1: 'nan' is not a number"),
        (["v,1,0,0,1,1,,high"], "line 1: 'high' is not a number"),
        (["v,-1,0,0,1,1"], "line 1 is 'v,-1,0,0,1,1'; expected a video, and a second of at least 0"),
        ([",1,0,0,1,1"], "expected a video"),
        (["v,1,0,0,1,1", "v,1,0,0,640,360"], "1 of 2 boxes lie outside the frame, first line 2.*look like pixels"),
        (["v,1,0,0,1,1.5"], r"0, 0, 1, 1.5; expected parts of the frame, 0 to 1$"),
    ],
)
def test_rows_that_are_no_boxes_are_named(tmp_path: Path, rows: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_boxes(listed(tmp_path / "b.csv", *rows))


def test_files_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_boxes(tmp_path / "none.csv")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not text in UTF-8"):
        read_boxes(tmp_path / "b.csv")


def test_ids_match_as_those_of_annotations(tmp_path: Path) -> None:
    row = ",1,0,0,1,1"
    file = read_boxes(listed(tmp_path / "b.csv", f"gym{row}", f"x/v_run.mp4{row}", f"gone{row}"))
    boxes, notes = boxes_of(file, ["v_gym.mp4", "x/v_run.mp4", "still.mp4"])
    assert {video_id: len(own) for video_id, own in boxes.items()} == {"v_gym.mp4": 1, "x/v_run.mp4": 1, "still.mp4": 0}
    assert notes == [
        f"{file.path}: 1 videos with boxes are not among those given: gone",
        f"1 videos have no box in {file.path} and get no rows: still.mp4",
    ]
    with pytest.raises(InputError, match="not those given: 0 of 3"):
        boxes_of(file, ["other.mp4"])
    with pytest.raises(InputError, match="'gym' fits 2"):
        boxes_of(file, ["a/gym.mp4", "b/gym.mp4"])


# Extraction


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Boxes of two videos of the archive, named by their files; one box lies behind the end of its video."""
    rows = [f"v3,{second},0.1,0.1,0.{6 + second},0.9,,0.9" for second in (0, 1, 2)]
    return listed(
        tmp_path / "people.csv", *rows, "v3,1,0.2,0.1,0.9,0.9,,0.8", "v4,1,0.3,0.3,0.9,0.9,,0.7", "v4,60,0,0,1,1,,1"
    )


def extracted(archive: Path | list[Path], out: Path, boxes: Path, **options: Any) -> tuple[FeatureStore, Summary]:
    return run_extraction(archive, out, options=Options(boxes=boxes, **options))


def names_of(store: FeatureStore) -> dict[str, str]:
    return {Path(video_id).stem: video_id for video_id in store}


def test_a_row_for_each_person_and_the_same_on_workers(archive: Path, people: Path, tmp_path: Path) -> None:
    paths = [path for path in archive.rglob("v*") if path.stem in ("v2", "v3", "v4")]
    store, summary = extracted(paths, tmp_path / "one", people)
    names = names_of(store)
    rows = {stem: len(store[video_id]) for stem, video_id in names.items()}
    assert {stem: count for stem, count in rows.items() if count} == {"v3": 4, "v4": 1}
    assert (summary.boxes, summary.videos, summary.failed) == (5, len(store), [])
    assert summary.notes[-1].startswith(f"{names['v4']}: 1 boxes after its end at ")
    sequence = store[names["v3"]]
    assert sequence.second is not None
    assert sequence.second.tolist() == [0, 1, 1, 2]
    assert ((sequence.start_s <= sequence.second) & (sequence.second <= sequence.stop_s)).all()
    record = store.catalogue[names["v3"]]
    assert (record.provenance["boxes_file"], record.provenance["boxes"]) == (str(people), 4)
    assert content_of(record.fingerprint) == fingerprint(next(archive.rglob("v3*")))
    other, _ = extracted(paths, tmp_path / "two", people, workers=1)
    for video_id in store:
        assert other.catalogue[video_id].crc32 == store.catalogue[video_id].crc32
    again, summary = extracted(paths, tmp_path / "one", people)
    assert (summary.videos, summary.already_done, summary.boxes) == (0, len(store), 0)
    assert again.version == store.version


def test_other_boxes_are_another_version_of_the_video(archive: Path, people: Path, tmp_path: Path) -> None:
    store, _ = extracted(archive / "a", tmp_path / "s", people)
    (name,) = (video_id for video_id in store if video_id.startswith("v3"))
    before = store[name]
    people.write_text(people.read_text().replace("0.6,0.9,,0.9", "0.5,0.9,,0.9"))
    again, summary = extracted(archive / "a", tmp_path / "s", people)
    assert (summary.videos, summary.already_done) == (1, len(store) - 1)
    now = again[name]
    assert now.box is not None
    assert now.box[0].tolist() == pytest.approx([0.1, 0.1, 0.5, 0.9])
    assert not np.array_equal(now.features[0], before.features[0])
    np.testing.assert_array_equal(now.features[1:], before.features[1:])
    with pytest.raises(RecipeMismatchError, match=r"crop_px: None in the store, 112 asked for\n.*\n +roi: "):
        pipelines.extract(archive / "a", tmp_path / "s", engine="torch")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": 64}, "--crop 64 with --boxes: boxes are read from whole frames"),
        ({"layer": "blocks.2"}, "--layer blocks.2 with --boxes"),
        ({"engine": "compile"}, "--engine compile computes no features of boxes yet"),
        ({"boxes": None, "backbone": "slowfast_r50_detection"}, "describes boxes: expected --boxes FILE"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    archive: Path, people: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        pipelines.extract(archive, tmp_path / "s", **{"boxes": people, **options})
    assert not (tmp_path / "s").exists()


def test_boxes_on_another_clock_are_refused(archive: Path, tmp_path: Path) -> None:
    file = listed(tmp_path / "ava.csv", *(f"v3,{second},0.1,0.1,0.5,0.9,,0.9" for second in range(902, 905)))
    with pytest.raises(InputError, match=r"3 of 3 boxes come after .*second 904 of a/v3.*start at 900 s: subtract 900"):
        gather(archive, tmp_path / "s", Options(boxes=file))


def test_a_plan_counts_boxes_and_the_clips_that_hold_them(archive: Path, people: Path, tmp_path: Path) -> None:
    plan = prepare(archive, tmp_path / "s", Options(boxes=people))
    assert (plan.boxes, plan.clips) == (6, 5)
    assert plan.store_bytes == 2 * 6 * (256 * 2 + 21 + 28)


def test_the_command(archive: Path, people: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    arguments = ["extract", str(archive), "-o", str(tmp_path / "s"), "--boxes", str(people), "--json", "-q"]
    run = CliRunner()
    planned = json.loads(run.invoke(app, [*arguments, "--dry-run"]).stdout)
    assert (planned["boxes"], len(planned["notes"])) == (6, 1)
    assert sum(task["boxes"] for unit in planned["units"] for task in unit["tasks"]) == 6
    done = json.loads(run.invoke(app, arguments).stdout)
    assert (done["boxes"], done["failed"]) == (5, [])
    info = json.loads(run.invoke(app, ["info", str(tmp_path / "s"), "--json"]).stdout)
    assert (info["clips"], info["rows"], info["recipe"]["pooling"]) == (5, "boxes", "roi")
    status = run.invoke(app, ["status", str(tmp_path / "s")]).stdout
    assert "5 boxes; 0 failed" in status
    verified = run.invoke(app, ["verify", str(tmp_path / "s"), "--sample", "1", "-q"])
    assert verified.exit_code == 0, verified.stdout
    assert "6 of 6" in verified.stdout or "7 of 7" in verified.stdout
    refused = run.invoke(app, ["export", str(tmp_path / "s"), "-o", str(tmp_path / "x"), "--layout", "actionformer"])
    assert isinstance(refused.exception, UsageError)
    assert "actionformer wants features of clips" in str(refused.exception)
