"""Samples that lie far apart: the same frames as from reading everything, without decoding everything."""

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
from footage import encode, overwrite_packets, read, regular

from extract.errors import VideoError

N = 250
MAKERS: dict[str, Callable[[Path], Path]] = {
    "b-frames.mp4": lambda p: encode(p, regular(N), options={"bf": "3"}),
    "open-gop.mp4": lambda p: encode(p, regular(N), options={"bf": "3", "x264-params": "open-gop=1"}),
    "open-gop.mkv": lambda p: encode(p, regular(N), options={"bf": "3", "x264-params": "open-gop=1"}),
    "hevc.mp4": lambda p: encode(p, regular(N), codec="libx265", options={"x265-params": "log-level=none"}),
    "vp9.webm": lambda p: encode(p, regular(N), codec="libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8"}),
    "intra.avi": lambda p: encode(p, regular(N), codec="mpeg4", gop=1),
    "one-key.mp4": lambda p: encode(p, regular(N), gop=1000),
    "uneven.mp4": lambda p: encode(p, [t + (5 if t > 4 else 0) for t in regular(N)], tick=Fraction(1, 1000)),
    "hole.mkv": lambda p: encode(p, regular(108) + [t + 50 for t in regular(N)[108:]], tick=Fraction(1, 1000)),
    "transport.ts": lambda p: encode(p, regular(N), options={"bf": "2"}),
}
SKIPPABLE = ("b-frames.mp4", "open-gop.mp4", "open-gop.mkv", "hevc.mp4", "vp9.webm", "uneven.mp4", "hole.mkv")


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("long")
    return {name: make(folder / name) for name, make in MAKERS.items()}


def all_decoded(path: Path, fps: float) -> list[tuple[float, int, bool]]:
    """The samples at ``fps`` from a strict reading, which skips nothing."""
    rows, report = read(path, fps=fps, strict=True)
    assert report.decoded_frames == N
    return rows


@pytest.mark.parametrize("fps", [0.11, 0.5, 0.83, 1.7])
@pytest.mark.parametrize("name", MAKERS)
def test_samples_are_those_of_the_whole(long: dict[str, Path], name: str, fps: float) -> None:
    wanted = all_decoded(long[name], fps)
    rows, report = read(long[name], fps=fps)
    assert rows == wanted
    assert report.decoded_frames <= N
    assert report.display_end_s == read(long[name])[1].display_end_s
    assert not report.partial
    cuts = [-1e9, 2.9, 5.01, 9.3, 1e9]
    assert [row for a, b in pairwise(cuts) for row in read(long[name], fps=fps, start_s=a, stop_s=b)[0]] == wanted


@pytest.mark.parametrize("name", SKIPPABLE)
def test_most_is_not_decoded(long: dict[str, Path], name: str) -> None:
    assert read(long[name], fps=0.5)[1].decoded_frames < 0.7 * N


def test_damage_is_flagged_where_a_sample_meets_it(tmp_path: Path) -> None:
    path = encode(tmp_path / "broken.mp4", regular(N), options={"bf": "2"})
    overwrite_packets(path, range(98, 104))
    for fps in (0.25, 0.5, 1.0):
        rows, _ = read(path, fps=fps)
        assert [t for t, *_ in rows] == [k / fps for k in range(len(rows))]
        assert len(rows) == 10 * fps or len(rows) == int(10 * fps) + 1
        assert all(damaged or index == round(25 * t) % 256 for t, index, damaged in rows)
        assert [damaged for t, _, damaged in rows] == [abs(t - 4) < 0.1 for t, *_ in rows]
    with pytest.raises(VideoError, match="without strict"):
        read(path, fps=0.11, strict=True)


def test_an_index_that_promises_too_much_is_not_believed(long: dict[str, Path], tmp_path: Path) -> None:
    """A key frame index that names every frame, as a broken recorder writes it."""
    data = bytearray(long["b-frames.mp4"].read_bytes())
    place = data.index(b"stss")
    data[place : place + 4] = b"free"
    path = tmp_path / "all-keys.mp4"
    path.write_bytes(data)
    assert read(path, fps=0.5)[0] == read(long["b-frames.mp4"], fps=0.5)[0]


def test_a_file_cut_short_gives_what_is_there(tmp_path: Path) -> None:
    path = encode(tmp_path / "cut.mkv", regular(N))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    whole, sparse = read(path, fps=25.0), read(path, fps=0.5)
    assert [row for row in whole[0] if row[0] % 2 == 0][: len(sparse[0])] == sparse[0]
    assert sparse[1].display_end_s == whole[1].display_end_s
    assert sparse[1].partial


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("joined.webm", "libvpx-vp9", {}),
        ("joined.mkv", "libx264", {}),
        ("joined.mp4", "libx264", {"movflags": "frag_keyframe+empty_moov+default_base_moof"}),
    ],
)
def test_joined_recordings_are_read_from_the_beginning(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    """Their clock starts again where the second begins, so that no seek can tell the two apart."""
    fast = {"deadline": "realtime", "cpu-used": "8"} if codec == "libvpx-vp9" else {}
    parts = [
        encode(tmp_path / f"{n}-{name}", regular(n), codec=codec, container_options=options, options=fast)
        for n in (130, 250)
    ]
    path = tmp_path / name
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    whole, report = read(path)
    assert report.clock_restarts == 1
    assert len(whole) > 360
    for fps in (0.5, 0.83):
        assert read(path, fps=fps)[0] == read(path, fps=fps, strict=True)[0]
    for start_s in (4.0, 8.5):
        assert read(path, start_s=start_s)[0] == [row for row in whole if row[0] >= start_s]
