"""Official figures: of every fixture at hand, and of files made here whose figures are counted by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotated import VideoRows as Rows
from annotated import activitynet_files
from commands import run
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.errors import InputError, UsageError
from pipelines.scoring import PROTOCOLS, Options, proposals_of, score

FIXTURES = Path(__file__).parents[3] / "shared" / "fixtures" / "eval"
Result = dict[str, Any]


def folders(prefix: str) -> list[str]:
    """Fixture folders of one kind; those that are kept back run too where they are."""
    return sorted(path.name for path in FIXTURES.glob(f"{prefix}*") if path.is_dir()) or ["absent"]


def opened(name: str) -> tuple[Path, Result]:
    if name == "absent":
        pytest.skip("needs ../shared/fixtures/eval")
    folder = FIXTURES / name
    return folder, json.loads((folder / "expected.json").read_text())


def same(got: float | None, expected: float | None) -> None:
    assert (got is None) == (expected is None)
    assert got is None or expected is None or got == pytest.approx(expected, abs=1e-9)


def within_ties(result: Result, expected: Result, figure: float, metric: str) -> None:
    """Of tied scores the first in the file goes first, and other orders lie in the range that is told."""
    same(result["metrics"][metric], figure)
    low, high = result["ties"][metric]
    assert low - 0.01 <= expected["ties"]["min"]
    assert expected["ties"]["max"] <= high + 0.01


class TestOfficialFigures:
    @pytest.mark.parametrize("name", folders("anet_det"))
    def test_activitynet(self, name: str) -> None:
        folder, expected = opened(name)
        official = expected["expected"]["activitynet_official"]
        options = Options(blocked=folder / "blocked.json" if "blocked" in name else None)
        result = score("activitynet", folder / "gt.json", folder / "pred.json", options=options)
        if "ties" in expected:
            within_ties(result, expected, expected["ties"]["first_in_file_first"]["average_mAP"], "average_map")
            return
        if "average_mAP" not in official:  # the official code stops there
            return
        same(result["metrics"]["average_map"], official["average_mAP"])
        for got, right in zip(result["per_threshold"].values(), official["mAP_per_tiou"], strict=True):
            same(got, right)
        for label, row in official["AP_per_class_per_tiou"].items():
            for got, right in zip(result["per_class"][label]["ap_per_threshold"].values(), row, strict=True):
                same(got, right)

    @pytest.mark.parametrize("name", folders("anet_prop"))
    @pytest.mark.parametrize("most", [100, None])
    def test_proposals(self, name: str, most: int | None) -> None:
        folder, expected = opened(name)
        options = Options(max_proposals=most)
        result = score("activitynet-proposals", folder / "gt.json", folder / "pred.json", options=options)
        if "ties" in expected:
            return
        official = expected["expected"]["activitynet_official"][f"max_avg_nr_proposals_{most}"]
        same(result["metrics"]["auc"], official["AUC_percent"])
        np.testing.assert_allclose(result["curve"]["average_recall"], official["avg_recall_100pts"], atol=1e-9)
        np.testing.assert_allclose(
            result["curve"]["proposals_per_video"], official["proposals_per_video_100pts"], atol=1e-9
        )
        for got, right in zip(result["per_threshold"].values(), official["recall_at_last_point_per_tiou"], strict=True):
            same(got, right)

    @pytest.mark.parametrize("name", folders("anet_cls"))
    def test_classification(self, name: str) -> None:
        folder, expected = opened(name)
        result = score("activitynet-classification", folder / "gt.json", folder / "pred.json")
        if "ties" in expected:
            return
        official = expected["expected"]["activitynet_official"]
        same(result["metrics"]["map"], official["mAP"])
        for label, ap in official["AP_per_class"].items():
            same(result["per_class"][label]["ap"], ap)
        for k in (1, 3, 5):
            same(result["metrics"][f"top_{k}"], official[f"top_{k}"]["hit_at_k"])
            same(result["metrics"][f"average_hit_at_{k}"], official[f"top_{k}"]["avg_hit_at_k"])

    @pytest.mark.parametrize("name", folders("thumos"))
    @pytest.mark.parametrize(
        "files", ["gt.json pred_anet.json", "gt.json pred_actionformer.json", "groundtruth detections.txt"]
    )
    def test_thumos(self, name: str, files: str) -> None:
        folder, expected = opened(name)
        truth, predictions = files.split()
        result = score("thumos14", folder / truth, folder / predictions)
        if "ties" in expected:
            within_ties(result, expected, expected["ties"]["first_in_file_first"]["average_mAP"], "average_map")
            return
        figures = expected["expected"]
        official = figures.get("activitynet_official_known_labels", figures["activitynet_official"])
        same(result["metrics"]["average_map"], official["average_mAP"])
        for got, right in zip(result["per_threshold"].values(), official["mAP_per_tiou"], strict=True):
            same(got, right)

    @pytest.mark.parametrize("name", [name for name in folders("thumos") if "ties" not in name])
    @pytest.mark.parametrize(("kit", "key"), [("11-point", "thumos14_matlab_v1"), ("hits", "thumos14_matlab_v2")])
    def test_thumos_kit(self, name: str, kit: str, key: str) -> None:
        folder, expected = opened(name)
        official = expected["expected"][key]
        options = Options(kit=kit)
        result = score("thumos14", folder / "groundtruth", folder / "detections.txt", options=options)
        same(result["metrics"]["average_map"], official["average_mAP_0.3_0.7"])
        for got, right in zip(result["per_threshold"].values(), official["mAP_per_tiou"].values(), strict=True):
            same(got, right)

    @pytest.mark.parametrize("name", [name for name in folders("thumos") if "ties" not in name])
    def test_actionformers_own_figures(self, name: str) -> None:
        folder, expected = opened(name)
        if "messy" in name or "missing" in name:
            pytest.skip("ActionFormer joins classes that the test set lacks to others: its figure is wrong")
        own = expected["expected"]["actionformer"]
        options = Options(distinct=True)
        result = score("thumos14", folder / "gt.json", folder / "pred_actionformer.json", options=options)
        same(result["metrics"]["average_map"], own["average_mAP"])
        for k, name_of_k in enumerate(("1x", "5x")):
            for got, right in zip(
                result["recall"][name_of_k].values(), own["mean_recall_top_kx"]["per_tiou"], strict=True
            ):
                same(got, right[k])

    @pytest.mark.parametrize("name", folders("ava"))
    @pytest.mark.parametrize(
        ("protocol", "key"),
        [("ava", "activitynet_ava_head"), ("ava-2019", "activitynet_ava_2019"), ("ava-2018", "activitynet_ava_2018")],
    )
    def test_ava(self, name: str, protocol: str, key: str) -> None:
        folder, expected = opened(name)
        excluded = folder / "excluded_timestamps.csv"
        options = Options(labels=folder / "action_list.pbtxt", exclude=excluded if excluded.exists() else None)
        if key not in expected["expected"]:
            pytest.skip(f"no figure of {key}")
        result = score(protocol, folder / "gt.csv", folder / "det.csv", options=options)
        if "ties" in expected:
            same(result["metrics"]["map"], expected["ties"]["first_in_file_first"]["mAP"])
            assert result["ties"]["map"][0] <= result["metrics"]["map"] <= result["ties"]["map"][1]
            return
        official = expected["expected"][key]
        same(result["metrics"]["map"], official["mAP@0.5"])
        for label, ap in official["AP_per_class"].items():
            same(result["per_class"][label]["ap"], ap)

    @pytest.mark.parametrize("name", folders("charades"))
    def test_charades(self, name: str) -> None:
        folder, expected = opened(name)
        protocol = "charades-localize" if "_loc_" in name else "charades"
        official = expected["expected"]["charades_matlab"]
        result = score(protocol, folder / "annotations.csv", next(folder.glob("*submission.txt")))
        same(result["metrics"]["map"], official["mAP"])
        for number, ap in enumerate(official["AP"]):
            same(result["per_class"][f"c{number:03d}"]["ap"], ap)

    @pytest.mark.parametrize("name", folders("segmental"))
    def test_segmental(self, name: str) -> None:
        folder, expected = opened(name)
        (truth,) = folder.rglob("groundTruth")
        results = next(path for path in (folder / "results").rglob("split_1"))
        result = score("segmental", truth, results)
        printed = expected["expected"]["mstcn"]["printed"]
        for (name_of, got), line in zip(result["metrics"].items(), printed, strict=True):
            assert got == pytest.approx(float(line.split(": ")[1]), abs=5e-5), name_of

    @pytest.mark.parametrize("name", folders("topk"))
    @pytest.mark.parametrize(
        ("views", "key"), [("probabilities", "average_probabilities"), ("scores", "average_logits")]
    )
    def test_topk(self, name: str, views: str, key: str) -> None:
        folder, expected = opened(name)
        official = expected["expected"]["mmaction2"][key]
        result = score("topk", folder / "labels.csv", folder / "view_logits.csv", options=Options(views=views))
        same(result["metrics"]["top_1"], official["top1"])
        same(result["metrics"]["top_5"], official["top5"])
        same(result["metrics"]["mean_class_accuracy"], official["mean_class_accuracy"])

    @pytest.mark.parametrize("name", folders("yt8m"))
    def test_gap(self, name: str) -> None:
        folder, expected = opened(name)
        if "ties" in expected or "s1" in name:
            pytest.skip("the original shuffles ties")
        official = expected["expected"]["yt8m"]
        result = score("gap", folder / "labels.csv", folder / "predictions.csv")
        for k in (5, 20, 40):
            same(result["metrics"][f"gap_{k}"], official[f"GAP@{k}"])
        same(result["metrics"]["hit_at_1"], official["hit_at_one"])
        same(result["metrics"]["perr"], official["PERR"])
        same(result["metrics"]["map"], official["MAP_top20"]["mAP"])
        same(result["metrics"]["map_all"], official["MAP_all"]["mAP"])

    @pytest.mark.parametrize("name", folders("video_map"))
    def test_video_map(self, name: str) -> None:
        folder, expected = opened(name)
        official = expected["expected"]["mmaction2"]
        for predictions, key in (
            ("tube_detections.json", "video_AP_percent"),
            ("frame_detections.csv", "frame_AP_percent"),
        ):
            result = score("video-map", folder / "gt.json", folder / predictions)
            for threshold, percent in official[key].items():
                same(result["per_threshold"][f"{float(threshold):.2f}"], percent / 100)


TRUTH: Rows = {"a": [(10, 20, "run", 0), (40, 60, "jump", 0)], "b": [(0, 30, "run", 0)]}


def noted(result: Result, *words: str) -> bool:
    return any(all(word in note for word in words) for note in result["notes"])


class TestActivityNet:
    def test_perfect_predictions_are_one(self, tmp_path: Path) -> None:
        right = {
            video: [(a, b, label, 0.9 - i / 10) for i, (a, b, label, _) in enumerate(rows)]
            for video, rows in TRUTH.items()
        }
        paths = activitynet_files(tmp_path, TRUTH, right)
        result = score("activitynet", *paths, strict=True)
        assert result["metrics"]["average_map"] == 1
        assert result["notes"] == []
        assert result["errors"]["right"] == result["errors"]["predictions"] == 3
        assert {row["average_map"] for row in result["by_duration"]} == {1.0}
        proposals = score("activitynet-proposals", *paths)
        assert proposals["metrics"]["ar_at_100"] == 1

    def test_trouble_is_counted_named_and_strict(self, tmp_path: Path) -> None:
        truth: Rows = {
            **TRUTH,
            "c": [(5, 5, "run", 0), (9, 3, "run", 0), (50, 130, "jump", 0)],
            "d": [(1, 2, "run", 0)] * 2,
        }
        found: Rows = {
            "a": [(10, 20, "swim", 0.9), (10, 20, "run", 0.8)],
            "zz": [(0, 1, "run", 0.7)],
            "b": [(5, 5, "run", 0.5)],
        }
        paths = activitynet_files(tmp_path, truth, found)
        result = score("activitynet", *paths)
        assert noted(result, "predictions.json: 1 predictions have a label", "'swim' (1)")
        assert noted(result, "predictions.json: 1 predictions are of 1 videos that are not scored", "1 unknown", "zz")
        assert noted(result, "truth.json: 1 of 8 true segments have no length: c [5, 5]")
        assert noted(result, "truth.json: 1 of 8 true segments end before they begin: c [9, 3]")
        assert noted(result, "truth.json: 1 of 8 true segments end more than 1 s after their video: c [50, 130]")
        assert noted(result, "truth.json: 1 true segments are there twice", "d [1, 2]")
        assert noted(result, "predictions.json: 2 of 4 videos with truth have no prediction: c, d")
        assert noted(result, "1 classes have no prediction", "jump")
        with pytest.raises(InputError, match=r"(?s)--strict.*'swim'.*zz.*no length"):
            score("activitynet", *paths, strict=True)
        distinct = score("activitynet", *paths, options=Options(distinct=True))
        assert noted(distinct, "1 duplicated true segments and 2 shorter")

    def test_ids_that_differ_by_v_alone(self, tmp_path: Path) -> None:
        found: Rows = {"v_a": [(10, 20, "run", 0.8)]}
        result = score("activitynet", *activitynet_files(tmp_path, TRUTH, found))
        assert noted(result, "1 video ids differ", "v_a")
        assert result["per_class"]["run"]["ap"] == pytest.approx(0.5)

    def test_files_exchanged(self, tmp_path: Path) -> None:
        truth, found = activitynet_files(tmp_path, TRUTH, {"a": [(0, 1, "run", 0.5)]})
        with pytest.raises(InputError, match=r"no score.*exchanged"):
            score("activitynet", truth, truth)
        with pytest.raises(InputError, match="subset"):
            score("activitynet", truth, found, options=Options(subset="testing"))

    def test_undefined_overlaps_are_right_as_in_the_official_code(self, tmp_path: Path) -> None:
        truth: Rows = {"a": [(5, 5, "run", 0)]}
        result = score("activitynet", *activitynet_files(tmp_path, truth, {"a": [(5, 5, "run", 0.5)]}))
        assert result["metrics"]["average_map"] == 1
        assert noted(result, "0 / 0")

    def test_numbers_shifted_by_one_are_no_figure(self, tmp_path: Path) -> None:
        folder = tmp_path / "truth"
        folder.mkdir()
        for label in ("Run", "Jump"):
            (folder / f"{label}_test.txt").write_text("v1  1.0 2.0\n")
        (folder / "detclasslist.txt").write_text("1 Run\n2 Jump\n")
        predictions = tmp_path / "predictions.json"
        rows = [{"segment": [1.0, 2.0], "label_id": number, "scores": 0.5} for number in (0, 1)]
        predictions.write_text(json.dumps({"database": {"v1": rows}}))
        with pytest.raises(InputError, match=r"0\.\.1.*1\.\.2.*shifted by one.*--labels"):
            score("thumos14", folder, predictions)
        (tmp_path / "classes.txt").write_text("0 Run\n1 Jump\n")
        result = score("thumos14", folder, predictions, options=Options(labels=tmp_path / "classes.txt"))
        assert result["metrics"]["average_map"] == 1

    @settings(max_examples=30, deadline=None)
    @given(seed=st.integers(0, 10_000))
    def test_order_does_not_matter_and_false_ones_never_help(
        self, tmp_path_factory: pytest.TempPathFactory, seed: int
    ) -> None:
        folder = tmp_path_factory.getbasetemp() / "orders"
        folder.mkdir(exist_ok=True)
        rng = np.random.default_rng(seed)
        labels = ["run", "jump"]

        def drawn(count: int) -> list[tuple[float, float, str, float]]:
            scores = rng.random(count)
            starts = rng.integers(0, 80, count).tolist()
            return [
                (a, a + int(rng.integers(1, 20)), labels[rng.integers(2)], float(s))
                for a, s in zip(starts, scores, strict=True)
            ]

        truth: Rows = {video: drawn(n) for video, n in (("a", 3), ("b", 2))}
        found: Rows = {video: drawn(8) for video in "ab"}
        base = score("activitynet", *activitynet_files(folder, truth, found))
        other = {video: [found[video][i] for i in rng.permutation(8)] for video in reversed(found)}
        again = score("activitynet", *activitynet_files(folder, truth, other))
        same(again["metrics"]["average_map"], base["metrics"]["average_map"])
        false = (98.0, 99.5, labels[rng.integers(2)], float(rng.random()))
        less = score("activitynet", *activitynet_files(folder, truth, {**found, "a": [*found["a"], false]}))
        assert less["metrics"]["average_map"] <= base["metrics"]["average_map"] + 1e-12


class TestUncertainty:
    def test_against_itself_there_is_no_difference(self, tmp_path: Path) -> None:
        found: Rows = {"a": [(10, 20, "run", 0.9), (41, 60, "jump", 0.8)], "b": [(5, 30, "run", 0.7)]}
        truth, predictions = activitynet_files(tmp_path, TRUTH, found)
        result = score("activitynet", truth, predictions, bootstrap=200, against=predictions)
        assert result["against"]["difference"] == result["against"]["low"] == result["against"]["high"] == 0
        assert result["against"]["p"] == 1
        interval = result["interval"]
        assert interval["low"] <= result["metrics"]["average_map"] <= interval["high"]
        assert (interval["videos"], interval["resamples"]) == (2, 200)

    def test_a_better_file_is_better_beyond_chance(self, tmp_path: Path) -> None:
        truth: Rows = {f"v{i}": [(10, 20, "run", 0)] for i in range(40)}
        good: Rows = {video: [(10, 20 + 0.01 * i, "run", 0.9 - i / 100)] for i, video in enumerate(truth)}
        bad: Rows = {video: [(10 + i % 7, 20 + i % 5, "run", 0.9 - i / 100)] for i, video in enumerate(truth)}
        (tmp_path / "bad").mkdir()
        other = activitynet_files(tmp_path / "bad", truth, bad)[1]
        result = score("activitynet", *activitynet_files(tmp_path, truth, good), against=other)["against"]
        assert result["low"] > 0
        assert result["p"] < 0.05
        assert result["resamples"] == 1000
        assert result["difference"] == pytest.approx(result["value"] - result["other"])

    def test_the_same_resamples_every_time(self, tmp_path: Path) -> None:
        paths = activitynet_files(tmp_path, TRUTH, {"a": [(10, 20, "run", 0.9)], "b": [(0, 10, "run", 0.7)]})
        first, second = (score("activitynet", *paths, bootstrap=50)["interval"] for _ in range(2))
        assert first == second


PBTXT = """item { name: "sit" id: 11 }
item { name: "stand" id: 12 }
"""


class TestAva:
    def files(self, tmp_path: Path, truth: str, found: str) -> tuple[Path, Path, Options]:
        for name, text in (("gt.csv", truth), ("det.csv", found), ("list.pbtxt", PBTXT), ("out.csv", "v,0903\n")):
            (tmp_path / name).write_text(text)
        return (
            tmp_path / "gt.csv",
            tmp_path / "det.csv",
            Options(labels=tmp_path / "list.pbtxt", exclude=tmp_path / "out.csv"),
        )

    def test_three_revisions(self, tmp_path: Path) -> None:
        box = "0.1,0.1,0.5,0.5"
        truth = f"v,0902,{box},11,0\nv,0903,{box},11,0\nv,0905\n"
        # right; on an excluded frame; on an empty frame; on a frame that the truth does not name
        found = f"v,902,{box},11,0.5\nv,903,{box},11,0.4\nv,905,{box},11,0.9\nv,907,{box},11,0.8\nv,902,{box},33,0.7\n"
        gt, det, options = self.files(tmp_path, truth, found)
        now = score("ava", gt, det, options=options)
        # by score: empty frame (false), 902 (right), 903 (right): envelope 2/3 at both recalls
        same(now["metrics"]["map"], 2 / 3)
        assert noted(now, "out.csv is not used")
        assert noted(now, "1 of 5 rows have an action that the class list does not have", "33 (1)")
        assert noted(now, "1 detections are on frames that the truth does not name")
        assert now["per_class"]["stand"]["ap"] is None
        before = score("ava-2019", gt, det, options=options)
        same(before["metrics"]["map"], 1 / 3)  # false, false, right, of one to find
        assert noted(before, "detections on 1 frames that the truth does not name count as false")

    def test_the_cap_of_a_frame(self, tmp_path: Path) -> None:
        box = "0.1,0.1,0.5,0.5"
        truth = f"v,0902,{box},11,0\n"
        others = "".join(f"v,0902,0.6,0.6,0.9,0.9,12,{0.5 + i / 1000}\n" for i in range(50))
        gt, det, options = self.files(tmp_path, truth, others + f"v,0902,{box},11,0.4\n")
        assert score("ava-2019", gt, det, options=options)["metrics"]["map"] == 0
        assert score("ava-2018", gt, det, options=options)["metrics"]["map"] == 1
        assert noted(score("ava", gt, det, options=options), "1 detections are beyond the best 50")

    def test_no_class_list(self, tmp_path: Path) -> None:
        gt, det, _ = self.files(tmp_path, "v,902,0,0,1,1,11,0\n", "v,902,0,0,1,1,11,0.5\n")
        with pytest.raises(UsageError, match="--labels"):
            score("ava", gt, det)

    def test_detections_without_scores(self, tmp_path: Path) -> None:
        gt, det, options = self.files(tmp_path, "v,902,0,0,1,1,11,0\n", "v,902,0,0,1,1,11\n")
        with pytest.raises(InputError, match="no score"):
            score("ava", gt, det, options=options)

    def test_files_exchanged(self, tmp_path: Path) -> None:
        gt, det, options = self.files(tmp_path, "v,902,0,0,1,1,11,7\n", "v,902,0,0,1,1,11,0.5\n")
        with pytest.raises(InputError, match="Exchange"):
            score("ava", det, gt, options=options)


def charades_files(tmp_path: Path, actions: dict[str, str], rows: list[str]) -> tuple[Path, Path]:
    lines = [f'{video},S,Room,6,7,Yes,"a, b",o,"c; d",{text},25.0' for video, text in actions.items()]
    header = "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length"
    (tmp_path / "truth.csv").write_text("\n".join([header, *lines]))
    (tmp_path / "submission.txt").write_text("\n".join(rows))
    return tmp_path / "truth.csv", tmp_path / "submission.txt"


class TestCharades:
    def row(self, lead: str, **scores: float) -> str:
        values = ["0.1"] * 157
        for name, each in scores.items():
            values[int(name[1:])] = str(each)
        return f"{lead} {' '.join(values)}"

    def test_a_class_without_positives_leaves_it_undefined(self, tmp_path: Path) -> None:
        actions = {"A": "c000 0 5", "B": "c001 0 5", "C": ""}
        rows = [self.row("A", c000=0.5), self.row("B", c000=0.9), self.row("C", c000=1.0), self.row("Z")]
        result = score("charades", *charades_files(tmp_path, actions, rows))
        assert result["metrics"]["map"] is None
        # C has no action and ranks last, whatever its score; c000: B is false, A right.
        same(result["per_class"]["c000"]["ap"], 0.5)
        assert noted(result, "155 of 157 classes have no positive")
        assert noted(result, "1 rows are of unknown videos", "Z")

    def test_videos_without_a_row_rank_last(self, tmp_path: Path) -> None:
        actions = {"A": "c000 0 5", "B": "c001 0 5"}
        result = score("charades", *charades_files(tmp_path, actions, [self.row("B", c000=0.2)]))
        same(result["per_class"]["c000"]["ap"], 0.5)
        assert noted(result, "1 of 2 videos have no row", "A")

    def test_frames_are_25_with_both_ends(self, tmp_path: Path) -> None:
        # 25 s, so frame j is at j - 1 s; c000 is on at 3, 4 and 5 s: frames 4 to 6.
        rows = [self.row(f"A {j}", c000=1 - j / 100 if 4 <= j <= 6 else 0) for j in range(1, 26)]
        result = score("charades-localize", *charades_files(tmp_path, {"A": "c000 3.0 5.0"}, rows))
        assert result["per_class"]["c000"]["ap"] == 1
        rows[6] = self.row("A 7", c000=0.99)
        result = score("charades-localize", *charades_files(tmp_path, {"A": "c000 3.0 5.0"}, rows))
        same(result["per_class"]["c000"]["ap"], (1 / 2 + 2 / 3 + 3 / 4) / 3)

    @pytest.mark.parametrize(
        ("row", "says"),
        [("A 0.5", "line 1: 2 values"), ("A " + "nan " * 157, "line 1: score 'nan'"), ("A " + "x " * 157, "'x'")],
    )
    def test_broken_rows(self, tmp_path: Path, row: str, says: str) -> None:
        with pytest.raises(InputError, match=says):
            score("charades", *charades_files(tmp_path, {"A": "c000 0 5"}, [row]))

    def test_broken_frames(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"line 1: frame '26'; expected 1\.\.25"):
            score("charades-localize", *charades_files(tmp_path, {"A": "c000 0 5"}, [self.row("A 26")]))


class TestSegmental:
    def folders(self, tmp_path: Path, truth: dict[str, str], found: dict[str, str]) -> tuple[Path, Path]:
        """Labels as letters, ``-`` for background; predictions in MS-TCN's form of results."""
        paths = tmp_path / "truth", tmp_path / "found"
        for path in paths:
            path.mkdir()
        names = {"-": "background"}
        for video, letters in truth.items():
            (paths[0] / f"{video}.txt").write_text("".join(f"{names.get(x, x)}\n" for x in letters))
        for video, letters in found.items():
            labels = " ".join(names.get(x, x) for x in letters)
            (paths[1] / video).write_text(f"### Frame level recognition: ###\n{labels}")
        return paths

    def test_by_hand(self, tmp_path: Path) -> None:
        result = score("segmental", *self.folders(tmp_path, {"v": "--aaaabb--"}, {"v": "--aabbab--"}))
        metrics = result["metrics"]
        assert metrics["accuracy"] == pytest.approx(70)
        assert metrics["edit"] == pytest.approx(50)  # ab against abab: two insertions of four
        # a: 2 of 4 frames, IoU .5; b: none of its frames overlap (4..6 against 6..8): 0; a: no more a; b: 1 of 2, .5
        assert metrics["f1_50"] == pytest.approx(100 * 2 * 2 / (2 * 2 + 2 + 0))
        assert result["per_threshold"]["0.50"] == metrics["f1_50"]

    def test_missing_strange_and_uneven(self, tmp_path: Path) -> None:
        paths = self.folders(tmp_path, {"v": "aabb", "w": "aa"}, {"v": "aab", "z": "aa"})
        result = score("segmental", *paths)
        assert noted(result, "1 of 2 videos have no prediction", "w")
        assert noted(result, "1 videos are not in the truth", "z")
        assert noted(result, "v (3 for 4)")
        assert result["metrics"]["accuracy"] == 75

    def test_all_background_is_undefined(self, tmp_path: Path) -> None:
        result = score("segmental", *self.folders(tmp_path, {"v": "aabb", "w": "--"}, {"v": "aabb", "w": "--"}))
        assert result["metrics"]["edit"] is None
        assert noted(result, "edit is undefined; without them it is 100.0000", "w")
        assert result["metrics"]["f1_50"] == 100


