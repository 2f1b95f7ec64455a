"""Segments: what one unit of work writes, under a new name, never to be changed."""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from extract.errors import StoreError
from extract.store.arrays import ROW_SIZE, VIDEO_ID, Spec, chunk_key, segment_objects
from extract.store.objects import Objects
from extract.store.records import (
    Part,
    Receipt,
    SpanRecord,
    UnstorableError,
    VideoFeatures,
    VideoRecord,
    to_json,
)

Columns = tuple[NDArray[Any], ...]
Data = bytearray | memoryview
FOLDER = "_segments"


def write(objects: Objects, specs: tuple[Spec, ...], recipe_digest: str, videos: Sequence[VideoFeatures]) -> Receipt:
    """Write ``videos`` as one new segment; every byte is durable on return.

    Raises:
        StoreError: a width other than the recipe's, or a value that the stored type cannot hold.
    """
    name = uuid4().hex
    segment = f"{FOLDER}/{name[:2]}/{name}"
    stored = [_stored_columns(video, specs) for video in videos]
    starts = accumulate((len(video.features) for video in videos), initial=0)
    parts = [
        Part(segment, first, len(video.features), crc32_of(columns))
        for video, columns, first in zip(videos, stored, starts, strict=False)
    ]
    receipt = Receipt(
        segment=segment,
        recipe_digest=recipe_digest,
        videos=tuple(_record(v, part) for v, part in zip(videos, parts, strict=True) if v.span is None),
        spans=tuple(
            _span(video, part, columns)
            for video, part, columns in zip(videos, parts, stored, strict=True)
            if video.span is not None
        ),
    )
    to_json(receipt.as_dict())
    contents = segment_objects(_segment_columns(specs, videos, stored), _attributes(receipt))
    objects.put_all((f"{segment}/{key}", data) for key, data in contents)
    return receipt


def read(objects: Objects, specs: tuple[Spec, ...], part: Part) -> Columns | None:
    """The clips of ``part``; None where an object is missing or too short, or the bytes are not those written."""
    stored = [_read_rows(objects, spec, part) for spec in specs]
    if [len(data) for data in stored] != [spec.row_bytes * part.rows for spec in specs]:
        return None
    if _crc32(stored) != part.crc32:
        return None
    return tuple(
        np.frombuffer(data, spec.dtype).reshape(part.rows, *spec.row_shape)
        for spec, data in zip(specs, stored, strict=True)
    )


def name_in(key: str) -> str:
    """The segment that the object ``key`` belongs to, as `Part` names it."""
    return "/".join(key.split("/")[:3])


def damaged(objects: Objects, record: VideoRecord) -> StoreError:
    """The error for stored bytes of a video that are not those that were written."""
    places = ", ".join(dict.fromkeys(f"{objects.url}/{part.segment}" for part in record.parts))
    return StoreError(
        f"{record.video_id}: the stored features are damaged (their CRC-32 is not {record.crc32:08x}). "
        f"Restore {places} from a copy, or extract again into another store"
    )


def crc32_of(columns: Iterable[NDArray[Any]]) -> int:
    """CRC-32 of the bytes of arrays, one after the other."""
    return _crc32(column.data for column in columns)


def _read_rows(objects: Objects, spec: Spec, part: Part) -> Data:
    key = f"{part.segment}/{chunk_key(spec, 0)}"
    return objects.get_range(key, part.first_row * spec.row_bytes, part.rows * spec.row_bytes)


def _crc32(columns: Iterable[Data]) -> int:
    crc = 0
    for column in columns:
        crc = zlib.crc32(column, crc)
    return crc


def _stored_columns(video: VideoFeatures, specs: tuple[Spec, ...]) -> Columns:
    others: Columns = (video.start_s, video.stop_s, video.real_frames, video.damaged)
    if video.box is not None and video.box_score is not None and video.second is not None:
        others = (*others, video.box, video.box_score, video.second)
    if 1 + len(others) != len(specs):
        raise StoreError(
            f"{video.video_id}: features are of {'clips' if video.box is None else 'boxes'}; the recipe of this store "
            "says otherwise. Use another store"
        )
    return (_stored_features(video, specs[0]), *(np.ascontiguousarray(column) for column in others))


def _stored_features(video: VideoFeatures, spec: Spec) -> NDArray[Any]:
    width = video.features.shape[1]
    if (width,) != spec.row_shape:
        raise StoreError(
            f"{video.video_id}: features are {width} wide; the recipe of this store says "
            f"{spec.row_shape[0]}. Use the backbone and layer of the recipe, or another store"
        )
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(video.features, dtype=spec.dtype)
    if not np.isfinite(stored).all():
        raise _does_not_fit(video, stored)
    return stored


def _does_not_fit(video: VideoFeatures, stored: NDArray[Any]) -> UnstorableError:
    clip, channel = np.argwhere(~np.isfinite(stored))[0]
    value = video.features[clip, channel]
    remedy = (
        f"it ends at {np.finfo(stored.dtype).max}; extract with stored_dtype float32 into another store"
        if np.isfinite(value)
        else "the backbone itself computed it; extract with precision fp32 and check the weights"
    )
    detail = f"clip {clip}, channel {channel}: {value} cannot be stored as {stored.dtype}: {remedy}"
    return UnstorableError(video.video_id, detail)


def _record(video: VideoFeatures, part: Part) -> VideoRecord:
    return VideoRecord(
        video_id=video.video_id,
        fingerprint=video.fingerprint,
        status=video.status,
        duration_s=float(video.duration_s),
        parts=(part,),
        crc32=part.crc32,
        provenance=dict(video.provenance),
    )


def _span(video: VideoFeatures, part: Part, columns: Columns) -> SpanRecord:
    assert video.span is not None  # noqa: S101
    return SpanRecord(
        video_id=video.video_id,
        fingerprint=video.fingerprint,
        status=video.status,
        duration_s=float(video.duration_s),
        first_clip=video.span.first_clip,
        ends=video.span.ends,
        part=part,
        column_crc32=tuple(crc32_of([column]) for column in columns),
        provenance=dict(video.provenance),
        clips=part.rows if video.span.clips is None else video.span.clips,
    )


def _segment_columns(
    specs: tuple[Spec, ...], videos: Sequence[VideoFeatures], stored: Sequence[Columns]
) -> list[tuple[Spec, NDArray[Any]]]:
    clips = [(spec, np.concatenate(parts)) for spec, parts in zip(specs, zip(*stored, strict=True), strict=True)]
    ids = np.array([video.video_id for video in videos], dtype=object)
    sizes = np.array([len(video.features) for video in videos], dtype=np.int64)
    return [*clips, (VIDEO_ID, ids), (ROW_SIZE, sizes)]


def _attributes(receipt: Receipt) -> Mapping[str, object]:
    return {"Conventions": "CF-1.11", "featureType": "timeSeries", "receipt": receipt.as_dict()}
