"""Projects of the VGG Image Annotator, version 3 (JSON): temporal segments, and rectangles at a moment.

A row of ``metadata`` has a view ``vid``, times ``z`` in seconds, a shape ``xy`` (2, x, y, width, height: a rectangle
in pixels) and values ``av`` by number of attribute. A value is a label; where rows use attributes of more than one
name, the label is ``name: value``.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.annotations.checked import list_at, number_at, object_at, text_at
from pipelines.annotations.document import Document
from pipelines.annotations.draft import Draft, put_text
from pipelines.annotations.files import JsonFile
from pipelines.annotations.given import Given
from pipelines.notes import noted

_EXPECTED = "a project of VIA 3"
_RECTANGLE = 2
_SEGMENT, _REGION = "FILE1_Z2_XY0", "FILE1_Z1_XY1"
_RADIO, _SELECT, _CHECKBOX = 3, 4, 2
Keys = list[str | int]


def read_via(path: Path, given: Given) -> Document:
    """Segments and rectangles of all videos of a project; ``size`` is needed for rectangles.

    Raises:
        InputError: not readable or not of this form.
    """
    return via_of(JsonFile.read(path, _EXPECTED), given)


def via_of(file: JsonFile, given: Given) -> Document:
    """As `read_via`, of JSON that is loaded."""
    root = object_at(file, [], file.root)
    attributes = {
        key: object_at(file, ["attribute", key], each)
        for key, each in object_at(file, ["attribute"], root.get("attribute", {})).items()
    }
    rows = object_at(file, ["metadata"], root.get("metadata"))
    draft = Draft("via")
    videos = _videos(file, root, draft)
    used = [attributes.get(key, {}).get("aname") for row in rows.values() for key in _values(row)]
    prefixed = len({str(name) for name in used}) > 1
    other: list[str] = []
    for key, each in rows.items():
        where: Keys = ["metadata", key]
        row = object_at(file, where, each)
        video = videos.get(str(row.get("vid")))
        if video is None:
            raise file.wrong([*where, "vid"], row.get("vid"), "the number of a view")
        times = list_at(file, [*where, "z"], row.get("z"))
        z = [number_at(file, [*where, "z", n], time, "a time in seconds") for n, time in enumerate(times)]
        labels: list[str | None] = [*_labels(file, [*where, "av"], _values(row), attributes, prefixed=prefixed)] or [
            None
        ]
        xy = list_at(file, [*where, "xy"], row.get("xy", []))
        if len(z) == 2 and not xy:
            for label in labels:
                draft.segment(video, draft.label(label), z[0], z[1])
        elif len(z) == 1 and xy[:1] == [_RECTANGLE] and len(xy) == 5:
            x, y, w, h = (number_at(file, [*where, "xy", n], xy[n]) for n in range(1, 5))
            width, height = given.frame(file.path)
            for label in labels:
                draft.box(video, z[0], (x / width, y / height, (x + w) / width, (y + h) / height), draft.label(label))
        else:
            other.append(key)
    draft.notes += noted(other, "rows are neither a segment nor a rectangle at a moment; they are left out")
    return draft.document()


def _values(row: object) -> Mapping[str, object]:
    found = row.get("av", {}) if isinstance(row, dict) else {}
    return found if isinstance(found, dict) else {}


def _videos(file: JsonFile, root: Mapping[str, Any], draft: Draft) -> dict[str, int]:
    """The video of each view: its first file."""
    files = object_at(file, ["file"], root.get("file"))
    videos = {}
    for key, each in object_at(file, ["view"], root.get("view")).items():
        where: Keys = ["view", key, "fid_list"]
        listed = list_at(file, where, object_at(file, ["view", key], each).get("fid_list"))
        if not listed or str(listed[0]) not in files:
            raise file.wrong(where, listed, "a list of numbers of files")
        number = str(listed[0])
        entry = object_at(file, ["file", number], files[number])
        videos[key] = draft.video(text_at(file, ["file", number, "fname"], entry.get("fname")))
    return videos


def _labels(
    file: JsonFile, keys: Keys, values: Mapping[str, object], attributes: Mapping[str, Any], *, prefixed: bool
) -> list[str]:
    labels = []
    for key, value in values.items():
        attribute = attributes.get(key)
        if attribute is None or not isinstance(value, str):
            raise file.wrong([*keys, key], value, "text, for an attribute of the project")
        options = attribute.get("options")
        chosen = [value]
        if attribute.get("type") in (_RADIO, _SELECT, _CHECKBOX) and isinstance(options, dict):
            parts = value.split(",") if attribute["type"] == _CHECKBOX else [value]
            chosen = [str(options.get(part, part)) for part in parts]
        labels += [f"{attribute.get('aname')}: {each}" if prefixed else each for each in chosen if each]
    return labels


def write_via(document: Document, path: Path, given: Given) -> None:
    """One project of all videos; segments and rectangles have the attribute ``label``.

    Raises:
        InputError: there are boxes, and the size of the frame is not known.
    """
    options = {str(number): label for number, label in enumerate(document.labels)}
    attribute = {"aname": "label", "type": _SELECT, "desc": "", "options": options, "default_option_id": ""}
    numbers = [str(number) for number in range(1, len(document.media) + 1)]
    rows: dict[str, object] = {}
    segments, boxes = document.segments, document.boxes
    for video, label, z in zip(segments.video.tolist(), segments.label.tolist(), segments.span_s.tolist(), strict=True):
        if z[0] == z[0]:
            rows[f"{video + 1}_s{len(rows)}"] = _row(video, z, [], "1", label)
    columns = zip(boxes.video.tolist(), boxes.second.tolist(), boxes.box.tolist(), boxes.label.tolist(), strict=True)
    media = list(document.media.values())
    for video, second, (x1, y1, x2, y2), label in columns:
        if x1 == x1:
            width, height = given.frame(path, media[video])
            xy = [_RECTANGLE, x1 * width, y1 * height, (x2 - x1) * width, (y2 - y1) * height]
            rows[f"{video + 1}_b{len(rows)}"] = _row(video, [second], xy, "2", label)
    root = {
        "project": {
            "pid": "__VIA_PROJECT_ID__",
            "rev": "__VIA_PROJECT_REV_ID__",
            "rev_timestamp": "__VIA_PROJECT_REV_TIMESTAMP__",
            "pname": "untrimmed",
            "creator": "untrimmed",
            "created": 0,
            "data_format_version": "3.1.1",
            "vid_list": numbers,
        },
        "config": {"file": {"loc_prefix": {"1": "", "2": "", "3": "", "4": ""}}, "ui": {}},
        "attribute": {"1": {**attribute, "anchor_id": _SEGMENT}, "2": {**attribute, "anchor_id": _REGION}},
        "file": {
            number: {"fid": number, "fname": name, "type": 4, "loc": 1, "src": name}
            for number, name in zip(numbers, document.videos, strict=True)
        },
        "view": {number: {"fid_list": [number]} for number in numbers},
        "metadata": rows,
    }
    put_text(path, json.dumps(root, ensure_ascii=False, allow_nan=False) + "\n")


def _row(video: int, z: list[float], xy: list[float], attribute: str, label: int) -> dict[str, object]:
    av = {} if label < 0 else {attribute: str(label)}
    return {"vid": str(video + 1), "flg": 0, "z": z, "xy": xy, "av": av}
