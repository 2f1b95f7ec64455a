"""Signs of damage that the decoders hide, each on a file broken for it; and headers that hold absurd figures."""

import struct
import threading
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from footage import burn, encode, regular
from fuzzing import Child, Row, intact, rows_of
from mutations import BASES

from extract.video import open_video
from extract.video._clock import displayed
from extract.video._damage import hindsight
from extract.video._decoded import Decoded
from extract.video._probe import inspect


def read(path: Path) -> list[Row]:
    with open_video(path) as reader:
        return list(rows_of(iter(reader)))


def copy_without(source: Path, target: Path, number: int) -> Path:
    """The file without one of its packets."""
    with av.open(str(source)) as before, av.open(str(target), "w") as after:
        stream = after.add_stream_from_template(before.streams.video[0], opaque=True)
        packets = [packet for packet in before.demux(video=0) if packet.size]
        for packet in packets[:number] + packets[number + 1 :]:
            packet.stream = stream
            after.mux(packet)
    return target


@pytest.mark.parametrize(
    "name", ["matroska.mkv", "open.mkv", "transport.ts", "flash.flv", "hevc.ts", "vp9.webm", "av1.mkv"]
)
def test_frames_around_a_lost_one_are_flagged(tmp_path: Path, name: str) -> None:
    base = BASES[name](tmp_path / name)
    right = {row.digest for row in read(base)}
    for number in range(1, 59, 5):
        rows = read(copy_without(base, tmp_path / f"lost-{name}", number))
        assert all(row.damaged or row.digest in right for row in rows), number
        assert sum(row.digest in right for row in rows) > 40


