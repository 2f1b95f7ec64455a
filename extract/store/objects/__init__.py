"""The store's only access to what holds it: a folder, or a prefix of an object store's bucket.

Nothing is moved to another key or changed in place, and nothing that must be right comes from a listing.
"""

from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from extract.errors import StoreError, UsageError
from extract.store.objects._interface import PROBES, Listed, Objects
from extract.store.objects._local import LocalObjects
from extract.store.objects._remote import RemoteObjects
from extract.urls import URL, without_secrets

__all__ = ["Listed", "LocalObjects", "Objects", "check_conditional_writes", "objects_at"]

_FILE = "file://"


def objects_at(location: str | Path) -> Objects:
    """The objects at a path or URL; asks nothing of anybody yet.

    Raises:
        UsageError: a URL that is none, or of a kind that cannot hold a store.
    """
    if isinstance(location, Path) or not URL.match(location):
        return LocalObjects(Path(location))
    if location.startswith(_FILE):
        return LocalObjects(_path_of(location))
    return RemoteObjects(location)


def check_conditional_writes(objects: Objects) -> None:
    """Try out whether the storage refuses to create an object twice, without which the log is not safe.

    Raises:
        StoreError: it does not.
    """
    if isinstance(objects, LocalObjects):  # link(2) is refused by the kernel
        return
    key = f"{PROBES}{uuid4().hex}"
    try:
        answers = [objects.put_if_absent(key, data) for data in (b"first", b"second")]
    finally:
        objects.delete([key])
    if answers != [True, False]:
        raise StoreError(
            f"{objects.url}: this storage ignores conditional writes: it created one object twice, where the second "
            "creation must be refused. Two jobs would overwrite each other's results without notice. "
            "Use a storage that honours `If-None-Match: *`, or a local folder"
        )


def _path_of(url: str) -> Path:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise UsageError(f"{without_secrets(url)} names another machine; expected file:///path or a plain path")
    return Path(unquote(parts.path))
