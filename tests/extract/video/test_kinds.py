"""Odd kinds of files, each judged by the frame index burned into its pictures and by its true times."""

import struct
from collections.abc import Callable, Iterable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from socketserver import BaseRequestHandler, TCPServer
from threading import Thread

import av
import numpy as np
import pytest
from av.audio.stream import AudioStream
from av.stream import Disposition
from av.video.stream import VideoStream
from footage import H, Rows, W, burn, encode, index_of, overwrite_packets, read, regular
from numpy.typing import NDArray

from extract.errors import VideoError
from extract.video import probe, read_frames

WRAP_S = Fraction(2**33, 90000)
ONE, UNIT = 1 << 16, 1 << 30


def add_video(
    container: av.container.OutputContainer,
    *,
    codec: str = "libx264",
    size: tuple[int, int] = (W, H),
    rate: Fraction = Fraction(25),
    options: dict[str, str] | None = None,
    pixel_format: str = "yuv420p",
) -> VideoStream:
    stream = container.add_stream(codec, rate=rate, options=options or {})
    stream.width, stream.height = size
    stream.pix_fmt = pixel_format
    stream.codec_context.gop_size = 12
    stream.codec_context.time_base = 1 / rate
    return stream


def fill(
    stream: VideoStream,
    times: Iterable[Fraction],
    *,
    first: int = 0,
    picture: Callable[[int], NDArray[np.uint8]] = burn,
) -> None:
    """Encode a picture for each time into one stream of an open container."""
    for index, time in enumerate(times, first):
        array = picture(index)
        frame = av.VideoFrame.from_ndarray(array, format="rgba" if array.shape[2] == 4 else "rgb24")
        frame.pts, frame.time_base = round(time * 90000), Fraction(1, 90000)
        stream.container.mux(stream.encode(frame))
    stream.container.mux(stream.encode(None))


def blank(_: int) -> NDArray[np.uint8]:
    return np.zeros((H, W, 3), np.uint8)


def add_sound(container: av.container.OutputContainer) -> AudioStream:
    return container.add_stream("pcm_s16le", rate=8000)


def fill_sound(stream: AudioStream, seconds: int) -> None:
    for second in range(seconds):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts = 8000, 8000 * second
        stream.container.mux(stream.encode(frame))
    stream.container.mux(stream.encode(None))


def patched(path: Path, change: Callable[[bytearray], None]) -> Path:
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    return path


def indices(rows: Rows) -> list[int]:
    return [index for _, index, _ in rows]


def assert_read(path: Path, wanted: list[int], times: Iterable[Fraction], rate: float | None = 20.0) -> None:
    """These frames at these times, none damaged; spans and samples of it agree with the whole."""
    rows, report = read(path)
    assert indices(rows) == wanted
    assert [t for t, *_ in rows] == pytest.approx([float(t) for t in times], abs=6e-4)
    assert not report.partial
    assert report.repaired_times == report.clock_restarts == 0
    assert report.display_end_s is not None
    start, end = rows[0][0], report.display_end_s
    cuts = [-1e18, *(start + (end - start) * share for share in (0.1, 0.47, 0.48, 0.9)), 1e18]
    for fps in (None, rate):
        whole = read(path, fps=fps)[0]
        parts = [read(path, fps=fps, start_s=a, stop_s=b)[0] for a, b in pairwise(cuts)]
        assert [row for part in parts for row in part] == whole


# Edit lists


def test_edit_list_that_cuts(tmp_path: Path) -> None:
    path = encode(tmp_path / "cut.mp4", regular(60), options={"bf": "2"})

    def cut(data: bytearray) -> None:
        place = data.index(b"elst") + 12
        duration, media_time = struct.unpack_from(">Ii", data, place)
        struct.pack_into(">Ii", data, place, duration - 720, media_time + 18 * 512)  # in 1/1000 s and 1/12800 s

    assert_read(patched(path, cut), list(range(18, 60)), regular(42))
    info = probe(path)
    assert (info.declared_frames, info.estimated_frames) == (60, 42)
    assert info.duration_s == pytest.approx(42 / 25)


