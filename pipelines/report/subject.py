"""What a report is about: predictions of a file or of a trained run, beside the truth, and their figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import InputError, UsageError
from extract.store import FeatureStore
from pipelines.annotations import Annotations
from pipelines.annotations.ava import Ava, frame_numbers
from pipelines.annotations.document import Document, Media
from pipelines.annotations.draft import Draft, rows_by_video
from pipelines.annotations.formats import read_document
from pipelines.checkpoint import RECORD_FILE, SEEDS_FILE, Run
from pipelines.conversion import of_subset
from pipelines.dataset import match_ids
from pipelines.evaluation import evaluate
from pipelines.predicting import about, checked_run, predict_stored
from pipelines.predictions import Predictions, read_predictions
from pipelines.report.payload import Shown, in_range
from pipelines.tasks import TASKS
from seqmodels.metrics import ACTIVITYNET_THRESHOLDS, THUMOS_THRESHOLDS, localization_map
from seqmodels.metrics.frame_ap import FrameBoxes, frame_map
from seqmodels.segments import Found


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """``metrics`` are a run's official figures; of a file they are computed from what is shown (`file_metrics`).
    ``facts``: how it was made, names and values, without paths of this machine.
    """

    predictions: Predictions
    truth: Document | None
    task: str | None
    title: str
    protocol: str | None
    metrics: Mapping[str, float | None]
    facts: Sequence[tuple[str, str]]
    notes: Sequence[str]


def subject_of(what: str | Path, *, truth: str | Path | None, subset: str | None, store: str | Path | None) -> Subject:
    """Of a run folder or a file of predictions.

    ``truth``: labels in any format; of a run by default those it was trained with, and of these ``subset``, by default
    "validation". ``store``: of a run, by default the one that it was trained on.

    Raises:
        UsageError: ``store`` with predictions, or a run that does not know its store and labels.
        InputError: something cannot be read, or does not go together.
        RecipeMismatchError: ``store`` is of another recipe than the run's.
    """
    place = Path(what)
    if (place / RECORD_FILE).exists() or (place / SEEDS_FILE).exists():
        return _of_run(checked_run(place), truth, subset or "validation", store)
    if store is not None:
        raise UsageError(f"--store is for runs, and {place} is none; leave it out, or name a run folder")
    return _of_file(place, truth, subset)


def _of_run(run: Run, truth: str | Path | None, subset: str, store: str | Path | None) -> Subject:
    labels, features = truth or run.record.get("annotations"), store or run.record.get("store")
    if labels is None or features is None:
        raise UsageError(
            f"{run.path} does not say where its {'features' if features is None else 'labels'} are; expected --store"
            " and --truth, or a run of this version"
        )
    if not Path(labels).exists():
        raise InputError(f"{labels}, the labels of {run.path}, are not there any more; name them by --truth")
    opened = FeatureStore.open(features)
    annotations = TASKS[run.task].read(labels)
    document = _boxes_of(annotations, subset) if isinstance(annotations, Ava) else _segments_of(annotations, subset)
    stored = match_ids(document.videos, list(opened))
    result = evaluate(run, opened, annotations=annotations, subset=subset)
    facts = [("truth", f"{Path(labels).name}, subset {subset}"), ("store", Path(opened.url).name)]
    return Subject(
        predict_stored(run, opened, list(stored.values())),
        document,
        run.task,
        f"{run.path.name}: {run.head_name} head, {subset} videos",
        str(result["protocol"]),
        result["metrics"],
        [*_facts(about(run)), *facts],
        result["notes"],
    )


def _segments_of(annotations: Annotations, subset: str) -> Document:
    draft = Draft("activitynet", labels=annotations.classes)
    for video in annotations.subset(subset).videos:
        number = draft.video(video.video_id, Media(video.duration_s or None, subset=subset))
        for segment in video.segments:
            draft.segment(number, draft.label(segment.label), segment.start_s, segment.stop_s)
    return draft.document()


def _boxes_of(annotations: Ava, subset: str) -> Document:
    draft = Draft("ava", labels=annotations.classes)
    for video_id, video in annotations.subset(subset).items():
        number = draft.video(video_id, Media(subset=subset))
        columns = (video.second, video.box, video.action, video.person)
        for second, box, action, person in zip(*(column.tolist() for column in columns), strict=True):
            draft.box(number, second, box, action, person)
    return draft.document()


def _of_file(path: Path, truth: str | Path | None, subset: str | None) -> Subject:
    if subset is not None and truth is None:
        raise UsageError("--subset is of the truth, and there is none; name it by --truth, or leave --subset out")
    predictions, notes = in_range(read_predictions(path))
    document = None if truth is None else read_document(truth)
    if document is not None:
        scores = np.concatenate([document.segments.score, document.boxes.score])
        if len(np.unique(scores)) > 1 and np.isfinite(scores).all():  # of labels, some formats have 1 everywhere
            raise InputError(
                f"{truth}: all rows have scores, so these are predictions; expected the truth. Exchange the files?"
            )
        document = document if subset is None else of_subset(document, subset)
    facts = [("predictions", path.name), *(() if truth is None else (("truth", Path(truth).name),))]
    return Subject(
        predictions,
        document,
        predictions.about.get("task"),
        path.stem,
        None,
        {},
        [*_facts(predictions.about), *facts],
        [*predictions.document.notes, *notes, *(() if document is None else document.notes)],
    )


def file_metrics(
    predictions: Predictions, truth: Document | None, shown: Sequence[Shown]
) -> tuple[str | None, dict[str, float | None]]:
    """Protocol and figures of predictions beside a truth, over the videos that have both: ActivityNet's mAP of
    segments, over the thresholds of THUMOS14 and of ActivityNet; AVA's frame mAP of boxes.
    """
    document = predictions.document
    matches = {} if truth is None else match_ids(truth.videos, document.videos)
    if truth is None or not matches:
        return None, {}
    pairs = [(document.videos.index(ours), truth.videos.index(theirs)) for theirs, ours in matches.items()]
    labels = tuple(dict.fromkeys((*document.labels, *truth.labels)))
    if len(document.boxes):
        true, found = (_frames(each, side, pairs, labels) for each, side in ((truth, 1), (document, 0)))
        empty = np.concatenate([frame_numbers(at, _seconds(truth, theirs)) for at, (_, theirs) in enumerate(pairs)])
        figure = frame_map(true, found, len(labels), empty_frames=empty).map
        return f"AVA's frame mAP at IoU 0.5, {len(pairs)} videos", {"map": figure}
    lengths = [shown[ours].duration_s for ours, _ in pairs]
    found_rows, true_rows = (_spans(each, side, pairs, labels, lengths) for each, side in ((document, 0), (truth, 1)))
    thumos, activitynet = (
        localization_map(
            found_rows, [(each.segments, each.labels) for each in true_rows], n_classes=len(labels), thresholds=many
        ).average_map
        for many in (THUMOS_THRESHOLDS, ACTIVITYNET_THRESHOLDS)
    )
    named = f"ActivityNet's mAP, mean over tIoU .3:.1:.7, and over .5:.05:.95; {len(pairs)} videos"
    return named, {"average_map": thumos, "average_map_activitynet": activitynet}


def _numbers(document: Document, labels: Sequence[str]) -> NDArray[np.int64]:
    place = {label: at for at, label in enumerate(labels)}
    return np.array([*(place[label] for label in document.labels), -1], np.int64)


def _spans(
    document: Document, side: int, pairs: Sequence[tuple[int, int]], labels: Sequence[str], lengths: Sequence[float]
) -> list[Found]:
    """The segments of each pair's video, with numbers of ``labels``; a row without times is the whole video."""
    rows, number = document.segments, _numbers(document, labels)
    by_video = rows_by_video(document, rows.video)
    found = []
    for pair, length in zip(pairs, lengths, strict=True):
        mine = rows.take(by_video[pair[side]])
        span_s = np.where(np.isnan(mine.span_s).all(axis=1, keepdims=True), [0.0, length], mine.span_s)
        kept = (mine.label >= 0) & (span_s[:, 0] <= span_s[:, 1])
        found.append(Found(span_s[kept], mine.score[kept], number[mine.label[kept]]))
    return found


