"""What a file is, from its header, its first packets and its first frame."""

import math
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median, median_high

import av

from extract.errors import VideoError
from extract.urls import without_secrets
from extract.video._container import check_feed, check_file, check_pixels, opened
from extract.video._feed import Feed
from extract.video._head import MOST_BYTES, Evidence, Head
from extract.video._length import estimate_frames, find_duration
from extract.video._pixels import check_colours, orientation
from extract.video._records import VideoInfo

_SEEKABLE = ("mov", "matroska", "mpegts", "flv")
_MAX_FPS = 1000
_MAX_MEASURED_FPS = 100_000
_MAX_ASPECT = 16
_IRREGULAR_STEPS = 2
_TELLING_STEPS = 20
_IRREGULAR_SHARE = 0.02
_RATE_TOLERANCE = 0.01
_CONTRADICTION = 0.2
_MEASURABLE = 5
_FALLBACK_FPS = Fraction(25)
_TURN_TOLERANCE = 1
_OPAQUE = 255
_HDR_TRANSFERS = {16: "PQ", 18: "HLG"}


@dataclass(frozen=True, slots=True)
class Source:
    """A probed file: its public description, and the exact figures that reading needs.

    ``interval``: usual seconds from frame to frame. ``aspect``: sample aspect ratio. ``declared``: seconds
    of video that the header promises, where it can be believed. ``feed``: where its bytes come from, if not from a file
    that is whole.
    """

    path: str
    info: VideoInfo
    time_base: Fraction
    interval: Fraction
    aspect: Fraction
    declared: Fraction | None
    feed: Feed | None = None

    @property
    def counting(self) -> bool:
        """Whether times are counted, for want of usable ones in the container."""
        return self.info.time_source == "count"


def probe(path: str | Path) -> VideoInfo:
    """Describe the video ``path``, a file or a URL, without decoding more than its first frame.

    Raises:
        VideoError: with ``reason`` ``missing``, ``folder``, ``permission``, ``empty``, ``not_media``,
            ``no_video``, ``no_decoder``, ``too_large``, ``no_frames``, ``no_conversion`` or ``io_error``.
        MachineError: the package for a URL is not installed.
    """
    return inspect(str(path)).info


def inspect(path: str, feed: Feed | None = None) -> Source:
    """`probe`, with the exact figures that reading needs; of what begins to come from ``feed``."""
    if feed is None:
        size = check_file(path)
    else:
        check_feed(feed)
        size = 0
    with opened(path, MOST_BYTES, feed) as (container, stream):
        head = Head()
        head.read(path, container, stream, feed)
        if head.frame is None:
            detail = f"no frame of {head.searched()} can be decoded; copy it again or leave it out"
            raise VideoError(path, "no_frames", detail)
        check_pixels(path, head.frame.width, head.frame.height)
        check_colours(path, head.frame)
        time_base = stream.time_base or Fraction(1, av.time_base)
        return _describe(path, Evidence(container, stream, head, head.frame, time_base, size), feed)


def _describe(path: str, seen: Evidence, feed: Feed | None) -> Source:
    if seen.counting and seen.format != "avi":
        seen.warnings.append("the file holds no times; frame n is taken to be at n / average_fps")
    (average, nominal), aspect = _rates(seen), _aspect(seen)
    variable = _varies(seen, average, nominal)
    interval = _usual_step(seen) if variable else 1 / average
    declared, duration = find_duration(seen, interval)
    mirrored, rotation = _orientation(seen)
    _notice_pixels(seen)
    frame, stream = seen.frame, seen.stream
    wide = math.floor(frame.width * aspect + Fraction(1, 2))
    start = Fraction(0) if seen.counting or frame.pts is None else frame.pts * seen.time_base
    info = VideoInfo(
        path=without_secrets(path),
        size_bytes=seen.size_bytes,
        container=seen.format,
        codec=stream.codec_context.codec.canonical_name,
        pixel_format=frame.format.name,
        width=frame.height if rotation % 180 else wide,
        height=wide if rotation % 180 else frame.height,
        coded_width=frame.width,
        coded_height=frame.height,
        sample_aspect_ratio=float(aspect),
        rotation=rotation,
        mirrored=mirrored,
        declared_frames=stream.frames or None,
        estimated_frames=estimate_frames(seen, duration, 1 / average),
        duration_s=None if duration is None else float(duration),
        average_fps=float(average),
        nominal_fps=float(nominal),
        variable_rate=variable,
        start_s=float(start),
        tick_s=float(seen.time_base),
        stream_index=stream.index,
        streams=tuple(_stream_line(s.index, s.type, s.codec_context) for s in seen.container.streams),
        time_source="count" if seen.counting else "container",
        seekable=feed is None and _seekable(seen),
        warnings=tuple(seen.warnings),
    )
    return Source(path, info, seen.time_base, interval, aspect, declared, feed)


def _stream_line(index: int, kind: str, codec: object) -> str:
    return f"{index} {kind} {getattr(codec, 'name', 'unknown codec')}"


