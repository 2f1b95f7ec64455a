"""Reading by URL, from a web server that this module runs and from storage in memory."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest
from footage import encode, read, regular

from extract.errors import MachineError, VideoError
from extract.remote import RemoteFile
from extract.sources import fingerprint
from extract.urls import without_secrets
from extract.video import open_video, probe
from pipelines.extraction import Options, prepare, run_extraction


class Handler(BaseHTTPRequestHandler):
    """Serves ``files`` with byte ranges; what lies under /plain/ without, others fail."""

    files: dict[str, bytes]

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.wfile.write(self.answer())

    def answer(self) -> bytes:
        folder, _, name = self.path.partition("?")[0].rpartition("/")
        if folder == "/denied":
            return self.head(403, b"")
        if folder == "/failing" and self.command == "GET":
            return self.head(500, b"")
        if name not in self.files:
            return self.head(404, b"")
        data = self.files[name]
        wanted = self.headers.get("Range")
        if folder == "/plain" or wanted is None:
            return self.head(200, data, ranges="none" if folder == "/plain" else "bytes")
        first, last = wanted.removeprefix("bytes=").split("-")
        part = data[int(first) : int(last) + 1]
        return self.head(206, part, place=f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}")

    def head(self, status: int, body: bytes, *, ranges: str = "bytes", place: str = "") -> bytes:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Accept-Ranges", ranges)
        if place:
            self.send_header("Content-Range", place)
        self.end_headers()
        return body

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with its index at the end, so that reading it needs positions."""
    return encode(tmp_path_factory.mktemp("web") / "video.mp4", regular(60), options={"bf": "2"})


@pytest.fixture(scope="module")
def site(video: Path) -> Iterator[str]:
    Handler.files = {"video.mp4": video.read_bytes(), "page.mp4": b"<html>" * 99}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_url_reads_as_its_file(site: str, video: Path) -> None:
    url = f"{site}/video.mp4"
    for options in ({}, {"fps": 7.0, "start_s": 1.3, "stop_s": 2.0}):
        assert read(url, **options)[0] == read(video, **options)[0]
    info = probe(url)
    assert (info.path, info.size_bytes) == (url, video.stat().st_size)
    assert info.duration_s == probe(video).duration_s
    assert fingerprint(url) == fingerprint(video)


def with_secrets(site: str, place: str) -> str:
    return site.replace("//", "//user:hunter2@") + place + "?sig=SECRET"


def test_a_url_with_secrets_reads_and_does_not_show_them(
    site: str, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    answer = Handler.answer
    monkeypatch.setattr(
        Handler, "answer", lambda self: (asked.append((self.path, self.headers["Authorization"])), answer(self))[1]
    )
    url = with_secrets(site, "/video.mp4")
    assert read(url)[0] == read(video)[0]
    assert set(asked) == {("/video.mp4?sig=SECRET", "Basic dXNlcjpodW50ZXIy")}
    assert probe(url).path == f"{site}/video.mp4"


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("/gone.mp4", "missing"),
        ("/denied/video.mp4", "permission"),
        ("/failing/video.mp4", "io_error"),
        ("/page.mp4", "not_media"),
    ],
)
def test_errors_hold_no_secrets(site: str, place: str, reason: str) -> None:
    with pytest.raises(VideoError) as caught:
        probe(with_secrets(site, place))
    assert (caught.value.path, caught.value.reason) == (site + place, reason)
    assert str(caught.value).startswith(site + place + ": ")
    assert "hunter2" not in str(caught.value)
    assert "SECRET" not in str(caught.value)


def test_stores_hold_no_secrets(site: str, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Handler.files, "video.mp4", video.read_bytes())
    store, _ = run_extraction(with_secrets(site, "/video.mp4"), tmp_path / "f.zarr", options=Options())
    (record,) = store.catalogue.values()
    assert record.provenance["uri"] == f"{site}/video.mp4"
    monkeypatch.setitem(Handler.files, "video.mp4", encode(tmp_path / "new.mp4", regular(50)).read_bytes())
    assert prepare(f"{site}/video.mp4?sig=NEW", tmp_path / "f.zarr", Options()).videos == 1