def _frames(document: Document, side: int, pairs: Sequence[tuple[int, int]], labels: Sequence[str]) -> FrameBoxes:
    rows = document.boxes
    at = np.full(len(document.media), -1, np.int64)
    at[[pair[side] for pair in pairs]] = np.arange(len(pairs))
    rows = rows.take((at[rows.video] >= 0) & (rows.label >= 0) & np.isfinite(rows.box).all(axis=1))
    score = rows.score if side == 0 else None
    return FrameBoxes(
        frame_numbers(at[rows.video], rows.second), rows.box, _numbers(document, labels)[rows.label], score
    )


def _seconds(document: Document, video: int) -> NDArray[np.float64]:
    seconds: NDArray[np.float64] = document.boxes.second[document.boxes.video == video]
    return seconds


def _facts(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    recipe = about.get("recipe") or {}
    facts = [(name, about.get(name)) for name in ("run", "task", "head", "seed")]
    facts += [("backbone", recipe.get("backbone")), ("weights sha256", str(recipe.get("weights_sha256", ""))[:12])]
    clips = "{clip_frames} frames, stride {frame_stride}, hop {hop}, at {fps} samples/s"
    known = all(name in recipe for name in ("clip_frames", "frame_stride", "hop", "fps"))
    facts += [("clips", clips.format_map(recipe) if known else None)]
    facts += [("recipe digest", str(about.get("recipe_digest") or "")[:12])]
    facts += [("untrimmed", version("untrimmed")), ("made", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))]
    return [(name, str(value)) for name, value in facts if value not in (None, "")]
