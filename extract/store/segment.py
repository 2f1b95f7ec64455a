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
from extract.store.objects import LocalObjects
from extract.store.records import FeatureSequence, Receipt, UnstorableError, VideoFeatures, VideoRecord, to_json

Columns = tuple[NDArray[Any], ...]


def write(
    objects: LocalObjects, specs: tuple[Spec, ...], recipe_digest: str, videos: Sequence[VideoFeatures]
) -> Receipt:
    """Write ``videos`` as one new segment; every byte is durable on return.

    Raises:
        StoreError: a width other than the recipe's, or a value that the stored type cannot hold.
    """
    name = uuid4().hex
    segment = f"_segments/{name[:2]}/{name}"
    stored = [_stored_columns(video, specs) for video in videos]
    starts = accumulate((len(video.features) for video in videos), initial=0)
    records = tuple(
        _record(video, columns, segment, first) for video, columns, first in zip(videos, stored, starts, strict=False)
    )
    receipt = Receipt(segment=segment, recipe_digest=recipe_digest, videos=records)
    to_json(receipt.as_dict())
    contents = segment_objects(_segment_columns(specs, stored, records), _attributes(receipt))
    objects.put_all((f"{segment}/{key}", data) for key, data in contents)
    return receipt


def read(objects: LocalObjects, specs: tuple[Spec, ...], record: VideoRecord) -> FeatureSequence:
    """The clips of one video.

    Raises:
        StoreError: the bytes are not those that were written.
    """
    stored = [_read_rows(objects, spec, record) for spec in specs]
    expected = [spec.row_bytes * record.rows for spec in specs]
    if [len(data) for data in stored] != expected or _crc32(map(memoryview, stored)) != record.crc32:
        raise StoreError(
            f"{record.video_id}: the stored features are damaged (their CRC-32 is not {record.crc32:08x}). "
            f"Restore {objects.root / record.segment} from a copy, or extract again into another store"
        )
    columns: list[NDArray[Any]] = [
        np.frombuffer(data, spec.dtype).reshape(record.rows, *spec.row_shape)
        for spec, data in zip(specs, stored, strict=True)
    ]
    features, start_s, stop_s, real_frames, damaged = columns
    return FeatureSequence(features, start_s, stop_s, real_frames, damaged, record.duration_s)


def columns_of(sequence: FeatureSequence) -> Columns:
    """The arrays of ``sequence`` in the order of ``clip_specs``."""
    return (
        sequence.features,
        sequence.start_s,
        sequence.stop_s,
        sequence.real_frames,
        sequence.damaged,
    )


def _read_rows(objects: LocalObjects, spec: Spec, record: VideoRecord) -> bytearray:
    key = f"{record.segment}/{chunk_key(spec, 0)}"
    return objects.get_range(key, record.first_row * spec.row_bytes, record.rows * spec.row_bytes)


def _crc32(columns: Iterable[memoryview]) -> int:
    crc = 0
    for column in columns:
        crc = zlib.crc32(column, crc)
    return crc


def _stored_columns(video: VideoFeatures, specs: tuple[Spec, ...]) -> Columns:
    others = (video.start_s, video.stop_s, video.real_frames, video.damaged)
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


def _record(video: VideoFeatures, columns: Columns, segment: str, first_row: int) -> VideoRecord:
    return VideoRecord(
        video_id=video.video_id,
        fingerprint=video.fingerprint,
        status=video.status,
        duration_s=float(video.duration_s),
        segment=segment,
        first_row=first_row,
        rows=len(video.features),
        crc32=_crc32(column.data for column in columns),
        provenance=dict(video.provenance),
    )


def _segment_columns(
    specs: tuple[Spec, ...], stored: Sequence[Columns], records: Sequence[VideoRecord]
) -> list[tuple[Spec, NDArray[Any]]]:
    clips = [(spec, np.concatenate(parts)) for spec, parts in zip(specs, zip(*stored, strict=True), strict=True)]
    ids = np.array([record.video_id for record in records], dtype=object)
    sizes = np.array([record.rows for record in records], dtype=np.int64)
    return [*clips, (VIDEO_ID, ids), (ROW_SIZE, sizes)]


def _attributes(receipt: Receipt) -> Mapping[str, object]:
    return {"Conventions": "CF-1.11", "featureType": "timeSeries", "receipt": receipt.as_dict()}
