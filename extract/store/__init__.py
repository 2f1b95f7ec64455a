"""Feature stores: the only part of the project that knows Zarr."""

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
    "Collected",
    "Failure",
    "FeatureSequence",
    "FeatureStore",
    "Receipt",
    "Span",
    "SpanRecord",
    "UnknownVideoError",
    "UnstorableError",
    "VideoFeatures",
    "VideoRecord",
    "location",
]
