"""ELAN's .eaf (XML): tiers of annotations with times in milliseconds, one file a video.

The label is the annotation's value; ``tier: value`` where several tiers have annotations, and the tier's name where
the value is empty. A value that is its tier's name (with a number in brackets behind it, or not) stands alone: so
files that were written here, with a tier for each label, come back the same.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, unquote
from xml.sax.saxutils import escape, quoteattr  # writes only

import numpy as np
from numpy.typing import NDArray

from pipelines.annotations.checked import Element, read_xml
from pipelines.annotations.document import Document
from pipelines.annotations.draft import Draft, files_of, label_of, one_or_folder, plain, put_text, rows_by_video
from pipelines.annotations.given import Given
from pipelines.notes import noted

ENDINGS = (".eaf",)
_EXPECTED = "an ELAN file (.eaf)"
_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="1970-01-01T00:00:00+00:00" FORMAT="3.0" VERSION="3.0"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
 xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">
"""
_TAIL = """<LINGUISTIC_TYPE GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="default-lt" TIME_ALIGNABLE="true"/>
</ANNOTATION_DOCUMENT>
"""


def read_elan(path: Path, _given: Given) -> Document:
    """A file or a folder of them; ids are those of the media that a file names, else the files' names.

    Raises:
        InputError: not readable, no such XML, or annotations that refer to nothing.
    """
    draft, between = Draft("elan"), []
    for file_id, file in files_of(path, ENDINGS):
        root = read_xml(file, _EXPECTED)
        if root.tag != "ANNOTATION_DOCUMENT":
            raise root.wrong(f"<{root.tag}>", "<ANNOTATION_DOCUMENT>")
        video = draft.video(_media(root) or file_id)
        times, unaligned = _times(root)
        between += unaligned
        tiers = [tier for tier in root.all("TIER") if any(tier.all("ANNOTATION"))]
        spans = _spans(tiers, times)
        for tier in tiers:
            for element in _annotations(tier):
                start_s, stop_s = spans[element.attribute("ANNOTATION_ID")]
                draft.segment(video, draft.label(_label(tier, element, alone=len(tiers) == 1)), start_s, stop_s)
    draft.notes += noted(between, "time slots have no time; they are spread between their neighbours")
    return draft.document()


def _media(root: Element) -> str | None:
    for media in root.below("MEDIA_DESCRIPTOR"):
        relative = unquote(media.attributes.get("RELATIVE_MEDIA_URL", "")).removeprefix("file:/").removeprefix("./")
        if relative and not relative.startswith("/") and ".." not in relative.split("/"):
            return relative
        url = unquote(media.attributes.get("MEDIA_URL", ""))
        if name := re.split(r"[/\\]", url)[-1]:
            return name
    return None


def _times(root: Element) -> tuple[dict[str, float], list[str]]:
    """Seconds of each time slot, and the slots without a time."""
    slots = [slot for order in root.all("TIME_ORDER") for slot in order.all("TIME_SLOT")]
    names = [slot.attribute("TIME_SLOT_ID") for slot in slots]
    known = [place for place, slot in enumerate(slots) if "TIME_VALUE" in slot.attributes]
    values = [slots[place].number("TIME_VALUE") for place in known]
    if slots and not known:
        raise slots[0].wrong("no time slot has a TIME_VALUE", "times in milliseconds")
    seconds = (np.interp(np.arange(len(slots)), known, values) / 1000).tolist() if slots else []
    unaligned = [name for name, slot in zip(names, slots, strict=True) if "TIME_VALUE" not in slot.attributes]
    return dict(zip(names, seconds, strict=True)), unaligned


def _annotations(tier: Element) -> list[Element]:
    kinds = ("ALIGNABLE_ANNOTATION", "REF_ANNOTATION")
    return [child for each in tier.all("ANNOTATION") for child in each.children if child.tag in kinds]


