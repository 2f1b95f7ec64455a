"""Which frames a broken packet may have spoilt: all from the first sign of it to the next key frame."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction

from extract.video._decoded import BadPacket, Decoded, Event
from extract.video._records import VideoInfo

_LOST_INTERVALS = Fraction(3, 2)
_NEW_CLOCK_S = 1
_MOST_HELD = 8


def frames_lost(info: VideoInfo, step: Fraction, interval: Fraction, duration: Fraction | None) -> bool:
    """Whether frames are missing in a ``step`` of so many seconds from one frame to the next.

    Only a constant rate can tell, and only beyond the ``duration`` that the container gives the first frame. There
    a small step back is a sign of loss too; one of more than a second starts a new clock.
    """
    if info.variable_rate is not False or 0 < step <= interval:
        return False
    return -_NEW_CLOCK_S <= step <= 0 or step > _LOST_INTERVALS * max(interval, duration or 0)


def hindsight(events: Iterable[Event]) -> Iterator[Event]:
    """The same events, with the frames flagged that those after them show to be wrong."""
    return _beside_loss(_in_line(events))


def _in_line(events: Iterable[Event]) -> Iterator[Event]:
    """Takes the time from a lone frame that is far from its neighbours, where these are close to each other."""
    before: float | None = None
    time: float | None = None
    held: list[Event] = []
    for event in events:
        if isinstance(event, Decoded):
            after = None if event.pts is None else float(event.pts)
            if held and _stray(before, time, after):
                held[0] = replace(_flagged(held[0]), pts=None)
            else:
                before = time
            time = after
            yield from held
            held.clear()
        held.append(event)
    yield from held


def _stray(before: float | None, time: float | None, after: float | None) -> bool:
    if before is None or time is None or after is None:
        return False
    return abs(time - before) > _NEW_CLOCK_S >= after - before > 0 and abs(time - after) > _NEW_CLOCK_S


def _beside_loss(events: Iterable[Event]) -> Iterator[Event]:
    """Flags the frames before a loss that look ahead, for they may have been decoded from what is missing.

    Frames that look ahead are held back, a few at most, until the next one shows whether any are missing.
    """
    held: list[Event] = []
    for event in events:
        if isinstance(event, Decoded):
            lost, waits = event.after_loss, event.looks_ahead
            ready = len(held) if lost or not waits else max(0, len(held) - _MOST_HELD)
            yield from (_flagged(e) if lost else e for e in held[:ready])
            del held[:ready]
            if not waits:
                yield event
                continue
        held.append(event)
    yield from held


def _flagged(event: Event) -> Event:
    return event if isinstance(event, BadPacket) else replace(event, damaged=True)


class Damage:
    """Follows one decoder: told of each packet sent and each frame that came out, in the decoder's order.

    A key frame ends the damage only where it was sent after the broken packet. In decode order all packets
    before a key frame have earlier times, so comparing times decides.
    """

    def __init__(self) -> None:
        self._active = False
        self._clean_after: Fraction | None = None
        self._latest_sent: Fraction | None = None

    def sent(self, pts: Fraction | None, *, corrupt: bool) -> None:
        """A packet goes to the decoder."""
        if pts is not None and (self._latest_sent is None or self._is_later(pts, self._latest_sent)):
            self._latest_sent = pts
        if corrupt:
            self.failed()

    def failed(self) -> None:
        """The packet sent last could not be decoded."""
        self._active, self._clean_after = True, self._latest_sent

    def came_out(self, pts: Fraction | None, *, key: bool, corrupt: bool, after_loss: bool) -> bool:
        """Whether the frame that came out is damaged. ``after_loss``: frames before it are missing."""
        if corrupt or (after_loss and not key):
            self._active, self._clean_after = True, pts
        elif key and (pts is None or self._clean_after is None or self._is_later(pts, self._clean_after)):
            self._active = False
        return self._active

    @staticmethod
    def _is_later(pts: Fraction, other: Fraction) -> bool:
        return pts > other or other - pts > _NEW_CLOCK_S
