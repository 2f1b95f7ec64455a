"""Input layers whose constants come from the training steps and are saved with the head.

D feature width, P kept components; leading dimensions are free.
"""

import torch
from torch import Tensor, nn


class Standardise(nn.Module):
    """``(..., D)`` -> ``(..., D)`` with zero mean and unit variance over the training steps."""

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))

    @torch.no_grad()
    def fit(self, steps: Tensor) -> None:
        """Take mean and scale from training steps ``(N, D)``; a constant feature keeps the scale 1."""
        spread = steps.std(dim=0, correction=0)
        self.mean.copy_(steps.mean(dim=0))
        self.scale.copy_(torch.where(spread > 1e-6, spread, torch.ones_like(spread)))

    def forward(self, features: Tensor) -> Tensor:
        """``(..., D)`` -> ``(..., D)``."""
        result: Tensor = (features - self.mean) / self.scale
        return result


class PrincipalComponents(nn.Module):
    """``(..., D)`` -> ``(..., P)``: standardised, rotated to the leading components, each divided by the
    square root of its standard deviation (halfway between plain and whitened components).

    The basis is not trained. Its only source is the steps themselves, of which even a few dozen videos have
    thousands, while a trainable projection learns them by heart from the few labels of whole videos.
    """

    basis: Tensor

    def __init__(self, width: int, components: int) -> None:
        super().__init__()
        self.standardise = Standardise(width)
        self.register_buffer("basis", torch.eye(width, min(width, components)))

    @torch.no_grad()
    def fit(self, steps: Tensor) -> None:
        """Take the components from training steps ``(N, D)``; those that N < P steps do not have stay zero."""
        self.standardise.fit(steps)
        values = self.standardise(steps).double()
        variances, vectors = torch.linalg.eigh(values.T @ values / len(values))
        kept = self.basis.shape[1]
        variances, vectors = variances.flip(0)[:kept], vectors.flip(1)[:, :kept]
        scale = torch.where(variances > 1e-9, variances, torch.inf).pow(-0.25)
        self.basis.copy_(_fixed_signs(vectors) * scale)

    def forward(self, features: Tensor) -> Tensor:
        """``(..., D)`` -> ``(..., P)``."""
        result: Tensor = self.standardise(features) @ self.basis
        return result


def _fixed_signs(vectors: Tensor) -> Tensor:
    """Columns turned so that the entry of largest size is positive: ``(D, P)`` -> ``(D, P)``."""
    rows = vectors.abs().argmax(dim=0)
    return vectors * vectors[rows, torch.arange(vectors.shape[1])].sign()
