"""Opening a container: every way in which a file can fail to be a video has its reason here."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

from extract.errors import VideoError
from extract.remote import RemoteFile, is_url
from extract.video._feed import Feed
from extract.video._storage import from_os_error, read_error

MAX_PIXELS = 2**27
_HEADER_BYTES = 12
_CHUNK_BYTES = 2**24
_MOST_CHECKED_BYTES = 2**32
_BUFFER_BYTES = 2**18  # of each read from a URL
# Boxes that may stand before the index of an mp4 (ISO/IEC 14496-12) or QuickTime file, and how far it is looked for.
_BEFORE_INDEX = frozenset({b"ftyp", b"styp", b"pdin", b"free", b"skip", b"wide", b"uuid", b"sidx"})
_MOST_HEADER_BYTES = 2**20
# Formats whose pictures lie in other files than the one that was named.
_LISTS = frozenset({"hls", "applehttp", "concat", "dash", "imf", "sdp", "rtsp", "webm_dash_manifest"})
# Formats by which FFmpeg "plays" text, and files that merely end in .bin, as terminal art.
_ART = frozenset({"tty", "bin", "xbin", "adf", "idf"})
# A picture called a%03d.png is one picture, not the first of a sequence; and a list of files contacts no server.
_ONE_FILE = {"pattern_type": "none", "protocol_whitelist": "file"}


def check_file(name: str) -> int:
    """Size in bytes of the file ``name``; VideoError where it cannot be the file of a video."""
    if is_url(name):
        with RemoteFile(name) as file:
            size = file.size
    else:
        size = _local_size(Path(name))
    if size == 0:
        raise VideoError(name, "empty", "the file is empty (0 bytes); copy or download it again")
    return size


def _local_size(path: Path) -> int:
    try:
        if path.is_dir():
            raise VideoError(path, "folder", "is a folder; expected a video file")
        if not path.exists():
            raise VideoError(path, "missing", "there is no such file")
        if not path.is_file():
            raise VideoError(path, "not_media", "is not a regular file; expected a video file")
        size = path.stat().st_size
        with path.open("rb"):
            pass
    except OSError as error:
        raise from_os_error(str(path), error) from error
    return size


def check_feed(feed: Feed) -> None:
    """VideoError where nothing comes, or what comes first can only be read when all is there."""
    if not feed.peek(1):
        raise VideoError(feed.name, "empty", "not a single byte came; check what writes to it")
    at = 0
    while at < _MOST_HEADER_BYTES:
        box = feed.peek(at + 16)[at:]
        kind, size = box[4:8], int.from_bytes(box[:4])
        if kind == b"mdat":
            detail = (
                "an mp4 whose index (moov) comes last, so that none of it can be read before it is complete; write .mkv"
                " or .ts instead, or mp4 with ffmpeg's -movflags frag_keyframe+empty_moov, or read it without --stream"
                " when it is complete"
            )
            raise VideoError(feed.name, "index_last", detail)
        if kind not in _BEFORE_INDEX:
            return
        at += max(8, int.from_bytes(box[8:16]) if size == 1 else size)


class _Bounded:
    """A binary file that ends after ``left`` more bytes have been read, wherever in it they are read."""

    def __init__(self, file: BinaryIO | RemoteFile, left: int) -> None:
        self.name, self.seek, self.tell, self.left = file.name, file.seek, file.tell, left
        self._file = file

    def read(self, n_bytes: int = -1) -> bytes:
        """As of any file, until the bound."""
        data = self._file.read(min(n_bytes, self.left))
        self.left -= len(data)
        return data


@contextmanager
def opened(
    name: str, most_bytes: int | None = None, feed: Feed | None = None
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The open container of the file ``name`` (a path or a URL) and its video stream, to decode in one thread.

    ``most_bytes``: after so many bytes the file seems to end, first for opening it, then for its packets. ``feed``
    has the file's bytes, and keeps those that are read with such a bound.
    """
    with ExitStack() as stack:
        remote = stack.enter_context(RemoteFile(name)) if feed is None and is_url(name) else None
        if feed is not None:
            feed.begin(keep=most_bytes is not None)
            container = stack.enter_context(_open(name, feed))
        elif most_bytes is None:
            container = stack.enter_context(_open(name, remote or str(Path(name).absolute())))
        else:
            bounded = _Bounded(remote or stack.enter_context(Path(name).open("rb")), most_bytes)
            container = stack.enter_context(_open(name, bounded))
            bounded.left = most_bytes
        stream = _video_stream(name, container)
        stream.codec_context.thread_count = 1
        yield container, stream


