"""Objects over a socket between two processes; the arrays in them are copied once on each side."""

import pickle
import socket
import struct

_COUNT = struct.Struct("<Q")


def send(to: socket.socket, message: object) -> None:
    """Send ``message``. OSError where the other side is gone."""
    arrays: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(message, protocol=5, buffer_callback=arrays.append)
    parts = [memoryview(pickled), *(array.raw() for array in arrays)]
    to.sendall(_COUNT.pack(len(parts)) + b"".join(_COUNT.pack(part.nbytes) for part in parts))
    for part in parts:
        to.sendall(part)


def receive(source: socket.socket) -> object:
    """The next message. EOFError where the other side is gone, TimeoutError where it is silent for too long."""
    (count,) = _COUNT.unpack(_receive(source, _COUNT.size))
    sizes = _receive(source, count * _COUNT.size)
    pickled, *arrays = (_receive(source, size) for (size,) in _COUNT.iter_unpack(sizes))
    return pickle.loads(pickled, buffers=arrays)


def _receive(source: socket.socket, n_bytes: int) -> bytearray:
    data = bytearray(n_bytes)
    rest = memoryview(data)
    while rest:
        received = source.recv_into(rest)
        if not received:
            raise EOFError("the other process closed the connection")
        rest = rest[received:]
    return data
