"""The process that decodes for another one; it ends as soon as that one is gone."""

import os
import queue
import resource
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any

from extract.errors import UntrimmedError, VideoError
from extract.video import _progress
from extract.video._probe import probe
from extract.video._reader import open_video
from extract.video._records import FrameBatch, ReadReport, VideoInfo
from extract.video._wire import receive, send

_MOST_BYTES = 8 << 30
_ALIVE_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Probe:
    """Asks for a `VideoInfo`."""

    path: str


@dataclass(frozen=True, slots=True)
class Read:
    """Asks for `Opened` and then for `Frames`. ``options`` as in `open_video`."""

    path: str
    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Opened:
    """The video is open, and gives frames of ``size`` = (width, height)."""

    info: VideoInfo
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Frames:
    """A batch, None after the last one, and the report up to it."""

    batch: FrameBatch | None
    report: ReadReport


@dataclass(frozen=True, slots=True)
class Alive:
    """Ready; or nothing to hand over yet, but decoding goes on."""


class _Server:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._requests: queue.SimpleQueue[object] = queue.SimpleQueue()

    def run(self) -> None:
        self._send(Alive())
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._show_life, daemon=True).start()
        while True:
            request = self._requests.get()
            try:
                self._answer(request)
            except UntrimmedError as error:
                self._send(error)
            except MemoryError:
                detail = f"decoding it takes more memory than the {_most_bytes() / 2**30:.1f} GiB allowed; leave it out"
                self._send(VideoError(getattr(request, "path", ""), "out_of_memory", detail))
            except Exception as error:  # whatever a strange file brings about
                path = getattr(request, "path", "")
                self._send(VideoError(path, "unexpected", f"{type(error).__name__}: {error}"))

    def _answer(self, request: object) -> None:
        if isinstance(request, Probe):
            self._send(probe(request.path))
        elif isinstance(request, Read):
            with open_video(request.path, **request.options) as reader:
                self._send(Opened(reader.info, reader.size))
                for batch in reader:
                    self._send(Frames(batch, reader.report))
            self._send(Frames(None, reader.report))

    def _send(self, message: object) -> None:
        with self._sending:
            try:
                send(self._connection, message)
            except OSError:
                os._exit(0)  # nobody listens any more

    def _listen(self) -> None:
        """Take requests also while decoding, so that the other side's end is noticed at any time."""
        while True:
            try:
                self._requests.put(receive(self._connection))
            except (EOFError, OSError):
                os._exit(0)

    def _show_life(self) -> None:
        last = 0
        while True:
            time.sleep(_ALIVE_EVERY_S)
            if _progress.packets != last:
                last = _progress.packets
                self._send(Alive())


def main(connection_number: int) -> None:
    """Answer the requests that come over the inherited socket, for ever."""
    most = _most_bytes()
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    _Server(socket.socket(fileno=connection_number)).run()


def _most_bytes() -> int:
    """How much memory this process may take."""
    _, allowed = resource.getrlimit(resource.RLIMIT_DATA)
    return _MOST_BYTES if allowed == resource.RLIM_INFINITY else min(allowed, _MOST_BYTES)
