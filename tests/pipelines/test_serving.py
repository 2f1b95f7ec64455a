"""The local server: byte ranges, and nothing but what was put on offer."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
from browser import Watched, chromium
from footage import encode, regular

from extract.errors import InputError, MachineError
from pipelines.report.html import html_page
from pipelines.report.page import report_page
from pipelines.serving import PageServer, byte_span

NAME = "../videos/%C3%A9%20a%231.webm"
VIDEO = bytes(range(256)) * 40
Answer = tuple[int, dict[str, str], bytes]


def write_page(path: Path, data: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html_page(title="t", body="", style="", script="", data=data), "utf-8")
    return path


@pytest.fixture
def page(tmp_path: Path) -> Path:
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("é a#1.webm", "b.MOV", "unlisted.webm", "notes.txt"):
        (videos / name).write_bytes(VIDEO)
    (videos / "empty.webm").touch()
    (tmp_path / "far.html").write_text("secret")
    links = ["../videos/%C3%A9%20a%231.webm", "../videos/b.MOV", "../videos/notes.txt", "../videos/empty.webm"]
    others = ["https://example.org/x.webm", "//example.org/x.webm", "a%00.webm", "", "../videos/gone.webm"]
    sub = "report_videos/0001.html"
    write_page(tmp_path / "out" / sub, {"index": "../report.html", "videos": [{"src": "../../videos/unlisted.webm"}]})
    videos_of_page = [{"src": link} for link in (*links, *others)] + [{"src": None}]
    pages = [{"href": sub}, {"href": "../deep/er/x.html"}]
    write_page(tmp_path / "deep" / "er" / "x.html", {})
    return write_page(tmp_path / "out" / "report.html", {"videos": videos_of_page, "pages": pages})


@pytest.fixture
def server(page: Path) -> Iterator[PageServer]:
    with PageServer(page) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server: PageServer, link: str, *, method: str = "GET", **headers: str) -> Answer:
    """The answer to a ``link``, relative to the page's address or, with a slash, to the server's."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    at = urlsplit(urljoin(server.urls[0], link)).path
    connection.request(method, at, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, dict(answer.headers), body


def test_the_page_and_its_videos_are_served(server: PageServer, page: Path) -> None:
    status, headers, body = ask(server, urlsplit(server.urls[0]).path)
    assert (status, body) == (200, page.read_bytes())
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    status, headers, body = ask(server, NAME)
    assert (status, body, headers["Content-Type"], headers["Accept-Ranges"]) == (200, VIDEO, "video/webm", "bytes")
    assert ask(server, "../videos/b.MOV")[1]["Content-Type"] == "video/mp4"
    status, headers, body = ask(server, NAME, method="HEAD")
    assert (status, body, headers["Content-Length"]) == (200, b"", str(len(VIDEO)))


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=10-19", 10, 20),
        ("bytes=9000-", 9000, 10240),
        ("bytes=-100", 10140, 10240),
        ("bytes=0-", 0, 10240),
        ("bytes=10000-99999", 10000, 10240),
        ("bytes=-99999", 0, 10240),
    ],
)
def test_a_range_is_answered_with_that_part(server: PageServer, asked: str, start: int, stop: int) -> None:
    status, headers, body = ask(server, NAME, Range=asked)
    assert (status, body) == (206, VIDEO[start:stop])
    assert headers["Content-Range"] == f"bytes {start}-{stop - 1}/10240"
    assert headers["Content-Length"] == str(stop - start)


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "bytes=9-3", "bytes=-", "lines=1-2", f"bytes={'9' * 30}-"])
def test_a_range_that_means_nothing_here_gets_everything(server: PageServer, asked: str) -> None:
    assert ask(server, NAME, Range=asked)[::2] == (200, VIDEO)


def test_a_range_past_the_end_is_refused(server: PageServer) -> None:
    for asked in ("bytes=10240-", "bytes=20000-20001", "bytes=-0"):
        status, headers, body = ask(server, NAME, Range=asked)
        assert (status, headers["Content-Range"], body) == (416, "bytes */10240", b"")
    assert ask(server, "../videos/empty.webm", Range="bytes=0-")[0] == 416
    assert ask(server, "../videos/empty.webm")[::2] == (200, b"")
    assert byte_span("bytes=-5", 0) == (0, 0)


def test_a_part_of_a_file_that_changed_is_not_mixed_with_the_old(server: PageServer) -> None:
    tag = ask(server, NAME)[1]["ETag"]
    assert ask(server, NAME, Range="bytes=1-2", If_Range=tag)[0] == 206
    assert ask(server, NAME, Range="bytes=1-2", If_Range='"old"')[0] == 200


def test_nothing_else_is_served(server: PageServer, tmp_path: Path) -> None:
    token = urlsplit(server.urls[0]).path.split("/")[1]
    assert token not in ask(server, "/")[1].values()
    for link in (
        *("/", "/report.html", f"/{token}", f"/{token}/", f"/{'x' * len(token)}{tmp_path}/out/report.html"),
        *(f"/{token}{tmp_path}/out", f"/{token}{tmp_path}/out/", f"/{token}/etc/passwd", f"/{token}//etc/passwd"),
        *(f"/{token}{tmp_path}/out/../far.html", f"/{token}{tmp_path}/out/%2e%2e/far.html", "../far.html"),
        *("../videos/unlisted.webm", "../videos/notes.txt", "../videos/gone.webm", "../deep/er/x.html"),
    ):
        assert ask(server, link)[::2] == (404, b""), link


