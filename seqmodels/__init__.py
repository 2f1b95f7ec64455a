"""Light heads over sequences of features: tensors in, tensors out. Knows numpy and torch alone."""

from seqmodels.bank import BankHead, detection_loss, probabilities
from seqmodels.head import Head
from seqmodels.heads import DETECTORS, HEADS, LOCALIZERS, VIDEO_HEADS, HeadSpec
from seqmodels.localizer import Localizer, Truth
from seqmodels.losses import smoothness, step_loss, video_loss

__all__ = [
    "DETECTORS",
    "HEADS",
    "LOCALIZERS",
    "VIDEO_HEADS",
    "BankHead",
    "Head",
    "HeadSpec",
    "Localizer",
    "Truth",
    "detection_loss",
    "probabilities",
    "smoothness",
    "step_loss",
    "video_loss",
]
