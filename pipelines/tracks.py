"""Boxes of consecutive seconds linked to tracks. N boxes."""

import numpy as np
from numpy.typing import NDArray

from extract.boxes import Boxes


def link(boxes: Boxes, *, every_s: float = 1.0, least_iou: float = 0.5) -> NDArray[np.int64]:
    """Number of the track of each box, (N,): from 0 on, in the order in which tracks begin.

    Boxes of key seconds ``every_s`` apart are matched one to one such that the sum of their IoU is largest (Hungarian
    method; Gu et al., "AVA", CVPR 2018, link their annotated people so, by the likeness of an embedding in place of
    IoU); pairs of a smaller IoU than ``least_iou`` are none. A track ends with the first key second in which its
    person is not found.
    """
    seconds, first = np.unique(boxes.second, return_index=True)
    stops = np.append(first, len(boxes))[1:]
    tracks = np.full(len(boxes), -1, np.int64)
    begun = 0
    for at, (start, stop) in enumerate(zip(first, stops, strict=True)):
        if at and seconds[at] - seconds[at - 1] < 1.5 * every_s:
            before = slice(first[at - 1], start)
            for old, new in _pairs(boxes.box[before], boxes.box[start:stop], least_iou):
                tracks[start + new] = tracks[before][old]
        fresh = np.flatnonzero(tracks[start:stop] < 0) + start
        tracks[fresh] = begun + np.arange(len(fresh))
        begun += len(fresh)
    return tracks


def ious(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> NDArray[np.float64]:
    """IoU of each of our boxes (N, 4) with each of theirs (M, 4): (N, M)."""
    one, other = ours.astype(np.float64)[:, None], theirs.astype(np.float64)[None]
    low, high = np.maximum(one[..., :2], other[..., :2]), np.minimum(one[..., 2:], other[..., 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=-1)
    areas = [np.prod(each[..., 2:] - each[..., :2], axis=-1) for each in (one, other)]
    found: NDArray[np.float64] = shared / (areas[0] + areas[1] - shared)
    return found


def _pairs(before: NDArray[np.float32], now: NDArray[np.float32], least_iou: float) -> list[tuple[int, int]]:
    """The pairs (place in ``before``, place in ``now``) that go together."""
    from scipy.optimize import linear_sum_assignment

    likeness = ious(before, now)
    likeness[likeness < least_iou] = 0  # so that no good pair is given up for one that counts for nothing
    old, new = linear_sum_assignment(likeness, maximize=True)
    return [(i, j) for i, j in zip(old.tolist(), new.tolist(), strict=True) if likeness[i, j] > 0]
