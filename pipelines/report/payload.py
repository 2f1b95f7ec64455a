"""What the report's page is given: predictions, truth and scores over time of each video, as JSON values.

Numbers are rounded first, so that the page counts what is counted here.
N rows of one video, C labels, T steps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import InputError
from pipelines.annotations.document import Document, Media
from pipelines.annotations.draft import merged, rows_by_video
from pipelines.dataset import match_ids
from pipelines.notes import shown
from pipelines.predictions import Curves, Predictions
from pipelines.report.verdicts import Rows, best_threshold, judged
from pipelines.tasks.said import cut

STRIP_COLUMNS = 240
TIOU = 0.5
PROPOSAL = "proposal"
"""What predictions without a label are shown as."""
MOST_ROWS = 20_000
"""Predicted rows of one video in a page; those of the highest scores stay."""
MOST_CURVE_BYTES = 2_400_000
"""Of the scores of one video over time; of more, means of several steps are shown."""


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """One video as the page shows it; ``truth`` is None where nobody annotated it.

    ``predicted`` are segments, or boxes; those of a video with ``curves`` are cut from them. ``tracks``: who the
    predicted and the true boxes are; None of segments. ``notes``: what is not shown as it was given.
    """

    video_id: str
    media: Media
    predicted: Rows
    truth: Rows | None
    curves: Curves | None
    tracks: tuple[NDArray[np.int64], NDArray[np.int64]] | None
    notes: tuple[str, ...] = ()

    @property
    def duration_s(self) -> float:
        """The video's length, or the end of the last row where nothing says."""
        if self.media.duration_s:
            return round(self.media.duration_s, 3)
        ends = [float(rows.span_s[:, 1].max(initial=0)) for rows in (self.predicted, self.truth) if rows is not None]
        return round(max(ends), 3)

    def at(self, threshold: float) -> Rows:
        """What is predicted at a threshold."""
        if self.curves is None or not len(self.curves.centre_s):
            return self.predicted.take(self.predicted.score >= threshold)
        found = cut(self.curves.values, self.curves.centre_s, self.duration_s, threshold)
        return Rows(found.labels, found.segments, found.scores)

    def counts(self, threshold: float) -> dict[str, int]:
        """Of each kind of verdict; without a truth only how many are shown."""
        rows = self.at(threshold)
        counts = {} if self.truth is None else judged(rows, self.truth, tiou=TIOU).counts
        return {"shown": len(rows), **counts}


def shown_videos(
    predictions: Predictions, truth: Document | None, media: Mapping[str, Media] | None = None
) -> tuple[list[Shown], tuple[str, ...]]:
    """Each predicted video beside its truth, and the labels of both; of predictions first.

    ``media``: what the files of the videos say, which counts where predictions and truth say nothing.

    Raises:
        InputError: predictions and truth have no video or no label in common, or one has boxes, the other segments.
    """
    document = predictions.document
    boxed = len(document.boxes) > 0
    if not boxed and len(document.segments) and (document.segments.label < 0).any():
        document = _with_proposals(document)
    labels = document.labels
    of_truth: dict[str, tuple[int, Media]] = {}
    if truth is not None:
        of_truth = _matched(document, truth)
        known = set(labels)
        labels = (*labels, *(label for label in truth.labels if label not in known))
        truth = _renumbered(truth, labels)
    ours, theirs = (None if each is None else _by_video(each, boxed=boxed) for each in (document, truth))
    videos = []
    for (video_id, said), mine in zip(document.media.items(), ours or [], strict=True):
        number, annotated = of_truth.get(video_id, (-1, said))
        whole = merged(merged(said, annotated), (media or {}).get(video_id, said))
        predicted, tracks, notes = _rows(document, mine, whole, boxed=boxed)
        true, true_tracks = None, np.zeros(0, np.int64)
        if truth is not None and theirs is not None and number >= 0:
            true, true_tracks, odd = _rows(truth, theirs[number], whole, boxed=boxed)
            notes += [f"truth: {note}" for note in odd]
        both = (tracks, true_tracks) if boxed else None
        curves, thinned = _widened(predictions, video_id, len(labels))
        videos.append(Shown(video_id, whole, predicted, true, curves, both, (*notes, *thinned)))
    return videos, labels


