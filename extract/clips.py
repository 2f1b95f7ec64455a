"""The clip grid: the only place that converts clip, sampled frame and second into each other.

*Samples* are the frames of one video at the sample rate, numbered from 0: the decoded frames themselves
(``fps="native"``), or the frame shown at each time ``k / fps`` after the first displayed frame.
"""

import math
from dataclasses import dataclass

from extract.errors import UsageError


@dataclass(frozen=True, slots=True)
class ClipGrid:
    """Clips of ``clip_frames`` samples, ``frame_stride`` apart, starting every ``hop`` samples.

    Raises:
        UsageError: a value below 1.
    """

    clip_frames: int
    frame_stride: int
    hop: int

    def __post_init__(self) -> None:
        for name in ("clip_frames", "frame_stride", "hop"):
            value = getattr(self, name)
            if value < 1:
                raise UsageError(f"{name} is {value}; expected a whole number of at least 1")

    @property
    def span(self) -> int:
        """Samples from a clip's first to its last frame, both counted."""
        return (self.clip_frames - 1) * self.frame_stride + 1

    def count(self, n_samples: int) -> int:
        """Number of clips of a stretch of ``n_samples``: all full ones, and a last partial one (the tail)
        when samples would otherwise be left over. A stretch shorter than a clip gives one clip, an empty
        one none.
        """
        if n_samples <= 0:
            return 0
        full_and_tail = math.ceil(max(0, n_samples - self.span) / self.hop) + 1
        return min(full_and_tail, math.ceil(n_samples / self.hop))

    def first_sample(self, clip: int) -> int:
        """Sample number of the first frame of ``clip``."""
        return clip * self.hop

    def samples(self, clip: int, n_samples: int) -> tuple[list[int], int]:
        """Sample numbers of the ``clip_frames`` frames of ``clip``, and how many of them are real.

        Numbers past the stretch's end are replaced by its last sample (the tail's padding).
        """
        wanted = range(self.first_sample(clip), self.first_sample(clip) + self.span, self.frame_stride)
        real = sum(k < n_samples for k in wanted)
        return [min(k, n_samples - 1) for k in wanted], real
