"""Protocols over a score for every class: Charades, top-k of views, YouTube-8M. N samples, C classes, V videos."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from extract.errors import InputError, UsageError
from pipelines.annotations.document import Document
from pipelines.annotations.files import finite, read_rows, read_text, table
from pipelines.annotations.formats import read_document
from pipelines.notes import shown
from pipelines.scoring.scored import (
    Floats,
    Options,
    Scored,
    class_figures,
    mean_over_thresholds,
    order_range,
    tie_range,
    value,
)
from seqmodels.metrics.multilabel import (
    dense_ranking,
    mean_class_accuracy,
    precision_at_equal_recall,
    top_k_hits,
    top_k_range,
    top_ranking,
)
from seqmodels.metrics.ranking import mean_ap

CHARADES_CLASSES = 157
FRAMES = 25
GAP_KS = (5, 20, 40)
TOP_KS = (1, 5)
Bools = NDArray[np.bool_]


def charades(truth: Path, predictions: Path, _options: Options) -> Scored:
    """Charades' classification, as `Charades_v1_classify.m` computes it: the mean over 157 classes of the precision at
    each positive (non-interpolated). Videos without any action rank last, and so do videos without a row of scores.
    A class without positives leaves ``map`` undefined; ``map_of_classes_with_positives`` leaves such classes out, and
    ``weighted_map`` weighs classes by their positives.
    """
    annotated = _read_charades(truth)
    positives = np.zeros((len(annotated.videos), CHARADES_CLASSES), np.bool_)
    positives[annotated.segments.video, _codes(annotated, truth)[annotated.segments.label]] = True
    ids, scores, trouble = _read_submission(predictions, annotated, keyed_by_frame=False)
    table_of = np.full(positives.shape, -np.inf)
    table_of[ids] = scores
    table_of[~positives.any(axis=1)] = -np.inf
    return _charades(annotated, table_of, positives, np.arange(len(positives)), trouble)


def charades_localize(truth: Path, predictions: Path, _options: Options) -> Scored:
    """Charades' localization, as `Charades_v1_localize.m` computes it: 25 frames of each video, frame j (from 1) at
    (j - 1) / 25 of its length, an action being on from its start to its end, both included. All frames of all videos
    are ranked for each class as in `charades`; a frame without a row of scores ranks last.
    """
    annotated = _read_charades(truth)
    rows, codes = annotated.segments, _codes(annotated, truth)
    lengths = np.array([media.duration_s or np.nan for media in annotated.media.values()])
    if np.isnan(lengths).any():
        bare = [video for video, length in zip(annotated.videos, lengths, strict=True) if np.isnan(length)]
        raise InputError(
            f"{truth}: {len(bare)} videos have no length: {shown(bare)}; expected seconds in column length"
        )
    when = np.arange(FRAMES) / FRAMES * lengths[rows.video][:, None]
    on = (rows.span_s[:, :1] <= when) & (when <= rows.span_s[:, 1:])
    row, frame = np.nonzero(on)
    positives = np.zeros((len(lengths) * FRAMES, CHARADES_CLASSES), np.bool_)
    positives[rows.video[row] * FRAMES + frame, codes[rows.label[row]]] = True
    ids, scores, trouble = _read_submission(predictions, annotated, keyed_by_frame=True)
    table_of = np.full(positives.shape, -np.inf)
    table_of[ids] = scores
    return _charades(annotated, table_of, positives, np.repeat(np.arange(len(lengths)), FRAMES), trouble)


def _charades(
    annotated: Document, scores: Floats, positives: Bools, video: NDArray[np.int64], trouble: list[str]
) -> Scored:
    ranking = dense_ranking(scores, positives, video)
    ap = ranking.ap()[:, 0]
    counts = positives.sum(axis=0)
    empty = np.flatnonzero(counts == 0)
    defined = float(np.nanmean(ap)) if len(empty) < len(ap) else np.nan
    notes = list(annotated.notes)
    if len(empty):
        notes.append(
            f"{len(empty)} of {len(ap)} classes have no positive, so the official map is undefined; without them it is"
            f" {defined:.6f}: {shown(f'c{i:03d}' for i in empty)}"
        )
    weighted = float(np.nansum(ap * counts) / counts.sum()) if counts.any() else np.nan
    names = tuple(f"c{i:03d}" for i in range(len(ap)))
    return Scored(
        metrics={
            "map": value(float(ap.mean())),
            "map_of_classes_with_positives": value(defined),
            "weighted_map": value(weighted),
        },
        headline="map_of_classes_with_positives",
        videos=annotated.videos,
        resample=mean_over_thresholds(ranking),
        per_class=class_figures(names, ap[:, None], (0.5,)),
        tied=order_range(ranking),
        trouble=trouble,
        notes=notes,
    )


def _read_charades(path: Path) -> Document:
    document = read_document(path)
    if document.format != "charades":
        raise InputError(f"{path}: {document.format}; expected Charades' csv with columns id, actions and length")
    return document


def _codes(document: Document, path: Path) -> NDArray[np.int64]:
    """The number of each label: 92 of c092."""
    wrong = [label for label in document.labels if not re.fullmatch(r"c\d{3}", label)]
    wrong += [label for label in document.labels if label not in wrong and int(label[1:]) >= CHARADES_CLASSES]
    if wrong:
        raise InputError(f"{path}: actions {shown(wrong)}; expected c000 to c{CHARADES_CLASSES - 1}")
    return np.array([int(label[1:]) for label in document.labels], np.int64)


def _read_submission(
    path: Path, annotated: Document, *, keyed_by_frame: bool
) -> tuple[NDArray[np.int64], Floats, list[str]]:
    """Rows of the truth's samples, and scores ``(N, 157)``: a line has an id, a frame (1..25) if so, and 157 scores."""
    lead = 2 if keyed_by_frame else 1
    expected = f"a line with id{', frame 1..25' if keyed_by_frame else ''} and {CHARADES_CLASSES} scores"
    number = {video: i for i, video in enumerate(annotated.videos)}
    samples: dict[int, Floats] = {}
    strange: list[str] = []
    twice: list[str] = []
    for line, cells in _words(path, expected):
        where = f"{path}, line {line}"
        if len(cells) != lead + CHARADES_CLASSES:
            raise InputError(f"{where}: {len(cells)} values ({' '.join(cells)[:40]}…); expected {expected}")
        try:
            scores = np.array(cells[lead:], np.float64)
        except ValueError:
            scores = np.full(1, np.nan)
        if not np.isfinite(scores).all():
            bad = next(cell for cell in cells[lead:] if not _is_finite(cell))
            raise InputError(f"{where}: score {bad[:40]!r}; expected a finite number. Correct the file")
        frame = 0
        if keyed_by_frame:
            if not re.fullmatch(r"\d{1,3}", cells[1]) or not 1 <= int(cells[1]) <= FRAMES:
                raise InputError(f"{where}: frame {cells[1][:40]!r}; expected 1..{FRAMES}")
            frame = int(cells[1]) - 1
        if cells[0] not in number:
            strange.append(cells[0])
            continue
        sample = number[cells[0]] * (FRAMES if keyed_by_frame else 1) + frame
        if sample in samples:
            twice.append(" ".join(cells[:lead]))
        samples[sample] = scores  # the last counts, as in the official script
    trouble = []
    if strange:
        trouble.append(
            f"{path.name}: {len(strange)} rows are of unknown videos and left out: {shown(dict.fromkeys(strange))}"
        )
    if twice:
        trouble.append(f"{path.name}: {len(twice)} rows are there again; the last counts: {shown(twice)}")
    total = len(number) * (FRAMES if keyed_by_frame else 1)
    if len(samples) < total:
        what = "frames" if keyed_by_frame else "videos"
        have = {sample // (FRAMES if keyed_by_frame else 1) for sample in samples}
        missing = [video for video, i in number.items() if i not in have]
        trouble.append(
            f"{path.name}: {total - len(samples)} of {total} {what} have no row, and rank last"
            + (f"; no row at all: {shown(missing)}" if missing else "")
        )
    ids = np.fromiter(samples, np.int64, len(samples))
    scores = np.array(list(samples.values())).reshape(-1, CHARADES_CLASSES)
    return ids, scores, trouble


def _is_finite(cell: str) -> bool:
    try:
        finite(cell)
    except ValueError:
        return False
    return True


def _words(path: Path, expected: str) -> Iterator[tuple[int, list[str]]]:
    """Lines that are not blank, split at white space."""
    for line, text in enumerate(read_text(path, expected).splitlines(), start=1):
        if cells := text.split():
            yield line, cells


def topk(truth: Path, predictions: Path, options: Options) -> Scored:
    """Top-1 and top-5 accuracy, and mean class accuracy, over videos of one class each with any number of views.

    Views of a video are averaged, as ``views`` says as probabilities (after a softmax, the default) or as scores
    (mmaction2's `average_clips` prob and score). Truth: csv ``video,label`` with class numbers; predictions: csv
    ``video,view,c0,c1,…`` with scores before any softmax.
    """
    if options.views not in ("probabilities", "scores"):
        raise UsageError(f"--views is {options.views!r}; expected probabilities or scores")
    labels = _read_classes(truth)
    width, ids, scores = _read_views(predictions)
    if options.views == "probabilities":
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
    if beyond := [f"{video} ({label})" for video, label in labels.items() if label >= width]:
        raise InputError(
            f"{truth}: {len(beyond)} labels are beyond the {width} classes of {predictions.name}: {shown(beyond)};"
            f" expected 0..{width - 1}"
        )
    known = np.array([video in labels for video in ids], np.bool_)
    trouble = []
    if strange := {video for video in ids if video not in labels}:
        trouble.append(
            f"{predictions.name}: {len(strange)} videos are not in the truth and left out: {shown(sorted(strange))}"
        )
    videos = list(dict.fromkeys(video for video in ids if video in labels))
    if missing := [video for video in labels if video not in set(videos)]:
        trouble.append(f"{predictions.name}: {len(missing)} videos have no row and are left out: {shown(missing)}")
    if not videos:
        raise InputError(f"{predictions}: no row is of a video of {truth.name}; expected the same ids")
    number = {video: i for i, video in enumerate(videos)}
    row = np.array([number[video] for video in ids if video in number], np.int64)
    mean = np.zeros((len(videos), width))
    np.add.at(mean, row, scores[known])
    mean /= np.bincount(row, minlength=len(videos))[:, None]
    truths = np.array([labels[video] for video in videos], np.int64)
    hits = {k: top_k_hits(mean, truths, k) for k in TOP_KS}
    class_mean, each = mean_class_accuracy(mean, truths)
    metrics: dict[str, float | None] = {f"top_{k}": float(hit.mean()) for k, hit in hits.items()}
    metrics["mean_class_accuracy"] = class_mean
    return Scored(
        metrics=metrics,
        headline="top_1",
        videos=videos,
        resample=lambda weights: weights @ hits[1] / weights.sum(axis=1),
        per_class={str(i): {"accuracy": value(x)} for i, x in enumerate(each.tolist())},
        tied=tie_range((metrics["top_1"] or 0.0, *top_k_range(mean, truths, 1))),
        first="the higher class number",
        trouble=trouble,
    )


def _read_classes(path: Path) -> dict[str, int]:
    """The class number of each video, from rows ``video,label`` with or without a header."""
    expected = "a row video,label with the number of a class"
    classes: dict[str, int] = {}
    for line, cells in table(path, expected):
        if len(cells) == 2 and not classes and not cells[1].isdigit():
            continue  # the header
        if len(cells) != 2 or not re.fullmatch(r"\d{1,6}", cells[1]):
            raise InputError(f"{path}, line {line}: {','.join(cells)[:60]!r}; expected {expected}")
        if classes.setdefault(cells[0], int(cells[1])) != int(cells[1]):
            raise InputError(f"{path}, line {line}: video {cells[0]!r} has a second label; expected one each")
    if not classes:
        raise InputError(f"{path} has no rows; expected {expected}")
    return classes


def _read_views(path: Path) -> tuple[int, list[str], Floats]:
    """Number of classes, each row's video, and scores ``(N, C)``."""
    expected = "a header video,view,c0,c1,… and rows of as many cells"
    rows = table(path, expected)
    header = next(rows, (1, []))[1]
    width = len(header) - 2
    if width < 1 or header[0].lower() != "video":
        raise InputError(f"{path}, line 1: {','.join(header)[:60]!r}; expected {expected}")
    ids, scores = [], []
    for line, cells in rows:
        try:
            if len(cells) != width + 2:
                raise ValueError(f"{len(cells)} cells")
            scores.append([finite(cell) for cell in cells[2:]])
        except ValueError as error:
            raise InputError(f"{path}, line {line}: {error}; expected {expected}") from error
        ids.append(cells[0])
    return width, ids, np.array(scores, np.float64).reshape(-1, width)


def gap(truth: Path, predictions: Path, _options: Options) -> Scored:
    """YouTube-8M's global average precision: the K best classes of each video, all ranked together (``gap_K``; the
    challenge's is ``gap_20``); ``hit_at_1``, ``perr``, and ``map`` over classes, of the 20 best (``map_all``: of all).

    As google/youtube-8m's `eval_util.py` computes them, but that equal scores keep the order of the file, where the
    original shuffles them. Both files: csv, a row a video and a column a class, without a header; truth 0 or 1.
    """
    positives = _read_matrix(truth, "0 or 1 in a column for each class") != 0
    scores = _read_matrix(predictions, "a score in a column for each class")
    if positives.shape != scores.shape:
        raise InputError(
            f"{truth.name} has {positives.shape[0]} rows of {positives.shape[1]}, {predictions.name}"
            f" {scores.shape[0]} of {scores.shape[1]}; expected the same videos and classes in both"
        )
    rankings = {k: top_ranking(scores, positives, k, pooled=True) for k in GAP_KS}
    by_class, whole = (top_ranking(scores, positives, k, pooled=False) for k in (20, scores.shape[1]))
    metrics = {f"gap_{k}": value(float(ranking.ap()[0, 0])) for k, ranking in rankings.items()}
    best = scores.argmax(axis=1)
    metrics |= {
        "hit_at_1": value(float(positives[np.arange(len(best)), best].mean())),
        "perr": value(float(precision_at_equal_recall(scores, positives).mean())),
        "map": value(float(mean_ap(by_class.ap())[0])),
        "map_all": value(float(mean_ap(whole.ap())[0])),
    }
    names = tuple(str(i) for i in range(scores.shape[1]))
    without = int((~positives.any(axis=0)).sum())
    return Scored(
        metrics=metrics,
        headline="gap_20",
        videos=[str(i) for i in range(len(scores))],
        resample=mean_over_thresholds(rankings[20]),
        per_class=class_figures(names, by_class.ap(), (0.5,)),
        tied=order_range(rankings[20]),
        notes=[f"{without} of {len(names)} classes have no positive, and are not in map"] if without else [],
    )


def _read_matrix(path: Path, expected: str) -> Floats:
    widths: set[int] = set()

    def parse(cells: Sequence[str]) -> list[float]:
        if widths and len(cells) not in widths:
            raise ValueError(f"{len(cells)} cells, the first row has {min(widths)}")
        widths.add(len(cells))
        return [finite(cell) for cell in cells]

    rows = read_rows(path, parse, expected)
    if not rows:
        raise InputError(f"{path} has no rows; expected {expected}")
    return np.array(rows, np.float64)
