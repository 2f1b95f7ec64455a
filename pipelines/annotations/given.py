"""What a file may leave out and its reader or writer needs: frame rate, size of the frame, names of classes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from extract.errors import InputError
from pipelines.annotations.ava_names import read_class_list
from pipelines.annotations.document import Media
from pipelines.annotations.files import JsonFile, read_text, said


@dataclass(frozen=True, slots=True)
class Given:
    """Said by the user, for files that do not say it themselves; what a file says counts first.

    Attributes:
        fps: frames per second.
        size: width and height of the frame in pixels.
        labels: a list of classes, see `read_labels`.
    """

    fps: float | None = None
    size: tuple[int, int] | None = None
    labels: Path | None = None

    def rate(self, path: Path, media: Media | None = None) -> float:
        """Frames per second of a video.

        Raises:
            InputError: nobody says it.
        """
        fps = media.fps if media is not None and media.fps is not None else self.fps
        if fps is None:
            raise InputError(f"{path}: counts frames, and nothing says how many a second has. Give --fps, such as 25")
        return fps

    def frame(self, path: Path, media: Media | None = None) -> tuple[int, int]:
        """Width and height of a video in pixels.

        Raises:
            InputError: nobody says it.
        """
        if media is not None and media.width is not None and media.height is not None:
            return media.width, media.height
        if self.size is None:
            raise InputError(f"{path}: boxes in pixels, and nothing says of which frame. Give --size, such as 1280x720")
        return self.size

    def names(self, *beside: Path) -> Mapping[int, str]:
        """Names of numbers, from the list that was given, else from the first file ``beside`` that there is."""
        found = self.labels or next((file for file in beside if file.is_file()), None)
        return {} if found is None else read_labels(found)


def name_of(names: Mapping[int, str], number: int) -> str:
    """The name of a class, or its number as text where there is none."""
    return names.get(number, str(number))


def numbers_of(labels: tuple[str, ...], names: Mapping[int, str], *, first: int) -> dict[str, int]:
    """A number for each label: the one that ``names`` has, else itself where it is a number, else a free one."""
    known = {name: number for number, name in sorted(names.items(), reverse=True)}
    numbers = {label: known[label] for label in labels if label in known}
    for label in labels:
        if label not in numbers and re.fullmatch(r"0|[1-9]\d{0,8}", label):
            numbers[label] = int(label)
    taken = {*numbers.values(), *names}
    for label in labels:
        if label not in numbers:
            numbers[label] = first = next(n for n in range(first, first + len(taken) + 1) if n not in taken)
            taken.add(first)
    return numbers


def read_labels(path: Path) -> dict[int, str]:
    """Number and name of each class.

    One of these: AVA's ``.pbtxt``; lines ``number name``; lines with a name each, numbered from 0; JSON whose
    annotations have ``label`` and ``label_id``.

    Raises:
        InputError: the file cannot be read, or is none of these.
    """
    expected = "a list of classes: AVA's .pbtxt, lines of number and name, or lines of names"
    text = read_text(path, expected)
    if text.lstrip()[:1] in ("{", "["):
        return _labels_of_truth(JsonFile.read(path, expected))
    if re.search(r"\b(item|label)\s*:?\s*\{", text):
        return read_class_list(path)
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if not lines:
        raise InputError(f"{path} has no lines; expected {expected}")
    numbered = [re.fullmatch(r"(\d{1,9})[\s,;:]+(\S.*)", line) for line in lines]
    if not all(numbered):
        return dict(enumerate(lines))
    classes: dict[int, str] = {}
    for line, match in enumerate(numbered, start=1):
        if match and classes.setdefault(int(match[1]), match[2]) != match[2]:
            raise InputError(
                f"{path}, row {line}: class number {match[1]} is {classes[int(match[1])]!r} and {match[2]!r};"
                " expected each number once. Correct the file"
            )
    return classes


def _labels_of_truth(file: JsonFile) -> dict[int, str]:
    database = file.root.get("database") if isinstance(file.root, dict) else None
    entries = list(database.values()) if isinstance(database, dict) else []
    rows = [row for entry in entries if isinstance(entry, dict) for row in entry.get("annotations") or ()]
    found = {
        row["label_id"]: row["label"]
        for row in rows
        if isinstance(row, dict) and type(row.get("label_id")) is int and isinstance(row.get("label"), str)
    }
    if not found:
        raise InputError(
            f"{file.path}: {said(file.root)} has no annotations with label and label_id; expected the truth in"
            " ActionFormer's JSON, or a list of classes as text"
        )
    return found
