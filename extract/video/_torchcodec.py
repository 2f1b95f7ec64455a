"""Decoding with TorchCodec in its exact mode, on the CPU or a GPU.

Its frames come with their own times; each is held against the time that the packets promise for it. A frame is
decoded only when it is asked for, so that sparse samples skip whole groups of pictures.
"""

from bisect import bisect_right
from collections.abc import Generator
from fractions import Fraction
from functools import partial
from importlib import import_module
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from extract.errors import MachineError
from extract.video._decoded import Decoded
from extract.video._guard import REMEDY, Planned, local_path, planned_frames, refusal
from extract.video._probe import Source


def _torchcodec(device: str) -> Any:  # noqa: ANN401
    """The library, able to decode on ``device``; MachineError where it is not."""
    try:
        import torch

        torchcodec = import_module("torchcodec")
    except (ImportError, RuntimeError) as error:
        why = str(error).strip().splitlines()[0]
        raise MachineError(f"torchcodec cannot be imported ({why}): pip install torchcodec; or {REMEDY}") from error
    if torchcodec.ffmpeg_major_version is None:
        need = "it needs FFmpeg (4 to 9) as shared libraries, such as Debian's package ffmpeg"
        raise MachineError(f"torchcodec cannot be used: {need}; install it, or {REMEDY}")
    if device == "cuda" and not torch.cuda.is_available():
        raise MachineError("torchcodec:cuda cannot be used: there is no CUDA GPU; name torchcodec or pyav")
    return torchcodec


def library(device: str) -> str:
    """Version of TorchCodec and of the FFmpeg that it found, and the device it decodes on."""
    torchcodec = _torchcodec(device)
    return f"torchcodec {torchcodec.__version__}, ffmpeg {torchcodec.ffmpeg_major_version}, on {device}"


def events(
    source: Source, size: tuple[int, int], begin: Fraction | None, device: str
) -> Generator[Decoded, None, None]:
    """All frames, or those from the one on display at ``begin`` (seconds, container clock) onwards.

    Pictures are upright, in ``size`` = (width, height). VideoError where a frame is not the planned one.
    """
    torchcodec = _torchcodec(device)
    path = local_path(source, "torchcodec")
    planned = planned_frames(source, "torchcodec", open_groups=True)
    try:
        decoder = torchcodec.decoders.VideoDecoder(
            path, stream_index=source.info.stream_index, device=device, dimension_order="NHWC"
        )
    except (RuntimeError, ValueError) as error:
        raise refusal("torchcodec", source.path, f"it cannot open the file ({type(error).__name__})") from error
    if len(decoder) != len(planned):
        raise refusal("torchcodec", source.path, f"{len(decoder)} frames for {len(planned)} packets to show")
    first = 0 if begin is None else max(0, bisect_right([frame.pts for frame in planned], begin) - 1)
    for number, frame in enumerate(planned[first:], first):
        picture = partial(_picture, source, decoder, number, frame, size)
        yield Decoded(number, frame.pts, frame.duration, key=False, damaged=False, picture=picture)


def _picture(
    source: Source,
    decoder: Any,  # noqa: ANN401
    number: int,
    planned: Planned,
    size: tuple[int, int],
) -> NDArray[np.uint8]:
    try:
        frame = decoder.get_frame_at(number)
    except (RuntimeError, IndexError) as error:
        raise refusal("torchcodec", source.path, f"torchcodec stopped ({type(error).__name__})") from error
    if abs(frame.pts_seconds - float(planned.pts)) > source.info.tick_s:
        why = f"frame {number} has time {frame.pts_seconds:.3f} s, its packet {float(planned.pts):.3f} s"
        raise refusal("torchcodec", source.path, why)
    return cast(NDArray[np.uint8], _resized(frame.data, size).cpu().numpy())


def _resized(picture: Any, size: tuple[int, int]) -> Any:  # noqa: ANN401
    """``picture`` (H, W, 3) uint8 in ``size`` = (width, height), by bilinear interpolation with antialiasing."""
    from torch.nn.functional import interpolate

    width, height = size
    if picture.shape[:2] == (height, width):
        return picture
    planes = picture.permute(2, 0, 1)[None]
    if picture.is_cuda:  # where torch interpolates floats alone
        resized = interpolate(planes.float(), (height, width), mode="bilinear", antialias=True).round().byte()
    else:
        resized = interpolate(planes, (height, width), mode="bilinear", antialias=True)
    return resized[0].permute(1, 2, 0)
