"""Downloads, from a web server that this module runs and that misbehaves on request."""

import hashlib
import json
import os
import pwd
import random
import re
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from extract import download
from extract.download import cache_folder, cached, fetch
from extract.errors import InputError, MachineError, UsageError

DATA = random.Random(0).randbytes(1_000_000)
CUT = 300_000
SHA256 = hashlib.sha256(DATA).hexdigest()
ETAG, DATE = '"first"', "Mon, 06 Jul 2026 10:00:00 GMT"


@dataclass
class Request:
    """What a client asked for."""

    path: str
    range: str | None
    if_range: str | None
    agent: str
    login: str | None


@dataclass
class Site:
    """What the server does; each list is used up from its front, one entry a request.

    At a cut the connection ends, or is reset; the first ``stalls`` of them only wait until ``released``.
    """

    data: bytes = DATA
    etag: str = ETAG
    date: str = DATE
    ranges: bool = True
    names_length: bool = True
    heeds_if_range: bool = True
    content_type: str = "application/octet-stream"
    content_range: str = ""
    location: str = "/moved/weights.pth?sig=SECRET"
    statuses: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    resets: bool = False
    stalls: int = 0
    released: threading.Event = field(default_factory=threading.Event)
    asked: list[Request] = field(default_factory=list)
    url: str = ""

    @property
    def ranges_asked(self) -> list[str | None]:
        return [request.range for request in self.asked]


class Server(ThreadingHTTPServer):
    site: Site

    def handle_error(self, *_: object) -> None:
        """Clients that go away are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        site, head = self.server.site, self.headers
        asked = (head["Range"], head["If-Range"], head["User-Agent"], head["Authorization"])
        site.asked.append(Request(self.path, *asked))
        if site.statuses and (status := site.statuses.pop(0)) != 200:
            return self.refuse(status)
        start = self.start()
        if start >= len(site.data):
            return self.refuse(416)
        self.send_response(206 if start else 200)
        self.describe(start)
        return self.send_body(site.data[start:])

    def refuse(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        if status == 302:
            self.send_header("Location", self.server.site.location)
        self.end_headers()

    def start(self) -> int:
        site, wanted, version = self.server.site, self.headers["Range"], self.headers["If-Range"]
        if wanted is None or not site.ranges:
            return 0
        if site.heeds_if_range and version not in (site.etag, site.date):
            return 0
        return int(wanted.removeprefix("bytes=").removesuffix("-"))

    def describe(self, start: int) -> None:
        site = self.server.site
        total = len(site.data)
        lines = {
            "Content-Length": str(total - start) if site.names_length else "",
            "Content-Range": site.content_range or f"bytes {start}-{total - 1}/{total}" if start else "",
            "Content-Type": site.content_type,
            "ETag": site.etag,
            "Last-Modified": site.date,
        }
        for name, value in lines.items():
            if value:
                self.send_header(name, value)
        self.end_headers()

    def send_body(self, body: bytes) -> None:
        site = self.server.site
        if not site.cuts:
            self.wfile.write(body)
            return
        cut = site.cuts.pop(0)
        self.wfile.write(body[:cut])
        if site.stalls:
            site.stalls -= 1
            site.released.wait(10)
            self.wfile.write(body[cut:])
        elif site.resets:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def site() -> Iterator[Site]:
    server = Server(("127.0.0.1", 0), Handler)
    server.site = Site(url=f"http://127.0.0.1:{server.server_port}/models/weights.pth")
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server.site
    server.site.released.set()
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def pauses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A cache of its own, no proxy, and back-off that takes no time: the pauses asked for, in seconds."""
    pauses: list[float] = []
    monkeypatch.setenv("UNTRIMMED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "sleep", pauses.append)
    return pauses


def beside(url: str, suffix: str) -> Path:
    path = download._place(url)
    return path.with_name(path.name + suffix)


def interrupt(site: Site) -> int:
    """Leave a part file, as Ctrl-C does; returns its bytes."""

    def on_progress(done_bytes: int, total_bytes: int | None) -> None:
        if done_bytes >= CUT:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(site.url, on_progress=on_progress)
    assert cached(site.url) is None
    site.asked.clear()
    return beside(site.url, ".part").stat().st_size


def leftovers() -> set[str]:
    """The kinds of files in the cache, by what their names end in."""
    return {path.name.partition("weights.pth")[2] for path in cache_folder().iterdir()}


def test_a_file_is_fetched_once(site: Site) -> None:
    seen: list[tuple[int, int | None]] = []
    assert cached(site.url) is None
    assert not cache_folder().exists()
    path = fetch(site.url, on_progress=lambda *numbers: seen.append(numbers))
    assert path.read_bytes() == DATA
    assert path == cached(site.url) == fetch(site.url)
    assert (seen[0], seen[-1], seen) == ((0, len(DATA)), (len(DATA), len(DATA)), sorted(seen))
    assert len(site.asked) == 1
    assert site.asked[0].agent.startswith("untrimmed/0.")
    assert leftovers() == {"", ".json", ".lock"}


def test_the_record_says_where_the_file_came_from(site: Site) -> None:
    url = site.url.replace("//", "//user:hunter2@") + "?sig=SECRET"
    path = fetch(url)
    record = json.loads(beside(url, ".json").read_text())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", record.pop("date"))
    assert record == {"url": site.url, "size_bytes": len(DATA), "sha256": SHA256}
    assert (site.asked[0].path, site.asked[0].login) == ("/models/weights.pth?sig=SECRET", "Basic dXNlcjpodW50ZXIy")
    assert "SECRET" not in path.name


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("UNTRIMMED_CACHE", "~/mine")
    assert cache_folder() == tmp_path / "mine/weights"
    monkeypatch.setenv("UNTRIMMED_CACHE", "")
    assert cache_folder() == Path("/xdg/untrimmed/weights")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == tmp_path / ".cache/untrimmed/weights"
    assert not cache_folder().exists()


def test_a_user_without_a_home_is_told_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_: int) -> None:
        raise KeyError("uid not found")

    for name in ("UNTRIMMED_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(MachineError, match="in UNTRIMMED_CACHE"):
        cache_folder()


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("/a/r3d_18-b3b3357e.pth", "r3d_18-b3b3357e.pth"),
        ("/a/..", ".."),
        ("/a/%2e%2e%2fetc%2fpasswd", "_2e_2e_2fetc_2fpasswd"),
        ("/a/;rm -rf $HOME".replace(" ", "%20"), "_rm_20-rf_20_HOME"),
        ("/a/", "weights"),
        ("", "weights"),
        ("/" + "x" * 999 + ".pth", "x" * 96 + ".pth"),
    ],
)
def test_names_are_harmless(place: str, name: str) -> None:
    path = download._place("https://example.org" + place)
    assert path.parent == cache_folder()
    assert re.fullmatch(r"[0-9a-f]{12}-" + re.escape(name), path.name)


