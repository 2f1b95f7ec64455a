"""The segmental protocol: a label for every frame, in a file a video."""

from pathlib import Path

import numpy as np

from extract.errors import InputError
from pipelines.annotations.draft import files_of
from pipelines.annotations.mstcn import frame_labels
from pipelines.notes import shown
from pipelines.scoring.scored import Floats, Options, Scored, value
from seqmodels.metrics.segmental import OVERLAPS, segmental_counts


def segmental(truth: Path, predictions: Path, options: Options) -> Scored:
    """Frame accuracy, edit score and F1 at overlaps of 10, 25 and 50 %, in percent (MS-TCN's `eval.py`; rules in
    `segmental_counts`). Accuracy pools the frames of all videos, F1 their segments; the edit score is a mean over
    videos. Two folders, a file a video; videos without a prediction do not count.
    """
    true = dict(_files(truth))
    found = dict(_files(predictions))
    videos = [video for video in true if video in found]
    if not videos:
        raise InputError(
            f"no file of {predictions} is of a video of {truth} ({shown(true)}); expected the same names, with or"
            " without .txt"
        )
    trouble = []
    if missing := [video for video in true if video not in found]:
        trouble.append(
            f"{predictions.name}: {len(missing)} of {len(true)} videos have no prediction and do not count:"
            f" {shown(missing)}"
        )
    if strange := [video for video in found if video not in true]:
        trouble.append(
            f"{predictions.name}: {len(strange)} videos are not in the truth and do not count: {shown(strange)}"
        )
    counts, uneven = [], []
    for video in videos:
        labels, answers = (np.array(frame_labels(files[video]), np.str_) for files in (true, found))
        if len(labels) == 0:
            raise InputError(f"{true[video]} has no frames; expected a label a line")
        if len(labels) != len(answers):
            uneven.append(f"{video} ({len(answers)} for {len(labels)})")
        counts.append(segmental_counts(labels, answers, background=(options.background,)))
    if uneven:
        trouble.append(
            f"{predictions.name}: {len(uneven)} videos have another number of frames than their truth; missing frames"
            f" are wrong, frames beyond it count for segments alone: {shown(uneven)}"
        )
    table = np.array([[c.right, c.frames, *c.hits, *c.false, *c.missed] for c in counts], np.float64)
    edits = np.array([np.nan if c.edit is None else c.edit for c in counts])
    ones = np.ones(len(videos))
    figures = _figures(table, ones)
    notes = []
    if np.isnan(edits).any():
        bare = [video for video, edit in zip(videos, edits, strict=True) if np.isnan(edit)]
        rest = f"{np.nanmean(edits):.4f}" if len(bare) < len(videos) else "undefined"
        notes.append(
            f"{len(bare)} videos are all background in truth and prediction, so edit is undefined; without them it is"
            f" {rest}: {shown(bare)}"
        )
    metrics: dict[str, float | None] = {"accuracy": value(float(figures[0])), "edit": value(float(edits.mean()))}
    metrics |= {f"f1_{round(100 * o)}": value(float(f)) for o, f in zip(OVERLAPS, figures[1:], strict=True)}
    return Scored(
        metrics=metrics,
        headline="f1_50",
        videos=videos,
        resample=lambda weights: np.array([_figures(table, weight)[-1] for weight in weights]),
        per_threshold={f"{o:.2f}": metrics[f"f1_{round(100 * o)}"] for o in OVERLAPS},
        trouble=trouble,
        notes=notes,
    )


def _files(folder: Path) -> list[tuple[str, Path]]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected a folder with a file of labels for each video")
    return list(files_of(folder, (".txt",)))


def _figures(table: Floats, weight: Floats) -> Floats:
    """Accuracy and F1 at each overlap, in percent, of videos that count ``weight`` times."""
    right, frames, *rest = weight @ table
    n = len(OVERLAPS)
    hits, false, missed = (np.array(rest[i * n : (i + 1) * n]) for i in range(3))
    with np.errstate(invalid="ignore"):
        f1 = np.nan_to_num(2 * hits / (2 * hits + false + missed))
    return np.append(100 * right / frames, 100 * f1)
