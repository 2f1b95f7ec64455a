"""Events of BORIS as a table (csv or tsv), with a row for each event (START, STOP or POINT) or aggregated, with a row
for each state (Start (s) and Stop (s)).

The label is the behavior; subjects, categories and modifiers part which START and STOP belong together, and are left
out. A video's id is its media file, else the observation's id.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from extract.errors import InputError
from pipelines.annotations.document import Document, Media
from pipelines.annotations.draft import Draft, label_of, plain, put_text
from pipelines.annotations.files import finite, said, table
from pipelines.annotations.given import Given
from pipelines.notes import noted, shown

_EXPECTED = "events of BORIS, with columns Behavior and Time, or Start (s) and Stop (s)"
_AGGREGATED = (
    "Observation id",
    "Observation date",
    "Description",
    "Observation type",
    "Source",
    "Time offset (s)",
    "Media duration (s)",
    "FPS (frame/s)",
    "Subject",
    "Behavior",
    "Behavioral category",
    "Behavior type",
    "Start (s)",
    "Stop (s)",
    "Duration (s)",
    "Media file name",
    "Comment start",
    "Comment stop",
)
_DURATIONS = ("Media duration (s)", "Total length")
_RATES = ("FPS (frame/s)", "FPS")
_Row = Mapping[str, str]


def read_boris(path: Path, _given: Given) -> Document:
    """Either kind of table; lines before its header are skipped.

    Raises:
        InputError: not readable, a column is missing, a time is no number, or a START without STOP.
    """
    draft = Draft("boris")
    bad: list[str] = []
    subjects: dict[str, None] = {}
    opened: dict[tuple[str, ...], tuple[int, float]] = {}
    for line, row in _rows(path):
        try:
            subject = row.get("Subject", "")
            subjects.setdefault(subject)
            video = draft.video(_video(row, path), _media(row))
            label = draft.label(_needed(row, "Behavior"))
            if "Start (s)" in row:
                draft.segment(video, label, finite(row["Start (s)"]), finite(_needed(row, "Stop (s)")))
                continue
            time_s = finite(_needed(row, "Time"))
            key = (str(video), row["Behavior"], subject, _modifiers(row))
            kind = (row.get("Behavior type") or row.get("Status") or "").upper()
            if kind == "POINT":
                draft.segment(video, label, time_s, time_s)
            elif kind == "START" and key not in opened:
                opened[key] = (line, time_s)
            elif kind == "STOP" and key in opened:
                draft.segment(video, label, opened.pop(key)[1], time_s)
            else:
                bad.append(f"line {line} ({said(kind)} of {said(row['Behavior'])})")
        except ValueError as error:
            bad.append(f"line {line} ({error})")
    bad += [f"line {line} (START of {said(key[1])}, without STOP)" for key, (line, _) in opened.items()]
    if bad:
        raise InputError(
            f"{path}: {len(bad)} rows cannot be read: {shown(bad)}; expected {_EXPECTED}, and START and STOP in turns."
            " Correct the file"
        )
    draft.notes += noted(
        (name for name in subjects if name not in ("", "No focal subject")), "subjects are left out, their rows kept"
    )
    return draft.document()


def _rows(path: Path) -> Iterator[tuple[int, _Row]]:
    """Each row below the header by the names of its columns, and its line."""
    header: list[str] | None = None
    for line, cells in table(path, _EXPECTED, delimiter=_delimiter(path)):
        if header is not None:
            yield line, dict(zip(header, cells, strict=False))
        elif "Behavior" in cells and {"Time", "Start (s)"} & set(cells):
            header = cells
    if header is None:
        raise InputError(f"{path}: no row with the names of the columns; expected {_EXPECTED}")


def _delimiter(path: Path) -> str:
    first: list[str] = next((cells for _, cells in table(path, _EXPECTED, delimiter="\t") if "Behavior" in cells), [])
    return "\t" if len(first) > 1 else ","


def _needed(row: _Row, name: str) -> str:
    if not row.get(name):
        raise ValueError(f"no {name}")
    return row[name]


def _modifiers(row: _Row) -> str:
    return "|".join(value for name, value in row.items() if name.lower().startswith("modifier"))


def _video(row: _Row, path: Path) -> str:
    source = re.sub(r"^player #\d+\s*:\s*|\s*;\s*player #\d+\s*:.*", "", row.get("Source", ""))
    return row.get("Media file name") or row.get("Media file path") or source or row.get("Observation id") or path.stem


def _media(row: _Row) -> Media:
    duration_s, fps = (
        next((finite(row[name]) for name in names if row.get(name) not in (None, "", "NA")), None)
        for names in (_DURATIONS, _RATES)
    )
    return Media(duration_s, fps if fps and fps > 0 else None)


def write_boris(document: Document, path: Path, _given: Given) -> None:
    """Aggregated events; a segment without length is a POINT. Rows without label or segment cannot be written."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(_AGGREGATED)
    segments = document.segments.take(~np.isnan(document.segments.span_s[:, 0]) & (document.segments.label >= 0))
    media = list(document.media.items())
    columns = zip(segments.video.tolist(), segments.label.tolist(), segments.span_s.tolist(), strict=True)
    for video, label, (start_s, stop_s) in columns:
        name, known = plain(media[video][0]), media[video][1]
        row = {
            "Observation id": name,
            "Observation type": "Media file(s)",
            "Source": f"player #1:{name}",
            "Time offset (s)": 0,
            "Media duration (s)": "" if known.duration_s is None else known.duration_s,
            "FPS (frame/s)": "" if known.fps is None else known.fps,
            "Subject": "No focal subject",
            "Behavior": plain(label_of(document, label)),
            "Behavior type": "POINT" if start_s == stop_s else "STATE",
            "Start (s)": start_s,
            "Stop (s)": stop_s,
            "Duration (s)": stop_s - start_s,
            "Media file name": name,
        }
        rows.writerow([row.get(column, "") for column in _AGGREGATED])
    put_text(path, out.getvalue())
