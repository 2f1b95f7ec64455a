"""Labels and predictions in files: one reader and one writer of each format."""

from pipelines.annotations.activitynet import (
    OVERSHOOT_S,
    Annotations,
    Segment,
    VideoAnnotation,
    read_activitynet,
    write_activitynet,
)
from pipelines.annotations.document import Boxes, Document, Media, Segments

__all__ = [
    "OVERSHOOT_S",
    "Annotations",
    "Boxes",
    "Document",
    "Media",
    "Segment",
    "Segments",
    "VideoAnnotation",
    "read_activitynet",
    "write_activitynet",
]
