"""The features of all videos in pieces of a few megabytes, for what goes over a whole store."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from extract.store.records import Part, VideoRecord


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive rows of a `Layout`: ``rows`` of them from ``row`` on. What `FeatureStore.features_of` reads.

    ``start``: their first among the published clips; ``part``: where they lie while they are not published.
    """

    row: int
    rows: int
    start: int
    part: Part | None = None

    def head(self, rows: int) -> "Block":
        """The first ``rows`` of it, or all where there are not more."""
        return replace(self, rows=min(rows, self.rows))


@dataclass(frozen=True, eq=False)
class Layout:
    """All rows of a store, video after video, in the order in which they lie.

    Attributes:
        video_ids: the videos.
        starts: (videos + 1,) int64, first row of each, and the number of all rows.
        blocks: the rows in pieces, in order.
    """

    video_ids: tuple[str, ...]
    starts: NDArray[np.int64]
    blocks: tuple[Block, ...]

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return int(self.starts[-1])

    def rows_of(self, video_id: str) -> slice:
        """The rows of one video; ValueError where it has none."""
        position = self.video_ids.index(video_id)
        return slice(int(self.starts[position]), int(self.starts[position + 1]))

    def touched(self, block: Block) -> Iterator[tuple[str, slice]]:
        """The videos that a block has rows of, with these rows counted in the video."""
        position, row = bisect_right(self.starts, block.row) - 1, block.row
        while row < block.row + block.rows:
            first, stop = int(self.starts[position]), int(self.starts[position + 1])
            last = min(stop, block.row + block.rows)
            if last > row:
                yield self.video_ids[position], slice(row - first, last - first)
            row, position = max(row, last), position + 1


def layout(latest: Sequence[tuple[VideoRecord, int]], *, published: int, most_rows: int) -> Layout:
    """The layout of videos that begin at these published clips, in their order; the first ``published`` are there."""
    sizes = [record.rows for record, _ in latest]
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)])
    blocks = [piece for run in _runs(latest, published) for piece in _pieces(run, most_rows)]
    return Layout(tuple(record.video_id for record, _ in latest), starts, tuple(blocks))


def _runs(latest: Sequence[tuple[VideoRecord, int]], published: int) -> Iterator[Block]:
    """The longest runs of rows that lie one after the other."""
    run: Block | None = None
    row = 0
    for record, start in latest:
        for part, first in _parts(record, start):
            new = Block(row, part.rows, first, None if first + part.rows <= published else part)
            joined = None if run is None else _joined(run, new)
            if run is not None and joined is None:
                yield run
            run = joined or new
            row += part.rows
    if run is not None:
        yield run


def _parts(record: VideoRecord, start: int) -> Iterator[tuple[Part, int]]:
    for part in record.parts:
        yield part, start
        start += part.rows


def _joined(run: Block, new: Block) -> Block | None:
    if run.part is None and new.part is None:
        return Block(run.row, run.rows + new.rows, run.start) if run.start + run.rows == new.start else None
    if run.part is None or new.part is None or run.part.segment != new.part.segment:
        return None
    if run.part.first_row + run.part.rows != new.part.first_row:
        return None
    part = Part(run.part.segment, run.part.first_row, run.part.rows + new.part.rows, 0)
    return Block(run.row, run.rows + new.rows, run.start, part)


def _pieces(run: Block, most_rows: int) -> Iterator[Block]:
    for first in range(0, run.rows, most_rows):
        rows = min(most_rows, run.rows - first)
        part = run.part and Part(run.part.segment, run.part.first_row + first, rows, 0)
        yield Block(run.row + first, rows, run.start + first, part)
