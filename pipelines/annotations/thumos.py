"""THUMOS 2014: a folder of ``<Class>_<subset>.txt`` with rows ``video start stop``, and detections in one file with
rows ``video start stop class_number score``. ``detclasslist.txt`` has the numbers of the classes;
``Ambiguous_<subset>.txt`` has stretches in which the annotators could not tell, and is read as the label Ambiguous.
Nothing says how long a video is.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from extract.errors import InputError, UsageError
from pipelines.annotations.document import Document, Media, Segments, no_boxes
from pipelines.annotations.draft import Draft, label_of, numbered, plain, put_text
from pipelines.annotations.files import finite, read_rows, read_text
from pipelines.annotations.given import Given, name_of, numbers_of
from pipelines.notes import shown

CLASS_LIST = "detclasslist.txt"
DETECTIONS = "detections.txt"
AMBIGUOUS = "Ambiguous"
_ROW = "rows of video, start and stop in seconds"
_DETECTION = "rows of video, start, stop, class number and score"


def read_thumos(path: Path, given: Given) -> Document:
    """The folder of the truth, a file of detections, or a folder that holds one beside its class list.

    Raises:
        InputError: a file cannot be read, or has rows of another kind.
    """
    if not path.is_dir():
        return _read_class(path) if _is_class(path) else _read_detections(path, given)
    files = sorted(file for file in path.glob("*.txt") if file.name != CLASS_LIST and not file.name.startswith("."))
    if [file.name for file in files] == [DETECTIONS]:
        return _read_detections(files[0], given)
    return _read_truth(path, files, given)


def _is_class(path: Path) -> bool:
    """Whether the first row has three cells."""
    text = read_text(path, f"{_ROW}, or {_DETECTION}")
    return next((len(line.split()) == 3 for line in text.splitlines() if line.strip()), True)


def _read_class(path: Path) -> Document:
    draft = Draft("thumos")
    _add(draft, path)
    return draft.document()


def _read_truth(folder: Path, files: list[Path], given: Given) -> Document:
    bad = [file.name for file in files if "_" not in file.stem.strip("_")]
    if bad or not (files or (folder / CLASS_LIST).is_file()):
        raise InputError(
            f"{folder}: {shown(bad) if bad else 'no .txt file'}; expected the truth of THUMOS, files such as"
            " BaseballPitch_test.txt, one a class. Move others away"
        )
    names = given.names(folder / CLASS_LIST)
    present = {file.stem.rpartition("_")[0] for file in files}
    draft = Draft("thumos", (name for _, name in sorted(names.items()) if name in present))
    for file in sorted(files, key=lambda file: file.name.startswith(AMBIGUOUS + "_")):
        _add(draft, file)
    return draft.document()


def _add(draft: Draft, file: Path) -> None:
    name, _, subset = file.stem.rpartition("_")
    label, media = draft.label(name or file.stem), Media(subset=subset if name else None)
    for video, start_s, stop_s in read_rows(file, _parsed, _ROW, delimiter=" ", quoted=False):
        draft.segment(draft.video(video, media), label, start_s, stop_s)


def _parsed(cells: list[str]) -> tuple[str, float, float]:
    found = " ".join(cells).split()  # columns are padded with spaces, or parted by tabs
    if len(found) != 3:
        raise ValueError(f"{len(found)} columns")
    return found[0], finite(found[1]), finite(found[2])


def _read_detections(path: Path, given: Given) -> Document:
    names = given.names(path.with_name(CLASS_LIST))
    rows = [line.split() for line in read_text(path, _DETECTION).split("\n") if line.strip()]
    if not rows:
        return Draft("thumos", names.values()).document()
    try:
        video, start, stop, number, score = zip(*rows, strict=True)
        span_s = np.array([list(map(float, start)), list(map(float, stop))]).T
        scores, numbers = np.array(list(map(float, score))), list(map(int, number))
        right = bool(np.isfinite(span_s).all() and np.isfinite(scores).all())
    except (ValueError, OverflowError):
        right = False
    if not right:
        read_rows(path, _detection, _DETECTION, delimiter=" ", quoted=False)
        raise InputError(f"{path}: no rows; expected {_DETECTION}")
    videos, video_of = numbered(video)
    labels, by_number = _labels(names, numbers)
    label = np.fromiter(map(by_number.__getitem__, numbers), np.int64, len(numbers))
    segments = Segments(video_of, label, span_s, scores)
    return Document("thumos", {name: Media() for name in videos}, labels, segments, no_boxes())


def _labels(names: Mapping[int, str], numbers: list[int]) -> tuple[tuple[str, ...], dict[int, int]]:
    used = sorted(set(numbers))
    listed = [name for _, name in sorted(names.items())]
    number_of, _ = numbered([*listed, *(name_of(names, number) for number in used)])
    return tuple(number_of), {number: number_of[name_of(names, number)] for number in used}


def _detection(cells: list[str]) -> None:
    found = " ".join(cells).split()
    if len(found) != 5:
        raise ValueError(f"{len(found)} columns")
    for cell in (*found[1:3], found[4]):
        finite(cell)
    if len(found[3]) > 9:
        raise ValueError(f"{found[3]!r:.40} is no class number")
    int(found[3])


def write_thumos(document: Document, path: Path, given: Given) -> None:
    """The folder of the truth where no row has a score, else detections, with their class list in one folder; or one
    file, where ``labels`` has the numbers, or the labels are numbers.

    Raises:
        UsageError: one file is wanted, and nothing has the numbers of its classes.
    """
    if np.isfinite(document.segments.score).any():
        _write_detections(document, path, given)
        return
    rows: dict[tuple[str, str], list[str]] = {}
    segments = document.segments
    videos, media = document.videos, list(document.media.values())
    columns = zip(segments.video.tolist(), segments.label.tolist(), segments.span_s.tolist(), strict=True)
    for video, label, (start_s, stop_s) in columns:
        if label >= 0 and start_s == start_s:
            key = (document.labels[label], media[video].subset or "unknown")
            rows.setdefault(key, []).append(f"{_word(videos[video])}  {start_s} {stop_s}\n")
    classes = [label for label in document.labels if label != AMBIGUOUS]
    put_text(path / CLASS_LIST, "".join(f"{n} {_word(label)}\n" for n, label in enumerate(classes, start=1)))
    for (label, subset), lines in rows.items():
        put_text(path / f"{_word(label).replace('/', '-')}_{_word(subset).replace('/', '-')}.txt", "".join(lines))


def _write_detections(document: Document, path: Path, given: Given) -> None:
    names = given.names()
    numbers = numbers_of(document.labels, names, first=1)
    as_file = path.suffix != ""
    if as_file and not all(label in names.values() or label == str(numbers[label]) for label in document.labels):
        raise UsageError(
            f"{path}: detections have numbers in place of labels, and nothing has them. Name a folder, without an"
            f" ending, which gets the file and its {CLASS_LIST}; or give a list of classes with --labels"
        )
    s = document.segments
    kept = np.isfinite(s.score) & np.isfinite(s.span_s).all(axis=1) & (s.label >= 0)
    found = s.take(kept)
    columns = zip(found.video.tolist(), found.label.tolist(), found.span_s.tolist(), found.score.tolist(), strict=True)
    videos = [_word(video) for video in document.videos]
    text = "".join(
        f"{videos[video]} {start_s} {stop_s} {numbers[label_of(document, label)]} {score}\n"
        for video, label, (start_s, stop_s), score in columns
    )
    put_text(path if as_file else path / DETECTIONS, text)
    if not as_file:
        listed = sorted((number, label) for label, number in numbers.items())
        put_text(path / CLASS_LIST, "".join(f"{number} {_word(label)}\n" for number, label in listed))


def _word(name: str) -> str:
    """A name without spaces, which part the columns."""
    return plain(name).replace(" ", "_") or "_"
