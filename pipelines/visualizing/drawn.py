"""What was found, as pictures: frames, heat over them, and curves over time.

N samples, K classes, C channels, T frames, H W pixels; pictures are (H, W, 3) uint8.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from extract.flow import flow_picture
from pipelines.console import clock
from pipelines.pictures import colour_of, tick_seconds
from pipelines.render import font_of
from pipelines.visualizing.maximizing import Maximised
from pipelines.visualizing.saliency import Saliency
from pipelines.visualizing.written import GAP_PX, GROUND, INK, Picture, enlarged, labelled, sheet, spread

_CELL_PX = 56  # least, of a filter
_PANEL_PX = 160  # least, of a frame in a moving picture
_THUMB_PX = 112  # least, of a frame in a still one
_COLUMNS = 8  # frames in a still picture
_LANE_PX, _AXIS_PX, _SIDE_PX, _TEXT_PX = 60, 18, 20, 12
_DIM = (150, 150, 150)
_CAP, _HEAT_CAP = 99.5, 99.7  # percentile that has the strongest colour, of flow and of heat
_BLUR_PX = 2.0


def as_pictures(pixels: NDArray[np.uint8]) -> Picture:
    """(T, H, W, C) as a network sees it -> (T, H, W, 3) to look at: optical flow in the colours of its directions, the
    stronger the faster, full at what only one in 200 is above.
    """
    if pixels.shape[3] == 3:
        return pixels
    flow = pixels.astype(np.float32) / 127.5 - 1
    most = max(float(np.percentile(np.hypot(flow[..., 0], flow[..., 1]), _CAP)), 1 / 255)
    return np.stack([flow_picture(each, most) for each in flow])


def filter_grid(pictures: Picture) -> list[Picture]:
    """Filters (K, T, H, W, 3) -> T pictures of all filters, each at its place in a grid."""
    cells = _large(pictures, _CELL_PX)
    columns = min(len(cells), round((1.6 * len(cells)) ** 0.5))
    return [_grid(cells[:, t], columns) for t in range(cells.shape[1])]


def filter_slices(pictures: Picture) -> Picture:
    """Filters (K, T, H, W, 3) -> one picture: the T slices of each side by side, in as many columns as look well."""
    cells = _large(pictures, _CELL_PX)
    rows = [np.concatenate([_bordered(cell, 1) for cell in cells[k]], axis=1) for k in range(len(cells))]
    width, height = rows[0].shape[1] + GAP_PX, rows[0].shape[0] + GAP_PX
    columns = max(1, min(len(rows), round((1.6 * len(rows) * height / width) ** 0.5)))
    return _grid(np.stack(rows), columns)


def maximised_frames(found: Sequence[Sequence[Maximised]], labels: Sequence[Sequence[str]]) -> list[Picture]:
    """Clips in rows, one row a class -> T pictures of all of them at each frame, ``labels`` above."""
    moving = [[_large(as_pictures(each.pixels), _PANEL_PX) for each in row] for row in found]
    return [
        sheet([
            [labelled(clip[t], label) for clip, label in zip(clips, names, strict=True)]
            for clips, names in zip(moving, labels, strict=True)
        ])
        for t in range(len(moving[0][0]))
    ]  # fmt: skip


def maximised_sheet(found: Sequence[Maximised], labels: Sequence[str]) -> Picture:
    """A row a clip: frames from its first to its last, and, behind them, its middle line of pixels, time downwards."""
    rows = []
    for each in found:
        frames = _large(as_pictures(each.pixels), _THUMB_PX)
        rows.append([*frames[spread(len(frames), _COLUMNS)], line_over_time(frames)])
    return sheet(rows, labels)


def line_over_time(frames: Picture) -> Picture:
    """(T, H, W, 3) -> (H, W, 3): the middle line of each frame below that of the frame before, stretched to H. What
    moves to the right slants down to the right.
    """
    height, width = frames.shape[1:3]
    band = frames[:, height * 15 // 32 : max(height * 17 // 32, height * 15 // 32 + 1)]
    lines = band.mean(axis=1).round().astype(np.uint8)  # (T, W, 3)
    return np.asarray(Image.fromarray(lines).resize((width, height), Image.Resampling.NEAREST))


class Evidence:
    """Saliency as pictures: each frame, the heat of each class over it, and below them a curve of each over time.

    Args:
        found: what was found.
        labels: a name for each class.
    """

    def __init__(self, found: Saliency, labels: Sequence[str]) -> None:
        self._found, self._labels = found, labels
        self._heat = np.stack([_blurred(maps) for maps in found.maps])
        self._most = max(float(np.percentile(np.abs(self._heat), _HEAT_CAP)), 1e-30)
        self._seen, self._curve = as_pictures(found.pixels), found.curve

    def frames(self) -> Iterator[Picture]:
        """A picture for each sample, with a line in the curves where it is."""
        strip: Picture | None = None
        for number in range(len(self._found.second)):
            names = ("what the network sees", *self._labels)
            panels = [_large(each, _PANEL_PX) for each in self._panels(number)]
            top = sheet([[labelled(panel, name) for panel, name in zip(panels, names, strict=True)]])
            strip = self._strip(top.shape[1]) if strip is None else strip
            yield np.concatenate([top, self._marked(strip, [number])])

    def still(self) -> Picture:
        """Frames in rows, at most eight, evenly over the time, heat below them, and the curves."""
        numbers = spread(len(self._found.second), _COLUMNS)
        columns = [[_large(each, _THUMB_PX) for each in self._panels(number)] for number in numbers]
        names = ("what the network sees", *(f"what {label} hangs on" for label in self._labels))
        top = sheet([list(row) for row in zip(*columns, strict=True)], names)
        return np.concatenate([top, self._marked(self._strip(top.shape[1]), numbers)])

    def _panels(self, number: int) -> list[Picture]:
        picture = self._seen[number]
        return [picture, *(_heated(picture, heat / self._most) for heat in self._heat[:, number])]

    def _strip(self, width: int) -> Picture:
        """A lane for each class: what it hangs on filled, its probability as a line from 0 to 1; seconds below."""
        canvas = Image.new("RGB", (width, _LANE_PX * len(self._labels) + _AXIS_PX), GROUND)
        draw, font = ImageDraw.Draw(canvas), font_of(_TEXT_PX)
        least, most = min(0.0, float(self._curve.min())), max(0.0, float(self._curve.max()), 1e-30)
        xs = [self._x(second, width) for second in self._found.second]
        for lane, label in enumerate(self._labels):
            top, floor = lane * _LANE_PX + _TEXT_PX + 6, (lane + 1) * _LANE_PX - 2
            zero = floor + round((floor - top) * least / (most - least))
            heights = [zero - round((floor - top) * value / (most - least)) for value in self._curve[lane].tolist()]
            said = [zero - round((zero - top) * value) for value in self._found.probability[lane].tolist()]
            self._lane(draw, xs, zero, heights, said, colour_of(lane))
            draw.text((_SIDE_PX, top - _TEXT_PX // 2 - 2), label, fill=INK, font=font, anchor="lm")
        first_s, last_s = self._found.second[0], self._found.second[-1]
        for second in tick_seconds(float(last_s), most=max(2, width // 70)):
            if first_s <= second <= last_s:
                at = (self._x(second, width), canvas.height - _AXIS_PX // 2)
                draw.text(at, clock(second).removesuffix(".0"), fill=_DIM, font=font, anchor="mm")
        return np.asarray(canvas)

    def _lane(
        self,
        draw: ImageDraw.ImageDraw,
        xs: list[int],
        zero: int,
        heights: list[int],
        said: list[int],
        colour: tuple[int, int, int],
    ) -> None:
        pale = tuple((3 * 255 + 2 * channel) // 5 for channel in colour)
        draw.polygon([(xs[0], zero), *zip(xs, heights, strict=True), (xs[-1], zero)], fill=pale)
        if len(xs) > 1:
            draw.line(list(zip(xs, said, strict=True)), fill=colour, width=2)
        draw.line((xs[0], zero, xs[-1], zero), fill=_DIM)

    def _x(self, second: float, width: int) -> int:
        first_s, last_s = self._found.second[0], self._found.second[-1]
        share = float(second - first_s) / max(float(last_s - first_s), 1e-9)
        return _SIDE_PX + round(share * (width - 2 * _SIDE_PX))

    def _marked(self, strip: Picture, numbers: Sequence[int]) -> Picture:
        marked = strip.copy()
        for number in numbers:
            x = self._x(self._found.second[number], strip.shape[1])
            marked[: strip.shape[0] - _AXIS_PX, x] = INK
        return marked


def _large(pictures: Picture, least_px: int) -> Picture:
    """Pictures (…, H, W, 3), each pixel as a square, so that they are at least about so high."""
    return enlarged(pictures, max(1, round(least_px / pictures.shape[-3])))


def _bordered(picture: Picture, px: int) -> Picture:
    return np.pad(picture, ((px, px), (px, px), (0, 0)), constant_values=GROUND[0])


def _grid(cells: Picture, columns: int) -> Picture:
    """(K, H, W, 3) -> one picture, ``columns`` cells a row."""
    return sheet([list(cells[at : at + columns]) for at in range(0, len(cells), columns)])


def _blurred(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, H, W), a little softer, so that dots become patches."""
    from scipy.ndimage import gaussian_filter

    soft: NDArray[np.float32] = gaussian_filter(maps, (0, _BLUR_PX, _BLUR_PX))
    return soft


def _heated(picture: Picture, heat: NDArray[np.float32]) -> Picture:
    """``picture`` in dark grey with ``heat`` (H, W), -1..1 and beyond: fire above 0, and ice below."""
    import matplotlib as mpl

    share = np.abs(heat).clip(0, 1)
    fire = np.asarray(mpl.colormaps["inferno"](share))[..., :3] * 255
    coloured = np.where(heat[..., None] >= 0, fire, fire[..., ::-1])
    grey = picture.mean(axis=2, keepdims=True).repeat(3, axis=2) * 0.6
    mixed: Picture = (grey * (1 - share[..., None]) + coloured * share[..., None]).round().astype(np.uint8)
    return mixed
