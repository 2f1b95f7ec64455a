"""AVA's protocols: boxes with actions, frame by frame."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from extract.errors import InputError, UsageError
from pipelines.annotations.ava import VIDEO_SHIFT, frame_numbers, read_class_list
from pipelines.annotations.document import Boxes, Document
from pipelines.annotations.files import finite, read_rows
from pipelines.annotations.formats import read_document
from pipelines.notes import shown
from pipelines.scoring.scored import (
    Options,
    Scored,
    class_figures,
    mean_over_thresholds,
    tie_range,
    value,
)
from seqmodels.metrics.frame_ap import CAP, FrameBoxes, FrameRanking, frame_ranking
from seqmodels.metrics.ranking import equal_scores, mean_ap

LONGEST_S = 500_000.0  # seconds that a number of microseconds below 2 ** 39 holds, of either sign


def ava(truth: Path, predictions: Path, options: Options) -> Scored:
    """AVA's frame mAP at IoU .5 as the official evaluation computes it since April 2020 (activitynet/ActivityNet,
    `Evaluation/get_ava_performance.py`; rules in `frame_map`): frames that the truth does not name do not count, and of
    each frame the best 50 detections do. There is no file of excluded frames. Classes are those of ``labels``.
    """
    scored = _frames(truth, predictions, replace(options, exclude=None), every_frame=False, cap=CAP)
    if options.exclude is not None:
        scored.notes.append(
            f"{options.exclude.name} is not used: the current form has no excluded frames (ava-2019 and ava-2018 have)"
        )
    return scored


def ava_2019(truth: Path, predictions: Path, options: Options) -> Scored:
    """The form of March 2019: excluded frames do not count, all others do; the best 50 detections of each frame."""
    return _frames(truth, predictions, options, every_frame=True, cap=CAP)


def ava_2018(truth: Path, predictions: Path, options: Options) -> Scored:
    """The form of April 2018: excluded frames do not count, all others do; all detections."""
    return _frames(truth, predictions, options, every_frame=True, cap=None)


@dataclass(slots=True, eq=False)
class _Table:
    """Rows with the truth's numbers of videos (new ones after them) and classes; ``-1`` a class that is not listed."""

    boxes: Boxes
    frame: NDArray[np.int64]


def _frames(truth: Path, predictions: Path, options: Options, *, every_frame: bool, cap: int | None) -> Scored:
    if options.labels is None:
        raise UsageError("AVA's protocols need --labels, its class list (.pbtxt): the classes that count")
    names = read_class_list(options.labels)
    labels = tuple(name for _, name in sorted(names.items()))
    true, found = (_read_boxes(path, options.labels) for path in (truth, predictions))
    if not np.isnan(true.boxes.score).all() and np.isnan(found.boxes.score).all():
        raise InputError(f"{truth} has scores and {predictions} has none; expected it the other way. Exchange them")
    trouble: list[str] = []
    videos = {name: i for i, name in enumerate(dict.fromkeys((*true.videos, *found.videos)))}
    true_rows = _table(true, videos, labels, truth, trouble)
    rows = _table(found, videos, labels, predictions, trouble)
    excluded = _excluded(options.exclude, videos)
    true_rows, rows = (_without(table, excluded) for table in (true_rows, rows))
    # Frames of actions that no class list has are annotated, too.
    rank = partial(
        frame_ranking, _of_class(true_rows), _of_class(rows), len(labels),
        empty_frames=np.unique(true_rows.frame), every_frame=every_frame, cap=cap,
    )  # fmt: skip
    result = rank()
    ranking = result.ranking
    by_video = replace(ranking, video=ranking.video >> VIDEO_SHIFT, true_video=ranking.true_video >> VIDEO_SHIFT)
    ap = ranking.ap()
    trouble += _trouble(result, rows, true_rows, list(videos), truth, predictions, every_frame=every_frame)
    return Scored(
        metrics={"map": value(float(mean_ap(ap)[0]))},
        headline="map",
        videos=list(videos) if every_frame else true.videos,
        resample=mean_over_thresholds(by_video),
        per_threshold={"0.50": value(float(mean_ap(ap)[0]))},
        per_class=class_figures(labels, ap, (0.5,)),
        tied=_tied(result, rank),
        trouble=trouble,
        notes=_unseen(labels, ap),
    )


def _unseen(labels: tuple[str, ...], ap: NDArray[np.float64]) -> list[str]:
    without = [label for label, x in zip(labels, ap[:, 0].tolist(), strict=True) if np.isnan(x)]
    if not without:
        return []
    return [f"{len(without)} of {len(labels)} classes have no truth: null, and not in the mean: {shown(without)}"]


def _tied(result: FrameRanking, rank: "partial[FrameRanking]") -> tuple[float, float] | None:
    if not equal_scores(result.ranking.label, result.ranking.score):
        return None
    best, worst = rank(tiebreak=1).ranking, rank(tiebreak=-1).ranking
    aps = (result.ranking.ap(), best.ap(ties="best"), worst.ap(ties="worst"))
    return tie_range(float(mean_ap(ap)[0]) for ap in aps)


