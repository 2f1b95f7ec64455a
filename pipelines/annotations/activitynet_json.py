"""JSON of temporal segments: ActivityNet's, ActionFormer's and OpenTAD's use of it, and mmaction2's.

Truth: ``{"database": {id: {"duration", "subset", "annotations": [{"segment": [start, stop], "label"}]}}}``;
ActionFormer adds ``fps``, ``label_id`` and ``segment(frames)``, OpenTAD ``frame``, and mmaction2's has no database
level and says ``duration_second`` and ``duration_frame``. Predictions:
``{"results": {id: [{"segment", "label", "score"}]}}``, a row without segment being about the whole video;
ActionFormer's are ``{"database": {id: [{"segment", "label_id", "scores"}]}}``. Ids are kept as they are, with ``v_``
or without.

Columns are made of all rows at once. Only when that fails, rows are looked at one by one, to name the wrong one.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from extract.errors import InputError
from pipelines.annotations.document import Document, Media, Segments, no_boxes
from pipelines.annotations.draft import numbered, put_text, rows_by_video
from pipelines.annotations.files import JsonFile, number
from pipelines.annotations.given import Given, name_of, numbers_of
from pipelines.notes import noted

EXPECTED = "annotations or predictions in JSON"
_SPAN = "[start, stop] in seconds, two finite numbers"
_FINITE = "a finite number"
_NUMBERS = {int, float}
_Rows = Sequence[Any]
_Keys = Callable[[int], list[str | int]]


def read_activitynet_json(path: Path, given: Given) -> Document:
    """Any of the forms above; ``format`` of the Document says which.

    Raises:
        InputError: the file cannot be read, or breaks the form; names line, value and what to do.
    """
    return activitynet_of(JsonFile.read(path, EXPECTED), given)


def activitynet_of(file: JsonFile, given: Given) -> Document:
    """As `read_activitynet_json`, of JSON that is loaded."""
    root = file.root
    if not isinstance(root, dict):
        raise file.wrong([], root, "an object with database or results")
    if "results" in root:
        return _predictions(file, ["results"], _object(file, ["results"], root["results"]), given)
    database = _object(file, ["database"], root["database"]) if "database" in root else root
    level: list[str | int] = ["database"] if "database" in root else []
    if database and level and all(isinstance(entry, list) for entry in database.values()):
        return _predictions(file, level, database, given)
    return _truth(file, level, database)


def _object(file: JsonFile, keys: Sequence[str | int], value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise file.wrong(keys, value, "an object with an entry for each video")
    return value


def _truth(file: JsonFile, level: Sequence[str | int], database: Mapping[str, Any]) -> Document:
    media = {video: _media(file, [*level, video], entry) for video, entry in database.items()}
    lists = [entry.get("annotations") for entry in database.values()]
    for video, rows in zip(database, lists, strict=True):
        if rows is not None and not isinstance(rows, list):
            raise file.wrong([*level, video, "annotations"], rows, "a list of annotations")
    kept = [rows or [] for rows in lists]
    keys = _keys_of(level, database, kept, ["annotations"])
    rows = list(chain.from_iterable(kept))
    labels, label = _labels(file, rows, keys, needed=True)
    segments = Segments(_video_of(kept), label, _spans(file, rows, keys), np.full(len(rows), np.nan))
    return Document(_form(level, database, rows), media, labels, segments, no_boxes(), tuple(_repeated(file)))


def _predictions(file: JsonFile, level: Sequence[str | int], videos: Mapping[str, Any], given: Given) -> Document:
    for video, rows in videos.items():
        if not isinstance(rows, list):
            raise file.wrong([*level, video], rows, "a list of predictions")
    kept = list(videos.values())
    keys = _keys_of(level, videos, kept, [])
    rows = list(chain.from_iterable(kept))
    numbered_form = level == ["database"]
    labels, label = _label_ids(file, rows, keys, given) if numbered_form else _labels(file, rows, keys, needed=False)
    score = _scores(file, rows, keys, "scores" if numbered_form else "score")
    segments = Segments(_video_of(kept), label, _spans(file, rows, keys), score)
    media = {video: Media() for video in videos}
    form = "actionformer" if numbered_form else "activitynet"
    return Document(form, media, labels, segments, no_boxes(), tuple(_repeated(file)))


def _form(level: Sequence[str | int], database: Mapping[str, Any], rows: _Rows) -> str:
    if not level:
        return "mmaction2"
    if any("label_id" in row or "segment(frames)" in row for row in rows[:1]):
        return "actionformer"
    return "opentad" if any("frame" in entry for entry in [*database.values()][:1]) else "activitynet"


def _repeated(file: JsonFile) -> list[str]:
    return noted(file.repeated, "keys are there more than once in one object; the last one counts")


def _media(file: JsonFile, keys: list[str | int], entry: object) -> Media:
    if not isinstance(entry, dict):
        raise file.wrong(keys, entry, "an object with duration, subset and annotations")
    subset = entry.get("subset")
    if subset is not None and not isinstance(subset, str):
        raise file.wrong([*keys, "subset"], subset, 'text such as "training"')
    seconds = "duration" if "duration" in entry else "duration_second"
    duration_s, fps = (_optional(file, [*keys, name], entry.get(name)) for name in (seconds, "fps"))
    if fps is None and duration_s and (frames := number(entry.get("frame", entry.get("duration_frame")))):
        fps = frames / duration_s
    size = re.fullmatch(r"(\d{1,6})x(\d{1,6})", str(entry.get("resolution")))
    width, height = (int(size[1]), int(size[2])) if size else (None, None)
    return Media(duration_s, fps if fps and fps > 0 else None, width, height, subset)


def _optional(file: JsonFile, keys: list[str | int], value: object) -> float | None:
    found = number(value)
    if value is not None and found is None:
        raise file.wrong(keys, value, _FINITE)
    return found


def _keys_of(level: Sequence[str | int], videos: Iterable[str], lists: Sequence[_Rows], inside: list[str]) -> _Keys:
    """Where in the file a row is, by its number."""
    names, ends = list(videos), np.cumsum([len(rows) for rows in lists])

    def keys(row: int) -> list[str | int]:
        video = int(np.searchsorted(ends, row, side="right"))
        return [*level, names[video], *inside, row - int(ends[video]) + len(lists[video])]

    return keys


def _video_of(lists: Sequence[_Rows]) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(lists)), [len(rows) for rows in lists]).astype(np.int64)


def _labels(file: JsonFile, rows: _Rows, keys: _Keys, *, needed: bool) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The labels in order of first use, and each row's number; -1 where a row that needs none has none."""
    try:
        names = [row["label"] if needed else row.get("label") for row in rows]
        kinds = {type(name) for name in dict.fromkeys(names)}
    except (TypeError, KeyError, AttributeError):
        kinds = {object}
    if kinds - ({str} if needed else {str, type(None)}):
        _first_wrong(file, rows, keys, "label", lambda label: isinstance(label, str), "the name of a class")
    if type(None) not in kinds:
        number_of, label = numbered(names)
        return tuple(number_of), label
    number_of = {name: i for i, name in enumerate(name for name in dict.fromkeys(names) if name is not None)}
    return tuple(number_of), np.array([number_of.get(name, -1) for name in names], np.int64)


