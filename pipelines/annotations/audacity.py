"""Audacity's labels: ``start<tab>stop<tab>label``, one file a video. Lines that begin with a backslash, about
frequencies, are left out.
"""

from pathlib import Path

import numpy as np

from pipelines.annotations.document import Document
from pipelines.annotations.draft import Draft, files_of, label_of, one_or_folder, plain, put_text, rows_by_video
from pipelines.annotations.files import finite, read_rows
from pipelines.annotations.given import Given
from pipelines.notes import noted

ENDINGS = (".txt",)
_EXPECTED = "Audacity's labels, start<tab>stop<tab>label"


def read_audacity(path: Path, _given: Given) -> Document:
    """A file or a folder of them; ids are the files' names.

    Raises:
        InputError: not readable, or rows of other columns.
    """
    draft, spectral = Draft("audacity"), []
    for video_id, file in files_of(path, ENDINGS):
        video = draft.video(video_id)
        for row in read_rows(file, _parsed, _EXPECTED, delimiter="\t", quoted=False):
            if row is None:
                spectral.append(file.name)
            else:
                start_s, stop_s, label = row
                draft.segment(video, draft.label(label), start_s, stop_s)
    draft.notes += noted(spectral, "lines about frequencies are left out")
    return draft.document()


def _parsed(cells: list[str]) -> tuple[float, float, str] | None:
    if cells[0] == "\\":
        return None
    return finite(cells[0]), finite(cells[1]), " ".join(cells[2:])


def write_audacity(document: Document, path: Path, _given: Given) -> None:
    """A line for each segment with a start and a stop; a millionth of a second is kept."""
    files = one_or_folder(document, path, ENDINGS)
    for (_, file), rows in zip(files, rows_by_video(document, document.segments.video), strict=True):
        found = document.segments.take(rows)
        found = found.take(~np.isnan(found.span_s[:, 0]))
        lines = (
            f"{start_s:.6f}\t{stop_s:.6f}\t{plain(label_of(document, label))}\n"
            for label, (start_s, stop_s) in zip(found.label.tolist(), found.span_s.tolist(), strict=True)
        )
        put_text(file, "".join(lines))