def test_one_name_at_two_addresses_is_two_files(site: Site) -> None:
    other = site.url.replace("models", "others")
    fetch(site.url)
    site.data = b"other"
    assert fetch(other).read_bytes() == b"other"
    assert fetch(site.url + "?version=2").read_bytes() == b"other"
    assert fetch(site.url).read_bytes() == DATA
    assert len(site.asked) == 3


def test_a_user_and_a_fragment_do_not_change_the_place() -> None:
    assert download._place("http://u:pw@h/w.pth#top") == download._place("http://h/w.pth")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/w.pth",
        "file:///etc/passwd",
        "/home/w.pth",
        "http://",
        "http:///w.pth",
        "http://user:hunter2@h:port/w.pth",
        "http://h/a b.pth",
        "http://h/é.pth",
        "http://h/w.pth\r\nX: y",
        f"http://{'h' * 64}/w.pth",
    ],
)
def test_other_addresses_are_refused(url: str) -> None:
    for ask in (fetch, cached):
        with pytest.raises(UsageError, match=r"expected http://HOST/… or https://") as caught:
            ask(url)
        assert "hunter2" not in str(caught.value)


def test_an_interrupted_download_goes_on(site: Site) -> None:
    done = interrupt(site)
    seen: list[int] = []
    assert fetch(site.url, on_progress=lambda bytes_, _: seen.append(bytes_)).read_bytes() == DATA
    assert [(r.range, r.if_range) for r in site.asked] == [(f"bytes={done}-", ETAG)]
    assert CUT <= done == seen[0] < seen[-1] == len(DATA)
    assert leftovers() == {"", ".json", ".lock"}


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_without_a_strong_etag_the_date_guards_the_rest(site: Site, etag: str) -> None:
    site.etag = etag
    done = interrupt(site)
    assert fetch(site.url).read_bytes() == DATA
    assert [(r.range, r.if_range) for r in site.asked] == [(f"bytes={done}-", DATE)]


def test_without_a_version_it_starts_from_zero(site: Site) -> None:
    site.etag = site.date = ""
    interrupt(site)
    site.data = DATA[::-1]
    assert fetch(site.url).read_bytes() == DATA[::-1]
    assert site.ranges_asked == [None]


