"""Files of boxes: people whom somebody annotated, or a detector found, a row each.

AVA's columns (Gu et al., CVPR 2018), without a header: video, second, x1, y1, x2, y2, action, score or person.
Coordinates are parts of the displayed frame, 0..1 from its top left corner.
"""

import csv
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from extract.boxes import Boxes
from extract.errors import InputError
from pipelines.notes import shown

_ROUNDING = 0.01  # of a frame: how far outside it a coordinate may lie


@dataclass(frozen=True, slots=True)
class BoxFile:
    """The boxes in a file, by the video ids that it has; ``notes`` say what was left out of it."""

    path: str
    videos: Mapping[str, Boxes]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Row:
    video: str
    second: float
    box: tuple[float, float, float, float]
    score: float | None  # None where the row has none: of people who are known to be there


def read_boxes(path: str | Path) -> BoxFile:
    """The boxes of a csv file of 6, 7 or 8 columns.

    Where column 7 is empty, as in the files of detected people that FAIR published for AVA, column 8 is the box's
    score. Where it is not, as in AVA's annotations, there is a row for each action: equal boxes of one second of a
    video are one box, of score 1. So it is without these columns.

    Returns:
        For each video its boxes in the order of their seconds, those of one second in the order of the file. Boxes
        without an extent are left out, with a note.

    Raises:
        InputError: the file cannot be read, has no box, or a row that is none (the message has its line).
    """
    file = Path(path)
    rows = list(_rows(file))
    if not rows:
        raise InputError(f"{file} has no boxes; expected rows of video, second, x1, y1, x2, y2, action, score")
    _check_inside(file, rows)
    found: dict[str, list[_Row]] = defaultdict(list)
    empty: list[str] = []
    seen: set[_Row] = set()
    for line, row in rows:
        kept = _Row(row.video, row.second, _clipped(row.box), row.score)
        left_top, right_bottom = np.array(kept.box, np.float32).reshape(2, 2)  # as it would be stored
        if not (left_top < right_bottom).all():
            empty.append(f"line {line}")
        elif kept.score is not None or kept not in seen:
            seen.add(kept)
            found[row.video].append(kept)
    notes = [f"{file}: {len(empty)} boxes are reversed or empty, and left out: {shown(empty)}"] if empty else []
    return BoxFile(str(file), {video: _boxes(kept) for video, kept in found.items()}, tuple(notes))


def boxes_of(file: BoxFile, video_ids: Sequence[str]) -> tuple[dict[str, Boxes], list[str]]:
    """The boxes of each of ``video_ids``, none for those that the file does not name; and notes on what was left out.

    Ids match as those of annotations do (`pipelines.dataset.match_ids`).

    Raises:
        InputError: no id in the file is one of ``video_ids``, or one could be several of them.
    """
    from pipelines.dataset import match_ids

    try:
        matches = match_ids(list(file.videos), video_ids)
    except InputError as error:
        raise InputError(f"{file.path}: the videos in this file of boxes are not those given: {error}") from error
    boxes = {video_id: Boxes.none() for video_id in video_ids}
    boxes |= {video_id: file.videos[listed] for listed, video_id in matches.items()}
    unknown = [listed for listed in file.videos if listed not in matches]
    without = [video_id for video_id, own in boxes.items() if not len(own)]
    notes = list(file.notes)
    if unknown:
        notes.append(f"{file.path}: {len(unknown)} videos with boxes are not among those given: {shown(unknown)}")
    if without:
        notes.append(f"{len(without)} videos have no box in {file.path} and get no rows: {shown(without)}")
    return boxes, notes


def _rows(file: Path) -> Iterable[tuple[int, _Row]]:
    """Each row with the number of its line; empty lines are passed over."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            for cells in reader:
                if cells:
                    yield reader.line_num, _row(file, reader.line_num, [cell.strip() for cell in cells])
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}; expected a csv file of boxes") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file} is not text in UTF-8 of rows and columns ({error}); expected a csv file") from error


def _row(file: Path, line: int, cells: list[str]) -> _Row:
    where = f"{file}, line {line}"
    if not 6 <= len(cells) <= 8:
        raise InputError(
            f"{where} has {len(cells)} columns; expected 6 to 8: video, second, x1, y1, x2, y2, action, score"
        )
    second, *box = (_number(where, cell) for cell in cells[1:6])
    if not cells[0] or second < 0:
        raise InputError(f"{where} is {','.join(cells)!r}; expected a video, and a second of at least 0")
    action, last, *_ = [*cells[6:], "", ""]
    score = _number(where, last) if last and not action else None
    return _Row(cells[0], second, (box[0], box[1], box[2], box[3]), score)


def _number(where: str, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where}: {cell!r} is not a number; expected video, second, x1, y1, x2, y2, action, score")
    return value


def _check_inside(file: Path, rows: Sequence[tuple[int, _Row]]) -> None:
    outside = [(line, row) for line, row in rows if min(row.box) < -_ROUNDING or max(row.box) > 1 + _ROUNDING]
    if outside:
        line, row = outside[0]
        pixels = max(max(row.box) for _, row in outside) > 2
        raise InputError(
            f"{file}: {len(outside)} of {len(rows)} boxes lie outside the frame, first line {line}: "
            f"{', '.join(f'{value:g}' for value in row.box)}; expected parts of the frame, 0 to 1"
            f"{'. These look like pixels: divide them by width and height' if pixels else ''}"
        )


def _clipped(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (min(max(value, 0.0), 1.0) for value in box)
    return x1, y1, x2, y2


def _boxes(rows: list[_Row]) -> Boxes:
    rows = sorted(rows, key=lambda row: row.second)  # a stable sort
    return Boxes(
        np.array([row.second for row in rows], np.float64),
        np.array([row.box for row in rows], np.float32),
        np.array([1.0 if row.score is None else row.score for row in rows], np.float32),
    )
