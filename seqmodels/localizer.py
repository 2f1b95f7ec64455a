"""What all localization heads share: segments of time out of a sequence of features.

B batch, T time steps, D feature width. Inside heads the unit of time is the step: step t has its centre at t.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from seqmodels.masks import check_batch
from seqmodels.segments import Found
from seqmodels.standardise import Standardise


class Truth(NamedTuple):
    """True segments of one sequence: ``segments`` ``(N, 2)`` float32 in steps, ``labels`` ``(N,)`` int64."""

    segments: Tensor
    labels: Tensor


class Localizer(nn.Module, ABC):
    """``inputs`` has constants from the training features."""

    inputs: Standardise

    def loss(self, features: Tensor, mask: Tensor, truths: Sequence[Truth]) -> Tensor:
        """What training makes smaller: ``(B, T, D)``, real steps ``(B, T)`` bool, true segments of each -> scalar.

        Raises:
            ValueError: shapes that do not fit, or an empty sequence.
        """
        check_batch(features, mask, width=self.inputs.width)
        return self.loss_of(self.inputs(features.masked_fill(~mask[..., None], 0)), mask, truths)

    @torch.inference_mode()
    def find(self, features: Tensor) -> Found:
        """Scored segments, in steps, of one sequence ``(T, D)`` of any length, before any suppression.

        Raises:
            ValueError: features of another width, or none.
        """
        mask = torch.ones(1, len(features), dtype=torch.bool, device=features.device)
        check_batch(features[None], mask, width=self.inputs.width)
        return self.find_in(self.inputs(features))

    def fit_segments(self, lengths: Tensor) -> None:
        """Learn from the lengths ``(N,)`` of the training segments, in steps, before the training begins."""

    @abstractmethod
    def loss_of(self, steps: Tensor, mask: Tensor, truths: Sequence[Truth], /) -> Tensor:
        """`loss` of checked inputs that went through ``inputs``; what stands at padding is finite."""

    @abstractmethod
    def find_in(self, steps: Tensor, /) -> Found:
        """`find` in inputs ``(T, D)`` that went through ``inputs``."""
