"""The feature store: many writers, one truth, immutable parts."""

import difflib
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from extract.errors import RecipeMismatchError, StoreError, UsageError
from extract.recipe import difference, digest
from extract.store import log, published, segment
from extract.store.arrays import Spec, chunk_key, clip_specs, shard_rows
from extract.store.blocks import Block, Layout, layout
from extract.store.log import Catalogue
from extract.store.objects import Objects, check_conditional_writes, objects_at
from extract.store.publish import Extent, publish, published_extent
from extract.store.records import (
    Failure,
    FeatureSequence,
    Part,
    Receipt,
    SpanRecord,
    UnknownVideoError,
    VideoFeatures,
    VideoRecord,
)

GRACE_S = 24 * 3600.0
_COMPARED_NAMES = 10_000
_JOBS = "_jobs"


@dataclass(frozen=True, slots=True)
class Collected:
    """What garbage collection removed."""

    objects: int
    size_bytes: int


class FeatureStore:
    """Clip features of many videos, all made with one recipe.

    Workers call ``write_segment``; a coordinator commits the receipts they return; anybody reads by video id.
    What is not committed is invisible, and a committed video never changes. Committing a video again with the
    fingerprint it has is ignored: the first one wins. Another fingerprint means that the file was replaced:
    that version is the video's from then on, and the older one stays in the published arrays, where
    ``video_replaces`` points back to it.

    The log is read when first needed and on ``refresh``. Reading is safe from several threads, and a store
    can be pickled. Every method that touches files raises MachineError when the machine refuses.
    """

    def __init__(self, objects: Objects, recipe: Mapping[str, object], *, last: int | None) -> None:
        """Use ``create``, ``open`` or ``open_or_create`` instead."""
        self._objects = objects
        self._recipe = dict(recipe)
        self._specs = _clip_specs(recipe)
        self._last = last
        self._catalogue: Catalogue | None = None
        self._following = threading.Lock()

    @classmethod
    def create(cls, path: str | Path, recipe: Mapping[str, object]) -> Self:
        """Make an empty store in a folder that is missing or empty.

        ``recipe`` is plain JSON; ``feature_width`` and ``stored_dtype`` say what a row of features is.

        Raises:
            StoreError: the folder holds something.
            UsageError: the recipe lacks one of the two, or is not JSON.
        """
        objects = objects_at(path)
        plain = _plain(recipe)
        _clip_specs(plain)
        if not objects.is_unused():
            raise StoreError(f"{objects.url} exists and is not empty; expected a new or an empty folder")
        check_conditional_writes(objects)
        if not log.start(objects, plain):
            raise StoreError(f"{objects.url} has just become a store by another process; open it instead")
        return cls(objects, plain, last=None)

    @classmethod
    def open(cls, path: str | Path, *, version: int | None = None) -> Self:
        """Open a store; with ``version`` as of that log entry, for reading only and for ever the same.

        Raises:
            StoreError: there is no store, or no such version yet.
        """
        objects = objects_at(path)
        recipe = log.recipe_of(objects)
        if recipe is None:
            raise StoreError(f"{objects.url} is not a feature store: {objects.found()}")
        store = cls(objects, recipe, last=version)
        if version is not None and store.version != version:
            raise StoreError(f"{objects.url} has no version {version}; expected a number from 0 to {store.version}")
        return store

    @classmethod
    def open_or_create(cls, path: str | Path, recipe: Mapping[str, object]) -> Self:
        """Open the store, or make it where there is none yet.

        Raises:
            RecipeMismatchError: the store was made with another recipe.
            StoreError: the folder holds something that is not a store.
        """
        plain = _plain(recipe)
        _clip_specs(plain)
        if cls.find(path) is None:
            objects = objects_at(path)
            check_conditional_writes(objects)
            log.start(objects, plain)
        store = cls.open(path)
        store.check_recipe(plain)
        return store

    @classmethod
    def find(cls, path: str | Path) -> Self | None:
        """The store at ``path``, or None where one can be made; writes nothing.

        Raises:
            StoreError: the folder holds something that is not a store.
        """
        objects = objects_at(path)
        if log.recipe_of(objects) is None:
            if objects.is_unused():
                return None
            if log.recipe_of(objects) is None:  # not made by another process meanwhile, either
                raise StoreError(f"{objects.url} exists, is not empty and is not a feature store: {objects.found()}")
        return cls.open(path)

    def check_recipe(self, recipe: Mapping[str, object]) -> None:
        """Refuse another recipe than the store's.

        Raises:
            RecipeMismatchError: names each key that differs.
        """
        lines = difference(self.recipe, _plain(recipe))
        if lines:
            raise RecipeMismatchError(
                f"{self.url} holds features of another recipe:\n  "
                + "\n  ".join(lines)
                + "\nUse another output folder (-o), or the same options as before"
            )

    def __repr__(self) -> str:
        return f"FeatureStore({self.url!r}, videos={len(self)}, recipe={self.recipe_digest[:12]!r})"

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return _reopen, (type(self), self.url, self._last)

    @property
    def url(self) -> str:
        """Where the store is: the absolute path of a folder, or a URL."""
        return self._objects.url

    @property
    def recipe(self) -> Mapping[str, object]:
        """What the features were made with."""
        return MappingProxyType(self._recipe)

    @property
    def recipe_digest(self) -> str:
        """Hexadecimal sha256 of the recipe."""
        return digest(self._recipe)

    @property
    def version(self) -> int:
        """Number of the last log entry read."""
        return self._known().version

    @property
    def catalogue(self) -> Mapping[str, VideoRecord]:
        """The latest version of each video, by id; follows ``refresh``."""
        return _Latest(self._known())

    @property
    def failures(self) -> Mapping[str, Failure]:
        """Videos whose last attempt failed, by id; follows ``refresh``."""
        return MappingProxyType(self._known().failures)

    @property
    def spans(self) -> Mapping[str, Sequence[SpanRecord]]:
        """The spans there are of videos that are not whole yet, by id; follows ``refresh``."""
        return MappingProxyType(self._known().spans)

    @property
    def unsplit(self) -> Mapping[str, str]:
        """Fingerprints of videos whose spans would not add up to the whole, by id; follows ``refresh``."""
        return MappingProxyType(self._known().unsplit)

    @property
    def nbytes(self) -> int:
        """Bytes of the clips (or boxes) of all videos, as stored."""
        clips = sum(record.rows for record in self.catalogue.values())
        return clips * sum(spec.row_bytes for spec in self._specs)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the arrays along ``clip``, in the order that checksums cover them."""
        return tuple(spec.name for spec in self._specs)

    @property
    def of_boxes(self) -> bool:
        """Whether a row is a box of a clip, and not a clip."""
        return "box" in self.columns

    def refresh(self) -> None:
        """Read the log entries written since; does nothing to a store opened at a version."""
        known = self._known()
        with self._following:
            log.follow(self._objects, known, last=self._last)

    def __len__(self) -> int:
        return len(self._known().positions)

    def __iter__(self) -> Iterator[str]:
        """The video ids, sorted."""
        return iter(sorted(self._known().positions))

    def __contains__(self, video_id: object) -> bool:
        return video_id in self._known().positions

    def __getitem__(self, video_id: str) -> FeatureSequence:
        """The clips of one video, read from disk and checked.

        Raises:
            UnknownVideoError: no such video (also a KeyError).
            StoreError: the stored bytes are damaged.
        """
        known = self._known()
        position = known.positions.get(video_id)
        if position is None:
            raise UnknownVideoError(f"{self.url} has no video {video_id!r}{self._hint(video_id)}")
        record, start = known.versions[position], known.starts[position]
        for read in self._ways(start + record.rows <= known.compacted):
            columns = read(record, start)
            if columns is not None:
                features, start_s, stop_s, real_frames, damaged, *boxes = columns
                return FeatureSequence(features, start_s, stop_s, real_frames, damaged, record.duration_s, *boxes)
        raise segment.damaged(self._objects, record)

    def layout(self, *, block_bytes: int = 2**22) -> Layout:
        """All rows of the latest versions, in the order in which they lie, and in blocks for `features_of`."""
        known = self._known()
        latest = [(known.versions[at], known.starts[at]) for at in sorted(known.positions.values())]
        most_rows = max(1, block_bytes // self._specs[0].row_bytes)
        return layout(latest, published=self.published.clips, most_rows=most_rows)

    def features_of(self, laid: Layout, block: Block) -> NDArray[np.floating[Any]]:
        """(rows, D), as stored: the features of a block of ``laid``, safe from several threads.

        Read as they lie, without the checks of ``store[video_id]``, unless they are not where they should be.

        Raises:
            StoreError: the stored bytes are missing or damaged.
        """
        spec = self._specs[0]
        if block.part is None:
            columns = published.in_ranges(self._objects, (spec,), block.start, block.rows)
            if columns is not None:
                return columns[0]
        else:
            first, size = block.part.first_row * spec.row_bytes, block.rows * spec.row_bytes
            data = self._objects.get_range(f"{block.part.segment}/{chunk_key(spec, 0)}", first, size)
            if len(data) == size:
                return np.frombuffer(data, spec.dtype).reshape(block.rows, *spec.row_shape)
        return np.concatenate([self[video_id].features[rows] for video_id, rows in laid.touched(block)])

    def write_segment(self, videos: Sequence[VideoFeatures]) -> Receipt:
        """Write the features of one or more videos, without touching the log; a commit makes them count.

        Raises:
            StoreError: a width other than the recipe's, or a value that the stored type cannot hold.
        """
        self._check_writable()
        if not videos:
            raise UsageError("a segment of no videos; expected at least one")
        return segment.write(self._objects, self._specs, self.recipe_digest, videos)

    def commit(self, *receipts: Receipt) -> None:
        """Append one log entry that names the receipts' segments. Their videos are in the store from then on.

        A video whose spans come with several receipts is there when the last of them is.

        Raises:
            StoreError: a receipt of another recipe, or of a segment that is not here.
        """
        for receipt in receipts:
            self._check_receipt(receipt)
        if receipts:
            videos = [asdict(video) for receipt in receipts for video in receipt.videos]
            spans = [asdict(span) for receipt in receipts for span in receipt.spans]
            self._append("features", {"videos": videos, "spans": spans})

    def record_failure(self, video_id: str, fingerprint: str, reason: str, detail: str) -> None:
        """Append to the log that a video could not be extracted; a later commit of it clears this."""
        failure = {"fingerprint": fingerprint, "reason": reason, "detail": detail}
        self._append("failure", {"video_id": video_id, "failure": failure})

    def record_unsplit(self, video_id: str, fingerprint: str) -> None:
        """Append to the log that spans of a video would not add up to the whole: it is to be read in one piece."""
        self._append("unsplit", {"video_id": video_id, "fingerprint": fingerprint})

    def publish(self) -> None:
        """Bring the Zarr arrays at the root up to date, so that ``xarray.open_zarr(url)`` shows all videos.

        Safe beside readers, other publishers and being killed; nothing is written when nothing is new.

        Raises:
            StoreError: stored bytes are damaged.
        """
        with self._publishing():
            pass

    def compact(self) -> int:
        """Publish, and have the clips of full published shards be read from there; how many clips that are.

        Their segments are needed no more: ``collect`` removes them. Every video is compared with its checksum
        before. Safe beside readers and writers, and being killed.

        Raises:
            StoreError: published or stored bytes are damaged.
        """
        with self._publishing() as known:
            rows = shard_rows(self._specs[0])
            clips = known.clips // rows * rows
            for record, start in zip(known.versions, known.starts, strict=True):
                inside = known.compacted < start + record.rows <= clips
                if inside and self._from_ranges(record, start) is None:
                    raise StoreError(
                        f"{record.video_id}: its published clips are damaged; `untrimmed verify` tells all"
                    )
            if clips > known.compacted:
                self._append("compact", {"clips": clips})
            return clips

    def collect(self, *, grace_s: float = GRACE_S) -> Collected:
        """Delete what nothing names: segments of attempts that lost or died, of compacted videos, unfinished files.

        Only what is older than ``grace_s`` seconds, for a worker may just be writing it. A reader of an old
        snapshot finds compacted clips in the published arrays.
        """
        with self._publishing() as known:
            needed = {part.segment for part in _needed_parts(known)}
            old = (
                item
                for prefix in ("_segments/", "_tmp/")
                for item in self._objects.listed(prefix)
                if item.age_s > grace_s and not item.key.endswith(".lock") and segment.name_in(item.key) not in needed
            )
            count = size_bytes = 0
            while some := list(islice(old, 1000)):
                self._objects.delete(item.key for item in some)
                count += len(some)
                size_bytes += sum(item.size_bytes for item in some)
            return Collected(count, size_bytes)

    @property
    def published(self) -> Extent:
        """How many clips and videos (all versions) the arrays at the root hold."""
        return published_extent(self._objects) or Extent(0, 0)

    @property
    def compacted(self) -> int:
        """How many clips, from the first on, are read from the arrays at the root; follows ``refresh``."""
        return self._known().compacted

    def write_events(self, job: str, part: int, lines: str) -> None:
        """Keep lines of a job's event log. They say nothing of what the store holds."""
        self._objects.put_all([(f"{_JOBS}/{job}/{part:06d}.jsonl", lines.encode())])

    def jobs(self) -> list[str]:
        """The jobs that wrote events, in the order of their starts."""
        return sorted({item.key.split("/")[1] for item in self._objects.listed(f"{_JOBS}/")})

    def read_events(self, job: str) -> Iterator[str]:
        """The lines of a job's event log, in pieces."""
        for key in sorted(item.key for item in self._objects.listed(f"{_JOBS}/{job}/")):
            yield (self._objects.get(key) or b"").decode()

    @contextmanager
    def _publishing(self) -> Iterator[Catalogue]:
        """Alone, and with everything published."""
        self._check_writable()
        with self._objects.exclusive("publish"):
            self.refresh()
            known = self._known()
            publish(self._objects, self._specs, self._recipe, known)
            yield known

    def _known(self) -> Catalogue:
        with self._following:
            if self._catalogue is None:
                catalogue = Catalogue(tuple(spec.row_bytes for spec in self._specs))
                log.follow(self._objects, catalogue, last=self._last)
                self._catalogue = catalogue
            return self._catalogue

    def _ways(self, compacted: bool) -> Sequence[Callable[[VideoRecord, int], segment.Columns | None]]:
        """How a video's clips can be read, the likely one first; each has what the others lost."""
        if compacted:
            return (self._from_ranges, self._from_zarr, self._from_segments)
        return (self._from_segments, self._from_ranges, self._from_zarr)

    def _from_segments(self, record: VideoRecord, _start: int) -> segment.Columns | None:
        pieces = []
        for part in record.parts:
            columns = segment.read(self._objects, self._specs, part)
            if columns is None:
                return None
            pieces.append(columns)
        return pieces[0] if len(pieces) == 1 else tuple(map(np.concatenate, zip(*pieces, strict=True)))

    def _from_ranges(self, record: VideoRecord, start: int) -> segment.Columns | None:
        return _checked(published.in_ranges(self._objects, self._specs, start, record.rows), record)

    def _from_zarr(self, record: VideoRecord, start: int) -> segment.Columns | None:
        return _checked(published.through_zarr(self._objects, self._specs, start, record.rows), record)

    def _append(self, kind: str, values: Mapping[str, object]) -> None:
        self._check_writable()
        known = self._known()
        with self._following:
            log.append(self._objects, known, kind, values)

    def _check_writable(self) -> None:
        if self._last is not None:
            raise UsageError(f"{self.url} is open at version {self._last}, for reading; open it without a version")

    def _check_receipt(self, receipt: Receipt) -> None:
        if receipt.recipe_digest != self.recipe_digest:
            raise StoreError(
                f"{receipt.segment} was made with recipe {receipt.recipe_digest[:12]}; this store is of "
                f"{self.recipe_digest[:12]}. Commit it to the store that wrote it"
            )
        if self._objects.get(f"{receipt.segment}/zarr.json") is None:
            raise StoreError(f"{self.url} has no {receipt.segment}; commit a receipt to the store that wrote it")

    def _hint(self, video_id: str) -> str:
        known = self._known()
        if video_id in known.failures:
            failure = known.failures[video_id]
            return f": it failed ({failure.reason}: {failure.detail})"
        near = difflib.get_close_matches(video_id, islice(known.positions, _COMPARED_NAMES))
        return f"; near: {', '.join(map(repr, near))}" if near else f"; it holds {len(self)} others"


