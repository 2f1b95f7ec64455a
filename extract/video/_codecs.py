"""What this machine can decode."""

from importlib.metadata import PackageNotFoundError, version

import av

_CODECS = ("h264", "hevc", "vp9", "av1", "mpeg2video", "mpeg4", "prores", "mjpeg")


def decoding() -> dict[str, dict[str, str]]:
    """``decoders``: the libraries with their versions, or "absent"; ``codecs``: the usual ones, "yes" or "no"."""
    major, minor, micro = av.library_versions["libavcodec"]
    others = {package: _installed(package) for package in ("decord", "torchcodec")}
    return {
        "decoders": {"pyav": f"{version('av')} (libavcodec {major}.{minor}.{micro})", **others},
        "codecs": {codec: "yes" if codec in av.codecs_available else "no" for codec in _CODECS},
    }


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
