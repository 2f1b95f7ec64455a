"""CRC-32 of bytes that lie in several places, from the CRC-32 of each.

With the polynomial P of zlib and ``x`` shifted in once a bit, crc(AB) = crc(A) · x^(8 |B|) mod P, plus crc(B): the
checksum is linear over GF(2) (zlib's own ``crc32_combine`` builds on the same identity; Python does not expose it).
Polynomials are 32-bit numbers whose highest bit is the coefficient of x^0.
"""

from collections.abc import Iterable

_POLYNOMIAL = 0xEDB88320
_ONE = 1 << 31


def combined(parts: Iterable[tuple[int, int]]) -> int:
    """CRC-32 of the concatenation of ``parts``, each given as (CRC-32, length in bytes)."""
    crc = 0
    for part_crc, n_bytes in parts:
        crc = _times(_shift(8 * n_bytes), crc) ^ part_crc
    return crc


def _times(a: int, b: int) -> int:
    """A · b mod P."""
    product = 0
    while a:
        if a & _ONE:
            product ^= b
        a = a << 1 & 0xFFFFFFFF
        b = b >> 1 ^ (_POLYNOMIAL if b & 1 else 0)
    return product


def _shift(n_bits: int) -> int:
    """x^n_bits mod P, by repeated squaring."""
    power, square = _ONE, _ONE >> 1
    while n_bits:
        if n_bits & 1:
            power = _times(power, square)
        square = _times(square, square)
        n_bits >>= 1
    return power