def _checked(columns: segment.Columns | None, record: VideoRecord) -> segment.Columns | None:
    return columns if columns is not None and segment.crc32_of(columns) == record.crc32 else None


def location(path: str | Path) -> str:
    """Where a store at ``path`` is, as every process can open it: an absolute path, or a URL."""
    return objects_at(path).url


def _needed_parts(known: Catalogue) -> Iterator[Part]:
    """Parts that are read from their segments: of what is not compacted, and of videos that are not whole yet."""
    for record, start in zip(known.versions, known.starts, strict=True):
        if start + record.rows > known.compacted:
            yield from record.parts
    for spans in known.spans.values():
        yield from (span.part for span in spans)


class _Latest(Mapping[str, VideoRecord]):
    """The latest versions of a catalogue."""

    def __init__(self, known: Catalogue) -> None:
        self._known = known

    def __getitem__(self, video_id: str) -> VideoRecord:
        return self._known.versions[self._known.positions[video_id]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known.positions)

    def __len__(self) -> int:
        return len(self._known.positions)


def _reopen(kind: type[FeatureStore], path: str, version: int | None) -> FeatureStore:
    return kind.open(path, version=version)


def _plain(recipe: Mapping[str, object]) -> dict[str, object]:
    """``recipe`` as it comes back from JSON, so that tuples and lists compare equal."""
    try:
        plain: dict[str, object] = json.loads(json.dumps(dict(recipe), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UsageError(f"the recipe is not plain JSON: {error}") from error
    return plain


def _clip_specs(recipe: Mapping[str, object]) -> tuple[Spec, ...]:
    dtype, width = recipe.get("stored_dtype"), recipe.get("feature_width")
    if dtype not in ("float16", "float32") or not isinstance(width, int) or width < 1:
        raise UsageError(
            f"the recipe has stored_dtype {dtype!r} and feature_width {width!r}; "
            "expected float16 or float32, and a whole number of at least 1"
        )
    return clip_specs(str(dtype), width, boxes=recipe.get("roi") is not None)
