"""The feature store: many writers, one truth, immutable parts."""

import difflib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Self

from extract.errors import RecipeMismatchError, StoreError, UsageError
from extract.recipe import difference, digest
from extract.store import log, segment
from extract.store.arrays import Spec, clip_specs
from extract.store.log import Catalogue
from extract.store.objects import LocalObjects, is_unused
from extract.store.publish import publish
from extract.store.records import (
    Failure,
    FeatureSequence,
    Receipt,
    UnknownVideoError,
    VideoFeatures,
    VideoRecord,
)

_COMPARED_NAMES = 10_000


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

    def __init__(self, objects: LocalObjects, recipe: Mapping[str, object], *, last: int | None) -> None:
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
        objects = _objects(path)
        plain = _plain(recipe)
        _clip_specs(plain)
        if not is_unused(objects.root):
            raise StoreError(f"{objects.root} exists and is not empty; expected a new or an empty folder")
        if not log.start(objects, plain):
            raise StoreError(f"{objects.root} has just become a store by another process; open it instead")
        return cls(objects, plain, last=None)

    @classmethod
    def open(cls, path: str | Path, *, version: int | None = None) -> Self:
        """Open a store; with ``version`` as of that log entry, for reading only and for ever the same.

        Raises:
            StoreError: there is no store, or no such version yet.
        """
        objects = _objects(path)
        recipe = log.recipe_of(objects)
        if recipe is None:
            raise StoreError(f"{objects.root} is not a feature store: {_found(objects.root)}")
        store = cls(objects, recipe, last=version)
        if version is not None and store.version != version:
            raise StoreError(f"{objects.root} has no version {version}; expected a number from 0 to {store.version}")
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
            log.start(_objects(path), plain)
        store = cls.open(path)
        store.check_recipe(plain)
        return store

    @classmethod
    def find(cls, path: str | Path) -> Self | None:
        """The store at ``path``, or None where one can be made; writes nothing.

        Raises:
            StoreError: the folder holds something that is not a store.
        """
        objects = _objects(path)
        if log.recipe_of(objects) is not None:
            return cls.open(path)
        if not is_unused(objects.root):
            raise StoreError(f"{objects.root} exists, is not empty and is not a feature store: {_found(objects.root)}")
        return None

    def check_recipe(self, recipe: Mapping[str, object]) -> None:
        """Refuse another recipe than the store's.

        Raises:
            RecipeMismatchError: names each key that differs.
        """
        lines = difference(self.recipe, _plain(recipe))
        if lines:
            raise RecipeMismatchError(
                f"{self.path} holds features of another recipe:\n  "
                + "\n  ".join(lines)
                + "\nUse another output folder (-o), or the same options as before"
            )

    def __repr__(self) -> str:
        return f"FeatureStore({str(self.path)!r}, videos={len(self)}, recipe={self.recipe_digest[:12]!r})"

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return _reopen, (type(self), self.path, self._last)

    @property
    def path(self) -> Path:
        """The store's folder."""
        return self._objects.root

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
        return MappingProxyType(self._known().current)

    @property
    def failures(self) -> Mapping[str, Failure]:
        """Videos whose last attempt failed, by id; follows ``refresh``."""
        return MappingProxyType(self._known().failures)

    @property
    def nbytes(self) -> int:
        """Bytes of the clips of all videos, as stored."""
        clips = sum(record.rows for record in self._known().current.values())
        return clips * sum(spec.row_bytes for spec in self._specs)

    def refresh(self) -> None:
        """Read the log entries written since; does nothing to a store opened at a version."""
        known = self._known()
        with self._following:
            log.follow(self._objects, known, last=self._last)

    def __len__(self) -> int:
        return len(self._known().current)

    def __iter__(self) -> Iterator[str]:
        """The video ids, sorted."""
        return iter(sorted(self._known().current))

    def __contains__(self, video_id: object) -> bool:
        return video_id in self._known().current

    def __getitem__(self, video_id: str) -> FeatureSequence:
        """The clips of one video, read from disk and checked.

        Raises:
            UnknownVideoError: no such video (also a KeyError).
            StoreError: the stored bytes are damaged.
        """
        record = self._known().current.get(video_id)
        if record is None:
            raise UnknownVideoError(f"{self.path} has no video {video_id!r}{self._hint(video_id)}")
        return segment.read(self._objects, self._specs, record)

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

        Raises:
            StoreError: a receipt of another recipe, or of a segment that is not here.
        """
        for receipt in receipts:
            self._check_receipt(receipt)
        if receipts:
            self._append("segment", {"segments": [receipt.as_dict() for receipt in receipts]})

    def record_failure(self, video_id: str, fingerprint: str, reason: str, detail: str) -> None:
        """Append to the log that a video could not be extracted; a later commit of it clears this."""
        failure = {"fingerprint": fingerprint, "reason": reason, "detail": detail}
        self._append("failure", {"video_id": video_id, "failure": failure})

    def publish(self) -> None:
        """Bring the Zarr arrays at the root up to date, so that ``xarray.open_zarr(path)`` shows all videos.

        Safe beside readers, other publishers and being killed; nothing is written when nothing is new.

        Raises:
            StoreError: stored bytes are damaged.
        """
        self._check_writable()
        with self._objects.exclusive("publish"):
            self.refresh()
            publish(self._objects, self._specs, self._recipe, self._known())

    def _known(self) -> Catalogue:
        with self._following:
            if self._catalogue is None:
                catalogue = Catalogue()
                log.follow(self._objects, catalogue, last=self._last)
                self._catalogue = catalogue
            return self._catalogue

    def _append(self, kind: str, values: Mapping[str, object]) -> None:
        self._check_writable()
        known = self._known()
        with self._following:
            log.append(self._objects, known, kind, values)

    def _check_writable(self) -> None:
        if self._last is not None:
            raise UsageError(f"{self.path} is open at version {self._last}, for reading; open it without a version")

    def _check_receipt(self, receipt: Receipt) -> None:
        if receipt.recipe_digest != self.recipe_digest:
            raise StoreError(
                f"{receipt.segment} was made with recipe {receipt.recipe_digest[:12]}; this store is of "
                f"{self.recipe_digest[:12]}. Commit it to the store that wrote it"
            )
        if self._objects.get(f"{receipt.segment}/zarr.json") is None:
            raise StoreError(f"{self.path} has no {receipt.segment}; commit a receipt to the store that wrote it")

    def _hint(self, video_id: str) -> str:
        known = self._known()
        if video_id in known.failures:
            failure = known.failures[video_id]
            return f": it failed ({failure.reason}: {failure.detail})"
        near = difflib.get_close_matches(video_id, islice(known.current, _COMPARED_NAMES))
        return f"; near: {', '.join(map(repr, near))}" if near else f"; it holds {len(self)} others"


def _reopen(kind: type[FeatureStore], path: Path, version: int | None) -> FeatureStore:
    return kind.open(path, version=version)


def _objects(path: str | Path) -> LocalObjects:
    if "://" in str(path):
        raise UsageError(f"{path}: a store on an object store is not supported yet; give a local folder")
    return LocalObjects(Path(path).absolute())


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
    return clip_specs(str(dtype), width)


def _found(folder: Path) -> str:
    if not folder.exists():
        return "there is no such folder. Check the path, or extract into it first"
    if not folder.is_dir():
        return "it is a file. Give the folder that features were extracted into"
    names = sorted(entry.name for entry in folder.iterdir())
    shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    return f"it holds {shown or 'nothing'}, no _log. Give the folder that features were extracted into"
