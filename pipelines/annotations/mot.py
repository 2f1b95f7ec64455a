"""MOTChallenge: a folder a video with ``seqinfo.ini`` and ``gt/gt.txt`` or ``det/det.txt``; or such a file alone.

Rows: ``frame,track,left,top,width,height,…``, frames and pixels counted from 1. With nine columns or less the rest is
whether the row counts, class number and visibility; with ten it is confidence and a place in the world.
"""

import configparser
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from extract.errors import InputError
from pipelines.annotations.checked import whole
from pipelines.annotations.document import Document, Media
from pipelines.annotations.draft import NAN, Draft, file_of, label_of, plain, put_text, rows_by_video
from pipelines.annotations.files import finite, read_rows, read_text
from pipelines.annotations.given import Given, name_of, numbers_of
from pipelines.annotations.keyframes import frames_of
from pipelines.notes import noted

_INFO = "seqinfo.ini"
_EXPECTED = "MOT's rows: frame,track,left,top,width,height, then 1 to 4 more numbers"
_Row = tuple[int, int, list[float], int, float, bool]


def read_mot(path: Path, given: Given) -> Document:
    """One video or a folder of them; boxes are those of ``gt.txt``, or of ``det.txt`` where a video has no other.

    Raises:
        InputError: not readable, rows of other columns, or neither ``seqinfo.ini`` nor ``fps`` and ``size``.
    """
    names, draft = given.names(), Draft("mot")
    ignored = []
    for video_id, file, info in _sequences(path):
        media = Media() if info is None else _media(info)
        fps, (width, height) = given.rate(file, media), given.frame(file, media)
        video = draft.video(video_id, Media(media.duration_s, fps, width, height))
        for frame, track, (x, y, w, h), number, score, counts in read_rows(file, _parsed, _EXPECTED):
            box = ((x - 1) / width, (y - 1) / height, (x - 1 + w) / width, (y - 1 + h) / height)
            label = draft.label(name_of(names, number) if number >= 0 else None)
            draft.box(video, (frame - 1) / fps, box, label, track, score)
            if not counts:
                ignored.append(f"{video_id}, frame {frame}")
    draft.notes += noted(ignored, "rows do not count in MOT's evaluation (0 in column 7); they are kept")
    return draft.document()


def _parsed(cells: list[str]) -> _Row:
    if not 7 <= len(cells) <= 10:
        raise ValueError(f"{len(cells)} columns")
    frame, track, box = whole(cells[0]), whole(cells[1]), [finite(cell) for cell in cells[2:6]]
    if len(cells) == 10:
        return frame, max(track, -1), box, -1, finite(cells[6]), True
    number = whole(cells[7]) if len(cells) > 7 else -1
    return frame, max(track, -1), box, number, NAN, finite(cells[6]) != 0


def _sequences(path: Path) -> Iterator[tuple[str, Path, Path | None]]:
    """Id, file of boxes, and ``seqinfo.ini`` of each video."""
    if not path.is_dir():
        home = path.parent.parent if path.parent.name in ("gt", "det") else path.parent
        info = home / _INFO
        name = home.name if path.parent.name in ("gt", "det") else path.stem
        yield (_name(info) or name, path, info) if info.is_file() else (name, path, None)
        return
    homes = sorted({file.parent for file in path.rglob(_INFO)})
    homes += sorted({file.parent.parent for file in path.glob("**/gt/gt.txt")} - set(homes))
    homes += sorted({file.parent.parent for file in path.glob("**/det/det.txt")} - set(homes))
    for home in homes:
        files = [file for file in (home / "gt" / "gt.txt", home / "det" / "det.txt") if file.is_file()]
        if not files:
            raise InputError(f"{home} has no gt/gt.txt and no det/det.txt; expected one. Take its {_INFO} away")
        info = home / _INFO
        below = home.relative_to(path).as_posix() if home != path else home.name
        yield (_name(info) or below, files[0], info) if info.is_file() else (below, files[0], None)
    if not homes:
        raise InputError(f"{path} has no {_INFO}, gt/gt.txt or det/det.txt; expected one. Name the file of boxes")


def _section(info: Path) -> Mapping[str, str]:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(read_text(info, "MOT's seqinfo.ini"))
        return parser["Sequence"]
    except (configparser.Error, KeyError) as error:
        what = "no [Sequence]" if isinstance(error, KeyError) else str(error).replace("\n", " ")
        raise InputError(f"{info}: {what:.200}; expected MOT's seqinfo.ini. Correct the file") from error


def _name(info: Path) -> str:
    return _section(info).get("name", "")


def _media(info: Path) -> Media:
    found, values = _section(info), {}
    for key in ("frameRate", "seqLength", "imWidth", "imHeight"):
        text = found.get(key)
        try:
            values[key] = None if text is None else finite(text)
        except ValueError as error:
            raise InputError(f"{info}: {key} is {text!r:.40}; expected a number. Correct the file") from error
        if (value := values[key]) is not None and not 0 < value < 1e9:
            raise InputError(f"{info}: {key} is {text!r:.40}; expected a number above 0. Correct the file")
    fps, length, width, height = (values[key] for key in ("frameRate", "seqLength", "imWidth", "imHeight"))
    return Media(
        length / fps if fps and length else None,
        fps,
        None if width is None else max(int(width), 1),
        None if height is None else max(int(height), 1),
    )


def write_mot(document: Document, path: Path, given: Given) -> None:
    """A folder a video: ``gt/gt.txt``, or ``det/det.txt`` where its boxes have scores.

    Raises:
        InputError: a frame rate or size is not known, or an id is no path below a folder.
    """
    numbers = numbers_of(document.labels, given.names(), first=1)
    rows_of = rows_by_video(document, document.boxes.video)
    for (name, media), rows in zip(document.media.items(), rows_of, strict=True):
        fps, (width, height) = given.rate(path, media), given.frame(path, media)
        found = document.boxes.take(rows)
        found = found.take(~np.isnan(found.box[:, 0]))
        frames, scale = frames_of(found.second, fps) + 1, np.array([width, height, width, height])
        last = int(frames.max(initial=0)) if media.duration_s is None else round(media.duration_s * fps)
        columns = zip(
            frames.tolist(),
            (found.box * scale).tolist(),
            found.label.tolist(),
            found.track.tolist(),
            found.score.tolist(),
            strict=True,
        )
        scored = bool(np.isfinite(found.score).any())
        lines = []
        for frame, (x1, y1, x2, y2), label, track, score in columns:
            rest = f"{score if score == score else 1},-1,-1,-1"
            if not scored:
                rest = f"1,{numbers.get(label_of(document, label), -1)},1"
            lines.append(f"{frame},{track},{x1 + 1},{y1 + 1},{x2 - x1},{y2 - y1},{rest}\n")
        home = file_of(path, name, "")
        put_text(home / ("det/det.txt" if scored else "gt/gt.txt"), "".join(lines))
        info = {
            "name": plain(name),
            "imDir": "img1",
            "frameRate": fps,
            "seqLength": last,
            "imWidth": width,
            "imHeight": height,
        }
        text = "[Sequence]\n" + "".join(f"{key}={value}\n" for key, value in info.items()) + "imExt=.jpg\n"
        put_text(home / _INFO, text)
