"""What a head says of videos, as it is written, read and shown.

T steps of a video, C labels.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.annotations.document import Document


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """Scores of all classes over one video.

    Attributes:
        centre_s: ``(T,)`` float64, middles of the steps in seconds, rising.
        values: ``(C, T)`` uint8, score times 255, rounded; rows in the order of ``Predictions.document.labels``.
    """

    centre_s: NDArray[np.float64]
    values: NDArray[np.uint8]

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.centre_s.shape != self.values.shape[1:]:
            raise ValueError(f"centre_s is {self.centre_s.shape}, values {self.values.shape}; expected (T,), (C, T)")


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Rows with scores, and what they were made with.

    Attributes:
        document: segments or boxes, with scores; ``media`` of each video with its duration, rate and size where known.
        curves: of each video whose head answers step by step; the segments are the runs at or above ``threshold``.
        threshold: what ``curves`` were cut at.
        sources: path of each video, where known.
        about: what made them (run, task, head, recipe, versions), as JSON values, free of secrets.
    """

    document: Document
    curves: Mapping[str, Curves] = field(default_factory=dict)
    threshold: float = 0.5
    sources: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
