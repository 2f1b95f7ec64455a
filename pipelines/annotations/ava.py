"""AVA's files: boxes of people with actions, once a second (Gu et al., "AVA", CVPR 2018).

Rows have no header: video, second, x1, y1, x2, y2 (0..1 of the frame, from its top left corner), action number, person;
a row of the first two columns alone says that the frame was annotated and holds no action. The numbers' names are in
a ``.pbtxt`` file: ``item { name: "sit" id: 11 }``, or ``label { … label_id: 11 }``.
N rows of one video, R boxes, C classes.
"""

import csv
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from extract.errors import InputError
from pipelines.annotations.ava_names import SUBSETS
from pipelines.annotations.ava_names import read_class_list as read_class_list
from pipelines.notes import noted, shown
from seqmodels.metrics.frame_ap import CAP, FrameBoxes, FrameMap, frame_map

PIXELS = 2.0
"""A coordinate beyond it is no part of a frame; AVA's own files have some slightly over 1."""
VIDEO_SHIFT = 40
"""Bits of a frame's number below its video's."""
_NOT_TRUTH = re.compile(r"excluded|box|detection|prediction|proposal", re.IGNORECASE)
_WORD = re.compile(r"(?<![a-zA-Z])(train|val)(?![a-zA-Z])")


@dataclass(frozen=True, slots=True, eq=False)
class AvaVideo:
    """The rows of one video, in order of time.

    Attributes:
        second: ``(N,)`` float64, seconds as in the file.
        box: ``(N, 4)`` float32, x1, y1, x2, y2 in parts of the frame.
        action: ``(N,)`` int64, numbers of classes (from 0, not AVA's).
        person: ``(N,)`` int64, -1 where the file has none.
        key_s: ``(K,)`` float64, the seconds that were annotated, each once; also those that hold no action, or none of
            the class list.
        excluded_s: ``(X,)`` float64, seconds that the exclusion file takes out; no row is at one of them.
    """

    second: NDArray[np.float64]
    box: NDArray[np.float32]
    action: NDArray[np.int64]
    person: NDArray[np.int64]
    key_s: NDArray[np.float64]
    excluded_s: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.second)


@dataclass(frozen=True, slots=True)
class Ava:
    """``subsets``: "training" and "validation", those there are, by video id. ``classes`` are in the order of AVA's
    numbers, which are in ``numbers``. ``notes`` say what was left out, and what is odd.
    """

    classes: tuple[str, ...]
    numbers: tuple[int, ...]
    subsets: Mapping[str, Mapping[str, AvaVideo]]
    notes: tuple[str, ...]

    def subset(self, name: str) -> Mapping[str, AvaVideo]:
        """The videos of one subset.

        Raises:
            InputError: there is no such subset.
        """
        if name not in self.subsets:
            raise InputError(
                f"no AVA file of subset {name!r}; there is {' and '.join(self.subsets)}. Put the file whose name has"
                f" {_word_of(name)!r} beside the other"
            )
        return self.subsets[name]


@dataclass(frozen=True, slots=True, eq=False)
class BoxScores:
    """What was predicted of the boxes of one video: ``second`` ``(R,)`` float64, ``box`` ``(R, 4)``, ``score``
    ``(R, C)``, higher is more certain; ``-inf`` where nothing is said, which is left out.
    """

    second: NDArray[np.float64]
    box: NDArray[np.float32]
    score: NDArray[np.float32]


