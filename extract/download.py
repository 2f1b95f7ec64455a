"""Published checkpoint files, fetched once over http or https into a folder of this user's cache.

Beside the file ``NAME`` lie ``NAME.json`` (where it came from), ``NAME.lock`` (held while one process downloads)
and, until it is whole, ``NAME.part`` and ``NAME.part.json`` (which version of the file the part belongs to).
"""

import errno
import fcntl
import hashlib
import json
import os
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPException, HTTPResponse
from importlib.metadata import version
from pathlib import Path
from time import sleep
from typing import TypeAlias
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import Request, build_opener

from extract.cache import file_sha256
from extract.errors import InputError, MachineError, UntrimmedError, UsageError
from extract.urls import text_without_secrets, without_secrets

Progress: TypeAlias = Callable[[int, int | None], None]  # bytes that have arrived, of how many (None: unknown)

_PAUSES_S = (1.0, 3.0, 9.0)  # before each further try
_TIMEOUT_S = 30.0
_CHUNK_BYTES = 1 << 16
_ADDRESS = re.compile(r"https?://[!-~]+", re.IGNORECASE)
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_PASSING = {408, 425, 429}  # of the 4xx statuses, those that another try may change
_BAD_RANGE = 416
_FULL = {errno.ENOSPC, errno.EDQUOT}


class _RequestError(Exception):
    """A request failed: ``passes`` where another try may help; ``public`` is the error to raise in the end."""

    def __init__(self, what: str, *, passes: bool, public: type[UntrimmedError] = MachineError) -> None:
        super().__init__(what)
        self.passes, self.public = passes, public


@dataclass(frozen=True, slots=True)
class _Part:
    """What earlier tries left: its size, the size of the whole, and the version (ETag or date) of the whole."""

    size_bytes: int = 0
    total_bytes: int = 0
    version: str = ""


def say_nothing(done_bytes: int, total_bytes: int | None) -> None:
    """Progress for nobody."""


def cache_folder() -> Path:
    """The folder of downloaded weights, by UNTRIMMED_CACHE, else XDG_CACHE_HOME; it need not exist.

    Raises:
        MachineError: it would be in the home folder, and this user has none.
    """
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = os.environ.get("UNTRIMMED_CACHE") or f"{caches}/untrimmed"
    try:
        return Path(folder).expanduser().absolute() / "weights"
    except RuntimeError as error:
        raise MachineError(f"{folder}: {error}; name a folder for downloads in UNTRIMMED_CACHE") from error


def cached(url: str) -> Path | None:
    """The whole file behind ``url``, downloaded or put there by hand; None without one. Asks no server.

    Raises:
        UsageError: ``url`` is not an http or https URL.
        MachineError: the cache folder cannot be read.
    """
    path = _place(url)
    with _explained(path.parent):
        return path if _is_usable(path, "") else None


def fetch(url: str, *, sha256_prefix: str = "", on_progress: Progress = say_nothing) -> Path:
    """The whole file behind ``url`` in the cache, downloaded first when it is not there.

    A download that was cut short goes on where it stopped, if the server still has the same file.

    Args:
        url: an http or https URL, percent-encoded; it may hold a user and password.
        sha256_prefix: the first hex digits of the file's SHA-256, as many as are known.
        on_progress: called with the bytes in place and those of the whole file, or None where the server does not
            say; the first falls back to 0 when the server cannot go on where it stopped.

    Raises:
        UsageError: ``url`` is not an http or https URL.
        InputError: the server refuses the file (403, 404 …), or the file is not the one with ``sha256_prefix``.
        MachineError: the server cannot be reached or keeps failing, or the cache folder cannot be written.
    """
    path, prefix = _place(url), sha256_prefix.lower()
    with _explained(path.parent):
        if _is_usable(path, prefix):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with _exclusive(path):
            if not _is_usable(path, prefix):  # another process may have brought it meanwhile
                _bring(url, path, prefix, on_progress)
    return path


