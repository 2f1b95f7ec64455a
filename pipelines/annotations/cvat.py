"""CVAT's XML 1.1, one file a video: tracks of boxes (for video), or tags and boxes by frame (for images).

Frames count from 0 and nothing says how many a second has: ``fps`` is needed. Boxes between two of a track are on a
straight line, as CVAT draws them; ``outside`` ends a stretch. A tag on consecutive frames is one segment. Shapes that
are no boxes, and attributes, are left out.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr  # writes only

import numpy as np

from pipelines.annotations.checked import Element, read_xml
from pipelines.annotations.document import Boxes, Document, Media, Segments
from pipelines.annotations.draft import Draft, files_of, label_of, one_or_folder, plain, put_text, rows_by_video
from pipelines.annotations.given import Given
from pipelines.annotations.keyframes import Corners, boxes_by_video, filled, frames_of, tracks_of
from pipelines.notes import noted

ENDINGS = (".xml",)
_EXPECTED = "CVAT's XML 1.1"


def read_cvat(path: Path, given: Given) -> Document:
    """A file or a folder of them; ids are the media that a file names, else the files' names.

    Raises:
        InputError: not readable, no such XML, or the frame rate is not known.
    """
    draft, other = Draft("cvat"), []
    for file_id, file in files_of(path, ENDINGS):
        root = read_xml(file, _EXPECTED)
        if root.tag != "annotations":
            raise root.wrong(f"<{root.tag}>", "<annotations>")
        fps = given.rate(file)
        for name in (name.text for labels in root.below("labels") for name in labels.below("name")):
            draft.label(name)
        source = next((element.text for element in root.below("source") if element.text), file_id)
        video = draft.video(source, _media(root, fps))
        _add_tracks(draft, video, root, file, given, fps)
        _add_images(draft, video, root, file, given, fps)
        shapes = (*root.all("track"), *root.all("image"))
        known = {"box", "tag", "attribute"}
        other += [f"<{child.tag}>" for shape in shapes for child in shape.children if child.tag not in known]
    draft.notes += noted(other, "shapes are no boxes; they are left out")
    return draft.document()


def _media(root: Element, fps: float) -> Media:
    size = next((element for meta in root.all("meta") for element in meta.below("original_size")), None)
    count = next((element for meta in root.all("meta") for element in meta.below("size")), None)
    sides = [_side(size, name) for name in ("width", "height")]
    duration_s = float(count.text) / fps if count is not None and count.text.isdecimal() else None
    return Media(duration_s, fps, *(sides if all(sides) else (None, None)))


def _side(size: Element | None, name: str) -> int | None:
    text = next((element.text for element in size.all(name)), "") if size is not None else ""
    return int(text) if text.isdecimal() and len(text) < 9 and int(text) > 0 else None


def _add_tracks(draft: Draft, video: int, root: Element, file: Path, given: Given, fps: float) -> None:
    media = draft.media[[*draft.media][video]]
    for track in root.all("track"):
        label, number = draft.label(track.attribute("label")), track.whole("id")
        marks: list[tuple[int, Corners, bool]] = []
        for element in track.all("box"):
            if element.attributes.get("outside", "0") != "0":
                if marks:
                    marks[-1] = (*marks[-1][:2], False)
                continue
            marks.append((element.whole("frame"), _corners(element, given.frame(file, media)), True))
        for frame, box in filled(file, sorted(marks, key=lambda mark: mark[0])):
            draft.box(video, frame / fps, box, label, number)


def _corners(element: Element, size: tuple[int, int]) -> Corners:
    width, height = size
    x1, y1, x2, y2 = (element.number(name) for name in ("xtl", "ytl", "xbr", "ybr"))
    return x1 / width, y1 / height, x2 / width, y2 / height


def _add_images(draft: Draft, video: int, root: Element, file: Path, given: Given, fps: float) -> None:
    tagged: defaultdict[int, set[int]] = defaultdict(set)
    for image in root.all("image"):
        frame = image.whole("id")
        for tag in image.all("tag"):
            tagged[draft.label(tag.attribute("label"))].add(frame)
        for element in image.all("box"):
            sized = {"width", "height"} <= set(image.attributes)
            size = (max(image.whole("width"), 1), max(image.whole("height"), 1)) if sized else given.frame(file)
            draft.box(video, frame / fps, _corners(element, size), draft.label(element.attribute("label")))
    for label, frames in tagged.items():
        numbers = np.array(sorted(frames))
        for run in np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1):
            draft.segment(video, label, int(run[0]) / fps, (int(run[-1]) + 1) / fps)


def write_cvat(document: Document, path: Path, given: Given) -> None:
    """Tracks where a video has boxes, else its segments as tags of frames.

    Raises:
        InputError: the frame rate is not known, or, for boxes, the size; or several videos would go into one file.
    """
    files = one_or_folder(document, path, ENDINGS)
    rows_of = rows_by_video(document, document.segments.video)
    for (video, file), rows, boxes in zip(files, rows_of, boxes_by_video(document), strict=True):
        media = document.media[video]
        fps = given.rate(path, media)
        if len(boxes):
            size = given.frame(path, media)
            text = "".join(_track(document, *found, fps, size) for found in tracks_of(boxes))
        else:
            text = "".join(_images(document, document.segments.take(rows), fps))
        put_text(file, f"{_head(document, video, media, given, fps)}{text}</annotations>\n")


def _head(document: Document, video: str, media: Media, given: Given, fps: float) -> str:
    labels = "".join(f"<label><name>{escape(plain(name))}</name><attributes/></label>" for name in document.labels)
    frames = "" if media.duration_s is None else f"<size>{round(media.duration_s * fps)}</size>"
    width, height = (media.width, media.height) if media.width and media.height else given.size or (None, None)
    size = "" if width is None else f"<original_size><width>{width}</width><height>{height}</height></original_size>"
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
        f"<meta><task><name>{escape(plain(video))}</name>{frames}<mode>interpolation</mode><labels>{labels}</labels>{size}"
        f"<source>{escape(plain(video))}</source></task></meta>\n"
    )


def _track(document: Document, number: int, label: int, boxes: Boxes, fps: float, size: tuple[int, int]) -> str:
    frames = frames_of(boxes.second, fps).tolist()
    scale = np.array([*size, *size])
    rows = []
    for place, (frame, box) in enumerate(zip(frames, (boxes.box * scale).tolist(), strict=True)):
        rows.append(_box(frame, box, outside=0))
        if place + 1 == len(frames) or frames[place + 1] > frame + 1:
            rows.append(_box(frame + 1, box, outside=1))
    name = quoteattr(plain(label_of(document, label)))
    return f'<track id="{number}" label={name} source="manual">\n{"".join(rows)}</track>\n'


def _box(frame: int, box: list[float], *, outside: int) -> str:
    x1, y1, x2, y2 = box
    return (
        f'<box frame="{frame}" keyframe="1" outside="{outside}" occluded="0" xtl="{x1}" ytl="{y1}" xbr="{x2}"'
        f' ybr="{y2}" z_order="0"></box>\n'
    )


def _images(document: Document, segments: Segments, fps: float) -> Iterator[str]:
    """Frames with tags. A segment without a start, a length or a label has none."""
    tags: defaultdict[int, dict[int, None]] = defaultdict(dict)
    found = segments.take(~np.isnan(segments.span_s[:, 0]) & (segments.label >= 0))
    ends = np.clip(np.rint(found.span_s * fps), 0, 10_000_000).astype(np.int64).tolist()
    for label, (first, last) in zip(found.label.tolist(), ends, strict=True):
        for frame in range(first, last):
            tags[frame][label] = None
    for frame in sorted(tags):
        inside = "".join(
            f'<tag label={quoteattr(plain(document.labels[label]))} source="manual"></tag>' for label in tags[frame]
        )
        yield f'<image id="{frame}" name="frame_{frame:06d}">{inside}</image>\n'