def read_ava(path: str | Path) -> Ava:
    """AVA's annotations: a folder, or one of its files ``…train….csv`` and ``…val….csv``, whose sibling is read too.

    The class list is the only ``.pbtxt`` beside them. Rows of actions that it does not have are left out, as the
    official evaluation does, and so are boxes without an area; ``notes`` count them. A file ``*excluded_timestamps*``
    of the subset takes its frames out.

    Raises:
        InputError: a file is missing, not readable, or has rows that are no rows of AVA; there are several class lists;
            or coordinates look like pixels.
    """
    files = _subset_files(Path(path))
    folder = next(iter(files.values())).parent
    names = _read_classes(folder)
    numbers = tuple(sorted(names))
    notes: list[str] = []
    subsets = {}
    for name, file in files.items():
        subsets[name] = _read_subset(
            file, _excluded(folder, name), {number: i for i, number in enumerate(numbers)}, notes
        )
    classes = tuple(names[number] for number in numbers)
    for name, videos in subsets.items():
        seen = {int(action) for video in videos.values() for action in np.unique(video.action)}
        unseen = [label for i, label in enumerate(classes) if i not in seen]
        notes += noted(unseen, f"classes of {len(classes)} have no row in {files[name].name}")
    return Ava(classes, numbers, subsets, tuple(notes))


def write_ava_detections(path: str | Path, predictions: Mapping[str, BoxScores], numbers: Sequence[int]) -> None:
    """Write video, second, x1, y1, x2, y2, action number, score: a row for each box and class of each video.

    ``numbers``: AVA's number of each class (`Ava.numbers`). Rows are in order of video, box and class.
    """
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        for video_id in sorted(predictions):
            found = predictions[video_id]
            for second, box, scores in zip(found.second, found.box, found.score, strict=True):
                where = [video_id, _second(second), *(f"{x:.6g}" for x in box.tolist())]
                said = ((n, score) for n, score in zip(numbers, scores, strict=True) if score != -np.inf)
                rows.writerows([*where, number, f"{score:.9g}"] for number, score in said)


def ava_frame_map(
    truth: Mapping[str, AvaVideo], predictions: Mapping[str, BoxScores], n_classes: int, *, cap: int | None = CAP
) -> FrameMap:
    """Frame mAP at IoU 0.5 in AVA's current official form (`seqmodels.metrics.frame_ap.frame_map`).

    Predictions of videos without truth, and at seconds that the exclusion file takes out, count for nothing.
    """
    order = {video_id: i for i, video_id in enumerate(truth)}
    true = [_rows(order[name], v.second, v.box, v.action) for name, v in truth.items()]
    found = []
    for name in (name for name in predictions if name in order):
        p = predictions[name]
        box, action = np.nonzero(p.score != -np.inf)
        found.append(_rows(order[name], p.second[box], p.box[box], action, p.score[box, action]))
    keys = [frame_numbers(order[name], video.key_s) for name, video in truth.items()]
    empty = np.concatenate([np.zeros(0, np.int64), *keys])
    return frame_map(_joined(true, scored=False), _joined(found, scored=True), n_classes, empty_frames=empty, cap=cap)


def frame_numbers(video: int | NDArray[np.int64], second: NDArray[np.float64]) -> NDArray[np.int64]:
    """Numbers of frames, equal where the official code's keys are: of one video and one microsecond."""
    frames: NDArray[np.int64] = (video << VIDEO_SHIFT) + np.rint(second * 1e6).astype(np.int64)
    return frames


def _rows(
    video: int,
    second: NDArray[np.float64],
    box: NDArray[np.float32],
    action: NDArray[np.int64],
    score: NDArray[np.float32] | None = None,
) -> FrameBoxes:
    scores = None if score is None else score.astype(np.float64)
    return FrameBoxes(frame_numbers(video, second), box.astype(np.float64), action, scores)


def _joined(parts: Sequence[FrameBoxes], *, scored: bool) -> FrameBoxes:
    none = FrameBoxes(np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0) if scored else None)
    every = [none, *parts]
    score = np.concatenate([part.score for part in every if part.score is not None]) if scored else None
    frame, box, action = (
        np.concatenate([getattr(part, name) for part in every]) for name in ("frame", "box", "action")
    )
    return FrameBoxes(frame, box, action, score)