def _open(name: str, file: "str | RemoteFile | _Bounded | Feed") -> InputContainer:
    try:
        return av.open(file, mode="r", buffer_size=_BUFFER_BYTES, metadata_errors="replace", options=_ONE_FILE)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise _from_open_error(name, error, file if isinstance(file, Feed) else None) from error


def check_pixels(name: str, width: int, height: int) -> None:
    """VideoError where a picture is too large to be decoded within bounded memory."""
    if width * height > MAX_PIXELS:
        detail = f"pictures of {width} x {height} pixels; at most {MAX_PIXELS} pixels are read"
        raise VideoError(name, "too_large", f"{detail}; make a smaller copy")


def is_flush(packet: "Packet[VideoStream]") -> bool:
    """Whether this is the empty packet that demuxing ends with, and not an empty one in the file."""
    return not packet.size and packet.pts is None and packet.dts is None


def check_storage(name: str, error: OSError, feed: Feed | None = None) -> None:
    """VideoError where the storage below ``name`` failed; nothing where it is the content that FFmpeg stumbles over.

    FFmpeg has the same errors for both. Only reading the file without it can tell; a ``feed`` knows.
    """
    if feed is not None:
        if feed.failure is not None:
            raise read_error(name, feed.failure) from error
        return
    if not is_url(name):
        try:
            with Path(name).open("rb") as file:
                while file.tell() < _MOST_CHECKED_BYTES and file.read(_CHUNK_BYTES):
                    pass
        except OSError as failure:
            raise read_error(name, failure) from error
        return
    raise read_error(name, error) from error


def _from_open_error(name: str, error: Exception, feed: Feed | None) -> VideoError:
    if isinstance(error, PermissionError | FileNotFoundError):
        return from_os_error(name, error)
    if isinstance(error, OSError):
        check_storage(name, error, feed)
    if (_header(name) if feed is None else feed.peek(_HEADER_BYTES))[4:8] == b"ftyp":
        why = "the index (moov) of this mp4 is missing or broken: its recording or download did not finish"
    else:
        why = "not a media file that FFmpeg knows"
    return VideoError(name, "not_media", f"{why}; copy it again or leave it out")


def _header(name: str) -> bytes:
    with RemoteFile(name) if is_url(name) else Path(name).open("rb") as file:
        return file.read(_HEADER_BYTES)


def _video_stream(name: str, container: InputContainer) -> VideoStream:
    if container.format.name in _ART or not len(container.streams):
        raise VideoError(name, "not_media", "holds no media streams; it is cut in its header or not a video")
    if _LISTS.intersection(container.format.name.split(",")):
        detail = f"a list of other files ({container.format.name}); name the video files themselves"
        raise VideoError(name, "not_media", detail)
    videos = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not videos:
        what = "the only picture is cover art" if container.streams.video else "no video stream"
        raise VideoError(name, "no_video", f"{what}; leave it out")
    best = container.streams.best("video")
    stream = next((s for s in videos if best is not None and s.index == best.index), videos[0])
    if stream.codec_context is None:
        raise VideoError(name, "no_decoder", "no decoder for its codec; convert it, for example to H.264")
    check_pixels(name, stream.codec_context.width, stream.codec_context.height)
    return stream