def in_range(predictions: Predictions) -> tuple[Predictions, list[str]]:
    """With all scores within 0..1, in the same order; and a note on how that was done."""
    document = predictions.document
    every = np.concatenate([document.segments.score, document.boxes.score])
    known = every[np.isfinite(every)]
    notes = noted_count(len(every) - len(known), "predictions have no score, and are shown with 0")
    low, high = float(known.min(initial=0)), float(known.max(initial=1))
    if low < 0 or high > 1:
        notes.append(f"scores are from {known.min():g} to {known.max():g}; the page shows them on a scale from 0 to 1")
        low, high = float(known.min()), max(float(known.max()), float(known.min()) + 1e-9)

    def scaled(score: NDArray[np.float64]) -> NDArray[np.float64]:
        clean = np.nan_to_num(score, nan=low, posinf=high, neginf=low)
        result: NDArray[np.float64] = (clean - low) / (high - low)
        return result

    segments = replace(document.segments, score=scaled(document.segments.score))
    boxes = replace(document.boxes, score=scaled(document.boxes.score))
    return replace(predictions, document=replace(document, segments=segments, boxes=boxes)), notes


def noted_count(count: int, what: str) -> list[str]:
    """A note that so many are ``what``; nothing of none."""
    return [f"{count} {what}"] if count else []


def first_threshold(videos: Sequence[Shown], predictions: Predictions) -> float:
    """Where the slider stands at first: what curves were cut at; else where F1 is greatest, or, without a truth, 0.5,
    or half of the greatest score where that is small.
    """
    if predictions.curves:
        return predictions.threshold
    judgeable = [(video.predicted, video.truth) for video in videos if video.truth is not None]
    if any(len(truth) for _, truth in judgeable):
        return best_threshold(judgeable, tiou=TIOU)
    greatest = max((float(video.predicted.score.max(initial=0)) for video in videos), default=0.0)
    return round(min(0.5, greatest / 2), 2)


