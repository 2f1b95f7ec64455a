"""Boxes that tools keep at some frames and show at all between them: filled in when read, runs when written.

N boxes.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from extract.errors import InputError
from pipelines.annotations.document import Boxes, Document
from pipelines.annotations.draft import rows_by_video

FRAMES = 20_000_000
"""More boxes than this in one track between two frames are a mistake in the file."""
Corners = tuple[float, float, float, float]


def filled(path: Path, marks: Sequence[tuple[int, Corners, bool]]) -> Iterator[tuple[int, Corners]]:
    """Frame and box, on a straight line between two marks where the first one goes on.

    ``marks``: frame, box, and whether it is shown after that frame; in order of frames.
    """
    for place, (frame, box, goes_on) in enumerate(marks):
        yield frame, box
        if not goes_on or place + 1 == len(marks):
            continue
        last, target, _ = marks[place + 1]
        if last - frame > FRAMES:
            raise InputError(f"{path}: a track goes from frame {frame} to {last}; expected less. Correct the file")
        for k in range(frame + 1, last):
            part = (k - frame) / (last - frame)
            x1, y1, x2, y2 = (a + part * (b - a) for a, b in zip(box, target, strict=True))
            yield k, (x1, y1, x2, y2)


def frames_of(second: NDArray[np.float64], fps: float) -> NDArray[np.int64]:
    """The frame that is shown at each second, from 0."""
    return np.rint(second * fps).astype(np.int64)


def boxes_by_video(document: Document) -> Iterator[Boxes]:
    """The boxes of each video, without the rows that say that nothing is there."""
    for rows in rows_by_video(document, document.boxes.video):
        found = document.boxes.take(rows)
        yield found.take(~np.isnan(found.box[:, 0]))


def tracks_of(boxes: Boxes) -> Iterator[tuple[int, int, Boxes]]:
    """Number, label and boxes in order of time of each track; a box without a track is a new one of its own."""
    free = int(boxes.track.max(initial=-1)) + 1
    track = np.where(boxes.track < 0, free + np.arange(len(boxes)), boxes.track)
    order = np.lexsort((boxes.second, boxes.label, track))
    found, tracks = boxes.take(order), track[order]
    new = (np.diff(tracks) != 0) | (np.diff(found.label) != 0)
    for rows in np.split(np.arange(len(order)), np.flatnonzero(new) + 1):
        if len(rows):
            yield int(tracks[rows[0]]), int(found.label[rows[0]]), found.take(rows)
