"""Which decoded frame is shown at which sample time: arithmetic only."""

import math
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Span:
    """Times with ``start_s`` <= time < ``stop_s``, in seconds on the container's clock."""

    start_s: float = -math.inf
    stop_s: float = math.inf

    def __contains__(self, time_s: float) -> bool:
        return self.start_s <= time_s < self.stop_s


@dataclass(frozen=True, slots=True)
class Samples:
    """Sample times start_s + k / fps within ``span``. A sample shows the last frame that is not later than it
    by more than ``tolerance_s``, which absorbs the rounding of the container's clock.
    """

    start_s: float
    fps: float
    tolerance_s: float
    span: Span

    def times(self, start: Fraction, stop: Fraction) -> list[float]:
        """Times of the samples that show the frame on display in [start, stop)."""
        numbers = range(self._first(float(start)), self._first(float(stop)))
        return [time for k in numbers if (time := self._time(k)) in self.span]

    def next_from(self, time: Fraction) -> float | None:
        """Time of the first sample that is not earlier than ``time``."""
        return self._time(self._first(float(time)))

    def _time(self, k: int) -> float:
        return self.start_s + k / self.fps

    def _first(self, time_s: float) -> int:
        """Number of the first sample that comes no earlier than ``time_s``, within the tolerance."""
        k = max(0, math.floor((time_s - self.tolerance_s - self.start_s) * self.fps) - 1)
        while self._time(k) + self.tolerance_s < time_s:
            k += 1
        return k


@dataclass(frozen=True, slots=True)
class EachFrame:
    """Every decoded frame within ``span``, at its own time."""

    span: Span
    tolerance_s: float = 0.0

    def times(self, start: Fraction, stop: Fraction) -> list[float]:  # noqa: ARG002
        """The frame's own time."""
        return [time] if (time := float(start)) in self.span else []

    def next_from(self, time: Fraction) -> float | None:  # noqa: ARG002
        """None: every frame is wanted."""
        return None
