"""AVA's frame mAP: worked numbers, and the figures that the official code gave."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqmodels.metrics.frame_ap import FrameBoxes, FrameMap, frame_map
from seqmodels.metrics.ranking import ranked_ap

FIXTURES = Path(__file__).parents[3] / "shared" / "fixtures" / "eval"
A, B = (0.0, 0.0, 1.0, 1.0), (2.0, 0.0, 3.0, 1.0)
NEAR_A = (0.0, 0.0, 1.0, 0.6)  # IoU .6 with A


def boxes(*rows: tuple[Any, ...]) -> FrameBoxes:
    """Rows (frame, box, action[, score])."""
    score = np.array([row[3] for row in rows], float) if rows and len(rows[0]) == 4 else None
    return FrameBoxes(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], float).reshape(-1, 4),
        np.array([row[2] for row in rows], np.int64),
        np.zeros(0) if not rows else score,
    )


def test_worked_example() -> None:
    truth = boxes((1, A, 0), (1, B, 0), (2, A, 0), (2, A, 1))
    found = boxes((1, A, 0, 0.9), (2, B, 0, 0.8), (2, NEAR_A, 0, 0.7), (1, A, 0, 0.6), (1, A, 1, 0.5))
    # class 0: right, wrong, right, wrong (taken) of 3: precision 1, 1/2, 2/3, 2/4; class 1 is found elsewhere only
    result = frame_map(truth, found, 3)
    assert result.ap == (pytest.approx((1 + 2 / 3) / 3), 0.0, None)
    assert result.map == pytest.approx((1 + 2 / 3) / 6)


def test_a_detection_has_no_second_choice() -> None:
    near = (0.0, 0.0, 1.0, 0.9)
    truth = boxes((1, A, 0), (1, near, 0))
    found = boxes((1, A, 0, 0.9), (1, (0, 0, 1, 0.99), 0, 0.8))
    assert frame_map(truth, found, 1).ap == (0.5,)


def test_overlap_at_the_threshold_counts() -> None:
    half = (0.0, 0.0, 1.0, 0.5)
    assert frame_map(boxes((1, A, 0)), boxes((1, half, 0, 1.0)), 1).map == 1.0
    assert frame_map(boxes((1, A, 0)), boxes((1, half, 0, 1.0)), 1, iou=0.51).map == 0.0


def test_of_equal_scores_the_earlier_row_ranks_higher() -> None:
    truth = boxes((1, A, 0))
    right, wrong = (1, A, 0, 0.5), (1, B, 0, 0.5)
    assert frame_map(truth, boxes(right, wrong), 1).map == 1.0
    assert frame_map(truth, boxes(wrong, right), 1).map == 0.5


def test_frames_without_truth() -> None:
    truth, found = boxes((1, A, 0)), boxes((2, A, 0, 0.9), (1, A, 0, 0.8))
    now = frame_map(truth, found, 1)
    assert (now.map, now.elsewhere) == (1.0, 1)
    assert frame_map(truth, found, 1, every_frame=True).map == 0.5
    assert frame_map(truth, found, 1, empty_frames=np.array([2])).map == 0.5


def test_cap_is_over_all_classes_of_a_frame() -> None:
    truth = boxes((1, A, 0), (2, A, 0))
    found = boxes((1, A, 1, 0.9), (1, B, 1, 0.8), (1, A, 0, 0.7), (2, A, 0, 0.1))
    result = frame_map(truth, found, 2, cap=2)
    assert (result.ap[0], result.capped) == (0.5, 1)
    assert frame_map(truth, found, 2, cap=None).ap[0] == 1.0


def test_boxes_without_area_are_left_out_and_counted() -> None:
    flat, reversed_ = (0.5, 0.0, 0.5, 1.0), (1.0, 0.0, 0.0, 1.0)
    result = frame_map(boxes((1, A, 0), (1, flat, 0)), boxes((1, reversed_, 0, 1.0), (1, A, 0, 0.5)), 1)
    assert (result.map, result.flat_truth, result.flat) == (1.0, 1, 1)


def test_nothing_found_and_nothing_true() -> None:
    assert frame_map(boxes((1, A, 0)), boxes(), 2) == FrameMap(0.0, (0.0, None), 0, 0, 0, 0)
    assert frame_map(boxes(), boxes((1, A, 0, 1.0)), 1) == FrameMap(None, (None,), 0, 0, 1, 0)


def test_envelope() -> None:
    assert ranked_ap(np.array([False, True, True]), 4, "envelope") == pytest.approx(2 * (2 / 3) / 4)


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"actions of truth are 0..4; expected 0..2"):
        frame_map(boxes((1, A, 4), (1, A, 0)), boxes(), 3)
    with pytest.raises(ValueError, match="detections have no scores"):
        frame_map(boxes((1, A, 0)), boxes((1, A, 0)), 3)
    with pytest.raises(ValueError, match="NaN"):
        boxes((1, A, 0, float("nan")))
    with pytest.raises(ValueError, match=r"expected \(N,\), \(N, 4\), \(N,\)"):
        FrameBoxes(np.zeros(2, np.int64), np.zeros((1, 4)), np.zeros(2, np.int64))


def slow_map(truth: FrameBoxes, found: FrameBoxes, n_classes: int) -> list[float | None]:
    """The rule, in loops."""
    assert found.score is not None
    aps: list[float | None] = []
    for c in range(n_classes):
        total, hits = int((truth.action == c).sum()), []
        taken: set[int] = set()
        for d in np.argsort(-found.score, kind="stable"):
            if found.action[d] != c:
                continue
            mine = [i for i in range(len(truth)) if truth.frame[i] == found.frame[d] and truth.action[i] == c]
            overlaps = []
            for i in mine:
                (a1, b1, a2, b2), (c1, d1, c2, d2) = truth.box[i], found.box[d]
                shared = max(0, min(a2, c2) - max(a1, c1)) * max(0, min(b2, d2) - max(b1, d1))
                overlaps.append(shared / ((a2 - a1) * (b2 - b1) + (c2 - c1) * (d2 - d1) - shared))
            best = int(np.argmax(overlaps)) if overlaps else -1
            hit = best >= 0 and overlaps[best] >= 0.5 and mine[best] not in taken
            if hit:
                taken.add(mine[best])
            hits.append(hit)
        aps.append(float(ranked_ap(np.array(hits, bool), total, "envelope")) if total else None)
    return aps


@pytest.mark.parametrize("seed", range(8))
def test_equals_the_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def drawn(count: int, *, scored: bool) -> FrameBoxes:
        corner = rng.integers(0, 4, (count, 2)) / 4
        box = np.hstack((corner, corner + rng.integers(2, 5, (count, 2)) / 4))
        score = rng.integers(0, 9, count) / 9 if scored else None
        return FrameBoxes(rng.integers(0, 6, count), box, rng.integers(0, 3, count), score)

    truth, found = drawn(25, scored=False), drawn(120, scored=True)
    found = found.rows(np.isin(found.frame, truth.frame))
    assert frame_map(truth, found, 4, cap=None).ap == pytest.approx(slow_map(truth, found, 4))


def lines(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text().splitlines()))


def frame_key(row: list[str]) -> tuple[str, str]:
    return row[0], f"{float(row[1]):.6f}"


def read(folder: Path, file: str, ids: dict[int, int], keys: dict[tuple[str, str], int]) -> FrameBoxes:
    """Rows of known classes of a file of the fixture."""
    rows = [row for row in lines(folder / file) if len(row) > 2 and int(row[6]) in ids]
    frame = [keys.setdefault(frame_key(row), len(keys)) for row in rows]
    return FrameBoxes(
        np.array(frame, np.int64),
        np.array([row[2:6] for row in rows], float),
        np.array([ids[int(row[6])] for row in rows]),
        np.array([row[7] for row in rows], float) if file == "det.csv" else None,
    )


@pytest.mark.parametrize("name", sorted(folder.name for folder in FIXTURES.glob("ava_*")))
@pytest.mark.parametrize("version", ["head", "2019", "2018"])
def test_official_figures(name: str, version: str) -> None:
    folder = FIXTURES / name
    expected = json.loads((folder / "expected.json").read_text())
    items = re.findall(r'name:\s*"(.*)"\s*(?:label_)?id:\s*(\d+)', (folder / "action_list.pbtxt").read_text())
    ids = {int(number): i for i, (_, number) in enumerate(items)}
    keys: dict[tuple[str, str], int] = {}
    truth, found = read(folder, "gt.csv", ids, keys), read(folder, "det.csv", ids, keys)
    if version == "head":
        # frames count as annotated through any row, also of a class that is not in the list
        frames = [keys.setdefault(frame_key(row), len(keys)) for row in lines(folder / "gt.csv")]
        result = frame_map(truth, found, len(items), empty_frames=np.array(frames))
    else:
        out = [keys.get(frame_key(row), -1) for row in lines(folder / "excluded_timestamps.csv")]
        truth, found = (rows.rows(~np.isin(rows.frame, out)) for rows in (truth, found))
        result = frame_map(truth, found, len(items), every_frame=True, cap=50 if version == "2019" else None)
    if "ties" in expected:
        figures = expected["ties"]["first_in_file_first"]
        if version == "head":
            assert result.map == pytest.approx(figures["mAP"], abs=1e-9)
        assert expected["ties"]["min"] - 0.01 <= (result.map or 0) <= expected["ties"]["max"] + 0.01
        return
    figures = expected["expected"][f"activitynet_ava_{version}"]
    assert result.map == pytest.approx(figures["mAP@0.5"], abs=1e-9)
    for (label, _), ap in zip(items, result.ap, strict=True):
        assert ap == pytest.approx(figures["AP_per_class"][label], abs=1e-9), label
