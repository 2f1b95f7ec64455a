"""The video-map protocol: tubes, boxes of one actor over frames."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from extract.errors import InputError
from pipelines.annotations.files import JsonFile, finite, number, table
from pipelines.notes import shown
from pipelines.scoring.scored import (
    Options,
    Scored,
    at,
    class_figures,
    mean_over_thresholds,
    order_range,
    value,
)
from seqmodels.metrics.ranking import mean_ap
from seqmodels.metrics.tubes import Tube, frame_tube_ranking, tube_ranking

LARGEST = 1e9  # no video has as many frames, or pixels in a row
THRESHOLDS = tuple(round(0.05 * k, 2) for k in range(1, 20))
_TRUTH = 'an object with labels, test_videos and gttubes, as {"labels": […], "test_videos": [[id, …]], "gttubes": {…}}'
_COLUMNS = ("video_index", "frame", "label_index", "score", "x1", "y1", "x2", "y2")


def video_map(truth: Path, predictions: Path, options: Options) -> Scored:
    """Video mAP of tubes, as MultiSports has it (mmaction2, `multisports_utils.py`; rules in `tube_ranking` and
    `tube_iou`): ``map`` at an overlap of .5, ``average_map`` over .5:.05:.95, ``map_05_45`` and ``map_10_90``; with
    ``inclusive`` as ACT's code for JHMDB and UCF101-24. All classes that have truth count.

    Truth: JSON with ``labels``, ``test_videos`` (a list of lists of ids) and ``gttubes`` (video, class number, tubes of
    ``[frame, x1, y1, x2, y2]`` in pixels). Predictions: JSON by class number, ``{"video", "score", "tube"}`` each; or a
    csv of boxes, of which the same figures are made frame by frame (frame mAP).
    """
    labels, videos, true = _read_truth(truth)
    trouble: list[str] = []
    by_frame = predictions.suffix.lower() == ".csv"
    read = _read_boxes if by_frame else _read_tubes
    found = read(predictions, len(labels), videos, trouble)
    rank = frame_tube_ranking if by_frame else tube_ranking
    ranking = rank(true, found, len(labels), THRESHOLDS, inclusive=options.inclusive)
    ap = ranking.ap()
    maps = mean_ap(ap)
    half = THRESHOLDS.index(0.5)
    upper = slice(half, None)
    metrics = {
        "map": value(float(maps[half])),
        "average_map": value(float(maps[upper].mean())),
        "map_05_45": value(float(maps[:9].mean())),
        "map_10_90": value(float(maps[1:18:2].mean())),
    }
    at_half = ranking.at(half)
    notes = ["predictions are boxes: the figures are of frames, not of tubes"] if by_frame else []
    figures = class_figures(labels, ap, THRESHOLDS)
    for row, each in zip(figures.values(), ap[:, half].tolist(), strict=True):
        row["ap"] = value(each)
    return Scored(
        metrics=metrics,
        headline="map",
        videos=list(videos),
        resample=mean_over_thresholds(at_half),
        per_threshold={at(t): value(x) for t, x in zip(THRESHOLDS, maps.tolist(), strict=True)},
        per_class=figures,
        tied=order_range(at_half),
        trouble=trouble,
        notes=notes,
    )


def _read_truth(path: Path) -> tuple[tuple[str, ...], dict[str, int], list[Tube]]:
    if path.suffix in (".pkl", ".pickle"):
        raise InputError(f"{path}: a pickle can run code and is not read; expected the same as JSON, {_TRUTH}")
    file = JsonFile.read(path, _TRUTH)
    root = file.root
    for key, kind in (("labels", list), ("test_videos", list), ("gttubes", dict)):
        if not isinstance(root, dict) or not isinstance(root.get(key), kind):
            raise file.wrong([key], root.get(key) if isinstance(root, dict) else root, _TRUTH)
    names = [name for part in root["test_videos"] for name in (part if isinstance(part, list) else [part])]
    if not all(isinstance(name, str) for name in (*names, *root["labels"])):
        raise file.wrong(["test_videos"], names, "ids as text")
    videos = {name: i for i, name in enumerate(dict.fromkeys(names))}
    tubes = []
    for video, by_label in root["gttubes"].items():
        if video not in videos:
            continue
        if not isinstance(by_label, dict):
            raise file.wrong(["gttubes", video], by_label, "an object of tubes by class number")
        for label, rows in by_label.items():
            keys = ["gttubes", video, label]
            if not isinstance(rows, list):
                raise file.wrong(keys, rows, "a list of tubes")
            index = _label(file, keys, label, len(root["labels"]))
            tubes += [_tube(file, [*keys, i], row, videos[video], index) for i, row in enumerate(rows)]
    return tuple(root["labels"]), videos, tubes


def _label(file: JsonFile, keys: Sequence[str | int], label: str, n_labels: int) -> int:
    if not re.fullmatch(r"\d{1,6}", label) or int(label) >= n_labels:
        raise file.wrong(keys, label, f"the number of a class, 0..{n_labels - 1}, as key")
    return int(label)


def _tube(file: JsonFile, keys: Sequence[str | int], rows: object, video: int, label: int, score: float = 0.0) -> Tube:
    expected = "rows of frame (a whole number), x1, y1, x2, y2 in rising order of frames"
    try:
        points = [row[:5] for row in rows] if isinstance(rows, list) else []
        table_of = np.array(points, np.float64).reshape(-1, 5)
    except (TypeError, ValueError, KeyError):
        raise file.wrong(keys, rows, expected) from None
    frame = table_of[:, 0]
    right = (np.abs(table_of) < LARGEST).all() and (frame == np.rint(frame)).all()
    if not right or len(frame) == 0 or (np.diff(frame) <= 0).any():
        raise file.wrong(keys, rows, expected)
    return Tube(video, label, frame.astype(np.int64), table_of[:, 1:], score)


def _read_tubes(path: Path, n_labels: int, videos: Mapping[str, int], trouble: list[str]) -> list[Tube]:
    file = JsonFile.read(path, 'an object of lists of {"video", "score", "tube"} by class number')
    if not isinstance(file.root, dict):
        raise file.wrong([], file.root, "an object of lists of tubes by class number")
    tubes, strange = [], []
    for label, rows in file.root.items():
        index = _label(file, [label], label, n_labels)
        if not isinstance(rows, list):
            raise file.wrong([label], rows, "a list of tubes")
        for i, row in enumerate(rows):
            keys = [label, i]
            score = number(row.get("score")) if isinstance(row, dict) else None
            if score is None or not isinstance(row.get("video"), str):
                raise file.wrong(keys, row, 'an object with "video", a finite "score" and "tube"')
            if row["video"] not in videos:
                strange.append(row["video"])
            tubes.append(_tube(file, [*keys, "tube"], row.get("tube"), videos.get(row["video"], -1), index, score))
    if strange:
        trouble.append(
            f"{path.name}: {len(strange)} tubes are of videos that are not scored, and count as false:"
            f" {shown(dict.fromkeys(strange))}"
        )
    return tubes


def _read_boxes(path: Path, n_labels: int, videos: Mapping[str, int], trouble: list[str]) -> list[Tube]:
    expected = f"a header {','.join(_COLUMNS)} and rows of numbers"
    rows = table(path, expected)
    header = next(rows, (1, []))[1]
    if tuple(header) != _COLUMNS:
        raise InputError(f"{path}, line 1: {','.join(header)[:80]!r}; expected {expected}")
    boxes, strange = [], 0
    for line, cells in rows:
        try:
            video, frame, label, score, *box = map(finite, cells)
            whole = {video, frame, label} == {int(video), int(frame), int(label)}
            small = max(map(abs, (frame, *box))) < LARGEST
            if len(box) != 4 or not 0 <= label < n_labels or not whole or not small:
                raise ValueError(f"{','.join(cells)[:60]!r}")
        except ValueError as error:
            raise InputError(f"{path}, line {line}: {error}; expected {expected}, classes 0..{n_labels - 1}") from error
        known = 0 <= video < len(videos)
        strange += not known
        where = int(video) if known else -1
        boxes.append(Tube(where, int(label), np.array([int(frame)]), np.array([box]), score))
    if strange:
        trouble.append(f"{path.name}: {strange} boxes are of videos that are not scored, and count as false")
    return boxes
