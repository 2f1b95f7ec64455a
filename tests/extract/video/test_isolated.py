"""Decoding in a process of its own: the same frames, and crashes and hangs that end no more than their video."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from footage import encode, regular

from extract.errors import MachineError, UsageError, VideoError
from extract.video import DecodingProcess, VideoInfo, open_video, probe, probe_all
from extract.video._wire import receive, send


@pytest.fixture
def process() -> Iterator[DecodingProcess]:
    with DecodingProcess() as process:
        yield process


def pid(process: DecodingProcess) -> int:
    assert process._process is not None
    return process._process.pid


@pytest.mark.parametrize(
    ("name", "options"),
    [("b-frames.mp4", {}), ("b-frames.mp4", {"fps": 7.0, "short_side": 32, "start_s": 1.0}), ("uneven.mkv", {})],
)
def test_frames_are_those_of_this_process(
    process: DecodingProcess, made: dict[str, Path], name: str, options: dict[str, Any]
) -> None:
    assert process.probe(made[name]) == probe(made[name])
    with open_video(made[name], **options) as wanted, process.open_video(made[name], **options) as reader:
        assert (reader.info, reader.size) == (wanted.info, wanted.size)
        for batch, other in zip(reader, wanted, strict=True):
            np.testing.assert_array_equal(batch.pixels, other.pixels)
            np.testing.assert_array_equal(batch.pts_s, other.pts_s)
            np.testing.assert_array_equal(batch.damaged, other.damaged)
        assert reader.report == wanted.report


def test_damage_comes_through(process: DecodingProcess, broken: Path) -> None:
    with open_video(broken) as wanted, process.open_video(broken) as reader:
        assert [batch.damaged.tolist() for batch in reader] == [batch.damaged.tolist() for batch in wanted]
        assert reader.report == wanted.report


def test_errors_come_through_and_the_process_goes_on(process: DecodingProcess, plain: Path, broken: Path) -> None:
    with pytest.raises(VideoError, match="no such file"):
        process.open_video("nothing.mp4")
    first = pid(process)
    with pytest.raises(UsageError, match="fps is 0"):
        process.open_video(plain, fps=0.0)
    with pytest.raises(VideoError, match="without strict"), process.open_video(broken, strict=True) as reader:
        list(reader)
    assert process.probe(plain) == probe(plain)
    with process.open_video(plain) as reader:
        assert sum(len(batch) for batch in reader) == 60
    assert first == pid(process)


def test_a_crash_is_an_error_of_its_video(process: DecodingProcess, plain: Path) -> None:
    reader = process.open_video(plain)
    next(iter(reader))
    os.kill(pid(process), signal.SIGSEGV)
    with pytest.raises(VideoError, match=r"died \(SIGSEGV\).*leave it out") as caught:
        list(reader)
    assert (caught.value.path, caught.value.reason) == (str(plain), "decoder_crashed")
    assert process.probe(plain) == probe(plain)


def test_a_hang_is_an_error_of_its_video(plain: Path) -> None:
    with DecodingProcess(silence_s=1.0) as process:
        process.probe(plain)
        stopped = pid(process)
        os.kill(stopped, signal.SIGSTOP)
        with pytest.raises(VideoError, match="no progress for 1 s") as caught:
            process.open_video(plain)
        assert caught.value.reason == "stalled"
        assert process.probe(plain) == probe(plain)
        assert pid(process) != stopped


def test_slow_work_is_no_hang(tmp_path: Path) -> None:
    """Reading strictly, for a single frame: none comes for several times longer than the limit."""
    part = encode(tmp_path / "part.mp4", regular(240))
    path = tmp_path / "long.mp4"
    with av.open(str(path), "w") as target:
        with av.open(str(part)) as source:
            stream = target.add_stream_from_template(source.streams.video[0])
        for turn in range(300):
            with av.open(str(part)) as source:
                length = 240 * Fraction(1, 25) / source.streams.video[0].time_base
                for packet in source.demux(video=0):
                    if packet.dts is not None and packet.pts is not None:
                        packet.dts, packet.pts = packet.dts + turn * int(length), packet.pts + turn * int(length)
                        packet.stream = stream
                        target.mux(packet)
    with DecodingProcess() as process:
        process.probe(path)
        assert process._connection is not None
        process._connection.settimeout(1.0)
        began = time.monotonic()
        with process.open_video(path, fps=1e-4, strict=True) as reader:
            assert sum(len(batch) for batch in reader) == 1
        assert reader.report.decoded_frames == 72_000
        assert time.monotonic() - began > 1.5


def test_an_interrupted_question_is_not_answered_later(
    process: DecodingProcess, made: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    process.probe(made["one-key.mp4"])
    with monkeypatch.context() as patch:
        patch.setattr("extract.video._isolated.receive", interrupted)
        with pytest.raises(KeyboardInterrupt):
            process.probe(made["uneven.mkv"])
    assert process.probe(made["ntsc.mp4"]) == probe(made["ntsc.mp4"])


def test_asking_for_another_video_ends_the_last(process: DecodingProcess, made: dict[str, Path]) -> None:
    batches = iter(process.open_video(made["ntsc.mp4"]))
    next(batches)
    with process.open_video(made["uneven.mkv"]) as reader:
        with pytest.raises(VideoError, match="was stopped"):
            next(batches)
        assert sum(len(batch) for batch in reader) == 80


def test_killing_ends_waiting_at_once_and_for_good(plain: Path) -> None:
    with DecodingProcess() as process:
        process.probe(plain)
        os.kill(pid(process), signal.SIGSTOP)
        threading.Timer(0.3, process.kill).start()
        began = time.monotonic()
        with pytest.raises(VideoError, match="SIGKILL"):
            process.probe(plain)
        assert time.monotonic() - began < 20
        with pytest.raises(VideoError, match="was stopped"):
            process.probe(plain)
        process.close()
        assert process.probe(plain) == probe(plain)


def test_leaving_a_scan_does_not_wait_for_a_silent_child(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    children = []
    start = DecodingProcess._start

    def noted_start(self: DecodingProcess) -> None:
        start(self)
        children.append(pid(self))

    monkeypatch.setattr(DecodingProcess, "_start", noted_start)
    answers = probe_all([plain] * 5000, processes=2)
    next(answers)
    for child in children:
        os.kill(child, signal.SIGSTOP)
    began = time.monotonic()
    answers.close()
    assert time.monotonic() - began < 20


def test_a_lower_limit_of_memory_is_respected(plain: Path) -> None:
    code = (
        f"from extract.video import DecodingProcess\nwith DecodingProcess() as p: print(p.probe({str(plain)!r}).codec)"
    )
    command = ["bash", "-c", 'ulimit -d 4000000; exec "$0" -c "$1"', sys.executable, code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "h264\n"


def test_a_process_that_cannot_start_is_the_machines_fault(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with DecodingProcess() as process, pytest.raises(MachineError, match="can be started"):
        process.probe(plain)


def test_the_process_ends_with_the_one_that_asked(plain: Path) -> None:
    process = DecodingProcess()
    process.probe(plain)
    child = process._process
    assert child is not None
    assert process._connection is not None
    process._connection.close()
    assert child.wait(timeout=10) == 0
    process.close()


def test_leaving_early_ends_it_at_once(process: DecodingProcess, plain: Path) -> None:
    with process.open_video(plain) as reader:
        next(iter(reader))
        child = process._process
    assert child is not None
    assert child.returncode is not None


def test_many_are_probed_in_order(made: dict[str, Path], tmp_path: Path) -> None:
    paths = [*made.values(), tmp_path / "nothing.mp4", *made.values()]
    answers = list(probe_all(paths, processes=2))
    assert [answer.path for answer in answers] == [str(path) for path in paths]
    assert isinstance(answers[len(made)], VideoError)
    assert [a for a in answers if isinstance(a, VideoInfo)] == [probe(path) for path in [*made.values()] * 2]
    assert list(probe_all([])) == []


def test_messages_cross_whole() -> None:
    ours, theirs = socket.socketpair()
    message = {"big": np.arange(10**6), "empty": np.zeros((0, 3), np.uint8), "text": "é" * 1000}
    with ours, theirs:
        threading.Thread(target=send, args=(ours, message)).start()
        received = receive(theirs)
        assert isinstance(received, dict)
        np.testing.assert_array_equal(received["big"], message["big"])
        assert received["empty"].shape == (0, 3)
        assert received["text"] == message["text"]
        ours.shutdown(socket.SHUT_RDWR)
        with pytest.raises(EOFError):
            receive(theirs)