class TestTables:
    def written(self, tmp_path: Path, truth: str, found: str) -> tuple[Path, Path]:
        (tmp_path / "truth.csv").write_text(truth)
        (tmp_path / "found.csv").write_text(found)
        return tmp_path / "truth.csv", tmp_path / "found.csv"

    def test_views_are_averaged(self, tmp_path: Path) -> None:
        # As scores class 1 wins by 10 to 0 and -9; as probabilities class 0 has two views of three.
        found = "video,view,c0,c1\nv,0,9,0\nv,1,9,0\nv,2,0,30\n"
        paths = self.written(tmp_path, "video,label\nv,0\n", found)
        assert score("topk", *paths)["metrics"]["top_1"] == 1
        assert score("topk", *paths, options=Options(views="scores"))["metrics"]["top_1"] == 0

    def test_topk_trouble(self, tmp_path: Path) -> None:
        paths = self.written(tmp_path, "v,0\nw,1\n", "video,view,c0,c1\nv,0,1,0\nz,0,1,0\n")
        result = score("topk", *paths)
        assert noted(result, "1 videos are not in the truth", "z")
        assert noted(result, "1 videos have no row", "w")
        with pytest.raises(InputError, match=r"2 classes.*v \(5\)"):
            score("topk", *self.written(tmp_path, "v,5\n", "video,view,c0,c1\nv,0,1,0\n"))
        with pytest.raises(InputError, match="line 3: 'inf' is no finite number"):
            score("topk", *self.written(tmp_path, "v,0\n", "video,view,c0,c1\nv,0,1,0\nv,1,inf,0\n"))
        with pytest.raises(UsageError, match="--views"):
            score("topk", *paths, options=Options(views="max"))

    def test_gap_by_hand(self, tmp_path: Path) -> None:
        result = score("gap", *self.written(tmp_path, "1,0,0\n0,1,1\n", "0.9,0.8,0.1\n0.2,0.7,0.3\n"))
        # .9 right, .8 false, .7 right, .3 right, of three
        same(result["metrics"]["gap_20"], (1 + 2 / 3 + 3 / 4) / 3)
        assert result["metrics"]["hit_at_1"] == 1

    def test_gap_of_other_shapes(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"has 1 rows of 2, found.csv 1 of 3"):
            score("gap", *self.written(tmp_path, "1,0\n", "0.9,0.8,0.1\n"))
        with pytest.raises(InputError, match=r"line 2.*2 cells, the first row has 3"):
            score("gap", *self.written(tmp_path, "1,0,0\n1,0\n", "0.9,0.8,0.1\n"))


