"""Charades' csv: a row a video, with ``length`` in seconds and ``actions``: ``c092 11.90 21.20;c147 0.00 12.60``."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from extract.errors import InputError
from pipelines.annotations.document import Document, Media
from pipelines.annotations.draft import Draft, plain, put_text, rows_by_video
from pipelines.annotations.files import finite, said, table
from pipelines.annotations.given import Given
from pipelines.notes import shown

COLUMNS = (
    "id",
    "subject",
    "scene",
    "quality",
    "relevance",
    "verified",
    "script",
    "objects",
    "descriptions",
    "actions",
    "length",
)
_EXPECTED = "Charades' csv, with columns id, actions (c092 11.90 21.20;…) and length"


def read_charades(path: Path, _given: Given) -> Document:
    """Labels are the codes of the file, such as c092; videos without actions count.

    Raises:
        InputError: not readable, a column is missing, or a cell is not what its column should have.
    """
    draft, bad = Draft("charades"), []
    rows = table(path, _EXPECTED)
    header = [name.lower() for name in next(rows, (0, []))[1]]
    if missing := {"id", "actions"} - set(header):
        raise InputError(f"{path}, line 1: no column {shown(sorted(missing))}; expected {_EXPECTED}")
    for line, cells in rows:
        try:
            _add(draft, header, cells)
        except ValueError as error:
            bad.append(f"line {line} ({error})")
    if bad:
        raise InputError(
            f"{path}: {len(bad)} rows cannot be read: {shown(bad)}; expected {_EXPECTED}. Correct the file"
        )
    return draft.document()


def _add(draft: Draft, header: Sequence[str], cells: Sequence[str]) -> None:
    if len(cells) != len(header):
        raise ValueError(f"{len(cells)} cells, the header has {len(header)}")
    row: Mapping[str, str] = dict(zip(header, cells, strict=True))
    if not row["id"]:
        raise ValueError("no id")
    actions = [_action(each) for each in row["actions"].split(";") if each.strip()]
    length = row.get("length", "")
    video = draft.video(row["id"], Media(duration_s=finite(length) if length else None))
    for label, start_s, stop_s in actions:
        draft.segment(video, draft.label(label), start_s, stop_s)


def _action(text: str) -> tuple[str, float, float]:
    words = text.split()
    if len(words) != 3:
        raise ValueError(f"action {said(text)} is not class, start and stop")
    return words[0], finite(words[1]), finite(words[2])


def write_charades(document: Document, path: Path, _given: Given) -> None:
    """Ids, actions and lengths; the other columns stay empty. Rows without label or segment cannot be written."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    segments = document.segments
    for (video, media), rows in zip(document.media.items(), rows_by_video(document, segments.video), strict=True):
        found = segments.take(rows)
        actions = [
            f"{_code(document.labels[label])} {start_s} {stop_s}"
            for label, (start_s, stop_s) in zip(found.label.tolist(), found.span_s.tolist(), strict=True)
            if label >= 0 and start_s == start_s
        ]
        length = "" if media.duration_s is None else str(media.duration_s)
        row = {"id": plain(video), "actions": ";".join(actions), "length": length}
        writer.writerow([row.get(name, "") for name in COLUMNS])
    put_text(path, out.getvalue())


def _code(label: str) -> str:
    return plain(label.replace(";", " ")).replace(" ", "_") or "_"
