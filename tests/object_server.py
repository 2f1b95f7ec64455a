"""Object storage for tests: moto's S3 server on this machine, and a proxy before it that fails on purpose."""

import os
import random
import socket
import ssl
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

_FAULTS = ("500", "503", "reset", "lost", "lost 500", "cut", "slow")
_SLOW_S = 0.02
_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}


def s3_env(endpoint: str) -> dict[str, str]:
    """The variables by which clients of S3 find the server at ``endpoint``."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test-key",
        "AWS_SECRET_ACCESS_KEY": "test-secret",
        "AWS_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
    }


def use_s3(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Have this process, and those it starts, use the server at ``endpoint`` and nothing of the user's."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in s3_env(endpoint).items():
        monkeypatch.setenv(name, value)


def new_bucket(endpoint: str) -> str:
    """Make an empty bucket; its name."""
    name = f"bucket-{uuid4().hex}"
    server = HTTPConnection(urlsplit(endpoint).netloc, timeout=30)
    server.request("PUT", f"/{name}")
    answer = server.getresponse()
    server.close()
    assert answer.status == 200
    return name


@contextmanager
def s3_server() -> Iterator[str]:
    """A server of S3 in this process; its endpoint."""
    from moto.server import ThreadedMotoServer  # takes a second to import

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


class Faulty(ThreadingHTTPServer):
    """A proxy before the server at ``target`` that fails every so many requests.

    Attributes:
        rate: the part of all requests that fail.
        next: kinds of failure of the next requests, before chance decides: those below, "hang", any status, or "".
        ended: set when the proxy ends, and with it those requests that it lets hang.
        faults: how often it has failed, by kind.
        requests: method and path of every request.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, target: str, seed: int, rate: float, identity: Path | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.endpoint = f"{'https' if identity else 'http'}://127.0.0.1:{self.server_port}"
        if identity:
            secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            secure.load_cert_chain(identity)
            self.socket = secure.wrap_socket(self.socket, server_side=True)
        self.target = urlsplit(target).netloc
        self.rate = rate
        self.next: deque[str] = deque()
        self.faults: Counter[str] = Counter()
        self.requests: list[str] = []
        self._chance = random.Random(seed)
        self._drawing = threading.Lock()
        self.ended = threading.Event()

    def draw(self, request: str) -> str:
        """The failure of a request, or an empty text."""
        with self._drawing:
            self.requests.append(request)
            unlucky = self._chance.random() < self.rate
            kind = self._chance.choice(_FAULTS)
            fault = self.next.popleft() if self.next else kind if unlucky else ""
            if fault:
                self.faults[fault] += 1
            return fault

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients may hang up."""


@contextmanager
def faulty(target: str, *, seed: int = 0, rate: float = 0.0, identity: Path | None = None) -> Iterator[Faulty]:
    """A proxy before the server at ``target``: statuses, resets before and after the request is done, cut answers.

    With ``identity``, a file with a key and a certificate, it speaks TLS.
    """
    with Faulty(target, seed, rate, identity) as proxy:
        serving = threading.Thread(target=proxy.serve_forever, args=(0.02,), daemon=True)
        serving.start()
        try:
            yield proxy
        finally:
            proxy.ended.set()
            proxy.shutdown()
            serving.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Faulty
    timeout: ClassVar[float] = 30.0

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.draw(f"{self.command} {self.path}")
        if fault == "hang":
            self.server.ended.wait()
        if fault in ("hang", "reset"):
            self.hang_up()
        elif fault.isdigit():
            self.fail(int(fault))
        else:
            time.sleep(_SLOW_S if fault == "slow" else 0)
            self.forward(body, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815

    def forward(self, body: bytes, fault: str) -> None:
        server = HTTPConnection(self.server.target, timeout=30)
        try:
            server.request(self.command, self.path, body, dict(self.headers))
            answer = server.getresponse()
            data = answer.read()
        finally:
            server.close()
        if fault == "lost":
            self.hang_up()
        elif fault == "lost 500":
            self.fail(500)
        else:
            self.pass_on(answer, data, cut=fault == "cut")

    def pass_on(self, answer: HTTPResponse, data: bytes, *, cut: bool) -> None:
        head = [f"HTTP/1.1 {answer.status} {answer.reason}"]
        head += [f"{name}: {value}" for name, value in answer.getheaders() if name.lower() not in _HOP]
        length = answer.getheader("Content-Length") if self.command == "HEAD" else len(data)
        head.append(f"Content-Length: {length or 0}")
        whole = "\r\n".join([*head, "", ""]).encode("latin-1") + data
        self.wfile.write(whole[: len(whole) // 2] if cut else whole)
        if cut:
            self.hang_up()

    def fail(self, status: int) -> None:
        code = {403: "AccessDenied", 404: "NoSuchBucket", 409: "ConditionalRequestConflict", 503: "SlowDown"}
        text = f"<Error><Code>{code.get(status, 'InternalError')}</Code><Message>on purpose</Message></Error>".encode()
        body = b"" if self.command == "HEAD" else text
        head = f"HTTP/1.1 {status} Failure\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
        self.wfile.write(head.encode() + body)

    def hang_up(self) -> None:
        """Reset the connection."""
        self.close_connection = True
        with suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
