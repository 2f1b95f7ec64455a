"""Caffe's binary ``NetParameter``, read from the bytes themselves.

Wire format: protobuf.dev/programming-guides/encoding. Field numbers: ``src/caffe/proto/caffe.proto`` of
facebookarchive/C3D (at 8f6988e, the tree that became ``C3D-v1.0``) for C3D; BVLC/caffe, as in the same repository's
``C3D-v1.1``, for the others.

============  ====================================================  =================================================
message       C3D-v1.0                                              Caffe
============  ====================================================  =================================================
NetParameter  layers 2                                              layers 2 (V1), layer 100
layer         name 4, type 5 (a number), blobs 6                    layers: as C3D; layer: name 1, type 2, blobs 7
BlobProto     num 1, channels 2, length 3, height 4, width 5,       num 1, channels 2, height 3, width 4, data 5,
              data 6, diff 7                                        diff 6, shape 7 (dim 1), double_data 8
============  ====================================================  =================================================
"""

import math
import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_RECORD = np.dtype([("tag", "u1"), ("value", "<f4")])  # one float of an unpacked field, with its one-byte tag
_CONVOLUTIONS = {4, 30, 34, 39, b"Convolution", b"Convolution3D", b"NdConvolution", b"Deconvolution"}
_INNER_PRODUCTS = {14, b"InnerProduct"}


class _Field(NamedTuple):
    """A field: number and wire type; the number it is, or its bytes (a run of unpacked floats: with their tags)."""

    number: int
    wire: int
    value: int
    data: memoryview


class _LayerFields(NamedTuple):
    """The field numbers of a layer's message."""

    name: int
    kind: int
    blobs: int


_LAYERS = {2: _LayerFields(4, 5, 6), 100: _LayerFields(1, 2, 7)}


@dataclass
class _Blob:
    """What a BlobProto holds, before its layout is known."""

    numbers: dict[int, int] = field(default_factory=dict)
    shape: list[int] | None = None
    floats: dict[int, list[NDArray[np.float32]]] = field(default_factory=dict)
    doubles: list[NDArray[np.float64]] = field(default_factory=list)

    @property
    def is_c3d(self) -> bool:
        """Whether field 5 is C3D's width; in other Caffes it is the data, which is no varint."""
        return 5 in self.numbers

    def sizes(self) -> list[int]:
        """The dimensions: N C L H W for C3D, N C H W or any for other Caffes."""
        if not self.is_c3d and self.shape is not None:
            return self.shape
        sizes = [self.numbers.get(number, 0) for number in ((1, 2, 3, 4, 5) if self.is_c3d else (1, 2, 3, 4))]
        if self.is_c3d:
            sizes[2] = sizes[2] or 1  # C3D's Blob::FromProto does the same for files without a length
        return sizes

    def values(self) -> NDArray[np.float32]:
        """All floats, in one copy that does not depend on the file."""
        parts = self.floats.get(6 if self.is_c3d else 5, []) or self.doubles
        return np.concatenate(parts, dtype=np.float32) if parts else np.empty(0, np.float32)


def looks_like_caffe(head: bytes) -> bool:
    """Whether the first bytes are a field that a NetParameter begins with: name, layers, input or layer."""
    return head[:1] in (b"\x0a", b"\x12", b"\x1a") or head[:2] == b"\xa2\x06"


def read_caffe(path: Path) -> dict[str, Tensor]:
    """Every blob of every layer, as ``NAME[k]``; float32.

    Raises:
        ValueError: the file is no whole NetParameter. One that ends between two layers cannot be told from a whole one.
    """
    with path.open("rb") as file:
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))  # closed with the last view of it
    tensors: dict[str, Tensor] = {}
    for part in _fields(view):
        numbers = _LAYERS.get(part.number)
        if numbers is not None and part.wire == _BYTES:
            _add_layer(tensors, part.data, numbers)
    if not tensors:
        raise ValueError("no layer in it has weights")
    return tensors


def _add_layer(tensors: dict[str, Tensor], view: memoryview, numbers: _LayerFields) -> None:
    parts = list(_fields(view))
    name = next((str(part.data, "utf-8") for part in parts if part.number == numbers.name), "")
    kinds = [part.value or bytes(part.data) for part in parts if part.number == numbers.kind]
    blobs = [part.data for part in parts if part.number == numbers.blobs]
    for index, blob in enumerate(blobs):
        key = f"{name}[{index}]"
        if key in tensors:
            raise ValueError(f"two layers have weights under the name {name!r}")
        tensors[key] = _tensor(_blob(blob), key, kinds[0] if kinds else 0, index)


