"""The arrays of a store as Zarr v3: their names, types and attributes, and their encoding into objects.

A segment holds each array in one uncompressed chunk, so that the rows of a video are a byte range. The
published arrays along ``clip`` are in uncompressed shards whose chunks lie in order from byte 0: rows are byte ranges
there too, and a longer version of a shard keeps every old chunk where it was. Those along ``video`` are compressed.
The sizes below are part of the format: changing one needs a new format version.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.buffer import Buffer
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.storage import MemoryStore

CHUNK_ROWS = 64  # of features
TIME_CHUNK_ROWS = 1_024  # of times, counts and flags
SHARD_BYTES = 64 * 2**20
MAX_SHARD_ROWS = 65_536
VIDEO_CHUNK = 4_096

_ABSENT = 2**64 - 1
_KEYS: Any = {"name": "default", "separator": "."}
_CONFIG: Any = {"write_empty_chunks": True}


@dataclass(frozen=True, eq=False)
class Spec:
    """One array: ``row_shape`` is what follows its first dimension."""

    name: str
    dimensions: tuple[str, ...]
    dtype: str
    fill: float | str
    attributes: Mapping[str, Any]
    row_shape: tuple[int, ...] = field(default=())

    @cached_property
    def row_bytes(self) -> int:
        """Bytes of one row in a segment."""
        return np.dtype(self.dtype).itemsize * math.prod(self.row_shape)


def clip_specs(dtype: str, width: int, *, boxes: bool = False) -> tuple[Spec, ...]:
    """The arrays along ``clip``, in the order that checksums cover them; with ``boxes`` each row is one of a clip."""
    times = "clip_start clip_stop"
    clips = (
        Spec(
            "features",
            ("clip", "feature"),
            dtype,
            float("nan"),
            {"long_name": "clip features of a frozen backbone", "coordinates": times},
            (width,),
        ),
        Spec(
            "clip_start",
            ("clip",),
            "float64",
            float("nan"),
            {
                "standard_name": "time",
                "long_name": "start of the clip in its video",
                "units": "s",
                "axis": "T",
            },
        ),
        Spec(
            "clip_stop",
            ("clip",),
            "float64",
            float("nan"),
            {"long_name": "end of the clip in its video, not included", "units": "s"},
        ),
        Spec(
            "clip_real_frames",
            ("clip",),
            "int32",
            0,
            {"long_name": "frames of the clip that are not padding", "units": "1", "coordinates": times},
        ),
        Spec(
            "clip_damaged",
            ("clip",),
            "bool",
            False,
            {"long_name": "the clip holds frames of a damaged stretch", "coordinates": times},
        ),
    )
    return (*clips, *_BOX_SPECS) if boxes else clips


_TIMES = "clip_start clip_stop"
_BOX_SPECS = (
    Spec(
        "box",
        ("clip", "corner"),
        "float32",
        float("nan"),
        {
            "long_name": "x1, y1, x2, y2 of the box, in parts of the frame from its top left",
            "units": "1",
            "coordinates": _TIMES,
        },
        (4,),
    ),
    Spec(
        "box_score",
        ("clip",),
        "float32",
        float("nan"),
        {"long_name": "how sure the box is", "units": "1", "coordinates": _TIMES},
    ),
    Spec(
        "second",
        ("clip",),
        "float64",
        float("nan"),
        {"long_name": "when the box was seen in its video", "units": "s", "coordinates": _TIMES},
    ),
)


ROW_SIZE = Spec(
    "row_size",
    ("video",),
    "int64",
    0,
    {"long_name": "number of clips of the video", "sample_dimension": "clip", "coordinates": "video_id"},
)
VIDEO_ID = Spec("video_id", ("video",), "string", "", {"long_name": "video id", "cf_role": "timeseries_id"})


def _of_video(name: str, dtype: str, fill: float | str, long_name: str, **more: str | list[int]) -> Spec:
    attributes = {"long_name": long_name, **more, "coordinates": "video_id"}
    return Spec(name, ("video",), dtype, fill, attributes)


VIDEO_SPECS = (
    VIDEO_ID,
    ROW_SIZE,
    _of_video("row_start", "int64", 0, "position of the video's first clip on the clip dimension"),
    _of_video("video_duration", "float64", float("nan"), "length of the video", units="s"),
    _of_video("video_status", "int8", 0, "decoded whole or in part", flag_values=[0, 1], flag_meanings="ok partial"),
    _of_video(
        "video_replaces",
        "int64",
        -1,
        "position of the older version of the same video that this replaces, or -1",
    ),
    _of_video("video_fingerprint", "string", "", "identifies the content of the video file"),
    _of_video("video_provenance", "string", "", "how the features were made, as JSON"),
    _of_video("crc32", "uint32", 0, "CRC-32 of the stored bytes of the video's clips"),
)


def shard_rows(features: Spec) -> int:
    """Clips in one shard of every published array along ``clip``: about ``SHARD_BYTES`` of features, whole chunks."""
    rows = min(SHARD_BYTES // features.row_bytes, MAX_SHARD_ROWS)
    return max(rows // TIME_CHUNK_ROWS, 1) * TIME_CHUNK_ROWS


def chunk_rows(spec: Spec) -> int:
    """Clips in one chunk of a published array along ``clip``."""
    return CHUNK_ROWS if spec.name == "features" else TIME_CHUNK_ROWS


def segment_objects(
    columns: Iterable[tuple[Spec, NDArray[Any]]], attributes: Mapping[str, object]
) -> Iterator[tuple[str, bytes]]:
    """Keys and bytes of a group that holds ``columns``, each in one uncompressed chunk."""
    memory: dict[str, Buffer] = {}
    zarr.create_group(MemoryStore(memory), attributes=dict(attributes))
    for spec, values in columns:
        _create(memory, spec, len(values), chunk=max(1, len(values)))[...] = values  # videos may have no boxes at all
    for key, buffer in memory.items():
        yield key, buffer.to_bytes()


def encode_shard(spec: Spec, values: NDArray[Any], shard: int) -> bytes:
    """The shard of ``shard`` rows that begins with the rows ``values`` (rows, …), without what follows them."""
    missing = -len(values) % chunk_rows(spec)
    padding = np.full((missing, *spec.row_shape), spec.fill, spec.dtype)
    used = (len(values) + missing) // chunk_rows(spec)
    return values.tobytes() + padding.tobytes() + shard_index(spec, used, shard)


def shard_index(spec: Spec, chunks: int, shard: int) -> bytes:
    """The end of a shard of ``chunks`` chunks in order from byte 0: where each lies, and a CRC-32C of that."""
    chunk_bytes = chunk_rows(spec) * spec.row_bytes
    index = np.full((shard // chunk_rows(spec), 2), _ABSENT, np.uint64)
    index[:chunks, 0] = np.arange(chunks) * chunk_bytes
    index[:chunks, 1] = chunk_bytes
    return _checked_bytes(index)


def encode_chunk(spec: Spec, values: NDArray[Any], chunk: int) -> bytes:
    """One compressed chunk of ``chunk`` rows that begins with ``values`` (rows,)."""
    return _encode(spec, values, chunk=chunk, compressor=ZstdCodec(level=1))


def chunk_key(spec: Spec, number: int) -> str:
    """Key of the published chunk or shard ``number`` along the first dimension."""
    return ".".join([f"{spec.name}/c", str(number), *("0" for _ in spec.row_shape)])


def published_metadata(
    clips: tuple[Spec, ...], *, n_clips: int, n_videos: int, attributes: Mapping[str, object]
) -> dict[str, bytes]:
    """Key and bytes of each published metadata document; the root's comes last and repeats all the others."""
    memory: dict[str, Buffer] = {}
    zstd = ZstdCodec(level=1)
    shard = shard_rows(clips[0])
    for spec in clips:
        _create(memory, spec, n_clips, chunk=chunk_rows(spec), shard=shard)
    for spec in VIDEO_SPECS:
        _create(memory, spec, n_videos, chunk=VIDEO_CHUNK, compressor=zstd)
    names = [spec.name for spec in (*clips, *VIDEO_SPECS)]
    arrays = {name: json.loads(memory[f"{name}/zarr.json"].to_bytes()) for name in names}
    root = {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": attributes,
        "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": arrays},
    }
    documents = {f"{name}/zarr.json": json.dumps(array, indent=1).encode() for name, array in arrays.items()}
    return {**documents, "zarr.json": json.dumps(root, indent=1).encode()}


