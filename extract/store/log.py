"""The log: numbered JSON entries, each written once. What no entry names does not exist."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from extract.errors import StoreError
from extract.recipe import digest
from extract.store.objects import LocalObjects
from extract.store.records import Failure, Receipt, VideoRecord, to_json

FORMAT = "untrimmed-store"
FORMAT_VERSION = 1


@dataclass
class Catalogue:
    """What the entries up to number ``version`` say; grows by ``apply``, in the order of their numbers.

    Attributes:
        version: number of the last entry applied.
        versions: every accepted version of every video, in log order; only ever appended to.
        replaces: for each of these, the position of the version it replaces, or -1.
        current: each video's latest version, by id.
        failures: videos whose last attempt failed.
        last_change: number of the entry that last added to ``versions``.
    """

    version: int = 0
    versions: list[VideoRecord] = field(default_factory=list)
    replaces: list[int] = field(default_factory=list)
    current: dict[str, VideoRecord] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    last_change: int = 0
    _positions: dict[str, int] = field(default_factory=dict)

    def apply(self, number: int, entry: Mapping[str, Any]) -> None:
        """Take in entry ``number``."""
        match entry["kind"]:
            case "segment":
                for values in entry["segments"]:
                    for record in Receipt.from_dict(values).videos:
                        self._add(number, record)
            case "failure":
                self._fail(entry["video_id"], Failure(**entry["failure"]))
            case kind:
                raise StoreError(
                    f"log entry {number} is of kind {kind!r}, which this version of untrimmed does not know; "
                    "read the store with the version that wrote it, or a newer one"
                )
        self.version = number

    def _holds(self, video_id: str, fingerprint: str) -> bool:
        return video_id in self.current and self.current[video_id].fingerprint == fingerprint

    def _add(self, number: int, record: VideoRecord) -> None:
        if self._holds(record.video_id, record.fingerprint):
            return
        self.replaces.append(self._positions.get(record.video_id, -1))
        self._positions[record.video_id] = len(self.versions)
        self.versions.append(record)
        self.current[record.video_id] = record
        self.failures.pop(record.video_id, None)
        self.last_change = number

    def _fail(self, video_id: str, failure: Failure) -> None:
        if not self._holds(video_id, failure.fingerprint):
            self.failures[video_id] = failure


def start(objects: LocalObjects, recipe: Mapping[str, object]) -> bool:
    """Write entry 0, which makes a folder a store; False where there is one already."""
    entry = {
        **_stamp("create"),
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "recipe": recipe,
        "recipe_digest": digest(recipe),
    }
    return objects.put_if_absent(_key(0), to_json(entry))


def recipe_of(objects: LocalObjects) -> dict[str, object] | None:
    """The recipe in entry 0, or None where there is no log."""
    entry = _read(objects, 0)
    if entry is None:
        return None
    if entry.get("format") != FORMAT or entry.get("format_version") != FORMAT_VERSION:
        raise StoreError(
            f"{objects.root} has format {entry.get('format')!r}, version {entry.get('format_version')!r}; "
            f"expected {FORMAT!r}, {FORMAT_VERSION}. Open it with the version of untrimmed that wrote it"
        )
    recipe: dict[str, object] = entry["recipe"]
    if digest(recipe) != entry["recipe_digest"]:
        raise StoreError(f"{objects.root}: the recipe in {_key(0)} does not match its digest. Restore that file")
    return recipe


def follow(objects: LocalObjects, catalogue: Catalogue, *, last: int | None = None) -> None:
    """Apply the entries after ``catalogue.version``, up to ``last`` or to the newest."""
    while last is None or catalogue.version < last:
        entry = _read(objects, catalogue.version + 1)
        if entry is None:
            return
        catalogue.apply(catalogue.version + 1, entry)


def append(objects: LocalObjects, catalogue: Catalogue, kind: str, values: Mapping[str, object]) -> None:
    """Append one entry after whatever others have appended, and apply it.

    An entry of our own that is met on the way was written by a request whose answer was lost.
    """
    entry = {**_stamp(kind), **values}
    data = to_json(entry)
    while not objects.put_if_absent(_key(catalogue.version + 1), data):
        theirs = _read(objects, catalogue.version + 1)
        if theirs is not None and theirs["id"] == entry["id"]:
            break
        follow(objects, catalogue)
    follow(objects, catalogue)


def _key(number: int) -> str:
    return f"_log/{number:012d}.json"


def _stamp(kind: str) -> dict[str, object]:
    return {"kind": kind, "id": uuid4().hex, "time": datetime.now(UTC).isoformat(timespec="seconds")}


def _read(objects: LocalObjects, number: int) -> dict[str, Any] | None:
    data = objects.get(_key(number))
    if data is None:
        return None
    try:
        entry: dict[str, Any] = json.loads(data)
    except ValueError as error:
        raise StoreError(f"{objects.root}: {_key(number)} is not JSON ({error}). Restore it from a copy") from error
    return entry