def test_a_server_without_ranges_starts_from_zero(site: Site) -> None:
    site.ranges = False
    done = interrupt(site)
    assert fetch(site.url).read_bytes() == DATA
    assert site.ranges_asked == [f"bytes={done}-"]


@pytest.mark.parametrize("length", [len(DATA), len(DATA) + 1, CUT + 1])
def test_a_changed_file_starts_from_zero(site: Site, length: int) -> None:
    interrupt(site)
    site.data, site.etag, site.date = random.Random(1).randbytes(length), '"second"', "Tue, 07 Jul 2026 10:00:00 GMT"
    assert fetch(site.url).read_bytes() == site.data
    assert len(site.asked) == 1


@pytest.mark.parametrize("change", [{"etag": '"second"'}, {"data": DATA[:-1]}, {"content_range": "bytes 0-9/10"}])
def test_a_server_that_sends_another_part_starts_from_zero(site: Site, change: dict[str, object]) -> None:
    site.heeds_if_range = False
    done = interrupt(site)
    vars(site).update(change)
    assert fetch(site.url).read_bytes() == site.data
    assert site.ranges_asked == [f"bytes={done}-", None]


def test_a_part_beyond_the_end_starts_from_zero(site: Site) -> None:
    site.heeds_if_range = False
    done = interrupt(site)
    site.data = DATA[:1000]
    assert fetch(site.url).read_bytes() == site.data
    assert site.ranges_asked == [f"bytes={done}-", None]


def test_a_whole_part_needs_no_server(site: Site) -> None:
    interrupt(site)
    beside(site.url, ".part").write_bytes(DATA)
    assert fetch(site.url, sha256_prefix=SHA256).read_bytes() == DATA
    assert site.asked == []


@pytest.mark.parametrize("note", ["", "[]", '{"version": 3, "total_bytes": "x"}'])
def test_a_broken_note_starts_from_zero(site: Site, note: str) -> None:
    interrupt(site)
    beside(site.url, ".part.json").write_text(note)
    assert fetch(site.url).read_bytes() == DATA
    assert site.ranges_asked == [None]


@pytest.mark.parametrize("resets", [False, True], ids=["short", "reset"])
def test_a_lost_connection_goes_on_after_a_pause(site: Site, pauses: list[float], resets: bool) -> None:
    site.resets, site.cuts = resets, [CUT, CUT, CUT]
    assert fetch(site.url, sha256_prefix=SHA256[:8]).read_bytes() == DATA
    starts = [int(wanted.removeprefix("bytes=").removesuffix("-")) for wanted in site.ranges_asked if wanted]
    assert pauses == list(download._PAUSES_S)
    assert len(site.asked) == 4
    assert starts == sorted(starts)
    if not resets:  # a reset may drop what the machine had not read yet
        assert starts == [CUT, 2 * CUT, 3 * CUT]


def test_a_silent_server_times_out_and_is_asked_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_TIMEOUT_S", 0.1)
    site.cuts, site.stalls = [CUT], 1
    assert fetch(site.url).read_bytes() == DATA
    assert len(site.asked) >= 2  # more on a machine so busy that this module's server is late, too


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_status_is_asked_again(site: Site, pauses: list[float], status: int) -> None:
    site.statuses = [status]
    assert fetch(site.url).read_bytes() == DATA
    assert (len(site.asked), pauses) == (2, [1.0])


def test_a_redirect_is_followed_with_the_range_and_without_the_password(site: Site) -> None:
    site.url = site.url.replace("//", "//user:hunter2@")
    done = interrupt(site)
    site.statuses = [302]
    assert fetch(site.url).read_bytes() == DATA
    assert [(r.path, r.range) for r in site.asked] == [
        ("/models/weights.pth", f"bytes={done}-"),
        ("/moved/weights.pth?sig=SECRET", f"bytes={done}-"),
    ]
    assert site.asked[0].login is not None
    assert site.asked[1].login is None