def test_edit_list_that_delays(tmp_path: Path) -> None:
    path = encode(tmp_path / "late.mp4", [t + 3 for t in regular(60)], options={"bf": "2"})
    assert path.read_bytes().count(b"elst") == 1
    assert_read(path, list(range(60)), [t + 3 for t in regular(60)])
    assert probe(path).start_s == 3


# Clocks


def test_clock_that_wraps(tmp_path: Path) -> None:
    times = [t + WRAP_S - Fraction(5, 2) for t in regular(60)]
    path = encode(tmp_path / "wrap.ts", times, options={"bf": "2"})
    start = Fraction(probe(path).start_s)
    assert start < 0
    assert_read(path, list(range(60)), [start + t for t in regular(60)])


@pytest.mark.parametrize("name", ["late.mkv", "late.ts", "late.flv", "late.nut"])
def test_late_start_is_no_loss(tmp_path: Path, name: str) -> None:
    path = encode(tmp_path / name, [t + 3 for t in regular(125)], options={"bf": "2"})
    info = probe(path)
    start = Fraction(info.start_s)
    assert start >= 3
    assert_read(path, list(range(125)), [start + t for t in regular(125)])
    assert info.duration_s == pytest.approx(5.0, abs=0.1)
    assert info.warnings == ()


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("rate", [Fraction(1, 600), Fraction(1000)])
def test_slow_and_fast_rates(tmp_path: Path, suffix: str, rate: Fraction) -> None:
    path = encode(tmp_path / f"rate.{suffix}", regular(40, rate), rate=rate)
    assert_read(path, list(range(40)), regular(40, rate), rate=float(rate) * 0.8)
    assert probe(path).average_fps == pytest.approx(float(rate))


def test_a_rest_of_hours_leaves_the_usual_step(tmp_path: Path) -> None:
    times = [*regular(20), *(t + 36_000 for t in regular(20))]
    path = encode(tmp_path / "rest.mp4", times, tick=Fraction(1, 1000))
    rows, report = read(path, fps=25.0)
    assert indices(rows) == list(range(40))
    assert report.holes_s == (pytest.approx((0.8, 36_000)),)
    info = probe(path)
    assert (info.variable_rate, info.estimated_frames) == (True, 40)
    assert info.duration_s == pytest.approx(36_000.8)


def test_rate_beyond_belief_is_measured(tmp_path: Path) -> None:
    rate = Fraction(5000)
    info = probe(encode(tmp_path / "fast.mp4", regular(40, rate), rate=rate))
    assert info.average_fps == pytest.approx(5000)
    assert any("no usable frame rate; taken as 5000 frames/s" in text for text in info.warnings)


@pytest.mark.parametrize("factor", [Fraction(1, 2), Fraction(2)])
def test_header_rate_that_lies_costs_no_frame(tmp_path: Path, factor: Fraction) -> None:
    path = encode(tmp_path / "lies.mkv", regular(60))

    def lie(data: bytearray) -> None:
        place = data.index(bytes.fromhex("23e38384")) + 4  # DefaultDuration, in 4 bytes
        struct.pack_into(">I", data, place, int(40_000_000 / factor))

    assert_read(patched(path, lie), list(range(60)), regular(60))
    info = probe(path)
    assert (info.average_fps, info.variable_rate) == (25, False)
    assert any("is not that of its frames; taken as 25 frames/s" in text for text in info.warnings)


# Headers


@pytest.mark.parametrize(
    "flags", ["empty_moov+frag_keyframe", "empty_moov+frag_every_frame+default_base_moof", "dash+delay_moov"]
)
def test_fragments_without_duration(tmp_path: Path, flags: str) -> None:
    path = encode(tmp_path / "pieces.mp4", regular(60), options={"bf": "2"}, container_options={"movflags": flags})
    start = Fraction(probe(path).start_s)
    assert_read(path, list(range(60)), [start + t for t in regular(60)])
    assert probe(path).duration_s == pytest.approx(2.4)


def wrong_keys(data: bytearray) -> None:
    place = data.index(b"stss") + 8
    n = struct.unpack_from(">I", data, place)[0]
    struct.pack_into(f">{n}I", data, place + 4, *(5 + 7 * k for k in range(n)))


def no_keys(data: bytearray) -> None:
    place = data.index(b"stss")
    data[place : place + 4] = b"free"


