"""Encoding: copies for browsers keep the seconds, and are there only when they are whole."""

import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from footage import KINDS, encode, index_of, overwrite_packets, read, regular

from extract.errors import MachineError, UsageError, VideoError
from extract.video import probe
from pipelines.video_out import MOST_FPS, TICK, LimitedRate, VideoWriter, make_proxy


def key_seconds(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.is_keyframe]
        return [float(packet.pts * packet.time_base) for packet in packets if packet.pts is not None]


@pytest.mark.parametrize("name", ["b-frames.mp4", "uneven.mp4", "ntsc.mp4", "late-start.ts", "counted.avi"])
def test_a_copy_shows_each_picture_at_its_second(tmp_path: Path, name: str) -> None:
    source = KINDS[name](tmp_path / name)
    shares: list[float] = []
    make_proxy(str(source), tmp_path / "copies" / "copy.webm", on_progress=shares.append)
    before = {index: t - probe(source).start_s for t, index, _ in read(source)[0]}
    after = [(t, index) for t, index, _ in read(tmp_path / "copies" / "copy.webm")[0]]
    assert after[0] == (0.0, 0)
    assert [t for t, _ in after] == pytest.approx([before[index] for _, index in after], abs=1e-3)
    kept = len(before) if name != "uneven.mp4" else len(before) - 7  # the last 20 come at 50 a second
    assert len(after) == pytest.approx(kept, abs=1)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert [path.name for path in (tmp_path / "copies").iterdir()] == ["copy.webm"]


def test_a_copy_is_small_upright_and_silent_and_can_be_sought_every_two_seconds(tmp_path: Path) -> None:
    source = encode(tmp_path / "turned.mp4", regular(250), rotation=90, gop=250)
    make_proxy(str(source), tmp_path / "copy.webm", height_px=48)
    info = probe(tmp_path / "copy.webm")
    assert (info.width, info.height, info.codec, info.container) == (32, 48, "vp9", "matroska,webm")
    assert info.duration_s == pytest.approx(10.0, abs=0.05)
    assert info.streams == ("0 video vp9",)
    assert key_seconds(tmp_path / "copy.webm") == pytest.approx([0, 2, 4, 6, 8], abs=0.05)


def test_a_damaged_video_is_copied_as_far_as_it_goes(tmp_path: Path) -> None:
    source = encode(tmp_path / "broken.mp4", regular(60), gop=12)
    overwrite_packets(source, range(14, 20))
    make_proxy(str(source), tmp_path / "copy.webm")
    rows = read(tmp_path / "copy.webm")[0]
    assert (rows[0][1], rows[-1][1]) == (0, 59)
    assert rows[-1][0] == pytest.approx(59 / 25, abs=1e-3)


def test_no_more_than_thirty_pictures_a_second_as_even_as_can_be() -> None:
    for fps, most in ((60, 30), (50, 30), (30, 30), (30000 / 1001, 30), (25, 25), (240, 30)):
        picked = LimitedRate()
        ticks = [picked.tick(round(k / fps, 3)) for k in range(int(10 * fps))]  # times in milliseconds, as in webm
        kept = [tick for tick in ticks if tick is not None]
        assert len(kept) == pytest.approx(10 * min(fps, most), abs=1)
        assert max(b - a for a, b in itertools.pairwise(kept)) <= 1000 / min(fps, MOST_FPS) + 1000 / fps + 1


def test_the_last_picture_stays_as_long_as_it_did(tmp_path: Path) -> None:
    source = encode(tmp_path / "slides.mp4", [Fraction(5 * k) for k in range(4)], tick=Fraction(1, 1000))
    make_proxy(str(source), tmp_path / "copy.webm")
    length_s = probe(source).duration_s
    assert length_s is not None
    assert length_s > 15
    with av.open(str(tmp_path / "copy.webm")) as container:
        assert container.duration == pytest.approx(length_s * 1e6, abs=0.05e6)
    assert [index for _, index, _ in read(tmp_path / "copy.webm")[0]][:4] == [0, 1, 2, 3]


def test_what_cannot_be_done_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    source = encode(tmp_path / "a.mp4", regular(5))
    with pytest.raises(UsageError, match=r"a name in \.webm"):
        make_proxy(str(source), tmp_path / "copy.avi")
    with pytest.raises(VideoError, match="missing"):
        make_proxy(str(tmp_path / "none.mp4"), tmp_path / "copy.webm")
    with pytest.raises(MachineError, match="cannot be written"):
        make_proxy(str(source), source / "copy.webm")
    with pytest.raises(MachineError, match="cannot be written"):
        make_proxy(str(source), tmp_path / f"{'x' * 251}.webm")
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_a_video_is_not_copied_over_itself(tmp_path: Path) -> None:
    source = encode(tmp_path / "a b.webm", regular(5), codec="libvpx-vp9")
    (tmp_path / "link.webm").symlink_to(source)
    before = source.read_bytes()
    for made_of, output in ((str(source), source), (source.as_uri(), source), (str(source), tmp_path / "link.webm")):
        with pytest.raises(UsageError, match="is the video itself"):
            make_proxy(made_of, output)
    assert source.read_bytes() == before


@pytest.mark.parametrize("ending", [".webm", ".mp4"])
def test_the_same_pictures_give_the_same_bytes(tmp_path: Path, ending: str) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (5, 64, 96, 3), np.uint8)
    for name in ("a", "b"):
        with VideoWriter(tmp_path / f"{name}{ending}", size=(96, 64), rate=Fraction(25), time_base=TICK) as writer:
            for k, picture in enumerate(pictures):
                writer.write(picture, 40 * k)
    assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()
    assert [index_of(p) for p in pictures[:1]] == [-1]
    assert probe(tmp_path / f"a{ending}").estimated_frames == 5
