"""Segments of a video while it comes: those of the whole, as they end."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import run as command

from extract.errors import RecipeMismatchError, UsageError, VideoError
from extract.store import FeatureStore
from pipelines.checkpoint import Run, new_head, save_run
from pipelines.config import TrainSettings
from pipelines.extraction import Options, run_extraction
from pipelines.predicting import predict_stored
from pipelines.streaming import Ended, stream_predictions
from pipelines.synthetic.encode import ENCODINGS, write_video
from pipelines.synthetic.scene import compose
from pipelines.synthetic.verbs import Event

SECONDS, THRESHOLD = 12.0, 0.5
CAUSAL: dict[str, object] = {"causal": True, "window": 4}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of more than one window of attention, and longer than what is looked at before it is decoded."""
    path, rng = tmp_path_factory.mktemp("stream") / "long.webm", np.random.default_rng(5)
    events = [Event("orbit", 1.0, 5.0), Event("grow", 7.0, 10.0)]
    scene = compose(rng, events=events, duration_s=SECONDS, distractors=1)
    write_video(path, scene.frame, ENCODINGS[1], ENCODINGS[1].times(SECONDS, rng))
    return path


@pytest.fixture(scope="module")
def store(video: Path) -> FeatureStore:
    return run_extraction(video, video.parent / "f.zarr", options=Options(engine="torch", hop=4))[0]


def made(store: FeatureStore, out: Path, name: str, task: str = "label", **settings: object) -> Run:
    """A run whose head was never trained, of features that lie around 0."""
    values = TrainSettings.model_validate(settings)
    features = torch.from_numpy(store["long.webm"].features).float()
    torch.manual_seed(1)
    head = new_head(name, task=task, width=features.shape[1], n_classes=4, settings=values)
    head.inputs.fit([features])  # type: ignore[operator, union-attr]
    record = {
        "settings": values.model_dump(),
        "head": name,
        "task": task,
        "feature_width": features.shape[1],
        "classes": ["a", "b", "<c>", "ä"],
        "recipe": dict(store.recipe),
        "recipe_digest": store.recipe_digest,
        "threshold": THRESHOLD,
    }
    return save_run(out, head, record=record, epochs=[], card="")


@pytest.fixture(scope="module")
def gru(store: FeatureStore, video: Path) -> Run:
    return made(store, video.parent / "gru", "gru", **CAUSAL)


def offline(run: Run, store: FeatureStore) -> list[Ended]:
    rows = predict_stored(run, store, ["long.webm"]).segments()
    return sorted(Ended(row.start_s, row.stop_s, row.label, row.score) for row in rows)


