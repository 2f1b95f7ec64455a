"""Clips from folders and annotations: which are taken, which are left out and said to be, which are refused."""

from pathlib import Path

import pytest

from extract.errors import InputError
from pipelines.pretraining.examples import read_examples


def files(root: Path, *names: str) -> Path:
    """Files with these names that no video is in: nothing here decodes."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def table(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(["label,youtube_id,time_start,time_end,split", *rows]))
    return path


def test_folders_of_test_clips_are_left_out_and_counted(tmp_path: Path) -> None:
    names = ["train/red/a.mp4", "Training/blue/b.mp4", "validate/red/c.mp4", "test/red/t.mp4", "testing/green/u.mp4"]
    found = read_examples(files(tmp_path, *names))
    assert [(str(row), row.subset) for row in found.rows] == [
        ("Training/blue/b.mp4 (blue)", "training"),
        ("train/red/a.mp4 (red)", "training"),
        ("validate/red/c.mp4 (red)", "validation"),
    ]
    assert found.classes == ("blue", "red")
    assert found.notes == ("left out, as clips of other subsets: 2 of test",)


@pytest.mark.parametrize("name", ["jump/day1/a.mp4", "train/a.mp4", "test/a.mp4", "train/red/day1/a.mp4", "a.mp4"])
def test_a_video_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    files(tmp_path, "red/r.mp4", "blue/b.mp4", name)
    with pytest.raises(InputError, match=rf"{name} lies in no folder of a class; expected .*/SUBSET/LABEL/a.mp4.*Move"):
        read_examples(tmp_path)


def test_annotated_clips_of_other_subsets_are_counted_by_name(tmp_path: Path) -> None:
    videos = files(tmp_path / "v", "a.mp4", "b.mp4", "c.mp4")
    rows = ["red,a,0,1,train", "blue,b,0,1,train", "red,c,0,1,dev", "red,gone,0,1,test", "blue,gone2,0,1,test"]
    found = read_examples(table(tmp_path / "k.csv", *rows), videos)
    assert [str(row) for row in found.rows] == ["a 0-1 s (red)", "b 0-1 s (blue)"]
    assert found.notes == ("left out, as clips of other subsets: 2 of test, 1 of dev",)
    with pytest.raises(InputError, match=r"0 classes .* left out, as clips of other subsets: 1 of test\. In a folder"):
        read_examples(table(tmp_path / "t.csv", "red,a,0,1,test"), videos)


def test_files_that_are_segments_already_are_taken_whole(tmp_path: Path) -> None:
    videos = files(tmp_path / "v", "red/abc_000083_000093.mp4", "blue/whole.mp4")
    rows = ["red,abc,83,93,train", "red,abc,3,13,train", "blue,whole,2,12,train"]
    found = read_examples(table(tmp_path / "k.csv", *rows), videos)
    assert [(row.path.name, row.span_s) for row in found.rows] == [
        ("abc_000083_000093.mp4", None),
        ("whole.mp4", (2.0, 12.0)),
    ]
    assert found.notes == ("1 videos are not there, or more than once: abc",)
    assert found.missing == ("abc",)


def test_a_video_of_two_subsets_is_refused(tmp_path: Path) -> None:
    rows = ["red,a,0,1,train", "blue,b,0,1,train", "red,a,3,4,val"]
    with pytest.raises(InputError, match="a is in the subset 'train', and again in 'val'; expected one"):
        read_examples(table(tmp_path / "k.csv", *rows), files(tmp_path / "v", "a.mp4", "b.mp4"))


def test_what_is_left_out_of_annotations_is_counted(tmp_path: Path) -> None:
    videos = files(tmp_path / "v", "a.mp4", "b.mp4", "x/twice.mp4", "y/twice.mp4")
    rows = ["red,a,0,1,train", "blue,b,0,1,train", ",b,2,3,train", "red,twice,0,1,train", "red,gone,0,1,train"]
    found = read_examples(table(tmp_path / "k.csv", *rows), videos)
    assert found.notes[-2:] == (
        "left out, without a label: 1 clips",
        "2 videos are not there, or more than once: twice, gone",
    )
    assert found.missing == ("twice", "gone")
    with pytest.raises(InputError, match=r"--videos .* is for a file of annotations; .* is a folder"):
        read_examples(videos, videos)


def test_notes_of_the_annotations_are_kept(tmp_path: Path) -> None:
    entries = [
        f'"{name}": {{"subset": "training", "annotations": [{{"segment": [0, 1], "label": "{label}"}}]}}'
        for name, label in (("a", "red"), ("a", "red"), ("b", "blue"))
    ]
    (tmp_path / "a.json").write_text(f'{{"database": {{{", ".join(entries)}}}}}')
    found = read_examples(tmp_path / "a.json", files(tmp_path / "v", "a.mp4", "b.mp4"))
    assert [note for note in found.notes if "more than once" in note]
