"""Kinetics' csv: ``label,youtube_id,time_start,time_end,split``, also without labels (test) or with other columns."""

import csv
import io
from pathlib import Path

from extract.errors import InputError
from pipelines.annotations.document import Document, Media
from pipelines.annotations.draft import Draft, label_of, plain, put_text
from pipelines.annotations.files import finite, table
from pipelines.annotations.given import Given
from pipelines.notes import shown

COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split")
_NEEDED = {"youtube_id", "time_start", "time_end"}
_EXPECTED = "Kinetics' csv, with columns label, youtube_id, time_start, time_end, split"


def read_kinetics(path: Path, _given: Given) -> Document:
    """A row is a segment of a video; the split is the video's subset.

    Raises:
        InputError: not readable, a column is missing, or times are no numbers.
    """
    draft, bad = Draft("kinetics"), []
    rows = table(path, _EXPECTED)
    header = [name.lower().lstrip("#") for name in next(rows, (0, []))[1]]
    if missing := _NEEDED - set(header):
        raise InputError(f"{path}, line 1: no column {shown(sorted(missing))}; expected {_EXPECTED}")
    for line, cells in rows:
        row = dict(zip(header, cells, strict=False))
        try:
            if not set(row) >= _NEEDED or not row["youtube_id"]:
                raise ValueError(f"{len(cells)} cells")
            start_s, stop_s = finite(row["time_start"]), finite(row["time_end"])
        except ValueError as error:
            bad.append(f"line {line} ({error})")
            continue
        video = draft.video(row["youtube_id"], Media(subset=row.get("split") or None))
        draft.segment(video, draft.label(row.get("label")), start_s, stop_s)
    if bad:
        raise InputError(
            f"{path}: {len(bad)} rows cannot be read: {shown(bad)}; expected {_EXPECTED}. Correct the file"
        )
    return draft.document()


def write_kinetics(document: Document, path: Path, _given: Given) -> None:
    """A row for each segment with a start and a stop."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    segments, media = document.segments, list(document.media.items())
    columns = zip(segments.video.tolist(), segments.label.tolist(), segments.span_s.tolist(), strict=True)
    writer.writerows(
        [plain(label_of(document, label)), plain(media[video][0]), start_s, stop_s, plain(media[video][1].subset or "")]
        for video, label, (start_s, stop_s) in columns
        if start_s == start_s
    )
    put_text(path, out.getvalue())