def test_a_server_that_keeps_failing_is_named_with_the_ways_out(site: Site) -> None:
    site.cuts = [100_000] * 4
    with pytest.raises(
        MachineError, match=r"ended after 400,000 of 1,000,000 bytes; what has arrived is kept"
    ) as caught:
        fetch(site.url)
    assert str(caught.value).startswith(site.url + ": ")
    assert f"put it at {download._place(site.url)}, or pass it as --weights FILE" in str(caught.value)
    assert cached(site.url) is None
    assert fetch(site.url).read_bytes() == DATA
    assert site.ranges_asked[-1] == "bytes=400000-"


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_not_asked_again(site: Site, pauses: list[float], status: int) -> None:
    site.statuses = [status]
    url = site.url.replace("//", "//user:hunter2@") + "?sig=SECRET"
    with pytest.raises(InputError, match=rf"the server answered {status} .*--weights FILE") as caught:
        fetch(url)
    assert str(caught.value).startswith(site.url + ": ")
    assert not re.search("hunter2|SECRET", str(caught.value))
    assert (len(site.asked), pauses) == (1, [])


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_file_is_an_error(site: Site, status: int) -> None:
    site.statuses = [status]
    with pytest.raises((MachineError, InputError), match=f"answered {status}"):
        fetch(site.url)
    assert cached(site.url) is None


@pytest.mark.parametrize("location", ["/moved/weights.pth?sig=SECRET", "file://user:hunter2@h/etc/passwd?sig=SECRET"])
def test_a_redirect_that_leads_nowhere_shows_no_secrets(site: Site, location: str) -> None:
    site.statuses, site.location = [302] * 99, location
    with pytest.raises(InputError, match="answered 302") as caught:
        fetch(site.url)
    assert not re.search("hunter2|SECRET", str(caught.value))


def test_a_web_page_is_no_checkpoint(site: Site) -> None:
    site.content_type = "text/html; charset=utf-8"
    with pytest.raises(MachineError, match=r"sent a web page.*expected a file of weights"):
        fetch(site.url)
    assert (len(site.asked), leftovers()) == (1, {".lock"})


def test_without_a_server_there_are_ways_out(pauses: list[float]) -> None:
    url = "http://user:hunter2@127.0.0.1:1/weights.pth?sig=SECRET"
    with pytest.raises(MachineError, match=r"^http://127.0.0.1:1/weights.pth: the server cannot be reached") as caught:
        fetch(url)
    assert f"put it at {download._place(url)}, or pass it as --weights FILE" in str(caught.value)
    assert not re.search("hunter2|SECRET", str(caught.value))
    assert pauses == []


def test_a_host_without_an_address_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    with pytest.raises(MachineError, match=r"cannot be reached \(.*not known\).*--weights FILE"):
        fetch("https://weights.invalid/weights.pth")


@pytest.mark.parametrize("prefix", ["", SHA256[:8], SHA256.upper()])
def test_a_file_put_by_hand_is_taken(site: Site, prefix: str) -> None:
    site.statuses = [404]
    with pytest.raises(InputError, match="put it at") as caught:
        fetch(site.url)
    path = Path(re.findall(r"put it at ([^,]+),", str(caught.value))[0])
    path.write_bytes(DATA)
    assert path == fetch(site.url, sha256_prefix=prefix) == cached(site.url)
    assert len(site.asked) == 1


def test_a_wrong_file_put_by_hand_is_named_and_kept(site: Site) -> None:
    path = download._place(site.url)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    mine = hashlib.sha256(b"mine").hexdigest()
    with pytest.raises(InputError, match=f"{path} was put there by hand.*{mine}.*{SHA256[:8]}"):
        fetch(site.url, sha256_prefix=SHA256[:8])
    assert path.read_bytes() == b"mine"
    assert site.asked == []


def test_a_cache_that_may_only_be_read_serves(site: Site) -> None:
    path = fetch(site.url)
    beside(site.url, ".lock").unlink()
    path.parent.chmod(0o555)
    try:
        assert fetch(site.url, sha256_prefix=SHA256[:8]) == path
        assert leftovers() == {"", ".json"}
    finally:
        path.parent.chmod(0o755)


def test_another_digest_is_an_error_and_nothing_stays(site: Site) -> None:
    wrong = "0" * 8
    with pytest.raises(
        InputError, match=f"has SHA-256 {SHA256}, expected one that begins with {wrong}; it was removed"
    ):
        fetch(site.url, sha256_prefix=wrong)
    assert leftovers() == {".lock"}
    assert fetch(site.url, sha256_prefix=SHA256[:8]).read_bytes() == DATA


def test_a_cached_file_of_another_digest_is_fetched_anew(site: Site) -> None:
    fetch(site.url)
    site.data = b"new"
    assert fetch(site.url, sha256_prefix=hashlib.sha256(b"new").hexdigest()[:8]).read_bytes() == b"new"