@pytest.mark.parametrize("change", [wrong_keys, no_keys])
def test_wrong_table_of_key_frames(tmp_path: Path, change: Callable[[bytearray], None]) -> None:
    path = encode(tmp_path / "keys.mp4", regular(60), options={"bf": "2"})
    assert_read(patched(path, change), list(range(60)), regular(60))


def test_sound_after_the_picture_is_not_its_duration(tmp_path: Path) -> None:
    path = tmp_path / "sound.mkv"
    with av.open(str(path), "w") as container:
        stream, sound = add_video(container), add_sound(container)
        fill(stream, regular(60))
        fill_sound(sound, 30)
    assert_read(path, list(range(60)), regular(60))
    info = probe(path)
    assert info.duration_s == pytest.approx(2.4)
    assert info.warnings == ()


# Streams


def test_the_default_of_two_videos(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        other, wanted = add_video(container, size=(64, 64)), add_video(container)
        other.disposition, wanted.disposition = Disposition(0), Disposition.default
        fill(other, regular(30), picture=blank)
        fill(wanted, regular(60))
    assert_read(path, list(range(60)), regular(60))
    info = probe(path)
    assert (info.stream_index, info.streams) == (1, ("0 video h264", "1 video h264"))


def add_cover(container: av.container.OutputContainer) -> VideoStream:
    cover = add_video(container, codec="mjpeg", pixel_format="yuvj420p")
    cover.disposition = Disposition.attached_pic
    return cover


def test_cover_art_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "cover.mp4"
    with av.open(str(path), "w") as container:
        cover, stream = add_cover(container), add_video(container)
        fill(cover, [Fraction(0)], picture=blank)
        fill(stream, regular(60))
    with av.open(str(path)) as container:
        assert any(stream.disposition & Disposition.attached_pic for stream in container.streams)
    assert_read(path, list(range(60)), regular(60))


def test_cover_art_alone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "alone.mp4"
    with av.open(str(path), "w") as container:
        cover, sound = add_cover(container), add_sound(container)
        fill(cover, [Fraction(0)], picture=blank)
        fill_sound(sound, 1)
    with pytest.raises(VideoError, match=r"only picture is cover art.*\[no_video\]"):
        probe(path)


def test_size_changes(tmp_path: Path) -> None:
    path, data = tmp_path / "sizes.ts", b""
    for part, size in enumerate([(W, H), (2 * W, 2 * H), (64, 64)]):
        piece = tmp_path / f"{part}.ts"
        with av.open(str(piece), "w") as container:
            stream = add_video(container, size=size, options={"bf": "0"})
            fill(stream, [t + Fraction(20 * part, 25) for t in regular(20)], first=20 * part)
        data += piece.read_bytes()
    path.write_bytes(data)
    rows, report = read(path)
    assert indices(rows) == list(range(60))
    assert [t - rows[0][0] for t, *_ in rows] == pytest.approx([float(t) for t in regular(60)])
    assert report.warnings == (
        "the picture size changes (96 x 64, 192 x 128, 64 x 64); all are resized to the first one's",
    )
    assert {batch.pixels.shape[1:] for batch in read_frames(path)} == {(H, W, 3)}


@pytest.mark.parametrize("size", [(2, 2), (16, 16), (17, 3), (4096, 16)])
def test_extreme_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "size.mkv"
    with av.open(str(path), "w") as container:
        fill(add_video(container, codec="ffv1", size=size, pixel_format="bgr0"), regular(5))
    assert [batch.pixels.shape for batch in read_frames(path)] == [(5, size[1], size[0], 3)]


def test_resized_pictures_are_bounded_too(tmp_path: Path) -> None:
    path = tmp_path / "wide.mkv"
    with av.open(str(path), "w") as container:
        fill(add_video(container, codec="ffv1", size=(4096, 16), pixel_format="bgr0"), regular(2))
    with pytest.raises(VideoError, match=r"pictures of 2560000 x 10000 pixels.*\[too_large\]"):
        next(read_frames(path, short_side=10_000))


# Orientation

# The matrix that displays a picture, and the same with numpy.
ORIENTATIONS: dict[str, tuple[tuple[int, int, int, int], Callable[[NDArray[np.uint8]], NDArray[np.uint8]]]] = {
    "upright": ((1, 0, 0, 1), lambda p: p),
    "half turn": ((-1, 0, 0, -1), lambda p: p[::-1, ::-1]),
    "left to right": ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda p: p[::-1]),
    "clockwise": ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),
    "counter-clockwise": ((0, -1, 1, 0), lambda p: np.rot90(p)),
    "transposed": ((0, 1, 1, 0), lambda p: p.swapaxes(0, 1)),
    "transposed the other way": ((0, -1, -1, 0), lambda p: p[::-1, ::-1].swapaxes(0, 1)),
    "nonsense": ((0, 0, 0, 0), lambda p: p),
}


