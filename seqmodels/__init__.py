"""Light heads over sequences of features: tensors in, tensors out. Knows numpy and torch alone."""

from seqmodels.head import Head
from seqmodels.heads import HEADS, LOCALIZERS, VIDEO_HEADS, HeadSpec
from seqmodels.localizer import Localizer, Truth
from seqmodels.losses import smoothness, step_loss, video_loss

__all__ = [
    "HEADS",
    "LOCALIZERS",
    "VIDEO_HEADS",
    "Head",
    "HeadSpec",
    "Localizer",
    "Truth",
    "smoothness",
    "step_loss",
    "video_loss",
]