class TestTubes:
    def files(self, tmp_path: Path, tubes: list[dict[str, Any]]) -> tuple[Path, Path]:
        rows = [[f, 0, 0, 10, 10] for f in range(1, 6)]
        truth = {"labels": ["run"], "test_videos": [["v"]], "gttubes": {"v": {"0": [rows]}}}
        (tmp_path / "truth.json").write_text(json.dumps(truth))
        (tmp_path / "tubes.json").write_text(json.dumps({"0": tubes}))
        return tmp_path / "truth.json", tmp_path / "tubes.json"

    def test_by_hand(self, tmp_path: Path) -> None:
        half = {"video": "v", "score": 0.5, "tube": [[f, 0, 0, 10, 5, 0.5] for f in range(1, 6)]}
        short = {"video": "v", "score": 0.9, "tube": [[f, 0, 0, 10, 10, 0.9] for f in range(3, 6)]}
        paths = self.files(tmp_path, [half, short, {**half, "video": "other", "score": 0.1}])
        result = score("video-map", *paths)
        # short: the same boxes on 3..5 of 1..5, 2 / 4; half: .5 of each box, all frames
        same(result["metrics"]["map"], 1.0)
        assert result["per_threshold"]["0.55"] == 0
        assert noted(result, "1 tubes are of videos that are not scored", "other")
        act = score("video-map", *paths, options=Options(inclusive=True))
        assert act["per_threshold"]["0.60"] == 1.0  # 3 / 5
        assert act["per_threshold"]["0.65"] == 0

    def test_broken(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="line 1: 0 → 0 → tube"):
            score(
                "video-map",
                *self.files(tmp_path, [{"video": "v", "score": 0.5, "tube": [[2, 0, 0, 1, 1], [1, 0, 0, 1, 1]]}]),
            )
        with pytest.raises(InputError, match="score"):
            score("video-map", *self.files(tmp_path, [{"video": "v", "score": float("nan"), "tube": []}]))


