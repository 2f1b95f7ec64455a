"""What all heads over sequences of features share.

B batch, T time steps, D feature width, C classes, S stages.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from seqmodels.masks import check_batch
from seqmodels.standardise import Standardise, TemporalComponents


def inputs_for(width: int, *, per_step: bool, components: int) -> tuple[Standardise | TemporalComponents, int]:
    """What a head over time sees of the features, and its width: all of them for the many labels of steps, fixed
    components for the few of whole videos.
    """
    if per_step:
        return Standardise(width), width
    return TemporalComponents(width, components), min(width, components)


class Head(nn.Module, ABC):
    """``inputs`` has constants from the training features. ``context`` is the number of steps on each side that a
    step's logits depend on, and None where every step may depend on all.
    """

    inputs: Standardise | TemporalComponents
    context: int | None = None

    def forward(self, features: Tensor, mask: Tensor, times: Tensor | None = None) -> Tensor:
        """Features ``(B, T, D)``, real steps ``(B, T)`` bool, and the centre of each step in seconds ``(B, T)`` (None:
        one step a second) -> logits ``(B, C)``, or ``(B, T, C)`` of a head built ``per_step``.

        Raises:
            ValueError: shapes that do not fit, or an empty sequence.
        """
        return self.every_stage(features, mask, times)[-1]

    def every_stage(self, features: Tensor, mask: Tensor, times: Tensor | None = None) -> Tensor:
        """`forward`, of each stage of a head that refines its answer: ``(S, B, …)``. All of them are trained.

        Raises:
            ValueError: shapes that do not fit, or an empty sequence.
        """
        check_batch(features, mask, width=self.inputs.width)
        if times is None:
            times = torch.arange(features.shape[1], device=features.device).expand(mask.shape)
        return self.stages_of(self.inputs(features.masked_fill(~mask[..., None], 0)), mask, times)

    @abstractmethod
    def stages_of(self, steps: Tensor, mask: Tensor, times: Tensor, /) -> Tensor:
        """`every_stage`, of checked inputs that went through ``inputs``; the padding is finite."""
