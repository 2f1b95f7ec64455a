"""What odd predictions become in the page: scores on other scales, rows that cannot be, very long videos, boxes."""

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extract.errors import InputError
from pipelines.annotations.document import Document, Media
from pipelines.annotations.draft import Draft
from pipelines.annotations.formats import write_document
from pipelines.predictions import Curves, Predictions
from pipelines.report import payload
from pipelines.report.build import report
from pipelines.report.payload import PROPOSAL, Shown, in_range, shown_videos, video_json, worst_moments
from pipelines.report.subject import file_metrics
from pipelines.report.verdicts import Rows, judged
from pipelines.scoring import score

NAN = float("nan")
Span = tuple[float, float]


def document(*segments: tuple[str, Span, float], media: Media | None = None) -> Document:
    draft = Draft("activitynet")
    video = draft.video("v", media)
    for label, (start, stop), value in segments:
        draft.segment(video, draft.label(label), start, stop, value)
    return draft.document()


def shown_json(*args: Any) -> dict[str, Any]:
    (video,), _ = shown_videos(*args)
    return as_json(video)


def as_json(video: Shown) -> dict[str, Any]:
    entry: dict[str, Any] = json.loads(json.dumps(video_json(video, src=None, notes=video.notes, thumbs=[])))
    return entry


def test_scores_on_another_scale_keep_their_order() -> None:
    odd = document(("a", (0, 1), -3.0), ("a", (1, 2), 5.0), ("a", (2, 3), NAN), ("a", (3, 4), 1.0))
    scaled, notes = in_range(Predictions(odd))
    assert scaled.document.segments.score.tolist() == [0.0, 1.0, 0.0, 0.5]
    assert notes == [
        "1 predictions have no score, and are shown with 0",
        "scores are from -3 to 5; the page shows them on a scale from 0 to 1",
    ]
    usual = Predictions(document(("a", (0, 1), 0.2), ("a", (1, 2), 1.0)))
    assert in_range(usual)[0].document.segments.score.tolist() == [0.2, 1.0]
    assert in_range(usual)[1] == []


def test_rows_without_times_are_the_whole_video_and_reversed_ones_are_left_out() -> None:
    odd = document(("a", (NAN, NAN), 0.9), ("a", (5, 4), 0.8), ("a", (1, 1), 0.7), ("a", (2, 9), 0.6))
    entry = shown_json(Predictions(odd), None, {"v": Media(12.0)})
    assert entry["predicted"] == {"label": [0, 0, 0], "start": [0, 1, 2], "stop": [12, 1, 9], "score": [0.9, 0.7, 0.6]}
    assert entry["notes"] == ["1 segments end before they begin, and are not shown"]
    assert shown_json(Predictions(odd), None)["predicted"]["stop"][0] == 9.0  # nobody knows its length


def test_what_is_known_of_a_video_is_put_together() -> None:
    one, two = document(media=Media(10.0)), document(media=Media(11.0, 25.0))
    (video,), _ = shown_videos(Predictions(one), two, {"v": Media(12.0, 30.0, 640, 360)})
    assert video.media == Media(10.0, 25.0, 640, 360)


def test_proposals_have_a_class_of_their_own() -> None:
    (video,), labels = shown_videos(
        Predictions(document(("", (0, 1), 0.9), ("a", (0, 1), 0.5))), document(("a", (0, 1), NAN))
    )
    assert labels == ("a", PROPOSAL)
    assert video.predicted.label.tolist() == [1, 0]
    assert video.counts(0) == {"shown": 2, "hits": 1, "wrong": 1, "false_alarms": 0, "misses": 0}


def test_labels_of_the_truth_alone_get_rows_of_nothing() -> None:
    curves = Curves(np.arange(4) + 0.5, np.full((1, 4), 100, np.uint8))
    predictions = Predictions(document(("a", (0, 4), 0.4)), {"v": curves})
    truth = document(("z", (0, 1), NAN), ("a", (0, 4), NAN), media=Media(4.0))
    (video,), labels = shown_videos(predictions, truth)
    assert labels == ("a", "z")
    assert video.curves is not None
    assert video.curves.values.shape == (2, 4)
    entry = as_json(video)
    assert entry["predicted"] == {"label": [], "start": [], "stop": [], "score": []}, "they are cut from the curves"
    assert entry["curves"] == {"start_s": 0.5, "step_s": 1.0, "steps": 4, "rows": {"0": "ZGRkZA=="}}


def test_the_best_rows_stay_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload, "MOST_ROWS", 2)
    many = document(*(("a", (at, at + 1.0), 0.1 * at) for at in range(5)))
    entry = shown_json(Predictions(many), document(*(("a", (at, at + 1.0), NAN) for at in range(5))))
    assert entry["predicted"]["start"] == [3, 4]
    assert entry["truth"]["start"] == [0, 1, 2, 3, 4], "nothing of the truth is left out"
    assert entry["notes"] == ["only the 2 predictions of the highest scores are shown, of 5"]


