"""The log: numbered JSON entries, each written once. What no entry names does not exist."""

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any
from uuid import uuid4

from extract.errors import StoreError
from extract.recipe import digest
from extract.store.objects import Objects
from extract.store.records import Failure, SpanRecord, VideoRecord, to_json
from extract.store.spans import chain_of, joined

FORMAT = "untrimmed-store"
FORMAT_VERSION = 2
_FEWEST_AHEAD, _MOST_AHEAD = 2, 32  # entries read at once: on an object store each is a round trip


@dataclass
class Catalogue:
    """What the entries up to number ``version`` say; grows by ``apply``, in the order of their numbers.

    Attributes:
        row_bytes: of one clip in each of the stored arrays.
        version: number of the last entry applied.
        versions: every accepted version of every video, in log order; only ever appended to.
        starts: for each of these, its first clip among all published ones.
        replaces: for each of these, the position of the version it replaces, or -1.
        positions: of each video's latest version, by id.
        failures: videos whose last attempt failed.
        spans: of videos that are not whole yet, by id.
        unsplit: fingerprints of videos that are not to be read in spans, by id.
        compacted: so many clips, from the first on, are read from the published arrays.
        last_change: number of the entry that last added to ``versions``.
    """

    row_bytes: tuple[int, ...]
    version: int = 0
    versions: list[VideoRecord] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    replaces: list[int] = field(default_factory=list)
    positions: dict[str, int] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    spans: dict[str, list[SpanRecord]] = field(default_factory=dict)
    unsplit: dict[str, str] = field(default_factory=dict)
    compacted: int = 0
    last_change: int = 0

    @property
    def clips(self) -> int:
        """Clips of all versions."""
        return self.starts[-1] + self.versions[-1].rows if self.versions else 0

    def apply(self, number: int, entry: Mapping[str, Any], features: "Features") -> None:
        """Take in entry ``number``; ``features`` are the records that it holds."""
        match entry["kind"]:
            case "features":
                for video in features.videos:
                    self._add(number, video)
                for span in features.spans:
                    self._add_span(number, span)
            case "failure":
                self._fail(entry["video_id"], Failure(**entry["failure"]))
            case "unsplit":
                self.unsplit[entry["video_id"]] = entry["fingerprint"]
                self.spans.pop(entry["video_id"], None)
            case "compact":
                self.compacted = max(self.compacted, entry["clips"])
            case kind:
                raise StoreError(
                    f"log entry {number} is of kind {kind!r}, which this version of untrimmed does not know; "
                    "read the store with the version that wrote it, or a newer one"
                )
        self.version = number

    def holds(self, video_id: str, fingerprint: str) -> bool:
        """Whether the latest version of the video has this fingerprint."""
        position = self.positions.get(video_id)
        return position is not None and self.versions[position].fingerprint == fingerprint

    def _add(self, number: int, record: VideoRecord) -> None:
        if self.holds(record.video_id, record.fingerprint):
            return
        self.replaces.append(self.positions.get(record.video_id, -1))
        self.positions[record.video_id] = len(self.versions)
        self.starts.append(self.clips)
        self.versions.append(record)
        self.failures.pop(record.video_id, None)
        self.spans.pop(record.video_id, None)
        self.last_change = number

    def _add_span(self, number: int, span: SpanRecord) -> None:
        unsplit = self.unsplit.get(span.video_id) == span.fingerprint
        if unsplit or self.holds(span.video_id, span.fingerprint):
            return
        others = [each for each in self.spans.get(span.video_id, ()) if each.fingerprint == span.fingerprint]
        self.spans[span.video_id] = [*others, span]
        chain = chain_of(self.spans[span.video_id])
        if chain:
            self._add(number, joined(chain, self.row_bytes))

    def _fail(self, video_id: str, failure: Failure) -> None:
        if not self.holds(video_id, failure.fingerprint):
            self.failures[video_id] = failure