def test_links_of_the_file_system_lead_to_videos_alone(server: PageServer, tmp_path: Path) -> None:
    video, videos = tmp_path / "videos" / "b.MOV", tmp_path / "videos"
    for target, status in ((videos / "unlisted.webm", 200), (videos / "notes.txt", 404), (tmp_path / "gone", 404)):
        video.unlink()
        video.symlink_to(target)
        assert ask(server, "../videos/b.MOV")[0] == status
    video.unlink()
    os.mkfifo(video)
    assert ask(server, "../videos/b.MOV")[0] == 404
    video.unlink()
    video.mkdir()
    assert ask(server, "../videos/b.MOV")[0] == 404


def test_a_linked_page_brings_its_own_videos(server: PageServer) -> None:
    assert ask(server, "../videos/unlisted.webm")[0] == 404
    assert ask(server, "report_videos/0001.html")[0] == 200
    assert ask(server, "../videos/unlisted.webm")[0] == 200


def test_another_name_or_method_is_refused(server: PageServer) -> None:
    at, port = urlsplit(server.urls[0]).path, server.server_port
    assert ask(server, at, Host=f"LOCALHOST:{port}")[0] == 200
    for host in ("example.org", f"example.org:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}"):
        assert ask(server, at, Host=host)[::2] == (403, b"")
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        status, headers, _ = ask(server, at, method=method)
        assert (status, headers["Allow"]) == (405, "GET, HEAD")


def test_it_listens_on_this_machine_alone_and_says_when_a_port_is_taken(server: PageServer, page: Path) -> None:
    assert server.server_address[0] == "127.0.0.1"
    with pytest.raises(MachineError, match=f"port {server.server_port} cannot be opened"):
        PageServer(page, server.server_port)


def test_a_browser_that_hangs_up_is_no_error(
    server: PageServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "videos" / "b.MOV").open("r+b") as video:
        video.truncate(200_000_000)
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
    path = urlsplit(server.urls[0]).path.replace("out/report.html", "videos/b.MOV")
    connection.request("GET", path)
    assert connection.getresponse().read(10) == VIDEO[:10]
    connection.close()
    assert ask(server, NAME)[0] == 200
    assert capfd.readouterr() == ("", "")


def test_a_folder_shows_its_report_first(page: Path, tmp_path: Path) -> None:
    write_page(page.parent / "a.html", {})
    with PageServer(page.parent) as server:
        assert [url.rpartition("/")[2] for url in server.urls] == ["report.html", "a.html"]
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="without a page"):
        PageServer(tmp_path / "none")
    with pytest.raises(InputError, match="does not exist"):
        PageServer(tmp_path / "gone.html")
    with pytest.raises(InputError, match="is no page"):
        PageServer(tmp_path / "videos" / "notes.txt")


def test_pages_of_others_are_shown_without_links(tmp_path: Path) -> None:
    for number, text in enumerate(("hello", '<script id="data" type="application/json">{</script>')):
        (tmp_path / f"{number}.html").write_text(text)
        with PageServer(tmp_path / f"{number}.html") as server:
            assert len(server.urls) == 1


def test_the_command_prints_the_address_and_ends_well(page: Path) -> None:
    command = [sys.executable, "-m", "pipelines.cli", "view", str(page), "--no-browser", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    printed = "".join(iter(process.stdout.readline, "}\n")) + "}"
    parts = urlsplit(json.loads(printed)["url"])
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    connection.request("GET", parts.path)
    assert connection.getresponse().status == 200
    connection.close()
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == 0


def test_a_browser_that_returns_late_is_answered(page: Path, tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    asked = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=20).status, flush=True)"
    browser.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c '{asked}' \"$1\"\n")
    browser.chmod(0o755)
    command = [sys.executable, "-m", "pipelines.cli", "view", str(page)]
    environment = {**os.environ, "BROWSER": str(browser)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    printed = [process.stdout.readline() for _ in range(2)]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert printed[0].startswith("http://127.0.0.1:")
    assert (printed[1], process.returncode) == ("200\n", 0)


def test_a_browser_seeks_in_a_video_of_the_page(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    encode(tmp_path / "videos" / "a.webm", regular(250), codec="libvpx-vp9", options={"deadline": "realtime"}, gop=50)
    shown = {
        **{"id": "a", "src": "../videos/a.webm", "duration_s": 10.0, "fps": 25.0, "width": 96, "height": 64},
        **{"notes": [], "curves": None, "boxes": None, "thumbs": [], "truth": None},
        "predicted": {"label": [0], "start": [7.0], "stop": [8.0], "score": [0.9]},
    }
    payload = {
        **{"title": "t", "made": "2026-11-26", "task": "localize", "classes": ["jump"], "metrics": {}, "notes": []},
        **{"protocol": None, "provenance": [], "threshold": 0.5, "tiou": 0.5, "formats": ["activitynet"]},
        **{"index": None, "pages": None, "videos": [shown]},
    }
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.html").write_text(report_page(payload), "utf-8")
    with PageServer(tmp_path / "out") as server, chromium() as browser:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        watched = Watched(browser.new_context())
        watched.page.goto(server.urls[0])
        watched.page.wait_for_function("document.querySelector('video')?.readyState >= 2")
        at_s = watched.page.evaluate(
            """() => new Promise((done) => {
                const video = document.querySelector("video");
                video.onseeked = () => done([video.currentTime, video.seekable.end(0)]);
                video.currentTime = 7.5;
            })"""
        )
        server.shutdown()
        thread.join()
    assert at_s == pytest.approx([7.5, 10.0], abs=0.05)
    assert watched.complaints == []
    assert all(
        url.startswith((server.urls[0].partition("report")[0][:40], "blob:", "data:")) for url in watched.requests
    )
