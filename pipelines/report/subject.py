"""What a report is about: predictions of a file or of a trained run, beside the truth, and their figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from extract.errors import InputError, UsageError
from extract.store import FeatureStore
from pipelines.annotations.document import Document
from pipelines.annotations.formats import read_document
from pipelines.checkpoint import RECORD_FILE, SEEDS_FILE, Run
from pipelines.conversion import of_subset
from pipelines.dataset import match_ids
from pipelines.evaluation import evaluate
from pipelines.predicting import about, checked_run, predict_stored
from pipelines.predictions import Predictions, read_predictions
from pipelines.report.payload import Shown
from seqmodels.metrics import ACTIVITYNET_THRESHOLDS, THUMOS_THRESHOLDS, localization_map
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
    document = of_subset(read_document(labels), subset)
    stored = match_ids(document.videos, list(opened))
    result = evaluate(run, opened, annotations=labels, subset=subset)
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


def _of_file(path: Path, truth: str | Path | None, subset: str | None) -> Subject:
    predictions = read_predictions(path)
    document = None if truth is None else read_document(truth)
    if document is not None:
        scores = [*document.segments.score.tolist(), *document.boxes.score.tolist()]
        if scores and not np.isnan(scores).any():
            raise InputError(f"{truth}: all rows have scores, so these are predictions; expected the truth")
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
        [*predictions.document.notes, *(() if document is None else document.notes)],
    )


def file_metrics(videos: Sequence[Shown], n_labels: int) -> tuple[str | None, dict[str, float | None]]:
    """Protocol and figures of segments beside a truth: ActivityNet's mAP, over the thresholds of both data sets."""
    known = [video for video in videos if video.truth is not None and video.tracks is None]
    if not known:
        return None, {}
    found = [Found(video.predicted.span_s, video.predicted.score, video.predicted.label) for video in known]
    true = [(video.truth.span_s, video.truth.label) for video in known if video.truth is not None]
    thumos, activitynet = (
        localization_map(found, true, n_classes=n_labels, thresholds=thresholds).average_map
        for thresholds in (THUMOS_THRESHOLDS, ACTIVITYNET_THRESHOLDS)
    )
    return "ActivityNet's mAP", {"average_map": thumos, "average_map_activitynet": activitynet}


def _facts(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    recipe = about.get("recipe") or {}
    facts = [(name, about.get(name)) for name in ("run", "task", "head", "seed")]
    facts += [("backbone", recipe.get("backbone")), ("weights sha256", str(recipe.get("weights_sha256", ""))[:12])]
    clip = (
        "{clip_frames} frames, stride {frame_stride}, hop {hop}, at {fps} samples/s".format_map(recipe)
        if "hop" in recipe
        else None
    )
    facts += [("clips", clip), ("recipe digest", str(about.get("recipe_digest") or "")[:12])]
    facts += [("untrimmed", version("untrimmed")), ("made", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))]
    return [(name, str(value)) for name, value in facts if value not in (None, "")]
