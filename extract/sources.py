"""Finding videos: which files a job reads, their ids, and the fingerprint of their content."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

from extract.errors import InputError, VideoError
from extract.remote import RemoteFile, is_url
from extract.urls import text_without_secrets, without_secrets

# By file name, which files in a folder are taken for videos. A file named on the command line is always tried.
SUFFIXES = frozenset(
    (
        ".264",
        ".3gp",
        ".asf",
        ".avi",
        ".divx",
        ".dv",
        ".flv",
        ".gif",
        ".h264",
        ".h265",
        ".hevc",
        ".ivf",
        ".m2ts",
        ".m2v",
        ".m4v",
        ".mjpeg",
        ".mjpg",
        ".mkv",
        ".mov",
        ".mp4",
        ".mpeg",
        ".mpg",
        ".mts",
        ".mxf",
        ".ogm",
        ".ogv",
        ".rm",
        ".rmvb",
        ".ts",
        ".vob",
        ".webm",
        ".wmv",
        ".y4m",
    )
)
_SAMPLE_BYTES = 1 << 20
_WEB = ("http", "https")


@dataclass(frozen=True, slots=True)
class Source:
    """One video of a job. ``video_id``: its path below the job's root, with "/"; ``path`` is absolute, or a URL."""

    video_id: str
    path: str


@dataclass(frozen=True, slots=True)
class Found:
    """The videos below the given paths, by id, and how many other files lie beside them."""

    sources: tuple[Source, ...]
    others: int


def find_videos(paths: Sequence[str | Path]) -> Found:
    """All videos in ``paths`` (files, folders searched at any depth, or URLs of files), sorted by id.

    The root below which ids are formed is the one given folder, or the folder that all given paths have in common,
    so that two files of one name never get one id. The id of a URL is its host (and port, if given) and path.

    Raises:
        InputError: a path that does not exist, a folder that cannot be read, nothing that looks like a video, a URL
            that names no file, or two videos of one id.
    """
    if not paths:
        raise InputError("no path given; expected video files, folders or URLs")
    remote = [Source(_url_id(url), url) for url in dict.fromkeys(path for path in paths if is_url(path))]
    local, others = _local([Path(path) for path in paths if not is_url(path)])
    sources = sorted((*local, *remote), key=lambda source: source.video_id)
    for one, other in pairwise(sources):
        if one.video_id == other.video_id:
            both = f"{without_secrets(one.path)} and {without_secrets(other.path)}"
            raise InputError(f"{both} would both be {one.video_id!r}; read them in two stores")
    return Found(tuple(sources), others)


def _url_id(url: str) -> str:
    """Host, port if given, and path; the fragment too, except on the web, where it does not belong to the address."""
    try:
        parts = urlsplit(url)
        is_web = parts.scheme in _WEB
        port = f":{parts.port}" if is_web and parts.port is not None else ""
    except ValueError as error:
        why = f"{without_secrets(url)} is not a URL ({text_without_secrets(str(error), url)})"
        raise InputError(f"{why}; expected one such as https://host/video.mp4") from error
    host = f"{parts.hostname or ''}{port}" if is_web else parts.hostname or parts.netloc
    fragment = f"#{parts.fragment}" if parts.fragment and not is_web else ""
    video_id = f"{host}{unquote(parts.path + fragment)}".lstrip("/")
    if not video_id:
        raise InputError(f"{without_secrets(url)} names no file; expected a URL such as https://host/video.mp4")
    return video_id


def _local(given: list[Path]) -> tuple[list[Source], int]:
    """Videos in files and folders, and the number of other files beside them."""
    if not given:
        return [], 0
    for path in given:
        if not path.exists():
            raise InputError(f"{path} does not exist; expected a video file or a folder of videos")
        if not path.is_file() and not path.is_dir():
            raise InputError(f"{path} is neither a file nor a folder; expected a video file or a folder of videos")
    root = _root(given)
    files: set[Path] = set()
    others = 0
    for path in given:
        found, passed_over = _files(path)
        files.update(_absolute(file) for file in found)
        others += passed_over
    if not files:
        listed = ", ".join(str(path) for path in given)
        raise InputError(
            f"no video in {listed} ({others} other files); "
            "files of a folder are recognised by names such as .mp4, .mkv, .webm; name a file itself to try it anyway"
        )
    return [Source(place.relative_to(root).as_posix(), str(place)) for place in files], others


def fingerprint(path: str | Path) -> str:
    """Digest of the length of a file or URL and of its first, middle and last MiB (whole, up to 3 MiB): "blake2b:…".

    Raises:
        VideoError: the file cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    try:
        with RemoteFile(path) if is_url(path) else Path(path).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            digest.update(size.to_bytes(8, "little"))
            for start in (0, size // 2 - _SAMPLE_BYTES // 2, size - _SAMPLE_BYTES):
                file.seek(max(0, start))
                digest.update(file.read(_SAMPLE_BYTES))
    except OSError as error:
        reason = "permission" if isinstance(error, PermissionError) else "io_error"
        raise VideoError(path, reason, f"cannot be read: {error.strerror or error}") from error
    return f"blake2b:{digest.hexdigest()}"


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links out of the root


def _root(given: Sequence[Path]) -> Path:
    tops = [_absolute(path) if path.is_dir() else _absolute(path).parent for path in given]
    return Path(os.path.commonpath(tops))


def _files(path: Path) -> tuple[list[Path], int]:
    """Videos in ``path``, and the number of other files. Hidden files and folders are left out of both."""
    if path.is_file():
        return [path], 0
    videos: list[Path] = []
    others = 0
    seen: set[tuple[int, int]] = set()
    for folder, subfolders, names in os.walk(path, onerror=_unreadable, followlinks=True):
        place = Path(folder).stat()
        if (place.st_dev, place.st_ino) in seen:  # a link back up
            subfolders.clear()
            continue
        seen.add((place.st_dev, place.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        files = [Path(folder) / name for name in names if not name.startswith(".")]
        found = [file for file in files if file.suffix.lower() in SUFFIXES and not _is_special(file)]
        videos += found
        others += len(files) - len(found)
    return videos, others


def _is_special(file: Path) -> bool:
    """Whether it is a pipe, a socket or a device: opening one may wait for ever."""
    return file.exists() and not file.is_file()


def _unreadable(error: OSError) -> None:
    raise InputError(f"{error.filename} cannot be searched for videos: {error.strerror}; make it readable") from error
