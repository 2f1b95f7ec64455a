"""From the container's time stamps to strictly increasing times, and to how long each frame is shown."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

from extract.video._damage import frames_lost
from extract.video._decoded import Decoded
from extract.video._probe import Source
from extract.video._restarts import RESTART_S

_LATEST_S = 2**40
_HOLE_S = 10
_HOLE_INTERVALS = 5


@dataclass(frozen=True, slots=True)
class Timed:
    """A decoded frame with its time in seconds, and how that was found.

    ``doubtful``: its own time contradicts that of the frame before it; one of the two is wrong.
    """

    decoded: Decoded
    start: Fraction
    repaired: bool
    restarted: bool
    doubtful: bool = False

    def flagged(self) -> "Timed":
        """The same, with the frame flagged as damaged."""
        return replace(self, decoded=replace(self.decoded, damaged=True))


@dataclass(frozen=True, slots=True)
class Shown:
    """A frame on display in [start, stop) seconds.

    ``hole``: no frame is shown in this stretch after it. ``lost_from``: frames are missing from this time to
    ``stop``, in which this one is shown in their place.
    """

    timed: Timed
    stop: Fraction
    hole: tuple[Fraction, Fraction] | None = None
    lost_from: Fraction | None = None

    @property
    def start(self) -> Fraction:
        return self.timed.start

    @property
    def decoded(self) -> Decoded:
        return self.timed.decoded


class Clock:
    """Strictly increasing times for frames in display order."""

    def __init__(self, source: Source) -> None:
        self._interval, self._tick, self._counting = source.interval, source.time_base, source.counting
        self._constant = source.info.variable_rate is False
        self._last: Fraction | None = None
        self._guessed = False
        self._offset = Fraction(0)

    def timed(self, decoded: Decoded) -> Timed:
        """The next frame's time: its own, or one interval after the last where that cannot be right."""
        if self._counting:
            timed = Timed(decoded, self._interval * decoded.number, repaired=False, restarted=False)
        else:
            timed = self._by_container(decoded)
        self._last, self._guessed = timed.start, decoded.pts is None
        return timed

    def _by_container(self, decoded: Decoded) -> Timed:
        expected = Fraction(0) if self._last is None else self._last + self._interval
        if decoded.pts is None:
            return Timed(decoded, expected, repaired=True, restarted=False)
        if abs(decoded.pts) > _LATEST_S:
            return Timed(decoded, expected, repaired=True, restarted=False).flagged()
        time = decoded.pts + self._offset
        if self._last is None or time > self._last:
            return Timed(decoded, time, repaired=False, restarted=False)
        if self._last - time > RESTART_S:
            self._offset += expected - time
            return Timed(decoded, expected, repaired=False, restarted=True)
        return self._squeezed(decoded, time, self._last)

    def _squeezed(self, decoded: Decoded, time: Fraction, last: Fraction) -> Timed:
        """Just after the last frame, so that the next one can be at its own time again."""
        timed = Timed(decoded, last + min(self._tick, self._interval / 8), repaired=True, restarted=False)
        if time == last and not self._constant and not self._guessed:
            return timed
        return replace(timed, doubtful=True).flagged()


def displayed(frames: Iterable[Decoded], source: Source) -> Iterator[Shown]:
    """Each frame with its display: until the next frame, or for one average interval before a hole."""
    clock, limit = Clock(source), hole_limit(source.interval)
    held: Timed | None = None
    for decoded in frames:
        if decoded.after_skip:
            clock, held = Clock(source), None
        timed = clock.timed(decoded)
        if held is not None:
            yield _until(held.flagged() if timed.doubtful else held, timed.start, source, limit)
        held = timed
    if held is not None:
        yield _last(held, source, limit)


def hole_limit(interval: Fraction) -> Fraction:
    """Longest time in seconds between two frames that is not yet a hole."""
    return max(Fraction(_HOLE_S), _HOLE_INTERVALS * interval)


def _until(timed: Timed, stop: Fraction, source: Source, limit: Fraction) -> Shown:
    step, usual_stop = stop - timed.start, timed.start + source.interval
    if step > limit:
        return Shown(timed, usual_stop, hole=(usual_stop, stop))
    lost = frames_lost(source.info, step, source.interval, timed.decoded.duration)
    return Shown(timed, stop, lost_from=usual_stop if lost else None)


def _last(timed: Timed, source: Source, limit: Fraction) -> Shown:
    duration = timed.decoded.duration
    if duration is None or not 0 < duration <= limit:
        duration = source.interval
    return Shown(timed, timed.start + duration)