def _second(second: float) -> str:
    return f"{int(second):04d}" if second == int(second) else f"{second:.6f}"


def _word_of(subset: str) -> str:
    return next((word for word, name in SUBSETS.items() if name == subset), subset)


def _subset_files(path: Path) -> dict[str, Path]:
    """The csv file of each subset that has one."""
    if path.is_dir():
        return _files_in(path)
    match = _last_word(path.name)
    if match is None:
        raise InputError(
            f"{path}: its name says neither train nor val, which tells the subset; expected AVA's annotations, a file"
            " such as ava_train_v2.2.csv, or the folder that holds it. Rename the file, if it is one of them"
        )
    files = {}
    for word, subset in SUBSETS.items():
        file = path.with_name(path.name[: match.start()] + word + path.name[match.end() :])
        if word == match.group() or file.is_file():
            files[subset] = file
    return files


def _last_word(name: str) -> re.Match[str] | None:
    return next(iter([*_WORD.finditer(name)][::-1]), None)


def _files_in(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    truths = [file for file in sorted(folder.glob("*.csv")) if not _NOT_TRUTH.search(file.name)]
    for word, subset in SUBSETS.items():
        found = [file for file in truths if (match := _last_word(file.name)) and match.group() == word]
        if len(found) > 1:
            raise InputError(
                f"{folder} has {len(found)} files of subset {subset}: {shown(file.name for file in found)};"
                " expected one. Name the file in place of the folder"
            )
        if found:
            files[subset] = found[0]
    if not files:
        raise InputError(
            f"{folder} has no file …train….csv or …val….csv; expected AVA's annotations. Name their folder"
        )
    return files


def _read_classes(folder: Path) -> dict[int, str]:
    """Name of each number, from the only ``.pbtxt`` in ``folder``."""
    lists = sorted(folder.glob("*.pbtxt"))
    if not lists:
        raise InputError(
            f"{folder} has no .pbtxt file; expected AVA's class list, such as"
            " ava_action_list_v2.2_for_activitynet_2019.pbtxt, beside the csv files. Copy it there"
        )
    if len(lists) > 1:
        raise InputError(
            f"{folder} has {len(lists)} class lists: {shown(file.name for file in lists)}; expected one .pbtxt."
            " Leave the one to use there (official figures are of the 60 classes of …for_activitynet…), move the others"
        )
    return read_class_list(lists[0])


def _excluded(folder: Path, subset: str) -> dict[str, set[int]]:
    """Excluded frames of each video, in microseconds."""
    excluded: dict[str, set[int]] = defaultdict(set)
    for file in sorted(folder.glob("*excluded_timestamps*")):
        word = _last_word(file.name)
        if word is not None and SUBSETS[word.group()] != subset:
            continue
        bad = []
        for line, row in _lines(file):
            try:
                excluded[row[0]].add(round(float(row[1]) * 1e6))
            except (IndexError, ValueError, OverflowError):
                bad.append(f"line {line} ({','.join(row)!r:.60})")
        _check_rows(file, bad, "video,second")
    return excluded


@dataclass(frozen=True, slots=True)
class _Row:
    """``numbers``: x1, y1, x2, y2; ``action`` is AVA's number. Both None where the frame is empty."""

    video: str
    second: float
    box: tuple[float, float, float, float] | None
    action: int
    person: int


def _read_subset(
    file: Path, excluded: Mapping[str, set[int]], classes: Mapping[int, int], notes: list[str]
) -> dict[str, AvaVideo]:
    rows = _read_rows(file)
    unknown, flat, gone = Counter[int](), [], 0
    kept: dict[str, list[_Row]] = defaultdict(list)
    keys: dict[str, set[float]] = defaultdict(set)
    for line, row in rows:
        if round(row.second * 1e6) in excluded.get(row.video, ()):
            gone += 1
            continue
        keys[row.video].add(row.second)
        if row.box is None:
            continue
        if row.action not in classes:
            unknown[row.action] += 1
        elif row.box[2] <= row.box[0] or row.box[3] <= row.box[1]:
            flat.append(f"line {line}")
        else:
            kept[row.video].append(row)
    if unknown:
        notes.append(
            f"{file.name}: {unknown.total()} rows have an action number that the class list does not have; they are"
            f" left out, as the official evaluation does: {shown(f'{n} ({k})' for n, k in sorted(unknown.items()))}"
        )
    notes += noted(flat, f"boxes of {file.name} have no area (x2 <= x1 or y2 <= y1); they are left out")
    if gone:
        notes.append(f"{file.name}: {gone} rows are on excluded frames; they are left out")
    return {
        video: _video(kept[video], sorted(keys[video]), sorted(excluded.get(video, ())), classes)
        for video in sorted(keys)
    }


def _video(rows: list[_Row], keys: list[float], excluded: list[int], classes: Mapping[int, int]) -> AvaVideo:
    rows = sorted(rows, key=lambda row: row.second)
    return AvaVideo(
        second=np.array([row.second for row in rows], np.float64),
        box=np.array([row.box for row in rows], np.float32).reshape(-1, 4),
        action=np.array([classes[row.action] for row in rows], np.int64),
        person=np.array([row.person for row in rows], np.int64),
        key_s=np.array(keys, np.float64),
        excluded_s=np.array(excluded, np.float64) / 1e6,
    )


def _read_rows(file: Path) -> list[tuple[int, _Row]]:
    """All rows, each with its line."""
    rows, bad, pixels = [], [], []
    for line, cells in _lines(file):
        try:
            row = _parsed(cells)
        except (ValueError, OverflowError):
            bad.append(f"line {line} ({','.join(cells)!r:.60})")
            continue
        rows.append((line, row))
        if row.box is not None and max(map(abs, row.box)) > PIXELS:
            pixels.append(f"line {line} ({', '.join(f'{x:g}' for x in row.box)})")
    _check_rows(file, bad, "video,second,x1,y1,x2,y2,action number[,person], or video,second, without a header")
    if pixels:
        raise InputError(
            f"{file}: {len(pixels)} of {len(rows)} boxes lie far outside the frame: {shown(pixels)}; expected parts of"
            " the frame, 0..1. Are these pixels? Divide x by the frame's width and y by its height"
        )
    if not rows:
        raise InputError(f"{file} has no rows; expected video,second,x1,y1,x2,y2,action number,person")
    return rows


def _parsed(cells: Sequence[str]) -> _Row:
    """A row of a file.

    Raises:
        ValueError: not 2, 7 or 8 cells, or not numbers.
    """
    if len(cells) not in (2, 7, 8) or not cells[0]:
        raise ValueError(f"{len(cells)} cells")
    numbers = [float(cell) for cell in cells[1:6]]
    if not math.isfinite(sum(numbers)):
        raise ValueError("a number that is not finite")
    if len(cells) == 2:
        return _Row(cells[0], numbers[0], None, 0, -1)
    second, x1, y1, x2, y2 = numbers
    person = int(float(cells[7])) if len(cells) == 8 and cells[7] else -1
    return _Row(cells[0], second, (x1, y1, x2, y2), int(cells[6]), person)


def _check_rows(file: Path, bad: Sequence[str], expected: str) -> None:
    if bad:
        raise InputError(f"{file}: {len(bad)} rows cannot be read: {shown(bad)}; expected {expected}. Correct the file")


def _lines(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, with their lines, without spaces around the cells."""
    reader = csv.reader(_text(file).splitlines())
    for cells in reader:
        stripped = [cell.strip() for cell in cells]
        if any(stripped):
            yield reader.line_num, stripped


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected one of AVA's files") from error
    except ValueError as error:
        raise InputError(f"{path}: not text in UTF-8 ({error}); expected one of AVA's files") from error
