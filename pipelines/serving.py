"""A page on this machine's own address, with its videos: browsers seek in a video only where byte ranges are answered.

Nothing is served but the pages given, the pages beside them that they link to, and the videos that these name.
"""

import hmac
import json
import mimetypes
import os
import re
import secrets
import socketserver
import sys
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, unquote, urlsplit

from extract.errors import InputError, MachineError
from extract.sources import SUFFIXES

HOST = "127.0.0.1"
_DATA = re.compile(rb"<script(?=[^>]*\sid=\"data\")(?=[^>]*\stype=\"application/json\")[^>]*>(.*?)</script>", re.DOTALL)
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_LINKS = frozenset({"src", "href", "index"})
_FIRST = ("report.html", "index.html")
_PAGES = frozenset({".html", ".htm"})
_CHUNK_BYTES = 2**18
# What browsers ask of MP4 they play in a .mov too, but not under its own name.
_TYPES = {".mov": "video/mp4", ".m4v": "video/mp4", ".webm": "video/webm", ".mkv": "video/x-matroska"}
_HEADERS = {
    "Accept-Ranges": "bytes",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
    # Whoever made the page: it runs, but can tell nobody what it sees.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src 'self' data: blob:;"
        " media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}


class PageServer(ThreadingHTTPServer):
    """Serves the page ``path``, or those of the folder ``path``, on 127.0.0.1; ``serve_forever`` begins.

    Attributes:
        urls: of the pages given, the one to look at first.

    Raises:
        InputError: there is no page.
        MachineError: the port is taken.
    """

    daemon_threads = True

    def __init__(self, path: Path, port: int = 0) -> None:
        pages = _pages(path)
        self._root = pages[0].parent
        self._token = secrets.token_urlsafe(16)
        self._files: dict[str, Path] = {}
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise MachineError(
                f"port {port} cannot be opened ({error.strerror}); choose another, or 0 for any that is free"
            ) from error
        for page in pages:
            self._offer(page)
            self.offer_links(page)
        self.urls = tuple(f"http://{HOST}:{self.server_port}/{self._token}{quote(_name(page))}" for page in pages)

    def server_bind(self) -> None:
        """As of any TCP server, without asking the network for this machine's name."""
        socketserver.TCPServer.server_bind(self)
        self.server_port = self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as in the base class
        """Nothing to say where the browser hung up, as it does whenever one seeks."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    def is_asked(self, host: str) -> bool:
        """Whether ``host``, the header, names this server, and not another that was led to this address."""
        return host.lower() in (f"{HOST}:{self.server_port}", f"localhost:{self.server_port}")

    def find(self, target: str) -> Path | None:
        """The file on offer at ``target``, the path of a URL, if it begins with the token."""
        _, token, *rest = f"{target.split('?')[0]}/".split("/", 2)
        if not hmac.compare_digest(token.encode("utf-8", "surrogateescape"), self._token.encode()):
            return None
        return self._files.get("/" + unquote(rest[0].removesuffix("/"), errors="surrogateescape"))

    def offer_links(self, page: Path) -> None:
        """Put on offer what the page names: videos anywhere, pages beside the first one."""
        for link in _links(page):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or not parts.path or "\0" in unquote(parts.path):
                continue
            name = unquote(parts.path, errors="surrogateescape")
            path = Path(os.path.abspath(page.parent / name))  # noqa: PTH100 - ".." as text, as browsers take it
            is_page = path.suffix.lower() in _PAGES and self._is_beside(path)
            if is_page or path.suffix.lower() in SUFFIXES:
                self._offer(path)

    def _is_beside(self, page: Path) -> bool:
        return self._root in page.parents or page.parent == self._root.parent

    def _offer(self, path: Path) -> None:
        self._files[_name(path)] = path


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "untrimmed", ""
    timeout = 60.0
    server: PageServer

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _refuse(self) -> None:
        self.close_connection = True
        self._only(HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": "GET, HEAD"})

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _refuse  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a browser asks many times for one video."""

    def _answer(self, *, with_body: bool) -> None:
        if not self.server.is_asked(self.headers.get("Host", "")):
            self._only(HTTPStatus.FORBIDDEN)
            return
        path = self.server.find(self.path)
        if path is None:
            self._only(HTTPStatus.NOT_FOUND)
            return
        try:
            file = _opened(path)
        except OSError:
            self._only(HTTPStatus.NOT_FOUND)
            return
        with file:
            if path.suffix.lower() in _PAGES:
                self.server.offer_links(path)
            self._send(file, _content_type(path), with_body=with_body)

    def _send(self, file: BinaryIO, content_type: str, *, with_body: bool) -> None:
        status = os.fstat(file.fileno())
        size, tag = status.st_size, f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
        wanted = self.headers.get("Range", "") if self.headers.get("If-Range", tag) == tag else ""
        span = byte_span(wanted, size)
        start, stop = span or (0, size)
        if span and start >= stop:
            self._only(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, {"Content-Range": f"bytes */{size}"})
            return
        headers = {"Content-Type": content_type, "Content-Length": str(stop - start), "ETag": tag}
        if span:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        self._head(HTTPStatus.PARTIAL_CONTENT if span else HTTPStatus.OK, headers)
        if with_body:
            file.seek(start)
            self._copy(file, stop - start)

    def _copy(self, file: BinaryIO, left: int) -> None:
        while left:
            data = file.read(min(_CHUNK_BYTES, left))
            if not data:  # it was cut meanwhile
                self.close_connection = True
                return
            self.wfile.write(data)
            left -= len(data)

    def _only(self, status: HTTPStatus, headers: dict[str, str] | None = None) -> None:
        self._head(status, {"Content-Length": "0", **(headers or {})})

    def _head(self, status: HTTPStatus, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, **headers}.items():
            self.send_header(name, value)
        self.end_headers()


def byte_span(header: str, size: int) -> tuple[int, int] | None:
    """[start, stop) of what a ``Range`` header asks of ``size`` bytes; empty where it asks for what there is not.

    None, the whole, where it asks for nothing, for several ranges, or for what cannot be understood.
    """
    found = _RANGE.fullmatch(header.strip())
    first, last = found.groups() if found else ("", "")
    if not first:
        return (max(0, size - int(last)), size) if last else None
    if last and int(last) < int(first):
        return None
    return int(first), min(size, int(last) + 1) if last else size


def _opened(path: Path) -> BinaryIO:
    """The file, if it is one; what a symbolic link leads to must be a video or a page by its name, too.

    Raises:
        OSError: there is no such file.
    """
    target = path.resolve(strict=True)
    if not target.is_file() or target.suffix.lower() not in SUFFIXES | _PAGES:  # a pipe would wait for ever
        raise FileNotFoundError(target)
    return target.open("rb")


def _pages(path: Path) -> list[Path]:
    """Absolute paths of the pages at ``path``, the one to look at first."""
    place = Path(os.path.abspath(path))  # noqa: PTH100 - links of a page are meant as text
    if place.is_dir():
        pages = sorted(each for each in place.glob("*.htm*") if each.suffix.lower() in _PAGES and each.is_file())
        if not pages:
            raise InputError(f"{path}: a folder without a page (.html); make one with 'untrimmed report'")
        return sorted(pages, key=lambda page: page.name not in _FIRST)
    if not place.is_file() or place.suffix.lower() not in _PAGES:
        what = "is no page" if place.exists() else "does not exist"
        raise InputError(f"{path} {what}; expected an .html file of 'untrimmed report', or a folder of them")
    return [place]


def _name(path: Path) -> str:
    return "/" + os.fspath(path).replace(os.sep, "/").lstrip("/")


def _links(page: Path) -> Iterator[str]:
    """What the data of a page names as source, link or index."""
    found = _DATA.search(page.read_bytes())
    try:
        todo: list[Any] = [json.loads(found[1])] if found else []
    except (ValueError, RecursionError):  # not a page of ours
        return
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            yield from (link for key, link in value.items() if key in _LINKS and isinstance(link, str))
            todo += value.values()
        elif isinstance(value, list) and value and isinstance(value[0], dict | list):
            todo += value


def _content_type(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix in _PAGES:
        return "text/html; charset=utf-8"
    return _TYPES.get(suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
