"""COCO-VID JSON: ``videos``, ``images`` with ``video_id`` and ``frame_id`` (from 0), ``categories``, ``annotations``.

An annotation has ``bbox`` ``[x, y, width, height]`` in pixels, and ``instance_id`` or ``track_id``. A frame without
annotations was looked at, and nothing is there.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pipelines.annotations.checked import list_at, number_at, object_at, size_of, text_at, whole_at
from pipelines.annotations.document import Document, Media
from pipelines.annotations.draft import NAN, Draft, put_text, rows_by_video
from pipelines.annotations.files import JsonFile, number
from pipelines.annotations.given import Given
from pipelines.annotations.keyframes import frames_of

T = TypeVar("T")
_EXPECTED = "COCO-VID JSON, with videos, images, annotations and categories"


def read_coco_vid(path: Path, given: Given) -> Document:
    """Boxes of every frame; a video's own ``fps`` counts before the given one.

    Raises:
        InputError: not readable, not of this form, or the frame rate is not known.
    """
    return coco_vid_of(JsonFile.read(path, _EXPECTED), given)


def coco_vid_of(file: JsonFile, given: Given) -> Document:
    """As `read_coco_vid`, of JSON that is loaded."""
    root = object_at(file, [], file.root)
    categories = {key: text_at(file, where, each.get("name")) for key, each, where in _by_id(file, root, "categories")}
    draft = Draft("coco-vid", categories.values())
    videos = {}
    for key, each, where in _by_id(file, root, "videos"):
        name = text_at(file, [*where, "name"], each.get("name", each.get("file_name")))
        videos[key] = (draft.video(name, _media(each)), name)
    images: dict[int, tuple[int, float, int, int]] = {}
    for key, image, where in _by_id(file, root, "images"):
        video, name = _named(file, [*where, "video_id"], videos, image.get("video_id"), "videos")
        draft.video(name, Media(None, None, *size_of(image, "width", "height")))
        frame = whole_at(file, [*where, "frame_id"], image.get("frame_id", image.get("frame_index")))
        media = draft.media[name]
        images[key] = (video, frame / given.rate(file.path, media), *given.frame(file.path, media))
    seen = set()
    for row, each in enumerate(list_at(file, ["annotations"], root.get("annotations"))):
        where = ["annotations", row]
        annotation = object_at(file, where, each)
        video, second, width, height = _named(file, [*where, "image_id"], images, annotation.get("image_id"), "images")
        label = _named(file, [*where, "category_id"], categories, annotation.get("category_id"), "categories")
        x, y, w, h = _bbox(file, [*where, "bbox"], annotation.get("bbox"))
        track = annotation.get("instance_id", annotation.get("track_id"))
        score = annotation.get("score")
        draft.box(
            video,
            second,
            (x / width, y / height, (x + w) / width, (y + h) / height),
            draft.label(label),
            -1 if track is None else whole_at(file, [*where, "instance_id"], track),
            NAN if score is None else number_at(file, [*where, "score"], score),
        )
        seen.add(annotation["image_id"])
    for key, (video, second, _, _) in images.items():
        if key not in seen:
            draft.box(video, second, (NAN, NAN, NAN, NAN), -1)
    return draft.document()


def _by_id(file: JsonFile, root: Mapping[str, Any], name: str) -> list[tuple[int, dict[str, Any], list[str | int]]]:
    found: list[tuple[int, dict[str, Any], list[str | int]]] = []
    for row, each in enumerate(list_at(file, [name], root.get(name, []))):
        entry = object_at(file, [name, row], each)
        found.append((whole_at(file, [name, row, "id"], entry.get("id")), entry, [name, row]))
    return found


def _named(file: JsonFile, keys: list[str | int], known: Mapping[int, T], value: object, where: str) -> T:
    """The entry with an id."""
    if not isinstance(value, int) or value not in known:
        raise file.wrong(keys, value, f"the id of one of {where}")
    return known[value]


def _media(video: Mapping[str, Any]) -> Media:
    fps, length = number(video.get("fps")), number(video.get("length"))
    fps = fps if fps and fps > 0 else None
    return Media(length / fps if length and fps else None, fps, *size_of(video, "width", "height"))


def _bbox(file: JsonFile, keys: list[str | int], value: object) -> list[float]:
    box = [number(each) for each in value] if isinstance(value, list) else []
    found = [each for each in box if each is not None]
    if len(box) != 4 or len(found) != 4:
        raise file.wrong(keys, value, "[x, y, width, height] in pixels")
    return found


def write_coco_vid(document: Document, path: Path, given: Given) -> None:
    """Boxes of all videos in one file.

    Raises:
        InputError: a frame rate or size is not known.
    """
    videos: list[dict[str, object]] = []
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    rows_of = rows_by_video(document, document.boxes.video)
    for (name, media), rows in zip(document.media.items(), rows_of, strict=True):
        found = document.boxes.take(rows)
        length = None if media.duration_s is None or media.fps is None else round(media.duration_s * media.fps)
        known = {"width": media.width, "height": media.height, "fps": media.fps, "length": length}
        said = {key: value for key, value in known.items() if value is not None}
        videos.append({"id": len(videos) + 1, "name": name, **said})
        if not len(found):
            continue
        fps, (width, height) = given.rate(path, media), given.frame(path, media)
        videos[-1] |= {"width": width, "height": height, "fps": fps}
        frames = frames_of(found.second, fps)
        first = len(images) + 1
        numbers = {frame: first + place for place, frame in enumerate(np.unique(frames).tolist())}
        images += [
            {
                "id": number,
                "file_name": f"{name}/{frame:06d}.jpg",
                "video_id": len(videos),
                "frame_id": frame,
                "width": width,
                "height": height,
            }
            for frame, number in numbers.items()
        ]
        scale = np.array([width, height, width, height])
        columns = zip(
            frames.tolist(),
            (found.box * scale).tolist(),
            found.label.tolist(),
            found.track.tolist(),
            found.score.tolist(),
            strict=True,
        )
        for frame, (x1, y1, x2, y2), label, track, score in columns:
            if x1 != x1 or label < 0:
                continue
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": numbers[frame],
                    "video_id": len(videos),
                    "category_id": label + 1,
                    **({} if track < 0 else {"instance_id": track}),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                    **({} if score != score else {"score": score}),
                }
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(document.labels, start=1)]
    root = {"videos": videos, "images": images, "annotations": annotations, "categories": categories}
    put_text(path, json.dumps(root, ensure_ascii=False, allow_nan=False) + "\n")
