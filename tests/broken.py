"""Text files broken in many ways, each the same for the same seed."""

import numpy as np

NUMBERS = [b"NaN", b"-inf", b"1e999", b"9" * 4400, b"-0", b"1e308", b"0x10", b"1_0", b"9999999999999999999", b"null"]
BITS = [
    b"\xff\xfe",
    b"\x00",
    b"\xc3(",
    "é".encode("latin-1"),
    b"\xef\xbb\xbf",
    b"\xe2\x80\xa8",
    b"\r",
    b'"',
    b"<",
    b"]]",
]


def broken(data: bytes, rng: np.random.Generator) -> bytes:
    """Bytes cut, flipped, doubled, left out, or with something odd put in; more than once now and then."""
    for _ in range(int(rng.integers(1, 4))):
        at, to = sorted(int(place) for place in rng.integers(0, len(data) + 1, 2))
        kind = int(rng.integers(0, 7))
        if kind == 0:
            data = data[:at]
        elif kind == 1 and data:
            at = min(at, len(data) - 1)
            data = data[:at] + bytes([data[at] ^ 1 << int(rng.integers(0, 8))]) + data[at + 1 :]
        elif kind == 2:
            data = data[:at] + data[to:]
        elif kind == 3:
            data = data[:to] + data[at:to] + data[to:]
        elif kind == 4:
            data = data[:at] + BITS[int(rng.integers(0, len(BITS)))] + data[at:]
        else:
            data = with_number(data, rng)
    return data


def with_number(data: bytes, rng: np.random.Generator) -> bytes:
    """One of the numbers in ``data`` becomes an odd one."""
    starts = [n for n in range(1, len(data)) if data[n : n + 1].isdigit() and not data[n - 1 : n].isdigit()]
    if not starts:
        return data
    start = int(rng.choice(starts))
    stop = start
    while stop < len(data) and (data[stop : stop + 1].isdigit() or data[stop : stop + 1] == b"."):
        stop += 1
    return data[:start] + NUMBERS[int(rng.integers(0, len(NUMBERS)))] + data[stop:]
