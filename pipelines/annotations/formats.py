"""All formats: which one a file is in, by what it holds; reading any of them; writing one of them."""

import contextlib
import gc
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from extract.errors import InputError, UsageError
from pipelines.annotations.activitynet_json import (
    EXPECTED,
    activitynet_of,
    read_activitynet_json,
    write_actionformer,
    write_activitynet_json,
    write_mmaction2,
    write_opentad,
)
from pipelines.annotations.audacity import read_audacity, write_audacity
from pipelines.annotations.ava_csv import read_ava_csv, write_ava_csv
from pipelines.annotations.boris import read_boris, write_boris
from pipelines.annotations.captions import read_srt, read_webvtt, write_srt, write_webvtt
from pipelines.annotations.charades import read_charades, write_charades
from pipelines.annotations.coco_vid import coco_vid_of, read_coco_vid, write_coco_vid
from pipelines.annotations.cvat import read_cvat, write_cvat
from pipelines.annotations.document import Document
from pipelines.annotations.elan import read_elan, write_elan
from pipelines.annotations.files import JsonFile, read_text, said
from pipelines.annotations.given import Given
from pipelines.annotations.kinetics import read_kinetics, write_kinetics
from pipelines.annotations.label_studio import label_studio_of, read_label_studio, write_label_studio
from pipelines.annotations.mot import read_mot, write_mot
from pipelines.annotations.mstcn import read_mstcn, write_mstcn
from pipelines.annotations.parquet import read_parquet, write_parquet
from pipelines.annotations.thumos import CLASS_LIST, read_thumos, write_thumos
from pipelines.annotations.via import read_via, via_of, write_via
from pipelines.notes import shown


@dataclass(frozen=True, slots=True)
class Format:
    """``endings``: those of file names that mean this format alone."""

    read: Callable[[Path, Given], Document]
    write: Callable[[Document, Path, Given], None]
    endings: tuple[str, ...] = ()


FORMATS = {
    "activitynet": Format(read_activitynet_json, write_activitynet_json),
    "actionformer": Format(read_activitynet_json, write_actionformer),
    "opentad": Format(read_activitynet_json, write_opentad),
    "mmaction2": Format(read_activitynet_json, write_mmaction2),
    "thumos": Format(read_thumos, write_thumos),
    "ava": Format(read_ava_csv, write_ava_csv),
    "charades": Format(read_charades, write_charades),
    "kinetics": Format(read_kinetics, write_kinetics),
    "mstcn": Format(read_mstcn, write_mstcn),
    "coco-vid": Format(read_coco_vid, write_coco_vid),
    "mot": Format(read_mot, write_mot),
    "via": Format(read_via, write_via),
    "elan": Format(read_elan, write_elan, (".eaf",)),
    "boris": Format(read_boris, write_boris),
    "cvat": Format(read_cvat, write_cvat, (".xml",)),
    "label-studio": Format(read_label_studio, write_label_studio),
    "audacity": Format(read_audacity, write_audacity),
    "webvtt": Format(read_webvtt, write_webvtt, (".vtt",)),
    "srt": Format(read_srt, write_srt, (".srt",)),
    "parquet": Format(read_parquet, write_parquet, (".parquet", ".pq")),
}
_JSON: dict[str, Callable[[JsonFile, Given], Document]] = {
    "activitynet": activitynet_of,
    "coco-vid": coco_vid_of,
    "via": via_of,
    "label-studio": label_studio_of,
}
_HEAD_BYTES = 65536
_LINES = 30
_LABEL = 500  # characters; a longer word is no label
_LIMIT = 1e9
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(nan|inf)", re.IGNORECASE)


def read_document(
    path: str | Path,
    *,
    fps: float | None = None,
    size: tuple[int, int] | None = None,
    labels: str | Path | None = None,
) -> Document:
    """Read a file or folder in any of the formats, which is found by what it holds.

    ``fps``, ``size`` (width and height in pixels) and ``labels`` (a list of classes) stand in for what a file does not
    say.

    Raises:
        InputError: not readable, in none of the formats, broken, or in need of one of these.
    """
    place = Path(path)
    given = Given(fps, size, None if labels is None else Path(labels))
    if not place.exists():
        raise InputError(f"{place}: no such file or folder; expected annotations or predictions. Check the path")
    kind = format_of(place)
    with _many_objects():
        document = _read_json(place, given) if kind == "json" else FORMATS[kind].read(place, given)
    _check_names(place, document)
    return document