def _create(
    memory: dict[str, Buffer],
    spec: Spec,
    rows: int,
    *,
    chunk: int,
    shard: int | None = None,
    compressor: ZstdCodec | Crc32cCodec | None = None,
) -> zarr.Array[Any]:
    return zarr.create_array(
        MemoryStore(memory),
        name=spec.name,
        shape=(rows, *spec.row_shape),
        dtype=spec.dtype,
        chunks=(chunk, *spec.row_shape),
        shards=None if shard is None else (shard, *spec.row_shape),
        compressors=compressor,
        fill_value=spec.fill,
        dimension_names=spec.dimensions,
        attributes=dict(spec.attributes),
        chunk_key_encoding=_KEYS,
        config=_CONFIG,
    )


def _encode(spec: Spec, values: NDArray[Any], *, chunk: int, compressor: ZstdCodec | Crc32cCodec) -> bytes:
    memory: dict[str, Buffer] = {}
    _create(memory, spec, len(values), chunk=chunk, compressor=compressor)[...] = values
    return memory[chunk_key(spec, 0)].to_bytes()


def _checked_bytes(index: NDArray[np.uint64]) -> bytes:
    """A shard's index as the format wants it: little-endian numbers, then their CRC-32C."""
    spec = Spec("index", ("chunk", "field"), "uint64", 0, {}, (2,))
    return _encode(spec, index, chunk=len(index), compressor=Crc32cCodec())