def with_matrix(path: Path, a: float, b: float, c: float, d: float) -> Path:
    with av.open(str(path), "w") as container:
        stream = add_video(container)
        stream.set_display_matrix([round(ONE * x) for x in (a, b, 0, c, d, 0, 0, 0)] + [UNIT])
        fill(stream, regular(3))
    return path


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_every_orientation_is_undone(tmp_path: Path, name: str) -> None:
    matrix, show = ORIENTATIONS[name]
    path = with_matrix(tmp_path / "turned.mp4", *matrix)
    with av.open(str(path)) as container:
        coded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    pixels = next(read_frames(path)).pixels
    np.testing.assert_array_equal(pixels, np.stack([show(picture) for picture in coded]))
    info = probe(path)
    assert (info.height, info.width) == pixels.shape[1:3]
    assert info.mirrored == (np.linalg.det(np.reshape(matrix, (2, 2))) < 0)
    upright = np.rot90(coded[0][:, ::-1] if info.mirrored else coded[0], info.rotation // 90)
    np.testing.assert_array_equal(pixels[0], upright)
    assert info.warnings == ()


def test_odd_angles_go_to_the_nearest_quarter(tmp_path: Path) -> None:
    angle = np.radians(80)
    path = with_matrix(tmp_path / "odd.mp4", np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle))
    info = probe(path)
    assert info.rotation == 90
    assert info.warnings == ("turned by 80 degrees counter-clockwise; shown to the nearest quarter turn",)


# Pixels


@pytest.mark.parametrize(
    ("pixel_format", "codec"),
    [
        ("yuv422p10le", "ffv1"),
        ("yuv444p12le", "ffv1"),
        ("gray", "ffv1"),
        ("gray16le", "ffv1"),
        ("gbrp16le", "ffv1"),
        ("bgra", "ffv1"),
        ("yuv420p10le", "libx265"),
        ("yuv411p", "ffv1"),
        ("monob", "rawvideo"),
    ],
)
def test_pixel_formats(tmp_path: Path, pixel_format: str, codec: str) -> None:
    path = tmp_path / ("pixels.nut" if codec == "rawvideo" else "pixels.mkv")
    options = {"x265-params": "log-level=none:pools=none"} if codec == "libx265" else {}
    with av.open(str(path), "w") as container:
        fill(add_video(container, codec=codec, pixel_format=pixel_format, options=options), regular(20))
    assert indices(read(path)[0]) == list(range(20))


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG"), (1, None)])
def test_high_dynamic_range_is_told(tmp_path: Path, transfer: int, name: str | None) -> None:
    path = tmp_path / "range.mkv"
    with av.open(str(path), "w") as container:
        stream = add_video(container)
        stream.codec_context.color_trc = transfer
        fill(stream, regular(3))
    wanted = (
        () if name is None else (f"high dynamic range ({name}): its values are left as they are, without tone mapping",)
    )
    assert probe(path).warnings == wanted


def test_interlacing_is_told(tmp_path: Path) -> None:
    path = encode(tmp_path / "fields.mkv", regular(20), options={"x264-params": "interlaced=1:tff=1"})
    assert probe(path).warnings == (
        "interlaced: a frame holds two fields of different times, which are left interwoven",
    )
    assert indices(read(path)[0]) == list(range(20))


