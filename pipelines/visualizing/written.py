"""Moving pictures and sheets of pictures, as files.

T pictures, H W pixels, R rows, N columns; pictures are (H, W, 3) uint8.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pipelines.render import font_of
from pipelines.video_out import CODECS, VideoWriter, check_ending
from pipelines.whole import written_whole

Picture = NDArray[np.uint8]
MOVING = (".gif", *CODECS)
ENDINGS = (*MOVING, ".png")
GROUND, INK = (250, 250, 250), (34, 34, 34)  # of what stands around the pictures
GAP_PX = 4
_VIDEO_S = 4  # a shorter one is shown again and again
_TEXT_PX = 12
_COLOURS = 256


def write_picture(picture: Picture, output: Path) -> None:
    """Write a still picture as PNG. Raises MachineError where it cannot be written."""
    with written_whole(output) as partial:
        Image.fromarray(picture).save(partial)


def write_moving(pictures: Sequence[Picture], output: Path, *, fps: float) -> None:
    """Write pictures of one size, ``fps`` a second: a GIF that goes on for ever, or a video of at least 4 seconds.

    A GIF has 256 colours, the best for all its pictures together, and its delays are hundredths of a second.

    Raises:
        UsageError: ``output`` has another ending.
        MachineError: it cannot be written.
    """
    check_ending(output, MOVING)
    with written_whole(output) as partial:
        if output.suffix == ".gif":
            _write_gif(pictures, partial, fps)
        else:
            _write_video(pictures, partial, fps)


def sheet(rows: Sequence[Sequence[Picture]], labels: Sequence[str] = ()) -> Picture:
    """R rows of pictures side by side on a light ground, each row as high as its highest; ``labels`` above the rows."""
    height = sum(_row_px(row) for row in rows) + GAP_PX + len(labels) * _line_px()
    width = max(sum(picture.shape[1] + GAP_PX for picture in row) for row in rows) + GAP_PX
    canvas = Image.new("RGB", (width, height), GROUND)
    draw, top = ImageDraw.Draw(canvas), GAP_PX
    for number, row in enumerate(rows):
        if number < len(labels):
            draw.text((GAP_PX, top + _line_px() / 2), labels[number], fill=INK, font=font_of(_TEXT_PX), anchor="lm")
            top += _line_px()
        left = GAP_PX
        for picture in row:
            canvas.paste(Image.fromarray(picture), (left, top))
            left += picture.shape[1] + GAP_PX
        top += _row_px(row)
    return np.asarray(canvas)


def labelled(picture: Picture, text: str) -> Picture:
    """``picture`` with a line of ``text`` above, as wide as both need."""
    font = font_of(_TEXT_PX)
    width = max(picture.shape[1], math.ceil(font.getlength(text)) + GAP_PX)
    canvas = Image.new("RGB", (width, picture.shape[0] + _line_px()), GROUND)
    ImageDraw.Draw(canvas).text((0, _line_px() / 2), text, fill=INK, font=font, anchor="lm")
    canvas.paste(Image.fromarray(picture), (0, _line_px()))
    return np.asarray(canvas)


def enlarged(pictures: Picture, times: int) -> Picture:
    """(…, H, W, 3) -> (…, H times, W times, 3): each pixel as a square."""
    return pictures.repeat(times, axis=-3).repeat(times, axis=-2)


def spread(count: int, most: int) -> list[int]:
    """At most ``most`` of the numbers below ``count``, as evenly as can be, the first and the last among them."""
    return sorted({round(at) for at in np.linspace(0, count - 1, min(count, most)).tolist()})


def _write_gif(pictures: Sequence[Picture], path: Path, fps: float) -> None:
    images = [Image.fromarray(picture) for picture in pictures]
    together = np.concatenate([picture[::2, ::2].reshape(1, -1, 3) for picture in pictures], axis=1)
    palette = Image.fromarray(together).quantize(_COLOURS, method=Image.Quantize.MEDIANCUT)
    first, *others = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    first.save(path, save_all=True, append_images=others, duration=max(20, round(100 / fps) * 10), loop=0)


def _write_video(pictures: Sequence[Picture], path: Path, fps: float) -> None:
    height, width = pictures[0].shape[:2]
    padding = ((0, height % 2), (0, width % 2), (0, 0))
    rate = Fraction(fps).limit_denominator(1001)
    again = math.ceil(_VIDEO_S * rate / len(pictures))
    with VideoWriter(path, size=(width + width % 2, height + height % 2), rate=rate, time_base=1 / rate) as writer:
        for tick, picture in enumerate(picture for _ in range(again) for picture in pictures):
            writer.write(np.pad(picture, padding, mode="edge"), tick)


def _row_px(row: Sequence[Picture]) -> int:
    return max(len(picture) for picture in row) + GAP_PX


def _line_px() -> int:
    return _TEXT_PX + GAP_PX
