"""Reading video: what a file is (`probe`), and its frames in order with true times (`open_video`).

Times are seconds on the container's clock, float64; intervals are half-open. Nothing else in the project
imports a decoder.
"""

from extract.video._codecs import decoding
from extract.video._decoders import resize_kernel
from extract.video._feed import STDIN, Feed
from extract.video._isolated import DecodingProcess, IsolatedReader, probe_all
from extract.video._probe import probe
from extract.video._reader import VideoReader, follow_video, open_video, read_frames
from extract.video._records import FrameBatch, ReadReport, VideoInfo

__all__ = [
    "STDIN",
    "DecodingProcess",
    "Feed",
    "FrameBatch",
    "IsolatedReader",
    "ReadReport",
    "VideoInfo",
    "VideoReader",
    "decoding",
    "follow_video",
    "open_video",
    "probe",
    "probe_all",
    "read_frames",
    "resize_kernel",
]
