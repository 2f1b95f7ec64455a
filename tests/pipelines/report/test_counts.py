"""The page counts what Python counts, at every threshold: from curves, rows and boxes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Watched, chromium

from pipelines.annotations.document import Document, Media
from pipelines.annotations.draft import Draft
from pipelines.predictions import Curves, Predictions
from pipelines.report.page import report_page
from pipelines.report.payload import shown_videos, video_json

LABELS = ["a", "b", "c"]
NAMES = {"shown": "shown", "hits": "hits", "wrong": "wrong_class", "false_alarms": "false_alarms", "misses": "misses"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


def both(kind: str, rng: np.random.Generator) -> tuple[Predictions, Document]:
    """Predictions and truth with many equal scores and overlaps of just 0.5."""
    found, true = Draft("x", labels=LABELS), Draft("x", labels=LABELS)
    ours, theirs = (draft.video("v", Media(600.0)) for draft in (found, true))
    for _ in range(400):
        at, length = (float(rng.integers(*ends)) for ends in ((0, 580), (1, 12)))
        off, label, other = rng.integers(0, 4), *rng.integers(0, 3, 2).tolist()
        if kind == "boxes":
            box = np.array([0.1, 0.1, 0.3, 0.3]) + 0.1 * rng.integers(0, 5)
            true.box(theirs, at // 20, box.tolist(), label)
            found.box(ours, at // 20, [*box[:3], box[3] + 0.05 * off], other, -1, rng.integers(0, 10) / 10)
        else:
            true.segment(theirs, label, at, at + length)
            found.segment(ours, other, at + off, at + off + length, rng.integers(0, 10) / 10)
    curves = {}
    if kind == "curves":
        values = np.cumsum(rng.integers(-30, 31, (3, 1500)), axis=1).clip(0, 255).astype(np.uint8)
        curves = {"v": Curves(0.2 + 0.4 * np.arange(1500), values)}
    return Predictions(found.document(), curves), true.document()


@pytest.mark.parametrize("kind", ["segments", "curves", "boxes"])
def test_the_page_counts_as_python_does(browser: Any, tmp_path: Path, kind: str) -> None:
    predictions, truth = both(kind, np.random.default_rng(3))
    (video,), labels = shown_videos(predictions, truth)
    data = {
        "title": kind, "made": "2026-11-26", "task": None, "classes": list(labels), "metrics": {}, "protocol": None,
        "provenance": [], "notes": [], "threshold": 0.5, "tiou": 0.5, "formats": [], "index": None, "pages": None,
        "videos": [video_json(video, src=None, notes=[], thumbs=[])],
    }  # fmt: skip
    (tmp_path / "r.html").write_text(report_page(data), "utf-8")
    context = browser.new_context()
    page = Watched(context).page
    page.goto((tmp_path / "r.html").as_uri())
    for threshold in (0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0):
        page.evaluate(f"untrimmed.setThreshold({threshold})")
        theirs = page.evaluate("untrimmed.counts()")
        assert {name: theirs[other] for name, other in NAMES.items()} == video.counts(threshold), threshold
    assert video.counts(0.3)["hits"] > 0
    context.close()
