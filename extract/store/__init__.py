"""Feature stores: the only part of the project that knows Zarr."""

from extract.store.records import (
    Failure,
    FeatureSequence,
    Receipt,
    UnknownVideoError,
    UnstorableError,
    VideoFeatures,
    VideoRecord,
)
from extract.store.store import FeatureStore

__all__ = [
    "Failure",
    "FeatureSequence",
    "FeatureStore",
    "Receipt",
    "UnknownVideoError",
    "UnstorableError",
    "VideoFeatures",
    "VideoRecord",
]
