"""An iterator that runs ahead in a thread of its own, by a bounded number of items."""

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

Item = TypeVar("Item")
_POLL_S = 0.2


class Prefetch(Generic[Item]):
    """Iterate over ``items`` while a thread produces ``ahead`` of them in advance, and holds one more.

    A context manager: leaving it stops the thread, also in the middle. An exception of ``items`` is raised where
    the consumer would have got the next item.

    Attributes:
        producing_s: seconds that the thread worked on items, without its waiting for room.
        waiting_s: seconds that the consumer waited for items.
    """

    def __init__(self, items: Iterable[Item], ahead: int) -> None:
        self.producing_s = 0.0
        self.waiting_s = 0.0
        self._queue: queue.Queue[Item | _End] = queue.Queue(ahead)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._produce, args=(iter(items),), daemon=True)
        self._thread.start()

    def __enter__(self) -> "Prefetch[Item]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def __iter__(self) -> Iterator[Item]:
        while True:
            began = time.perf_counter()
            item = self._queue.get()
            self.waiting_s += time.perf_counter() - began
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item

    def batches(self, most: int) -> Iterator[list[Item]]:
        """The items in lists of ``most``, or of as many, at least one, as are there when somebody asks."""
        for first in self:
            items = [first]
            while len(items) < most and (item := self._there()) is not None:
                items.append(item)
            yield items

    def _there(self) -> Item | None:
        """The next item, if it is there."""
        try:
            item = self._queue.get_nowait()
        except queue.Empty:
            return None
        if isinstance(item, _End):  # for the next one who waits
            self._queue.put(item)
            return None
        return item

    def _produce(self, items: Iterator[Item]) -> None:
        end = _End(None)
        try:
            while not self._stop.is_set():
                began = time.perf_counter()
                item = next(items, end)
                self.producing_s += time.perf_counter() - began
                self._put(item)
                if item is end:
                    return
        except BaseException as error:  # raised again in the consumer
            self._put(_End(error))

    def _put(self, item: "Item | _End") -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=_POLL_S)
            except queue.Full:
                continue
            return


class _End:
    def __init__(self, error: BaseException | None) -> None:
        self.error = error