@pytest.mark.parametrize("length", [0, CUT, len(DATA) + 1])
def test_a_file_of_another_size_than_recorded_is_fetched_anew(site: Site, length: int) -> None:
    path = fetch(site.url)
    path.write_bytes(bytes(length))
    assert cached(site.url) is None
    assert fetch(site.url).read_bytes() == DATA
    assert site.ranges_asked == [None, None]


def test_a_broken_record_is_not_trusted(site: Site) -> None:
    fetch(site.url)
    beside(site.url, ".json").write_text("{")
    assert cached(site.url) is None
    assert fetch(site.url).read_bytes() == DATA
    assert json.loads(beside(site.url, ".json").read_text())["sha256"] == SHA256


def test_a_stale_file_does_not_hide_one_put_by_hand(site: Site) -> None:
    path = fetch(site.url)
    path.write_bytes(b"broken")
    site.statuses = [404]
    with pytest.raises(InputError):
        fetch(site.url)
    assert cached(site.url) is None
    path.write_bytes(b"by hand")
    assert fetch(site.url).read_bytes() == b"by hand"


def test_without_a_length_the_end_is_the_end(site: Site) -> None:
    site.names_length = False
    seen: set[int | None] = set()
    assert fetch(site.url, on_progress=lambda _, total: seen.add(total)).read_bytes() == DATA
    assert seen == {None}


def test_without_a_length_the_digest_finds_a_short_file(site: Site) -> None:
    site.names_length, site.cuts = False, [CUT]
    with pytest.raises(InputError, match="SHA-256"):
        fetch(site.url, sha256_prefix=SHA256[:8])
    assert cached(site.url) is None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, where every write finds the disk full")
def test_a_full_disk_is_named_with_the_variable(site: Site) -> None:
    cache_folder().mkdir(parents=True)
    beside(site.url, ".part").symlink_to("/dev/full")
    with pytest.raises(MachineError, match=f"^{cache_folder()}: the disk is full.*UNTRIMMED_CACHE"):
        fetch(site.url)
    assert (cached(site.url), len(site.asked)) == (None, 1)


def test_a_cache_that_is_no_folder_is_named_with_the_variable(site: Site, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    for ask in (fetch, cached):
        with pytest.raises(MachineError, match=f"^{cache_folder()}: .*Not a directory.*UNTRIMMED_CACHE"):
            ask(site.url)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_cannot_be_written_is_named_with_the_variable(site: Site) -> None:
    cache_folder().mkdir(parents=True, mode=0o555)
    with pytest.raises(MachineError, match=f"^{cache_folder()}: .*Permission denied.*UNTRIMMED_CACHE"):
        fetch(site.url)


def test_an_error_of_the_progress_display_is_its_own(site: Site) -> None:
    def on_progress(done_bytes: int, total_bytes: int | None) -> None:
        raise BrokenPipeError("the reader of stdout is gone")

    with pytest.raises(BrokenPipeError, match="stdout"):
        fetch(site.url, on_progress=on_progress)


def start_process(url: str) -> "subprocess.Popen[str]":
    """Another process that fetches, and prints the bytes that have arrived."""
    code = (
        f"from extract.download import fetch\nprint('ready', flush=True)\n"
        f"fetch({url!r}, on_progress=lambda done, total: print(done, flush=True))"
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def wait_for(process: "subprocess.Popen[str]", done_bytes: int) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip().isdigit() and int(line) >= done_bytes:
            return
    raise AssertionError("the process ended early")


def finish(process: "subprocess.Popen[str]") -> list[str]:
    """What the process printed from here on; it must have succeeded."""
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    return output.split()


def test_two_processes_fetch_one_file_once(site: Site) -> None:
    site.cuts, site.stalls = [CUT], 1
    first = start_process(site.url)
    wait_for(first, CUT // 2)
    second = start_process(site.url)
    assert second.stdout is not None
    assert second.stdout.readline() == "ready\n"
    site.released.set()
    assert finish(first)[-1] == str(len(DATA))
    assert finish(second) == []
    path = cached(site.url)
    assert path is not None
    assert path.read_bytes() == DATA
    assert len(site.asked) == 1


def test_the_next_goes_on_where_a_killed_process_stopped(site: Site) -> None:
    site.cuts, site.stalls = [CUT], 1
    process = start_process(site.url)
    wait_for(process, CUT // 2)
    process.kill()
    process.communicate(timeout=20)
    done = beside(site.url, ".part").stat().st_size
    assert fetch(site.url, sha256_prefix=SHA256).read_bytes() == DATA
    assert site.ranges_asked == [None, f"bytes={done}-"]
    assert done >= CUT // 2