def _blob(view: memoryview) -> _Blob:
    blob = _Blob()
    for part in _fields(view):
        if part.wire == _VARINT:
            blob.numbers[part.number] = part.value
        elif part.number in (5, 6):
            blob.floats.setdefault(part.number, []).append(_floats(part))
        elif part.number == 8:
            blob.doubles.append(np.frombuffer(part.data, "<f8"))
        elif part.number == 7 and not blob.is_c3d:
            blob.shape = _dimensions(part.data)
    return blob


def _floats(part: _Field) -> NDArray[np.float32]:
    """A view of the floats of one packed field, or of a run of unpacked ones."""
    if part.wire == _FIXED32:
        return np.frombuffer(part.data, _RECORD)["value"]
    return np.frombuffer(part.data, "<f4")


def _dimensions(view: memoryview) -> list[int]:
    """The numbers of a BlobShape, packed or not."""
    found: list[int] = []
    for part in _fields(view):
        found += [part.value] if part.wire == _VARINT else _varints(part.data)
    return found


def _tensor(blob: _Blob, key: str, layer_type: int | bytes, index: int) -> Tensor:
    sizes, values = blob.sizes(), blob.values()
    if math.prod(sizes) != values.size or not values.size:
        raise ValueError(f"{key} of shape {tuple(sizes)} has {values.size} values")
    if blob.shape is None or blob.is_c3d:
        sizes = _without_filling(sizes, layer_type, index)
    return torch.from_numpy(values.reshape(sizes))


def _without_filling(sizes: list[int], layer_type: int | bytes, index: int) -> list[int]:
    """The dimensions without the leading ones that fill a blob up to N C (L) H W."""
    if index == 0 and layer_type in _CONVOLUTIONS:
        return sizes
    kept = 2 if index == 0 and layer_type in _INNER_PRODUCTS else 1
    while len(sizes) > kept and sizes[0] == 1:
        sizes = sizes[1:]
    return sizes


def _fields(view: memoryview) -> Iterator[_Field]:
    """The fields of one message, in file order."""
    at = 0
    while at < len(view):
        tag, begin = _varint(view, at)
        number, wire = tag >> 3, tag & 7
        value, begin, end = _extent(view, wire, at, begin)
        if not number or end > len(view):
            raise ValueError(f"field {number} would end at byte {end} of a message of {len(view)} bytes")
        yield _Field(number, wire, value, view[begin:end])
        at = end


def _extent(view: memoryview, wire: int, start: int, begin: int) -> tuple[int, int, int]:
    """The number that a field is (else 0), and where its bytes begin and end."""
    if wire == _VARINT:
        value, end = _varint(view, begin)
        return value, begin, end
    if wire == _BYTES:
        size, begin = _varint(view, begin)
        return 0, begin, begin + size
    if wire == _FIXED32 and begin == start + 1:
        return 0, start, _end_of_floats(view, start)
    if wire in (_FIXED32, _FIXED64):
        return 0, begin, begin + (4 if wire == _FIXED32 else 8)
    raise ValueError(f"byte {start} of a message of {len(view)} bytes begins no field that Caffe has")


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends."""
    value = 0
    for place, byte in enumerate(view[at : at + 10]):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at + place + 1
    raise ValueError(f"the number at byte {at} of a message of {len(view)} bytes has no end")


def _varints(view: memoryview) -> list[int]:
    found, at = list[int](), 0
    while at < len(view):
        value, at = _varint(view, at)
        found.append(value)
    return found


def _end_of_floats(view: memoryview, start: int) -> int:
    """Where the unpacked floats end that begin at ``start`` and all have the same tag."""
    tags = np.frombuffer(view[start : start + (len(view) - start) // 5 * 5], _RECORD)["tag"]
    count, window = 1, 64
    while count < len(tags):
        others = np.flatnonzero(tags[count : count + window] != tags[0])
        if len(others):
            return start + 5 * (count + int(others[0]))
        count, window = min(count + window, len(tags)), window * 2
    return start + 5 * count
