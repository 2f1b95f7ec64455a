"""Heads by name.

B batch, T time steps, D feature width, C classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from seqmodels.attention import AttentionHead
from seqmodels.head import Head
from seqmodels.masks import masked_max, masked_mean
from seqmodels.ms_tcn import MSTCNHead
from seqmodels.pooling import AttentionPool, NetVLAD, Pool, PooledHead
from seqmodels.recurrent import RecurrentHead


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSpec:
    """What a builder needs. ``per_step``: logits ``(B, T, C)`` instead of ``(B, C)``.

    ``hidden``, ``components`` (fixed temporal components that the head sees), ``clusters`` (of NetVLAD), and
    ``layers``, ``window`` (steps to each side, 0 for all) and ``causal`` (of attention) are ignored by heads without
    them.
    """

    width: int
    n_classes: int
    per_step: bool
    hidden: int = 64
    components: int = 16
    clusters: int = 16
    layers: int = 2
    window: int = 0
    causal: bool = False
    dropout: float = 0.3


def _pooled(spec: HeadSpec, pool: Pool, pooled: int | None = None) -> Head:
    return PooledHead(
        width=spec.width,
        n_classes=spec.n_classes,
        per_step=spec.per_step,
        pool=pool,
        pooled=pooled or spec.width,
        dropout=spec.dropout,
    )


def _attention_pooled(spec: HeadSpec) -> Head:
    return _pooled(spec, AttentionPool(spec.width, spec.hidden))


def _netvlad(spec: HeadSpec) -> Head:
    return _pooled(spec, NetVLAD(spec.width, spec.clusters), spec.clusters * spec.width)


def _recurrent(spec: HeadSpec, cell: type[nn.LSTM] | type[nn.GRU]) -> Head:
    return RecurrentHead(
        width=spec.width,
        n_classes=spec.n_classes,
        per_step=spec.per_step,
        hidden=spec.hidden,
        components=spec.components,
        dropout=spec.dropout,
        cell=cell,
    )


def _attention(spec: HeadSpec) -> Head:
    return AttentionHead(
        width=spec.width,
        n_classes=spec.n_classes,
        per_step=spec.per_step,
        hidden=spec.hidden,
        components=spec.components,
        dropout=spec.dropout,
        layers=spec.layers,
        window=spec.window or None,
        causal=spec.causal,
    )


def _ms_tcn(spec: HeadSpec) -> Head:
    return MSTCNHead(width=spec.width, n_classes=spec.n_classes, hidden=spec.hidden, dropout=spec.dropout)


HEADS: dict[str, Callable[[HeadSpec], Head]] = {
    "mean": partial(_pooled, pool=masked_mean),
    "max": partial(_pooled, pool=masked_max),
    "attention-pool": _attention_pooled,
    "netvlad": _netvlad,
    "lstm": partial(_recurrent, cell=nn.LSTM),
    "gru": partial(_recurrent, cell=nn.GRU),
    "attention": _attention,
    "ms-tcn": _ms_tcn,
}
STEPS_ONLY = frozenset({"ms-tcn"})
"""Heads that give logits of steps, and none of whole videos."""


def build_head(name: str, spec: HeadSpec) -> Head:
    """A new head with random weights (torch's global seed) and unfitted input constants.

    Raises:
        KeyError: no head has this name.
        ValueError: the head has no answer for whole videos, or a size in ``spec`` cannot be.
    """
    if name not in HEADS:
        raise KeyError(f"no head named {name!r}; there are {', '.join(HEADS)}")
    if name in STEPS_ONLY and not spec.per_step:
        raise ValueError(f"the head {name!r} labels steps; it has no answer for a whole video")
    return HEADS[name](spec)


def fit_inputs(head: Head, videos: Sequence[Tensor]) -> None:
    """Set the input constants of ``head`` (mean, scale, components) from training videos, each ``(T, D)``."""
    head.inputs.fit(videos)
