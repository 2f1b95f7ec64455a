"""How long a video is: what its header declares, what its packets show, and which of them can be believed."""

import re
from fractions import Fraction

import av

from extract.video._head import Evidence

_ABSURD = 10
_ABSURD_GUESS = 100
_OWN_START_S = 1
_TELLING_PACKETS = 20
# Containers whose duration is the time of the end, counted from 0 and not from the first frame.
_ENDS = ("matroska", "flv", "nut", "asf")
_CLOCK_TIME = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")


def find_duration(seen: Evidence, interval: Fraction) -> tuple[Fraction | None, Fraction | None]:
    """Seconds that the header declares for the video (None where not believable), and the best known figure.

    ``interval``: usual seconds from frame to frame.
    """
    of_video, of_file = _declared(seen)
    found, exact = _found(seen, interval)
    how = "measured from the packets' times" if exact else "estimated from the first packets' bit rate"
    origin = "it is not known" if found is None else how
    if of_video is None and of_file is None:
        seen.warnings.append(f"the header holds no duration; {origin}")
        return None, found
    if of_video is None:
        return None, found if exact else of_file
    factor = _ABSURD if exact else _ABSURD_GUESS
    if found is not None and not found / factor <= of_video <= found * factor:
        seen.warnings.append(f"the header's duration of {float(of_video):.6g} s is absurd; {origin}")
        return None, found
    # Some containers declare the time of the last frame, not of its end.
    return of_video, max(of_video, found) if found is not None and seen.head.complete else of_video


def estimate_frames(seen: Evidence, duration: Fraction | None, interval: Fraction) -> int | None:
    """Number of frames, by all packets where they were read, otherwise by duration and rate."""
    if seen.head.complete:
        return len(seen.head.pts)
    return None if duration is None else round(duration / interval)


def _declared(seen: Evidence) -> tuple[Fraction | None, Fraction | None]:
    """Seconds that the header declares for the video stream, and for all streams together."""
    of_file = _of_file(seen)
    of_stream = _of_stream(seen)
    if of_stream is None:
        return (of_file if len(seen.container.streams) == 1 else None), of_file
    return (of_stream if of_file is None else min(of_stream, of_file)), of_file


def _of_stream(seen: Evidence) -> Fraction | None:
    first = _first_s(seen)
    if seen.format.startswith("matroska"):
        return _positive(_tagged_end(seen) - first)
    if seen.format.startswith(_ENDS):
        return None
    # Where FFmpeg met no packet of the stream on opening, it gives it the start and the duration of the file.
    start = (seen.stream.start_time or 0) * seen.time_base
    if first - start > _OWN_START_S:
        return None
    return _positive((seen.stream.duration or 0) * seen.time_base)


def _of_file(seen: Evidence) -> Fraction | None:
    duration = Fraction(seen.container.duration or 0, av.time_base)
    if duration <= 0:
        return None
    if seen.format.startswith(_ENDS):
        return _positive(duration - max(Fraction(0), _first_s(seen)))
    start = Fraction(seen.container.start_time or 0, av.time_base)
    late = max(Fraction(0), _first_s(seen) - start)
    return _positive(duration - (late if late > _OWN_START_S else 0))


def _tagged_end(seen: Evidence) -> Fraction:
    """The time at which a stream of Matroska ends, by its tag; 0 without."""
    match = _CLOCK_TIME.match(seen.stream.metadata.get("DURATION", ""))
    if match is None:
        return Fraction(0)
    hours, minutes, seconds = match.groups()
    return 3600 * int(hours) + 60 * int(minutes) + Fraction(seconds)


def _first_s(seen: Evidence) -> Fraction:
    return min(seen.head.known(), default=0) * seen.time_base


def _positive(seconds: Fraction) -> Fraction | None:
    return seconds if seconds > 0 else None


def _found(seen: Evidence, interval: Fraction) -> tuple[Fraction | None, bool]:
    """Duration by the packets' times, and whether all packets were counted."""
    head, index = seen.head, seen.stream.index_entries
    if not head.complete and seen.format.startswith("mov") and len(index) > 1:
        ticks = max(0, index[-1].timestamp - index[0].timestamp)
        return ticks * seen.time_base + interval, True
    known = head.known()
    if 2 * len(known) > len(head.pts):
        covered = (known[-1] - known[0]) * seen.time_base + interval
    else:
        covered = len(head.pts) * interval
    if head.complete:
        return covered, True
    read = max(head.last_position, head.n_bytes)
    known_size = seen.size_bytes and len(head.pts) >= _TELLING_PACKETS
    return (covered * seen.size_bytes / read if known_size else None), False