def test_a_missing_package_is_named_without_secrets() -> None:
    with pytest.raises(MachineError, match=r"^s3://bucket/video.mp4 cannot") as caught:
        probe("s3://key:hunter2@bucket/video.mp4?sig=SECRET")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("http://user:p@ss@h:80/a b.mp4?sig=1/2#t", "http://h:80/a b.mp4#t"),
        ("zip://a.mp4::http://user:pw@h/x.zip?sig=1", "zip://a.mp4::http://h/x.zip"),
        ("s3://bucket/a@b.mp4", "s3://bucket/a@b.mp4"),
        ("/home/user:x@y/what?.mp4", "/home/user:x@y/what?.mp4"),
    ],
)
def test_what_is_shown_of_a_name(name: str, shown: str) -> None:
    assert without_secrets(name) == without_secrets(shown) == shown


def test_what_is_shown_of_a_cause() -> None:
    error = VideoError("http://u:pw@h/a b?s=1 2", "io_error", "GET 'http://h/c?sig=1' for http://u:pw@h/a b?s=1 2, 500")
    assert error.detail == "GET 'http://h/c' for http://h/a b, 500"


def test_other_storage_reads_through_its_package(video: Path) -> None:
    with fsspec.open("memory://videos/video.mp4", "wb") as file:
        file.write(video.read_bytes())
    assert read("memory://videos/video.mp4")[0] == read(video)[0]


@pytest.mark.parametrize(
    ("place", "reason", "message"),
    [
        ("/gone.mp4", "missing", "no such file"),
        ("/denied/video.mp4", "permission", "credentials"),
        ("/plain/video.mp4", "io_error", "only from beginning to end"),
        ("/failing/video.mp4", "io_error", "reading failed.*500"),
        ("/page.mp4", "not_media", "not a media file"),
    ],
)
def test_what_a_server_refuses_is_named(site: str, place: str, reason: str, message: str) -> None:
    with pytest.raises(VideoError, match=message) as caught:
        probe(site + place)
    assert (caught.value.path, caught.value.reason) == (site + place, reason)


@pytest.mark.parametrize(
    ("url", "message"),
    [("http://127.0.0.1:1/video.mp4", "cannot be opened"), ("nosuch://videos/video.mp4", "Protocol not known")],
)
def test_no_server_is_an_input_error(url: str, message: str) -> None:
    with pytest.raises(VideoError, match=message) as caught:
        probe(url)
    assert caught.value.reason == "io_error"


def test_a_missing_package_is_named() -> None:
    with pytest.raises(MachineError, match="s3fs"):
        probe("s3://bucket/video.mp4")


def test_storage_that_fails_half_way_is_an_error(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"{site}/video.mp4"
    half = probe(url).size_bytes // 2
    good_read = RemoteFile.read

    def failing_read(self: RemoteFile, n_bytes: int = -1) -> bytes:
        if self.tell() > half:
            raise OSError("connection lost")
        return good_read(self, min(n_bytes, 1000))

    with open_video(url) as reader:
        monkeypatch.setattr(RemoteFile, "read", failing_read)
        with pytest.raises(VideoError, match=r"reading failed \(.*connection lost.*\)") as caught:
            list(reader)
    assert caught.value.reason == "io_error"


@pytest.mark.parametrize("decoder", ["decord", "torchcodec"])
def test_other_decoders_say_that_they_read_files_alone(site: str, decoder: str) -> None:
    try:
        reader = open_video(f"{site}/video.mp4", decoder=decoder)
    except MachineError as error:
        pytest.skip(str(error))
    with pytest.raises(VideoError, match=r"local files alone.*--decoder pyav"):
        next(iter(reader))
