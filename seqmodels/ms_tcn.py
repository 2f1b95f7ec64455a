"""Multi-stage temporal convolutions: dense labelling that refines its own first answer.

B batch, T time steps, D feature width, H maps, C classes, S stages.
"""

import torch
from torch import Tensor, nn

from seqmodels.head import Head
from seqmodels.standardise import Standardise


class MSTCNHead(Head):
    """MS-TCN (Farha & Gall, CVPR 2019): stages of dilated residual layers; a later stage sees only the
    probabilities that the one before gave.

    Sizes of the paper: 4 stages, 10 layers with dilations 1, 2, … 512, 64 maps, kernel 3. Two things are of this
    project: inputs are standardised, and probabilities are sigmoids, since several classes may happen in one step.
    """

    def __init__(
        self, *, width: int, n_classes: int, dropout: float, hidden: int = 64, stages: int = 4, layers: int = 10
    ) -> None:
        super().__init__()
        self.inputs = Standardise(width)
        self.drop = nn.Dropout(dropout)
        widths = [width] + [n_classes] * (stages - 1)
        self.stages = nn.ModuleList(
            Stage(each, n_classes, hidden=hidden, layers=layers, dropout=dropout) for each in widths
        )
        self.context = stages * (2**layers - 1)

    def stages_of(self, steps: Tensor, mask: Tensor, _times: Tensor, /) -> Tensor:
        """The loss is the sum over the stages (equation 9 of the paper)."""
        real, seen, answers = mask[:, None], self.drop(steps).transpose(1, 2), []
        for stage in self.stages:
            answers.append(stage(seen * real, real))
            seen = answers[-1].sigmoid()
        return torch.stack(answers).transpose(2, 3)


class Stage(nn.Module):
    """One stage: ``(B, D, T)``, real steps ``(B, 1, T)`` -> logits ``(B, C, T)``."""

    def __init__(self, width: int, n_classes: int, *, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.project = nn.Conv1d(width, hidden, 1)
        self.layers = nn.ModuleList(DilatedLayer(hidden, dilation=2**i, dropout=dropout) for i in range(layers))
        self.out = nn.Conv1d(hidden, n_classes, 1)

    def forward(self, steps: Tensor, real: Tensor) -> Tensor:
        """``(B, D, T)``, ``(B, 1, T)`` bool -> ``(B, C, T)``."""
        steps = self.project(steps) * real
        for layer in self.layers:
            steps = layer(steps) * real
        logits: Tensor = self.out(steps)
        return logits


class DilatedLayer(nn.Module):
    """Dilated convolution, ReLU, 1x1 convolution, dropout, and a way past them: ``(B, H, T)`` -> ``(B, H, T)``."""

    def __init__(self, hidden: int, *, dilation: int, dropout: float) -> None:
        super().__init__()
        self.wide = nn.Conv1d(hidden, hidden, 3, padding=dilation, dilation=dilation)
        self.mix = nn.Conv1d(hidden, hidden, 1)
        self.drop = nn.Dropout(dropout)

    def forward(self, steps: Tensor) -> Tensor:
        """``(B, H, T)`` -> ``(B, H, T)``."""
        result: Tensor = steps + self.drop(self.mix(torch.relu(self.wide(steps))))
        return result
