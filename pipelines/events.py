"""What a job did, as JSON lines in its store: ``_jobs/<start>-<job>/000001.jsonl``, …, written every few seconds."""

import json
import os
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from extract.store import FeatureStore

_EVERY_S = 15.0


class EventLog:
    """Events of one job. Each line has ``time`` (ISO 8601, UTC), ``event`` and what belongs to it."""

    def __init__(self, store: FeatureStore, job: str) -> None:
        self._store = store
        self._name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{job[:8]}"
        self._lines: list[str] = []
        self._parts, self._written = 0, time.monotonic()

    def add(self, event: str, **values: Any) -> None:  # noqa: ANN401
        """Note an event; it is written with others, within some seconds of the next one."""
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._lines.append(json.dumps({"time": stamp, "event": event, **values}))
        if time.monotonic() - self._written > _EVERY_S:
            self.flush()

    def flush(self) -> None:
        """Write what was noted."""
        if self._lines:
            self._parts += 1
            self._store.write_events(self._name, self._parts, "\n".join([*self._lines, ""]))
            self._lines.clear()
        self._written = time.monotonic()


def here() -> dict[str, object]:
    """Who runs the job."""
    return {"host": socket.gethostname(), "pid": os.getpid()}


def read_events(store: FeatureStore, job: str) -> Iterator[dict[str, Any]]:
    """The events of ``job``, one of ``store.jobs()``, in order."""
    for text in store.read_events(job):
        yield from map(json.loads, text.splitlines())
