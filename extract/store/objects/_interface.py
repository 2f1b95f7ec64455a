"""What the store needs of the place that holds it."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from zarr.abc.store import Store

PROBES = "_probe/"
LEASES = "_leases/"


class Listed(NamedTuple):
    """An object, as listings show it; ``age_s`` since it was last written, by two clocks that may differ."""

    key: str
    size_bytes: int
    age_s: float


class Objects(Protocol):
    """Whole objects under string keys: names with ``/`` between them, without surprises.

    All methods raise MachineError where the machine, the network or the storage refuses: a full disk, a missing
    permission, a server that does not answer. They can be called from several threads. Pickled by ``url``.
    """

    @property
    def url(self) -> str:
        """What people see, and what `objects_at` opens again: an absolute path, or a URL without secrets."""

    def get(self, key: str) -> bytes | None:
        """The whole object, or None where there is none."""

    def get_range(self, key: str, start: int, length: int) -> bytearray:
        """``length`` bytes from byte ``start``; fewer where the object ends, none where it is missing."""

    def size(self, key: str) -> int | None:
        """Length in bytes, or None where there is no object."""

    def put_all(self, objects: Iterable[tuple[str, bytes]]) -> None:
        """Write objects, each replaced as a whole: a reader sees the old bytes or the new ones.

        In no certain order, but all of them are durable on return.
        """

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write an object unless the key is taken; of several writers exactly one gets True."""

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; those that are missing are no error."""

    def listed(self, prefix: str) -> Iterator[Listed]:
        """All objects whose keys begin with ``prefix``, which is empty or ends in ``/``; in no certain order."""

    def exclusive(self, name: str) -> AbstractContextManager[None]:
        """Wait for, then hold, the lock ``name``; it ends with its process, however that ends.

        Where that is known by a lease alone, a holder that has lost it gets MachineError from its next write.
        """

    def is_unused(self) -> bool:
        """Whether a store may be made here: there is nothing, or what a creation cut short left."""

    def found(self) -> str:
        """What there is in place of a store, and what to do, for the end of a sentence."""

    def for_zarr(self) -> Store | str:
        """What Zarr opens to read the arrays here."""


def shown(names: Sequence[str]) -> str:
    """The first few of ``names``, for people."""
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "") if names else "nothing"
