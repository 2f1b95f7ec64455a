"""AVA's files: what is read, left out, refused, and written."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from extract.errors import InputError
from pipelines.annotations.ava import (
    AvaVideo,
    BoxScores,
    ava_frame_map,
    read_ava,
    read_class_list,
    write_ava_detections,
)

FIXTURES = Path(__file__).parents[3] / "shared" / "fixtures" / "eval"
CLASSES = """
# the list of AVA 2.2 has labels, that of 2.1 items
label {
  name: "stand"
  label_id: 12
  label_type: PERSON_MOVEMENT
}
item {  # a comment
  name: "bend/bow (at {the} #waist)"
  id: 1
}
item { name: 'sit' id: 11 }
"""
TRAIN = """a,0902,0.1,0.2,0.5,0.8,12,0
a,0902,0.1,0.2,0.5,0.8,1,0
a,901,0.0,0.1,1.008,0.4,12,3

b,903.5,0.2,0.2,0.4,0.4,12
b,0904
"""


def folder(path: Path, **files: str) -> Path:
    """Files by name; ``__`` stands for a dot."""
    for name, text in ({"classes__pbtxt": CLASSES, "ava_train_v2__csv": TRAIN} | files).items():
        if text:
            (path / name.replace("__", ".")).write_text(text)
    return path


def test_what_is_read(tmp_path: Path) -> None:
    folder(tmp_path, ava_val_v2__csv="c,1,0,0,1,1,11,7\n", ava_val_predicted_boxes__csv="c,1,0,0,1,1,,0.9\n")
    ava = read_ava(tmp_path)
    assert ava.classes == ("bend/bow (at {the} #waist)", "sit", "stand")
    assert ava.numbers == (1, 11, 12)
    a, b = ava.subset("training")["a"], ava.subset("training")["b"]
    assert a.second.tolist() == [901.0, 902.0, 902.0]
    assert a.action.tolist() == [2, 2, 0]
    assert a.person.tolist() == [3, 0, 0]
    assert a.box.dtype == np.float32
    assert a.box[0].tolist() == pytest.approx([0.0, 0.1, 1.008, 0.4])
    assert (b.second.tolist(), b.person.tolist(), b.key_s.tolist()) == ([903.5], [-1], [903.5, 904.0])
    assert list(ava.subset("validation")) == ["c"]
    assert ava.notes == (
        "1 classes of 3 have no row in ava_train_v2.csv: sit",
        "2 classes of 3 have no row in ava_val_v2.csv: bend/bow (at {the} #waist), stand",
    )


def test_a_file_brings_its_sibling(tmp_path: Path) -> None:
    folder(tmp_path, ava_val_v2__csv="c,1,0,0,1,1,11,7\n", trains_val__csv="x,1,0,0,1,1,11,7\n")
    assert sorted(read_ava(tmp_path / "ava_train_v2.csv").subsets) == ["training", "validation"]
    assert sorted(read_ava(tmp_path / "ava_val_v2.csv").subsets) == ["training", "validation"]
    (tmp_path / "ava_train_v2.csv").unlink()
    ava = read_ava(tmp_path / "ava_val_v2.csv")
    with pytest.raises(InputError, match=r"no AVA file of subset 'training'; there is validation.*'train' beside"):
        ava.subset("training")


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    rows = "a,1,0.1,0.1,0.2,0.2,99,0\na,2,0.5,0.1,0.2,0.2,11,0\na,3,0.1,0.1,0.1,0.2,11,0\na,4,0,0,1,1,11,0\n"
    folder(tmp_path, ava_train_v2__csv=rows + "a,5,0,0,1,1,12,0\n", ava_train_excluded_timestamps__csv="a,0004\n")
    ava = read_ava(tmp_path)
    video = ava.subset("training")["a"]
    assert video.second.tolist() == [5.0]
    assert (video.key_s.tolist(), video.excluded_s.tolist()) == ([1.0, 2.0, 3.0, 5.0], [4.0])
    assert ava.notes[:3] == (
        "ava_train_v2.csv: 1 rows have an action number that the class list does not have; they are left out, as the"
        " official evaluation does: 99 (1)",
        "2 boxes of ava_train_v2.csv have no area (x2 <= x1 or y2 <= y1); they are left out: line 2, line 3",
        "ava_train_v2.csv: 1 rows are on excluded frames; they are left out",
    )


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"ava_train_v2__csv": "a,x,0,0,1,1,11,0\n" + TRAIN}, r"1 rows cannot be read: line 1 \('a,x,0,0,1,1,11,0'\)"),
        ({"ava_train_v2__csv": TRAIN + "a,1,0,0,1,1\n"}, r"line 7 .*expected video,second,x1,y1,x2,y2,action"),
        ({"ava_train_v2__csv": "a,1,0,0,nan,1,11,0\n"}, r"1 rows cannot be read"),
        ({"ava_train_v2__csv": TRAIN + "a,1,10,20,320,240,11,0\n"}, r"1 of 6 boxes .*pixels\? Divide x by the frame's"),
        ({"ava_train_v2__csv": "\n"}, "has no rows"),
        ({"ava_train_v2__csv": ""}, r"has no file …train….csv"),
        ({"other_train__csv": TRAIN}, r"2 files of subset training: ava_train_v2.csv, other_train.csv.*Name the file"),
        ({"classes__pbtxt": ""}, r"has no .pbtxt file; expected AVA's class list"),
        ({"more__pbtxt": CLASSES}, r"2 class lists: classes.pbtxt, more.pbtxt; expected one"),
        ({"classes__pbtxt": "nothing"}, "no class found"),
        ({"classes__pbtxt": "\nitem { id: 3 }"}, "line 2: a class without name"),
        ({"classes__pbtxt": 'item { name: "x" }'}, "line 1: a class without id"),
        ({"classes__pbtxt": CLASSES + "item { name: 'x' id: 1 }"}, "class number 1 is there twice"),
        ({"ava_train_excluded_timestamps__csv": "a\n"}, r"excluded_timestamps.csv: 1 rows .* expected video,second"),
    ],
)
def test_refusals(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_ava(folder(tmp_path, **files))


def test_names_without_a_subset_and_missing_files(tmp_path: Path) -> None:
    folder(tmp_path)
    with pytest.raises(InputError, match="says neither train nor val"):
        read_ava(tmp_path / "labels.csv")
    with pytest.raises(InputError, match=r"ava_train.csv: cannot be read"):
        read_ava(tmp_path / "ava_train.csv")
    (tmp_path / "ava_train_v2.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not text in UTF-8"):
        read_ava(tmp_path)


def test_detections_are_written_a_row_for_each_class(tmp_path: Path) -> None:
    box = np.array([[0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1]], np.float32)
    scores = np.array([[0.25, 1e-7], [-np.inf, 1.0]], np.float32)
    found = {"v": BoxScores(np.array([902.0, 903.5]), box, scores)}
    write_ava_detections(tmp_path / "d.csv", found, (1, 11))
    assert (tmp_path / "d.csv").read_text().splitlines() == [
        "v,0902,0.1,0.2,0.3,0.4,1,0.25",
        "v,0902,0.1,0.2,0.3,0.4,11,1.00000001e-07",
        "v,903.500000,0,0,1,1,11,1",
    ]


def test_frame_map_of_videos() -> None:
    one = np.array([[0, 0, 1, 1]], np.float32)
    nothing = np.zeros(0)
    number = np.zeros(1, np.int64)
    truth = {name: AvaVideo(np.ones(1), one, number, number, np.array([1.0, 2.0]), nothing) for name in ("a", "b")}
    found = {
        "b": BoxScores(np.array([1.0]), one, np.array([[0.9, 0.1]], np.float32)),
        "a": BoxScores(
            np.array([2.0, 1.0, 3.0]), one.repeat(3, 0), np.array([[0.8, 0], [0.7, 0], [0.99, 0]], np.float32)
        ),
        "unknown": BoxScores(np.array([1.0]), one, np.array([[1.0, 1.0]], np.float32)),
    }
    result = ava_frame_map(truth, found, 2)
    assert result.ap == (pytest.approx((1 + 2 / 3) / 2), None)
    assert result.elsewhere == 2
    assert ava_frame_map(truth, {}, 2).map == 0.0


@pytest.mark.skipif(not (FIXTURES / "ava_s1_messy").is_dir(), reason=f"no fixtures at {FIXTURES}")
def test_official_figure_through_the_reader(tmp_path: Path) -> None:
    source = FIXTURES / "ava_s1_messy"
    for name, target in (("gt.csv", "x_val.csv"), ("action_list.pbtxt", "list.pbtxt")):
        (tmp_path / target).write_bytes((source / name).read_bytes())
    ava = read_ava(tmp_path)
    assert any("2 (" in note and "16 (" in note and "33 (" in note for note in ava.notes)
    rows = [row for row in csv.reader((source / "det.csv").read_text().splitlines()) if int(row[6]) in ava.numbers]
    found = {}
    for video in {row[0] for row in rows}:
        mine = [row for row in rows if row[0] == video]
        score = np.full((len(mine), len(ava.classes)), -np.inf, np.float32)
        for i, row in enumerate(mine):
            score[i, ava.numbers.index(int(row[6]))] = float(row[7])
        found[video] = BoxScores(
            np.array([float(row[1]) for row in mine]), np.array([row[2:6] for row in mine], np.float32), score
        )
    expected = json.loads((source / "expected.json").read_text())["expected"]["activitynet_ava_head"]
    assert ava_frame_map(ava.subset("validation"), found, len(ava.classes)).map == pytest.approx(
        expected["mAP@0.5"], abs=1e-6
    )


def test_class_list_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "l.pbtxt").write_text("item { name: \"a 'b' {c}\" id: 3 } item{id:4 name:'d'}")
    assert read_class_list(tmp_path / "l.pbtxt") == {3: "a 'b' {c}", 4: "d"}
