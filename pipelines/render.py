"""A video with what is predicted drawn on it.

H W pixels, N rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from extract.errors import InputError, UsageError
from extract.prefetch import Prefetch
from extract.video import open_video, probe
from pipelines.console import clock
from pipelines.notes import shown as some_names
from pipelines.pictures import colour_of, lanes, shortened, tick_seconds
from pipelines.report.media import find_video, media_of
from pipelines.report.payload import Shown, first_threshold, shown_videos
from pipelines.report.subject import subject_of
from pipelines.report.verdicts import Rows
from pipelines.video_out import (
    CODECS,
    MOST_FPS,
    TICK,
    VideoWriter,
    check_is_other,
    even,
    picked,
    short_side,
)
from pipelines.whole import written_whole

Colour = tuple[int, int, int]
_MOST_CHIPS = 6
_MOST_LANES = 4
_NARROW = 36  # text sizes; on such pictures true labels stand below the predicted ones
_BOX_FOR_S = 0.5  # a box is shown so long before and after its moment, unless another moment is nearer
_BACK, _GROUND, _INK, _DIM = (22, 24, 29), (44, 48, 56), (240, 240, 240), (150, 155, 165)


@dataclass(frozen=True, slots=True)
class Look:
    """One video to look at: what is said of it, the names of its labels, and what is shown at first.

    ``path`` is None where the video is not found.
    """

    video: Shown
    labels: Sequence[str]
    threshold: float
    path: Path | None


def look_up(
    what: str | Path,
    video_id: str | None = None,
    *,
    truth: str | Path | None = None,
    videos: str | Path | None = None,
    threshold: float | None = None,
) -> Look:
    """One video of predictions in any format, or of a run folder.

    Args:
        what: predictions, or a run.
        video_id: which; None where there is only one.
        truth: labels in any format.
        videos: folder of the videos, where they are not where they were.
        threshold: score from which on something is shown; by default a good one.

    Raises:
        UsageError: there is no such video, or none is named of several.
        InputError: something cannot be read, or does not go together.
    """
    subject = subject_of(what, truth=truth, subset=None, store=None)
    known = subject.predictions.document.videos
    if video_id is None and len(known) != 1:
        raise UsageError(f"{what} has {len(known)} videos; name one by --video: {some_names(known)}")
    chosen = known[0] if video_id is None else video_id
    if chosen not in known:
        raise UsageError(f"video {chosen!r} is not in {what}; expected one of {some_names(known)}")
    folder = None if videos is None else Path(videos)
    path = find_video(chosen, source=subject.predictions.sources.get(chosen), folder=folder)
    media = {}
    if path is not None:
        media[chosen] = media_of(probe(path))
    every, labels = shown_videos(subject.predictions, subject.truth, media)
    first = first_threshold(every, subject.predictions) if threshold is None else threshold
    return Look(next(video for video in every if video.video_id == chosen), labels, first, path)


def render_video(
    look: Look, output: Path, *, height_px: int = 480, on_progress: Callable[[float], None] = lambda _: None
) -> None:
    """Write a copy of the video, without sound, with boxes, labels and a timeline drawn; every second stays in place.

    Predicted labels stand to the left, true ones to the right; boxes have the colour of their track, or of their
    label, true ones are white. Of more than 30 pictures a second some are left out. The frames are streamed.

    Args:
        look: of `look_up`.
        output: ``.webm`` (VP9) or ``.mp4`` (H.264); it is there only when it is complete.
        height_px: of the picture, to which the timeline is added.
        on_progress: called with the share that is done, 0..1.

    Raises:
        UsageError: ``output`` has another ending or is the video itself, or ``height_px`` is too small to be read.
        InputError: the video is not found.
        VideoError: it cannot be read.
        MachineError: ``output`` cannot be written.
    """
    if output.suffix not in CODECS:
        raise UsageError(f"{output}: expected a name in {' or '.join(CODECS)}")
    if height_px < 120:
        raise UsageError(f"height_px is {height_px}; expected at least 120, so that text can be read")
    if look.path is None:
        raise InputError(
            f"the file of video {look.video.video_id!r} is not found; name the folder that it is in by --videos"
        )
    check_is_other(output, look.path)
    info = probe(look.path)
    with (
        written_whole(output) as partial,
        open_video(look.path, short_side=short_side(info, height_px)) as reader,
        Prefetch(reader, ahead=2) as batches,
    ):
        width, height = even(reader.size)
        overlay = Overlay(look, (width, height))
        with VideoWriter(partial, size=even(overlay.size), rate=Fraction(MOST_FPS), time_base=TICK) as writer:
            for each in picked(batches, info.start_s, look.video.duration_s, on_progress):
                writer.write(overlay.drawn(each.pixels[:height, :width], each.second), each.tick, key=each.key)
    on_progress(1.0)


class Overlay:
    """What is drawn on the pictures of one video, ``size`` wide and high with the timeline below them."""

    def __init__(self, look: Look, picture_size: tuple[int, int]) -> None:
        self._video, self._labels = look.video, look.labels
        self._threshold, self._found = look.threshold, look.video.at(look.threshold)
        self._width, self._height = picture_size
        self._text_px = max(11, min(18, self._height // 30))
        self._most_letters = max(6, min(28, int(self._width / (1.3 * self._text_px)) - 8))
        self._bar = Timeline(look.video, self._found, self._width, self._text_px)
        self.size = (self._width, self._height + self._bar.height // 2 * 2)

    def drawn(self, pixels: NDArray[np.uint8], second: float) -> NDArray[np.uint8]:
        """The picture ``(H, W, 3)`` with everything that is so at ``second``, and the timeline below."""
        canvas = np.empty((self.size[1], self.size[0], 3), np.uint8)
        canvas[: self._height] = pixels
        canvas[self._height :] = self._bar.at(second)[: self.size[1] - self._height]
        image = Image.fromarray(canvas)
        draw = ImageDraw.Draw(image)
        if self._video.tracks is None:
            top = self._text_px // 2
            below = self._chips(draw, self._found, second, top, left=True)
            if self._video.truth is not None:
                narrow = self._width < _NARROW * self._text_px
                self._chips(draw, self._video.truth, second, below if narrow else top, left=False)
        else:
            found, true = self._video.tracks
            if self._video.truth is not None:
                self._boxes(draw, self._video.truth, true, second, true=True)
            self._boxes(draw, self._found, found[self._video.predicted.score >= self._threshold], second, true=False)
        drawn: NDArray[np.uint8] = np.asarray(image)
        return drawn

    def _chips(self, draw: ImageDraw.ImageDraw, rows: Rows, second: float, top: int, *, left: bool) -> int:
        """What is so at ``second``, from ``top`` down to what is returned."""
        now = np.flatnonzero((rows.span_s[:, 0] <= second) & (second < rows.span_s[:, 1]))
        if left:
            now = now[np.argsort(-rows.score[now], kind="stable")]
        font, pad = font_of(self._text_px), self._text_px // 3
        for row in now[:_MOST_CHIPS].tolist():
            label = int(rows.label[row])
            text = shortened(self._labels[label], self._most_letters)
            text = f"{text}  {rows.score[row]:.2f}" if left else f"truth: {text}"
            width = int(font.getlength(text)) + 2 * pad
            x = self._text_px // 2 if left else self._width - width - self._text_px // 2
            _tag(draw, (x, top), text, colour_of(label), font, outlined=not left)
            top += self._text_px + 3 * pad
        if len(now) > _MOST_CHIPS and left:
            draw.text((self._text_px // 2, top), f"and {len(now) - _MOST_CHIPS} more", fill=_INK, font=font)
        return top

    def _boxes(
        self, draw: ImageDraw.ImageDraw, rows: Rows, tracks: NDArray[np.int64], second: float, *, true: bool
    ) -> None:
        font, boxes = font_of(self._text_px), rows.box
        if boxes is None:
            return
        for group in _groups(boxes, _now(rows.span_s[:, 0], second)):
            x1, y1, x2, y2 = (boxes[group[0]].clip(0, 1) * np.tile((self._width - 1, self._height - 1), 2)).tolist()
            track = int(tracks[group[0]])
            colour = _INK if true else colour_of(track if track >= 0 else int(rows.label[group[0]]))
            draw.rectangle((x1, y1, max(x1, x2), max(y1, y2)), outline=colour, width=1 if true else 3)
            lines = [self._said(rows, row, true=true) for row in group[:_MOST_CHIPS]]
            if track >= 0 and not true:
                lines[0] = f"#{track}  {lines[0]}"
            step = self._text_px + 2 * (self._text_px // 3)
            top = y2 - step * len(lines) if true else max(0.0, y1 - step * len(lines))
            for line in lines:
                _tag(draw, (round(x1), round(top)), line, colour, font, outlined=true)
                top += step

    def _said(self, rows: Rows, row: int, *, true: bool) -> str:
        label = shortened(self._labels[int(rows.label[row])], self._most_letters)
        return f"truth: {label}" if true else f"{label}  {rows.score[row]:.2f}"


class Timeline:
    """A bar of the whole video ``width`` pixels wide: what is true, what is predicted, and where one is.

    ``height`` is in pixels.
    """

    def __init__(self, video: Shown, found: Rows, width: int, text_px: int) -> None:
        self._duration_s, self._text_px = max(video.duration_s, 1e-3), text_px
        self._left, self._right = min(text_px * 6, width // 2), max(width // 2 + 1, width - text_px)
        rows = [("truth", video.truth)] if video.truth is not None else []
        rows.append(("predicted", found))
        row_px = text_px * 3 // 2
        self.height = (row_px + 6) * len(rows) + 2 * text_px + 6
        image = Image.new("RGB", (width, self.height), _BACK)
        draw, font = ImageDraw.Draw(image), font_of(text_px * 5 // 6)
        top = 6
        for name, each in rows:
            draw.text((text_px // 2, top + row_px // 2), name, fill=_DIM, font=font, anchor="lm")
            draw.rectangle((self._left, top, self._right, top + row_px), fill=_GROUND)
            self._segments(draw, each, top, row_px)
            top += row_px + 6
        self._ticks(draw, top, font)
        self._top, self._image, self._font = top, image, font

    def at(self, second: float) -> NDArray[np.uint8]:
        """``(height, width, 3)``, with a line at ``second``."""
        image = self._image.copy()
        draw = ImageDraw.Draw(image)
        x = self._x(second)
        draw.line((x, 2, x, self._top), fill=(255, 255, 255), width=2)
        draw.text(
            (self._text_px // 2, self._top + self._text_px), clock(second), fill=_INK, font=self._font, anchor="lm"
        )
        drawn: NDArray[np.uint8] = np.asarray(image)
        return drawn

    def _x(self, second: float) -> int:
        return self._left + round(min(1.0, max(0.0, second / self._duration_s)) * (self._right - self._left))

    def _segments(self, draw: ImageDraw.ImageDraw, rows: Rows, top: int, row_px: int) -> None:
        span_s = rows.span_s if rows.box is None else rows.span_s + np.array([-_BOX_FOR_S, _BOX_FOR_S])
        lane, count = lanes(span_s, _MOST_LANES) if rows.box is None else lanes_of(rows.label)
        high = row_px / max(1, count)
        for row in np.argsort(rows.score, kind="stable").tolist():
            y = top + lane[row] * high
            x1, x2 = (self._x(second) for second in span_s[row].tolist())
            corner = (max(x1, x2 - 1), max(round(y), round(y + high) - 1))
            draw.rectangle((x1, round(y), *corner), fill=colour_of(int(rows.label[row])))

    def _ticks(self, draw: ImageDraw.ImageDraw, top: int, font: ImageFont.FreeTypeFont) -> None:
        for second in tick_seconds(self._duration_s, most=max(2, (self._right - self._left) // (6 * self._text_px))):
            x = self._x(second)
            draw.line((x, top - 3, x, top + 2), fill=_DIM)
            place = "mm" if self._left < x < self._right - 2 * self._text_px else "rm"
            draw.text((x, top + self._text_px), clock(second).removesuffix(".0"), fill=_DIM, font=font, anchor=place)


def lanes_of(label: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """A lane for each label that occurs."""
    used, lane = np.unique(label, return_inverse=True)
    return lane.astype(np.int64), len(used)


@lru_cache(maxsize=16)
def font_of(size_px: int) -> ImageFont.FreeTypeFont:
    """The font that travels with matplotlib: it has most alphabets."""
    import matplotlib as mpl

    return ImageFont.truetype(str(Path(mpl.get_data_path(), "fonts/ttf/DejaVuSans.ttf")), size_px)


def _now(moments: NDArray[np.float64], second: float) -> NDArray[np.int64]:
    """Rows of the moment that is nearest to ``second``, if it is near."""
    if not len(moments):
        return np.zeros(0, np.int64)
    away = np.abs(moments - second)
    return np.flatnonzero((away <= away.min() + 1e-6) & (away <= _BOX_FOR_S + 1e-6))


def _groups(boxes: NDArray[np.float64], rows: NDArray[np.int64]) -> list[list[int]]:
    """Rows of equal boxes: what one person does at a time."""
    groups: dict[tuple[float, ...], list[int]] = {}
    for row in rows.tolist():
        groups.setdefault(tuple(boxes[row].tolist()), []).append(row)
    return list(groups.values())


def _tag(
    draw: ImageDraw.ImageDraw,
    at: tuple[int, int],
    text: str,
    colour: Colour,
    font: ImageFont.FreeTypeFont,
    *,
    outlined: bool,
) -> None:
    """Text on a ground of ``colour``, or, outlined, in that colour on a dark one."""
    pad = int(font.size) // 3
    x, y = at
    corner = (x + int(font.getlength(text)) + 2 * pad, y + int(font.size) + 2 * pad)
    draw.rectangle((x, y, *corner), fill=_BACK if outlined else colour, outline=colour)
    ink = _INK if outlined else ink_on(colour)
    draw.text((x + pad, y + pad + font.size / 2), text, fill=ink, font=font, anchor="lm")


def ink_on(colour: Colour) -> Colour:
    """Black or white, whichever can be read on ``colour``."""
    bright = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    return (16, 16, 16) if bright > 110 else (255, 255, 255)