def _label_ids(file: JsonFile, rows: _Rows, keys: _Keys, given: Given) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    try:
        ids = [row["label_id"] for row in rows]
        wrong = bool(set(map(type, ids)) - {int})
    except (TypeError, KeyError):
        wrong = True
    if wrong:
        _first_wrong(file, rows, keys, "label_id", lambda found: type(found) is int, "the number of a class")
    names = given.names()
    labels = [name_of(names, each) for each in sorted(set(ids))]
    number_of, _ = numbered([*names.values(), *labels])
    by_id = {each: number_of[name_of(names, each)] for each in set(ids)}
    return tuple(number_of), np.fromiter(map(by_id.__getitem__, ids), np.int64, len(ids))


def _spans(file: JsonFile, rows: _Rows, keys: _Keys) -> NDArray[np.float64]:
    """Start and stop of each row; NaN, NaN where it has no segment."""
    spans = [row.get("segment", _WHOLE) for row in rows]
    try:
        array = np.array(spans, np.float64).reshape(-1, 2)
        right = set(map(type, chain.from_iterable(spans))) <= _NUMBERS
    except (TypeError, ValueError, OverflowError):
        right = False
    if not right or len(array) != len(rows) or not _all_finite(array, spans):
        _first_wrong(file, rows, keys, "segment", _is_span, _SPAN)
    return array


_WHOLE = (float("nan"), float("nan"))


def _all_finite(array: NDArray[np.float64], spans: Sequence[object]) -> bool:
    return all(spans[row] is _WHOLE for row in np.flatnonzero(~np.isfinite(array).all(axis=1)).tolist())


