"""Videos beside a page: found, linked, and pictures out of them that show the right frame."""

import base64
import io
import os
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import numpy as np
import pytest
from footage import encode, index_of, regular
from PIL import Image

from extract.video import DecodingProcess, probe
from pipelines.report import media
from pipelines.report.media import browser_playable, find_video, relative_link, thumbnails


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def test_a_video_is_found_by_its_id_then_by_its_name_then_where_it_was_read(tmp_path: Path) -> None:
    archive, elsewhere = tmp_path / "archive", touch(tmp_path / "elsewhere" / "x.mp4")
    by_id, other = touch(archive / "day" / "a.mp4"), touch(archive / "night" / "deep" / "b.webm")
    touch(archive / "night" / "a.mp4")
    touch(archive / "b.txt")
    assert find_video("day/a.mp4", folder=archive) == by_id
    assert find_video("week/b.webm", folder=archive) == other
    assert find_video("b", folder=archive) == other  # ids of annotations have no suffix
    assert find_video("a.mp4", folder=archive) is None  # there are two
    assert find_video("x.mp4", folder=archive, source=str(elsewhere)) == elsewhere
    assert find_video("x.mp4", source=elsewhere.as_uri()) == elsewhere
    assert find_video("x.mp4", source=str(tmp_path / "gone.mp4")) is None
    assert find_video("x.mp4", source="nul\0") is None
    assert find_video("x.mp4", source="n" * 5000) is None
    assert find_video("x.mp4", source="https://example.org/x.mp4") is None
    assert find_video("x.mp4") is None


@pytest.mark.parametrize("hostile", ["../x.mp4", "/etc/passwd", "a/../../x.mp4", "", "..", "nul\0", "n" * 5000])
def test_an_id_does_not_lead_out_of_the_folder(tmp_path: Path, hostile: str) -> None:
    touch(tmp_path / "x.mp4")
    (tmp_path / "in").mkdir()
    assert find_video(hostile, folder=tmp_path / "in") is None


@pytest.mark.parametrize("name", ["a b.mp4", "50%.mp4", "what?.mp4", "#1.mp4", "javascript:1.mp4", "é\"'<.mp4", "-"])
@pytest.mark.parametrize("page", ["", "page", "videos/deep"])
def test_a_link_leads_to_the_video_whatever_its_name(tmp_path: Path, name: str, page: str) -> None:
    link = relative_link(tmp_path / "videos" / name, tmp_path / page)
    assert not urlsplit(link).scheme
    assert not set(link) & set(" \"'<>?#")
    address = urljoin((tmp_path / page / "index.html").as_uri(), link)
    assert unquote(urlsplit(address).path) == str(tmp_path / "videos" / name)


def test_a_link_is_taken_from_the_paths_as_they_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert relative_link(Path("videos/x.mp4"), Path("out")) == "../videos/x.mp4"
    assert relative_link(Path(os.fsdecode(b"\xff.mp4")), Path()) == "%FF.mp4"


def shown(pictures: Sequence[str | None]) -> list[int | None]:
    """The frame numbers burned into thumbnails."""
    return [None if url is None else index_of(np.asarray(picture_of(url))) for url in pictures]


def picture_of(url: str) -> Image.Image:
    head, data = url.split(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_thumbnail_shows_the_frame_of_its_second(tmp_path: Path) -> None:
    times = [Fraction(3) + Fraction(n, 25) for n in range(100)]  # the container's clock begins at 3 s
    video = encode(tmp_path / "v.mp4", times)
    pictures = thumbnails(video, [2.5, 0.0, 0.99, 3.99, 60.0, 0.99, float("nan"), -1.0, 4.3], width_px=96)
    assert shown(pictures) == [62, 0, 24, 99, None, 24, None, 0, 99]
    assert picture_of(pictures[0] or "").width == 96


def test_a_file_without_an_index_gives_the_same(tmp_path: Path) -> None:
    video = encode(tmp_path / "v.avi", [Fraction(n, 25) for n in range(60)], codec="mpeg4", options={"qscale": "2"})
    assert not probe(video).seekable
    assert shown(thumbnails(video, [1.0, 0.0, 2.3, 90.0], width_px=96)) == [25, 0, 57, None]


def test_a_frame_that_stays_for_long_is_shown_all_the_while(tmp_path: Path) -> None:
    video = encode(tmp_path / "v.mp4", [Fraction(n) for n in (0, 5, 6)], rate=Fraction(25))
    assert shown(thumbnails(video, [4.5, 5.5], width_px=96)) == [0, 1]


def test_what_is_no_video_has_no_thumbnail(tmp_path: Path) -> None:
    file = tmp_path / "x.mp4"
    file.write_bytes(b"not a video")
    assert thumbnails(file, [0.0, 1.0]) == [None, None]
    assert thumbnails(tmp_path / "missing.mp4", [0.0]) == [None]
    assert thumbnails(file, []) == []


def test_browsers_play_some_codecs_in_some_containers(tmp_path: Path) -> None:
    info = probe(encode(tmp_path / "v.mp4", [Fraction(n, 25) for n in range(5)]))
    assert browser_playable(info)
    assert browser_playable(replace(info, codec="vp9", container="matroska,webm"))
    assert not browser_playable(replace(info, codec="mpeg4"))
    assert not browser_playable(replace(info, container="avi"))
    assert not browser_playable(replace(info, codec="hevc"))
    assert not browser_playable(replace(info, pixel_format="yuv420p10le"))


def test_a_video_without_pictures_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def fails(_self: media._Reading, second: float) -> None:
        asked.append(second)

    encode(tmp_path / "a.mp4", regular(50))
    monkeypatch.setattr(media._Reading, "_at", fails)
    with DecodingProcess() as process:
        assert thumbnails(tmp_path / "a.mp4", [0.1 * i for i in range(20)], process=process) == [None] * 20
        assert len(asked) == 3
        assert thumbnails(tmp_path / "a.mp4", [], process=process) == []
        assert process.probe(tmp_path / "a.mp4").codec == "h264", "it is still there"
