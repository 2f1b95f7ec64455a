"""What is written comes back as far as the format can hold it; what it cannot hold is measured; `untrimmed convert`."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from annotated import box_rows, drawn_boxes, drawn_segments, example, segment_rows
from commands import run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract.errors import InputError, UsageError
from pipelines.annotations.document import Boxes, Document, Media, Segments, no_boxes, no_segments
from pipelines.annotations.formats import FORMATS, format_by_ending, read_document, write_document
from pipelines.annotations.given import Given
from pipelines.conversion import convert, differences, of_subset, size_from

DURATION, RATE, SIZE, SUBSET = "durations of", "frame rates of", "sizes of", "subsets of"
SCORE, ORDER, TRACK = "lose their score", "in another order", "lose their track"
LABEL = "another label"
# What the formats do not hold of segments of 1/40 s, by a part of the sentence that says it; of nothing else.
LOST_OF_TRUTH: dict[str, set[str]] = {
    "activitynet": {RATE},
    "actionformer": set(),
    "opentad": set(),
    "mmaction2": {SIZE, SUBSET},
    "thumos": {DURATION, RATE, SIZE, ORDER},
    "charades": {RATE, SIZE, SUBSET},
    "kinetics": {DURATION, RATE, SIZE},
    "via": {DURATION, RATE, SIZE, SUBSET},
    "elan": {DURATION, RATE, SIZE, SUBSET, ORDER},
    "boris": {SIZE, SUBSET},
    "label-studio": {RATE, SIZE, SUBSET},
    "audacity": {DURATION, RATE, SIZE, SUBSET},
    "webvtt": {DURATION, RATE, SIZE, SUBSET, ORDER},
    "srt": {DURATION, RATE, SIZE, SUBSET, ORDER},
    "parquet": set(),
}
UNKNOWN = {DURATION, RATE, SIZE, SUBSET}
LOST_OF_SCORED = {
    **{form: lost | {SCORE} for form, lost in LOST_OF_TRUTH.items()},
    "activitynet": UNKNOWN,
    "actionformer": UNKNOWN | {LABEL, "labels are new", "labels are not held"},
    "opentad": UNKNOWN,
    "mmaction2": UNKNOWN,
    "thumos": UNKNOWN,
    "label-studio": {RATE, SIZE, SUBSET},
    "parquet": set(),
}
LOST_OF_BOXES: dict[str, set[str]] = {
    "ava": UNKNOWN,
    "coco-vid": {SUBSET},
    "mot": {SUBSET, LABEL, "labels are new", "labels are not held"},
    "via": UNKNOWN | {TRACK},
    "cvat": {SUBSET, ORDER},
    "label-studio": {SIZE, SUBSET, ORDER},
    "parquet": set(),
}


def measured(document: Document, form: str, path: Path) -> list[str]:
    write_document(document, path, form)
    return list(differences(document, read_document(path, fps=40, size=(640, 480))))


def only(lost: list[str], parts: set[str]) -> None:
    assert {part for part in parts if any(part in each for each in lost)} == parts, lost
    assert [each for each in lost if not any(part in each for part in parts)] == []


@pytest.mark.parametrize("form", LOST_OF_TRUTH)
def test_segments(form: str, tmp_path: Path) -> None:
    only(measured(drawn_segments(1), form, tmp_path / "out"), LOST_OF_TRUTH[form])


@pytest.mark.parametrize("form", LOST_OF_SCORED)
def test_segments_with_scores(form: str, tmp_path: Path) -> None:
    only(measured(drawn_segments(2, scored=True), form, tmp_path / "out"), LOST_OF_SCORED[form])


@pytest.mark.parametrize("form", LOST_OF_BOXES)
def test_boxes(form: str, tmp_path: Path) -> None:
    only(measured(drawn_boxes(3), form, tmp_path / "out"), LOST_OF_BOXES[form])


def test_frames_of_one_label_each(tmp_path: Path) -> None:
    spans = np.array([[0, 0.5], [0.5, 2], [2, 3]])
    labels = np.array([0, 1, 0])
    one = np.zeros(3, np.int64)
    document = Document(
        "drawn",
        {"v": Media(3, 40)},
        ("background", "run"),
        Segments(one, labels, spans, np.full(3, np.nan)),
        no_boxes(),
    )
    assert measured(document, "mstcn", tmp_path / "out") == []
    running = replace(document.segments.take(labels == 1), label=np.zeros(1, np.int64))
    running = replace(document, segments=running, labels=("run",))
    assert measured(running, "cvat", tmp_path / "tags") == []


def test_every_format_is_tried() -> None:
    assert {*LOST_OF_TRUTH, *LOST_OF_BOXES, "mstcn"} == set(FORMATS)
    assert set(LOST_OF_SCORED) == set(LOST_OF_TRUTH)


NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp", "Zs", "Cn")), min_size=1, max_size=12
).filter(lambda name: name == name.strip())
TIMES = st.floats(0, 1e5, allow_nan=False)


@st.composite
def documents(draw: st.DrawFn) -> Document:
    labels = tuple(draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)))
    videos = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    rows = draw(
        st.lists(st.tuples(st.integers(0, len(videos) - 1), st.integers(0, len(labels) - 1), TIMES, TIMES), max_size=6)
    )
    number = np.array([row[:2] for row in rows], np.int64).reshape(-1, 2)
    span_s = np.array([row[2:] for row in rows], np.float64).reshape(-1, 2)
    score = np.full(len(rows), np.nan)
    media = {video: Media(draw(TIMES), None, None, None, draw(st.none() | NAMES)) for video in videos}
    return Document("drawn", media, labels, Segments(number[:, 0], number[:, 1], span_s, score), no_boxes())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(documents())
@pytest.mark.parametrize("form", ["activitynet", "opentad", "charades", "kinetics", "via", "boris", "label-studio"])
def test_any_names_and_times(form: str, tmp_path: Path, document: Document) -> None:
    path = tmp_path / "file"
    write_document(document, path, form)
    found = FORMATS[form].read(path, Given())
    if form == "charades":
        document = replace(document, labels=tuple(name.replace(";", " ").strip() or "_" for name in document.labels))
        document = replace(document, labels=tuple("_".join(name.split()) for name in document.labels))
    wanted = [(v, n, start, stop, None) for v, n, start, stop, _ in segment_rows(document)]
    assert sorted(segment_rows(found), key=repr) == sorted(wanted, key=repr)


def test_differences_count_what_is_not_the_same() -> None:
    one = drawn_segments(4, scored=True)
    rows = one.segments
    moved = replace(rows, span_s=rows.span_s + np.where(np.arange(len(rows)) < 3, 0.25, 0)[:, None])
    assert list(differences(one, one)) == []
    assert list(differences(one, replace(one, segments=moved))) == ["3 segments are moved, by up to 0.25 s"]
    fewer = replace(one, segments=rows.take(np.arange(1, len(rows))))
    assert list(differences(one, fewer)) == ["1 segments are not held"]
    assert list(differences(fewer, one)) == ["1 segments are new"]
    bare = replace(one, segments=replace(rows, score=np.full(len(rows), np.nan)))
    assert list(differences(one, bare)) == [f"{len(rows)} segments lose their score"]
    shifted = replace(one, segments=rows.take(np.argsort(rows.video, kind="stable")[::-1]))
    assert list(differences(one, shifted)) == ["the segments of 3 videos are in another order"]
    named = replace(one, labels=("RUN", *one.labels[1:]))
    said = list(differences(one, named))
    assert said[:2] == ["1 labels are not held: run", "1 labels are new: RUN"]
    assert said[2] == f"{int(np.sum(rows.label == 0))} segments have another label"
    media = {"v0": replace(one.media["v0"], duration_s=None, fps=41.0), "v1": one.media["v1"], "v2": one.media["v2"]}
    assert list(differences(one, replace(one, media=media))) == [
        "durations of 1 videos are not held",
        "frame rates of 1 videos are different",
    ]


def test_differences_of_boxes() -> None:
    one = drawn_boxes(5, scored=True)
    rows = one.boxes
    assert list(differences(one, one)) == []
    loose = replace(one, boxes=replace(rows, track=np.full(len(rows), -1), score=rows.score / 2))
    n = len(rows)
    assert list(differences(one, loose)) == [f"{n} boxes lose their track", f"{n} scores of boxes are different"]
    wider = replace(one, boxes=replace(rows, box=rows.box + 0.125))
    assert list(differences(one, wider)) == [f"{n} boxes are moved, by up to 0.125 of the frame"]
    empty = rows.box.copy()
    empty[0] = np.nan
    assert "1 boxes lose their numbers" in list(differences(one, replace(one, boxes=replace(rows, box=empty))))


def test_one_video_a_file(tmp_path: Path) -> None:
    document = drawn_segments(6)
    with pytest.raises(InputError, match="one file holds one video in this format, and there are 3"):
        write_document(document, tmp_path / "a.vtt", "webvtt")
    one = of_subset(replace(document, media={**document.media, "v1": Media(subset="alone")}), "alone")
    assert list(one.media) == ["v1"]
    write_document(one, tmp_path / "match.vtt", "webvtt")
    assert "the video's id 'v1' becomes 'match'" in list(differences(one, read_document(tmp_path / "match.vtt")))
    for bad in ("../v", "/v", "a//b", ""):
        with pytest.raises(InputError, match="is no path below a folder"):
            write_document(replace(one, media={bad: Media()}), tmp_path / "out", "srt")


def test_numbers_that_nothing_can_hold(tmp_path: Path) -> None:
    document = drawn_segments(6)
    spans = document.segments.span_s.copy()
    spans[2] = 1e300
    with pytest.raises(InputError, match=r"1e\+300 as a time in seconds cannot be written"):
        write_document(replace(document, segments=replace(document.segments, span_s=spans)), tmp_path / "o", "mstcn")


def test_numbers_for_labels(tmp_path: Path) -> None:
    detections = drawn_segments(7, scored=True)
    with pytest.raises(UsageError, match="Name a folder"):
        write_document(detections, tmp_path / "d.txt", "thumos")
    with pytest.raises(UsageError, match="Name a folder"):
        write_document(drawn_boxes(7), tmp_path / "d.csv", "ava")
    names = tmp_path / "names.txt"
    names.write_text("8 run\n3 jump\n21 sit\n5 fall\n")
    write_document(detections, tmp_path / "d.txt", "thumos", labels=names)
    assert {line.split()[3] for line in (tmp_path / "d.txt").read_text().splitlines()} == {"8", "3", "21", "5"}
    found = read_document(tmp_path / "d.txt", labels=names)
    assert segment_rows(found) == segment_rows(detections)
    for document, form in ((detections, "actionformer"), (drawn_boxes(7), "mot"), (drawn_boxes(7), "ava")):
        path = tmp_path / ("ava.csv" if form == "ava" else form)
        write_document(document, path, form, labels=names)
        back = read_document(path, labels=names)
        assert sorted(map(repr, segment_rows(back))) == sorted(map(repr, segment_rows(document)))
        assert sorted(map(repr, box_rows(back))) == sorted(map(repr, box_rows(document)))


def test_overlaps_go_into_further_tiers(tmp_path: Path) -> None:
    rows = Segments(
        np.zeros(3, np.int64), np.zeros(3, np.int64), np.array([[0, 2], [1, 3], [2, 4.0]]), np.full(3, np.nan)
    )
    document = Document("drawn", {"a b.mp4": Media()}, ("kick & run",), rows, no_boxes())
    write_document(document, tmp_path / "out", "elan")
    text = (tmp_path / "out" / "a b.mp4.eaf").read_text()
    assert 'TIER_ID="kick &amp; run"' in text
    assert 'TIER_ID="kick &amp; run (2)"' in text
    assert 'TIER_ID="kick &amp; run (3)"' not in text
    assert list(differences(document, read_document(tmp_path / "out"))) == [
        "the segments of 1 videos are in another order"
    ]


def test_a_track_with_holes(tmp_path: Path) -> None:
    zeros, seconds = np.zeros(4, np.int64), np.array([0, 0.1, 0.5, 0.6])
    box = np.tile([0.25, 0.25, 0.5, 0.75], (4, 1)) + seconds[:, None] / 10
    rows = Boxes(zeros, seconds, box, zeros, zeros + 5, np.full(4, np.nan))
    document = Document("drawn", {"v": Media(1, 10, 640, 480)}, ("dog",), no_segments(), rows)
    for form in ("cvat", "label-studio", "coco-vid", "mot"):
        write_document(document, tmp_path / form, form)
        found = read_document(tmp_path / form, fps=10)
        assert [row[2:] for row in box_rows(found)] == [row[2:] for row in box_rows(document)], form


def test_names_that_tables_and_tags_could_take_for_their_own(tmp_path: Path) -> None:
    labels = ('"kick" & run', "a, b;c", "<b>x</b> --> y", "x: y (2)")
    document = replace(drawn_segments(9), labels=labels)
    for form in ("activitynet", "kinetics", "via", "elan", "boris", "label-studio", "audacity", "parquet"):
        write_document(document, tmp_path / form, form)
        assert set(read_document(tmp_path / form).labels) == set(labels), form
    write_document(document, tmp_path / "webvtt", "webvtt")
    assert {'"kick" & run', "<b>x</b> → y"} <= set(read_document(tmp_path / "webvtt").labels)


def test_formats_by_ending() -> None:
    assert format_by_ending(Path("a/B.EAF")) == "elan"
    assert format_by_ending(Path("x.parquet")) == "parquet"
    for name in ("a.json", "a.csv", "a.txt", "folder"):
        with pytest.raises(UsageError, match="its ending does not tell the format; expected --to with activitynet, "):
            format_by_ending(Path(name))


def test_subsets() -> None:
    document = drawn_segments(8)
    two = of_subset(document, "training")
    assert set(two.media) == {video for video, media in document.media.items() if media.subset == "training"}
    assert segment_rows(two) == [row for row in segment_rows(document) if row[0] in two.media]
    bare = replace(document, media=dict.fromkeys(document.media, Media()))
    assert {media.subset for media in of_subset(bare, "mine").media.values()} == {"mine"}
    with pytest.raises(InputError, match="no video is in subset 'test'; there is 'training'"):
        of_subset(document, "test")


def test_sizes() -> None:
    assert size_from("1280x720") == (1280, 720)
    for text in ("1280", "1280X720", "0x1", "axb", "-1x2"):
        with pytest.raises(UsageError, match="expected WIDTHxHEIGHT"):
            size_from(text)


def test_nothing_stays_behind_when_it_fails(tmp_path: Path) -> None:
    source = example("activitynet", tmp_path)
    with pytest.raises(InputError, match="--fps"):
        convert(source, tmp_path / "out", to="mstcn")
    with pytest.raises(UsageError, match="exists; choose another name"):
        convert(source, source, to="via")
    with pytest.raises(UsageError, match="format 'tal' is unknown; expected activitynet, "):
        convert(source, tmp_path / "out", to="tal")
    assert list(tmp_path.iterdir()) == [source]


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    source = example("charades", tmp_path)
    out = tmp_path / "labels.json"
    assert run(monkeypatch, "convert", source, out, "--to", "activitynet", "--subset", "training") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"read {source} (charades): 2 videos, 2 segments, 2 labels",
        f"wrote {out} (activitynet)",
        f"nothing is lost: read back, {out} says the same",
    ]
    assert json.loads(out.read_text())["database"]["N11GT"] == {
        "subset": "training",
        "duration": 18.5,
        "annotations": [],
    }
    assert run(monkeypatch, "convert", out, tmp_path / "tiers", "--to", "elan", "--json") == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["format"], done["to"], done["videos"], done["segments"]) == ("activitynet", "elan", 2, 2)
    assert "durations of 2 videos are not held" in done["lost"]
    assert run(monkeypatch, "convert", tmp_path / "tiers", tmp_path / "back.parquet") == 0
    assert segment_rows(read_document(tmp_path / "back.parquet")) == segment_rows(read_document(tmp_path / "tiers"))
    capsys.readouterr()
    assert run(monkeypatch, "convert", out, tmp_path / "x.csv") == 2
    assert "expected --to with activitynet" in capsys.readouterr().err
    assert run(monkeypatch, "convert", tmp_path / "gone", tmp_path / "x.srt") == 3
    assert "no such file or folder" in capsys.readouterr().err
    assert run(monkeypatch, "convert", out, tmp_path / "x", "--to", "mot", "--size", "big") == 2


def test_what_is_empty_says_so(tmp_path: Path) -> None:
    source = example("coco-vid", tmp_path)
    done = convert(source, tmp_path / "out", to="audacity", fps=25)
    assert any("nobody can tell what it is" in each for each in done.lost)
    assert "2 boxes are not held" in done.lost
