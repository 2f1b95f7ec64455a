"""Reading video, on files made here with a frame index burned into each picture."""

import gc
import importlib.util
import math
import pickle
from collections.abc import Callable
from dataclasses import asdict, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest
from footage import KINDS, NTSC, H, W, encode, overwrite_packets, read, regular, uneven

from extract.errors import UsageError, VideoError
from extract.video import (
    FrameBatch,
    VideoInfo,
    open_video,
    probe,
    read_frames,
    resize_kernel,
)

SHARED = Path(__file__).parents[3].parent / "shared"
FIXTURES = SHARED / "fixtures" / "video"
REAL = SHARED / "videos"


def resampled(times: list[float], end_s: float, fps: float, tolerance_s: float) -> list[tuple[float, int]]:
    """The rule written plainly: which frame is shown at each sample time."""
    out = []
    for k in range(math.ceil((end_s - times[0]) * fps) + 1):
        t = times[0] + k / fps
        if t + tolerance_s < end_s:
            out.append((t, sum(time <= t + tolerance_s for time in times) - 1))
    return out


@pytest.mark.parametrize("name", KINDS)
def test_every_frame_comes_once_in_order(made: dict[str, Path], name: str) -> None:
    rows, report = read(made[name])
    assert [index for _, index, _ in rows] == list(range(len(rows)))
    assert len(rows) in (60, 80)
    assert all(b > a for (a, *_), (b, *_) in pairwise(rows))
    assert not any(damaged for *_, damaged in rows)
    assert report.finished
    assert not report.partial
    assert report.decoded_frames == len(rows)
    assert report.last_frame_s == rows[-1][0]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("fps", [None, 7.0, 30.0])
def test_spans_are_parts_of_the_whole(made: dict[str, Path], name: str, fps: float | None) -> None:
    whole, report = read(made[name], fps=fps)
    start, end = whole[0][0], report.display_end_s
    assert end is not None
    cuts = [-1e9, start + 0.5, start + 1.21, start + 1.96, start + 0.985 * (end - start), 1e9]
    parts = [read(made[name], fps=fps, start_s=a, stop_s=b) for a, b in pairwise(cuts)]
    assert [row for rows, _ in parts for row in rows] == whole
    assert sum(r.decoded_frames for _, r in parts) == report.decoded_frames


@pytest.mark.parametrize("name", ["b-frames.mp4", "uneven.mp4", "uneven.mkv", "ntsc.mp4", "late-start.ts"])
@pytest.mark.parametrize("fps", [3.7, 10.0, 25.0, 60.0])
def test_samples_show_the_last_frame_by_time(made: dict[str, Path], name: str, fps: float) -> None:
    native, report = read(made[name])
    assert report.display_end_s is not None
    times = [t for t, *_ in native]
    wanted = resampled(times, report.display_end_s, fps, probe(made[name]).tick_s / 2)
    rows, _ = read(made[name], fps=fps)
    assert [(t, index) for t, index, _ in rows] == wanted


def test_samples_at_the_native_rate_are_the_frames(made: dict[str, Path]) -> None:
    for name, rate in (("b-frames.mp4", 25.0), ("ntsc.mp4", float(NTSC)), ("counted.avi", 25.0)):
        assert [i for _, i, _ in read(made[name], fps=rate)[0]] == list(range(60)), name


def test_times_are_the_containers(made: dict[str, Path]) -> None:
    assert [t for t, *_ in read(made["uneven.mp4"])[0]] == pytest.approx([float(t) for t in uneven()], abs=6e-4)
    late = read(made["late-start.ts"])[0]
    assert late[0][0] == probe(made["late-start.ts"]).start_s > 1.9
    assert [t - late[0][0] for t, *_ in late] == pytest.approx([float(t) for t in regular(60)])
    assert [t for t, *_ in read(made["ntsc.mp4"])[0]] == [float(t) for t in regular(60, NTSC)]


