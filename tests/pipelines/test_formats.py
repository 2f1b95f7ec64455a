"""Every format as its own tool writes it; finding it by what it holds; what is said of broken files."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from annotated import EXAMPLES, BoxRow, Row, box_rows, example, segment_rows

from extract.errors import InputError, MachineError
from pipelines.annotations.document import Document, Media
from pipelines.annotations.formats import read_document

NOTHING = (None, None, None, None)
SEGMENTS: dict[str, list[Row]] = {
    "activitynet": [("v_a", "Ski", 6.5, 77.25, None), ("v_a", "Row", 9, 3, None)],
    "activitynet-predictions": [("b", "Ski", 1.5, 2, 0.5), ("b", "Row", None, None, 1)],
    "actionformer": [("video_test_0000004", "Dive", 0.2, 1.1, None)],
    "actionformer-predictions": [("v", "5", 1.5, 2.5, 0.25)],
    "opentad": [("v", "Ski", 1.5, 2.5, None)],
    "mmaction2": [("v_a", "Ski", 1.5, 2.5, None)],
    "thumos": [
        ("v1", "BaseballPitch", 47.0, 49.2, None),
        ("v2", "BaseballPitch", 31.4, 33.1, None),
        ("v3", "Diving", 1.0, 0.5, None),
        ("v1", "Ambiguous", 3, 4, None),
    ],
    "thumos-detections": [("v1", "9", 198.766, 208.83, 0.170351), ("v2", "7", 25.7, 27.4, 0.001)],
    "charades": [("46GP8", "c092", 11.9, 21.2, None), ("46GP8", "c147", 0, 12.6, None)],
    "kinetics": [("xyz", "testing apples", 10, 20, None), ("zyx", "a, b", 0, 10, None)],
    "mstcn": [
        ("vid_1", "background", 0, 0.04, None),
        ("vid_1", "take", 0.04, 0.12, None),
        ("vid_1", "background", 0.12, 0.16, None),
        ("vid_2", "pour", 0, 0.04, None),
    ],
    "mstcn-result": [("vid_1", "take", 0, 0.08, None), ("vid_1", "background", 0.08, 0.12, None)],
    "via": [("tea.mp4", "cut", 1.25, 3.5, None)],
    "elan": [
        ("two people.mp4", "left hand: wave & point", 0.78, 1.78, None),
        ("two people.mp4", "left hand", 1.78, 2.78, None),
        ("two people.mp4", "note: odd", 0.78, 1.78, None),
    ],
    "boris": [
        ("a/cage.mp4", "sniff", 2.5, 2.5, None),
        ("a/cage.mp4", "dig", 1.5, 4.25, None),
        ("a/cage.mp4", "dig", 2, 5, None),
    ],
    "boris-old": [("cage.avi", "dig", 1.5, 4.25, None)],
    "boris-aggregated": [("cage.mp4", "dig", 1.5, 4.25, None)],
    "cvat-tags": [("yard", "rain", 0.36, 0.44, None), ("yard", "rain", 0.8, 0.84, None)],
    "label-studio": [
        ("yard.mp4", "bark", 1.25, 3.5, None),
        ("yard.mp4", "run", 1, 2, None),
        ("yard.mp4", "sunny", None, None, None),
    ],
    "audacity": [("day1", "kick off", 1.5, 4.25, None), ("day1", None, 5, 5, None)],
    "webvtt": [("day1", "kick & run", 1.5, 4, None), ("day1", "two lines", 2.25, 3600, None)],
    "srt": [("day1", "kick & run", 1.5, 4, None), ("day1", "two lines", 3600, 3601, None)],
}
SAT, STOOD = (0.077, 0.151, 0.283, 0.811), (0.1, 0.2, 0.3, 0.4)
BOXES: dict[str, list[BoxRow]] = {
    "ava": [
        ("u1", "sit", 902, SAT, 1, None),
        ("u1", "80", 902, SAT, 1, None),
        ("u1", None, 903.5, NOTHING, -1, None),
        ("u2", "stand", 904, STOOD, 0, None),
    ],
    "ava-detections": [("u1", "12", 902, STOOD, -1, 0.75), ("u1", "11", 902, STOOD, -1, 1)],
    "ava-people": [("u1", None, 902, STOOD, -1, 0.75), ("u1", None, 903, STOOD, -1, 1)],
    "coco-vid": [
        ("a/clip", "dog", 0.2, (0.1, 0.1, 0.3, 0.5), 4, None),
        ("a/clip", None, 0, NOTHING, -1, None),
    ],
    "mot": [
        ("MOT16-02", "1", 0, (0.1, 0.1, 0.15, 0.2), 3, None),
        ("MOT16-02", "7", 1, (0, 0, 0.1, 0.1), 3, None),
    ],
    "mot-detections": [
        ("det", None, 0, (0.96, 1.08, 1.44, 2.16), -1, 0.9),
        ("det", None, 1, (0, 0, 0.1, 0.2), -1, 0.5),
    ],
    "via": [("eggs.mp4", "egg", 7, (0.1, 0.1, 0.3, 0.5), -1, None)],
    "cvat": [
        ("yard.mp4", "person", 0, (0.1, 0.1, 0.3, 0.5), 0, None),
        ("yard.mp4", "person", 0.04, (0.15, 0.1, 0.35, 0.5), 0, None),
        ("yard.mp4", "person", 0.08, (0.2, 0.1, 0.4, 0.5), 0, None),
        ("yard.mp4", "person", 0.2, (0, 0, 0.1, 0.1), 0, None),
    ],
    "cvat-tags": [("yard", "dog", 0.4, (0.1, 0.1, 0.3, 0.5), -1, None)],
    "label-studio": [
        ("yard.mp4", "dog", 0, (0.1, 0.2, 0.3, 0.3), 0, None),
        ("yard.mp4", "dog", 0.04, (0.2, 0.2, 0.4, 0.3), 0, None),
        ("yard.mp4", "dog", 0.08, (0.3, 0.2, 0.5, 0.3), 0, None),
        ("yard.mp4", "dog", 0.32, (0, 0, 0.2, 0.1), 0, None),
    ],
}
KNOWN: dict[str, dict[str, Media]] = {
    "activitynet": {"v_a": Media(82.5, None, 320, 240, "training"), "b": Media(5, None, None, None, "testing")},
    "actionformer": {"video_test_0000004": Media(33.73, 30, None, None, "Test")},
    "opentad": {"v": Media(10, 25, None, None, "validation")},
    "mmaction2": {"v_a": Media(10, 25)},
    "charades": {"46GP8": Media(30.83), "N11GT": Media(18.5)},
    "kinetics": {"xyz": Media(subset="train"), "zyx": Media(subset="val")},
    "mstcn": {"vid_1": Media(0.16, 25), "vid_2": Media(0.04, 25)},
    "mot": {"MOT16-02": Media(20, 30, 1920, 1080)},
    "coco-vid": {"a/clip": Media(None, None, 200, 100)},
    "boris": {"a/cage.mp4": Media(60.5, 25)},
    "cvat": {"yard.mp4": Media(4, 25, 200, 100)},
    "label-studio": {"yard.mp4": Media(12.5, 25)},
}
NOTES = {
    "mot": "1 rows do not count",
    "via": "1 rows are neither",
    "elan": "1 time slots have no time",
    "boris": "2 subjects are left out",
    "cvat": "1 shapes are no boxes; they are left out: <polygon>",
    "label-studio": "1 regions are neither segments nor boxes; they are left out: textarea",
    "audacity": "1 lines about frequencies",
}


def read(path: Path, **more: Any) -> Document:
    return read_document(path, **{"fps": 25, "size": (200, 100), **more})


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_file_as_its_tool_writes_it(name: str, tmp_path: Path) -> None:
    found = read(example(name, tmp_path))
    assert found.format == name.removesuffix("-" + name.rpartition("-")[2]) or found.format == name
    assert segment_rows(found) == SEGMENTS.get(name, [])
    assert box_rows(found) == BOXES.get(name, [])
    assert {key: found.media[key] for key in KNOWN.get(name, {})} == KNOWN.get(name, {})
    assert NOTES.get(name, "") in "".join(found.notes)


@pytest.mark.parametrize("ending", [".txt", ".json", ".csv", ""])
@pytest.mark.parametrize("name", [name for name, files in EXAMPLES.items() if len(files) == 1])
def test_the_name_of_a_file_does_not_matter(name: str, ending: str, tmp_path: Path) -> None:
    path = example(name, tmp_path)
    expected = read(path).format
    assert read(path.rename(tmp_path / f"anything{ending}")).format == expected


def test_byte_order_marks_and_windows_lines(tmp_path: Path) -> None:
    for name, files in EXAMPLES.items():
        if len(files) == 1:
            (folder := tmp_path / name).mkdir()
            path = example(name, folder)
            expected = segment_rows(read(path)), box_rows(read(path))
            path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
            assert (segment_rows(read(path)), box_rows(read(path))) == expected, name


def test_a_list_of_classes_names_numbers(tmp_path: Path) -> None:
    path = example("actionformer-predictions", tmp_path)
    truth = tmp_path / "truth.json"
    truth.write_text(EXAMPLES["actionformer"]["thumos14.json"])
    lines, numbered = tmp_path / "names.txt", tmp_path / "detclasslist.txt"
    lines.write_text("a\nb\nc\nd\ne\nf long name\n")
    numbered.write_text("5 Golf Swing\n7 BaseballPitch\n9 Diving\n")
    assert read(path, labels=truth).labels == ("Dive",)
    assert read(path, labels=numbered).labels[0] == "Golf Swing"
    assert segment_rows(read(path, labels=lines))[0][1] == "f long name"
    detections = example("thumos-detections", tmp_path)
    assert [row[1] for row in segment_rows(read(detections))] == ["Diving", "BaseballPitch"]  # the list beside it


def test_ava_with_its_class_list_beside_or_given(tmp_path: Path) -> None:
    folder = example("ava", tmp_path)
    assert read(folder / "val.csv").labels == ("sit", "stand", "80")
    detections = example("ava-detections", tmp_path / "apart") if (tmp_path / "apart").mkdir() is None else None
    assert detections is not None
    assert read(detections).labels == ("11", "12")
    assert read(detections, labels=tmp_path / "list.pbtxt").labels == ("sit", "stand")


def test_folders_of_one_file_a_video_go_down(tmp_path: Path) -> None:
    (tmp_path / "match").mkdir()
    for file in ("match/day1.vtt", "day2.vtt"):
        (tmp_path / file).write_text("WEBVTT\n\n00:01.000 --> 00:02.000\ngoal\n")
    (tmp_path / "silent.vtt").write_text("WEBVTT\n")
    (tmp_path / ".hidden").write_text("x")
    assert list(read(tmp_path).media) == ["day2", "match/day1", "silent"]


def test_parquet_without_pyarrow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MachineError, match=r"pip install 'untrimmed\[parquet\]'"):
        read(tmp_path / "x")


def changed(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


BROKEN = [
    ("activitynet", '"duration": 82.5', '"duration": "long"', r"line 6: database → v_a → duration is 'long'"),
    ("activitynet", "6.5", "NaN", r"line \d+: database → v_a → annotations → 0 → segment is \[nan, 77.25\]"),
    ("activitynet", '"label": "Row"', '"lable": "Row"', r"annotations → 1 is .*expected label: the name of a class"),
    ("activitynet", '"version"', "version", r"line 2, column 2: 'version"),
    ("activitynet-predictions", '"score": 0.5', '"score": true', "results → b → 0 → score is True"),
    ("activitynet-predictions", "0.5", "1e999", "score is inf"),
    ("activitynet-predictions", "[1.5, 2]", '["1.5", 2]', r"segment is \['1.5', 2\]"),
    ("activitynet-predictions", "[1.5, 2]", "[1.5]", r"segment is \[1.5\]"),
    ("activitynet-predictions", "0.5", "9" * 5000, "(?i)digits|finite"),
    ("actionformer-predictions", '"label_id": 5', '"label_id": "5"', "label_id is '5'"),
    ("thumos-detections", "0.170351", "nan", r"1 of 2 rows cannot be read: line 1 .*'nan' is no finite number"),
    ("thumos-detections", " 9 0.17", " nine 0.17", "line 1 .*nine"),
    ("charades", "11.90", "1l.90", r"line 2 \('1l.90' is no finite number\)"),
    ("charades", "c147 0.00 12.60", "c147 0.00", "line 2 .*'c147 0.00' is not class, start and stop"),
    ("kinetics", ",10,20,", ",10,,", r"line 2 \('' is no finite number\)"),
    ("ava-detections", "0.75", "high", "line 1 .*'high' is no finite number"),
    ("ava-detections", ",12,", ",twelve,", "line 1 .*'twelve' is no number"),
    (
        "coco-vid",
        '"category_id": 7',
        '"category_id": 8',
        "annotations → 0 → category_id is 8; expected the id of one of",
    ),
    ("coco-vid", "[20, 10, 40, 40]", "[20, 10, 40]", "bbox is"),
    ("mot-detections", "193", "left", "line 1 .*'left' is no finite number"),
    ("via", '"vid": "1"', '"vid": "9"', "metadata → 1_x → vid is '9'"),
    ("via", "[1.25, 3.5]", "[null, 3.5]", "metadata → 1_x → z → 0 is missing; expected a time in seconds"),
    ("elan", 'TIME_SLOT_REF1="ts1"', 'TIME_SLOT_REF1="ts9"', r"line 15: annotation 'a1' refers to time slot 'ts9'"),
    ("elan", 'TIME_VALUE="780"', 'TIME_VALUE="soon"', "line 9: TIME_VALUE is 'soon'"),
    (
        "elan",
        'ANNOTATION_REF="a1"',
        'ANNOTATION_REF="a3"',
        "line 27: annotation 'a3' refers to 'a3', which has no time",
    ),
    ("elan", "</TIER>", "</TEAR>", r"line \d+, column \d+: .*mismatched tag"),
    ("boris", ",STOP,5.0", ",START,5.0", r"line 6 \('START' of 'dig'\), line 3 \(START of 'dig', without STOP\)"),
    ("boris-aggregated", ",1.5,4.25", ",1.5,late", "line 2 .*'late' is no finite number"),
    ("cvat", 'xtl="20.0"', 'xtl="wide"', "line 13: xtl is 'wide'; expected a finite number"),
    ("cvat", 'frame="2"', 'frame="2.5"', "line 14: frame is '2.5'; expected a whole number"),
    ("label-studio", '"start": 1.25', '"start": "1.25"', "0 → annotations → 0 → result → 0 → value → start is '1.25'"),
    ("audacity", "4.250000", "4,25", "line 1 .*'4,25' is no finite number"),
    ("webvtt", "00:02.250 -->", "00:02.250 ->", "line 13: '00:02.250 ->"),
    ("srt", "01:00:00,000", "1 o'clock", "line 6: \"1 o'clock"),
]


@pytest.mark.parametrize(("name", "old", "new", "said"), BROKEN)
def test_what_is_wrong_where(name: str, old: str, new: str, said: str, tmp_path: Path) -> None:
    path = example(name, tmp_path)
    path.write_text(changed(path.read_text(encoding="utf-8"), old, new), encoding="utf-8")
    with pytest.raises(InputError, match=said) as error:
        read(path)
    assert path.name in str(error.value)
    assert "expected" in str(error.value)


@pytest.mark.parametrize("name", ["mstcn", "mot-detections", "cvat", "coco-vid", "label-studio"])
def test_a_frame_rate_that_nobody_says(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--fps"):
        read_document(example(name, tmp_path), size=(200, 100))


@pytest.mark.parametrize("name", ["mot-detections", "via"])
def test_a_size_that_nobody_says(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--size"):
        read_document(example(name, tmp_path), fps=25)


ENTITIES = '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;">]>'


@pytest.mark.parametrize("name", ["elan", "cvat"])
def test_entities_are_refused(name: str, tmp_path: Path) -> None:
    path = example(name, tmp_path)
    path.write_text(changed(path.read_text(), "?>\n", f"?>{ENTITIES}\n"))
    with pytest.raises(InputError, match="line 1: a document type"):
        read(path)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"caf\xe9\tau lait\n", "line 1: byte 0xe9 is not UTF-8"),
        ("WEBVTT\n".encode("utf-16"), "byte 0xff is not UTF-8"),
        (b"\x00\x01\x02", "zero byte"),
        (b"once upon a time\nthere was\n", "begins none of the formats; expected one of activitynet"),
        (b'{"a": 1}', "one of the JSON formats"),
        (b"[1, 2]", "one of the JSON formats"),
        (b"<html></html>", "begins none of the formats"),
        (b'{"results": ' + b"[" * 100_000, "nested too deep"),
        (b'{"results": {"\\ud800": []}}', r"video id '\\ud800' has half a character"),
    ],
)
def test_files_that_are_something_else(data: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(InputError, match=said):
        read(tmp_path / "x")


def test_folders_that_are_something_else(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        read(tmp_path / "gone")
    with pytest.raises(InputError, match="holds none"):
        read(tmp_path)
    (tmp_path / "a.vtt").write_text("WEBVTT\n")
    (tmp_path / "b.json").write_text(json.dumps({"results": {}}))
    with pytest.raises(InputError, match=r"holds a.vtt \(webvtt\), b.json \(json\)"):
        read(tmp_path)
