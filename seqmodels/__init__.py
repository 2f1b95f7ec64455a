"""Light heads over sequences of features: tensors in, tensors out. Knows numpy and torch alone."""

from seqmodels.head import Head
from seqmodels.heads import HEADS, STEPS_ONLY, HeadSpec, build_head, fit_inputs
from seqmodels.losses import step_loss, video_loss

__all__ = ["HEADS", "STEPS_ONLY", "Head", "HeadSpec", "build_head", "fit_inputs", "step_loss", "video_loss"]