def test_probe_describes(made: dict[str, Path]) -> None:
    info = probe(made["b-frames.mp4"])
    assert (info.container, info.codec, info.pixel_format) == ("mov,mp4,m4a,3gp,3g2,mj2", "h264", "yuv420p")
    assert (info.width, info.height, info.coded_width, info.coded_height) == (W, H, W, H)
    assert (info.declared_frames, info.duration_s, info.average_fps, info.nominal_fps) == (60, 2.4, 25, 25)
    assert (info.variable_rate, info.time_source, info.seekable) == (False, "container", True)
    assert info.streams == ("0 video h264",)
    assert info.size_bytes == made["b-frames.mp4"].stat().st_size
    assert info.warnings == ()
    assert isinstance(asdict(info), dict)
    assert pickle.loads(pickle.dumps(info)) == info


def test_probe_tells_odd_clocks(made: dict[str, Path]) -> None:
    info: Callable[[str], VideoInfo] = lambda name: probe(made[name])  # noqa: E731
    assert info("uneven.mp4").variable_rate is info("uneven.mkv").variable_rate is True
    assert info("counted.avi").time_source == info("raw.h264").time_source == "count"
    assert any("holds no times" in text for text in info("raw.h264").warnings)
    assert any("no duration" in text for text in info("raw.h264").warnings)
    assert info("raw.h264").duration_s == pytest.approx(2.4)
    assert not info("program.mpg").seekable


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_pictures_are_turned_upright(tmp_path: Path, rotation: int) -> None:
    path = encode(tmp_path / "turned.mp4", regular(3), rotation=rotation)
    info = probe(path)
    assert info.rotation == rotation % 360
    assert (info.width, info.height) == ((W, H) if rotation == 180 else (H, W))
    with av.open(str(path)) as container:
        coded = next(container.decode(video=0)).to_ndarray(format="rgb24")
    first = next(read_frames(path)).pixels[0]
    np.testing.assert_array_equal(first, np.rot90(coded, rotation // 90))
    small = next(read_frames(path, short_side=32)).pixels[0]
    assert small.shape == ((32, 48, 3) if rotation == 180 else (48, 32, 3))


def test_short_side_follows_the_display(tmp_path: Path, plain: Path) -> None:
    assert next(read_frames(plain, short_side=33)).pixels.shape[1:] == (33, 49, 3)
    wide = encode(tmp_path / "wide.mp4", regular(3), aspect=Fraction(4, 3))
    assert (probe(wide).width, probe(wide).height) == (128, 64)
    assert next(read_frames(wide)).pixels.shape[1:] == (H, W, 3)
    with open_video(wide, short_side=32) as reader:
        assert reader.size == (64, 32)
        assert next(iter(reader)).pixels.shape[1:] == (32, 64, 3)


def test_resizing_is_one_swscale_call(plain: Path) -> None:
    with av.open(str(plain)) as container:
        frame = next(container.decode(video=0))
        wanted = frame.reformat(48, 32, "rgb24", interpolation="BILINEAR").to_ndarray()
    np.testing.assert_array_equal(next(read_frames(plain, short_side=32)).pixels[0], wanted)
    assert resize_kernel("auto") == resize_kernel("pyav") == "swscale-bilinear"


def test_batches_are_bounded(plain: Path) -> None:
    assert [len(batch) for batch in read_frames(plain)] == [32, 28]


def test_pictures_are_let_go_at_once(plain: Path) -> None:
    """Also without the cyclic garbage collector, which does not see how large they are."""
    gc.collect()
    gc.disable()
    try:
        for _ in read_frames(plain):
            pass
        held = sum(type(thing) is av.VideoFrame for thing in gc.get_objects())
    finally:
        gc.enable()
    assert held < 12


def test_hole_gives_no_samples(tmp_path: Path) -> None:
    times = regular(30) + [t + 4000 for t in regular(30)]
    path = encode(tmp_path / "hole.mkv", times, tick=Fraction(1, 1000))
    rows, report = read(path, fps=25.0)
    assert [i for _, i, _ in rows] == list(range(60))
    assert report.holes_s == (pytest.approx((1.2, 4000.0)),)
    assert [i for _, i, _ in read(path, fps=25.0, start_s=1000.0)[0]] == list(range(30, 60))
    assert read(path, fps=25.0, start_s=1000.0, stop_s=2000.0)[0] == []
    assert not read(path, stop_s=1000.0)[1].partial


@pytest.mark.parametrize("start_s", [2.4, 1e6, 1e300])
def test_nothing_comes_after_the_end(plain: Path, start_s: float) -> None:
    assert read(plain, start_s=start_s)[0] == read(plain, start_s=start_s, fps=25.0)[0] == []


def test_clock_restart_is_joined(tmp_path: Path) -> None:
    part = encode(tmp_path / "part.ts", regular(60)).read_bytes()
    path = tmp_path / "twice.ts"
    path.write_bytes(part + part)
    rows, report = read(path)
    assert [i for _, i, _ in rows] == [*range(60), *range(60)]
    assert [t - rows[0][0] for t, *_ in rows] == pytest.approx([float(t) for t in regular(120)])
    assert report.clock_restarts == 1
    begin = rows[0][0] + 3
    assert read(path, start_s=begin)[0] == [row for row in rows if row[0] >= begin]


def test_damage_lasts_to_the_next_key_frame(broken: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows, report = read(broken)
    good = [(t, i) for t, i, damaged in rows if not damaged]
    assert all(round(t * 25) == i for t, i in good)
    assert {i for _, i in good} >= {*range(12), *range(24, 60)}
    assert len(good) < 55
    assert report.partial
    assert report.bad_packets == 3
    assert len(report.damaged_spans_s) == 1
    start, stop = report.damaged_spans_s[0]
    assert 11 / 25 < start < stop <= 24 / 25
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_samples_of_lost_frames_are_damaged(broken: Path) -> None:
    rows, _ = read(broken, fps=25.0)
    assert len(rows) == 60
    assert all(damaged or round(t * 25) == i for t, i, damaged in rows)


def test_spans_of_a_damaged_file_are_parts_of_the_whole(broken: Path) -> None:
    whole, report = read(broken)
    cuts = [-1e9, 0.3, 0.66, 0.9, 1.3, 1e9]
    parts = [read(broken, start_s=a, stop_s=b) for a, b in pairwise(cuts)]
    assert [row for rows, _ in parts for row in rows] == whole
    assert sum(r.bad_packets for _, r in parts) == report.bad_packets
    assert sum(r.damaged_frames for _, r in parts) == report.damaged_frames


def test_strict_raises_at_damage(broken: Path, plain: Path) -> None:
    with pytest.raises(VideoError, match=r"without strict.*\[damaged\]"):
        read(broken, strict=True)
    assert len(read(broken, strict=True, start_s=1.3)[0]) > 20
    assert len(read(plain, strict=True)[0]) == 60


@pytest.mark.parametrize("name", ["cut.mkv", "cut.mp4"])
def test_cut_file_is_partial(tmp_path: Path, name: str) -> None:
    path = encode(tmp_path / name, regular(60))
    if name == "cut.mp4":
        remux_with_index_first(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    rows, report = read(path)
    assert 0 < len(rows) < 58
    assert all(damaged or round(t * 25) == i for t, i, damaged in rows)
    assert report.partial
    assert report.display_end_s is not None
    assert report.short_by_s == pytest.approx(2.4 - report.display_end_s, abs=2e-3)


def remux_with_index_first(path: Path) -> None:
    moved = path.with_suffix(".first.mp4")
    with (
        av.open(str(path)) as source,
        av.open(str(moved), "w", options={"movflags": "faststart"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    moved.replace(path)


def sound_only(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


REFUSALS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "missing": (r"no such file.*\[missing\]", lambda p: p),
    "folder": (r"is a folder.*\[folder\]", lambda p: p.mkdir()),
    "empty": (r"0 bytes.*\[empty\]", lambda p: p.touch()),
    "text": (r"\[not_media\]", lambda p: p.write_text("not a video\n" * 50)),
    "page": (r"\[not_media\]", lambda p: p.write_text("<html><body>404</body></html>")),
    "noise": (r"\[not_media\]", lambda p: p.write_bytes(np.random.default_rng(0).bytes(50_000))),
    "sound": (r"no video stream.*\[no_video\]", sound_only),
    "unindexed": (
        r"index \(moov\).*\[not_media\]",
        lambda p: p.write_bytes(encode(p, regular(30)).read_bytes()[:1000]),
    ),
    "undecodable": (
        r"no frame.*\[no_frames\]",
        lambda p: overwrite_packets(encode(p, regular(30)), range(30)),
    ),
    "codec": (
        r"no decoder.*\[no_decoder\]",
        lambda p: p.write_bytes(encode(p, regular(3)).read_bytes().replace(b"avc1", b"zzz1")),
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_no_video_is_refused_by_reason(tmp_path: Path, name: str) -> None:
    message, make = REFUSALS[name]
    path = tmp_path / f"{name}.{'txt' if name == 'text' else 'mp4'}"
    make(path)
    for use in (probe, read):
        with pytest.raises(VideoError, match=message) as caught:
            use(path)
        assert caught.value.path == str(path)


def test_unreadable_file_is_refused(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(VideoError, match=r"permissions \[permission\]"):
        probe(plain)


def test_huge_pictures_are_refused(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extract.video._container.MAX_PIXELS", W * H - 1)
    with pytest.raises(VideoError, match=r"96 x 64 pixels.*\[too_large\]"):
        probe(plain)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fps": 0.0}, "fps is 0.0"),
        ({"fps": math.nan}, "fps is nan"),
        ({"short_side": 0}, "short_side is 0"),
        ({"start_s": math.nan}, "has no bounds"),
        ({"start_s": 2.0, "stop_s": 2.0}, "is empty"),
        ({"decoder": "ffmpeg"}, "'ffmpeg', which there is not; choose auto, pyav, decord, torchcodec, torchcodec:cuda"),
    ],
)
def test_impossible_values_are_refused(plain: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_video(plain, **options)  # type: ignore[arg-type]


def test_batch_checks_its_shapes(plain: Path) -> None:
    batch = next(read_frames(plain))
    with pytest.raises(ValueError, match=r"pts_s is float64 \(31,\); expected float64 \(32,\)"):
        replace(batch, pts_s=batch.pts_s[1:])
    with pytest.raises(ValueError, match="expected uint8"):
        FrameBatch(batch.pixels.astype(np.float32), batch.pts_s, batch.damaged)


def test_reader_can_be_left_early(plain: Path) -> None:
    with open_video(plain) as reader:
        next(iter(reader))
    assert not reader.report.finished
    assert list(reader) == []


needs_shared = pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"the shared files are not at {SHARED}")


@pytest.fixture(scope="module")
def check() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FIXTURES))
        spec = importlib.util.spec_from_file_location("check", FIXTURES / "check.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


@needs_shared
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # check.py leaves its own file open
@pytest.mark.parametrize("path", sorted(p for p in FIXTURES.glob("*") if p.suffix not in {".py", ".md", ".json"}))
def test_shared_truth(check: ModuleType, path: Path) -> None:
    options = {"short_side": 128} if path.name == "huge_8192.mp4" else {}

    def rows(name: str) -> object:
        for batch in read_frames(name, **options):  # type: ignore[arg-type]
            yield from zip(batch.pts_s, batch.pixels, batch.damaged, strict=True)

    limit = 300 if path.name == "long_10h.mp4" else None
    passed, text = check.judge(path.name, rows, VideoError, limit)
    assert passed, text


@needs_shared
def test_shared_long_file_has_exact_times_at_its_end() -> None:
    batch = next(read_frames(FIXTURES / "long_10h.mp4", start_s=35_990.0))
    assert batch.pts_s.tolist() == [n * 2002 / 1000 for n in range(17978, 17983)]


@needs_shared
@pytest.mark.parametrize("path", sorted(p for p in REAL.glob("*") if p.suffix != ".md"))
def test_real_files_read(path: Path) -> None:
    with open_video(path, short_side=64) as reader:
        shown = sum(len(batch) for batch in reader)
    assert shown == reader.report.decoded_frames > 0
    assert reader.report.partial == (path.name == "corrupted.mp4")
    assert reader.report.repaired_times == 0
    assert (reader.size[0] < reader.size[1]) == (path.name in {"rotated_90.mov", "rotated_270.mov"})