@dataclass(frozen=True, slots=True)
class Features:
    """The records of one entry; their provenance is read again when it is asked for, and not kept."""

    videos: tuple[VideoRecord, ...] = ()
    spans: tuple[SpanRecord, ...] = ()

    @classmethod
    def of(cls, objects: Objects, number: int, entry: Mapping[str, Any]) -> "Features":
        """The records of entry ``number``."""

        def logged(field_name: str, at: int, values: Mapping[str, Any]) -> dict[str, Any]:
            return {**values, "provenance": _Logged(objects, number, field_name, at)}

        videos: Sequence[Mapping[str, Any]] = entry.get("videos", ())
        spans: Sequence[Mapping[str, Any]] = entry.get("spans", ())
        return cls(
            tuple(VideoRecord.from_dict(logged("videos", at, values)) for at, values in enumerate(videos)),
            tuple(SpanRecord.from_dict(logged("spans", at, values)) for at, values in enumerate(spans)),
        )


class _Logged(Mapping[str, object]):
    """The provenance in an entry of the log."""

    __slots__ = ("_at", "_field_name", "_number", "_objects")

    def __init__(self, objects: Objects, number: int, field_name: str, at: int) -> None:
        self._objects, self._number, self._field_name, self._at = objects, number, field_name, at

    def __getitem__(self, key: str) -> object:
        return self._values()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values())

    def __len__(self) -> int:
        return len(self._values())

    def _values(self) -> dict[str, object]:
        entry = _kept_entry(self._objects, self._number)  # type: ignore[arg-type]  # a protocol does not say hashable
        values: dict[str, object] = entry[self._field_name][self._at]["provenance"]
        return values


@lru_cache(maxsize=4)
def _kept_entry(objects: Objects, number: int) -> dict[str, Any]:
    entry = _read(objects, number)
    if entry is None:
        raise StoreError(f"{objects.url}: {_key(number)} is gone. Restore it from a copy")
    return entry


def start(objects: Objects, recipe: Mapping[str, object]) -> bool:
    """Write entry 0, which makes a folder a store; False where there is one already."""
    entry = {
        **_stamp("create"),
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "recipe": recipe,
        "recipe_digest": digest(recipe),
    }
    return objects.put_if_absent(_key(0), to_json(entry))


def recipe_of(objects: Objects) -> dict[str, object] | None:
    """The recipe in entry 0, or None where there is no log."""
    entry = _read(objects, 0)
    if entry is None:
        return None
    if entry.get("format") != FORMAT or entry.get("format_version") != FORMAT_VERSION:
        raise StoreError(
            f"{objects.url} has format {entry.get('format')!r}, version {entry.get('format_version')!r}; "
            f"expected {FORMAT!r}, {FORMAT_VERSION}. Open it with the version of untrimmed that wrote it"
        )
    recipe: dict[str, object] = entry["recipe"]
    if digest(recipe) != entry["recipe_digest"]:
        raise StoreError(f"{objects.url}: the recipe in {_key(0)} does not match its digest. Restore that file")
    return recipe


def follow(objects: Objects, catalogue: Catalogue, *, last: int | None = None) -> None:
    """Apply the entries after ``catalogue.version``, up to ``last`` or to the newest; many are read at once.

    The first are read one after the other, in this thread: a commit finds its own, and no more.
    """
    read, ahead = partial(_read, objects), _FEWEST_AHEAD
    with ThreadPoolExecutor(_MOST_AHEAD) as pool:
        while last is None or catalogue.version < last:
            first = catalogue.version + 1
            numbers = range(first, first + ahead if last is None else min(first + ahead, last + 1))
            entries = map(read, numbers) if ahead == _FEWEST_AHEAD else pool.map(read, numbers)
            for number, entry in zip(numbers, entries, strict=True):
                if entry is None:
                    return
                catalogue.apply(number, entry, Features.of(objects, number, entry))
            ahead = min(2 * ahead, _MOST_AHEAD)


def append(objects: Objects, catalogue: Catalogue, kind: str, values: Mapping[str, object]) -> None:
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


def _read(objects: Objects, number: int) -> dict[str, Any] | None:
    data = objects.get(_key(number))
    if data is None:
        return None
    try:
        entry: dict[str, Any] = json.loads(data)
    except ValueError as error:
        raise StoreError(f"{objects.url}: {_key(number)} is not JSON ({error}). Restore it from a copy") from error
    return entry
