"""Writers of the files that official checkpoints come in, for the tests."""

import io
import struct

import numpy as np
import torch


def torch_bytes(content: object, *, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def python2_array(array: np.ndarray) -> bytes:
    """The opcodes of an array as Python 2's numpy pickles it with protocol 2: its data is a str."""
    data = array.tobytes(order="A")
    order, kind = (array.dtype.byteorder.replace("=", "<"), array.dtype.str[1:].encode())
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        + b"(K\x01("
        + b"".join(b"J" + struct.pack("<i", size) for size in array.shape)
        + b"t"
        + b"cnumpy\ndtype\nU"
        + bytes([len(kind)])
        + kind
        + b"K\x00K\x01\x87R(K\x03U\x01"
        + order.encode()
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        + (b"\x89" if array.flags.c_contiguous else b"\x88")
        + b"T"
        + struct.pack("<i", len(data))
        + data
        + b"tb"
    )


def caffe2_bytes(blobs: dict[str, np.ndarray | bytes]) -> bytes:
    """``pickle.dump({"blobs": blobs}, file, 2)`` of Python 2; a value of bytes is a str there."""
    parts = [b"\x80\x02}U\x05blobs}("]
    for name, blob in blobs.items():
        value = python2_array(blob) if isinstance(blob, np.ndarray) else b"U" + bytes([len(blob)]) + blob
        parts += [b"U" + bytes([len(name)]) + name.encode(), value]
    return b"".join([*parts, b"us."])


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def chunk(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def floats(field: int, values: np.ndarray, *, packed: bool = True) -> bytes:
    if packed:
        return chunk(field, values.astype("<f4").tobytes())
    return b"".join(bytes([field << 3 | 5]) + struct.pack("<f", value) for value in values.ravel())


def c3d_blob(values: np.ndarray, *, packed: bool = True, diff: bool = False) -> bytes:
    sizes = (1,) * (5 - values.ndim) + values.shape
    head = b"".join(number(field, size) for field, size in enumerate(sizes, start=1))
    return head + floats(6, values, packed=packed) + (floats(7, values * 2, packed=packed) if diff else b"")


def v1_layer(name: str, kind: int, *blobs: bytes) -> bytes:
    head = chunk(2, b"bottom") + chunk(3, b"top") + chunk(4, name.encode()) + number(5, kind)
    rates = b"".join(bytes([7 << 3 | 5]) + struct.pack("<f", rate) for rate in (1, 2))
    return chunk(2, head + b"".join(chunk(6, blob) for blob in blobs) + rates + chunk(10, number(1, 64)))


def new_layer(name: str, kind: str, *blobs: bytes) -> bytes:
    return chunk(100, chunk(1, name.encode()) + chunk(2, kind.encode()) + b"".join(chunk(7, blob) for blob in blobs))
