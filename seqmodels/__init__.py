"""Light heads over sequences of features: tensors in, tensors out. Knows numpy and torch alone."""

from seqmodels.heads import HEADS, HeadSpec, build_head, fit_inputs
from seqmodels.losses import step_loss, video_loss

__all__ = ["HEADS", "HeadSpec", "build_head", "fit_inputs", "step_loss", "video_loss"]
