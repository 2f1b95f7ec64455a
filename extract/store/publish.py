"""The published arrays at the root, for xarray and every other Zarr reader.

What is published is a function of the log alone: the accepted versions in log order. Later publications only
add at the end; a rewritten last shard or chunk begins with the bytes that it had. So a reader of the old
metadata is right at every moment, and a publication cut short is finished by the next.
"""

import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.recipe import digest
from extract.store import segment
from extract.store.arrays import (
    VIDEO_CHUNK,
    VIDEO_SPECS,
    Spec,
    chunk_key,
    encode_chunk,
    encode_shard,
    published_metadata,
    shard_rows,
)
from extract.store.log import FORMAT_VERSION, Catalogue
from extract.store.objects import Objects
from extract.store.records import Part, VideoRecord

_STATUS_FLAGS = {"ok": 0, "partial": 1}


@dataclass(frozen=True)
class Extent:
    """How much is published."""

    clips: int
    videos: int


def publish(objects: Objects, specs: tuple[Spec, ...], recipe: Mapping[str, object], catalogue: Catalogue) -> None:
    """Bring the published arrays to the state of ``catalogue``; the caller holds the lock ``publish``."""
    before = published_extent(objects)
    after = Extent(catalogue.clips, len(catalogue.versions))
    if before == after:
        return
    done = before or Extent(0, 0)
    metadata = published_metadata(
        specs, n_clips=after.clips, n_videos=after.videos, attributes=_attributes(recipe, catalogue)
    )
    root = metadata.pop("zarr.json")
    objects.put_all(_clip_chunks(objects, specs, catalogue, done.clips))
    objects.put_all(_video_chunks(catalogue, done.videos))
    objects.put_all(metadata.items())
    objects.put_all([("zarr.json", root)])


def published_extent(objects: Objects) -> Extent | None:
    """What the root's metadata says, or None where nothing is published yet."""
    root = objects.get("zarr.json")
    if root is None:
        return None
    arrays = json.loads(root)["consolidated_metadata"]["metadata"]
    return Extent(arrays["features"]["shape"][0], arrays["row_size"]["shape"][0])


def _clip_chunks(
    objects: Objects, specs: tuple[Spec, ...], catalogue: Catalogue, done: int
) -> Iterator[tuple[str, bytes]]:
    """Every shard along ``clip`` that holds clips from ``done`` on."""
    rows = shard_rows(specs[0])
    for number, parts in _shards(objects, specs, catalogue, done // rows):
        for spec, pieces in zip(specs, zip(*parts, strict=True), strict=True):
            yield chunk_key(spec, number), encode_shard(spec, np.concatenate(pieces), rows)


def _shards(
    objects: Objects, specs: tuple[Spec, ...], catalogue: Catalogue, first: int
) -> Iterator[tuple[int, list[segment.Columns]]]:
    """From shard ``first`` on: its number, and the columns of the pieces of videos in it."""
    rows = shard_rows(specs[0])
    number, filled = first, 0
    parts: list[segment.Columns] = []
    done = first * rows
    for part in _parts_after(catalogue, done):
        columns = segment.read(objects, specs, part.part)
        if columns is None:
            raise segment.damaged(objects, part.record)
        taken = max(done - part.start, 0)
        while taken < part.part.rows:
            piece = slice(taken, taken + rows - filled)
            parts.append(tuple(column[piece] for column in columns))
            filled += len(parts[-1][0])
            taken += len(parts[-1][0])
            if filled == rows:
                yield number, parts
                number, filled, parts = number + 1, 0, []
    if parts:
        yield number, parts


@dataclass(frozen=True, slots=True)
class _Placed:
    """A part of ``record``, and where its clips begin among all published ones."""

    record: VideoRecord
    part: Part
    start: int


def _parts_after(catalogue: Catalogue, done: int) -> Iterator[_Placed]:
    """The parts, in order, that hold clips from ``done`` on. Their segments are there: no compaction took them."""
    for position in range(max(0, bisect_right(catalogue.starts, done) - 1), len(catalogue.versions)):
        record, start = catalogue.versions[position], catalogue.starts[position]
        for part in record.parts:
            if start + part.rows > done:
                yield _Placed(record, part, start)
            start += part.rows


def _video_chunks(catalogue: Catalogue, done: int) -> Iterator[tuple[str, bytes]]:
    """Every chunk along ``video`` that holds videos from ``done`` on."""
    for number in range(done // VIDEO_CHUNK, -(-len(catalogue.versions) // VIDEO_CHUNK)):
        part = slice(number * VIDEO_CHUNK, (number + 1) * VIDEO_CHUNK)
        columns = _video_columns(catalogue.versions[part], catalogue.starts[part], catalogue.replaces[part])
        for spec in VIDEO_SPECS:
            yield chunk_key(spec, number), encode_chunk(spec, columns[spec.name], VIDEO_CHUNK)


def _video_columns(records: list[VideoRecord], starts: list[int], replaces: list[int]) -> dict[str, NDArray[Any]]:
    """The published arrays along ``video``, by name."""
    return {
        "video_id": _text(record.video_id for record in records),
        "row_size": np.array([record.rows for record in records]),
        "row_start": np.array(starts),
        "video_duration": np.array([record.duration_s for record in records]),
        "video_status": np.array([_STATUS_FLAGS[record.status] for record in records]),
        "video_replaces": np.array(replaces),
        "video_fingerprint": _text(record.fingerprint for record in records),
        "video_provenance": _text(json.dumps(dict(record.provenance), sort_keys=True) for record in records),
        "crc32": np.array([record.crc32 for record in records]),
    }


def _text(values: Iterator[str]) -> NDArray[Any]:
    return np.array(list(values), dtype=object)


def _attributes(recipe: Mapping[str, object], catalogue: Catalogue) -> dict[str, object]:
    return {
        "Conventions": "CF-1.11",
        "featureType": "timeSeries",
        "title": "Clip features of video, contiguous ragged arrays",
        "format_version": FORMAT_VERSION,
        "log_version": catalogue.last_change,
        "recipe_digest": digest(recipe),
        "recipe": json.dumps(recipe, sort_keys=True),
    }