def _place(url: str) -> Path:
    parts = _checked(url)
    name = _UNSAFE.sub("_", parts.path.rpartition("/")[2])[-100:] or "weights"
    address = f"{parts.scheme}://{_host(parts)}{parts.path}?{parts.query}"
    return cache_folder() / f"{hashlib.sha256(address.encode()).hexdigest()[:12]}-{name}"


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna")
        usable = _ADDRESS.fullmatch(url) is not None and host != b"" and parts.port != 0
    except ValueError:  # its message may hold a password
        usable = False
    if not usable:
        raise UsageError(f"{without_secrets(url)}: expected http://HOST/… or https://HOST/…, percent-encoded")
    return parts


def _host(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _is_usable(path: Path, prefix: str) -> bool:
    """Whether the file is there and is what its record says; without a record, it was put there by hand."""
    record = _read_json(_beside(path, ".json"))
    if not path.is_file():
        return False
    if record is not None:
        return record.get("size_bytes") == path.stat().st_size and str(record.get("sha256")).startswith(prefix)
    if prefix and not (digest := file_sha256(path)).startswith(prefix):
        raise InputError(
            f"{path} was put there by hand and has SHA-256 {digest}, expected one that begins with {prefix}; "
            "remove it, or pass it as --weights FILE if it is meant"
        )
    return True


def _bring(url: str, path: Path, prefix: str, on_progress: Progress) -> None:
    """Download to ``path``; whatever is there is stale, and its record must not outlive it."""
    part = _beside(path, ".part")
    path.unlink(missing_ok=True)
    _beside(path, ".json").unlink(missing_ok=True)
    try:
        _download(url, part, on_progress)
    except _RequestError as error:
        what = text_without_secrets(str(error), url)
        if error.public is MachineError and _left(part).size_bytes:
            what += "; what has arrived is kept, and the same command goes on from there"
        raise error.public(
            f"{without_secrets(url)}: {what}. Check the network and the address, or get the file in another way and "
            f"put it at {path}, or pass it as --weights FILE"
        ) from error
    _finish(url, part, path, prefix)


def _download(url: str, part: Path, on_progress: Progress) -> None:
    for pause_s in _PAUSES_S:
        try:
            return _try_once(url, part, on_progress)
        except _RequestError as error:
            if not error.passes:
                raise
            sleep(pause_s)
    return _try_once(url, part, on_progress)


def _try_once(url: str, part: Path, on_progress: Progress) -> None:
    """Complete the part file by one request, or raise _RequestError with what arrived kept for the next."""
    left = _left(part)
    if left.size_bytes and left.size_bytes == left.total_bytes:
        return
    with _answer(url, part, left) as response:
        if response.status == 206:
            _check_continues(response, left, part)
            total: int | None = left.total_bytes
        else:
            total = response.length
            _start_over(part, total, _version(response))
        _receive(response, part, total, on_progress)


def _left(part: Path) -> _Part:
    """What of the part file can be continued: nothing, unless its version and the size of the whole are known."""
    note = _read_json(_beside(part, ".json")) or {}
    whole, total = note.get("version"), note.get("total_bytes")
    if not part.is_file() or not isinstance(whole, str) or not isinstance(total, int) or not (whole and total):
        return _Part()
    return _Part(part.stat().st_size, total, whole)


def _start_over(part: Path, total: int | None, whole: str) -> None:
    """Empty the part file, then note what comes; in the other order a crash could join two versions."""
    part.open("wb").close()
    _write_json(_beside(part, ".json"), {"version": whole, "total_bytes": total})


@contextmanager
def _answer(url: str, part: Path, left: _Part) -> Iterator[HTTPResponse]:
    """The response with a file or the wanted part of it; anything else is a _RequestError."""
    with _translated(part):
        # An opener of its own: urlopen keeps the proxies of its first call for ever.
        response: HTTPResponse = build_opener().open(_request(url, left), timeout=_TIMEOUT_S)
    with response:
        if response.status not in (200, 206):
            raise _RequestError(f"the server answered {response.status}, expected 200", passes=False)
        if response.headers.get_content_type() == "text/html":
            raise _RequestError("the server sent a web page (a login?), expected a file of weights", passes=False)
        yield response


def _request(url: str, left: _Part) -> Request:
    parts = _checked(url)
    address = parts._replace(netloc=_host(parts), fragment="").geturl()
    request = Request(address, headers={"User-Agent": f"untrimmed/{version('untrimmed')}"})  # noqa: S310 - as above
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        request.add_unredirected_header("Authorization", f"Basic {b64encode(login).decode()}")
    if left.size_bytes:
        request.add_header("Range", f"bytes={left.size_bytes}-")
        request.add_header("If-Range", left.version)
    return request


def _version(response: HTTPResponse) -> str:
    """What If-Range may name: a strong ETag, else the date, else nothing."""
    etag = response.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")


def _check_continues(response: HTTPResponse, left: _Part, part: Path) -> None:
    """Raise unless the response is the rest of the same file, whatever the server thinks of If-Range."""
    wanted = f"bytes {left.size_bytes}-{left.total_bytes - 1}/{left.total_bytes}"
    if response.headers.get("Content-Range") != wanted or _version(response) not in ("", left.version):
        _discard(part)
        raise _RequestError(f"the server sent another part of the file than {wanted}", passes=True)


def _receive(response: HTTPResponse, part: Path, total: int | None, on_progress: Progress) -> None:
    with part.open("ab") as file:
        on_progress(file.tell(), total)
        while chunk := _read(response, part):
            file.write(chunk)
            on_progress(file.tell(), total)
        if total is not None and file.tell() != total:
            raise _RequestError(f"the connection ended after {file.tell():,} of {total:,} bytes", passes=True)


def _read(response: HTTPResponse, part: Path) -> bytes:
    with _translated(part):
        return response.read(_CHUNK_BYTES)


@contextmanager
def _translated(part: Path) -> Iterator[None]:
    """Errors of the network become _RequestError, so that those of the disk are the only OSErrors left."""
    try:
        yield
    except HTTPError as error:
        error.close()
        if error.code == _BAD_RANGE:
            _discard(part)
        passes = error.code >= 500 or error.code in {_BAD_RANGE, *_PASSING}
        public = InputError if error.code < 500 else MachineError
        raise _RequestError(f"the server answered {error.code} {error.reason}", passes=passes, public=public) from error
    except URLError as error:  # not connected: a reset may pass; 30 s without an answer, or no network, will not soon
        passes = isinstance(error.reason, ConnectionResetError | BrokenPipeError)
        raise _RequestError(f"the server cannot be reached ({error.reason})", passes=passes) from error
    except (OSError, HTTPException) as error:
        raise _RequestError(f"the connection failed ({type(error).__name__}: {error})", passes=True) from error


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _beside(part, ".json").unlink(missing_ok=True)


def _finish(url: str, part: Path, path: Path, prefix: str) -> None:
    """Check the part file, make it durable, and only then give it its name."""
    digest = file_sha256(part)
    if not digest.startswith(prefix):
        _discard(part)
        raise InputError(
            f"{without_secrets(url)}: what arrived has SHA-256 {digest}, expected one that begins with {prefix}; "
            "it was removed. Try again; if this stays, the published file changed: pass a good copy as --weights FILE"
        )
    _sync(part)
    part.replace(path)
    size = path.stat().st_size
    date = datetime.now(UTC).isoformat(timespec="seconds")
    record = {"url": without_secrets(url), "size_bytes": size, "sha256": digest, "date": date}
    _write_json(_beside(path, ".json"), record)
    _sync(path.parent)
    _discard(part)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_json(path: Path) -> dict[str, object] | None:
    """The object in the file; None without a file; empty where it is something else."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _write_json(path: Path, content: dict[str, object]) -> None:
    new = _beside(path, ".new")
    new.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    _sync(new)
    new.replace(path)


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Wait for, then hold, the lock of this file; it ends with its process, however that ends."""
    lock = os.open(_beside(path, ".lock"), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Errors of the disk become MachineError."""
    try:
        yield
    except (UntrimmedError, ConnectionError):  # the latter can only be the caller's, from reporting progress
        raise
    except OSError as error:
        raise MachineError(f"{folder}: {_explain(error)}") from error


def _explain(error: OSError) -> str:
    if error.errno in _FULL:
        return "the disk is full; make room, or name a folder on a larger disk in UNTRIMMED_CACHE"
    return f"cannot keep downloads ({error.strerror or error}); make it writable, or name another in UNTRIMMED_CACHE"
