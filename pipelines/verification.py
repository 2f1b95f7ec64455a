"""Is everything in a store as it was written? Reads all of it, and names whatever is not."""

import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any, TypeAlias

import numpy as np
import xarray
from numpy.typing import NDArray

from extract.errors import MachineError, StoreError
from extract.store import FeatureStore
from extract.store.objects import objects_at

Progress = Callable[[int, int], None]  # clips checked, of how many

_THREADS = 4  # a video each, so this many are in memory
_PER_VIDEO = ("video_id", "row_size", "row_start", "crc32", "video_fingerprint")
_UNREADABLE = (ValueError, RuntimeError, KeyError, OSError)  # what Zarr and its codecs answer to damaged bytes
_RESTORE = "restore that object from a copy of the store, or extract into a new store"


@dataclass(frozen=True, slots=True)
class Damage:
    """Something that is not as it was written. ``where``: store (as videos are read by id), or published (as Zarr
    readers see it). ``video_id`` is empty where not one video is meant.
    """

    video_id: str
    where: str
    detail: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What a check found. ``published``: versions of videos in the published arrays; ``unpublished``: current videos
    that are not among them.
    """

    store: str
    videos: int
    clips: int
    published: int
    unpublished: int
    damaged: tuple[Damage, ...]


def verify_store(store: FeatureStore, on_progress: Progress = lambda _done, _total: None) -> Verification:
    """Read every video of the store and every published clip, and compare them with their checksums and with the log.

    In memory are four videos at a time, then a video and a shard. Safe beside writers: what they add meanwhile is left
    out.

    Raises:
        MachineError: the machine refuses to read.
    """
    damaged: list[Damage] = []
    table = None
    try:
        table = _open_published(store)
    except MachineError:
        raise
    except _UNREADABLE as error:
        damaged.append(Damage("", "published", f"what is published cannot be opened ({error}): {_RESTORE}"))
    store.refresh()  # the log is never behind what is published
    clips = sum(record.rows for record in store.catalogue.values())
    count = _Count(on_progress, clips + (table.clips if table else 0))
    damaged += _unreadable(store, count)
    if table:
        damaged += _misplaced(table)
        damaged += _unlike_log(table, store)
        if table.row_size.sum() == table.clips:  # otherwise nobody knows whose clips are whose
            damaged += _unlike_checksum(table, count)
    published = set(zip(table.ids, table.fingerprints, strict=True)) if table else set()
    unpublished = sum((key, record.fingerprint) not in published for key, record in store.catalogue.items())
    return Verification(store.url, len(store), clips, len(table.ids) if table else 0, unpublished, tuple(damaged))


@dataclass
class _Count:
    """Counts clips."""

    on_progress: Progress
    total: int
    done: int = 0

    def add(self, clips: int) -> None:
        self.done += clips
        self.on_progress(self.done, self.total)


def _unreadable(store: FeatureStore, count: _Count) -> Iterator[Damage]:
    """Videos that cannot be read by their ids."""

    def why_not(video_id: str) -> str:
        try:
            store[video_id]
        except StoreError as error:
            return str(error)
        return ""

    ids = iter(store)
    with ThreadPoolExecutor(_THREADS) as pool:
        while some := list(islice(ids, 16 * _THREADS)):
            for video_id, why in zip(some, pool.map(why_not, some), strict=True):
                if why:
                    yield Damage(video_id, "store", why)
                count.add(store.catalogue[video_id].rows)


@dataclass(frozen=True, eq=False)
class _Published:
    """The published arrays: those of each video in memory, those of each clip not.

    ``columns``: the names of the latter, as checksums cover them. ``clips`` and ``block`` are numbers of clips: of all,
    and of what is best read at once.
    """

    dataset: xarray.Dataset
    columns: tuple[str, ...]
    ids: list[str]
    fingerprints: list[str]
    row_size: NDArray[np.int64]
    row_start: NDArray[np.int64]
    crc32: NDArray[np.uint32]
    log_version: int

    @property
    def clips(self) -> int:
        return int(self.dataset.sizes["clip"])

    @property
    def block(self) -> int:
        return int(self.dataset["features"].encoding["shards"][0])


def _open_published(store: FeatureStore) -> _Published | None:
    """None where nothing is published yet."""
    try:
        arrays = objects_at(store.url).for_zarr()
        dataset = xarray.open_zarr(arrays, chunks=None, decode_cf=False, consolidated=True)
    except FileNotFoundError:
        return None
    ids, row_size, row_start, crc32, fingerprints = (dataset[name].values for name in _PER_VIDEO)
    return _Published(
        dataset,
        store.columns,
        [str(value) for value in ids],
        [str(value) for value in fingerprints],
        row_size,
        row_start,
        crc32,
        int(dataset.attrs["log_version"]),
    )


def _misplaced(table: _Published) -> Iterator[Damage]:
    """Videos that do not lie one after the other from the first clip to the last."""
    expected = np.cumsum(table.row_size) - table.row_size
    for at in np.flatnonzero(table.row_start != expected):
        detail = f"row_start is {table.row_start[at]}, but the videos before it end at {expected[at]}: {_RESTORE}"
        yield Damage(table.ids[at], "published", detail)
    if table.row_size.sum() != table.clips:
        detail = f"row_size adds up to {table.row_size.sum()} clips, there are {table.clips}: {_RESTORE}"
        yield Damage("", "published", detail)


def _unlike_checksum(table: _Published, count: _Count) -> Iterator[Damage]:
    """Published versions whose clips have another checksum than is published with them, or cannot be read."""
    for at, found in _checksums(table, count):
        if isinstance(found, str):
            yield Damage(table.ids[at], "published", f"its published clips cannot be read ({found}): {_RESTORE}")
        elif found != table.crc32[at]:
            detail = f"its published clips have CRC-32 {found:08x}, expected {table.crc32[at]:08x}: {_RESTORE}"
            yield Damage(table.ids[at], "published", detail)


def _unlike_log(table: _Published, store: FeatureStore) -> Iterator[Damage]:
    """Published versions that are not what the log says of them. It tells only of the latest of each video."""
    catalogue = store.catalogue
    for at, (video_id, fingerprint) in enumerate(zip(table.ids, table.fingerprints, strict=True)):
        record = catalogue.get(video_id)
        if record is None and table.log_version <= store.version:
            yield Damage(video_id, "published", f"it is published, but the log has no such video: {_RESTORE}")
        if record is None or record.fingerprint != fingerprint:
            continue
        found, expected = (int(table.row_size[at]), int(table.crc32[at])), (record.rows, record.crc32)
        if found != expected:
            detail = (
                f"published with {found[0]} clips, CRC-32 {found[1]:08x}; the log has {expected[0]} clips,"
                f" {expected[1]:08x}: {_RESTORE}"
            )
            yield Damage(video_id, "published", detail)


_Piece: TypeAlias = list[NDArray[Any]] | str  # some of a video's clips, by column; or why they cannot be read


def _pieces(table: _Published, count: _Count) -> Iterator[tuple[int, _Piece]]:
    """The clips of each published version, in order, with its position; a block of clips is read at a time."""
    stops = np.cumsum(table.row_size)
    for first in range(0, table.clips, table.block):
        stop = min(first + table.block, table.clips)
        block = _read(table, slice(first, stop))
        for at in range(int(np.searchsorted(stops, first, "right")), int(np.searchsorted(stops, stop)) + 1):
            inside = slice(max(int(stops[at] - table.row_size[at]), first) - first, min(int(stops[at]), stop) - first)
            yield at, block if isinstance(block, str) else [column[inside] for column in block]
        count.add(stop - first)


def _read(table: _Published, rows: slice) -> _Piece:
    try:
        return [table.dataset[name][rows].values for name in table.columns]
    except _UNREADABLE as error:
        return str(error) or type(error).__name__


def _checksums(table: _Published, count: _Count) -> Iterator[tuple[int, int | str]]:
    """CRC-32 of the clips of each published version that has some, by position; or why they cannot be read."""
    for at, pieces in groupby(_pieces(table, count), key=lambda piece: piece[0]):
        yield at, _crc32([columns for _, columns in pieces], len(table.columns))


def _crc32(pieces: list[_Piece], columns: int) -> int | str:
    """As checksums cover a video's clips: all of the first column, then all of the next."""
    crc = 0
    for column in range(columns):
        for piece in pieces:
            if isinstance(piece, str):
                return piece
            crc = zlib.crc32(piece[column].tobytes(), crc)
    return crc


def verification_json(found: Verification) -> dict[str, Any]:
    """What a check found as plain JSON values."""
    return {
        "store": found.store,
        "videos": found.videos,
        "clips": found.clips,
        "published": found.published,
        "unpublished": found.unpublished,
        "damaged": [{"video": each.video_id, "where": each.where, "detail": each.detail} for each in found.damaged],
    }


def verification_lines(found: Verification) -> Iterator[str]:
    """What a check found, for people."""
    yield f"{found.store}: {found.videos} videos, {found.clips} clips read; {found.published} published versions"
    if found.unpublished:
        yield f"{found.unpublished} videos are not published yet; `untrimmed compact` does that"
    if not found.damaged:
        yield "everything is as it was written"
        return
    yield f"{len(found.damaged)} damaged:"
    for each in found.damaged:
        yield f"  {each.video_id or 'the store'} ({each.where}): {each.detail}"
