"""The cosine of every row of a store with one direction, in a stream.

R rows, D feature width.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from extract.store import Block, FeatureStore, Layout

_CENTRE_ROWS = 16_384
_CACHED_BYTES = 2**20  # of rows as float32 at a time: they stay in a core's cache
_TINY = 1e-20


def centre_of(store: FeatureStore, laid: Layout) -> NDArray[np.float32]:
    """(D,): the mean of the store's rows; where there are more than 16,384, of about as many, spread over all."""
    each = -(-_CENTRE_ROWS // len(laid.blocks))
    total, rows = 0.0, 0
    for block in laid.blocks:
        features = store.features_of(laid, block.head(each))
        total = total + features.sum(0, dtype=np.float64)
        rows += len(features)
    return np.asarray(total / rows, np.float32)


def cosines(
    store: FeatureStore,
    laid: Layout,
    direction: NDArray[np.float32],
    centre: NDArray[np.float32],
    *,
    threads: int | None = None,
) -> NDArray[np.float32]:
    """(R,): the cosine of ``direction`` (D,) with every row of the store after ``centre`` (D,) was taken from it.

    Of rows as stored, in float32; no approximation. A row that is the centre itself has 0. Beside these numbers,
    memory holds one block for each thread.
    """
    found = np.zeros(laid.rows, np.float32)
    unit = torch.from_numpy(direction / max(float(np.linalg.norm(direction)), _TINY))
    middle = torch.from_numpy(centre)

    def work(block: Block) -> None:
        row = block.row
        for piece in _pieces(store.features_of(laid, block)):
            piece -= middle
            lengths = torch.linalg.vector_norm(piece, dim=1).clamp_min_(_TINY)
            found[row : row + len(piece)] = (torch.mv(piece, unit) / lengths).numpy()
            row += len(piece)

    with _one_thread_each(), ThreadPoolExecutor(threads or len(os.sched_getaffinity(0))) as pool:
        for _ in pool.map(work, laid.blocks):
            pass
    return np.nan_to_num(found, copy=False, nan=-1.0)


def _pieces(features: NDArray[np.floating]) -> Iterator[torch.Tensor]:
    """Rows as float32, a few at a time, in memory that the next ones take."""
    count = max(1, _CACHED_BYTES // (4 * features.shape[1]))
    buffer = torch.empty(min(count, len(features)), features.shape[1])
    for first in range(0, len(features), count):
        rows = torch.from_numpy(features[first : first + count])
        yield buffer[: len(rows)].copy_(rows)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Torch's operations stay in the thread that calls them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
