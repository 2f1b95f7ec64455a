"""Rows on their way from a file into a Document, and from a Document into files."""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from extract.errors import InputError, MachineError
from pipelines.annotations.document import Boxes, Document, Media, Segments

NAN = math.nan
_SEGMENT = 5
_BOX = 9


class Draft:
    """A Document in the making: videos and labels get their numbers in the order in which they first come."""

    def __init__(self, form: str, labels: Iterable[str] = ()) -> None:
        """``form``: name of the format. ``labels``: those that the file lists."""
        self.form = form
        self.media: dict[str, Media] = {}
        self.notes: list[str] = []
        self._videos: dict[str, int] = {}
        self._labels: dict[str, int] = {}
        self._segments: list[tuple[float, ...]] = []
        self._boxes: list[tuple[float, ...]] = []
        for label in labels:
            self.label(label)

    def video(self, video_id: str, media: Media | None = None) -> int:
        """The number of a video; ``media`` adds to what is known of it."""
        number = self._videos.setdefault(video_id, len(self._videos))
        known = self.media.setdefault(video_id, media or Media())
        if media is not None and media != known:
            if None not in (media.subset, known.subset) and media.subset != known.subset:
                raise InputError(
                    f"{video_id} is in the subset {known.subset!r}, and again in {media.subset!r}; expected one for a "
                    "video, or what is learnt is tested. Leave one of them out"
                )
            self.media[video_id] = merged(known, media)
        return number

    def label(self, name: str | None) -> int:
        """The number of a label; -1 for none, and for empty text."""
        return self._labels.setdefault(name, len(self._labels)) if name else -1

    def segment(self, video: int, label: int, start_s: float, stop_s: float, score: float = NAN) -> None:
        """Add a row."""
        self._segments.append((video, label, start_s, stop_s, score))

    def box(
        self, video: int, second: float, box: Sequence[float], label: int, track: int = -1, score: float = NAN
    ) -> None:
        """Add a row; ``box`` is x1, y1, x2, y2 in parts of the frame."""
        self._boxes.append((video, second, *box, label, track, score))

    def document(self) -> Document:
        """All that was added."""
        s = _columns(self._segments, _SEGMENT)
        b = _columns(self._boxes, _BOX)
        segments = Segments(_whole(s[:, 0]), _whole(s[:, 1]), s[:, 2:4].copy(), s[:, 4].copy())
        boxes = Boxes(
            _whole(b[:, 0]), b[:, 1].copy(), b[:, 2:6].copy(), _whole(b[:, 6]), _whole(b[:, 7]), b[:, 8].copy()
        )
        return Document(self.form, self.media, tuple(self._labels), segments, boxes, tuple(self.notes))


def merged(one: Media, other: Media) -> Media:
    """What is known from both; ``one`` counts first."""
    names = ("duration_s", "fps", "width", "height", "subset")
    missing = {name: getattr(other, name) for name in names if getattr(one, name) is None}
    return replace(one, **missing)


def _columns(rows: list[tuple[float, ...]], width: int) -> NDArray[np.float64]:
    flat = np.fromiter(chain.from_iterable(rows), np.float64, len(rows) * width)
    return flat.reshape(-1, width)


def _whole(column: NDArray[np.float64]) -> NDArray[np.int64]:
    return column.astype(np.int64)


def numbered(names: Sequence[str]) -> tuple[dict[str, int], NDArray[np.int64]]:
    """Each name once, with its number in the order of first use; and the number of every row."""
    number = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return number, np.fromiter(map(number.__getitem__, names), np.int64, len(names))


def rows_by_video(document: Document, video: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """For each video the numbers of its rows, in their order. ``video`` ``(N,)``: the video of each row."""
    order = np.argsort(video, kind="stable")
    return np.split(order, np.searchsorted(video[order], np.arange(1, len(document.media))))[: len(document.media)]


def label_of(document: Document, number: int) -> str:
    """The name of a label; empty for none."""
    return document.labels[number] if number >= 0 else ""


def plain(name: str) -> str:
    """On one line, without control characters, which some formats cannot hold."""
    return " ".join(re.sub(r"[\x00-\x08\x0e-\x1f\x7f\ufffe\uffff]", "", name).split())


def put_text(path: Path, text: str) -> None:
    """Write a file, with its folders.

    Raises:
        InputError: something in ``text`` is no character.
        MachineError: the file cannot be written.
    """
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as error:
        around = text[max(0, error.start - 20) : error.start + 1]
        raise InputError(f"{path}: {around!r} ends in half a character; expected text. Correct what is read") from error
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except (OSError, ValueError) as error:
        what = getattr(error, "strerror", None) or error
        raise MachineError(f"{path} cannot be written ({what}); choose another place") from error


def file_of(folder: Path, video_id: str, ending: str) -> Path:
    """The file of a video in a folder of one file a video: its id, with its folders, and ``ending``.

    Raises:
        InputError: the id is no path below a folder.
    """
    parts = video_id.split("/")
    if {"", ".", ".."} & set(parts) or "\0" in video_id:
        raise InputError(
            f"video id {video_id!r:.80} is no path below a folder, and in this format a video's file is called by its"
            " id. Choose a format that holds ids"
        )
    return folder.joinpath(*parts[:-1], parts[-1] + ending)


def files_of(path: Path, endings: Sequence[str], listed: Iterable[Path] | None = None) -> Iterator[tuple[str, Path]]:
    """Each video's id and file: of a folder, the paths below it without their ending; of a file, its name."""
    if not path.is_dir():
        yield _without_ending(path.name, endings), path
        return
    for file in sorted(listed if listed is not None else path.rglob("*")):
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts):
            yield _without_ending(file.relative_to(path).as_posix(), endings), file


def _without_ending(name: str, endings: Sequence[str]) -> str:
    return next((name[: -len(end)] for end in endings if name.lower().endswith(end) and len(name) > len(end)), name)


def one_or_folder(document: Document, path: Path, endings: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """The file to write for each video: ``path`` itself where it has one of the endings, else files in that folder.

    Raises:
        InputError: ``path`` is one file, and there is not one video.
    """
    if path.name.lower().endswith(tuple(endings)):
        if len(document.media) != 1:
            raise InputError(
                f"{path}: one file holds one video in this format, and there are {len(document.media)}. Name a folder,"
                " without an ending"
            )
        yield document.videos[0], path
        return
    yield from ((video_id, file_of(path, video_id, endings[0])) for video_id in document.videos)
