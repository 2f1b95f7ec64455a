"""Feature stores: the only part of the project that knows Zarr."""

from extract.store.blocks import Block, Layout
from extract.store.records import (
    Failure,
    FeatureSequence,
    Receipt,
    Span,
    SpanRecord,
    UnknownVideoError,
    UnstorableError,
    VideoFeatures,
    VideoRecord,
)
from extract.store.store import GRACE_S, Collected, FeatureStore, location

__all__ = [
    "GRACE_S",
    "Block",
    "Collected",
    "Failure",
    "FeatureSequence",
    "FeatureStore",
    "Layout",
    "Receipt",
    "Span",
    "SpanRecord",
    "UnknownVideoError",
    "UnstorableError",
    "VideoFeatures",
    "VideoRecord",
    "location",
]
