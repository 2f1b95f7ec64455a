"""The published arrays at the root, for xarray and every other Zarr reader.

What is published is a function of the log alone: the accepted versions in log order. Later publications only
add at the end; a rewritten last shard or chunk begins with the bytes that it had. So a reader of the old
metadata is right at every moment, and a publication cut short is finished by the next.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
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
from extract.store.objects import LocalObjects
from extract.store.records import VideoRecord

_STATUS_FLAGS = {"ok": 0, "partial": 1}


@dataclass(frozen=True)
class _Extent:
    clips: int
    videos: int


def publish(objects: LocalObjects, specs: tuple[Spec, ...], recipe: Mapping[str, object], catalogue: Catalogue) -> None:
    """Bring the published arrays to the state of ``catalogue``; the caller holds the lock ``publish``."""
    before = _published_extent(objects)
    after = _Extent(sum(record.rows for record in catalogue.versions), len(catalogue.versions))
    if before == after:
        return
    done = before or _Extent(0, 0)
    metadata = published_metadata(
        specs, n_clips=after.clips, n_videos=after.videos, attributes=_attributes(recipe, catalogue)
    )
    root = metadata.pop("zarr.json")
    objects.put_all(_clip_chunks(objects, specs, catalogue.versions, done.clips))
    objects.put_all(_video_chunks(catalogue, done.videos))
    objects.put_all(metadata.items())
    objects.put_all([("zarr.json", root)])


def _published_extent(objects: LocalObjects) -> _Extent | None:
    root = objects.get("zarr.json")
    if root is None:
        return None
    arrays = json.loads(root)["consolidated_metadata"]["metadata"]
    return _Extent(arrays["features"]["shape"][0], arrays["row_size"]["shape"][0])


def _clip_chunks(
    objects: LocalObjects, specs: tuple[Spec, ...], versions: list[VideoRecord], done: int
) -> Iterator[tuple[str, bytes]]:
    """Every shard and chunk along ``clip`` that holds clips from ``done`` on."""
    rows = shard_rows(specs[0])
    for number, parts in _shards(objects, specs, versions, done // rows):
        features, *others = [np.concatenate(columns) for columns in zip(*parts, strict=True)]
        yield chunk_key(specs[0], number), encode_shard(specs[0], features)
        for spec, values in zip(specs[1:], others, strict=True):
            yield chunk_key(spec, number), encode_chunk(spec, values, rows)


def _shards(
    objects: LocalObjects, specs: tuple[Spec, ...], versions: list[VideoRecord], first: int
) -> Iterator[tuple[int, list[segment.Columns]]]:
    """From shard ``first`` on: its number, and the columns of the pieces of videos in it."""
    rows = shard_rows(specs[0])
    number, filled = first, 0
    parts: list[segment.Columns] = []
    for start, record in zip(_starts(versions), versions, strict=True):
        if start + record.rows <= first * rows:
            continue
        columns = segment.columns_of(segment.read(objects, specs, record))
        taken = max(first * rows - start, 0)
        while taken < record.rows:
            piece = slice(taken, taken + rows - filled)
            parts.append(tuple(column[piece] for column in columns))
            filled += len(parts[-1][0])
            taken += len(parts[-1][0])
            if filled == rows:
                yield number, parts
                number, filled, parts = number + 1, 0, []
    if parts:
        yield number, parts


def _video_chunks(catalogue: Catalogue, done: int) -> Iterator[tuple[str, bytes]]:
    """Every chunk along ``video`` that holds videos from ``done`` on."""
    starts = _starts(catalogue.versions)
    for number in range(done // VIDEO_CHUNK, -(-len(catalogue.versions) // VIDEO_CHUNK)):
        part = slice(number * VIDEO_CHUNK, (number + 1) * VIDEO_CHUNK)
        columns = _video_columns(catalogue.versions[part], starts[part], catalogue.replaces[part])
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
        "video_provenance": _text(json.dumps(record.provenance, sort_keys=True) for record in records),
        "crc32": np.array([record.crc32 for record in records]),
    }


def _text(values: Iterator[str]) -> NDArray[Any]:
    return np.array(list(values), dtype=object)


def _starts(versions: list[VideoRecord]) -> list[int]:
    return list(accumulate((record.rows for record in versions), initial=0))[:-1]


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
