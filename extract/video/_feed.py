"""Bytes that are still to come: of a pipe, or of a file that grows while it is read."""

import os
import select
import stat
import threading
import time
from types import TracebackType

from extract.errors import UsageError, VideoError
from extract.remote import is_url
from extract.video._storage import from_os_error

STDIN = "-"
_POLL_S = 0.1
_MOST_KEPT_BYTES = 2**28


class Feed:
    """The bytes of ``source`` from its first to its last, as they come; a context manager.

    A pipe ends when all its writers have closed it; a file when it has not grown for ``idle_s`` seconds. Its beginning
    can be read twice, so that it can be looked at before it is decoded; nothing else is kept.

    Args:
        source: a file, a named pipe, or "-" for standard input.
        idle_s: how long a file may rest.

    Attributes:
        name: ``source``.
        failure: the error with which the storage failed, if it did.

    Raises:
        UsageError: nothing that can be followed.
        VideoError: ``missing``, ``folder``, ``permission`` or ``io_error``.
    """

    def __init__(self, source: str, idle_s: float = 10.0) -> None:
        if not idle_s >= 0:
            raise UsageError(f"idle_s is {idle_s}; expected seconds, 0 or more")
        self.name = source
        self.failure: OSError | None = None
        self._idle_s = idle_s
        self._file = _opened(source)
        self._grows = stat.S_ISREG(os.fstat(self._file).st_mode)
        self._poll = select.poll()
        self._poll.register(self._file, select.POLLIN)
        self._asked_to_end = threading.Event()
        self._over = False
        self._kept, self._at, self._keeps = bytearray(), 0, True

    def __enter__(self) -> "Feed":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def __str__(self) -> str:
        return self.name

    def end(self) -> None:
        """Have no more bytes come, from any thread, also to a `read` that waits for some."""
        self._asked_to_end.set()

    def peek(self, n_bytes: int) -> bytes:
        """The first bytes, before `begin` without ``keep``; fewer where it ends before."""
        while len(self._kept) < n_bytes and (data := self._come(n_bytes - len(self._kept))):
            self._kept += data
        return bytes(self._kept[:n_bytes])

    def begin(self, *, keep: bool) -> None:
        """Read from the first byte again. ``keep`` what is read, within bounds, for another beginning."""
        assert self._keeps, "its beginning is gone"  # noqa: S101
        self._at, self._keeps = 0, keep

    def read(self, n_bytes: int) -> bytes:
        """The next bytes, ``n_bytes`` at most, as soon as there are any; none at the end."""
        data = bytes(self._kept[self._at : self._at + n_bytes])
        if not data and len(self._kept) < _MOST_KEPT_BYTES:
            data = self._come(n_bytes)
            if self._keeps:
                self._kept += data
        self._at += len(data)
        if not self._keeps and self._at >= len(self._kept):
            self._kept, self._at = bytearray(), 0
        return data

    def _come(self, n_bytes: int) -> bytes:
        if self._over:
            return b""
        try:
            data = self._grown(n_bytes) if self._grows else self._piped(n_bytes)
        except OSError as error:
            self.failure = error
            raise
        self._over = not data
        return data

    def _grown(self, n_bytes: int) -> bytes:
        last_s = time.monotonic()
        while not self._asked_to_end.is_set():
            data = os.read(self._file, n_bytes)
            if data or time.monotonic() - last_s >= self._idle_s:
                return data
            if os.fstat(self._file).st_size < os.lseek(self._file, 0, os.SEEK_CUR):
                raise OSError("the file became shorter while it was followed")
            self._asked_to_end.wait(_POLL_S)
        return b""

    def _piped(self, n_bytes: int) -> bytes:
        while not self._asked_to_end.is_set():
            if self._poll.poll(1000 * _POLL_S):  # nothing, as long as no writer has opened a named pipe
                try:
                    return os.read(self._file, n_bytes)
                except BlockingIOError:
                    continue
        return b""


def _opened(source: str) -> int:
    if is_url(source):
        raise UsageError(
            f"{source}: a URL cannot be followed; expected a file, a named pipe or -."
            " Let ffmpeg read it: ffmpeg -i URL -c copy -f matroska - | untrimmed predict RUN - --stream"
        )
    try:
        # A named pipe without a writer would keep everybody waiting for it to open.
        file = os.dup(0) if source == STDIN else os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise from_os_error(source, error) from error
    if stat.S_ISDIR(os.fstat(file).st_mode):
        os.close(file)
        raise VideoError(source, "folder", "is a folder; expected a video file, a named pipe or -")
    if os.isatty(file):
        os.close(file)
        raise UsageError(f"{source} is a terminal; expected a video on a pipe, such as: ffmpeg … -f matroska - | …")
    return file
