"""Reading videos in a process of its own, so that a decoder that crashes or hangs is an error like any other."""

import json
import os
import queue
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from extract.errors import MachineError, UntrimmedError, VideoError
from extract.video._child import Alive, Frames, Opened, Probe, Read
from extract.video._records import FrameBatch, ReadReport, VideoInfo
from extract.video._wire import receive, send

_SILENCE_S = 60.0
_STARTS = 3
_START = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from extract.video._child import main
main(int(sys.argv[2]))
"""
_PROBED_AHEAD = 1024
_Answer = TypeVar("_Answer")


class DecodingProcess:
    """A child process that reads one video after the other; a context manager.

    It starts with its first video. If it crashes, or makes no progress for ``silence_s`` seconds, that video is a
    VideoError (``decoder_crashed``, ``stalled``) and the next one gets a new process. MachineError where none can be
    started.
    """

    def __init__(self, silence_s: float = _SILENCE_S) -> None:
        self._silence_s = silence_s
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._killed = False
        self.reader: IsolatedReader | None = None

    def __enter__(self) -> "DecodingProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def probe(self, path: str | Path) -> VideoInfo:
        """`extract.video.probe` in the child process, with its errors and those of the class."""
        self._ask(Probe(str(path)))
        return self.answer(str(path), VideoInfo)

    def open_video(self, path: str | Path, **options: Any) -> "IsolatedReader":  # noqa: ANN401
        """`extract.video.open_video` in the child process, with its errors and those of the class.

        One video at a time: asking for another one ends the reading of the last.
        """
        self._ask(Read(str(path), options))
        self.reader = IsolatedReader(self, str(path), self.answer(str(path), Opened))
        return self.reader

    def kill(self) -> None:
        """End the child process at once, from any thread, for good until `close`."""
        self._killed = True
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        """End the child process, whatever it is doing; the next video gets a new one."""
        self._end()
        self._killed = False

    def _end(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = self._connection = self.reader = None

    def answer(self, path: str, kind: type[_Answer]) -> _Answer:
        """The next message, which is of this ``kind``; what the child raised is raised here."""
        try:
            message = self._receive()
        except TimeoutError as error:
            self._end()
            detail = f"no progress for {self._silence_s:g} s, given up; copy the file to a fast disk, or leave it out"
            raise VideoError(path, "stalled", detail) from error
        except (EOFError, OSError) as error:
            raise self._crash(path) from error
        except BaseException:  # what is still to come would answer the next question
            self._end()
            raise
        if isinstance(message, UntrimmedError):
            self.reader = None
            raise message
        assert isinstance(message, kind)  # noqa: S101
        return message

    def _receive(self) -> object:
        assert self._connection is not None  # noqa: S101 - only called after a request
        while isinstance(message := receive(self._connection), Alive):
            pass
        return message

    def _ask(self, request: Probe | Read) -> None:
        if not self._killed and (self._process is None or self._process.poll() is not None or self.reader):
            self._end()
            self._start()
        if self._killed:
            raise stopped(request.path)
        assert self._connection is not None  # noqa: S101
        try:
            send(self._connection, request)
        except OSError as error:
            raise self._crash(request.path) from error

    def _start(self) -> None:
        """Start the child, and again should it die before it is ready, as one does that is killed from outside."""
        for left in reversed(range(_STARTS)):
            try:
                self._start_once()
            except (OSError, EOFError) as error:
                self._end()
                if isinstance(error, EOFError) and left and not self._killed:
                    continue
                raise MachineError(f"no process for decoding can be started ({error}); free some memory") from error
            except BaseException:
                self._end()
                raise
            else:
                return

    def _start_once(self) -> None:
        self._connection, theirs = socket.socketpair()
        self._connection.settimeout(self._silence_s)
        with theirs:
            arguments = [sys.executable, "-P", "-c", _START, json.dumps(sys.path), str(theirs.fileno())]
            self._process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for the process that the user started
            )
        receive(self._connection)  # it is alive

    def _crash(self, path: str) -> VideoError:
        assert self._process is not None  # noqa: S101
        code = self._process.wait()
        self._end()
        how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        detail = f"the process that decoded it died ({how}); leave it out, or try another --decoder"
        return VideoError(path, "decoder_crashed", detail)


class IsolatedReader:
    """The frames of a video that a `DecodingProcess` reads; used as an `extract.video.VideoReader` is.

    Attributes:
        info: what the file is.
        size: (width, height) in pixels of every frame.
    """

    def __init__(self, process: DecodingProcess, path: str, opened: Opened) -> None:
        self.info, self.size = opened.info, opened.size
        self._process, self._path = process, path
        self._report: ReadReport | None = None
        self._batches = self._read()

    @property
    def report(self) -> ReadReport:
        """What happened up to the last batch; ``report.finished`` after all."""
        assert self._report is not None, "asked before the first batch"  # noqa: S101
        return self._report

    def __enter__(self) -> "IsolatedReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave; a video that is not read to its end costs its process."""
        if self._process.reader is self:
            self._process.close()

    def __iter__(self) -> Iterator[FrameBatch]:
        return self._batches

    def _read(self) -> Iterator[FrameBatch]:
        while True:
            if self._process.reader is not self:
                raise stopped(self._path)
            frames = self._process.answer(self._path, Frames)
            self._report = frames.report
            if frames.batch is None:
                self._process.reader = None
                return
            yield frames.batch


def stopped(path: str) -> VideoError:
    """The error of a reading that was ended from outside."""
    return VideoError(path, "stopped", "its reading was stopped; start it again")


def probe_all(paths: Sequence[str | Path], processes: int | None = None) -> Iterator[VideoInfo | VideoError]:
    """Probe many videos in so many isolated ``processes`` (default: one a core); answers in the order of ``paths``.

    Raises:
        MachineError: no process can be started, or the package for a URL is not installed.
    """
    count = max(1, min(processes or os.cpu_count() or 1, len(paths)))
    with ExitStack() as stack:
        everyone = [stack.enter_context(DecodingProcess()) for _ in range(count)]
        free: queue.SimpleQueue[DecodingProcess] = queue.SimpleQueue()
        for process in everyone:
            free.put(process)

        def answer(path: str | Path) -> VideoInfo | VideoError:
            process = free.get()
            try:
                return process.probe(path)
            except VideoError as error:
                return error
            finally:
                free.put(process)

        pool = stack.enter_context(ThreadPoolExecutor(count))
        try:
            for first in range(0, len(paths), _PROBED_AHEAD):
                yield from pool.map(answer, paths[first : first + _PROBED_AHEAD])
        except BaseException:  # nobody shall wait for a child that is silent
            for process in everyone:
                process.kill()
            raise