def _spans(tiers: list[Element], times: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Start and stop of each annotation, by its id; of one that refers to another, that one's."""
    spans: dict[str, tuple[float, float]] = {}
    refers: dict[str, Element] = {}
    for element in (element for tier in tiers for element in _annotations(tier)):
        key = element.attribute("ANNOTATION_ID")
        if element.tag == "REF_ANNOTATION":
            refers[key] = element
            continue
        slots = [element.attribute(f"TIME_SLOT_REF{n}") for n in (1, 2)]
        if missing := [slot for slot in slots if slot not in times]:
            raise element.wrong(f"annotation {key!r} refers to time slot {missing[0]!r}", "one of TIME_ORDER")
        spans[key] = (times[slots[0]], times[slots[1]])
    for key, element in refers.items():
        chain, at = [key], element.attribute("ANNOTATION_REF")
        while at in refers and at not in spans and len(chain) <= len(refers):
            chain.append(at)
            at = refers[at].attribute("ANNOTATION_REF")
        if at not in spans:
            raise element.wrong(f"annotation {key!r} refers to {at!r}, which has no time", "an annotation with times")
        spans.update(dict.fromkeys(chain, spans[at]))
    return spans


def _label(tier: Element, element: Element, *, alone: bool) -> str:
    name = " ".join(tier.attribute("TIER_ID").split())
    value = " ".join(next((child.text for child in element.all("ANNOTATION_VALUE")), "").split())
    if not value or alone or re.sub(r" \(\d+\)$", "", name) == value or name == value:
        return value or name
    return f"{name}: {value}"


def write_elan(document: Document, path: Path, _given: Given) -> None:
    """A tier for each label, and more where segments of one label overlap, which ELAN allows in no tier."""
    files = one_or_folder(document, path, ENDINGS)
    for (video, file), rows in zip(files, rows_by_video(document, document.segments.video), strict=True):
        found = document.segments.take(rows)
        found = found.take((found.span_s[:, 0] >= 0) & (found.span_s[:, 1] >= found.span_s[:, 0]))
        ends = np.rint(np.minimum(found.span_s, 1e12) * 1000).astype(np.int64)
        put_text(file, _HEAD + _header(video) + _body(document, found.label, ends) + _TAIL)


def _header(video: str) -> str:
    url = quoteattr(f"./{quote(plain(video))}")
    return (
        '<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">'
        f'<MEDIA_DESCRIPTOR MEDIA_URL={url} MIME_TYPE="video/mp4" RELATIVE_MEDIA_URL={url}/></HEADER>\n'
    )


def _body(document: Document, label: NDArray[np.int64], ends: NDArray[np.int64]) -> str:
    times = np.unique(ends)
    slots = "".join(f'<TIME_SLOT TIME_SLOT_ID="ts{n}" TIME_VALUE="{t}"/>\n' for n, t in enumerate(times.tolist(), 1))
    text = [f"<TIME_ORDER>\n{slots}</TIME_ORDER>\n"]
    refs = (np.searchsorted(times, ends) + 1).tolist()
    number = 0
    for value in dict.fromkeys(label.tolist()):
        name = plain(label_of(document, value))
        for level, rows in enumerate(_levels(np.flatnonzero(label == value), ends), start=1):
            tier = name if level == 1 else f"{name} ({level})"
            text.append(f'<TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID={quoteattr(tier)}>\n')
            for row in rows:
                number += 1
                text.append(
                    f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{number}" TIME_SLOT_REF1="ts{refs[row][0]}"'
                    f' TIME_SLOT_REF2="ts{refs[row][1]}"><ANNOTATION_VALUE>{escape(name)}</ANNOTATION_VALUE>'
                    "</ALIGNABLE_ANNOTATION></ANNOTATION>\n"
                )
            text.append("</TIER>\n")
    return "".join(text)


def _levels(rows: NDArray[np.int64], ends: NDArray[np.int64]) -> list[list[int]]:
    """Rows that do not overlap each other, in as few lists as there have to be."""
    levels: list[list[int]] = []
    for row in sorted(rows.tolist(), key=lambda row: (ends[row, 0], ends[row, 1])):
        level = next((each for each in levels if ends[each[-1], 1] <= ends[row, 0]), None)
        if level is None:
            levels.append([row])
        else:
            level.append(row)
    return levels
