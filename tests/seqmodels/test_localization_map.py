"""Average precision of localization, against the official code's figures and by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqmodels.metrics.localization import localization_map
from seqmodels.segments import Found, none_found

FIXTURE = Path(__file__).parents[3] / "shared" / "fixtures" / "eval"


def found(*rows: tuple[float, float, float, int]) -> Found:
    table = np.array(rows).reshape(-1, 4)
    return Found(table[:, :2], table[:, 2], table[:, 3].astype(np.int64))


def truth(*rows: tuple[float, float, int]) -> tuple[Any, Any]:
    table = np.array(rows).reshape(-1, 3)
    return table[:, :2], table[:, 2].astype(np.int64)


def test_by_hand() -> None:
    predicted = [found((0, 10, 0.9, 0), (0, 9, 0.8, 0), (20, 30, 0.7, 0)), found((5, 6, 0.95, 0))]
    true = [truth((0, 10, 0), (20, 29, 0)), truth((50, 60, 1))]
    result = localization_map(predicted, true, n_classes=3, thresholds=(0.5, 0.95))
    # at 0.5: false, true, false, true -> precision 1/2 at recalls 1/2 and 1; at 0.95 the last fails (0.9)
    np.testing.assert_allclose(result.ap[0], [0.5, 0.25])
    assert result.ap[1].tolist() == [0, 0]
    assert np.isnan(result.ap[2]).all()
    assert result.average_map == pytest.approx((0.5 + 0.25 + 0 + 0) / 4)


def test_a_prediction_takes_its_second_choice() -> None:
    true = [truth((0, 10, 0), (4, 14, 0))]
    predicted = [found((0, 10, 0.9, 0), (1, 11, 0.8, 0))]  # the second overlaps the first truth more
    assert localization_map(predicted, true, n_classes=1, thresholds=(0.5,)).average_map == 1.0


def test_no_truth_no_figure() -> None:
    assert localization_map([none_found()], [truth()], n_classes=2).average_map is None


@pytest.mark.skipif(not FIXTURE.exists(), reason="needs ../shared/fixtures/eval")
@pytest.mark.parametrize("name", ["anet_det_s0", "anet_det_s1", "anet_det_ties_s0", "thumos_af_s0"])
def test_official_figures(name: str) -> None:
    folder = FIXTURE / name
    expected = json.loads((folder / "expected.json").read_text())
    database = json.loads((folder / "gt.json").read_text())["database"]
    predictions = "pred_anet.json" if name.startswith("thumos") else "pred.json"
    results = json.loads((folder / predictions).read_text())["results"]
    thresholds = np.linspace(0.3, 0.7, 5) if name.startswith("thumos") else np.linspace(0.5, 0.95, 10)
    subset = expected["subset"]
    truths = {
        video: [(*row["segment"], row["label"]) for row in entry["annotations"]]
        for video, entry in database.items()
        if entry["subset"] == subset
    }
    classes = sorted({row[2] for rows in truths.values() for row in rows})
    ids = list(dict.fromkeys([*results, *truths]))  # ties go by the order of the predictions' file
    number = {label: at for at, label in enumerate(classes)}
    predicted = [
        found(*((*row["segment"], row["score"], number[row["label"]]) for row in results.get(video, [])))
        for video in ids
    ]
    true = [truth(*((a, b, number[label]) for a, b, label in truths.get(video, []))) for video in ids]
    result = localization_map(predicted, true, n_classes=len(classes), thresholds=thresholds)
    official = expected["expected"]["activitynet_official"]
    wanted = expected["ties"]["first_in_file_first"] if "ties" in expected else official
    assert result.average_map == pytest.approx(wanted["average_mAP"], abs=1e-9)
    assert result.map is not None
    np.testing.assert_allclose(result.map, wanted["mAP_per_tiou"], atol=1e-9)