def _is_span(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(number(end) is not None for end in value)


def _scores(file: JsonFile, rows: _Rows, keys: _Keys, name: str) -> NDArray[np.float64]:
    try:
        scores = [row[name] for row in rows]
        array = np.array(scores, np.float64)
        right = set(map(type, scores)) <= _NUMBERS and np.isfinite(array).all()
    except (TypeError, KeyError, ValueError, OverflowError):
        right = False
    if not right:
        _first_wrong(file, rows, keys, name, lambda score: number(score) is not None, _FINITE)
    return array


def _first_wrong(
    file: JsonFile, rows: _Rows, keys: _Keys, name: str, right: Callable[[object], bool], expected: str
) -> NoReturn:
    """Name the first row whose ``name`` is not ``right``."""
    for place, row in enumerate(rows):
        if not isinstance(row, dict):
            raise file.wrong(keys(place), row, "an object")
        optional = name == "segment" and name not in row and "segment(frames)" not in row
        if not optional and not right(row.get(name)):
            where = [*keys(place), name] if name in row else keys(place)
            value = row.get(name)
            raise file.wrong(where, value, f"{name}: {expected}" if value is None else expected)
    raise InputError(f"{file.path}: {name} of some row is not {expected}. Correct the file")


def write_activitynet_json(document: Document, path: Path, _given: Given) -> None:
    """ActivityNet's form: predictions (``results``) where rows have scores, truth (``database``) where none has."""
    if np.isfinite(document.segments.score).any():
        _put_results(document, path)
    else:
        _put_database(document, path, _nothing, _nothing)


def write_actionformer(document: Document, path: Path, given: Given) -> None:
    """ActionFormer's form: predictions by number of class where rows have scores, truth where none has.

    Numbers are those of ``labels``, else the order of the classes from 0.
    """
    ids = numbers_of(document.labels, given.names(), first=0)
    if np.isfinite(document.segments.score).any():
        rows = {
            video: [
                {"segment": span, "label_id": ids[label], "scores": score}
                for label, span, score in found
                if label is not None and score is not None and span is not None
            ]
            for video, found in _by_video(document)
        }
        _put(path, {"database": rows})
        return

    def more(label: str, span: list[float] | None, media: Media) -> dict[str, object]:
        frames = {} if media.fps is None or span is None else {"segment(frames)": [end * media.fps for end in span]}
        return {**frames, "label_id": ids[label]}

    _put_database(document, path, lambda media: {} if media.fps is None else {"fps": media.fps}, more)


def write_opentad(document: Document, path: Path, given: Given) -> None:
    """OpenTAD's form: ActivityNet's ``results`` for predictions; its truth has the number of frames of each video."""
    if np.isfinite(document.segments.score).any():
        _put_results(document, path)
        return

    def frames(media: Media) -> dict[str, object]:
        fps = media.fps if media.fps is not None else given.fps
        return {} if fps is None or media.duration_s is None else {"frame": fps * media.duration_s}

    _put_database(document, path, frames, _nothing)


def write_mmaction2(document: Document, path: Path, _given: Given) -> None:
    """mmaction2's form of the truth, one subset a file and no subset in it; predictions are ActivityNet's."""
    if np.isfinite(document.segments.score).any():
        _put_results(document, path)
        return
    database = {}
    for (video, rows), media in zip(_by_video(document), document.media.values(), strict=True):
        frames = None if media.fps is None or media.duration_s is None else media.fps * media.duration_s
        known = {"duration_second": media.duration_s, "duration_frame": frames, "fps": media.fps}
        database[video] = {
            **{key: value for key, value in known.items() if value is not None},
            "annotations": _annotations(rows),
        }
    _put(path, database)


def _nothing(*_: object) -> dict[str, object]:
    return {}


_Found = list[tuple[str | None, list[float] | None, float | None]]


def _by_video(document: Document) -> Iterable[tuple[str, _Found]]:
    """For each video label, segment and score of its rows; None where there is none."""
    segments = document.segments
    names = [*document.labels, None]
    for video, rows in zip(document.videos, rows_by_video(document, segments.video), strict=True):
        found = segments.take(rows)
        whole: list[bool] = np.isnan(found.span_s[:, 0]).tolist()
        bare: list[bool] = np.isnan(found.score).tolist()
        columns = zip(found.label.tolist(), found.span_s.tolist(), found.score.tolist(), whole, bare, strict=True)
        yield (
            video,
            [
                (names[label], None if no_span else span, None if no_score else score)
                for label, span, score, no_span, no_score in columns
            ],
        )


def _annotations(rows: _Found) -> list[dict[str, object]]:
    return [
        {"label": label} if span is None else {"segment": span, "label": label}
        for label, span, _ in rows
        if label is not None
    ]


def _put_results(document: Document, path: Path) -> None:
    _put(path, {"version": "VERSION 1.3", "results": results_of(document), "external_data": {}})


def results_of(document: Document) -> dict[str, list[dict[str, object]]]:
    """The rows with scores of each video, in the form of ActivityNet's predictions."""
    return {
        video: [
            {
                **({} if label is None else {"label": label}),
                "score": score,
                **({} if span is None else {"segment": span}),
            }
            for label, span, score in rows
            if score is not None
        ]
        for video, rows in _by_video(document)
    }


def _put_database(
    document: Document,
    path: Path,
    of_video: Callable[[Media], dict[str, object]],
    of_row: Callable[[str, list[float] | None, Media], dict[str, object]],
) -> None:
    database: dict[str, object] = {}
    for (video, rows), media in zip(_by_video(document), document.media.values(), strict=True):
        size = None if media.width is None or media.height is None else f"{media.width}x{media.height}"
        known = {"subset": media.subset, "duration": media.duration_s, "resolution": size}
        labelled = [row for row in rows if row[0] is not None]
        database[video] = {
            **{key: value for key, value in known.items() if value is not None},
            **of_video(media),
            "annotations": [
                {**row, **of_row(str(label), span, media)}
                for row, (label, span, _) in zip(_annotations(labelled), labelled, strict=True)
            ],
        }
    _put(path, {"version": "untrimmed 1", "taxonomy": [], "database": database})


def _put(path: Path, root: object) -> None:
    put_text(path, json.dumps(root, ensure_ascii=False, allow_nan=False) + "\n")
