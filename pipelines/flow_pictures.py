"""Optical flow of a video to look at: the picture, its flow as colours, and the flow to the right and down.

H W pixels.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from extract.errors import InputError, UsageError
from extract.flow import Flow, FlowSettings, flow_picture, quantised
from extract.prefetch import Prefetch
from extract.video import VideoInfo, open_video, probe
from pipelines.render import font_of
from pipelines.video_out import (
    CODECS,
    MOST_FPS,
    TICK,
    Picked,
    VideoWriter,
    check_ending,
    check_is_other,
    even,
    picked,
)
from pipelines.whole import written_whole

Pixels = NDArray[np.uint8]
ENDINGS = (".png", *CODECS)
_INK, _BACK = (255, 255, 255), (22, 24, 29)


@dataclass
class Motion:
    """How far pixels moved from each picture to the next one, in pixels of the panels; ``pictures`` were drawn."""

    pictures: int = 0
    most_px: float = 0.0
    _means: list[float] = field(default_factory=list)

    @property
    def mean_px(self) -> float:
        """Over all pixels and pictures."""
        return float(np.mean(self._means)) if self._means else 0.0

    def add(self, flow: NDArray[np.float32]) -> None:
        """One more picture, with its flow (H, W, 2)."""
        length = np.hypot(flow[..., 0], flow[..., 1])
        self.pictures += 1
        self.most_px = max(self.most_px, float(length.max()))
        self._means.append(float(length.mean()))


def draw_flow(
    video: str | Path,
    output: Path,
    settings: FlowSettings,
    *,
    second: float | None = None,
    fps: float | None = None,
    height_px: int = 256,
    device: str = "cpu",
    on_progress: Callable[[float], None] = lambda _: None,
) -> Motion:
    """Four panels: the picture; its flow to the next one as `extract.flow.flow_picture`; both its parts in 8 bits.

    Args:
        video: a file or a URL.
        output: ``.png`` for one moment; ``.mp4`` or ``.webm`` for the whole video, every picture at its second. It is
            there only when it is complete.
        settings: of the flow; ``bound_px`` has full colour, black and white.
        second: of the still picture; by default the middle of the video.
        fps: pictures a second, from each of which flow goes to the next; by default the video's own, 30 at most.
        height_px: of each panel.
        device: "cpu" or "cuda", settled.
        on_progress: called with the share that is done, 0..1.

    Raises:
        UsageError: another ending, ``output`` is the video itself, or ``second`` with a video as ``output``.
        InputError: there are no two pictures at ``second``.
        VideoError: the video cannot be read.
        MachineError: ``output`` cannot be written, or a library or weights are missing.
    """
    check_ending(output, ENDINGS)
    if second is not None and output.suffix != ".png":
        raise UsageError(f"--second {second:g} is for a still picture; expected an output in .png, or no --second")
    check_is_other(output, video)
    info = probe(video)
    panels = Panels(Flow(settings, device))
    short_side = max(16, round(height_px * min(1, info.width / info.height)))
    if output.suffix == ".png":
        before, after = _pair(info, video, second, fps, short_side)
        picture = panels.drawn(before, after)
        with written_whole(output) as partial:
            Image.fromarray(picture).save(partial)
    else:
        _write_video(info, video, output, panels, fps, short_side, on_progress)
    on_progress(1.0)
    return panels.motion


class Panels:
    """Draws pictures with their flow; ``motion`` sums up what was drawn."""

    def __init__(self, flow: Flow) -> None:
        self._flow, self.motion = flow, Motion()
        self._moved: NDArray[np.float32] | None = None

    def drawn(self, before: Pixels, after: Pixels | None) -> Pixels:
        """(2H, 2W, 3), both even, of (H, W, 3); the last picture, without one after it, has the flow before it."""
        width, height = even((before.shape[1], before.shape[0]))
        moved = self._flow(before, after) if after is not None else self._moved
        if moved is None:  # a single picture
            moved = np.zeros((*before.shape[:2], 2), np.float32)
        self._moved = moved
        self.motion.add(moved)
        bound_px = self._flow.settings.bound_px
        right, down = (np.repeat(part[..., None], 3, 2) for part in np.moveaxis(quantised(moved, bound_px), -1, 0))
        colours = flow_picture(moved, bound_px)
        side = max(1, min(width, height) // 5)
        colours[-side:, -side:] = _wheel(side)
        named = [
            _named(panel[:height, :width], name)
            for panel, name in (
                (before, "picture"),
                (colours, f"flow, full colour at {bound_px:g} px"),
                (right, "to the right white, to the left black"),
                (down, "down white, up black"),
            )
        ]
        return np.vstack([np.hstack(named[:2]), np.hstack(named[2:])])


def _wheel(side: int) -> Pixels:
    """All directions and speeds, (side, side, 3): the colour of what moves from the middle to that place."""
    place = np.linspace(-1, 1, side, dtype=np.float32)
    x, y = np.meshgrid(place, place)
    wheel = flow_picture(np.stack([x, y], -1), 1.0)
    wheel[np.hypot(x, y) > 1] = _BACK
    return wheel


def _named(panel: Pixels, name: str) -> Pixels:
    image = Image.fromarray(np.ascontiguousarray(panel))
    draw, font = ImageDraw.Draw(image), font_of(max(8, min(14, panel.shape[0] // 16)))
    wide = font.getlength(name)
    if wide < panel.shape[1]:
        draw.rectangle((0, 0, wide + 8, font.size + 6), fill=_BACK)
        draw.text((4, 2), name, fill=_INK, font=font)
    return np.asarray(image)


def _rate(info: VideoInfo, fps: float | None) -> float | None:
    if fps is None:
        return None if info.average_fps <= MOST_FPS else float(MOST_FPS)
    if not 0 < fps <= MOST_FPS:
        raise UsageError(f"--fps {fps:g}; expected pictures per second, above 0 and at most {MOST_FPS}")
    return fps


def _pair(
    info: VideoInfo, video: str | Path, second: float | None, fps: float | None, short_side: int
) -> tuple[Pixels, Pixels]:
    """The first picture at or after ``second``, and the next one."""
    rate = _rate(info, fps)
    at_s = (info.duration_s or 0.0) / 2 if second is None else second
    start_s = info.start_s + at_s - 1e-6
    found: list[Pixels] = []
    with open_video(video, fps=rate, start_s=start_s, short_side=short_side) as reader:
        for batch in reader:
            found += [pixels.copy() for pixels in batch.pixels[: 2 - len(found)]]
            if len(found) == 2:
                return found[0], found[1]
    raise InputError(
        f"{info.path} has {len(found)} of the two pictures that flow needs from second {at_s:g} on; take an earlier"
        " --second"
    )


def _write_video(
    info: VideoInfo,
    video: str | Path,
    output: Path,
    panels: Panels,
    fps: float | None,
    short_side: int,
    on_progress: Callable[[float], None],
) -> None:
    with (
        written_whole(output) as partial,
        open_video(video, fps=_rate(info, fps), short_side=short_side) as reader,
        Prefetch(reader, ahead=2) as batches,
    ):
        width, height = even(reader.size)
        with VideoWriter(partial, size=(2 * width, 2 * height), rate=Fraction(MOST_FPS), time_base=TICK) as writer:
            for each, after in pairwise(_and_none(picked(batches, info.start_s, info.duration_s, on_progress))):
                assert each is not None  # noqa: S101 - only the last is
                picture = panels.drawn(each.pixels, None if after is None else after.pixels)
                writer.write(picture, each.tick, key=each.key)


def _and_none(pictures: Iterator[Picked]) -> Iterator[Picked | None]:
    yield from pictures
    yield None
