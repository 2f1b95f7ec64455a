"""Overlap and suppression of segments, against ActionFormer's figures and direct computation."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from seqmodels.segments import Found, suppress, suppress_by_class, temporal_iou

FIXTURE = Path(__file__).parents[3] / "shared" / "fixtures" / "eval"


def test_overlaps() -> None:
    first = np.array([[0.0, 4.0], [10.0, 12.0]])
    second = np.array([[2.0, 6.0], [0.0, 4.0], [11.0, 11.5]])
    np.testing.assert_allclose(temporal_iou(first, second), [[2 / 6, 1, 0], [0, 0, 0.25]])


def test_two_points_of_time_have_no_overlap_to_speak_of() -> None:
    assert np.isnan(temporal_iou(np.array([[3.0, 3.0]]), np.array([[3.0, 3.0]]))[0, 0])


@pytest.mark.skipif(not FIXTURE.exists(), reason="needs ../shared/fixtures/eval")
@pytest.mark.parametrize("folder", sorted(FIXTURE.glob("nms1d_s0*")), ids=lambda folder: folder.name)
def test_actionformer_s_figures(folder: Path) -> None:
    with (folder / "segments.csv").open() as file:
        rows = np.array([[float(value) for value in row] for row in list(csv.reader(file))[1:]])
    cases = json.loads((folder / "expected.json").read_text())["expected"]["actionformer"]
    methods = {0: "hard", 1: "linear", 2: "gaussian"}
    assert len(cases) >= 3
    for case in cases:
        method = "hard" if case["op"] == "nms" else methods[case["method"]]
        kept, scores = suppress(
            rows[:, :2],
            rows[:, 2],
            method=method,
            sigma=case.get("sigma") or 0.5,
            iou_threshold=case["iou_threshold"],
            min_score=case["min_score"],
            most=len(rows),
        )
        assert kept.tolist() == case["kept_input_rows_in_output_order"], case["case"]
        if "output_scores" in case:
            np.testing.assert_allclose(scores, case["output_scores"], atol=1e-5)


def test_classes_do_not_suppress_each_other() -> None:
    segments = np.array([[0.0, 2.0], [0.0, 2.0], [0.0, 2.0], [5.0, 6.0]])
    found = Found(segments, np.array([0.9, 0.8, 0.7, 0.1]), np.array([0, 1, 0, 0]))
    kept = suppress_by_class(found, method="hard")
    assert kept.labels.tolist() == [0, 1, 0]
    assert kept.scores.tolist() == [0.9, 0.8, 0.1]
    assert len(suppress_by_class(found, method="hard", most=2).scores) == 2


def test_nothing_in_nothing_out() -> None:
    rows, scores = suppress(np.empty((0, 2)), np.empty(0))
    assert len(rows) == len(scores) == 0
