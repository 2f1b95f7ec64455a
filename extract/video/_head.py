"""The first packets of a video and its first frame, read within bounds that hold for every file."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from extract.video._container import check_storage, is_flush
from extract.video._feed import Feed
from extract.video._progress import advance

# Enough to describe a video, once a frame is found. The last bound counts the packets of all streams.
_ENOUGH_PACKETS = 200
_ENOUGH_BYTES = 2**24
_ENOUGH_OF_ALL = 1000
# Where to give up the search for a frame, counted over all streams: 20 s at 100 Mbit/s.
_MOST_PACKETS = 20_000
MOST_BYTES = 2**28


@dataclass
class Head:
    """The first packets of a stream, and its first frame. Time stamps in ticks of the stream.

    ``frames``: time stamps of the packets to show, in the order of the file. ``complete``: whether the file ended
    with them.
    """

    frame: VideoFrame | None = None
    pts: list[int | None] = field(default_factory=list)
    n_bytes: int = 0
    last_position: int = 0
    complete: bool = False
    _all_packets: int = 0
    _all_bytes: int = 0

    def read(self, path: str, container: InputContainer, stream: VideoStream, feed: Feed | None = None) -> None:
        """Read until a frame is decoded and the head is long enough, to a bound, or to the end of the file."""
        for packet in _packets(path, container, feed):
            self._all_packets += 1
            if packet is not None:
                self._all_bytes += packet.size
            if packet is not None and packet.stream_index == stream.index:
                self._take(packet)
                if is_flush(packet):
                    self.complete = True
                    return
            if self._is_long_enough():
                return
        self.complete = True

    def searched(self) -> str:
        """Where a frame was looked for."""
        if self.complete:
            return "it"
        return f"its first {self._all_packets} packets ({self._all_bytes / 2**20:.0f} MiB)"

    def known(self) -> list[int]:
        """The time stamps in display order."""
        return sorted(p for p in self.pts if p is not None)

    def _is_long_enough(self) -> bool:
        if self.frame is None:
            return self._all_packets >= _MOST_PACKETS or self._all_bytes >= MOST_BYTES
        return (
            len(self.pts) >= _ENOUGH_PACKETS or self._all_bytes >= _ENOUGH_BYTES or self._all_packets >= _ENOUGH_OF_ALL
        )

    def _take(self, packet: "Packet[VideoStream]") -> None:
        if packet.size and not packet.is_discard:
            self.pts.append(packet.pts)
            self.n_bytes += packet.size
            self.last_position = max(self.last_position, packet.pos or 0)
        if self.frame is None and (packet.size or is_flush(packet)):
            self.frame = _first_frame(packet)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a description is drawn from. ``warnings`` collects what is odd."""

    container: InputContainer
    stream: VideoStream
    head: Head
    frame: VideoFrame
    time_base: Fraction
    size_bytes: int
    warnings: list[str] = field(default_factory=list)

    @property
    def format(self) -> str:
        """FFmpeg's name of the container format."""
        return self.container.format.name

    @property
    def counting(self) -> bool:
        """Whether times must be counted: AVI keeps no presentation times, raw streams keep none at all."""
        return self.format == "avi" or 2 * self.head.pts.count(None) > len(self.head.pts)


def _packets(path: str, container: InputContainer, feed: Feed | None) -> "Iterator[Packet[VideoStream] | None]":
    """The packets of all streams; None where FFmpeg asks to be called again (it looks for a lost start code)."""
    while True:
        try:
            for packet in container.demux():
                advance()
                yield packet  # type: ignore[misc]
        except BlockingIOError:
            yield None
            continue
        except IndexError:
            return  # After the last packet PyAV trips over streams that appeared while it read.
        except OSError as error:
            check_storage(path, error, feed)
            return
        except av.FFmpegError:
            return
        return


def _first_frame(packet: "Packet[VideoStream]") -> VideoFrame | None:
    try:
        return next(iter(packet.decode()), None)
    except av.FFmpegError:
        return None
