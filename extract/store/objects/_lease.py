"""A lock among processes that share nothing but an object store: a lease that its holder must renew.

It is a row of objects, ``_leases/NAME/NUMBER``, each written once. The newest says who holds the lease, or that
nobody does; the holder renews it by writing the next. Who waits and sees no new number for ``LEASE_S`` of its own
clock writes the next number itself. The newest is never deleted, so a writer of an older number finds a newer one.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from uuid import uuid4

from extract.errors import MachineError
from extract.store.objects._bucket import Bucket
from extract.store.objects._interface import LEASES

LEASE_S = 60.0
RENEWAL_S = 20.0
POLL_S = 1.0

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # goes on while the machine sleeps
_NOBODY = ""


class Lease:
    """One holder's time with the lock ``name``; its methods can be called from several threads."""

    def __init__(self, bucket: Bucket, name: str) -> None:
        self._bucket = bucket
        self._name = name
        self._owner = uuid4().hex
        self._number = 0
        self._renewed_s = 0.0
        self._lost = False
        self._writing = threading.Lock()

    def take(self) -> None:
        """Wait until nobody holds the lease, or its holder is taken for dead; then hold it."""
        seen, free, since_s = -1, True, _now_s()
        while True:
            newest = max(self._numbers(), default=-1)
            if newest != seen:
                seen, free, since_s = newest, self._owner_of(newest) == _NOBODY, _now_s()
            if (free or _now_s() - since_s > LEASE_S) and self._write(newest + 1, self._owner):
                return
            if not free:
                time.sleep(POLL_S)

    def check(self) -> None:
        """Make sure that nobody else can hold the lease now.

        Raises:
            MachineError: another process has taken it over.
        """
        if _now_s() - self._renewed_s > LEASE_S / 2:
            self.renew()
        if self._lost:
            raise MachineError(
                f"{self._bucket.url}: this process did not renew its lock {self._name!r} for more than {LEASE_S:g} s "
                "(it was stopped, or cut off from the storage), and another took it over. "
                "Everything committed is safe: run the same command again"
            )

    def renew(self) -> None:
        """Write the next number, or find out that another has."""
        with self._writing:
            if not self._lost:
                self._lost = not self._write(self._number + 1, self._owner)

    def release(self) -> None:
        """Say that nobody holds the lease. Where that cannot be written, it runs out by itself."""
        with self._writing, suppress(MachineError):
            if not self._lost:
                self._write(self._number + 1, _NOBODY)

    def _write(self, number: int, owner: str) -> bool:
        """Write the object ``number``; whether it is the newest. Older ones are deleted."""
        started_s = _now_s()
        if not self._bucket.create(self._key(number), json.dumps({"owner": owner}).encode()):
            return False
        numbers = self._numbers()
        if max(numbers) != number:
            return False
        self._number, self._renewed_s = number, started_s
        self._bucket.delete([self._key(old) for old in numbers if old < number])
        return True

    def _numbers(self) -> list[int]:
        return [int(item.key.rpartition("/")[2]) for item in self._bucket.listed(f"{LEASES}{self._name}/")]

    def _owner_of(self, number: int) -> str | None:
        """Who wrote the object ``number``; None where it is gone, so that there is a newer one."""
        data = self._bucket.get(self._key(number))
        return None if data is None else str(json.loads(data)["owner"])

    def _key(self, number: int) -> str:
        return f"{LEASES}{self._name}/{number:012d}"


@contextmanager
def held(bucket: Bucket, name: str) -> Iterator[Lease]:
    """Wait for, then hold, the lease ``name``, and renew it until the end."""
    lease = Lease(bucket, name)
    lease.take()
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(lease, ended), name=f"lease {name}", daemon=True)
    renewing.start()
    try:
        yield lease
    finally:
        ended.set()
        renewing.join()
        lease.release()


def _renew(lease: Lease, ended: threading.Event) -> None:
    while not ended.wait(RENEWAL_S):
        with suppress(MachineError):  # the next renewal, or the holder's own check, tries again
            lease.renew()


def _now_s() -> float:
    return time.clock_gettime(_CLOCK)
