import json
from pathlib import Path

import pytest

from extract.errors import InputError
from pipelines.annotations import Annotations, Segment, VideoAnnotation, read_activitynet, write_activitynet

GOOD = {"duration": 10.0, "subset": "training", "annotations": [{"segment": [1, 2.5], "label": "run"}]}


def file(folder: Path, document: object) -> Path:
    path = folder / "annotations.json"
    path.write_text(json.dumps(document))
    return path


def test_round_trip(tmp_path: Path) -> None:
    annotations = Annotations.of(
        [
            VideoAnnotation("a/é.mp4", 10.0, "training", (Segment("run", 0.0, 2.5), Segment("jump", 2.0, 10.0))),
            VideoAnnotation("b", 3.5, "validation", ()),
        ]
    )
    write_activitynet(annotations, tmp_path / "one.json")
    assert read_activitynet(tmp_path / "one.json") == annotations
    write_activitynet(annotations, tmp_path / "two.json")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    assert {"version", "taxonomy", "database"} == set(json.loads((tmp_path / "one.json").read_text()))


def test_classes_are_sorted_and_subsets_exact(tmp_path: Path) -> None:
    other = {"duration": 4, "subset": "validation", "annotations": [{"segment": [0, 4.9], "label": "jump"}]}
    annotations = read_activitynet(file(tmp_path, {"database": {"a": GOOD, "b": other}}))
    assert annotations.classes == ("jump", "run")
    assert [video.video_id for video in annotations.subset("validation").videos] == ["b"]
    assert annotations.subset("training").classes == ("run",)
    with pytest.raises(InputError, match=r"subset 'Training'; the annotations have 'training', 'validation'"):
        annotations.subset("Training")


def changed(**values: object) -> dict[str, object]:
    return {key: value for key, value in {**GOOD, **values}.items() if value != "left out"}


def one(**values: object) -> dict[str, object]:
    return changed(annotations=[{"segment": [1, 2], "label": "run", **values}])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ([], r"video 'a': \[\] where an object"),
        (changed(duration="left out"), r"video 'a': duration is missing; expected a number of seconds above 0"),
        (changed(duration=0), r"duration is 0.0; expected a number of seconds above 0"),
        (changed(duration="10"), r"duration is '10'"),
        (changed(subset="left out"), r"subset is missing; expected text"),
        (changed(annotations="left out"), r"annotations is missing; expected a list"),
        (changed(annotations=["run"]), r"annotation 0: 'run' where an object"),
        (one(label=None), r"annotation 0: label is missing"),
        (one(label=3), r"label is 3; expected text"),
        (one(segment=[1]), r"segment is \[1\]; expected \[start, stop\] in seconds"),
        (one(segment=[1, "2"]), r"segment is '2'"),
        (one(segment=[1, float("nan")]), r"segment is nan"),
        (one(segment=[3, 2]), r"segment is \[3.0, 2.0\]; expected 0 <= start <= stop"),
        (one(segment=[-1, 2]), r"segment is \[-1.0, 2.0\]"),
        (one(segment=[20, 250]), r"1 of 1 segments end more than 1 s .* which lasts 10.0 s; .* frames instead of sec"),
    ],
)
def test_malformed_entries_name_video_value_and_expectation(tmp_path: Path, entry: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_activitynet(file(tmp_path, {"database": {"a": entry}}))
    assert "annotations.json" in str(caught.value)


def test_malformed_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be read \(No such file"):
        read_activitynet(tmp_path / "none.json")
    (tmp_path / "text.json").write_text("video,start,stop")
    with pytest.raises(InputError, match="not JSON"):
        read_activitynet(tmp_path / "text.json")
    with pytest.raises(InputError, match='no object "database"'):
        read_activitynet(file(tmp_path, {"videos": {}}))
    with pytest.raises(InputError, match='no object "database"'):
        read_activitynet(file(tmp_path, []))
