"""Label Studio's JSON of videos: a list of tasks with annotations or predictions.

Segments are regions with ``start`` and ``end`` in seconds (labels of the timeline of a video's sound), or
``timelinelabels`` with ``ranges`` of frames, counted from 1, both ends in. Boxes are ``sequence``s of key frames in
percent of the frame; between two of them boxes are on a straight line while ``enabled``. ``choices`` are about the
whole video. Of several annotations of a task the first counts; predictions count where there is none.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from pipelines.annotations.checked import list_at, number_at, object_at, text_at, whole_at
from pipelines.annotations.document import Boxes, Document, Media
from pipelines.annotations.draft import NAN, Draft, label_of, put_text, rows_by_video
from pipelines.annotations.files import JsonFile, number
from pipelines.annotations.given import Given
from pipelines.annotations.keyframes import Corners, boxes_by_video, filled, frames_of, tracks_of
from pipelines.notes import noted

_EXPECTED = "a list of tasks of Label Studio"
Keys = list[str | int]


def read_label_studio(path: Path, given: Given) -> Document:
    """The regions of every task. ``fps`` is needed for ranges of frames; boxes say theirs by ``framesCount``.

    Raises:
        InputError: not readable, not of this form, or the frame rate is not known.
    """
    return label_studio_of(JsonFile.read(path, _EXPECTED), given)


def label_studio_of(file: JsonFile, given: Given) -> Document:
    """As `read_label_studio`, of JSON that is loaded."""
    draft = Draft("label-studio")
    other: list[str] = []
    tasks = file.root if isinstance(file.root, list) else [file.root]
    for place, each in enumerate(tasks):
        where: Keys = [place] if isinstance(file.root, list) else []
        task = object_at(file, where, each)
        video_id = _video(file, where, task)
        draft.video(video_id)
        tracks: dict[str, int] = {}
        for keys, region in _regions(file, where, task, draft.notes):
            value = object_at(file, [*keys, "value"], region.get("value"))
            if not _add(draft, video_id, file, [*keys, "value"], value, region, tracks, given):
                other.append(str(region.get("type")))
    draft.notes += noted(other, "regions are neither segments nor boxes; they are left out")
    return draft.document()


def _video(file: JsonFile, keys: Keys, task: Mapping[str, Any]) -> str:
    """The id of a task's video: what its data say of it, without what Label Studio put before the name."""
    data = object_at(file, [*keys, "data"], task.get("data"))
    name = "video" if "video" in data else next((key for key, value in data.items() if isinstance(value, str)), "video")
    url = text_at(file, [*keys, "data", name], data.get(name))
    if "?d=" in url:
        return unquote(url.partition("?d=")[2]) or url
    if "://" in url:
        return unquote(url.rpartition("/")[2]) or url
    return re.sub(r"^/data/upload/\d+/(?:[0-9a-f]{8}-)?", "", url) or url


def _regions(
    file: JsonFile, keys: Keys, task: Mapping[str, Any], notes: list[str]
) -> Iterator[tuple[Keys, dict[str, Any]]]:
    for name in ("annotations", "predictions"):
        every = [
            (place, object_at(file, [*keys, name, place], each))
            for place, each in enumerate(list_at(file, [*keys, name], task.get(name, [])))
        ]
        found = [(place, each) for place, each in every if not each.get("was_cancelled")]
        if len(found) > 1:
            notes.append(f"task {keys[-1] if keys else 0} has {len(found)} {name}; the first one is read")
        for place, each in found[:1]:
            result: Keys = [*keys, name, place, "result"]
            for row, region in enumerate(list_at(file, result, each.get("result"))):
                yield [*result, row], object_at(file, [*result, row], region)
        if found:
            return


def _add(
    draft: Draft,
    video_id: str,
    file: JsonFile,
    keys: Keys,
    value: Mapping[str, Any],
    region: Mapping[str, Any],
    tracks: dict[str, int],
    given: Given,
) -> bool:
    """Add the rows of a region; whether there are any."""
    video = draft.video(video_id)
    score = NAN if region.get("score") is None else number_at(file, [*keys[:-1], "score"], region["score"])
    labels = [draft.label(name) for name in _names(file, keys, value)] or [-1]
    if "sequence" in value:
        track = _track(region.get("id"), tracks)
        for second, box in _boxes(draft, video_id, file, keys, value, given):
            for label in labels:
                draft.box(video, second, box, label, track, score)
    elif "ranges" in value:
        fps = given.rate(file.path)
        for place, each in enumerate(list_at(file, [*keys, "ranges"], value["ranges"])):
            span = object_at(file, [*keys, "ranges", place], each)
            first, last = (whole_at(file, [*keys, "ranges", place, end], span.get(end)) for end in ("start", "end"))
            for label in labels:
                draft.segment(video, label, (first - 1) / fps, last / fps, score)
    elif "start" in value and "end" in value:
        start_s, stop_s = (number_at(file, [*keys, end], value[end], "seconds") for end in ("start", "end"))
        draft.video(video_id, Media(duration_s=number(region.get("original_length"))))
        for label in labels:
            draft.segment(video, label, start_s, stop_s, score)
    elif "choices" in value:
        for label in labels:
            draft.segment(video, label, NAN, NAN, score)
    else:
        return False
    return True


