"""WebVTT and SRT: a cue is a segment and its text the label, one file a video. Styles, notes, positions and tags of
WebVTT are left out; lines of one cue are joined by a space.
"""

import html
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from extract.errors import InputError
from pipelines.annotations.document import Document
from pipelines.annotations.draft import Draft, files_of, label_of, one_or_folder, plain, put_text, rows_by_video
from pipelines.annotations.files import read_text, said
from pipelines.annotations.given import Given

_TIME = r"(?:(\d{1,6}):)?([0-5]?\d):([0-5]?\d)[.,](\d{1,3})"
_TIMING = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?:\s.*)?")
_EXPECTED = "cues such as 00:00:01.500 --> 00:00:04.000 and their text"
_NO_CUE = ("NOTE", "STYLE", "REGION", "X-TIMESTAMP-MAP")
VTT, SRT = (".vtt",), (".srt",)


def read_webvtt(path: Path, _given: Given) -> Document:
    """A file or a folder of them; ids are the files' names.

    Raises:
        InputError: not readable, or a cue without times.
    """
    return _read("webvtt", path, VTT)


def read_srt(path: Path, _given: Given) -> Document:
    """As `read_webvtt`."""
    return _read("srt", path, SRT)


def _read(form: str, path: Path, endings: tuple[str, ...]) -> Document:
    draft = Draft(form)
    for video_id, file in files_of(path, endings):
        video = draft.video(video_id)
        for start_s, stop_s, text in _cues(file, webvtt=form == "webvtt"):
            draft.segment(video, draft.label(text), start_s, stop_s)
    return draft.document()


def _cues(file: Path, *, webvtt: bool) -> Iterator[tuple[float, float, str]]:
    text = read_text(file, _EXPECTED).replace("\r\n", "\n").replace("\r", "\n")
    line = 1
    for number, block in enumerate(re.split(r"\n(?=\n)", text)):
        lines = block.split("\n")
        first = next((place for place, each in enumerate(lines) if each.strip()), None)
        if first is not None and not (webvtt and (number == 0 or lines[first].startswith(_NO_CUE))):
            yield _cue(file, line + first, lines[first:], webvtt=webvtt)
        elif first is not None and number == 0 and any("-->" in each for each in lines):
            at = next(place for place, each in enumerate(lines) if "-->" in each)
            yield _cue(file, line + at, lines[at:], webvtt=webvtt)
        line += len(lines)


def _cue(file: Path, line: int, lines: list[str], *, webvtt: bool) -> tuple[float, float, str]:
    at = 1 if "-->" not in lines[0] and "-->" in "".join(lines[1:2]) else 0
    match = _TIMING.fullmatch(lines[at])
    if match is None:
        raise InputError(f"{file}, line {line + at}: {said(lines[at])}; expected {_EXPECTED}. Correct the file")
    text = " ".join(" ".join(lines[at + 1 :]).split())
    if webvtt:
        text = html.unescape(re.sub(r"<[^<>]*>", "", text))
    else:
        text = re.sub(r"</?(?:b|i|u|s|font)(?:\s[^<>]*)?>", "", text)
    return _seconds(match.groups()[:4]), _seconds(match.groups()[4:]), text.strip()


def _seconds(parts: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, thousandths = parts
    whole = 3600 * int(hours or 0) + 60 * int(minutes or 0) + int(seconds or 0)
    return (1000 * whole + int((thousandths or "0").ljust(3, "0"))) / 1000


def write_webvtt(document: Document, path: Path, _given: Given) -> None:
    """Cues in order of time, to a thousandth of a second. Segments that end before they begin are no cues."""
    for file, cues in _to_write(document, path, VTT):
        text = "".join(
            f"\n{_clock(a, '.')} --> {_clock(b, '.')}\n{html.escape(label, quote=False)}\n" for a, b, label in cues
        )
        put_text(file, f"WEBVTT\n{text}")


def write_srt(document: Document, path: Path, _given: Given) -> None:
    """As `write_webvtt`."""
    for file, cues in _to_write(document, path, SRT):
        numbered = enumerate(cues, start=1)
        text = "\n".join(f"{n}\n{_clock(a, ',')} --> {_clock(b, ',')}\n{label}\n" for n, (a, b, label) in numbered)
        put_text(file, text)


def _to_write(
    document: Document, path: Path, endings: tuple[str, ...]
) -> Iterator[tuple[Path, list[tuple[int, int, str]]]]:
    """The file of each video, and start, stop (thousandths of a second) and text of its cues."""
    files = one_or_folder(document, path, endings)
    for (_, file), rows in zip(files, rows_by_video(document, document.segments.video), strict=True):
        found = document.segments.take(rows)
        found = found.take((found.span_s[:, 0] >= 0) & (found.span_s[:, 1] > found.span_s[:, 0]))
        ends = np.rint(np.minimum(found.span_s, 3.6e9 - 1) * 1000).astype(np.int64).tolist()
        cues = [
            (a, b, plain(label_of(document, label).replace("-->", "→")))
            for (a, b), label in zip(ends, found.label.tolist(), strict=True)
        ]
        yield file, sorted(cues, key=lambda cue: cue[0])


def _clock(thousandths: int, point: str) -> str:
    seconds, rest = divmod(thousandths, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}{rest:03d}"
