"""The command line as its users meet it: exit codes, messages without tracebacks, JSON on stdout alone."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import run
from typer.testing import CliRunner

from extract.store import FeatureStore
from pipelines import cli, demo
from pipelines.demo import World, demo_lines, run_demo
from pipelines.extraction import Options, run_extraction
from pipelines.tasks import TASKS


def untrimmed(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipelines.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_help_of_every_command_has_an_example() -> None:
    for command in cli.app.registered_commands:
        assert command.callback is not None
        shown = CliRunner().invoke(cli.app, [command.name or command.callback.__name__, "--help"])
        assert shown.exit_code == 0
        assert "Example: untrimmed" in shown.stdout


def test_help_names_every_head() -> None:
    for task in TASKS.values():
        assert task.name in cli.training._HEADS
        assert f"{task.default} (the default)" in cli.training._HEADS
        assert all(re.search(rf"\b{head}\b", cli.training._HEADS) for head in task.heads)


def test_extract_prints_json_alone_on_stdout(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    done = untrimmed("extract", archive / "a/same.mp4", tmp_path / "bad.mp4", "-o", tmp_path / "f.zarr", "--json")
    result = json.loads(done.stdout)
    assert done.returncode == 4
    assert result["videos"] == 1
    assert result["clips"] == 2
    assert result["bound_by"] in ("decode", "model", "store")
    (failure,) = result["failed"]
    assert failure["video"].endswith("bad.mp4")
    assert failure["reason"] == "not_media"
    assert result["clips_per_s"] > 0
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["extract", "nowhere", "-o", "f.zarr"], 3, "nowhere does not exist"),
        (["extract", ".", "-o", "f.zarr"], 3, "no video in ."),
        (["extract", ".", "-o", "f.zarr", "--hop", "-3"], 2, "at least 1"),
        (["extract", ".", "-o", "f.zarr", "--precision", "int8"], 2, "int8"),
        (["extract", ".", "-o", "f.zarr", "--weights", "none.safetensors"], 3, "none.safetensors"),
        (["extract", "."], 2, "--output"),
        (["info", "."], 3, "not a feature store"),
        (["synthesize", "opera", "-o", "w"], 2, "opera"),
        (["train", "localize", "x.zarr", "--annotations", "a.json", "-o", "r"], 3, "x.zarr"),
        (["nonsense"], 2, "nonsense"),
        (["extract", ".", "-o", "f.zarr", "--scheduler", "nobody"], 3, "no video in ."),
        (["status", "."], 3, "not a feature store"),
        (["verify", "x.zarr"], 3, "x.zarr"),
        (["compact", "x.zarr"], 3, "x.zarr"),
        (["export", "x.zarr", "-o", "e"], 3, "x.zarr"),
        (["estimate", "nowhere"], 3, "nowhere does not exist"),
    ],
)
def test_mistakes_end_with_one_message(
    arguments: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, *arguments) == code
    shown = capfd.readouterr()
    assert message in " ".join(shown.err.split())
    assert "Traceback" not in shown.err
    assert shown.out == ""
    assert not (tmp_path / "f.zarr").exists()


def test_unexpected_errors_keep_their_traceback_for_v(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(_path: str) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("pipelines.inspection.store_info", broken)
    assert run(monkeypatch, "info", "x") == 1
    assert "unexpected RuntimeError: boom" in capfd.readouterr().err
    with pytest.raises(RuntimeError, match="boom"):
        run(monkeypatch, "info", "x", "-v")


@pytest.mark.parametrize(
    ("arguments", "called", "goes_on"),
    [
        (["scan", "."], "pipelines.scan.scan", ""),
        (["extract", ".", "-o", "f.zarr"], "pipelines.extraction.run_extraction", "An extraction"),
        (["demo"], "pipelines.demo.run_demo", "An extraction"),
        (["detect-people", ".", "-o", "b.csv"], "pipelines.people.detect_people", "A search for people"),
        (["train", "label", ".", "--annotations", "a", "-o", "r"], "pipelines.joined.open_stores", "A training"),
    ],
)
def test_stopping_says_what_goes_on(
    arguments: list[str],
    called: str,
    *,
    goes_on: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(called, stopped)
    assert run(monkeypatch, *arguments) == cli.STOPPED
    shown = capfd.readouterr().err
    assert "untrimmed: stopped." in shown
    assert ("goes on from here" in shown) == bool(goes_on)
    assert goes_on in shown


def test_dry_run_writes_nothing(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "extract", archive, "-o", tmp_path / "f.zarr", "--dry-run", "--json") == 0
    planned = json.loads(capfd.readouterr().out)
    assert planned["videos"] == 7
    assert sum(len(unit["tasks"]) for unit in planned["units"]) == 7
    assert not (tmp_path / "f.zarr").exists()


def test_info_and_doctor(
    undisturbed: FeatureStore, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "info", undisturbed.url, "--json") == 0
    found = json.loads(capfd.readouterr().out)
    assert found["videos"] == 7
    assert found["recipe"]["backbone"] == "tiny_r2plus1d"
    assert run(monkeypatch, "info", undisturbed.url) == 0
    assert "7 videos" in capfd.readouterr().out
    assert run(monkeypatch, "doctor", "--json") == 0
    machine = json.loads(capfd.readouterr().out)
    assert machine["codecs"]["h264"] == "yes"
    assert run(monkeypatch, "doctor") == 0


def test_the_life_of_a_store(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def told(*arguments: object, code: int = 0) -> dict[str, Any]:
        assert run(monkeypatch, *arguments, "--json") == code
        found: dict[str, Any] = json.loads(capfd.readouterr().out)
        assert run(monkeypatch, *arguments) == code
        shown = capfd.readouterr()
        assert shown.out
        assert "Traceback" not in shown.err
        return found

    out = tmp_path / "f.zarr"
    estimated = told("estimate", archive)
    assert estimated["videos"] == 7
    assert estimated["predicted_s"] > 0
    assert not out.exists()
    assert told("extract", archive, "-o", out)["videos"] == 7
    status = told("status", out)
    assert (status["videos"], status["begun"], status["failed"], status["jobs"]) == (7, {}, {}, 2)
    assert status["last_job"]["state"] == "finished"
    checked = told("verify", out, "--sample", "0.3")
    assert (checked["damaged"], len(checked["sample"])) == ([], 2)
    assert [each["problem"] for each in checked["sample"]] == ["", ""]
    before = {video_id: FeatureStore.open(out)[video_id].features for video_id in FeatureStore.open(out)}
    compacted = told("compact", out, "--grace", "0")
    assert compacted["published_videos"] == 7
    for video_id, features in before.items():
        np.testing.assert_array_equal(FeatureStore.open(out)[video_id].features, features)
    told("export", out, "a/same.mp4", "-o", tmp_path / "same.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "same.npy"), before["a/same.mp4"])
    assert run(monkeypatch, "export", out, "a/same.mp4", "-o", tmp_path / "e", "--layout", "npz") == 2
    assert "for all videos" in capfd.readouterr().err


def test_a_damaged_store_is_told(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    store, _ = run_extraction(archive / "a/same.mp4", tmp_path / "f.zarr", options=Options())
    (shard,) = (tmp_path / "f.zarr/features").glob("c.*")
    data = bytearray(shard.read_bytes())
    data[10] ^= 1
    shard.write_bytes(data)
    assert run(monkeypatch, "verify", store.url, "--json") == 3
    (damage,) = json.loads(capfd.readouterr().out)["damaged"]
    assert (damage["video"], damage["where"]) == ("same.mp4", "published")


def test_small_demo_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "NEW", replace(demo.NEW, videos=2, seconds=12.0))
    worlds = (World("order", "classify", 6, 16.0), World("untrimmed", "label", 3, 12.0))
    result = run_demo(tmp_path / "demo", workers=0, quiet=True, worlds=worlds)
    assert json.loads((tmp_path / "demo/demo.json").read_text())["figures"].keys() == {
        "classify mean",
        "classify lstm",
        "label mean",
        "label lstm",
        "localize temporalmaxer",
    }
    assert (tmp_path / "demo/report.html").stat().st_size > 50_000
    text = "\n".join(demo_lines(result))
    assert "mean-pool baseline" in text
    assert "chance               0.50" in text
    assert f"open {tmp_path / 'demo/report.html'} in a browser" in text
    assert len(FeatureStore.open(tmp_path / "demo/order.zarr")) == 6
