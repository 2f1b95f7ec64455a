"""Heads by name. A head is an ``nn.Module`` with ``inputs.fit(videos)`` and ``forward(features, mask)``.

B batch, T time steps, D feature width, C classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from seqmodels.lstm import LSTMHead
from seqmodels.masks import masked_max, masked_mean
from seqmodels.pooling import PooledHead


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSpec:
    """What a builder needs. ``per_step``: logits ``(B, T, C)`` instead of ``(B, C)``.

    ``hidden`` and ``components`` (fixed temporal components that the head sees) are ignored by heads
    without them.
    """

    width: int
    n_classes: int
    per_step: bool
    hidden: int = 64
    components: int = 16
    dropout: float = 0.3


def _mean(spec: HeadSpec) -> nn.Module:
    return PooledHead(
        width=spec.width,
        n_classes=spec.n_classes,
        per_step=spec.per_step,
        pool=masked_mean,
        dropout=spec.dropout,
    )


def _max(spec: HeadSpec) -> nn.Module:
    return PooledHead(
        width=spec.width,
        n_classes=spec.n_classes,
        per_step=spec.per_step,
        pool=masked_max,
        dropout=spec.dropout,
    )


def _lstm(spec: HeadSpec) -> nn.Module:
    return LSTMHead(
        width=spec.width,
        n_classes=spec.n_classes,
        per_step=spec.per_step,
        hidden=spec.hidden,
        components=spec.components,
        dropout=spec.dropout,
    )


HEADS: dict[str, Callable[[HeadSpec], nn.Module]] = {"mean": _mean, "max": _max, "lstm": _lstm}


def build_head(name: str, spec: HeadSpec) -> nn.Module:
    """A new head with random weights (torch's global seed) and unfitted input constants.

    Raises:
        KeyError: no head has this name.
    """
    if name not in HEADS:
        raise KeyError(f"no head named {name!r}; there are {', '.join(HEADS)}")
    return HEADS[name](spec)


def fit_inputs(head: nn.Module, videos: Sequence[Tensor]) -> None:
    """Set the input constants of ``head`` (mean, scale, components) from training videos, each ``(T, D)``."""
    fit: Callable[[Sequence[Tensor]], None] = head.get_submodule("inputs").fit  # type: ignore[assignment]
    fit(videos)
