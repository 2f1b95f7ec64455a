"""Files and folders that are there whole or not at all."""

from pathlib import Path

import pytest

from extract.errors import InputError, MachineError, UsageError
from pipelines.whole import written_whole


def test_a_file_and_a_folder_are_there_when_all_went_well(tmp_path: Path) -> None:
    file, folder = tmp_path / "new/a.txt", tmp_path / "run"
    for text in ("first", "second"):
        with written_whole(file) as place:
            place.write_text(text)
            assert place.name == file.name
    with written_whole(folder) as place:
        place.mkdir()
        (place / "b.txt").write_text("third")
    with written_whole(file):
        pass
    found = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*.txt")}
    assert found == {"new/a.txt": "second", "run/b.txt": "third"}
    assert {path.name for path in (*tmp_path.iterdir(), *file.parent.iterdir())} == {"new", "a.txt", "run"}


def test_half_a_file_leaves_the_old_one_and_nothing_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("old")
    with pytest.raises(ZeroDivisionError), written_whole(file) as place:
        place.write_bytes(bytes(1 // place.write_text("")))
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "old")]


def test_errors_name_what_was_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    with pytest.raises(InputError, match=f"^{file}: no number$"), written_whole(file) as place:
        raise InputError(f"{place}: no number")
    with pytest.raises(UsageError, match=r"^of something else$"), written_whole(file):
        raise UsageError("of something else")
    told = rf"^{file} cannot be written \(No space\); free some$"
    with pytest.raises(MachineError, match=told), written_whole(file, "free some"):
        raise OSError(28, "No space")
    file.write_text("")
    told = r"below cannot be written .*; choose another place$"
    with pytest.raises(MachineError, match=told), written_whole(file / "below"):
        pytest.fail("below a file")


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "link.txt").symlink_to("a.txt")
    with written_whole(tmp_path / "link.txt") as place:
        place.write_text("new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "a.txt").read_text() == "new"