def test_protocols_and_options() -> None:
    with pytest.raises(UsageError, match=r"'imagenet'.*activitynet, .*video-map"):
        score("imagenet", "a", "b")
    assert len(PROTOCOLS) == 13
    assert proposals_of("all") is None
    assert proposals_of("50") == 50
    for bad in ("0", "-1", "nan", "many", "inf"):
        with pytest.raises(UsageError, match="--max-proposals"):
            proposals_of(bad)


def test_an_option_of_another_protocol_is_said_to_be_idle(tmp_path: Path) -> None:
    paths = activitynet_files(tmp_path, TRUTH, {"a": [(10, 20, "run", 0.8)]})
    options = Options(kit="hits", max_proposals=50, subset="validation")
    idle = [note for note in score("activitynet", *paths, options=options)["notes"] if "means nothing" in note]
    assert [note.split()[0] for note in idle] == ["--max-proposals", "--kit"]


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found: Rows = {"a": [(10, 20, "run", 0.9), (41, 60, "jump", 0.9)], "b": [(5, 30, "run", 0.9), (0, 3, "swim", 0.9)]}
    truth, predictions = activitynet_files(tmp_path, TRUTH, found)
    arguments = ("score", "activitynet", "--truth", truth, "--predictions", predictions)
    assert run(monkeypatch, *arguments, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert list(result)[:5] == ["protocol", "metrics", "per_threshold", "per_class", "notes"]
    assert next(iter(result["per_threshold"])) == "0.50"
    assert run(monkeypatch, *arguments, "--bootstrap", 20, "--against", predictions) == 0
    text = capsys.readouterr().out
    for words in (
        "average_map",
        "in 95 % of 20 resamples of 2 videos",
        "against",
        "worst first",
        "longest third",
        "swim",
    ):
        assert words in text
    assert run(monkeypatch, *arguments, "--strict") == 3
    assert "swim" in capsys.readouterr().err


def test_convert_names_the_file_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    truth, _ = activitynet_files(tmp_path, TRUTH, {})
    assert run(monkeypatch, "convert", truth, tmp_path / "out.eaf") == 3
    assert f"{tmp_path / 'out.eaf'}: one file holds one video" in capsys.readouterr().err
    assert not (tmp_path / "out.eaf").exists()
