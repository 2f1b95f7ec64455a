"""AVA's csv files, without a header: boxes with an action, once a second.

Truth: ``video,second,x1,y1,x2,y2,action number,person``; without the last column too; and ``video,second`` alone for a
moment that was annotated and holds nothing. Detections have a score in place of the person, and FAIR's boxes of people
no action. Excluded moments are ``video,second``. Coordinates are parts of the frame. The names of the numbers are in a
``.pbtxt``: that of the same stem, else the only one beside the file. Where a file could have either, eighth
cells that are all whole numbers are persons, else scores.
"""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from extract.errors import InputError, UsageError
from pipelines.annotations.ava_names import SUBSETS
from pipelines.annotations.document import Boxes, Document, Media, no_segments
from pipelines.annotations.draft import label_of, numbered, plain, put_text
from pipelines.annotations.files import finite, read_rows, read_text
from pipelines.annotations.given import Given, name_of, numbers_of
from pipelines.notes import shown

TRUTH = "ava.csv"
CLASS_LIST = "actions.pbtxt"
_EXPECTED = "video,second,x1,y1,x2,y2,action number[,person or score], or video,second, without a header"
_EXCLUDED = re.compile(r"excluded", re.IGNORECASE)
_Row = tuple[str, float, tuple[float, float, float, float] | None, str, str]
_NOTHING = (np.nan, np.nan, np.nan, np.nan)


def read_ava_csv(path: Path, given: Given) -> Document:
    """A file, or a folder with csv files beside their class list; those whose name has train or val are a subset.

    Raises:
        InputError: not readable, rows of other columns, or numbers that are none.
    """
    if not path.is_dir():
        return _document(path, [(path, None)], given)
    files = [file for file in sorted(path.glob("*.csv")) if not _EXCLUDED.search(file.name)]
    subsets = [_subset(file.name) for file in files]
    if len(files) != 1 and (None in subsets or len(set(subsets)) < len(subsets)):
        raise InputError(
            f"{path} has {len(files)} csv files: {shown(file.name for file in files)}; expected one, or one each whose"
            " name has train and val. Name the file"
        )
    return _document(path, list(zip(files, subsets, strict=True)), given)


def _subset(name: str) -> str | None:
    words = re.findall(r"(?<![a-zA-Z])(train|val)(?![a-zA-Z])", name)
    return SUBSETS[words[-1]] if words else None


def _document(path: Path, files: Sequence[tuple[Path, str | None]], given: Given) -> Document:
    rows: list[_Row] = []
    media: dict[str, Media] = {}
    for file, subset in files:
        found = _fast(file) or read_rows(file, _parsed, _EXPECTED)
        media.update({row[0]: Media(subset=subset) for row in found})
        rows += found
    folder = path if path.is_dir() else path.parent
    names = given.names(path.with_suffix(".pbtxt"), *_only(folder))
    return _of_rows(rows, media, names)


def _only(folder: Path) -> list[Path]:
    lists = list(folder.glob("*.pbtxt"))
    return lists if len(lists) == 1 else []


def _fast(file: Path) -> list[_Row] | None:
    """The rows of a file whose rows all have eight cells; None where anything is amiss."""
    try:
        cells = list(csv.reader(io.StringIO(read_text(file, _EXPECTED), newline="")))
        video, second, x1, y1, x2, y2, action, last = zip(*filter(None, cells), strict=True)
        numbers = [list(map(float, column)) for column in (second, x1, y1, x2, y2)]
        if not np.isfinite(numbers).all() or not all(map(str.strip, set(video))):
            return None
        boxes = zip(*numbers[1:], strict=True)
        videos, actions, lasts = (list(map(str.strip, column)) for column in (video, action, last))
        for text in set(actions):
            _number(text)
        if not np.isfinite(np.array([float(text) for text in lasts if text])).all():
            return None
        return list(zip(videos, numbers[0], boxes, actions, lasts, strict=True))
    except (ValueError, csv.Error, OverflowError):
        return None


