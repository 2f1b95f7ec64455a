"""What the report's page is given: predictions, truth and scores over time of each video, as JSON values.

N rows of one video, C labels, T steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import InputError
from pipelines.annotations.document import Document, Media
from pipelines.annotations.draft import rows_by_video
from pipelines.dataset import match_ids
from pipelines.notes import shown
from pipelines.predictions import Curves, Predictions
from pipelines.report.verdicts import Rows, best_threshold, judged
from pipelines.tasks.said import cut

STRIP_COLUMNS = 240
TIOU = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """One video as the page shows it; ``truth`` is None where nobody annotated it.

    ``predicted`` are segments, or boxes; those of a video with ``curves`` are cut from them.
    """

    video_id: str
    media: Media
    predicted: Rows
    truth: Rows | None
    curves: Curves | None
    tracks: tuple[NDArray[np.int64], NDArray[np.int64]] | None

    @property
    def duration_s(self) -> float:
        """The video's length, or the end of the last row where nothing says."""
        if self.media.duration_s:
            return self.media.duration_s
        ends = [rows.span_s[:, 1].max(initial=0) for rows in (self.predicted, self.truth) if rows is not None]
        return float(max(ends, default=0.0))

    def at(self, threshold: float) -> Rows:
        """What is predicted at a threshold."""
        if self.curves is None:
            return self.predicted.take(self.predicted.score >= threshold)
        found = cut(self.curves.values, self.curves.centre_s, self.duration_s, threshold)
        return Rows(found.labels, found.segments, found.scores)

    def counts(self, threshold: float) -> dict[str, int]:
        """Of each kind of verdict; without a truth only how many are shown."""
        rows = self.at(threshold)
        counts = {} if self.truth is None else judged(rows, self.truth, tiou=TIOU).counts
        return {"shown": len(rows), **counts}


def shown_videos(predictions: Predictions, truth: Document | None) -> tuple[list[Shown], tuple[str, ...]]:
    """Each predicted video beside its truth, and the labels of both; of predictions first.

    Raises:
        InputError: predictions and truth have no video or no label in common.
    """
    document = predictions.document
    labels = document.labels
    of_truth: dict[str, tuple[int, Media]] = {}
    if truth is not None:
        labels = (*labels, *(label for label in truth.labels if label not in set(labels)))
        of_truth = _matched(document, truth)
        truth = _renumbered(truth, labels)
    boxed = len(document.boxes) > 0
    ours, theirs = (None if each is None else _by_video(each, boxed=boxed) for each in (document, truth))
    videos = []
    for (video_id, media), mine in zip(document.media.items(), ours or [], strict=True):
        number, known = of_truth.get(video_id, (-1, media))
        media = _merged(media, known)
        predicted, tracks = _rows(document, mine, media, boxed=boxed)
        true, true_tracks = None, np.zeros(0, np.int64)
        if truth is not None and theirs is not None and number >= 0:
            true, true_tracks = _rows(truth, theirs[number], media, boxed=boxed)
        both = (tracks, true_tracks) if boxed else None
        videos.append(Shown(video_id, media, predicted, true, _widened(predictions, video_id, len(labels)), both))
    return videos, labels


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
        "duration_s": round(video.duration_s, 3),
        "fps": media.fps,
        "width": media.width,
        "height": media.height,
        "notes": list(notes),
        "truth": None if boxed else truth,
        "predicted": {"label": [], "start": [], "stop": [], "score": []} if boxed else predicted,
        "curves": None if video.curves is None else {**video.curves.times, "rows": video.curves.rows},
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
    """Middles of the errors at ``threshold``, worst first; without a truth, of the best predictions."""
    rows = video.at(threshold)
    if video.truth is None:
        best = np.argsort(-rows.score, kind="stable")[:most]
        return [round(float(second), 2) for second in rows.span_s[best].mean(axis=1)]
    verdicts = judged(rows, video.truth, tiou=TIOU)
    wrong, missed = rows.take(~verdicts.hit), video.truth.take(verdicts.missed)
    length = np.diff(missed.span_s, axis=1)[:, 0]
    severity = np.concatenate([wrong.score, length / max(float(length.max(initial=0)), 1e-9)])
    middle = np.concatenate([wrong.span_s.mean(axis=1), missed.span_s.mean(axis=1)])
    return [round(float(second), 2) for second in middle[np.argsort(-severity, kind="stable")][:most]]


def _matched(document: Document, truth: Document) -> dict[str, tuple[int, Media]]:
    """Number and media in the truth of each predicted video that is there."""
    try:
        matches = match_ids(truth.videos, document.videos)
    except InputError as error:
        raise InputError(
            f"videos of the truth and of the predictions do not go together: the truth has {shown(truth.videos)};"
            f" predictions are of {shown(document.videos)}. Expected equal ids, or equal file names"
        ) from error
    if truth.labels and document.labels and not set(truth.labels) & set(document.labels):
        raise InputError(
            f"truth and predictions have no label in common: the truth has {shown(truth.labels)}; predictions have"
            f" {shown(document.labels)}. Name the truth of these predictions"
        )
    numbers = {video_id: at for at, video_id in enumerate(truth.videos)}
    return {predicted: (numbers[true], truth.media[true]) for true, predicted in matches.items()}


def _renumbered(document: Document, labels: Sequence[str]) -> Document:
    """With numbers of ``labels``, which has all of its own."""
    number = np.array([*(labels.index(label) for label in document.labels), -1], np.int64)
    return replace(
        document,
        labels=tuple(labels),
        segments=replace(document.segments, label=number[document.segments.label]),
        boxes=replace(document.boxes, label=number[document.boxes.label]),
    )


def _merged(media: Media, other: Media) -> Media:
    names = ("duration_s", "fps", "width", "height")
    known = {name: getattr(media, name) if getattr(media, name) is not None else getattr(other, name) for name in names}
    return replace(media, **known)


def _by_video(document: Document, *, boxed: bool) -> list[NDArray[np.int64]]:
    """The rows with a label, of each video."""
    rows = document.boxes if boxed else document.segments
    return [each[rows.label[each] >= 0] for each in rows_by_video(document, rows.video)]


def _rows(document: Document, at: NDArray[np.int64], media: Media, *, boxed: bool) -> tuple[Rows, NDArray[np.int64]]:
    """Some rows; of boxes also whose they are."""
    if boxed:
        boxes = document.boxes.take(at)
        moment = _rounded(np.column_stack((boxes.second, boxes.second)), 3)
        return Rows(boxes.label, moment, _rounded(boxes.score, 4), _rounded(boxes.box, 4)), boxes.track
    segments = document.segments.take(at)
    whole = [0.0, media.duration_s or 0.0]
    span_s = np.where(np.isnan(segments.span_s), whole, segments.span_s)
    return Rows(segments.label, _rounded(span_s, 3), _rounded(segments.score, 4)), np.zeros(0, np.int64)


def _rounded(values: NDArray[np.floating[Any]], digits: int) -> NDArray[np.float64]:
    return np.asarray(values, np.float64).round(digits)


def _widened(predictions: Predictions, video_id: str, n_labels: int) -> Curves | None:
    """The video's curves, with rows of 0 for labels that the truth alone has."""
    curves = predictions.curves.get(video_id)
    if curves is None:
        return None
    missing = n_labels - len(curves.values)
    return Curves(curves.centre_s, np.pad(curves.values, ((0, missing), (0, 0))))


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
