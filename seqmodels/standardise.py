"""Input layers whose constants come from the training steps and are saved with the head.

D feature width, P kept components; leading dimensions are free.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Standardise(nn.Module):
    """``(..., D)`` -> ``(..., D)`` with zero mean and unit variance over the training steps."""

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))

    @torch.no_grad()
    def fit(self, videos: Iterable[Tensor]) -> None:
        """Take mean and scale from training videos ``(T, D)``; a constant feature keeps the scale 1.

        Videos are read one after the other, twice.
        """
        count, total = 0, torch.zeros(self.width, dtype=torch.float64)
        for video in videos:
            count, total = count + len(video), total + video.double().sum(dim=0)
        mean = total / count
        spread = (sum((video.double() - mean).square().sum(dim=0) for video in videos) / count) ** 0.5
        assert isinstance(spread, Tensor)  # noqa: S101 - there are videos
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(spread > 1e-6, spread, torch.ones_like(spread)))

    def forward(self, features: Tensor) -> Tensor:
        """``(..., D)`` -> ``(..., D)``."""
        result: Tensor = (features - self.mean) / self.scale
        return result


SHRINKAGE = 0.5
"""Share of the identity in the total covariance, so that few steps of many features still have an inverse
(the form of Ledoit & Wolf 2004, with a fixed share; 0.5 was better than 0.02 and 0.1 on drawn order tasks)."""


class TemporalComponents(nn.Module):
    """``(..., D)`` -> ``(..., P)``: the directions in which neighbouring steps of a video change together most,
    relative to the total variance; of about unit variance.

    What lasts a whole video (its background) and what changes from step to step (noise) are most of the plain
    variance and would take all principal components; events last a few steps. The idea is that of slow
    features (Wiskott & Sejnowski 2002) and of time-lagged covariances (Molgedey & Schuster 1994). The basis is
    not trained: a few dozen videos have thousands of steps to take it from, while a trainable projection
    learns them by heart from the few labels of whole videos.
    """

    basis: Tensor

    def __init__(self, width: int, components: int) -> None:
        super().__init__()
        self.width = width
        self.standardise = Standardise(width)
        self.register_buffer("basis", torch.eye(width, min(width, components)))

    @torch.no_grad()
    def fit(self, videos: Iterable[Tensor]) -> None:
        """Take the components from training videos ``(T, D)``, read one after the other, three times. Videos of one
        step have no neighbours; when there are no others, the components are the principal ones.
        """
        self.standardise.fit(videos)
        total, lasting = _Products(self.width), _Products(self.width)
        for video in videos:
            values = self.standardise(video.float()).double()
            total.add(values)
            lasting.add(_neighbour_means(values))
        everything = total.mean()
        whiten = _inverse_root(everything + SHRINKAGE * (torch.eye(self.width).to(everything) - everything))
        slow = lasting.mean() if lasting.count else everything
        _, vectors = torch.linalg.eigh(whiten @ slow @ whiten)
        self.basis.copy_(_fixed_signs(whiten @ vectors.flip(1)[:, : self.basis.shape[1]]))

    def forward(self, features: Tensor) -> Tensor:
        """``(..., D)`` -> ``(..., P)``."""
        result: Tensor = self.standardise(features) @ self.basis
        return result


class _Products:
    """Sum of ``steps.T @ steps`` over videos ``(T, D)`` of zero mean."""

    def __init__(self, width: int) -> None:
        self.count, self._sum = 0, torch.zeros(width, width, dtype=torch.float64)

    def add(self, steps: Tensor) -> None:
        self.count += len(steps)
        self._sum += steps.T @ steps

    def mean(self) -> Tensor:
        """The covariance ``(D, D)``."""
        return self._sum / self.count


def _inverse_root(matrix: Tensor) -> Tensor:
    """``matrix ** -0.5`` of a symmetric positive definite matrix ``(D, D)``."""
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = (vectors * values.rsqrt()) @ vectors.T
    return root


def _neighbour_means(video: Tensor) -> Tensor:
    """Means of neighbouring steps, around the video's own mean: ``(T, D)`` -> ``(T - 1, D)``."""
    centred = video - video.mean(dim=0)
    return (centred[1:] + centred[:-1]) / 2


def _fixed_signs(vectors: Tensor) -> Tensor:
    """Columns turned so that the entry of largest size is positive: ``(D, P)`` -> ``(D, P)``."""
    rows = vectors.abs().argmax(dim=0)
    return vectors * vectors[rows, torch.arange(vectors.shape[1])].sign()