def write_document(
    document: Document,
    path: str | Path,
    form: str,
    *,
    fps: float | None = None,
    size: tuple[int, int] | None = None,
    labels: str | Path | None = None,
) -> None:
    """Write a document in the format ``form``; what that cannot hold is left out.

    Raises:
        UsageError: there is no such format, or it needs a folder.
        InputError: what the format needs is missing (frame rate, size), or a video's id cannot be a file's name.
        MachineError: it cannot be written.
    """
    if form not in FORMATS:
        raise UsageError(f"format {form!r} is unknown; expected {', '.join(FORMATS)}")
    _check_numbers(document)
    FORMATS[form].write(document, Path(path), Given(fps, size, None if labels is None else Path(labels)))


def _check_numbers(document: Document) -> None:
    """Refuse what no format can hold."""
    segments, boxes = document.segments, document.boxes
    seconds = [media.duration_s or 0.0 for media in document.media.values()]
    rates = [media.fps or 1.0 for media in document.media.values()]
    columns = {
        "time in seconds": [segments.span_s.ravel(), boxes.second, np.array(seconds)],
        "frame rate": [np.array(rates), 1 / np.array(rates)],
        "part of a frame": [boxes.box.ravel()],
    }
    for what, parts in columns.items():
        numbers = np.concatenate(parts)
        wrong = numbers[np.abs(numbers) > _LIMIT]
        if len(wrong):
            raise InputError(
                f"{wrong[0]:g} as a {what} cannot be written; expected up to {_LIMIT:g}. Correct what is read"
            )


def format_of(path: Path) -> str:
    """The format of a file or folder, by what it holds; "json" for any in JSON, which tell themselves when read.

    Raises:
        InputError: not readable, or none of the formats.
    """
    return _format_of_folder(path) if path.is_dir() else _format_of_file(path)


def format_by_ending(path: Path) -> str:
    """The format that the ending of a name means.

    Raises:
        UsageError: it means several or none.
    """
    name = path.name.lower()
    found = [form for form, each in FORMATS.items() if name.endswith(each.endings or "\0")]
    if len(found) != 1:
        raise UsageError(f"{path}: its ending does not tell the format; expected --to with {', '.join(FORMATS)}")
    return found[0]


@contextlib.contextmanager
def _many_objects() -> Iterator[None]:
    """Millions of objects of JSON hold no cycles; to look for some in between takes longer than to read."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _check_names(path: Path, document: Document) -> None:
    for what, names in (("video id", document.videos), ("label", document.labels)):
        try:
            "\n".join(names).encode()
        except UnicodeEncodeError as error:
            bad = next(name for name in names if any("\ud800" <= letter <= "\udfff" for letter in name))
            raise InputError(
                f"{path}: {what} {said(bad)} has half a character; expected text. Correct the file"
            ) from error


def _format_of_file(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected annotations or predictions") from error
    if not head.strip():
        raise InputError(f"{path} is empty; expected annotations or predictions")
    if head.startswith(b"PAR1"):
        return "parquet"
    if b"\0" in head and not head.startswith((b"\xff\xfe", b"\xfe\xff")):  # UTF-16 has its own error below
        line = head.count(b"\n", 0, head.index(b"\0")) + 1
        raise InputError(f"{path}, line {line}: a zero byte, so this is no text; expected annotations or predictions")
    text = head.decode("utf-8-sig", "replace")
    found = _format_of_text(text[: text.rfind("\n") + 1] if len(head) == _HEAD_BYTES and "\n" in text else text)
    if found not in FORMATS and found != "json":
        read_text(path, "annotations or predictions")  # if it is no text, say that
        raise InputError(
            f"{path}, line 1: {said(text.strip().split(chr(10), 1)[0])} begins none of the formats; expected one of"
            f" {', '.join(FORMATS)}. Were first lines lost?"
        )
    return found


def _format_of_text(text: str) -> str | None:
    """The format of a file by its first lines; "json" for any in JSON."""
    begin = text.lstrip()
    if begin[:1] in ("{", "["):
        return "json"
    if begin[:1] == "<":
        return _format_of_xml(begin)
    lines = [line.rstrip("\r") for line in text.split("\n") if line.strip()][:_LINES]
    if not lines:
        return None
    if lines[0].startswith("WEBVTT"):
        return "webvtt"
    if lines[0].strip().startswith("###"):
        return "mstcn"
    if len(lines) > 1 and lines[0].strip().isdigit() and "-->" in lines[1]:
        return "srt"
    return _format_of_header(lines) or _format_of_rows(lines)


def _format_of_xml(text: str) -> str | None:
    root = re.search(r"<([A-Za-z_][\w.-]*)", re.sub(r"<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^>]*>", "", text, flags=re.DOTALL))
    names = {"ANNOTATION_DOCUMENT": "elan", "annotations": "cvat"}
    return names.get(root[1]) if root else None


def _format_of_header(lines: list[str]) -> str | None:
    cells = [cell.strip(' "').lower().lstrip("#") for cell in re.split(r"[,\t;]", lines[0])]
    if {"id", "actions"} <= set(cells):
        return "charades"
    if {"youtube_id", "time_start", "time_end"} <= set(cells):
        return "kinetics"
    # BORIS puts lines about the observation before the header
    words = ({cell.strip(' "') for cell in re.split(r"[,\t;]", line)} for line in lines)
    return "boris" if any("Behavior" in found and {"Time", "Start (s)"} & found for found in words) else None


def _format_of_rows(lines: list[str]) -> str | None:
    """The format of a table without a header, by number and kind of the columns of most of its rows."""
    kinds = [_format_of_row(line) for line in lines]
    kind = max(dict.fromkeys(kinds), key=lambda kind: 0 if kind is None else kinds.count(kind))
    return kind if 2 * kinds.count(kind) >= len(kinds) else None


def _format_of_row(line: str) -> str | None:
    tabbed = line.split("\t")
    if (len(tabbed) >= 2 and all(_NUMBER.fullmatch(cell.strip()) for cell in tabbed[:2])) or tabbed[0] == "\\":
        return "audacity"
    cells, words = [cell.strip() for cell in line.split(",")], line.split()
    numeric = [bool(_NUMBER.fullmatch(cell)) for cell in (cells if len(cells) > 1 else words)]
    if len(cells) >= 6 and len(cells) <= 10 and all(numeric) and (len(cells) > 8 or _is_mot(cells)):
        return "mot"
    if len(cells) in (2, 7, 8):
        return "ava" if numeric[1] else None
    if len(cells) == 1 and len(words) in (3, 5) and all(numeric[1:]):
        return "thumos"
    return "mstcn" if len(words) == 1 and len(cells) == 1 and not numeric[0] and len(line) <= _LABEL else None


def _is_mot(cells: list[str]) -> bool:
    """Whether numbers alone are rows of MOT: of frame, track and pixels, not of AVA's parts of the frame."""
    return "." not in cells[0] + cells[1] and max(abs(float(cell)) for cell in cells[2:6]) > 2


