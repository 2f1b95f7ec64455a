"""Time and memory of `untrimmed score` on a million predictions, beside a loop over them as official scripts have it.

    python benchmarks/score.py      # writes benchmarks/results/score.json

``VIDEOS`` videos with ``EACH`` predictions each, over ``CLASSES`` classes, made here; half of a video's predictions are
of its own class, near its true segments. Four ways, one after the other, each in a process of its own, twice in turn:
*reading* both files; *figures*: reading, matching and average precision, which is what the official code does; *score*:
the whole command, with notes, range of ties, recall, breakdowns; *loop*: the same as *figures* by one prediction after
the other, each looking through its video's truth (written here; the reading is the same). All must agree to 1e-9.
"""

import json
import multiprocessing
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import save, table

from pipelines.scoring import score
from pipelines.scoring.rows import Compared, read_compared
from pipelines.scoring.scored import Options
from seqmodels.metrics.localization import ACTIVITYNET_THRESHOLDS, activitynet_ranking
from seqmodels.metrics.ranking import mean_ap, ranked_ap

VIDEOS, EACH, CLASSES = 5_000, 200, 200
ROUNDS = 2


def make(folder: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    database, results = {}, {}
    for number in range(VIDEOS):
        duration, own = float(rng.uniform(30, 200)), int(rng.integers(CLASSES))
        spans = []
        for _ in range(int(rng.integers(1, 4))):
            start = rng.uniform(0, 0.8 * duration)
            spans.append([round(start, 3), round(min(duration, start + rng.uniform(2, 40)), 3)])
        video = f"video{number:05d}"
        rows = [{"segment": span, "label": f"class {own:03d}"} for span in spans]
        database[video] = {"duration": duration, "subset": "validation", "annotations": rows}
        labels = np.where(rng.random(EACH) < 0.5, own, rng.integers(0, CLASSES, EACH))
        near = np.array(spans)[rng.integers(0, len(spans), EACH)] + rng.normal(0, 5, (EACH, 2))
        near[:, 1] = np.maximum(near[:, 1], near[:, 0] + 1)
        results[video] = [
            {"label": f"class {label:03d}", "score": round(float(s), 6), "segment": [round(a, 3), round(b, 3)]}
            for label, s, (a, b) in zip(labels.tolist(), rng.random(EACH), near.tolist(), strict=True)
        ]
    truth, predictions = folder / "truth.json", folder / "predictions.json"
    truth.write_text(json.dumps({"database": database}))
    predictions.write_text(json.dumps({"results": results}))
    return truth, predictions


def read(truth: Path, predictions: Path) -> Compared:
    return read_compared(truth, predictions, Options(), subsets=("validation",))


def reading(truth: Path, predictions: Path) -> float:
    read(truth, predictions)
    return np.nan


def figures(truth: Path, predictions: Path) -> float:
    rows = read(truth, predictions)
    ranking = activitynet_ranking(rows.truth, rows.found, len(rows.labels), ACTIVITYNET_THRESHOLDS)
    return float(mean_ap(ranking.ap()).mean())


def whole(truth: Path, predictions: Path) -> float:
    return float(score("activitynet", truth, predictions)["metrics"]["average_map"])


def loop(truth: Path, predictions: Path) -> float:
    rows = read(truth, predictions)
    by_label: dict[int, list[int]] = defaultdict(list)
    for row, label in enumerate(rows.found.label.tolist()):
        by_label[label].append(row)
    aps = []
    for label in range(len(rows.labels)):
        true_of: dict[int, list[int]] = defaultdict(list)
        for row in np.flatnonzero(rows.truth.label == label).tolist():
            true_of[int(rows.truth.video[row])].append(row)
        taken = {(row, k): False for of in true_of.values() for row in of for k in range(len(ACTIVITYNET_THRESHOLDS))}
        order = sorted(by_label[label], key=lambda row: -rows.found.score[row])
        hits = np.zeros((len(order), len(ACTIVITYNET_THRESHOLDS)), bool)
        for place, row in enumerate(order):
            candidates = true_of.get(int(rows.found.video[row]))
            if not candidates:
                continue
            start, stop = rows.found.span[row]
            spans = rows.truth.span[candidates]
            shared = (np.minimum(spans[:, 1], stop) - np.maximum(spans[:, 0], start)).clip(0)
            overlap = shared / ((spans[:, 1] - spans[:, 0]) + (stop - start) - shared)
            for k, threshold in enumerate(ACTIVITYNET_THRESHOLDS):
                for best in overlap.argsort()[::-1]:
                    if overlap[best] < threshold:
                        break
                    if not taken[candidates[best], k]:
                        taken[candidates[best], k] = hits[place, k] = True
                        break
        aps.append([ranked_ap(hits[:, k], sum(map(len, true_of.values())), "envelope") for k in range(hits.shape[1])])
    return float(np.mean(aps))


def measured(work: Callable[[Path, Path], float], paths: tuple[Path, Path]) -> tuple[float, float, float]:
    """Figure, seconds and MiB at the most of a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_run, (work, paths))


def _run(work: Callable[[Path, Path], float], paths: tuple[Path, Path]) -> tuple[float, float, float]:
    began = time.perf_counter()
    figure = work(*paths)
    return figure, time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _ratio(slow: float, fast: float) -> float | None:
    return round(slow / fast, 1) if fast > 0 else None


def main() -> None:
    ways = {"reading": reading, "figures": figures, "score": whole, "loop": loop}
    with tempfile.TemporaryDirectory() as folder:
        paths = make(Path(folder))
        seen: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, work in ways.items():
                seen[name].append(measured(work, paths))
    averages = {round(figure, 9) for runs in seen.values() for figure, _, _ in runs if not np.isnan(figure)}
    assert len(averages) == 1, averages
    best = {name: min(seconds for _, seconds, _ in runs) for name, runs in seen.items()}
    rows = [
        {
            "what": name,
            "s": round(best[name], 1),
            "loop / this": round(best["loop"] / best[name], 1),
            "the same without reading": _ratio(best["loop"] - best["reading"], best[name] - best["reading"]),
            "MiB": round(max(memory for _, _, memory in seen[name])),
        }
        for name in ways
    ]
    print(table(list(rows[0]), [[str(cell) for cell in row.values()] for row in rows]))
    save("score", f"{VIDEOS * EACH} predictions over {VIDEOS} videos, activitynet", rows)


if __name__ == "__main__":
    main()
