"""Objects in files."""

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from extract.errors import MachineError, UntrimmedError
from extract.store.objects._interface import Listed, shown

_SCRATCH = "_tmp"
_SHARED_LEVELS = 2  # folders nearest to the root, in which several processes make folders
_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_NOT_EMPTY = {errno.ENOTEMPTY, errno.EEXIST}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


class LocalObjects:
    """Objects as files below the folder ``root``, which is made when the first object is written."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def __reduce__(self) -> tuple[type["LocalObjects"], tuple[Path]]:
        return LocalObjects, (self.root,)

    @property
    def url(self) -> str:
        """The absolute path."""
        return str(self.root)

    def get(self, key: str) -> bytes | None:
        """The whole object, or None where there is none."""
        with self._explained(f"read {key}"):
            try:
                return (self.root / key).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def get_range(self, key: str, start: int, length: int) -> bytearray:
        """``length`` bytes from byte ``start``; fewer where the object ends, none where it is missing."""
        buffer = bytearray(length)
        with self._explained(f"read {key}"):
            try:
                descriptor = os.open(f"{self.root}/{key}", os.O_RDONLY)
            except (FileNotFoundError, NotADirectoryError):
                return bytearray()
            try:
                del buffer[_read_at(descriptor, start, buffer) :]
            finally:
                os.close(descriptor)
        return buffer

    def size(self, key: str) -> int | None:
        """Length in bytes, or None where there is no object."""
        with self._explained(f"read {key}"):
            try:
                return (self.root / key).stat().st_size
            except (FileNotFoundError, NotADirectoryError):
                return None

    def put_all(self, objects: Iterable[tuple[str, bytes]]) -> None:
        """Write objects, each replaced as a whole: a reader sees the old bytes or the new ones."""
        changed: set[Path] = set()
        for key, data in objects:
            with self._explained(f"write {key}"):
                target = self.root / key
                changed |= {target.parent, *_make_folder(target.parent)}
                with self._temporary(data) as temporary:
                    temporary.replace(target)
        with self._explained("write"):
            _sync_folders(changed)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write an object unless the key is taken; of several writers exactly one gets True."""
        with self._explained(f"write {key}"):
            target = self.root / key
            changed = {target.parent, *_make_folder(target.parent)}
            with self._temporary(data) as temporary:
                made = _link(temporary, target)
            _sync_folders(changed)
            return made

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects, and folders that are empty then, but for those where others may just make theirs."""
        folders: set[Path] = set()
        for key in keys:
            with self._explained(f"delete {key}"):
                (self.root / key).unlink(missing_ok=True)
                folders.update((self.root / key).relative_to(self.root).parents)
        with self._explained("delete"):
            for folder in sorted(folders, key=lambda folder: len(folder.parts), reverse=True):
                if len(folder.parts) > _SHARED_LEVELS:
                    _remove_if_empty(self.root / folder)

    def listed(self, prefix: str) -> Iterator[Listed]:
        """All objects below the folder ``prefix``; those that are gone before they are reached are left out."""
        now_s = time.time()
        with self._explained(f"list {prefix}"):
            for folder, _, names in os.walk(self.root / prefix, onerror=_raise_unless_gone):
                for name in names:
                    path = Path(folder, name)
                    with suppress(FileNotFoundError):
                        status = path.stat()
                        yield Listed(path.relative_to(self.root).as_posix(), status.st_size, now_s - status.st_mtime)

    @contextmanager
    def exclusive(self, name: str) -> Iterator[None]:
        """Wait for, then hold, the lock ``name``; it ends with its process, however that ends."""
        with self._explained(f"lock {name}"):
            _make_folder(self.root / _SCRATCH)
            lock = os.open(self.root / _SCRATCH / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            with self._explained(f"lock {name}"):
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def is_unused(self) -> bool:
        """Whether the folder is missing, empty, or left by a creation cut short."""
        with self._explained("read"):
            if not self.root.exists():
                return True
            if not self.root.is_dir():
                return False
            return all(
                entry.name == _SCRATCH or (entry.name == "_log" and not any(entry.iterdir()))
                for entry in self.root.iterdir()
            )

    def found(self) -> str:
        """What there is in place of a store, and what to do, for the end of a sentence."""
        if not self.root.exists():
            return "there is no such folder. Check the path, or extract into it first"
        if not self.root.is_dir():
            return "it is a file. Give the folder that features were extracted into"
        names = sorted(entry.name for entry in self.root.iterdir())
        return f"it holds {shown(names)}, no _log. Give the folder that features were extracted into"

    def for_zarr(self) -> str:
        """The absolute path."""
        return str(self.root)

    @contextmanager
    def _temporary(self, data: bytes) -> Iterator[Path]:
        """A durable file of a new unique name; removed at the end if it is still there."""
        path = self.root / _SCRATCH / uuid4().hex
        _make_folder(path.parent)
        try:
            _write_durably(path, data)
            yield path
        finally:
            path.unlink(missing_ok=True)

    @contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        try:
            yield
        except UntrimmedError:
            raise
        except OSError as error:
            raise MachineError(f"{self.root}: cannot {doing}: {self._explain(error)}") from error

    def _explain(self, error: OSError) -> str:
        if error.errno in _FULL:
            return (
                f"the disk is full ({_free_megabytes(self.root):,} MB free). Everything committed is safe: "
                "make room, or move the store to a larger disk, and run the same command again"
            )
        if error.errno in _FORBIDDEN:
            return f"{error.strerror}. Make the folder accessible to this user, or choose another one"
        return f"{error.strerror or error}. Everything committed is safe; check the disk and try again"


def _make_folder(folder: Path) -> set[Path]:
    """Make a folder and its parents; returns those that have a new entry and must be synced."""
    if folder.is_dir():
        return set()
    changed = _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    return {*changed, folder.parent}


def _read_at(descriptor: int, start: int, buffer: bytearray) -> int:
    """Fill ``buffer`` from byte ``start`` of a file on, as far as that goes: so many bytes."""
    done, read = 0, -1
    while read and done < len(buffer):
        read = os.preadv(descriptor, [memoryview(buffer)[done:]], start + done)
        done += read
    return done


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in _NOT_EMPTY:
            raise


def _sync_folders(folders: set[Path]) -> None:
    for folder in sorted(folders):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write_durably(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _link(source: Path, target: Path) -> bool:
    try:
        target.hardlink_to(source)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno in _NO_LINKS:
            raise MachineError(
                f"{target.parent}: this file system has no hard links ({error.strerror}), which the log "
                "needs to be safe. Put the store on another file system"
            ) from error
        raise
    return True


def _free_megabytes(folder: Path) -> int:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return shutil.disk_usage(existing).free // 1_000_000
