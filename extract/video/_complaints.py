"""FFmpeg's complaints while it decodes: for much of the damage that its decoders hide, the only sign.

They are taken with `av.logging.Capture`, which hears its own thread alone. With one decoding thread FFmpeg logs in the
caller's, so that the complaints of readers in other threads do not mix.
"""

import logging
from collections.abc import Iterable

import av.logging

# "Something went wrong and cannot losslessly be recovered", as FFmpeg defines the level; and what it says, as a
# mere warning or information, when it leaves out a part of a picture or makes one up.
_GRAVE = av.logging.ERROR
_MADE_UP = ("concealing", "Skipping invalid undecodable NALU", "Error parsing NAL unit")
# Remarks on data beside the picture.
_HARMLESS = ("SEI type",)
# When a pass begins: packets let go of pictures from before it, which it has never had.
_HARMLESS_AT_FIRST = ("mmco: unref",)


def listen() -> None:
    """Let captures hear FFmpeg; other messages go nowhere, unless the logger "libav" is given a handler.

    This sets PyAV's level for the whole process.
    """
    if av.logging.get_level() == av.logging.INFO:
        return
    logger = logging.getLogger("libav")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    logger.propagate = False
    av.logging.set_skip_repeated(False)
    av.logging.set_level(av.logging.INFO)


def tell_of_damage(logs: Iterable[tuple[int, str, str]], *, first: bool) -> bool:
    """Whether one of these captured messages (level, decoder, text) says that a picture is not what was sent.

    ``first``: whether they come before the first picture of a pass.
    """
    harmless = _HARMLESS + _HARMLESS_AT_FIRST if first else _HARMLESS
    return any(
        text.startswith(_MADE_UP) or (level <= _GRAVE and not text.startswith(harmless)) for level, _, text in logs
    )
