"""From video files to clip features in a store: reading, clips, backbones, engine, store, job."""

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
