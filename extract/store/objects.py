"""The store's only access to files: whole objects under string keys, with the few promises it builds on.

Every write is durable on return. Nothing is listed, moved to another key or changed in place, so that an
object store can stand behind the same five methods.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from extract.errors import MachineError, UntrimmedError

_SCRATCH = "_tmp"
_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


class LocalObjects:
    """Objects as files below the folder ``root``, which is made when the first object is written.

    All methods raise MachineError when the machine refuses: a full disk, a missing permission.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

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
                with (self.root / key).open("rb") as file:
                    file.seek(start)
                    del buffer[file.readinto(buffer) :]
            except FileNotFoundError:
                buffer.clear()
        return buffer

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


def is_unused(folder: Path) -> bool:
    """Whether a store may be made in ``folder``: it is missing, empty, or left by a creation cut short."""
    if not folder.exists():
        return True
    if not folder.is_dir():
        return False
    return all(
        entry.name == _SCRATCH or (entry.name == "_log" and not any(entry.iterdir())) for entry in folder.iterdir()
    )


def _make_folder(folder: Path) -> set[Path]:
    """Make a folder and its parents; returns those that have a new entry and must be synced."""
    if folder.is_dir():
        return set()
    changed = _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    return {*changed, folder.parent}


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
