"""What must hold before another library than PyAV is believed: the times that its frames have to have.

They come from the packets. A file in which they do not add up is refused, with the remedy.
"""

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
from av.packet import Packet
from av.video.stream import VideoStream

from extract.errors import VideoError
from extract.remote import is_url
from extract.video._clock import hole_limit
from extract.video._container import opened
from extract.video._damage import frames_lost
from extract.video._probe import Source
from extract.video._progress import advance

REMEDY = "read it with --decoder pyav"


@dataclass(frozen=True, slots=True)
class Planned:
    """When a frame is displayed, and for how long (None where the container does not say), in seconds."""

    pts: Fraction
    duration: Fraction | None


def refusal(decoder: str, path: str, why: str) -> VideoError:
    """The error for a file that ``decoder`` cannot be trusted with; its reason is ``<decoder>_refused``."""
    detail = f"{decoder}'s frames cannot be trusted here: {why}; {REMEDY}"
    return VideoError(path, f"{decoder}_refused", detail)


def local_path(source: Source, decoder: str) -> str:
    """The absolute path of the file; VideoError for a URL, which ``decoder`` is not asked to read."""
    if is_url(source.path):
        raise refusal(decoder, source.path, "it reads local files alone")
    return str(Path(source.path).absolute())


def planned_frames(source: Source, decoder: str, *, open_groups: bool) -> list[Planned]:
    """All frames that ``decoder`` has to give, in display order.

    ``open_groups``: whether it can be trusted where frames before a key frame follow it in the file.
    """
    if source.info.mirrored:
        raise refusal(decoder, source.path, "mirrored pictures")
    with opened(source.path) as (container, stream):
        try:
            ticks = [_ticks(packet) for packet in container.demux(stream)]
        except av.FFmpegError as error:
            raise refusal(decoder, source.path, f"packets that cannot be read ({type(error).__name__})") from error
    to_show = [packet for packet in ticks if packet is not None]
    timed = [(pts, duration, key) for pts, duration, key in to_show if pts is not None]
    if len(timed) < len(to_show):
        raise refusal(decoder, source.path, "packets without times")
    if not open_groups and _has_open_groups(timed):
        raise refusal(decoder, source.path, "open groups of pictures (frames before a key frame follow it)")
    base = source.time_base
    planned = [Planned(pts * base, duration * base or None) for pts, duration, _ in sorted(timed)]
    for shown, following in pairwise(planned):
        step = following.pts - shown.pts
        if not step:
            raise refusal(decoder, source.path, "frames that share one time")
        is_hole = step > hole_limit(source.interval)
        if not is_hole and frames_lost(source.info, step, source.interval, shown.duration):
            raise refusal(decoder, source.path, "frames are missing")
    return planned


def _ticks(packet: "Packet[VideoStream]") -> tuple[int | None, int, bool] | None:
    """Time stamp, duration, and whether it is a key frame; None for a packet that is not shown."""
    advance()
    if not packet.size or packet.is_discard:
        return None
    return packet.pts, packet.duration or 0, packet.is_keyframe


def _has_open_groups(ticks: list[tuple[int, int, bool]]) -> bool:
    """Whether a packet comes after a key frame that is displayed later."""
    latest_key: int | None = None
    for pts, _, key in ticks:
        if latest_key is not None and pts < latest_key:
            return True
        latest_key = pts if key else latest_key
    return False
