"""Video whose bytes are still to come: the frames of the whole, from files that grow and from pipes."""

import os
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from footage import encode, overwrite_packets, read, regular, uneven

from extract.errors import UsageError, VideoError
from extract.video import Feed, VideoReader, follow_video, open_video

FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}
STREAMED: dict[str, Callable[[Path], Path]] = {
    "h264.mkv": lambda p: encode(p, regular(260), options={"bf": "3"}),
    "uneven.mkv": lambda p: encode(p, uneven(), tick=regular(2)[1] / 40),
    "vp9.webm": lambda p: encode(p, regular(60), codec="libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8"}),
    "late-start.ts": lambda p: encode(p, [t + 2 for t in regular(60)], options={"bf": "2"}),
    "fragments.mp4": lambda p: encode(p, regular(260), options={"bf": "3"}, container_options=FRAGMENTS),
    "index-first.mp4": lambda p: encode(p, regular(60), container_options={"movflags": "faststart"}),
    "counted.avi": lambda p: encode(p, regular(60), codec="mpeg4", options={"bf": "2"}),
    "program.mpg": lambda p: encode(p, regular(60), codec="mpeg2video", options={"bf": "2"}),
    "flash.flv": lambda p: encode(p, regular(60)),
    "raw.h264": lambda p: encode(p, regular(60)),
}
Frame = tuple[float, bytes, bool]


def frames_of(reader: VideoReader) -> tuple[list[Frame], float | None]:
    with reader:
        frames = [
            (float(time_s), pixels.tobytes(), bool(damaged))
            for batch in reader
            for pixels, time_s, damaged in zip(batch.pixels, batch.pts_s, batch.damaged, strict=True)
        ]
        return frames, reader.report.display_end_s


def write(path: Path, data: bytes, pieces: int = 8, pause_s: float = 0.02) -> threading.Thread:
    """A thread that writes ``data`` to a file or a named pipe, bit by bit."""

    def run() -> None:
        with path.open("ab", buffering=0) as file:
            for at in range(0, len(data), size):
                time.sleep(pause_s)
                file.write(data[at : at + size])

    size = max(1, -(-len(data) // pieces))
    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("name", STREAMED)
@pytest.mark.parametrize("fps", [None, 7.0])
def test_frames_are_those_of_the_whole(name: str, fps: float | None, tmp_path: Path, pipe: Path) -> None:
    whole = STREAMED[name](tmp_path / name)
    writer = write(pipe, whole.read_bytes())
    with Feed(str(pipe)) as feed:
        assert frames_of(follow_video(feed, fps=fps, short_side=32)) == frames_of(
            open_video(whole, fps=fps, short_side=32)
        )
    writer.join()


def test_a_file_is_followed_until_it_rests(tmp_path: Path) -> None:
    whole, growing = encode(tmp_path / "whole.mkv", regular(60)), tmp_path / "growing.mkv"
    growing.touch()
    writer = write(growing, whole.read_bytes(), pause_s=0.1)
    with Feed(str(growing), idle_s=1.0) as feed:
        assert frames_of(follow_video(feed)) == frames_of(open_video(whole))
    writer.join()


def test_damage_is_flagged_as_in_the_whole(tmp_path: Path) -> None:
    path = encode(tmp_path / "x.ts", regular(100), options={"bf": "2"})
    overwrite_packets(path, range(30, 32))
    rows, report = read(path)
    with Feed(str(path), idle_s=0) as feed, follow_video(feed) as reader:
        damaged = [bool(batch.damaged[0]) for batch in reader]
        assert (damaged, reader.report.damaged_spans_s) == ([row[2] for row in rows], report.damaged_spans_s)
    assert any(damaged)


def test_an_index_at_the_end_is_told_from_the_first_bytes(tmp_path: Path, pipe: Path) -> None:
    whole = encode(tmp_path / "x.mp4", regular(30)).read_bytes()
    with pipe.open("r+b", buffering=0) as file, Feed(str(pipe)) as feed:
        file.write(whole[:200])  # and the pipe stays open
        with pytest.raises(VideoError, match="frag_keyframe") as refused:
            follow_video(feed)
    assert refused.value.reason == "index_last"


@pytest.mark.parametrize(
    ("data", "reason"), [(b"", "empty"), (b"no video " * 99, "not_media"), (b"\0" * 9, "not_media")]
)
def test_what_is_no_video_is_refused(data: bytes, reason: str, pipe: Path) -> None:
    writer = write(pipe, data, pieces=1)
    with Feed(str(pipe)) as feed, pytest.raises(VideoError) as refused:
        follow_video(feed)
    assert refused.value.reason == reason
    writer.join()


def test_sources_that_cannot_be_followed_are_named(tmp_path: Path) -> None:
    for source, reason in ((tmp_path, "folder"), (tmp_path / "none.mkv", "missing")):
        with pytest.raises(VideoError) as refused:
            Feed(str(source))
        assert refused.value.reason == reason
    terminal, other = os.openpty()
    with pytest.raises(UsageError, match="terminal"):
        Feed(os.ttyname(other))
    os.close(terminal)
    os.close(other)
    with pytest.raises(UsageError, match="ffmpeg -i URL"):
        Feed("https://example.org/live.ts")
    with pytest.raises(UsageError, match="idle_s"):
        Feed(str(tmp_path), idle_s=-1)


def test_a_file_that_shrinks_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.ts"
    path.write_bytes(bytes(100))
    with Feed(str(path)) as feed:
        feed.begin(keep=False)
        feed.read(100)
        path.write_bytes(b"")
        with pytest.raises(OSError, match="shorter"):
            feed.read(100)


def test_waiting_can_be_ended(tmp_path: Path, pipe: Path) -> None:
    path = tmp_path / "x.ts"
    path.touch()
    for source in (path, pipe):
        with Feed(str(source), idle_s=60) as feed:
            threading.Timer(0.1, feed.end).start()
            assert feed.read(10) == b""


def test_only_the_beginning_is_kept(pipe: Path) -> None:
    writer = write(pipe, bytes(30_000_000), pieces=300, pause_s=0)
    with Feed(str(pipe)) as feed:
        assert len(feed.peek(1000)) == 1000
        feed.begin(keep=False)
        tracemalloc.start()
        read_bytes = sum(map(len, pieces(feed)))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    writer.join()
    assert (read_bytes, peak < 2_000_000) == (30_000_000, True)


def pieces(feed: Feed) -> Iterator[bytes]:
    while data := feed.read(2**16):
        yield data
