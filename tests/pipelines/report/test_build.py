"""Reports from files and runs: what the page is given, which pages are written, and what cannot be."""

import base64
import hashlib
import json
import os
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from commands import run as command
from footage import H, W, encode, regular
from reports import payload_of

from extract.errors import InputError, MachineError, UsageError
from pipelines.annotations.document import Document
from pipelines.annotations.draft import Draft, Media
from pipelines.annotations.formats import write_document
from pipelines.predictions import Curves, Predictions, write_predictions
from pipelines.report import build
from pipelines.report.build import report
from pipelines.report.payload import STRIP_COLUMNS, first_threshold, shown_videos, strip
from pipelines.report.verdicts import Rows, best_threshold, judged

HOSTILE = "</script><img src=x onerror=alert(1)>\"'&"


def rows(label: list[int], spans: list[tuple[float, float]], score: list[float] | None = None) -> Rows:
    scores = np.full(len(label), np.nan) if score is None else np.array(score)
    return Rows(np.array(label, np.int64), np.array(spans, np.float64).reshape(-1, 2), scores)


def test_verdicts_of_a_worked_example() -> None:
    truth = rows([0, 1, 1], [(0, 10), (20, 30), (40, 50)])
    predicted = rows([0, 0, 1, 0, 1], [(1, 11), (0, 10), (21, 29), (40, 50), (90, 95)], [0.9, 0.8, 0.7, 0.6, 0.5])
    found = judged(predicted, truth)
    assert found.hit.tolist() == [True, False, True, False, False]  # the first took it, though the second fits better
    assert found.wrong.tolist() == [False, False, False, True, False]
    assert found.missed.tolist() == [False, False, True]
    assert found.counts == {"hits": 2, "wrong": 1, "false_alarms": 2, "misses": 1}
    assert judged(predicted, truth, tiou=0.85).counts == {"hits": 1, "wrong": 1, "false_alarms": 3, "misses": 2}
    assert judged(rows([], []), truth).counts["misses"] == 3
    assert judged(predicted, rows([], [])).counts["false_alarms"] == 5


def judged_plainly(predicted: Rows, truth: Rows, tiou: float) -> tuple[list[bool], list[bool], list[bool]]:
    """The rules as they are told, one prediction after the other."""
    free, hit, wrong = [True] * len(truth), [False] * len(predicted), [False] * len(predicted)
    for i in sorted(range(len(predicted)), key=lambda i: (-predicted.score[i], i)):
        best, taken = 0.0, -1
        for j in range(len(truth)):
            (a, b), (c, d) = predicted.span_s[i], truth.span_s[j]
            shared = max(0.0, min(b, d) - max(a, c))
            overlap = shared / ((b - a) + (d - c) - shared)
            if overlap < tiou:
                continue
            if truth.label[j] != predicted.label[i]:
                wrong[i] = True
            elif free[j] and overlap > best:
                best, taken = overlap, j
        if taken >= 0:
            hit[i], free[taken] = True, False
    return hit, [w and not h for w, h in zip(wrong, hit, strict=True)], free


@pytest.mark.parametrize("seed", range(5))
def test_verdicts_equal_the_rules_told_plainly(seed: int) -> None:
    rng = np.random.default_rng(seed)
    start = rng.uniform(0, 100, (2, 60)).round(1)
    length = rng.uniform(1, 20, (2, 60)).round(1)
    label, score = rng.integers(0, 3, (2, 60)), rng.integers(0, 20, 60) / 20
    predicted, truth = (
        Rows(label[i], np.column_stack((start[i], start[i] + length[i])), score if not i else np.full(60, np.nan))
        for i in (0, 1)
    )
    found = judged(predicted, truth, tiou=0.3)
    hit, wrong, missed = judged_plainly(predicted, truth, 0.3)
    assert (found.hit.tolist(), found.wrong.tolist(), found.missed.tolist()) == (hit, wrong, missed)
    counts = [judged(predicted.take(predicted.score >= at), truth).counts["hits"] for at in np.arange(1, 40) / 40]
    shown = [int((predicted.score >= at).sum()) for at in np.arange(1, 40) / 40]
    f1 = [2 * h / max(1, n + 60) for h, n in zip(counts, shown, strict=True)]
    assert best_threshold([(predicted, truth)]) == pytest.approx((1 + int(np.argmax(f1))) / 40)


