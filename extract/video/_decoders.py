"""The libraries that can decode, behind one small protocol."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from fractions import Fraction

from extract.errors import UsageError
from extract.video import _decord, _pyav, _torchcodec
from extract.video._decoded import Event, Wanted
from extract.video._pixels import Converter
from extract.video._probe import Source


@dataclass(frozen=True, slots=True)
class Decoder:
    """A library that decodes.

    Attributes:
        name: what users call it.
        resize_kernel: the recipe's name of how it resizes; equal names mean equal pixels.
        library: its version and that of what it decodes with; MachineError where it cannot be used.
        events: frames in display order and bad packets, in the converter's size; all or (if it can) from a key frame
            at or before the given time (seconds, container clock) onwards, without those that are not wanted.
    """

    name: str
    resize_kernel: str
    library: Callable[[], str]
    events: Callable[[Source, Converter, Fraction | None, Wanted], Generator[Event, None, None]]


_DECODERS = (
    Decoder("pyav", "swscale-bilinear", _pyav.library, _pyav.events),
    # decord's own FFmpeg places chroma samples otherwise, so its resized pixels differ from PyAV's.
    Decoder(
        "decord",
        "decord-bilinear",
        _decord.library,
        lambda source, to, _begin, _wanted: _decord.events(source, to.size),
    ),
    Decoder(
        "torchcodec",
        "torch-antialias",
        lambda: _torchcodec.library("cpu"),
        lambda source, to, begin, _: _torchcodec.events(source, to.size, begin, "cpu"),
    ),
    # The GPU's own colour conversion rounds otherwise.
    Decoder(
        "torchcodec:cuda",
        "torch-antialias-cuda",
        lambda: _torchcodec.library("cuda"),
        lambda source, to, begin, _: _torchcodec.events(source, to.size, begin, "cuda"),
    ),
)


def find_decoder(name: str) -> Decoder:
    """The decoder of this name; ``"auto"`` is PyAV. UsageError where there is none."""
    wanted = "pyav" if name == "auto" else name
    for decoder in _DECODERS:
        if decoder.name == wanted:
            return decoder
    names = ", ".join(decoder.name for decoder in _DECODERS)
    raise UsageError(f"decoder is {name!r}, which there is not; choose auto, {names}")


def resize_kernel(decoder: str) -> str:
    """The recipe's name of the kernel that resizes in ``decoder``; features of different kernels do not mix."""
    return find_decoder(decoder).resize_kernel