def _names(file: JsonFile, keys: Keys, value: Mapping[str, Any]) -> list[str]:
    name = next((key for key in value if key.endswith("labels") or key == "choices"), None)
    if name is None:
        return []
    return [
        text_at(file, [*keys, name, place], each)
        for place, each in enumerate(list_at(file, [*keys, name], value[name]))
    ]


def _track(key: object, tracks: dict[str, int]) -> int:
    """The number of a region: its id where that is a number, else the next one that is free."""
    name = str(key)
    if name not in tracks:
        numeric = re.fullmatch(r"\d{1,9}", name)
        free = (n for n in range(len(tracks) + 1) if n not in tracks.values())
        tracks[name] = int(name) if numeric else next(free)
    return tracks[name]


def _boxes(
    draft: Draft, video_id: str, file: JsonFile, keys: Keys, value: Mapping[str, Any], given: Given
) -> Iterator[tuple[float, Corners]]:
    """Second and box of each frame of a region."""
    count, duration_s = number(value.get("framesCount")), number(value.get("duration"))
    known = count and duration_s and count > 0 and duration_s > 0
    media = Media(duration_s, (count or 0) / (duration_s or 1)) if known else Media()
    fps = given.rate(file.path, media)
    draft.video(video_id, media)
    marks = []
    for place, each in enumerate(list_at(file, [*keys, "sequence"], value["sequence"])):
        where: Keys = [*keys, "sequence", place]
        mark = object_at(file, where, each)
        x, y, w, h = (number_at(file, [*where, name], mark.get(name)) for name in ("x", "y", "width", "height"))
        box = (x / 100, y / 100, (x + w) / 100, (y + h) / 100)
        marks.append((whole_at(file, [*where, "frame"], mark.get("frame")), box, mark.get("enabled", True) is True))
    for frame, box in filled(file.path, sorted(marks, key=lambda mark: mark[0])):
        yield (frame - 1) / fps, box


def write_label_studio(document: Document, path: Path, given: Given) -> None:
    """A task a video; predictions where rows have scores, else annotations.

    Raises:
        InputError: there are boxes, and the frame rate is not known.
    """
    tasks: list[dict[str, object]] = []
    rows_of = rows_by_video(document, document.segments.video)
    boxes_of = boxes_by_video(document)
    for (video, media), rows, boxes in zip(document.media.items(), rows_of, boxes_of, strict=True):
        found = document.segments.take(rows)
        columns = zip(found.label.tolist(), found.span_s.tolist(), found.score.tolist(), strict=True)
        result = [
            _segment(f"s{number}", label_of(document, label), start_s, stop_s, score, media)
            for number, (label, (start_s, stop_s), score) in enumerate(columns)
        ]
        if len(boxes):
            fps = given.rate(path, media)
            result += [
                _sequence(document, number, label, track, fps, media) for number, label, track in tracks_of(boxes)
            ]
        scored = bool(np.isfinite(found.score).any() or np.isfinite(boxes.score).any())
        kind = "predictions" if scored else "annotations"
        tasks.append({"id": len(tasks) + 1, "data": {"video": video}, kind: [{"result": result}]})
    put_text(path, json.dumps(tasks, ensure_ascii=False, allow_nan=False) + "\n")


def _segment(key: str, label: str, start_s: float, stop_s: float, score: float, media: Media) -> dict[str, object]:
    names = [label] if label else []
    said = {} if score != score else {"score": score}
    if start_s != start_s:
        value: dict[str, object] = {"choices": names}
        return {"id": key, "from_name": "choice", "to_name": "video", "type": "choices", "value": value, **said}
    value = {"start": start_s, "end": stop_s, "channel": 0, "labels": names}
    length = {} if media.duration_s is None else {"original_length": media.duration_s}
    region: dict[str, object] = {"id": key, "from_name": "label", "to_name": "audio", "type": "labels", "value": value}
    return {**region, **length, **said}


def _sequence(document: Document, number: int, label: int, boxes: Boxes, fps: float, media: Media) -> dict[str, object]:
    frames = (frames_of(boxes.second, fps) + 1).tolist()
    goes_on = [after == before + 1 for before, after in zip(frames, [*frames[1:], -1], strict=True)]
    sequence = [
        {
            "frame": frame,
            "enabled": more,
            "rotation": 0,
            "x": 100 * x1,
            "y": 100 * y1,
            "width": 100 * (x2 - x1),
            "height": 100 * (y2 - y1),
            "time": (frame - 1) / fps,
        }
        for frame, more, (x1, y1, x2, y2) in zip(frames, goes_on, boxes.box.tolist(), strict=True)
    ]
    count = frames[-1] if media.duration_s is None else media.duration_s * fps
    value: dict[str, object] = {"framesCount": count, "duration": count / fps, "sequence": sequence}
    if label >= 0:
        value["labels"] = [document.labels[label]]
    region: dict[str, object] = {
        "id": str(number),
        "from_name": "box",
        "to_name": "video",
        "type": "videorectangle",
        "value": value,
    }
    return region if np.isnan(boxes.score).all() else {**region, "score": float(np.nanmean(boxes.score))}