def _parsed(cells: list[str]) -> _Row:
    if len(cells) not in (2, 7, 8):
        raise ValueError(f"{len(cells)} cells")
    if not cells[0]:
        raise ValueError("no video")
    second, *corners = map(finite, cells[1:6])
    if len(cells) == 2 or not any(cells[2:]):
        return cells[0], second, None, "", ""
    _number(cells[6])
    last = cells[7] if len(cells) == 8 else ""
    if last:
        finite(last)
    x1, y1, x2, y2 = corners
    return cells[0], second, (x1, y1, x2, y2), cells[6], last


def _number(text: str) -> int:
    if not re.fullmatch(r"-?\d{0,9}", text):
        raise ValueError(f"action {text!r:.40} is no number")
    return int(text) if text not in ("", "-") else -1


def _of_rows(rows: list[_Row], media: Mapping[str, Media], names: Mapping[int, str]) -> Document:
    video, second, box, action, last = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    _, video_of = numbered(video)
    numbers = {text: _number(text) for text in dict.fromkeys(action)}
    used = sorted({number for number in numbers.values() if number >= 0})
    listed = [name for _, name in sorted(names.items())]
    number_of, _ = numbered([*listed, *(name_of(names, number) for number in used)])
    label = {text: number_of[name_of(names, n)] if n >= 0 else -1 for text, n in numbers.items()}
    track, score = _last(last, action)
    boxes = Boxes(
        video=video_of,
        second=np.array(second, np.float64),
        box=np.array([_NOTHING if each is None else each for each in box], np.float64).reshape(-1, 4),
        label=np.array([label[text] for text in action], np.int64),
        track=track,
        score=score,
    )
    return Document("ava", media, tuple(number_of), no_segments(), boxes)


def _last(last: Sequence[str], action: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Person and score of each row, from its eighth cell."""
    kinds = dict.fromkeys(last)
    people = all(re.fullmatch(r"-?\d{0,15}", text) for text in kinds) and (not last or any(action))
    none = np.full(len(last), np.nan)
    if people:
        return np.array([int(text) if text not in ("", "-") else -1 for text in last], np.int64), none
    return np.full(len(last), -1, np.int64), np.array([float(text) if text else np.nan for text in last])


def write_ava_csv(document: Document, path: Path, given: Given) -> None:
    """A csv file, or a folder with ``ava.csv`` and its class list; detections where rows have scores.

    Raises:
        UsageError: one file is wanted, and nothing has the numbers of its actions.
    """
    names = given.names()
    numbers = numbers_of(document.labels, names, first=1)
    as_file = path.suffix != ""
    if as_file and not all(label in names.values() or label == str(numbers[label]) for label in document.labels):
        raise UsageError(
            f"{path}: AVA's files have numbers in place of labels, and nothing has them. Name a folder, without an"
            f" ending, which gets {TRUTH} and {CLASS_LIST}; or give a list of classes with --labels"
        )
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    boxes, videos = document.boxes, document.videos
    scored = bool(np.isfinite(boxes.score).any())
    columns = zip(
        boxes.video.tolist(),
        boxes.second.tolist(),
        boxes.box.tolist(),
        boxes.label.tolist(),
        boxes.track.tolist(),
        boxes.score.tolist(),
        strict=True,
    )
    for video, second, box, label, track, score in columns:
        when = [plain(videos[video]), f"{int(second):04d}" if second == int(second) else second]
        if box[0] != box[0]:
            rows.writerow(when)
            continue
        person = "" if track < 0 else track
        action = numbers.get(label_of(document, label), "")
        rows.writerow([*when, *box, action, (score if score == score else "") if scored else person])
    put_text(path if as_file else path / TRUTH, out.getvalue())
    if not as_file:
        listed = sorted((number, label) for label, number in numbers.items())
        text = "".join(f"item {{\n  name: {_quoted(label)}\n  id: {number}\n}}\n" for number, label in listed)
        put_text(path / CLASS_LIST, text)


def _quoted(label: str) -> str:
    quote = '"' if '"' not in label else "'"
    return f"{quote}{plain(label).replace(quote, ' ')}{quote}"
