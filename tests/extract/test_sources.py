"""Which files a job reads, their ids, and fingerprints."""

import os
import shutil
from pathlib import Path

import pytest

from extract.errors import InputError, VideoError
from extract.sources import find_videos, fingerprint

MIB = 1 << 20


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two cameras with files of one name, another folder, and what is no video."""
    for name in (
        "cam1/a.mp4",
        "cam1/day 2/b.MKV",
        "cam1/day 2/deep/er/c.webm",
        "cam2/a.mp4",
        "cam2/notes.txt",
        "cam2/.hidden.mp4",
        "cam2/._a.mp4",
        "cam2/.trash/x.mp4",
        "cam2/.DS_Store",
        "other/readme",
        "other/z.avi",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path


def ids(*paths: str | Path) -> list[str]:
    return [source.video_id for source in find_videos(paths).sources]


def test_one_folder_is_the_root_of_ids(root: Path) -> None:
    assert ids(root / "cam1") == ["a.mp4", "day 2/b.MKV", "day 2/deep/er/c.webm"]
    assert ids(str(root / "cam1")) == ids(root / "cam1")


def test_hidden_files_and_folders_are_left_out(root: Path) -> None:
    found = find_videos([root / "cam2"])
    assert [source.video_id for source in found.sources] == ["a.mp4"]
    assert found.others == 1


def test_files_of_one_name_get_different_ids(root: Path) -> None:
    found = find_videos([root / "cam2", root / "cam1"])
    wanted = ["cam1/a.mp4", "cam1/day 2/b.MKV", "cam1/day 2/deep/er/c.webm", "cam2/a.mp4"]
    assert [source.video_id for source in found.sources] == wanted
    assert [source.path for source in found.sources] == [str(root / name) for name in wanted]
    assert ids(root / "cam1" / "a.mp4", root / "cam2" / "a.mp4") == ["cam1/a.mp4", "cam2/a.mp4"]


def test_single_files(root: Path) -> None:
    assert ids(root / "cam1" / "a.mp4") == ["a.mp4"]
    assert ids(root / "other" / "z.avi", root / "cam1" / "day 2") == [
        "cam1/day 2/b.MKV",
        "cam1/day 2/deep/er/c.webm",
        "other/z.avi",
    ]


def test_a_file_that_is_named_is_tried_whatever_its_name(root: Path) -> None:
    assert ids(root / "cam2" / "notes.txt") == ["notes.txt"]
    assert ids(root / "cam2" / ".hidden.mp4") == [".hidden.mp4"]


def test_nested_folders_are_searched_once(root: Path) -> None:
    assert ids(root, root / "cam1", root / "cam1" / "a.mp4") == ids(root)
    assert len(ids(root)) == 5


def test_one_file_under_two_spellings_is_one_video(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    assert ids("cam1/a.mp4", root / "cam1" / "a.mp4", "cam2/../cam1/a.mp4") == ["a.mp4"]
    assert ids("cam1", root / "cam1") == ids("cam1") == ids(root / "cam1")


def test_ids_are_sorted_and_do_not_depend_on_the_order_given(root: Path) -> None:
    paths = [root / "other", root / "cam2", root / "cam1"]
    assert ids(*paths) == ids(*reversed(paths)) == sorted(ids(*paths))


def test_links_keep_their_place(root: Path) -> None:
    (root / "cam1" / "linked.mp4").symlink_to(root / "other" / "z.avi")
    assert "linked.mp4" in ids(root / "cam1")


def test_what_cannot_be_read_as_videos_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no path given; expected video files, folders or URLs"):
        find_videos([])
    with pytest.raises(InputError, match=r"nowhere does not exist; expected a video file or a folder"):
        find_videos([root, tmp_path / "nowhere"])
    (root / "other" / "z.avi").unlink()
    with pytest.raises(InputError, match=r"no video in .*other \(1 other files\).*name a file itself"):
        find_videos([root / "other"])


@pytest.fixture
def big(tmp_path: Path) -> Path:
    path = tmp_path / "big.mp4"
    path.write_bytes(bytes(5 * MIB))
    return path


@pytest.mark.parametrize("place", [0, MIB - 1, 5 * MIB // 2 - MIB // 2, 5 * MIB // 2, 4 * MIB, 5 * MIB - 1])
def test_fingerprint_changes_with_one_byte(big: Path, place: int) -> None:
    before = fingerprint(big)
    with big.open("r+b") as file:
        file.seek(place)
        file.write(b"\x01")
    assert fingerprint(big) != before


def test_fingerprint_changes_with_length(big: Path) -> None:
    before = fingerprint(big)
    with big.open("ab") as file:
        file.write(b"\x00")
    assert fingerprint(big) != before


@pytest.mark.parametrize("size", [0, 1, 1000, MIB + 1, 3 * MIB])
def test_small_files_count_whole(tmp_path: Path, size: int) -> None:
    path = tmp_path / "small.mp4"
    prints = set()
    places = sorted({place for place in (0, size // 3, size // 2, 2 * size // 3, size - 1) if 0 <= place < size})
    for place in [None, *places]:
        data = bytearray(size)
        if place is not None:
            data[place] = 1
        path.write_bytes(data)
        prints.add(fingerprint(path))
    assert len(prints) == len(places) + 1


def test_fingerprint_is_stable(big: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(big, tmp_path / "copy.mp4"))
    assert fingerprint(copy) == fingerprint(str(big)) == fingerprint(big)
    copy.write_bytes(b"abc")
    assert fingerprint(copy) == "blake2b:6178709e471d02aedb5b184138cdb45f"


def test_fingerprint_of_what_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(VideoError, match=r"cannot be read: No such file.*\[io_error\]"):
        fingerprint(tmp_path / "gone.mp4")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(VideoError, match=r"cannot be read: Permission denied.*\[permission\]"):
        fingerprint(tmp_path / "locked.mp4")


def test_pipes_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    os.mkfifo(tmp_path / "b.mp4")
    found = find_videos([tmp_path])
    assert [source.video_id for source in found.sources] == ["a.mp4"]
    assert found.others == 1
    with pytest.raises(InputError, match="neither a file nor a folder"):
        find_videos([tmp_path / "b.mp4"])


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/a.mp4").touch()
    (tmp_path / "root").mkdir()
    (tmp_path / "root/link").symlink_to(tmp_path / "real")
    (tmp_path / "root/up").symlink_to(tmp_path / "root")
    found = find_videos([tmp_path / "root"])
    assert [source.video_id for source in found.sources] == ["link/a.mp4"]
    assert Path(found.sources[0].path).is_absolute()


def test_urls_are_known_by_host_and_path(root: Path) -> None:
    url = "https://user:secret@example.org:8080/day%201/a.mp4?token=1"
    found = find_videos([url, root / "cam2" / "a.mp4", url, "s3://bucket/b.mp4"])
    assert [(s.video_id, s.path) for s in found.sources] == [
        ("a.mp4", str(root / "cam2" / "a.mp4")),
        ("bucket/b.mp4", "s3://bucket/b.mp4"),
        ("example.org:8080/day 1/a.mp4", url),
    ]


@pytest.mark.parametrize(
    ("url", "video_id"),
    [
        ("file:///a/b.mp4", "a/b.mp4"),
        ("s3://bucket/take#1.mp4", "bucket/take#1.mp4"),
        ("https://h/a.mp4#t=10", "h/a.mp4"),
        ("zip://a.mp4::http://h:80/x.zip", "a.mp4//h:80/x.zip"),
    ],
)
def test_ids_of_urls(url: str, video_id: str) -> None:
    assert ids(url) == [video_id]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://[::1/x.mp4", r"http://\[::1/x.mp4 is not a URL \(Invalid IPv6 URL\)"),
        ("http://h:port/x.mp4", "http://h:port/x.mp4 is not a URL"),
        ("http://", "http:// names no file"),
        ("file:///", "file:/// names no file"),
    ],
)
def test_urls_that_name_nothing_are_refused(url: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_videos([url])


def test_messages_about_urls_hold_no_secrets() -> None:
    with pytest.raises(InputError, match=r"http://h/a.mp4 and http://h/a.mp4 would both be 'h/a.mp4'"):
        find_videos(["http://user:hunter2@h/a.mp4", "http://h/a.mp4?sig=SECRET"])


def test_two_videos_of_one_id_are_refused() -> None:
    with pytest.raises(InputError, match=r"would both be 'h/a.mp4'"):
        find_videos(["http://h/a.mp4", "s3://h/a.mp4"])
