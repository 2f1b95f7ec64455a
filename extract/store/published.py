"""Reading the published arrays: as byte ranges where the rows lie as this project writes them, by Zarr elsewhere."""

import numpy as np
import zarr

from extract.store.arrays import Spec, chunk_key, chunk_rows, shard_index, shard_rows
from extract.store.objects import Objects
from extract.store.publish import published_extent
from extract.store.segment import Columns, Data

_in_order: set[tuple[str, str]] = set()


def in_ranges(objects: Objects, specs: tuple[Spec, ...], start: int, rows: int) -> Columns | None:
    """``rows`` published clips from clip ``start`` on, as byte ranges; None where they do not lie so."""
    columns = []
    for spec in specs:
        data = _rows(objects, spec, shard_rows(specs[0]), start, rows)
        if data is None:
            return None
        columns.append(np.frombuffer(data, spec.dtype).reshape(rows, *spec.row_shape))
    return tuple(columns)


def through_zarr(objects: Objects, specs: tuple[Spec, ...], start: int, rows: int) -> Columns | None:
    """The same by Zarr's own means, for arrays that others have written anew; None where there are not so many."""
    extent = published_extent(objects)
    if extent is None or start + rows > extent.clips:
        return None
    group = zarr.open_group(objects.for_zarr(), mode="r", zarr_format=3, use_consolidated=False)
    try:
        return tuple(np.asarray(group[spec.name][start : start + rows], spec.dtype) for spec in specs)  # type: ignore[index]
    except ValueError:  # a codec's answer to damaged bytes
        return None


def _rows(objects: Objects, spec: Spec, shard: int, start: int, rows: int) -> Data | None:
    """The bytes of the rows, from one shard or several; None where they are not plain ranges."""
    pieces: list[Data] = []
    stop = start + rows
    while start < stop:
        number, first = divmod(start, shard)
        count = min(stop, (number + 1) * shard) - start
        if not _lies_in_order(objects, spec, shard, number):
            return None
        piece = objects.get_range(chunk_key(spec, number), first * spec.row_bytes, count * spec.row_bytes)
        if len(piece) < count * spec.row_bytes:
            return None
        pieces.append(piece)
        start += count
    return pieces[0] if len(pieces) == 1 else bytearray().join(pieces)


def _lies_in_order(objects: Objects, spec: Spec, shard: int, number: int) -> bool:
    """Whether a shard's index says that its chunks are uncompressed and in order; asked once, for they never move."""
    key, chunk_bytes = chunk_key(spec, number), chunk_rows(spec) * spec.row_bytes
    if (objects.url, key) in _in_order:
        return True
    index_bytes = len(shard_index(spec, 0, shard))
    chunks, rest = divmod((objects.size(key) or 0) - index_bytes, chunk_bytes)
    if rest or not 0 < chunks <= shard // chunk_rows(spec):
        return False
    if bytes(objects.get_range(key, chunks * chunk_bytes, index_bytes)) != shard_index(spec, chunks, shard):
        return False
    _in_order.add((objects.url, key))
    return True
