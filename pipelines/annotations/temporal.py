"""Annotations to train on, from any format that has segments, durations and subsets."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from extract.errors import InputError
from pipelines.annotations.activitynet import Annotations, annotations_of, read_activitynet
from pipelines.annotations.document import Document
from pipelines.annotations.draft import rows_by_video
from pipelines.annotations.formats import format_of, read_document
from pipelines.notes import shown

_OF_FRAMES = ("mstcn", "cvat", "mot")
_CONVERT = "Convert it: untrimmed convert IN OUT.json --to activitynet"


def read_annotations(path: str | Path) -> Annotations:
    """Read annotations in ActivityNet's JSON form, strictly, or in another format that says as much.

    Raises:
        InputError: not readable, predictions, or nothing says how long a video is, or which subset it is in.
    """
    place = Path(path)
    kind = format_of(place) if place.exists() else "json"
    if kind in _OF_FRAMES:
        raise InputError(f"{place}: {kind} counts frames; expected seconds. {_CONVERT} --fps … --subset …")
    if kind == "json" and (not place.exists() or b'"database"' in place.read_bytes()):
        return read_activitynet(place)
    document = read_document(place)
    if np.isfinite(document.segments.score).any():
        raise InputError(f"{place}: rows with scores are predictions; expected annotations")
    _check_known(place, document)
    return annotations_of(place, _database(document))


def _check_known(path: Path, document: Document) -> None:
    for name, what, remedy in (
        ("duration_s", "how long a video is", "Use a format that has durations, such as activitynet or parquet"),
        ("subset", "which subset a video is in", f"{_CONVERT} --subset training"),
    ):
        unknown = [video for video, media in document.media.items() if getattr(media, name) is None]
        if unknown:
            raise InputError(
                f"{path} ({document.format}): nothing says {what}, of {len(unknown)} of {len(document.media)}:"
                f" {shown(unknown)}; expected it of each. {remedy}"
            )


def _database(document: Document) -> Mapping[str, object]:
    rows_of = rows_by_video(document, document.segments.video)
    names = [*document.labels, None]
    database = {}
    for (video, media), rows in zip(document.media.items(), rows_of, strict=True):
        found = document.segments.take(rows)
        whole = np.isnan(found.span_s)
        spans = np.where(whole, [0.0, media.duration_s or 0.0], found.span_s).tolist()
        labels = [names[label] for label in found.label.tolist()]
        database[video] = {
            "duration": media.duration_s,
            "subset": media.subset,
            "annotations": [{"segment": s, "label": n} for s, n in zip(spans, labels, strict=True)],
        }
    return database
