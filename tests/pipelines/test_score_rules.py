"""Rules of the protocols that no fixture need be at hand for: by hand, and against loops written here."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotated import SegmentRows as Rows
from annotated import activitynet_files

from pipelines.scoring import Options, score

THRESHOLDS = np.linspace(0.5, 0.95, 10)


def overlap(one: tuple[float, float], other: tuple[float, float]) -> float:
    shared = max(0.0, min(one[1], other[1]) - max(one[0], other[0]))
    return shared / ((one[1] - one[0]) + (other[1] - other[0]) - shared)


def drawn(seed: int, *, strays: bool) -> tuple[dict[str, Rows], dict[str, Rows]]:
    rng = np.random.default_rng(seed)

    def rows(count: int) -> Rows:
        starts = rng.integers(0, 50, count).tolist()
        return [(a, a + int(rng.integers(2, 20)), "x", float(rng.random())) for a in starts]

    truth = {f"v{i}": rows(int(rng.integers(1, 4))) for i in range(4)}
    found = {f"v{i}": rows(int(rng.integers(0, 30))) for i in range(4 + 2 * strays)}
    return truth, found


def looped_recall(truth: dict[str, Rows], found: dict[str, Rows], most: float | None) -> tuple[Any, Any]:
    """`eval_proposal.py` in words: the same share of every video, then hundredths of it."""
    total = sum(map(len, found.values()))
    most = total / len(truth) if most is None else most
    kept = {}
    for video in truth:
        rows = sorted(found.get(video, []), key=lambda row: -row[3])
        kept[video] = rows[: min(int(len(rows) * most * len(truth) / total), len(rows))]
    left = sum(map(len, kept.values()))
    per_video, recall = [], []
    for point in range(1, 101):
        share = point / 100 * (most * len(truth) / left)
        reached = []
        for threshold in THRESHOLDS:
            hits = 0
            for video, rows in truth.items():
                best = kept[video][: min(int(len(kept[video]) * share), len(kept[video]))]
                hits += sum(any(overlap((a, b), p[:2]) >= threshold for p in best) for a, b, *_ in rows)
            reached.append(hits / sum(map(len, truth.values())))
        recall.append(np.mean(reached))
        per_video.append(share * left / len(truth))
    return per_video, recall


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("most", [3, 100, None])
def test_proposals_are_the_loop(tmp_path: Path, seed: int, most: float | None) -> None:
    truth, found = drawn(seed, strays=bool(seed % 2))
    options = Options(max_proposals=most)
    result = score("activitynet-proposals", *activitynet_files(tmp_path, truth, found), options=options)
    per_video, recall = looped_recall(truth, found, most)
    np.testing.assert_allclose(result["curve"]["proposals_per_video"], per_video, atol=1e-9)
    np.testing.assert_allclose(result["curve"]["average_recall"], recall, atol=1e-9)
    area = np.trapezoid(recall, per_video) / per_video[-1]
    assert result["metrics"]["auc"] == pytest.approx(100 * area)


def test_a_proposal_at_the_threshold_finds(tmp_path: Path) -> None:
    paths = activitynet_files(tmp_path, {"v": [(0, 10, "x", 0)]}, {"v": [(0, 5, "x", 0.5)]})
    assert score("activitynet-proposals", *paths)["per_threshold"]["0.50"] == 1


def test_classification_by_hand(tmp_path: Path) -> None:
    truth = {"a": [(0, 1, "run", 0), (2, 3, "run", 0), (4, 5, "jump", 0)], "b": [(0, 1, "swim", 0)]}
    found = {
        "a": [(0, 1, "run", 0.9), (0, 1, "run", 0.8), (0, 1, "swim", 0.3), (0, 1, "jump", 0.2)],
        "b": [(0, 1, "jump", 0.6), (0, 1, "swim", 0.5), (0, 1, "run", 0.85)],
    }
    metrics = score("activitynet-classification", *activitynet_files(tmp_path, truth, found))["metrics"]
    # run (once in a): right, then false ones; jump: b is false at .6, then a; swim: b at .5, then a is false.
    assert metrics["map"] == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert metrics["top_1"] == pytest.approx(1 / 2)  # run of a; run of b is wrong
    assert metrics["average_hit_at_1"] == pytest.approx((1 / 2 + 0) / 2)
    assert metrics["top_3"] == 1
    # the second run of a takes a place among its best three, and jump is the fourth
    assert metrics["average_hit_at_3"] == pytest.approx((1 / 2 + 1) / 2)


def test_videos_that_are_not_scored(tmp_path: Path) -> None:
    truth = {"a": [(0, 10, "run", 0)], "b": [(0, 10, "run", 0)], "t": [(0, 10, "run", 0)]}
    found: dict[str, Rows] = {
        "t": [(0, 10, "run", 0.95)],
        "b": [(20, 30, "run", 0.9)],
        "a": [(0, 10, "run", 0.8)],
        "zz": [(0, 10, "run", 0.7)],
    }
    paths = activitynet_files(tmp_path, truth, found, {"t": "training"})
    # Of another subset: false. Then b's is false, a's right, of two to find.
    assert score("activitynet", *paths)["metrics"]["average_map"] == pytest.approx(1 / 3 / 2)
    (tmp_path / "blocked.json").write_text('["b"]')
    blocked = score("activitynet", *paths, options=Options(blocked=tmp_path / "blocked.json"))
    assert blocked["metrics"]["average_map"] == pytest.approx(1 / 2)  # b's prediction is gone, too
    assert any("1 videos of 2 are blocked" in note for note in blocked["notes"])
    training = score("activitynet", *paths, options=Options(subset="training"))
    assert training["metrics"]["average_map"] == 1


def test_recall_at_multiples_of_the_truth(tmp_path: Path) -> None:
    truth = {"a": [(0, 10, "run", 0), (20, 30, "run", 0)], "b": [(0, 10, "jump", 0)]}
    found: dict[str, Rows] = {
        "a": [(50, 60, "run", 0.9), (0, 10, "run", 0.8), (20, 30, "run", 0.7)],
        "b": [(40, 50, "jump", 0.9), (0, 10, "jump", 0.8)],
    }
    recall = score("thumos14", *activitynet_files(tmp_path, truth, found))["recall"]
    # 1x: two of a, one of b: one of two runs, no jump. 5x: all.
    assert recall["1x"]["0.50"] == pytest.approx((1 / 2 + 0) / 2)
    assert recall["5x"]["0.50"] == 1


def test_kinds_of_errors_by_hand(tmp_path: Path) -> None:
    truth: dict[str, Rows] = {"a": [(0, 10, "run", 0)] + [(100 * i, 100 * i + 10, "run", 0) for i in range(1, 6)]}
    truth["b"] = [(0, 10, "jump", 0)]
    found: dict[str, Rows] = {
        "a": [
            (0, 10, "run", 0.9),
            (0, 9, "run", 0.8),  # double
            (108, 118, "run", 0.7),  # .11 with its class: localization
            (500, 540, "run", 0.6),  # .25: localization
            (50, 60, "run", 0.5),  # background
        ],
        "b": [(0, 10, "run", 0.4), (9.8, 19.8, "jump", 0.3)],  # confusion; .01, which is background
    }
    errors = score("activitynet", *activitynet_files(tmp_path, truth, found))["errors"]
    counts = {name: errors[name]["count"] for name in ("double", "localization", "confusion", "background", "missed")}
    assert counts == {"double": 1, "localization": 2, "confusion": 1, "background": 2, "missed": 6}
    assert (errors["predictions"], errors["right"]) == (7, 1)
    assert errors["double"]["gain"] == pytest.approx(0)  # it ranks below the only right one
    first = dict(found, a=[(300, 330, "run", 0.95), *found["a"]])
    assert score("activitynet", *activitynet_files(tmp_path, truth, first))["errors"]["localization"][
        "gain"
    ] == pytest.approx(1 / 6 / 2 - 1 / 12 / 2)


def test_lengths_by_hand(tmp_path: Path) -> None:
    truth = {"a": [(0, 1, "run", 0), (100, 110, "run", 0), (200, 300, "run", 0)]}
    found = {"a": [(0, 1, "run", 0.9), (500, 510, "run", 0.8), (100, 110, "run", 0.7), (200, 299, "run", 0.6)]}
    rows = score("activitynet", *activitynet_files(tmp_path, truth, found))["by_duration"]
    # The false one counts in all thirds, right ones in their own.
    assert [row["average_map"] for row in rows] == pytest.approx([1, 1 / 2, 1 / 2])
    assert [row["count"] for row in rows] == [1, 1, 1]
    assert rows[2]["seconds"] == [100, 100]


def test_the_kit_averages_from_three_tenths_on(tmp_path: Path) -> None:
    folder = tmp_path / "truth"
    folder.mkdir()
    (folder / "Run_test.txt").write_text("v1  0.0 10.0\n")
    (folder / "Ambiguous_test.txt").write_text("v1  50.0 60.0\n")
    (folder / "detclasslist.txt").write_text("7 Run\n")
    (tmp_path / "found.txt").write_text("v1 0.0 2.5 7 0.9\nv1 55.0 70.0 7 0.95\n")
    for kit in ("hits", "11-point"):
        result = score("thumos14", folder, tmp_path / "found.txt", options=Options(kit=kit))
        assert result["metrics"]["average_map"] == 0
        assert (result["per_threshold"]["0.20"], result["per_threshold"]["0.30"]) == (1, 0)
    practice = score("thumos14", folder, tmp_path / "found.txt")
    assert practice["metrics"]["average_map"] == 0
    assert any("'Ambiguous'" in note for note in practice["notes"])


def test_equal_scores_of_views(tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text("v,2\n")
    (tmp_path / "found.csv").write_text("video,view,a,b,c\nv,0,0,0,0\n")
    result = score("topk", tmp_path / "truth.csv", tmp_path / "found.csv")
    assert result["metrics"]["top_1"] == 1  # the highest class number goes first
    assert result["ties"] == {"top_1": [0, 1]}
    (tmp_path / "truth.csv").write_text("v,0\n")
    # A softmax is no rescaling: e^-1 against e^1.
    (tmp_path / "found.csv").write_text("video,view,a,b,c\nv,0,1,-1,-30\nv,1,-9,-8.5,-30\n")
    assert score("topk", tmp_path / "truth.csv", tmp_path / "found.csv")["metrics"]["top_1"] == 1


def test_precision_at_equal_recall_wants_scores_above_zero(tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text("1,1,0\n0,0,0\n")
    (tmp_path / "found.csv").write_text("0.5,0,0\n0.1,0.2,0.3\n")
    metrics = score("gap", tmp_path / "truth.csv", tmp_path / "found.csv")["metrics"]
    assert metrics["perr"] == pytest.approx((1 / 2 + 0) / 2)


def test_a_segment_is_hit_once(tmp_path: Path) -> None:
    for name in ("truth", "found"):
        (tmp_path / name).mkdir()
    (tmp_path / "truth" / "v.txt").write_text("a\n" * 10)
    (tmp_path / "found" / "v.txt").write_text("a\n" * 5 + "b\n" + "a\n" * 4)
    metrics = score("segmental", tmp_path / "truth", tmp_path / "found")["metrics"]
    # a of 5 and a of 4 lie in the one true a: at .1 the first hits, the second does not; b is false.
    assert metrics["f1_10"] == pytest.approx(100 * 2 / (2 + 2 + 0))


def test_p_is_of_both_sides(tmp_path: Path) -> None:
    truth = {f"v{i}": [(0.0, 10.0, "run", 0.0)] for i in range(30)}
    one: dict[str, Rows] = {v: [(0, 10 if i % 2 else 5, "run", 0.5 + i / 100)] for i, v in enumerate(truth)}
    other: dict[str, Rows] = {v: [(0, 5 if i % 2 else 10, "run", 0.5 + i / 100)] for i, v in enumerate(truth)}
    (tmp_path / "other").mkdir()
    paths = activitynet_files(tmp_path, truth, one)
    against = activitynet_files(tmp_path / "other", truth, other)[1]
    first = score("activitynet", *paths, against=against)["against"]
    second = score("activitynet", paths[0], against, against=paths[1])["against"]
    assert first["p"] == second["p"] > 0.6
    assert first["difference"] == pytest.approx(-second["difference"])
    assert first["low"] < 0 < first["high"]
