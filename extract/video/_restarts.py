"""Whether a file's clock may start again half-way, as it does where recordings were joined byte by byte."""

from fractions import Fraction
from pathlib import Path

from extract.remote import RemoteFile, is_url
from extract.video._probe import Source

RESTART_S = Fraction(1)  # a clock that goes back by more has started again
_HEAD_BYTES = 4096
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def has_one_clock(source: Source) -> bool:
    """Whether the container rules a restart out: one index for the whole file, or one segment that fills it."""
    if source.info.container.startswith("mov"):
        return source.info.declared_frames is not None  # fragments declare none
    return source.info.container.startswith("matroska") and _is_one_segment(source.path, source.info.size_bytes)


def _is_one_segment(path: str, n_bytes: int) -> bool:
    """By the sizes of the file's first two elements (RFC 8794, RFC 9559)."""
    with RemoteFile(path) if is_url(path) else Path(path).open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head.startswith(_EBML):
        return False
    size, start = _number(head, len(_EBML))
    segment = start + size
    if head[segment : segment + len(_SEGMENT)] != _SEGMENT:
        return False
    size, start = _number(head, segment + len(_SEGMENT))
    return start + size >= n_bytes


def _number(head: bytes, at: int) -> tuple[int, int]:
    """The number of variable length that begins at ``at`` (0 where it is unknown), and where it ends."""
    if at >= len(head) or not head[at]:
        return 0, at
    length = 9 - head[at].bit_length()
    value = int.from_bytes(head[at : at + length], "big") & (1 << 7 * length) - 1
    return (0 if value == (1 << 7 * length) - 1 else value), at + length
