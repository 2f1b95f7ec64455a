"""Figures of a labelled timeline, frame by frame and segment by segment. T frames, S segments."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

OVERLAPS = (0.10, 0.25, 0.50)


class Runs(NamedTuple):
    """Segments of one label each: ``labels`` ``(S,)``, and frames ``start`` to ``stop`` ``(S,)``, half open."""

    labels: NDArray[np.str_]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Counts:
    """Of one video: frames that are right and frames in all; ``edit`` in percent, None where truth and prediction are
    all background; true and false positives and misses at each overlap.
    """

    right: int
    frames: int
    edit: float | None
    hits: tuple[int, ...]
    false: tuple[int, ...]
    missed: tuple[int, ...]


def runs_of(labels: NDArray[np.str_], background: Collection[str] = ()) -> Runs:
    """Runs of equal labels of ``(T,)`` frames, without those of background."""
    if len(labels) == 0:
        return Runs(labels, np.zeros(0, np.int64), np.zeros(0, np.int64))
    start = np.flatnonzero(np.append(True, labels[1:] != labels[:-1]))
    stop = np.append(start[1:], len(labels))
    kept = ~np.isin(labels[start], list(background))
    return Runs(labels[start][kept], start[kept], stop[kept])


def segmental_counts(
    truth: NDArray[np.str_],
    predicted: NDArray[np.str_],
    *,
    background: Collection[str] = ("background",),
    overlaps: Sequence[float] = OVERLAPS,
) -> Counts:
    """What one video adds to accuracy, edit score and F1 (Lea et al. 2017; MS-TCN's `eval.py`, Farha and Gall 2019).

    Every frame counts for the accuracy, background too. For F1 each predicted segment, in order of time, looks at the
    true segment of its label that it overlaps most (the first of equals): it is right when the overlap over the hull is
    enough and the segment was not hit before. The edit score is 100 less the percentage of the longer list of segments
    that a Levenshtein distance needs.

    Args:
        truth: ``(T,)`` labels.
        predicted: labels; frames beyond ``T`` count for segments alone, missing frames are wrong.
        background: labels that make no segment.
        overlaps: of F1.
    """
    frames = min(len(truth), len(predicted))
    true, found = runs_of(truth, background), runs_of(predicted, background)
    hits = tuple(_hits(true, found, overlap) for overlap in overlaps)
    return Counts(
        right=int((truth[:frames] == predicted[:frames]).sum()),
        frames=len(truth),
        edit=edit_score(true.labels.tolist(), found.labels.tolist()),
        hits=hits,
        false=tuple(len(found.labels) - hit for hit in hits),
        missed=tuple(len(true.labels) - hit for hit in hits),
    )


def edit_score(truth: Sequence[str], predicted: Sequence[str]) -> float | None:
    """100 · (1 - Levenshtein distance / length of the longer list); None for two empty ones."""
    longer = max(len(truth), len(predicted))
    if longer == 0:
        return None
    row = list(range(len(truth) + 1))
    for i, label in enumerate(predicted, start=1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(truth, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (label != other))
    return 100 * (1 - row[-1] / longer)


def _hits(true: Runs, found: Runs, enough: float) -> int:
    free = np.ones(len(true.labels), np.bool_)
    count = 0
    for label, start, stop in zip(*found, strict=True):
        same = np.flatnonzero(true.labels == label)
        if len(same) == 0:
            continue
        shared = np.minimum(stop, true.stop[same]) - np.maximum(start, true.start[same])
        overlap = shared / (np.maximum(stop, true.stop[same]) - np.minimum(start, true.start[same]))
        best = same[overlap.argmax()]
        if overlap.max() >= enough and free[best]:
            free[best] = False
            count += 1
    return count
