"""What lies in an archive: every video probed, no more than the first frames decoded."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.filesize import decimal

from extract.errors import VideoError
from extract.sources import find_videos
from extract.video import VideoInfo, probe_all

CHANNELS = 3  # bytes of a pixel


@dataclass(frozen=True, slots=True)
class Scanned:
    """One video: ``info``, or the ``error`` that it gave."""

    video_id: str
    info: VideoInfo | None
    error: VideoError | None

    @property
    def problems(self) -> tuple[str, ...]:
        """Why it cannot be read, or what is odd about it."""
        if self.error is not None:
            return (f"{self.error.detail} [{self.error.reason}]",)
        return () if self.info is None else self.info.warnings


@dataclass
class Scan:
    """The videos of an archive by id. ``others``: files beside them that are no videos by their names."""

    videos: list[Scanned] = field(default_factory=list)
    others: int = 0
    seconds: float = 0.0

    @property
    def readable(self) -> list[VideoInfo]:
        """What is known of the videos that can be read."""
        return [video.info for video in self.videos if video.info is not None]

    @property
    def failed(self) -> list[Scanned]:
        """The videos that cannot be read."""
        return [video for video in self.videos if video.error is not None]

    @property
    def duration_s(self) -> float:
        """Seconds of video that can be read, as far as they are known."""
        return sum(info.duration_s or 0.0 for info in self.readable)

    @property
    def size_bytes(self) -> int:
        """Length of all files that can be read."""
        return sum(info.size_bytes for info in self.readable)

    @property
    def raw_bytes(self) -> int:
        """What the pixels of these videos would take, as far as their lengths are known; see `raw_bytes`."""
        return sum(raw_bytes(info) or 0 for info in self.readable)

    @property
    def raw_bytes_per_minute(self) -> float | None:
        """The same for a minute of them on average; None where no length is known."""
        timed = sum(raw_bytes(info) or 0 for info in self.readable if info.duration_s)
        return 60 * timed / self.duration_s if self.duration_s else None


def raw_bytes(info: VideoInfo) -> int | None:
    """What all frames of a video take in memory as RGB of 8 bits, in display size; None where its length is unknown."""
    frames = info.estimated_frames
    if frames is None and info.duration_s is not None:
        frames = round(info.duration_s * info.average_fps)
    return None if frames is None else CHANNELS * info.width * info.height * frames


def scan(paths: Sequence[str | Path], on_progress: Callable[[int, int], None] = lambda _done, _count: None) -> Scan:
    """Probe all videos in ``paths``, in isolated processes. ``on_progress`` hears how many of how many are done.

    Raises:
        InputError: as in `extract.sources.find_videos`.
    """
    began = time.monotonic()
    found = find_videos(paths)
    result = Scan(others=found.others)
    answers = probe_all([source.path for source in found.sources])
    for source, answer in zip(found.sources, answers, strict=True):
        video_id = _readable(source.video_id)
        info, error = (answer, None) if isinstance(answer, VideoInfo) else (None, answer)
        result.videos.append(Scanned(video_id, info, error))
        on_progress(len(result.videos), len(found.sources))
    result.seconds = time.monotonic() - began
    return result


def scan_json(found: Scan) -> dict[str, Any]:
    """The scan as plain values: totals, one entry in ``files`` for each video, and ``failed`` as `extract` names it."""
    return {
        "videos": len(found.videos),
        "readable": len(found.readable),
        "duration_s": found.duration_s,
        "bytes": found.size_bytes,
        "raw_bytes": found.raw_bytes,
        "raw_bytes_per_minute": found.raw_bytes_per_minute,
        "others": found.others,
        "seconds": found.seconds,
        "files": [_file(video) for video in found.videos],
        "failed": [
            {"video": video.video_id, "reason": video.error.reason, "detail": video.error.detail}
            for video in found.videos
            if video.error is not None
        ],
    }


def raw_lines(found: Scan) -> Iterator[str]:
    """What the videos would take as pixels, which is why they are read clip by clip."""
    per_minute = found.raw_bytes_per_minute
    if per_minute is None:
        return
    known = sum(info.size_bytes for info in found.readable if raw_bytes(info) is not None)
    times = found.raw_bytes / max(1, known)
    yield (
        f"as raw pixels, {CHANNELS} bytes each: {per_minute / 1e9:.2f} GB ({per_minute / 2**30:.2f} GiB) a minute, "
        f"{decimal(found.raw_bytes)} in all, {times:.0f} times the files' {decimal(known)}"
    )


def _readable(name: str) -> str:
    """``name`` with the bytes that are not UTF-8 escaped."""
    return name.encode("utf-8", "backslashreplace").decode()


def _file(video: Scanned) -> dict[str, Any]:
    described = (
        {}
        if video.info is None
        else {
            **asdict(video.info),
            "path": _readable(video.info.path),
            "fps": video.info.average_fps,
            "raw_bytes": raw_bytes(video.info),
        }
    )
    return {
        "video": video.video_id,
        "readable": video.info is not None,
        **described,
        "problems": list(video.problems),
    }
