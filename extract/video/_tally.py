"""Counting what happened while frames of a span were read."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction

from extract.video._clock import Shown
from extract.video._decoded import BadPacket
from extract.video._probe import Source
from extract.video._records import ReadReport
from extract.video._sampling import Span

# Headers may be wrong by a little: by this share, up to these seconds, and by some frames in any case.
_SHORT_SHARE = Fraction(2, 100)
_SHORT_S = Fraction(2)
_SHORT_INTERVALS = 5
_REMEMBERED = 1000  # stretches of what may never end


@dataclass
class Tally:
    """What is counted belongs to the span that its time lies in, so that the counts of spans add up."""

    source: Source
    span: Span
    decoded_frames: int = 0
    bad_packets: int = 0
    damaged_frames: int = 0
    repaired_times: int = 0
    clock_restarts: int = 0
    damaged_spans: deque[tuple[Fraction, Fraction]] = field(init=False)
    holes: deque[tuple[Fraction, Fraction]] = field(init=False)
    last: Shown | None = None
    finished: bool = False
    file_ended: bool = False

    def __post_init__(self) -> None:
        most = None if self.source.feed is None else _REMEMBERED
        self.damaged_spans, self.holes = deque(maxlen=most), deque(maxlen=most)

    def packet(self, bad: BadPacket) -> bool:
        """Count a bad packet; whether it lies in the span."""
        time = self.source.interval * bad.number if self.source.counting else bad.pts
        inside = time is None or float(time) in self.span
        self.bad_packets += inside
        return inside

    def frame(self, shown: Shown) -> bool:
        """Count a frame; whether it lies in the span."""
        inside = float(shown.start) in self.span
        if inside:
            self.decoded_frames += 1
            self.damaged_frames += shown.decoded.damaged
            self.repaired_times += shown.timed.repaired
            self.clock_restarts += shown.timed.restarted
            self._stretches(shown)
        if inside or float(shown.start) < self.span.start_s < float(shown.stop):
            self.last = shown
        return inside

    def _stretches(self, shown: Shown) -> None:
        if shown.hole is not None:
            self.holes.append(shown.hole)
        start = shown.start if shown.decoded.damaged else shown.lost_from
        if start is None:
            return
        if self.damaged_spans and self.damaged_spans[-1][1] == start:
            start = self.damaged_spans.pop()[0]
        self.damaged_spans.append((start, shown.stop))

    def _short_by(self) -> Fraction:
        """Declared seconds that nothing showed, where the file was read to its end."""
        declared, last = self.source.declared, self.last
        if declared is None or last is None or not self.file_ended:
            return Fraction(0)
        missing = Fraction(self.source.info.start_s) + declared - last.stop
        forgiven = max(min(_SHORT_SHARE * declared, _SHORT_S), _SHORT_INTERVALS * self.source.interval)
        return missing if missing > forgiven else Fraction(0)

    def report(self, decoder: str, library: str, warnings: tuple[str, ...]) -> ReadReport:
        """The counts as they stand."""
        return ReadReport(
            decoder=decoder,
            library=library,
            finished=self.finished,
            decoded_frames=self.decoded_frames,
            bad_packets=self.bad_packets,
            damaged_frames=self.damaged_frames,
            damaged_spans_s=_floats(self.damaged_spans),
            repaired_times=self.repaired_times,
            clock_restarts=self.clock_restarts,
            holes_s=_floats(self.holes),
            last_frame_s=None if self.last is None else float(self.last.start),
            display_end_s=None if self.last is None else float(self.last.stop),
            short_by_s=float(self._short_by()),
            warnings=warnings,
        )


def _floats(stretches: Iterable[tuple[Fraction, Fraction]]) -> tuple[tuple[float, float], ...]:
    return tuple((float(start), float(stop)) for start, stop in stretches)