def _read_boxes(path: Path, labels: Path) -> Document:
    document = read_document(path, labels=labels)
    if not len(document.boxes):
        raise InputError(
            f"{path}: no boxes ({document.format}); expected AVA's csv, video,second,x1,y1,x2,y2,action number and, for"
            " detections, a score"
        )
    return document


def _table(
    document: Document, videos: Mapping[str, int], labels: tuple[str, ...], path: Path, trouble: list[str]
) -> _Table:
    number = {label: i for i, label in enumerate(labels)}
    known = np.array([*(number.get(name, -1) for name in document.labels), -1], np.int64)
    boxes = document.boxes
    label = known[boxes.label]
    video = np.array([videos[name] for name in document.videos], np.int64)[boxes.video]
    unknown = (label < 0) & ~np.isnan(boxes.box).any(axis=1)
    if unknown.any():
        names = Counter(document.labels[i] if i >= 0 else "none" for i in boxes.label[unknown].tolist())
        trouble.append(
            f"{path.name}: {unknown.sum()} of {len(boxes)} rows have an action that the class list does not have, and"
            f" are left out: {shown(f'{name} ({n})' for name, n in names.most_common())}"
        )
    score = boxes.score
    if np.isnan(score).all() and (boxes.track >= 0).all():  # scores that are all whole numbers look like persons
        score = boxes.track.astype(np.float64)
    return _Table(replace(boxes, video=video, label=label, score=score), _numbers(video, boxes.second, path))


def _numbers(video: NDArray[np.int64], second: NDArray[np.float64], path: Path) -> NDArray[np.int64]:
    """`frame_numbers` of seconds that can have one."""
    late = second[np.abs(second) >= LONGEST_S]
    if len(late):
        raise InputError(f"{path}: second {late[0]:g} in {len(late)} rows; expected less than {LONGEST_S:g}")
    return frame_numbers(video, second)


def _without(table: _Table, excluded: NDArray[np.int64]) -> _Table:
    kept = np.flatnonzero(~np.isin(table.frame, excluded))
    return _Table(table.boxes.take(kept), table.frame[kept])


def _of_class(table: _Table) -> FrameBoxes:
    """The rows that are boxes of a listed class."""
    kept = np.flatnonzero((table.boxes.label >= 0) & ~np.isnan(table.boxes.box[:, 0]))
    boxes = table.boxes.take(kept)
    return FrameBoxes(table.frame[kept], boxes.box, boxes.label, np.nan_to_num(boxes.score, nan=0.0))


def _excluded(path: Path | None, videos: Mapping[str, int]) -> NDArray[np.int64]:
    if path is None:
        return np.zeros(0, np.int64)
    rows = read_rows(path, lambda cells: (cells[0], finite(cells[1])), "video,second, a row for each excluded frame")
    known = [(videos[video], second) for video, second in rows if video in videos]
    return _numbers(np.array([v for v, _ in known], np.int64), np.array([s for _, s in known], np.float64), path)


def _trouble(
    result: FrameRanking,
    rows: _Table,
    true: _Table,
    videos: list[str],
    truth: Path,
    predictions: Path,
    *,
    every_frame: bool,
) -> list[str]:
    found = []
    bare = np.isnan(rows.boxes.score)
    if bare.any():
        raise InputError(
            f"{predictions}: {bare.sum()} of {len(bare)} rows have no score; expected a score in column 8 of each."
            " Are truth and predictions exchanged?"
        )
    if result.flat_truth:
        found.append(f"{truth.name}: {result.flat_truth} true boxes have no area or are reversed, and are left out")
    if result.flat:
        found.append(f"{predictions.name}: {result.flat} boxes have no area or are reversed, and are left out")
    outside = np.flatnonzero((np.abs(rows.boxes.box - 0.5) > 0.5 + 1e-9).any(axis=1))
    if len(outside):
        found.append(
            f"{predictions.name}: {len(outside)} of {len(rows.boxes)} boxes reach beyond the frame (0..1); they are"
            " scored as they are"
        )
    if result.capped:
        found.append(
            f"{predictions.name}: {result.capped} detections are beyond the best {CAP} of their frame, over all"
            " classes, and do not count"
        )
    if result.elsewhere:
        found.append(
            f"{predictions.name}: {result.elsewhere} detections are on frames that the truth does not name, and do not"
            " count"
        )
    strange = np.unique(rows.frame[~np.isin(rows.frame, true.frame)])
    if every_frame and len(strange):
        found.append(
            f"{predictions.name}: detections on {len(strange)} frames that the truth does not name count as false"
        )
    missing = np.unique(true.frame[~np.isin(true.frame >> VIDEO_SHIFT, rows.frame >> VIDEO_SHIFT)] >> VIDEO_SHIFT)
    if len(missing):
        found.append(
            f"{predictions.name}: {len(missing)} videos with truth have no detection:"
            f" {shown(videos[i] for i in missing.tolist())}"
        )
    twice = len(true.frame) - len(
        np.unique(np.column_stack((true.frame, true.boxes.label, np.nan_to_num(true.boxes.box, nan=-9))), axis=0)
    )
    if twice:
        found.append(f"{truth.name}: {twice} rows are there twice (same frame, action and box), and count twice")
    return found