def video_json(
    video: Shown, *, src: str | None, notes: Sequence[str], thumbs: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """One entry of the payload's ``videos``."""
    media, boxed = video.media, video.tracks is not None
    rows = _box_json if boxed else _segment_json
    truth = None if video.truth is None else rows(video.truth, 1, video)
    predicted = (
        rows(video.predicted, 0, video)
        if video.curves is None
        else rows(video.predicted.take(np.zeros(0, np.int64)), 0, video)
    )
    return {
        "id": video.video_id,
        "src": src,
        "duration_s": video.duration_s,
        "fps": None if media.fps is None else round(media.fps, 4),
        "width": media.width,
        "height": media.height,
        "notes": list(notes),
        "truth": None if boxed else truth,
        "predicted": {"label": [], "start": [], "stop": [], "score": []} if boxed else predicted,
        "curves": None if video.curves is None else {**_times(video.curves), "rows": video.curves.rows},
        "boxes": {"truth": truth, "predicted": predicted} if boxed else None,
        "thumbs": list(thumbs),
    }


def strip(video: Shown) -> NDArray[np.uint8]:
    """The greatest score of any class over time, ``(STRIP_COLUMNS,)``, 0..255."""
    columns = np.zeros(STRIP_COLUMNS)
    if video.curves is not None and len(video.curves.centre_s):
        at = _column(video.curves.centre_s, video.duration_s)
        np.maximum.at(columns, at, video.curves.values.max(axis=0, initial=0))
        return columns.astype(np.uint8)
    order = np.argsort(video.predicted.score)
    first, last = (_column(video.predicted.span_s[order, side], video.duration_s) for side in (0, 1))
    for begin, end, score in zip(first.tolist(), last.tolist(), video.predicted.score[order].tolist(), strict=True):
        columns[begin : end + 1] = 255 * min(1.0, max(0.0, score))  # rising: the greatest is drawn last
    return columns.astype(np.uint8)


def worst_moments(video: Shown, threshold: float, most: int) -> list[float]:
    """Middles of the errors at ``threshold``, worst first and each once; without a truth, of the best predictions."""
    rows = video.at(threshold)
    if video.truth is None:
        severity, middle = rows.score, rows.span_s.mean(axis=1)
    else:
        verdicts = judged(rows, video.truth, tiou=TIOU)
        wrong, missed = rows.take(~verdicts.hit), video.truth.take(verdicts.missed)
        length = np.diff(missed.span_s, axis=1)[:, 0]
        severity = np.concatenate([wrong.score, length / max(float(length.max(initial=0)), 1e-9)])
        middle = np.concatenate([wrong.span_s.mean(axis=1), missed.span_s.mean(axis=1)])
    seconds = middle[np.argsort(-severity, kind="stable")].round(2).tolist()
    return list(dict.fromkeys(seconds))[:most]


def _matched(document: Document, truth: Document) -> dict[str, tuple[int, Media]]:
    """Number and media in the truth of each predicted video that is there."""
    try:
        matches = match_ids(truth.videos, document.videos)
    except InputError as error:
        raise InputError(
            f"videos of the truth and of the predictions do not go together: the truth has {shown(truth.videos)};"
            f" predictions are of {shown(document.videos)}. Expected equal ids, or equal file names that are there once"
        ) from error
    _check_kind(document, truth)
    used = {document.labels[i] for rows in (document.segments, document.boxes) for i in np.unique(rows.label) if i >= 0}
    if truth.labels and used - {PROPOSAL} and not set(truth.labels) & (used | set(document.labels)):
        raise InputError(
            f"truth and predictions have no label in common: the truth has {shown(truth.labels)}; predictions have"
            f" {shown(sorted(used))}. Name the truth of these predictions"
        )
    numbers = {video_id: at for at, video_id in enumerate(truth.videos)}
    return {predicted: (numbers[true], truth.media[true]) for true, predicted in matches.items()}


def _check_kind(document: Document, truth: Document) -> None:
    """Segments are judged by segments, and boxes by boxes."""
    one, other = ((len(each.boxes), len(each.segments)) for each in (document, truth))
    if (one[0] and other[1] and not other[0]) or (one[1] and not one[0] and other[0] and not other[1]):
        kinds = ("boxes", "segments") if one[0] else ("segments", "boxes")
        raise InputError(
            f"the predictions are {kinds[0]}, the truth has {kinds[1]}; expected one kind. Name the truth of these"
            " predictions"
        )


def _with_proposals(document: Document) -> Document:
    labels = document.labels if PROPOSAL in document.labels else (*document.labels, PROPOSAL)
    label = np.where(document.segments.label < 0, labels.index(PROPOSAL), document.segments.label)
    return replace(document, labels=labels, segments=replace(document.segments, label=label))


def _renumbered(document: Document, labels: Sequence[str]) -> Document:
    """With numbers of ``labels``, which has all of its own."""
    place = {label: at for at, label in enumerate(labels)}
    number = np.array([*(place[label] for label in document.labels), -1], np.int64)
    return replace(
        document,
        labels=tuple(labels),
        segments=replace(document.segments, label=number[document.segments.label]),
        boxes=replace(document.boxes, label=number[document.boxes.label]),
    )


def _by_video(document: Document, *, boxed: bool) -> list[NDArray[np.int64]]:
    """The rows with a label, of each video."""
    rows = document.boxes if boxed else document.segments
    return [each[rows.label[each] >= 0] for each in rows_by_video(document, rows.video)]


def _rows(
    document: Document, at: NDArray[np.int64], media: Media, *, boxed: bool
) -> tuple[Rows, NDArray[np.int64], list[str]]:
    """Some rows; of boxes also whose they are; and notes on those that are left out."""
    scores = document.boxes.score if boxed else document.segments.score
    notes: list[str] = []
    if len(at) > MOST_ROWS and np.isfinite(scores[at]).any():
        notes.append(f"only the {MOST_ROWS} predictions of the highest scores are shown, of {len(at)}")
        at = np.sort(at[np.argsort(-scores[at], kind="stable")[:MOST_ROWS]])
    if boxed:
        boxes = document.boxes.take(at[np.isfinite(document.boxes.box[at]).all(axis=1)])
        moment = _rounded(np.column_stack((boxes.second, boxes.second)), 3)
        return Rows(boxes.label, moment, _rounded(boxes.score, 4), _rounded(boxes.box, 4)), boxes.track, notes
    segments = document.segments.take(at)
    span_s: NDArray[np.float64] = segments.span_s.copy()
    whole = np.isnan(span_s).all(axis=1)
    span_s[whole] = [0.0, media.duration_s or float(np.nanmax(span_s, initial=0))]
    kept = span_s[:, 0] <= span_s[:, 1]  # not of NaN either
    notes += noted_count(int((~kept).sum()), "segments end before they begin, and are not shown")
    return (
        Rows(segments.label[kept], _rounded(span_s[kept], 3), _rounded(segments.score[kept], 4)),
        np.zeros(0, np.int64),
        notes,
    )


def _rounded(values: NDArray[np.float64], digits: int) -> NDArray[np.float64]:
    return values.astype(np.float64).round(digits)


def _widened(predictions: Predictions, video_id: str, n_labels: int) -> tuple[Curves | None, list[str]]:
    """The video's curves as the page has them, with rows of 0 for labels that the truth alone has; and a note."""
    curves = predictions.curves.get(video_id)
    if curves is None:
        return None, []
    size = len(curves.rows) * len(curves.centre_s)
    notes = []
    if size > MOST_CURVE_BYTES:
        many = -(-size // MOST_CURVE_BYTES)
        curves = _thinned(curves, many)
        notes = [f"scores over time are means of {many} steps each, so that this page stays small"]
    values = np.pad(curves.values, ((0, n_labels - len(curves.values)), (0, 0)))
    return Curves(_centres(curves), values), notes


def _thinned(curves: Curves, many: int) -> Curves:
    """Means of so many steps each; of the last ones, fewer."""
    first = np.arange(0, len(curves.centre_s), many)
    size = np.diff(np.append(first, len(curves.centre_s)))
    values = np.add.reduceat(curves.values, first, axis=1, dtype=np.int64) / size
    centre_s: NDArray[np.float64] = np.add.reduceat(curves.centre_s, first) / size
    if "step_s" in curves.times:  # the last one, of fewer steps, as if it were whole
        centre_s = centre_s[0] + many * curves.times["step_s"] * np.arange(len(first), dtype=np.float64)
    return Curves(centre_s, np.rint(values).astype(np.uint8))


def _times(curves: Curves) -> dict[str, Any]:
    """As the page is given them, rounded."""
    return {name: np.round(value, 9 if name != "centre_s" else 4).tolist() for name, value in curves.times.items()}


def _centres(curves: Curves) -> NDArray[np.float64]:
    """The middles as the page computes them."""
    times = _times(curves)
    if "centre_s" in times:
        return np.array(times["centre_s"], np.float64)
    centres: NDArray[np.float64] = times["start_s"] + np.arange(times["steps"], dtype=np.float64) * times["step_s"]
    return centres


def _segment_json(rows: Rows, side: int, _video: Shown) -> dict[str, Any]:
    start, stop = rows.span_s.T.tolist() if len(rows) else ([], [])
    score = {} if side else {"score": rows.score.tolist()}
    return {"label": rows.label.tolist(), "start": start, "stop": stop, **score}


def _box_json(rows: Rows, side: int, video: Shown) -> dict[str, Any]:
    assert rows.box is not None and video.tracks is not None  # noqa: S101, PT018 - of boxes
    score = {} if side else {"score": rows.score.tolist()}
    return {
        "second": rows.span_s[:, 0].tolist(),
        "box": rows.box.ravel().tolist(),
        "label": rows.label.tolist(),
        **score,
        "track": video.tracks[side].tolist(),
    }


def _column(second: NDArray[np.float64], duration_s: float) -> NDArray[np.int64]:
    at = np.floor(second / max(duration_s, 1e-9) * STRIP_COLUMNS)
    return at.clip(0, STRIP_COLUMNS - 1).astype(np.int64)