@pytest.mark.parametrize("regular", [True, False])
def test_very_many_steps_are_shown_as_means(monkeypatch: pytest.MonkeyPatch, regular: bool) -> None:
    monkeypatch.setattr(payload, "MOST_CURVE_BYTES", 9)
    centre_s = 0.5 + np.arange(17.0) + (0 if regular else 0.1 * (np.arange(17) % 2))
    values = np.zeros((2, 17), np.uint8)
    values[1] = 10 * np.arange(17)
    entry = shown_json(
        Predictions(document(("a", (0, 1), 0.4), ("b", (0, 1), 0.4)), {"v": Curves(centre_s, values)}), None
    )
    assert list(entry["curves"]["rows"]) == ["1"], "the other is 0 everywhere"
    row = np.frombuffer(base64.b64decode(entry["curves"]["rows"]["1"]), np.uint8)
    assert row.tolist() == [5, 25, 45, 65, 85, 105, 125, 145, 160]
    if regular:
        assert entry["curves"] | {"rows": 0} == {"start_s": 1.0, "step_s": 2.0, "steps": 9, "rows": 0}
    else:
        assert entry["curves"]["centre_s"] == [1.05, 3.05, 5.05, 7.05, 9.05, 11.05, 13.05, 15.05, 16.5]
    assert entry["notes"] == ["scores over time are means of 2 steps each, so that this page stays small"]


def test_moments_are_those_of_the_worst_errors_each_once() -> None:
    predictions = Predictions(
        document(("a", (0, 2), 0.9), ("a", (10, 12), 0.6), ("b", (20, 22), 0.7), ("b", (20, 22), 0.2))
    )
    truth = document(("a", (0, 2), NAN), ("b", (40, 50), NAN), ("b", (60, 65), NAN))
    (video,), _ = shown_videos(predictions, truth)
    assert worst_moments(video, 0.1, 9) == [45, 21, 11, 62.5]
    assert worst_moments(video, 0.65, 2) == [45, 21]
    assert worst_moments(replace(video, truth=None), 0.1, 2) == [1, 21]


def boxes_of(*rows: tuple[float, list[float], str, float]) -> Document:
    draft = Draft("ava")
    video = draft.video("v")
    for second, box, label, value in rows:
        draft.box(video, second, box, draft.label(label), 3, value)
    return draft.document()


def test_boxes_stand_beside_those_of_the_truth() -> None:
    here, there = [0.1, 0.1, 0.3, 0.3], [0.6, 0.6, 0.9, 0.9]
    found = boxes_of((1, here, "sit", 0.9), (1, there, "sit", 0.8), (2, here, "sit", 0.7))
    truth = boxes_of((1, here, "sit", NAN), (1, there, "run", NAN), (2, [NAN] * 4, "", NAN))
    entry = shown_json(Predictions(found), truth, {"v": Media(3.0, 25.0, 64, 48)})
    assert entry["truth"] is None
    assert entry["boxes"]["truth"] == {"second": [1, 1], "box": [*here, *there], "label": [0, 1], "track": [3, 3]}
    assert entry["boxes"]["predicted"]["score"] == [0.9, 0.8, 0.7]
    (video,), _ = shown_videos(Predictions(found), truth)
    assert video.counts(0.5) == {"shown": 3, "hits": 1, "wrong": 1, "false_alarms": 1, "misses": 1}
    protocol, figures = file_metrics(Predictions(found), truth, [video])
    assert protocol == "AVA's frame mAP at IoU 0.5, 1 videos"
    assert figures == {"map": pytest.approx(0.5)}  # sit is found first, run never
    with pytest.raises(InputError, match="the predictions are boxes, the truth has segments"):
        shown_videos(Predictions(found), document(("sit", (0, 1), NAN)))
    with pytest.raises(InputError, match="the predictions are segments, the truth has boxes"):
        shown_videos(Predictions(document(("sit", (0, 1), 0.5))), truth)


def test_figures_of_a_file_are_those_of_the_protocol(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    found, true = Draft("activitynet", labels=["a", "b"]), Draft("activitynet", labels=["b", "a"])
    for name in ("x", "y"):
        ours, theirs = found.video(f"{name}.mp4"), true.video(name, Media(100.0, subset="validation"))
        for start in rng.uniform(0, 90, 20).tolist():
            length, off = rng.uniform(2, 9), rng.normal(0, 1, 2)
            true.segment(theirs, int(rng.integers(2)), start, start + length)
            found.segment(ours, int(rng.integers(2)), start + off[0], start + length + abs(off[1]) + 1, rng.random())
    predictions, truth = Predictions(found.document()), true.document()
    _, figures = file_metrics(predictions, truth, shown_videos(predictions, truth)[0])
    write_document(truth, tmp_path / "t.json", "activitynet")
    same_ids = replace(predictions.document, media=dict.fromkeys(("x", "y"), Media()))
    write_document(same_ids, tmp_path / "p.json", "activitynet")
    official = score("activitynet", tmp_path / "t.json", tmp_path / "p.json")
    assert figures["average_map_activitynet"] == pytest.approx(official["metrics"]["average_map"], abs=1e-12)
    assert report(tmp_path / "p.json", tmp_path / "r.html", truth=tmp_path / "t.json").metrics == figures


def test_many_long_rows_are_judged_in_little_time_and_memory() -> None:
    rng = np.random.default_rng(0)
    start = np.sort(rng.uniform(0, 36000, 20_000)).round(3)
    spans = np.column_stack((start, start + 10))
    predicted = Rows(rng.integers(0, 20, 20_000), spans + 1.0, rng.random(20_000))
    truth = Rows(predicted.label, spans, np.full(20_000, NAN))
    counts = judged(predicted, truth).counts
    assert counts["hits"] > 19_000
    assert counts["hits"] + counts["misses"] == 20_000