def _seekable(seen: Evidence) -> bool:
    """Whether times after a seek are those of a pass from the beginning (in program streams they are not)."""
    return not seen.counting and None not in seen.head.pts and seen.format.startswith(_SEEKABLE)


def _usable(rate: Fraction | None) -> Fraction | None:
    return rate if rate is not None and 0 < rate <= _MAX_FPS else None


def _rates(seen: Evidence) -> tuple[Fraction, Fraction]:
    """Average and nominal frames/s: the container's, unless the first frames contradict its constant rate."""
    stream, measured = seen.stream, _measured_rate(seen)
    claims = (_usable(rate) for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate))
    claimed = next((rate for rate in claims if rate is not None), None)
    if claimed is None:
        taken = _FALLBACK_FPS if measured is None else measured
        seen.warnings.append(f"the file holds no usable frame rate; taken as {_rate_text(taken)}")
        return taken, taken
    nominal = _usable(stream.guessed_rate) or claimed
    if measured is None or not _are_alike(nominal, claimed) or _are_alike(measured, claimed, _CONTRADICTION):
        return claimed, nominal
    seen.warnings.append(
        f"the header's rate of {_rate_text(claimed)} is not that of its frames; taken as {_rate_text(measured)}"
    )
    return measured, measured


def _measured_rate(seen: Evidence) -> Fraction | None:
    """Frames per second of the head, if its frames come at a constant rate."""
    known = seen.head.known()
    if seen.counting or len(known) < _MEASURABLE or _is_irregular(known):
        return None
    regular = _regular_steps(known)
    mean = Fraction(sum(regular), len(regular)) * seen.time_base
    return 1 / mean if mean * _MAX_MEASURED_FPS >= 1 else None


def _varies(seen: Evidence, average: Fraction, nominal: Fraction) -> bool | None:
    """Whether frame intervals vary: by the container's two rates, or by the head's times; None if few times tell."""
    if seen.counting:
        return False
    if not _are_alike(nominal, average):
        return True
    known = seen.head.known()
    few = len(known) - 1 < _TELLING_STEPS
    if len(known) < 2 or (few and len(_regular_steps(known)) < len(known) - 1):
        return None
    return _is_irregular(known)


def _usual_step(seen: Evidence) -> Fraction:
    """Median seconds from frame to frame in the head; an average would count rests of hours."""
    steps = [b - a for a, b in pairwise(seen.head.known()) if b > a]
    return median_high(steps or [1]) * seen.time_base


def _is_irregular(times: list[int]) -> bool:
    irregular = len(times) - 1 - len(_regular_steps(times))
    return irregular > max(_IRREGULAR_STEPS, _IRREGULAR_SHARE * (len(times) - 1))


def _regular_steps(times: list[int]) -> list[int]:
    """The steps from time to time that differ from the median by half of it at most."""
    steps = [b - a for a, b in pairwise(times)]
    typical = median(steps)
    return [step for step in steps if 2 * abs(step - typical) <= typical]


def _are_alike(rate: Fraction, other: Fraction, tolerance: float = _RATE_TOLERANCE) -> bool:
    return abs(rate / other - 1) <= tolerance


def _rate_text(rate: Fraction) -> str:
    return f"{float(rate):.5g} frames/s"


def _aspect(seen: Evidence) -> Fraction:
    aspect = seen.stream.sample_aspect_ratio or Fraction(1)
    if Fraction(1, _MAX_ASPECT) <= aspect <= _MAX_ASPECT:
        return aspect
    seen.warnings.append(f"pixels of aspect {aspect} are not believable; taken as square")
    return Fraction(1)


def _orientation(seen: Evidence) -> tuple[bool, int]:
    """Whether pictures are mirrored, and the quarter turns after that, in degrees."""
    mirrored, degrees = orientation(seen.frame)
    rotation = 90 * round(degrees / 90)
    if abs(degrees - rotation) > _TURN_TOLERANCE:
        seen.warnings.append(f"turned by {degrees:.4g} degrees counter-clockwise; shown to the nearest quarter turn")
    return mirrored, rotation % 360


def _notice_pixels(seen: Evidence) -> None:
    """Warn of what the RGB that is handed out does not show."""
    frame = seen.frame
    if frame.interlaced_frame:
        seen.warnings.append("interlaced: a frame holds two fields of different times, which are left interwoven")
    if (transfer := _HDR_TRANSFERS.get(frame.color_trc)) is not None:
        seen.warnings.append(f"high dynamic range ({transfer}): its values are left as they are, without tone mapping")
    if _has_transparency(seen):
        seen.warnings.append("partly transparent: the alpha channel is dropped")


def _has_transparency(seen: Evidence) -> bool:
    if any(component.is_alpha for component in seen.frame.format.components):
        return bool(seen.frame.reformat(format="rgba").to_ndarray()[..., 3].min() < _OPAQUE)
    return seen.stream.metadata.get("alpha_mode") == "1"
