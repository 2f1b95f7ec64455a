"""Files in the cache folder: those that this project makes itself are named by the code that made them, and whole."""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

_MAKERS = ("backbones", "engine", "weights")


@cache
def code_digest() -> str:
    """Digest of the modules that such files depend on, so that another version of them makes its own."""
    digest = hashlib.sha256()
    for folder in _MAKERS:
        for path in sorted((Path(__file__).parent / folder).glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Hexadecimal. Raises OSError when the file cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def room_beside(kept: Path) -> Iterator[Path]:
    """A folder of nobody else's on the file system of ``kept``, for what is to become it; gone in the end.

    Raises:
        OSError: the cache folder cannot be written.
    """
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=kept.parent) as room:
        yield Path(room)
