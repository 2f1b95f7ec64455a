"""Frame-wise labels as MS-TCN and its kin have them: a file a video.

Truth is ``<video>.txt`` with a label a line; a result has no ending, a first line
``### Frame level recognition: ###``, and the labels of all frames in the second. A run of one label is a segment;
background is a label like others.
"""

from itertools import groupby
from pathlib import Path

import numpy as np

from extract.errors import InputError
from pipelines.annotations.document import Document, Media
from pipelines.annotations.draft import Draft, files_of, one_or_folder, plain, put_text, rows_by_video
from pipelines.annotations.files import read_text
from pipelines.annotations.given import Given

RESULT = "### Frame level recognition: ###"
BACKGROUND = "background"
_EXPECTED = "a label a line, one line a frame"
_FRAMES = 10_000_000


def read_mstcn(path: Path, given: Given) -> Document:
    """A file or a folder of them; ids are the files' names.

    Raises:
        InputError: not readable, a blank line between labels, or no frame rate is given.
    """
    fps, draft = given.rate(path), Draft("mstcn")
    for video_id, file in files_of(path, (".txt",)):
        frames = frame_labels(file)
        video = draft.video(video_id, Media(duration_s=len(frames) / fps, fps=fps))
        frame = 0
        for name, run in groupby(frames):
            first, frame = frame, frame + sum(1 for _ in run)
            draft.segment(video, draft.label(name), first / fps, frame / fps)
    return draft.document()


def frame_labels(file: Path) -> list[str]:
    """The label of each frame."""
    lines = read_text(file, _EXPECTED).split("\n")
    if lines and lines[0].strip().startswith("###"):
        return " ".join(lines[1:]).split()
    frames = [line.strip() for line in lines]
    while frames and not frames[-1]:
        frames.pop()
    if "" in frames:
        line = frames.index("") + 1
        raise InputError(f"{file}, line {line}: blank between labels; expected {_EXPECTED}. Correct the file")
    return frames


def write_mstcn(document: Document, path: Path, given: Given) -> None:
    """One label a frame: where segments overlap, the later row; where there is none, background.

    Raises:
        InputError: no frame rate is known, a video has no length, or several would go into one file.
    """
    files = one_or_folder(document, path, (".txt",))
    rows_of = rows_by_video(document, document.segments.video)
    for (video_id, file), media, rows in zip(files, document.media.values(), rows_of, strict=True):
        fps, found = given.rate(path, media), document.segments.take(rows)
        spans = np.where(np.isnan(found.span_s), [0.0, media.duration_s or 0.0], found.span_s)
        duration_s = media.duration_s if media.duration_s is not None else max(spans[:, 1].tolist(), default=0.0)
        count = round(duration_s * fps)
        if not 0 <= count <= _FRAMES:
            raise InputError(f"{path}: video {video_id!r:.80} has {count} frames; expected at most {_FRAMES}")
        frames = [BACKGROUND] * count
        ends = np.clip(np.rint(spans * fps), 0, count).astype(np.int64).tolist()
        for label, (first, last) in zip(found.label.tolist(), ends, strict=True):
            if label >= 0 and last > first:
                frames[first:last] = [plain(document.labels[label]).replace(" ", "_") or "_"] * (last - first)
        put_text(file, "".join(f"{name}\n" for name in frames))
