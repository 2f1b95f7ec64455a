"""Objects on an object store, as the feature store wants them."""

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice

from zarr.abc.store import Store
from zarr.storage import ObjectStore

from extract.store.objects._bucket import Bucket
from extract.store.objects._interface import PROBES, shown
from extract.store.objects._lease import Lease, held

_PARALLEL = 16
_IN_FLIGHT_BYTES = 64 << 20
_LOOKED_AT = 1000


class RemoteObjects(Bucket):
    """Objects behind a URL, with locks that are leases."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._thread = threading.local()

    def __reduce__(self) -> tuple[type["RemoteObjects"], tuple[str]]:
        return RemoteObjects, (self.url,)

    def put_all(self, objects: Iterable[tuple[str, bytes]]) -> None:
        """Write objects, several at a time, each replaced as a whole."""
        pending: deque[tuple[int, Future[None]]] = deque()
        in_flight_bytes = 0
        with ThreadPoolExecutor(_PARALLEL) as pool:
            for key, data in objects:
                while pending and (len(pending) >= _PARALLEL or in_flight_bytes + len(data) > _IN_FLIGHT_BYTES):
                    size_bytes, written = pending.popleft()
                    written.result()
                    in_flight_bytes -= size_bytes
                self._check_leases()
                pending.append((len(data), pool.submit(self.put, key, data)))
                in_flight_bytes += len(data)
        for _, written in pending:
            written.result()

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write an object unless the key is taken; of several writers exactly one gets True."""
        self._check_leases()
        return self.create(key, data)

    @contextmanager
    def exclusive(self, name: str) -> Iterator[None]:
        """Wait for, then hold, the lease ``name``; a holder that lost it gets MachineError from its next write."""
        with held(self, name) as lease:
            leases = self._leases()
            leases.append(lease)
            try:
                yield
            finally:
                leases.remove(lease)

    def is_unused(self) -> bool:
        """Whether there is nothing below the prefix, or what a creation cut short left."""
        return all(item.key.startswith(PROBES) for item in self.listed(""))

    def found(self) -> str:
        """What there is in place of a store, and what to do, for the end of a sentence."""
        keys = [item.key for item in islice(self.listed(""), _LOOKED_AT)]
        if not keys:
            return "there is nothing. Check the URL, or extract into it first"
        names = sorted({key.partition("/")[0] for key in keys})
        return f"it holds {shown(names)}, no _log. Give the URL that features were extracted into"

    def for_zarr(self) -> Store:
        """A store of Zarr, for reading."""
        return ObjectStore(self.connect(), read_only=True)

    def _check_leases(self) -> None:
        for lease in self._leases():
            lease.check()

    def _leases(self) -> list[Lease]:
        """Those that this thread holds."""
        leases: list[Lease] = self._thread.__dict__.setdefault("leases", [])
        return leases
