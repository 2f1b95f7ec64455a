"""Videos beside a page: which file one is, the link to it, and small pictures out of it."""

import base64
import io
import math
import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from extract.errors import VideoError
from extract.sources import SUFFIXES
from extract.video import DecodingProcess, VideoInfo
from pipelines.annotations.document import Media

_FRESH_S = 10.0  # what a folder holds is asked again after so long
_TRIES = 3  # a decoder that hangs takes a minute for each
_TALLEST = 1.5  # a thumbnail, in its widths
_TOLERANCE_S = 1e-4
_PAST_S = 1.0  # so far past the end the last frame will do
_QUALITY = 72
_CODECS = frozenset({"h264", "vp8", "vp9", "av1"})
_CONTAINERS = frozenset({"mov", "mp4", "matroska", "webm"})
_PIXELS = frozenset({"yuv420p", "yuvj420p"})


def find_video(video_id: str, *, source: str | None = None, folder: Path | None = None) -> Path | None:
    """The file of a video on this machine, or None.

    In ``folder``: the file that the id names below it, or the one file of its name (or, where the id has no suffix of
    videos, the one video of its name with any) at any depth. Else the path ``source`` that was recorded when the
    video was read. An id that leads out of ``folder`` names nothing in it.
    """
    found = None if folder is None else _below(video_id, folder)
    return found or _recorded(source)


def relative_link(video: Path, page_folder: Path) -> str:
    """The percent-encoded address of ``video`` for a page that lies in ``page_folder``; never has a scheme of its own.

    On another drive of Windows, where no relative address leads, it is a ``file:`` address.
    """
    try:
        relative = os.path.relpath(os.path.abspath(video), os.path.abspath(page_folder))  # noqa: PTH100 - ".." as text
    except ValueError:
        return video.absolute().as_uri()
    return quote(os.fsencode(relative.replace(os.sep, "/")), safe="/")


def browser_playable(info: VideoInfo) -> bool:
    """Whether browsers play such a file: H.264, VP8, VP9 or AV1 of usual colours in MP4, MOV, WebM or Matroska."""
    return (
        info.codec in _CODECS and info.pixel_format in _PIXELS and not _CONTAINERS.isdisjoint(info.container.split(","))
    )


def media_of(info: VideoInfo) -> Media:
    """What a video file says of itself, as files of annotations would."""
    return Media(info.duration_s, info.average_fps, info.width, info.height)


def thumbnails(
    video: Path, seconds: Sequence[float], *, width_px: int = 160, process: DecodingProcess | None = None
) -> list[str | None]:
    """JPEG pictures ``width_px`` wide of what ``video`` shows at these seconds from its first frame, as data URLs.

    None where there is no picture: past the end by more than a second, or because it cannot be decoded. Decoding is
    done in a process of its own, one picture after the other in the order of time, each from the key frame before it;
    a file without an index is read once. A video that gives none of the first few is given up. ``process``: one that
    is there already, to make pictures of many videos.
    """
    if not seconds:
        return []
    pictures: dict[float, NDArray[np.uint8] | None] = dict.fromkeys(seconds)
    with nullcontext(process) if process is not None else DecodingProcess() as process:
        try:
            info = process.probe(video)
        except VideoError:
            return [None] * len(seconds)
        stop = (math.inf if info.duration_s is None else info.duration_s) + _PAST_S
        wanted = sorted(second for second in pictures if -math.inf < second < stop)
        read = _Reading(process, video, info, width_px)
        pictures.update(zip(wanted, read.each(wanted) if info.seekable else read.all(wanted), strict=True))
    return [None if (picture := pictures[second]) is None else _data_url(picture, width_px) for second in seconds]


