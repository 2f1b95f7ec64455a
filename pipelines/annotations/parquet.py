"""Parquet with a flat table, which holds all that a Document does. What does not apply to a row is null.

Columns: ``kind`` (video, segment or box), ``video``, ``label``, ``start_s``, ``stop_s``, ``second``, ``x1``, ``y1``,
``x2``, ``y2``, ``track``, ``score``, and what is known of a video: ``duration_s``, ``fps``, ``width``, ``height``,
``subset``.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import InputError, MachineError
from pipelines.annotations.document import Boxes, Document, Media, Segments
from pipelines.annotations.given import Given
from pipelines.notes import shown

_TEXTS = ("kind", "video", "label", "subset")
_WHOLES = ("track", "width", "height")
_NUMBERS = ("start_s", "stop_s", "second", "x1", "y1", "x2", "y2", "score", "duration_s", "fps")
_LABELS = b"untrimmed.labels"


def _pyarrow() -> Any:  # noqa: ANN401 - a module without types
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MachineError(
            "Parquet needs pyarrow, which is not installed; run: pip install 'untrimmed[parquet]'"
        ) from error
    return pyarrow


def read_parquet(path: Path, _given: Given) -> Document:
    """The table that `write_parquet` writes.

    Raises:
        InputError: not readable, damaged, or other columns.
        MachineError: pyarrow is not installed.
    """
    pa = _pyarrow()
    try:
        table = pa.parquet.read_table(path, page_checksum_verification=True)
        labels = json.loads((table.schema.metadata or {}).get(_LABELS, b"[]"))
        missing = [name for name in (*_TEXTS, *_WHOLES, *_NUMBERS) if name not in table.column_names]
        if missing:
            raise InputError(f"{path}: no column {shown(missing)}; expected the columns that untrimmed convert writes")
        texts = {name: table[name].cast(pa.string()).to_pylist() for name in _TEXTS}
        wholes = {name: _filled(table[name].cast(pa.int64()), -1) for name in _WHOLES}
        numbers = {name: _filled(table[name].cast(pa.float64()), np.nan) for name in _NUMBERS}
    except InputError:
        raise
    except (pa.ArrowException, OSError, ValueError, TypeError, MemoryError, RecursionError) as error:
        raise InputError(f"{path}: {error!s:.200}; expected Parquet that untrimmed convert writes") from error
    return _document(path, labels, texts, wholes, numbers)


def _filled(column: Any, missing: float) -> NDArray[Any]:  # noqa: ANN401 - of pyarrow
    return np.asarray(column.fill_null(missing).to_numpy())


def _document(
    path: Path,
    labels: object,
    texts: dict[str, list[str | None]],
    wholes: dict[str, NDArray[np.int64]],
    numbers: dict[str, NDArray[np.float64]],
) -> Document:
    kind, video, label = texts["kind"], texts["video"], texts["label"]
    for row, (of, name) in enumerate(zip(kind, video, strict=True)):
        if of not in ("video", "segment", "box") or name is None:
            raise InputError(
                f"{path}, row {row + 1}: kind is {of!r:.20}, video {name!r:.60}; expected a video, segment or box"
            )
    infinite = [name for name, column in numbers.items() if np.isinf(column).any()]
    if infinite:
        row = int(np.flatnonzero(np.isinf(numbers[infinite[0]]))[0])
        raise InputError(f"{path}, row {row + 1}: {infinite[0]} is infinite; expected a finite number")
    half = np.isnan(numbers["start_s"]) != np.isnan(numbers["stop_s"])
    if half.any():
        raise InputError(
            f"{path}, row {int(np.argmax(half)) + 1}: one end of a segment is missing; expected both or none"
        )
    listed = [name for name in labels if isinstance(name, str)] if isinstance(labels, list) else []
    label_of: dict[str | None, int] = {}
    for each in (*listed, *label):
        if each is not None:
            label_of.setdefault(each, len(label_of))
    video_of: dict[str | None, int] = {}
    for each in video:
        video_of.setdefault(each, len(video_of))
    media = {str(name): Media() for name in video_of}
    for row in (row for row, of in enumerate(kind) if of == "video"):
        media[str(video[row])] = _media(row, texts, wholes, numbers)
    labels_of_rows = np.array([label_of.get(each, -1) for each in label], np.int64)
    videos_of_rows = np.array([video_of[each] for each in video], np.int64)
    rows = {of: np.array([each == of for each in kind], np.bool_) for of in ("segment", "box")}
    s, b = rows["segment"], rows["box"]
    span_s = np.stack([numbers["start_s"], numbers["stop_s"]], axis=1)
    box = np.stack([numbers[name] for name in ("x1", "y1", "x2", "y2")], axis=1)
    segments = Segments(videos_of_rows[s], labels_of_rows[s], span_s[s], numbers["score"][s])
    boxes = Boxes(
        videos_of_rows[b], numbers["second"][b], box[b], labels_of_rows[b], wholes["track"][b], numbers["score"][b]
    )
    return Document("parquet", media, tuple(str(name) for name in label_of), segments, boxes)


def _media(
    row: int,
    texts: dict[str, list[str | None]],
    wholes: dict[str, NDArray[np.int64]],
    numbers: dict[str, NDArray[np.float64]],
) -> Media:
    duration_s, fps = (float(numbers[name][row]) for name in ("duration_s", "fps"))
    width, height = (int(wholes[name][row]) for name in ("width", "height"))
    return Media(
        None if np.isnan(duration_s) else duration_s,
        fps if fps > 0 else None,
        width if width > 0 else None,
        height if height > 0 else None,
        texts["subset"][row],
    )


def write_parquet(document: Document, path: Path, _given: Given) -> None:
    """One row a video, then its segments and boxes.

    Raises:
        MachineError: pyarrow is not installed, or the file cannot be written.
    """
    pa = _pyarrow()
    s, b, media = document.segments, document.boxes, list(document.media.values())
    nothing = [None] * len(media)
    videos = document.videos
    names = [*document.labels, None]
    columns: dict[str, list[Any]] = {
        "kind": ["video"] * len(media) + ["segment"] * len(s) + ["box"] * len(b),
        "video": [*videos, *(videos[v] for v in (*s.video.tolist(), *b.video.tolist()))],
        "label": [*nothing, *(names[n] for n in (*s.label.tolist(), *b.label.tolist()))],
        "subset": [each.subset for each in media] + [None] * (len(s) + len(b)),
        "track": [None] * (len(media) + len(s)) + b.track.tolist(),
        "score": [*nothing, *s.score.tolist(), *b.score.tolist()],
    }
    for name in ("width", "height", "duration_s", "fps"):
        columns[name] = [getattr(each, name) for each in media] + [None] * (len(s) + len(b))
    for place, name in enumerate(("start_s", "stop_s")):
        columns[name] = [*nothing, *s.span_s[:, place].tolist(), *[None] * len(b)]
    columns["second"] = [*nothing, *[None] * len(s), *b.second.tolist()]
    for place, name in enumerate(("x1", "y1", "x2", "y2")):
        columns[name] = [*nothing, *[None] * len(s), *b.box[:, place].tolist()]
    kinds = {**dict.fromkeys(_TEXTS, pa.string()), **dict.fromkeys(_WHOLES, pa.int64())}
    arrays = {
        name: pa.array(columns[name], kinds.get(name, pa.float64()), from_pandas=True)  # NaN is null
        for name in (*_TEXTS, *_WHOLES, *_NUMBERS)
    }
    table = pa.table(arrays).replace_schema_metadata({_LABELS: json.dumps(document.labels).encode()})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pa.parquet.write_table(table, path, write_page_checksum=True, compression="zstd")
    except OSError as error:
        raise MachineError(f"{path} cannot be written ({error}); choose another place") from error