@pytest.mark.parametrize("name", ["slices.mkv", "mpeg4.mp4", "mpeg2.ts", "mjpeg.avi", "prores.mov", "av1.mkv"])
def test_frames_that_a_complaint_concerns_are_flagged(tmp_path: Path, name: str) -> None:
    """Noise late in a picture: the frames that refer to it are wrong, some of which are shown before it."""
    base = BASES[name](tmp_path / name)
    good = intact(base)
    right = {row.digest for row in good.rows}
    with av.open(str(base)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size and p.pos is not None]
    wrong = 0
    for number in range(2, 58, 4):
        data, (position, size) = bytearray(base.read_bytes()), places[number]
        noisy = slice(position + size * 3 // 4, position + size)
        data[noisy] = np.random.default_rng(number).bytes(len(data[noisy]))
        path = tmp_path / f"noisy-{name}"
        path.write_bytes(data)
        rows = read(path)
        wrong += sum(
            row.index != good.rows[k].index and not row.damaged for k, row in enumerate(rows) if len(rows) == 60
        )
        assert sum(row.digest in right for row in rows) > 40
    assert wrong <= 1


def test_complaints_of_other_threads_do_not_count(tmp_path: Path) -> None:
    good = BASES["mpeg4.mp4"](tmp_path / "good.mp4")
    data = bytearray(good.read_bytes())
    data[2000:15000:200] = np.random.default_rng(0).bytes(len(data[2000:15000:200]))
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(data)
    assert any(row.damaged for row in read(bad))
    done = threading.Event()

    def complain() -> None:
        while not done.is_set():
            read(bad)

    thread = threading.Thread(target=complain)
    thread.start()
    try:
        assert not any(row.damaged for _ in range(20) for row in read(good))
    finally:
        done.set()
        thread.join()


def test_one_wrong_time_does_not_shift_the_frames_after_it(tmp_path: Path) -> None:
    source = inspect(str(encode(tmp_path / "plain.mp4", regular(10))))
    times = [Fraction(k, 25) for k in range(20)]
    own: list[Fraction | None] = [*times]
    own[4], own[12] = times[9], Fraction(2**50)
    frames = [Decoded(k, t, None, key=False, damaged=False, picture=lambda: burn(0)) for k, t in enumerate(own)]
    shown = list(displayed(frames, source))
    assert all(b.start > a.start for a, b in pairwise(shown))
    assert all(s.decoded.damaged or s.start == times[k] for k, s in enumerate(shown))
    assert [k for k, s in enumerate(shown) if s.decoded.damaged] == [4, 5, 6, 7, 8, 9, 12]


def test_a_lone_frame_far_from_its_neighbours_has_no_time() -> None:
    own = [Fraction(k, 25) for k in range(8)]
    own[3], own[6] = Fraction(500), Fraction(-7)
    frames = [Decoded(k, t, None, key=False, damaged=False, picture=lambda: burn(0)) for k, t in enumerate(own)]
    out = [event for event in hindsight(frames) if isinstance(event, Decoded)]
    assert [event.number for event in out] == list(range(8))
    assert [event.number for event in out if event.damaged and event.pts is None] == [3, 6]
    assert sum(event.damaged for event in out) == 2
    restart = [Fraction(k % 4, 25) + 5 * (k < 4) for k in range(8)]
    frames = [Decoded(k, t, None, key=False, damaged=False, picture=lambda: burn(0)) for k, t in enumerate(restart)]
    assert list(hindsight(frames)) == frames


def patched(atom: bytes, offset: int, value: bytes) -> Callable[[bytes], bytes]:
    """Bytes with ``value`` at ``offset`` after the name of the first ``atom``."""

    def patch(data: bytes) -> bytes:
        place = data.index(atom) + len(atom) + offset
        return data[:place] + value + data[place + len(value) :]

    return patch


LARGE, LARGE_16 = b"\xff\xff\xff\xff", b"\xff\xff"
ABSURD: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "coded size": ("plain.mp4", patched(b"avc1", 24, LARGE_16 + LARGE_16)),
    "display size": ("plain.mp4", patched(b"tkhd", 76, LARGE + LARGE)),
    "time unit 0": ("plain.mp4", patched(b"mdhd", 12, bytes(4))),
    "time unit 1e-9 s": ("plain.mp4", patched(b"mdhd", 12, struct.pack(">I", 10**9))),
    "time unit 1 s": ("plain.mp4", patched(b"mdhd", 12, struct.pack(">I", 1))),
    "duration": ("plain.mp4", patched(b"mdhd", 16, LARGE)),
    "film duration": ("plain.mp4", patched(b"mvhd", 16, LARGE)),
    "2^31 time entries": ("plain.mp4", patched(b"stts", 4, b"\x7f\xff\xff\xff")),
    "2^31 samples in an entry": ("plain.mp4", patched(b"stts", 8, b"\x7f\xff\xff\xff")),
    "steps of 2^32 ticks": ("plain.mp4", patched(b"stts", 12, LARGE)),
    "steps of 0 ticks": ("plain.mp4", patched(b"stts", 12, bytes(4))),
    "2^31 sizes": ("plain.mp4", patched(b"stsz", 8, b"\x7f\xff\xff\xff")),
    "2^31 samples of one size": ("plain.mp4", patched(b"stsz", 4, b"\0\0\0\1\x7f\xff\xff\xff")),
    "samples of 2^31 bytes": ("plain.mp4", patched(b"stsz", 4, b"\x7f\xff\xff\xff")),
    "2^31 chunks": ("plain.mp4", patched(b"stco", 4, b"\x7f\xff\xff\xff")),
    "2^31 shifts": ("plain.mp4", patched(b"ctts", 4, b"\x7f\xff\xff\xff")),
    "shift of -2^31": ("plain.mp4", patched(b"ctts", 12, b"\x80\0\0\0")),
    "fragment at the end of time": ("fragmented.mp4", patched(b"tfdt", 4, b"\x7f" + b"\xff" * 7)),
    "2^31 samples in a fragment": ("fragmented.mp4", patched(b"trun", 4, b"\x7f\xff\xff\xff")),
    "avi: rate 1/0": ("mpeg4.avi", patched(b"strh", 24, bytes(4))),
    "avi: rate 0": ("mpeg4.avi", patched(b"strh", 28, bytes(4))),
    "avi: rate 2^32": ("mpeg4.avi", patched(b"strh", 28, LARGE)),
    "avi: size": ("mpeg4.avi", patched(b"strf", 8, b"\xff\xff\0\0\xff\xff\0\0")),
    "flv: late": ("flash.flv", lambda data: data[:-4] + LARGE),
    "mkv: unit of 2^24 ns": ("matroska.mkv", patched(b"\x2a\xd7\xb1\x83", 0, b"\xff\xff\xff")),
    "mkv: frame of 1 ns": ("matroska.mkv", patched(b"\x23\xe3\x83\x84", 0, b"\0\0\0\1")),
    "mkv: size": ("matroska.mkv", patched(b"\xb0\x81", 0, b"\xff")),
    "gif: size": ("anim.gif", patched(b"GIF89a", 0, LARGE)),
    "raw: no frame for long": ("raw.h264", lambda data: data[:200] + bytes(2**25) + data[200:]),
    "ts: no frame for long": ("transport.ts", lambda data: data[:376] + data[376:564] * 2**17 + data[376:]),
}


def test_absurd_headers_neither_hang_nor_blow_up(tmp_path: Path) -> None:
    files = {name: BASES[name](tmp_path / name) for name in {name for name, _ in ABSURD.values()}}
    bases = {name: intact(path) for name, path in files.items()}
    child, failures = Child(tmp_path, bases), []
    for what, (name, patch) in ABSURD.items():
        path = tmp_path / f"absurd-{name}"
        path.write_bytes(patch(files[name].read_bytes()))
        outcome = child.read(path, [name], limit_s=20)
        print(what, outcome.ending, dict(outcome.verdicts), f"{outcome.seconds:.2f} s, {outcome.peak_mb:.0f} MB")
        bad = outcome.ending.startswith(("hang", "crash", "foreign")) or outcome.peak_mb > 1000
        if bad or any(outcome.verdicts[lie] for lie in ("spoilt", "misplaced", "unordered", "noise")):
            failures.append(f"{what}: {outcome}")
    child.close()
    assert not failures, "\n".join(failures)