def test_boxes_are_judged_at_their_moment() -> None:
    box = np.array([[0.1, 0.1, 0.3, 0.3], [0.1, 0.1, 0.3, 0.3], [0.6, 0.6, 0.9, 0.9]])
    moment = [(1.0, 1.0), (2.0, 2.0), (1.0, 1.0)]
    predicted = replace(rows([0, 0, 1], moment, [0.9, 0.8, 0.7]), box=box)
    truth = replace(rows([0, 0], [(1.0, 1.0), (1.0, 1.0)]), box=box[[0, 2]])
    assert judged(predicted, truth).counts == {"hits": 1, "wrong": 1, "false_alarms": 1, "misses": 1}


def documents(names: list[str], *, scores: bool) -> Document:
    draft = Draft("activitynet", labels=["jump", HOSTILE])
    for at, name in enumerate(names):
        video = draft.video(name, Media(duration_s=10.0))
        for label, (start, stop) in enumerate([(1.0, 3.0), (5.0, 7.0 + at)]):
            draft.segment(video, label, start, stop, 0.9 - 0.3 * label if scores else float("nan"))
    return draft.document()


def movie(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return encode(path, regular(50, Fraction(5)), rate=Fraction(5))


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Predictions of two videos, and their truth."""
    write_predictions(Predictions(documents(["a.mp4", "b/it's <b> #1 100%.mp4"], scores=True)), tmp_path / "p.json")
    write_document(documents(["a", "b/it's <b> #1 100%"], scores=False), tmp_path / "truth.json", "activitynet")
    return tmp_path / "p.json", tmp_path / "truth.json"


def test_the_page_is_given_what_the_files_say(files: tuple[Path, Path], tmp_path: Path) -> None:
    predictions, truth = files
    movie(tmp_path / "videos" / "b" / "it's <b> #1 100%.mp4")
    done = report(predictions, tmp_path / "out" / "r.html", truth=truth, videos=tmp_path / "videos", threshold=0.5)
    data = payload_of(done.path)
    assert HOSTILE not in done.path.read_text("utf-8")
    assert data["classes"] == ["jump", HOSTILE]
    first, second = data["videos"]
    assert first["predicted"] == {"label": [0, 1], "start": [1, 5], "stop": [3, 7], "score": [0.9, 0.6]}
    assert first["truth"] == {"label": [0, 1], "start": [1, 5], "stop": [3, 7]}
    assert first["src"] is None
    assert "not found" in first["notes"][0]
    assert (done.path.parent / unquote(second["src"])).resolve() == (tmp_path / "videos" / "b" / "it's <b> #1 100%.mp4")
    assert set(second["src"]) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789%./-_~")
    assert (second["width"], second["height"], second["fps"]) == (W, H, 5)
    assert all(thumb["image"].startswith("data:image/jpeg;base64,") for thumb in second["thumbs"])
    assert done.counts == {"shown": 4, "hits": 4, "wrong": 0, "false_alarms": 0, "misses": 0}
    assert done.metrics == {"average_map": 1.0, "average_map_activitynet": 1.0}
    assert done.missing == ("a.mp4",)
    assert str(tmp_path) not in done.path.read_text("utf-8"), "pages are handed on"


def test_without_a_truth_it_is_a_viewer(files: tuple[Path, Path], tmp_path: Path) -> None:
    done = report(files[0], tmp_path / "r.html")
    data = payload_of(done.path)
    assert [video["truth"] for video in data["videos"]] == [None, None]
    assert (done.threshold, done.counts, done.metrics) == (0.45, {"shown": 4}, {})


def test_many_videos_get_a_page_each(files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "MOST_VIDEOS", 1)
    movie(tmp_path / "videos" / "a.mp4")
    done = report(files[0], tmp_path / "r.html", truth=files[1], videos=tmp_path / "videos", threshold=0.7)
    assert done.pages == 3
    index = payload_of(done.path)
    assert index["videos"] == []
    for row, video_id in zip(index["pages"], ["a.mp4", "b/it's <b> #1 100%.mp4"], strict=True):
        page = tmp_path / unquote(row["href"])
        data = payload_of(page)
        assert (page.parent / unquote(data["index"])).resolve() == done.path
        assert [video["id"] for video in data["videos"]] == [row["id"]] == [video_id]
        assert (row["hits"], row["misses"]) == (1, 1)
    first = payload_of(tmp_path / unquote(index["pages"][0]["href"]))["videos"][0]
    assert (tmp_path / "r_videos" / unquote(first["src"])).resolve() == tmp_path / "videos" / "a.mp4"


def test_copies_are_made_of_what_browsers_refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "videos" / "a.avi"
    path.parent.mkdir()
    encode(path, regular(50, Fraction(5)), codec="mpeg4")
    draft = documents(["a.avi"], scores=True)
    write_predictions(Predictions(draft), tmp_path / "q.json")
    plain = payload_of(report(tmp_path / "q.json", tmp_path / "r.html", videos=path.parent).path)["videos"][0]
    assert "do not play mpeg4" in plain["notes"][0]
    assert plain["src"] == "videos/a.avi"
    shares: list[float] = []
    done = report(
        tmp_path / "q.json", tmp_path / "r.html", videos=path.parent, proxy=True,
        on_progress=lambda share, _words: shares.append(share),
    )  # fmt: skip
    (copied,) = payload_of(done.path)["videos"]
    assert shares == sorted(shares)
    copy = tmp_path / copied["src"]
    assert re.fullmatch(r"r_videos/a-[0-9a-f]{8}\.webm", copied["src"])
    assert "A small copy is played" in copied["notes"][0]
    assert copied["thumbs"]
    made: list[Path] = []
    monkeypatch.setattr(build, "make_proxy", lambda _source, output, **_: made.append(output))
    report(tmp_path / "q.json", tmp_path / "r.html", videos=path.parent, proxy=True)
    assert made == [], "it is kept"
    os.utime(path, (copy.stat().st_mtime + 10,) * 2)
    report(tmp_path / "q.json", tmp_path / "r.html", videos=path.parent, proxy=True)
    assert made == [copy], "the video is newer, so it is made again"


def test_four_hours_of_twenty_classes_are_small(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = [f"class {n}" for n in range(20)]
    draft, true = Draft("activitynet", labels=labels), Draft("activitynet", labels=labels)
    for each, score in ((draft, True), (true, False)):
        video = each.video("long.mp4", Media(duration_s=14400.0, fps=25.0, width=640, height=360))
        for start in rng.uniform(0, 14300, 2500).tolist():
            each.segment(video, int(rng.integers(20)), start, start + 5, rng.random() if score else float("nan"))
    centres = 0.25 + 0.5 * np.arange(28800)
    smooth = np.cumsum(rng.integers(-6, 7, (20, 28800)), axis=1).clip(0, 255).astype(np.uint8)
    predictions = Predictions(draft.document(), {"long.mp4": Curves(centres, smooth)})
    write_predictions(predictions, tmp_path / "p.json")
    write_document(true.document(), tmp_path / "t.json", "activitynet")
    done = report(tmp_path / "p.json", tmp_path / "r.html", truth=tmp_path / "t.json")
    assert done.path.stat().st_size < 2e6
    assert payload_of(done.path)["videos"][0]["curves"]["steps"] == 28800


def test_what_does_not_go_together_is_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    predictions, truth = files
    with pytest.raises(InputError, match="no row has a score, so these are labels"):
        report(truth, tmp_path / "r.html")
    with pytest.raises(InputError, match="all rows have scores, so these are predictions"):
        report(predictions, tmp_path / "r.html", truth=predictions)
    write_document(documents(["other"], scores=False), tmp_path / "t2.json", "activitynet")
    with pytest.raises(InputError, match="do not go together: the truth has other"):
        report(predictions, tmp_path / "r.html", truth=tmp_path / "t2.json")
    text = truth.read_text().replace('"jump"', '"x"').replace("img src", "y")
    (tmp_path / "t3.json").write_text(text)
    with pytest.raises(InputError, match="no label in common"):
        report(predictions, tmp_path / "r.html", truth=tmp_path / "t3.json")
    (tmp_path / "mine.html").write_text("<p>mine")
    with pytest.raises(UsageError, match="is no report; choose another -o"):
        report(predictions, tmp_path / "mine.html")
    with pytest.raises(UsageError, match="is a folder"):
        report(predictions, tmp_path)
    with pytest.raises(UsageError, match="--store is for runs"):
        report(predictions, tmp_path / "r.html", store=tmp_path)
    report(predictions, tmp_path / "r.html")
    report(predictions, tmp_path / "r.html")  # its own pages are written over


def test_the_command_says_where_it_is(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "r.html"
    assert command(monkeypatch, "report", files[0], "--truth", files[1], "-o", page, "-q") == 0
    said = capsys.readouterr().out
    assert "4 hits, 0 of a wrong class, 0 false alarms; 0 misses" in said
    assert f"untrimmed view {page}" in said
    assert command(monkeypatch, "report", files[0], "-o", page, "-q", "--json") == 0
    assert json.loads(capsys.readouterr().out)["missing"] == ["a.mp4", "b/it's <b> #1 100%.mp4"]


def test_curves_are_cut_where_the_slider_stands() -> None:
    values = np.zeros((2, 20), np.uint8)
    values[0, 2:6], values[0, 10:12] = 200, 100
    predictions = Predictions(documents(["a"], scores=True), {"a": Curves(0.25 + 0.5 * np.arange(20), values)}, 0.3)
    (video,), _ = shown_videos(predictions, documents(["a"], scores=False))
    assert first_threshold([video], predictions) == 0.3
    assert video.at(0.3).span_s.tolist() == [[1, 3], [5, 6]]
    assert video.counts(0.3) == {"shown": 2, "hits": 1, "wrong": 1, "false_alarms": 0, "misses": 1}
    assert video.counts(0.6) == {"shown": 1, "hits": 1, "wrong": 0, "false_alarms": 0, "misses": 1}
    heat = strip(video)
    assert heat.shape == (STRIP_COLUMNS,)
    assert set(heat.tolist()) == {0, 100, 200}


def test_pages_of_an_earlier_report_go_and_other_files_stay(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(build, "MOST_VIDEOS", 1)
        report(files[0], tmp_path / "r.html")
    assert sorted(path.name for path in (tmp_path / "r_videos").iterdir()) == ["0001.html", "0002.html"]
    (tmp_path / "r_videos" / "mine.txt").write_text("mine")
    report(files[0], tmp_path / "r.html")
    assert [path.name for path in (tmp_path / "r_videos").iterdir()] == ["mine.txt"]
    (tmp_path / "r_videos" / "0001.html").write_text("mine")
    with pytest.raises(UsageError, match=r"0001\.html exists and is no report"):
        report(files[0], tmp_path / "r.html")


def test_videos_elsewhere_and_truth_without_predictions_are_noted(files: tuple[Path, Path], tmp_path: Path) -> None:
    at = {"a.mp4": "https://me:secret@host/a.mp4?key=secret"}
    write_predictions(Predictions(documents(["a.mp4"], scores=True), sources=at), tmp_path / "q.json")
    done = report(tmp_path / "q.json", tmp_path / "r.html", truth=files[1])
    assert "1 of 2 videos of the truth have no predictions: not shown" in done.notes
    assert done.notes[-1] == "1 videos were not found or cannot be read: a.mp4"
    (video,) = payload_of(done.path)["videos"]
    assert video["src"] is None
    assert video["notes"] == ["The video is at https://host/a.mp4, which this page does not load; choose its file."]
    assert "secret" not in done.path.read_text("utf-8")
    with pytest.raises(UsageError, match="is no folder; expected the one that the videos are in"):
        report(files[0], tmp_path / "r.html", videos=tmp_path / "none")


def test_nothing_is_left_of_a_page_that_cannot_be_written(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()

    def full(_self: Path, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(MachineError, match=r"cannot be written \(No space left on device\)"):
        report(files[0], out / "r.html")
    assert list(out.iterdir()) == []


def test_no_predictions_make_an_empty_page(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"version": "VERSION 1.3", "results": {}, "external_data": {}}')
    done = report(tmp_path / "p.json", tmp_path / "r.html")
    assert (done.videos, done.pages, payload_of(done.path)["videos"]) == (0, 1, [])


def test_the_policy_lets_this_very_script_and_style_run_and_no_other(files: tuple[Path, Path], tmp_path: Path) -> None:
    text = report(files[0], tmp_path / "r.html").path.read_text("utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    code = {
        "script": re.findall(r"<script>(.*?)</script>", text, re.DOTALL),
        "style": re.findall(r"<style>(.*?)</style>", text, re.DOTALL),
    }
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].split(";"))
    for kind, (only,) in code.items():
        digest = base64.b64encode(hashlib.sha256(only.encode()).digest()).decode()
        assert rules[f"{kind}-src"] == f"'sha256-{digest}'"
    assert (rules["default-src"], rules["img-src"]) == ("'none'", "data: blob:")
    assert not re.search(r"unsafe|https?:|\*", policy[1])