@pytest.mark.parametrize("opacity", [255, 100])
def test_transparency_is_told(tmp_path: Path, opacity: int) -> None:
    path = tmp_path / "alpha.mkv"
    with av.open(str(path), "w") as container:
        stream = add_video(container, codec="ffv1", pixel_format="bgra")
        fill(stream, regular(3), picture=lambda k: np.dstack([burn(k), np.full((H, W), opacity, np.uint8)]))
    wanted = () if opacity == 255 else ("partly transparent: the alpha channel is dropped",)
    assert probe(path).warnings == wanted
    np.testing.assert_array_equal(next(read_frames(path)).pixels[0], burn(0))


def tagged(path: Path, matrix: int, size: tuple[int, int] = (W, H)) -> Path:
    with av.open(str(path), "w") as container:
        stream = add_video(container, codec="ffv1", pixel_format="yuv444p", size=size)
        stream.codec_context.colorspace = matrix
        fill(stream, regular(1), picture=lambda _: np.full((*size[::-1], 3), (200, 40, 90), np.uint8))
    return path


def first_pixel(path: Path) -> list[int]:
    return [int(value) for value in next(read_frames(path)).pixels[0, 0, 0]]


def test_untagged_colours_are_bt601_at_any_size(tmp_path: Path) -> None:
    small, large = (tagged(tmp_path / f"{w}.mkv", 2, (w, h)) for w, h in ((W, H), (1920, 1080)))
    assert first_pixel(small) == first_pixel(large) == first_pixel(tagged(tmp_path / "601.mkv", 6))


def test_colour_matrices_that_swscale_lacks(tmp_path: Path) -> None:
    constant, usual = (tagged(tmp_path / f"{k}.mkv", k) for k in (10, 9))
    assert first_pixel(constant) == first_pixel(usual)
    with pytest.raises(VideoError, match=r"colour matrix number 8 cannot be converted to RGB.*\[no_conversion\]"):
        probe(tagged(tmp_path / "ycgco.mkv", 8))


# What probing costs


def test_search_for_a_frame_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(tmp_path / "spoilt.mp4", regular(60))
    overwrite_packets(path, range(60))
    with pytest.raises(VideoError, match=r"no frame of it can be decoded.*\[no_frames\]"):
        probe(path)
    monkeypatch.setattr("extract.video._head._MOST_PACKETS", 40)
    with pytest.raises(VideoError, match=r"no frame of its first 40 packets \(0 MiB\).*\[no_frames\]"):
        probe(path)


def test_late_key_frame_is_found(tmp_path: Path) -> None:
    path = encode(tmp_path / "late.ts", regular(250), gop=125)
    data = path.read_bytes()
    packets = [data[k : k + 188] for k in range(0, len(data), 188)]
    with av.open(str(path)) as container:
        sizes = [packet.size for packet in container.demux(video=0)]
    path.write_bytes(b"".join(packets[:2] + packets[3 + sizes[0] // 184 + 10 :]))
    rows, _ = read(path)
    assert indices(rows)[0] >= 100
    assert all(damaged or round((t - rows[0][0]) * 25) == i - rows[0][1] for t, i, damaged in rows)
    assert index_of(next(read_frames(path)).pixels[0]) == rows[0][1]


@pytest.mark.parametrize("as_url", [False, True])
def test_a_playlist_contacts_no_server(tmp_path: Path, *, as_url: bool) -> None:
    path = tmp_path / "list.m3u8"
    callers = []

    class Caller(BaseRequestHandler):
        def handle(self) -> None:
            callers.append(self.client_address)

    with TCPServer(("127.0.0.1", 0), Caller) as server:
        place = f"http://127.0.0.1:{server.server_address[1]}/a.ts"
        path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{place}\n#EXT-X-ENDLIST\n")
        Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(VideoError, match="not_media"):
            probe(path.as_uri() if as_url else path)
        server.shutdown()
    assert not callers


def test_head_is_bounded_where_frames_are_rare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rare.mkv"
    rate = Fraction(1)
    with av.open(str(path), "w") as container:
        stream, sound = add_video(container, rate=rate), add_sound(container)
        fill(stream, regular(30, rate))
        fill_sound(sound, 30)
    whole = probe(path)
    monkeypatch.setattr("extract.video._head._ENOUGH_OF_ALL", 10)
    short = probe(path)
    assert short.estimated_frames == whole.estimated_frames == 30
    assert short.duration_s == pytest.approx(whole.duration_s)
