"""Opening a container: every way in which a file can fail to be a video has its reason here."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

from extract.errors import VideoError

MAX_PIXELS = 2**27
_HEADER_BYTES = 12


def check_file(path: Path) -> int:
    """Size in bytes of ``path``; VideoError where it cannot be the file of a video."""
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
        raise _from_os_error(path, error) from error
    if size == 0:
        raise VideoError(path, "empty", "the file is empty (0 bytes); copy or download it again")
    return size


@contextmanager
def opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The open container of ``path`` and its video stream, ready to decode in one thread."""
    try:
        container = av.open(str(path.absolute()), mode="r")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise _from_open_error(path, error) from error
    with container:
        stream = _video_stream(path, container)
        stream.codec_context.thread_count = 1
        yield container, stream


def check_pixels(path: Path, width: int, height: int) -> None:
    """VideoError where a picture is too large to be decoded within bounded memory."""
    if width * height > MAX_PIXELS:
        detail = f"pictures of {width} x {height} pixels; at most {MAX_PIXELS} pixels are read"
        raise VideoError(path, "too_large", f"{detail}; make a smaller copy")


def is_flush(packet: "Packet[VideoStream]") -> bool:
    """Whether this is the empty packet that demuxing ends with, and not an empty one in the file."""
    return not packet.size and packet.pts is None and packet.dts is None


def read_error(path: Path, error: Exception) -> VideoError:
    """The error for a failure of the storage below ``path`` while it is read."""
    return VideoError(path, "io_error", f"reading failed ({error}); check the disk or the network, then retry")


def _from_os_error(path: Path, error: OSError) -> VideoError:
    if isinstance(error, PermissionError):
        return VideoError(path, "permission", "may not be read by this user; change its permissions")
    if isinstance(error, FileNotFoundError):
        return VideoError(path, "missing", "there is no such file")
    return read_error(path, error)


def _from_open_error(path: Path, error: Exception) -> VideoError:
    if isinstance(error, OSError):
        return _from_os_error(path, error)
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    if header[4:8] == b"ftyp":
        why = "the index (moov) of this mp4 is missing or broken: its recording or download did not finish"
    else:
        why = "not a media file that FFmpeg knows"
    return VideoError(path, "not_media", f"{why}; copy it again or leave it out")


def _video_stream(path: Path, container: InputContainer) -> VideoStream:
    # FFmpeg "plays" any text file as terminal art.
    if container.format.name == "tty" or not len(container.streams):
        raise VideoError(path, "not_media", "holds no media streams; it is cut in its header or not a video")
    videos = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not videos:
        what = "the only picture is cover art" if container.streams.video else "no video stream"
        raise VideoError(path, "no_video", f"{what}; leave it out")
    best = container.streams.best("video")
    stream = next((s for s in videos if best is not None and s.index == best.index), videos[0])
    if stream.codec_context is None:
        raise VideoError(path, "no_decoder", "no decoder for its codec; convert it, for example to H.264")
    check_pixels(path, stream.codec_context.width, stream.codec_context.height)
    return stream