class _Reading:
    """How the pictures of one video are read."""

    def __init__(self, process: DecodingProcess, video: Path, info: VideoInfo, width_px: int) -> None:
        self._process, self._video, self._info = process, video, info
        across = info.width / info.height
        width = min(width_px, _TALLEST * width_px * across)
        self._short_side = max(1, round(min(width, width / across)))

    def each(self, seconds: Sequence[float]) -> list[NDArray[np.uint8] | None]:
        """What is shown at each second, in pieces of the file."""
        pictures: list[NDArray[np.uint8] | None] = []
        for second in seconds:
            hopeless = len(pictures) >= _TRIES and all(picture is None for picture in pictures)
            pictures.append(None if hopeless else self._at(second))
        return pictures

    def all(self, seconds: Sequence[float]) -> list[NDArray[np.uint8] | None]:
        """The same of ascending ``seconds``, by reading the file up to the last of them."""
        if not seconds:
            return []
        pictures: list[NDArray[np.uint8]] = []
        after = [self._info.start_s + max(0.0, second) + _TOLERANCE_S for second in seconds]
        shown: NDArray[np.uint8] | None = None
        try:
            reader = self._process.open_video(self._video, stop_s=max(after), short_side=self._short_side)
            for batch in reader:
                for picture, pts_s in zip(batch.pixels, batch.pts_s, strict=True):
                    copied = picture.copy()
                    while len(pictures) < len(after) and pts_s > after[len(pictures)]:
                        pictures.append(copied if shown is None else shown)
                    shown = copied
        except VideoError:
            shown = None
        rest = len(seconds) - len(pictures)
        return [*pictures, *([shown] * rest)]

    def _at(self, second: float) -> NDArray[np.uint8] | None:
        duration = self._info.duration_s
        last = second if duration is None else duration - 1 / self._info.average_fps
        moment = max(0.0, min(second, last))
        picture = self._sample(moment)
        return self._sample(max(0.0, moment - _PAST_S)) if picture is None else picture

    def _sample(self, second: float) -> NDArray[np.uint8] | None:
        """The frame being shown then: the first sample after the first frame, at a rate that puts it there."""
        at_start = second <= _TOLERANCE_S
        time_s = self._info.start_s + (0.0 if at_start else second)
        try:
            reader = self._process.open_video(
                self._video,
                fps=1.0 if at_start else 1 / second,
                start_s=None if at_start else time_s - _TOLERANCE_S,
                stop_s=time_s + _TOLERANCE_S,
                short_side=self._short_side,
            )
            frames = [batch.pixels[-1] for batch in reader]
        except VideoError:
            return None
        return frames[-1] if frames else None


def _below(video_id: str, folder: Path) -> Path | None:
    parts = PurePosixPath(video_id).parts
    if not parts or "\0" in video_id or ".." in parts or PurePosixPath(video_id).is_absolute() or Path(video_id).drive:
        return None
    try:
        if (folder / video_id).is_file():
            return folder / video_id
    except OSError:  # a name too long for a file
        return None
    names, stems = _files(folder, int(time.monotonic() // _FRESH_S))
    found = names.get(parts[-1]) or stems.get(parts[-1], [])
    return found[0] if len(found) == 1 else None


@lru_cache(maxsize=8)
def _files(folder: Path, _when: int) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """The files below ``folder`` by name, and its videos by name without suffix."""
    names: dict[str, list[Path]] = {}
    stems: dict[str, list[Path]] = {}
    for root, _, files in os.walk(folder):
        for name in files:
            path = Path(root, name)
            names.setdefault(name, []).append(path)
            if path.suffix.lower() in SUFFIXES:
                stems.setdefault(path.stem, []).append(path)
    return names, stems


def _recorded(source: str | None) -> Path | None:
    if not source or "\0" in source:
        return None
    parts = urlsplit(source)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        source = unquote(parts.path)
    elif "://" in source:
        return None
    try:
        return Path(source) if Path(source).is_file() else None
    except OSError:
        return None


def _data_url(pixels: NDArray[np.uint8], width_px: int) -> str:
    picture = Image.fromarray(pixels)
    if picture.width > width_px:
        picture.thumbnail((width_px, picture.height))
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode("ascii")
