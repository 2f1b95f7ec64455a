"""Files that are named by a URL, read through fsspec: http, https, s3, gs and whatever else it has a package for."""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeGuard, TypeVar

import fsspec

from extract.errors import MachineError, VideoError
from extract.urls import URL, text_without_secrets, without_secrets

_DENIED = (401, 403)
_GONE = (404, 410)
_Answer = TypeVar("_Answer")


def is_url(path: str | Path) -> TypeGuard[str]:
    """Whether ``path`` names a file by scheme, such as ``https://…``."""
    return isinstance(path, str) and URL.match(path) is not None


class RemoteFile:
    """The bytes behind a URL, read from any position, with the methods of a binary file; a context manager.

    Attributes:
        name: the URL, without its secrets.
        size: length in bytes.

    Raises:
        VideoError: when made: there is no such file, it may not be read, or only from beginning to end.
        MachineError: when made: the package for its scheme is not installed.
        OSError: when read: the storage or the network failed.
    """

    def __init__(self, url: str) -> None:
        self.name = without_secrets(url)
        self._url = url
        try:
            self._file = fsspec.open(url, "rb").open()
        except ImportError as error:
            why = text_without_secrets(str(error), url)
            raise MachineError(f"{self.name} cannot be opened: {why}, or copy the file to this machine") from error
        except Exception as error:  # each storage has exceptions of its own
            raise _refusal(url, error) from error
        if self._file.size is None:
            self._file.close()
            detail = "its server sends it only from beginning to end; copy the file to this machine"
            raise VideoError(url, "io_error", detail)
        self.size = int(self._file.size)

    def __enter__(self) -> "RemoteFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def read(self, n_bytes: int = -1) -> bytes:
        """Up to ``n_bytes`` from the current position on; all without it."""
        return self._translated(lambda: bytes(self._file.read(n_bytes)))

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to ``offset`` bytes from the start (0), from here (1) or from the end (2)."""
        return self._translated(lambda: int(self._file.seek(offset, whence)))

    def tell(self) -> int:
        """The current position in bytes."""
        return int(self._file.tell())

    def _translated(self, call: Callable[[], _Answer]) -> _Answer:
        """What ``call`` answers; whatever it raises becomes an OSError."""
        try:
            return call()
        except OSError:
            raise
        except Exception as error:  # as above
            raise OSError(text_without_secrets(f"{type(error).__name__}: {error}", self._url)) from error


def _refusal(url: str, error: Exception) -> VideoError:
    """The error to raise: for every failure of http fsspec says FileNotFoundError, and the cause tells which it is."""
    cause = error.__cause__ or error
    while isinstance(cause, FileNotFoundError) and cause.__cause__ is not None:  # one more where the URL has a query
        cause = cause.__cause__
    status = getattr(cause, "status", None)
    if status in _DENIED or isinstance(error, PermissionError):
        return VideoError(url, "permission", "the server does not let this user read it; check the credentials")
    if status in _GONE or (isinstance(error, FileNotFoundError) and error.__cause__ is None):
        return VideoError(url, "missing", "there is no such file")
    why = f"{type(cause).__name__}: {cause}".strip(": ")
    return VideoError(url, "io_error", f"cannot be opened ({why}); check the address and the network, then retry")