def _read_json(path: Path, given: Given) -> Document:
    file = JsonFile.read(path, EXPECTED)
    kind = _format_of_json(file.root)
    if kind is None:
        raise file.wrong([], file.root, f"one of the JSON formats: {shown([*_JSON])}, actionformer, opentad, mmaction2")
    return _JSON[kind](file, given)


def _format_of_json(root: object) -> str | None:
    if isinstance(root, list):
        return "label-studio" if all(isinstance(task, dict) for task in root) else None
    if not isinstance(root, dict):
        return None
    if "results" in root or "database" in root:
        return "activitynet"
    if "metadata" in root and {"project", "file", "view", "attribute"} & set(root):
        return "via"
    if ("images" in root and "annotations" in root) or {"videos", "categories"} <= set(root):
        return "coco-vid"
    if "data" in root and {"annotations", "predictions"} & set(root):
        return "label-studio"
    entries = [*root.values()]
    return "activitynet" if entries and all(isinstance(e, dict) and "annotations" in e for e in entries) else None


_FILE_A_VIDEO = ("mstcn", "audacity", "webvtt", "srt", "elan", "cvat")


def _format_of_folder(folder: Path) -> str:
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and not _hidden(file, folder)]
    names = {file.name for file in files}
    if "seqinfo.ini" in names or {"gt.txt", "det.txt"} & names:
        return "mot"
    if CLASS_LIST in names:
        return "thumos"
    kinds = {}
    for file in [file for file in files if file.stat().st_size][:_LINES]:
        try:
            kinds[file.name] = _format_of_file(file)
        except InputError:
            kinds[file.name] = "unknown"
    found = set(kinds.values())
    if len(found) == 1 and (kind := next(iter(found))) in (*_FILE_A_VIDEO, "thumos"):
        return kind
    if "ava" in found and any(name.endswith(".pbtxt") for name in names):
        return "ava"
    told = shown(f"{name} ({kind})" for name, kind in kinds.items())
    raise InputError(
        f"{folder} holds {told}; expected a folder of THUMOS, AVA or MOT, or one file a video in one of"
        f" {', '.join(_FILE_A_VIDEO)}. Name one file in it, or move others away"
    )


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)