def started(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("name", ["lstm", "gru", "attention", "linear"])
def test_segments_are_those_of_the_whole(name: str, video: Path, store: FeatureStore, tmp_path: Path) -> None:
    run = made(store, tmp_path / name, name, **CAUSAL)
    found = list(stream_predictions(run, video, idle_s=0, engine="torch"))
    wanted = offline(run, store)
    assert len(wanted) > 3
    assert [row[:3] for row in sorted(found)] == [row[:3] for row in wanted]
    tolerance = 1 / 255 if name == "attention" else 1e-6
    assert [row.score for row in sorted(found)] == pytest.approx([row.score for row in wanted], abs=tolerance)
    assert [row.stop_s for row in found] == sorted(row.stop_s for row in found)


def test_segments_come_before_the_video_ends(gru: Run, video: Path, store: FeatureStore, pipe: Path) -> None:
    heard, data = threading.Event(), video.read_bytes()

    def write() -> None:
        with pipe.open("wb", buffering=0) as file:
            file.write(data[: len(data) * 4 // 5])
            assert heard.wait(30)
            file.write(data[len(data) * 4 // 5 :])

    writer, found = started(write), list[Ended]()
    for ended in stream_predictions(gru, pipe, engine="torch"):
        found.append(ended)
        heard.set()
    writer.join()
    assert sorted(found) == offline(gru, store)


def test_a_growing_file_is_followed(gru: Run, video: Path, store: FeatureStore, tmp_path: Path) -> None:
    growing, data = tmp_path / "grows.webm", video.read_bytes()
    growing.touch()

    def write() -> None:
        with growing.open("ab", buffering=0) as file:
            for at in range(0, len(data), 10_000):
                file.write(data[at : at + 10_000])
                time.sleep(0.01)

    writer = started(write)
    assert sorted(stream_predictions(gru, growing, idle_s=1.5, engine="torch")) == offline(gru, store)
    writer.join()


@pytest.fixture
def stdin(video: Path) -> Iterator[None]:
    """The video, written by a thread to standard input."""
    reading, writing = os.pipe()
    before = os.dup(0)
    os.dup2(reading, 0)
    os.close(reading)

    def write() -> None:
        with os.fdopen(writing, "wb") as file:
            file.write(video.read_bytes())

    writer = started(write)
    yield
    writer.join()
    os.dup2(before, 0)
    os.close(before)


@pytest.mark.usefixtures("stdin")
def test_lines_of_json_from_stdin(
    gru: Run, store: FeatureStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, "predict", gru.path, "-", "--stream", "--json", "--engine", "torch") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["video"] for row in rows} == {"stdin"}
    found = [Ended(row["start"], row["stop"], row["label"], row["score"]) for row in rows]
    assert sorted(found) == offline(gru, store)


def test_lines_for_people(
    gru: Run, video: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("predict", gru.path, video, "--stream", "--idle", 0, "--engine", "torch", "--threshold", 0)
    assert command(monkeypatch, *asked) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["0:00.6", "0:11.4"]] * 4  # half a step around the middles
    assert [line.split()[3] for line in lines] == ["a", "b", "<c>", "ä"]
    for more in (["x.mkv"], ["-o", "x.json"], ["--decoder", "decord"]):
        assert command(monkeypatch, *asked, *more) == 2
        assert "--stream with" in capsys.readouterr().err


def test_interrupt_ends_the_video(gru: Run, video: Path, pipe: Path) -> None:
    data, done = video.read_bytes(), threading.Event()

    def write() -> None:
        with pipe.open("wb", buffering=0) as file:
            file.write(data[: len(data) * 4 // 5])
            assert done.wait(30)

    writer, found = started(write), list[Ended]()
    before = signal.getsignal(signal.SIGINT)
    segments = stream_predictions(gru, pipe, engine="torch")
    found.append(next(segments))
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        found.extend(segments)
    done.set()
    writer.join()
    assert signal.getsignal(signal.SIGINT) is before
    stop_s = max(row.stop_s for row in found)
    assert len(found) > 1
    assert 0 < stop_s < SECONDS * 0.9


def test_what_cannot_stream_is_named(store: FeatureStore, video: Path, tmp_path: Path) -> None:
    others: dict[str, dict[str, object]] = {"lstm": {}, "attention": {"causal": True}, "ms-tcn": CAUSAL}
    for name, settings in others.items():
        with pytest.raises(UsageError, match=r"lstm or gru\s+trained with --set causal=true"):
            stream_predictions(made(store, tmp_path / name, name, **settings), video)
    with pytest.raises(UsageError, match="expected a head for label"):
        stream_predictions(made(store, tmp_path / "mean", "mean", task="classify"), video)
    with pytest.raises(UsageError, match=r"step_s=0\.5"):
        stream_predictions(made(store, tmp_path / "grid", "gru", causal=True, step_s=0.5), video)


def test_what_cannot_work_is_named(gru: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="threshold 2"):
        stream_predictions(gru, "-", threshold=2)
    with pytest.raises(UsageError, match="workers"):
        stream_predictions(gru, "-", workers=2)
    other = replace(gru, recipe={**gru.recipe, "resize_kernel": "decord-bilinear"})
    with pytest.raises(RecipeMismatchError, match="resize_kernel: 'swscale-bilinear' here"):
        stream_predictions(other, "-", engine="torch")
    with pytest.raises(VideoError, match="no such file"):
        next(stream_predictions(gru, tmp_path / "none.mkv", engine="torch"))
