"""What a scan says of an archive."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from footage import encode, regular
from typer.testing import CliRunner

from extract.errors import InputError
from pipelines import cli
from pipelines.console import clock
from pipelines.scan import Scan, raw_bytes, raw_lines, scan, scan_json


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mixed")
    (root / "day 1").mkdir()
    encode(root / "day 1" / "good.mp4", regular(50))
    encode(root / "turned.mp4", regular(50), rotation=90)
    encode(root / "raw.h264", regular(50))
    (root / "bad.mp4").write_bytes(b"<html>404</html>" * 99)
    (root / "empty.mkv").touch()
    (root / "notes.txt").write_text("not looked at")
    return root


def test_every_video_is_described_or_named(mixed: Path) -> None:
    seen = []
    found = scan([mixed], lambda done, count: seen.append((done, count)))
    assert [video.video_id for video in found.videos] == [
        "bad.mp4",
        "day 1/good.mp4",
        "empty.mkv",
        "raw.h264",
        "turned.mp4",
    ]
    assert [video.video_id for video in found.failed] == ["bad.mp4", "empty.mkv"]
    assert [bool(video.problems) for video in found.videos] == [True, False, True, True, False]
    assert found.duration_s == pytest.approx(6.0)
    assert found.others == 1
    assert seen == [(n, 5) for n in range(1, 6)]


def test_json_holds_all_of_it(mixed: Path) -> None:
    result = json.loads(json.dumps(scan_json(scan([mixed]))))
    assert (result["videos"], result["readable"]) == (5, 3)
    assert [(f["video"], f["reason"]) for f in result["failed"]] == [("bad.mp4", "not_media"), ("empty.mkv", "empty")]
    turned = result["files"][-1]
    assert (turned["video"], turned["readable"], turned["problems"]) == ("turned.mp4", True, [])
    assert (turned["width"], turned["height"], turned["rotation"]) == (64, 96, 90)
    assert (turned["duration_s"], turned["fps"], turned["codec"]) == (2.0, 25.0, "h264")


@pytest.mark.parametrize("options", [[], ["--problems"]])
def test_the_table_names_problems_and_totals(mixed: Path, options: list[str]) -> None:
    shown = CliRunner().invoke(cli.app, ["scan", str(mixed), "--quiet", *options])
    assert shown.exit_code == 4
    assert "3 of 5 videos can be read: 6 s" in shown.stdout
    assert "not a media file" in shown.stdout
    assert "the file holds no times" in shown.stdout
    assert "left alone, not videos by their names: 1 files" in shown.stdout
    assert ("turned 90°" in shown.stdout) == (not options)
    assert ("good.mp4" in shown.stdout) == (not options)
    assert "codecs: h264 3" in shown.stdout
    assert "as raw pixels, 3 bytes each: 0.03 GB (0.03 GiB) a minute, 2.8 MB in all, " in shown.stdout


@pytest.mark.parametrize(
    ("width", "height", "bytes_per_minute", "gib_per_minute"),
    [(640, 480, 640 * 480 * 3 * 30 * 60, 1.5), (1920, 1080, 1920 * 1080 * 3 * 30 * 60, 10.4)],
)
def test_raw_pixels_take_gigabytes_a_minute(
    mixed: Path, width: int, height: int, bytes_per_minute: int, gib_per_minute: float
) -> None:
    """The two figures of J. Johnson's lecture on video (EECS 498-007, Michigan 2020, lecture 18)."""
    (video,) = scan([mixed / "turned.mp4"]).videos
    assert video.info is not None
    size = {"width": width, "height": height, "duration_s": 90.0, "estimated_frames": 90 * 30}
    found = Scan(videos=[replace(video, info=replace(video.info, **size, size_bytes=1_000_000))])
    result = scan_json(found)
    assert result["raw_bytes_per_minute"] == bytes_per_minute
    assert result["raw_bytes"] == result["files"][0]["raw_bytes"] == 1.5 * bytes_per_minute
    assert bytes_per_minute / 2**30 == pytest.approx(gib_per_minute, abs=0.05)
    (line,) = raw_lines(found)
    assert f"({bytes_per_minute / 2**30:.2f} GiB) a minute" in line
    assert line.endswith("times the files' 1.0 MB")


def test_raw_pixels_of_unknown_lengths(mixed: Path) -> None:
    (video,) = scan([mixed / "turned.mp4"]).videos
    assert video.info is not None
    assert raw_bytes(video.info) == 3 * 64 * 96 * 50
    rate = replace(video.info, estimated_frames=None, duration_s=3.0)
    assert raw_bytes(rate) == 3 * 64 * 96 * 75
    unknown = Scan(videos=[replace(video, info=replace(rate, duration_s=None))])
    result = scan_json(unknown)
    assert (result["raw_bytes"], result["raw_bytes_per_minute"], result["files"][0]["raw_bytes"]) == (0, None, None)
    assert list(raw_lines(unknown)) == []


def test_a_good_archive_ends_well(mixed: Path) -> None:
    assert CliRunner().invoke(cli.app, ["scan", str(mixed / "day 1")]).exit_code == 0
    with pytest.raises(InputError, match="does not exist"):
        scan([mixed / "nowhere"])


def test_names_that_are_not_text_are_escaped(mixed: Path, tmp_path: Path) -> None:
    shutil.copy(mixed / "turned.mp4", os.fsencode(tmp_path / "caf") + b"\xe9.mp4")
    (file,) = scan_json(scan([tmp_path]))["files"]
    assert file["video"] == r"caf\udce9.mp4"
    assert file["path"] == str(tmp_path / r"caf\udce9.mp4")


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_reader_that_goes_away_is_no_error(mixed: Path, options: list[str]) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, "-m", "pipelines.cli", "scan", str(mixed), "--quiet", *options]
    with os.fdopen(write_end, "wb") as nobody:
        done = subprocess.run(command, stdout=nobody, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_clock() -> None:
    assert [clock(s) for s in (0.04, 59.96, 3599.99, 36002.0)] == ["0:00.0", "1:00.0", "1:00:00.0", "10:00:02.0"]
