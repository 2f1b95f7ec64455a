"""From video files to clip features in a store: reading, clips, backbones, engine, store, job.

Names are imported when they are first used, so that a command that needs no torch starts at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from extract.backbones import BACKBONES, Backbone, load_backbone
    from extract.clips import ClipGrid
    from extract.errors import (
        InputError,
        MachineError,
        RecipeMismatchError,
        StoreError,
        UntrimmedError,
        UsageError,
        VideoError,
    )
    from extract.recipe import Recipe
    from extract.store import FeatureSequence, FeatureStore
    from extract.video import FrameBatch, VideoInfo, open_video, probe, read_frames

__all__ = [
    "BACKBONES",
    "Backbone",
    "ClipGrid",
    "FeatureSequence",
    "FeatureStore",
    "FrameBatch",
    "InputError",
    "MachineError",
    "Recipe",
    "RecipeMismatchError",
    "StoreError",
    "UntrimmedError",
    "UsageError",
    "VideoError",
    "VideoInfo",
    "load_backbone",
    "open_video",
    "probe",
    "read_frames",
]

_HOMES = {
    "BACKBONES": "extract.backbones",
    "Backbone": "extract.backbones",
    "ClipGrid": "extract.clips",
    "FeatureSequence": "extract.store",
    "FeatureStore": "extract.store",
    "FrameBatch": "extract.video",
    "InputError": "extract.errors",
    "MachineError": "extract.errors",
    "Recipe": "extract.recipe",
    "RecipeMismatchError": "extract.errors",
    "StoreError": "extract.errors",
    "UntrimmedError": "extract.errors",
    "UsageError": "extract.errors",
    "VideoError": "extract.errors",
    "VideoInfo": "extract.video",
    "load_backbone": "extract.backbones",
    "open_video": "extract.video",
    "probe": "extract.video",
    "read_frames": "extract.video",
}


def __getattr__(name: str) -> object:
    """Import a public name from the module where it lives."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """The public names, whether used before or not."""
    return __all__
