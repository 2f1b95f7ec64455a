"""Heads by name.

B batch, T time steps, D feature width, C classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from seqmodels.attention import AttentionHead
from seqmodels.bank import BankHead, Operator
from seqmodels.head import Head
from seqmodels.localizer import Localizer
from seqmodels.masks import masked_max, masked_mean
from seqmodels.ms_tcn import MSTCNHead
from seqmodels.pooling import AttentionPool, LinearHead, NetVLAD, Pool, PooledHead
from seqmodels.proposals import ProposalHead
from seqmodels.pyramid import PyramidHead
from seqmodels.recurrent import RecurrentHead
from seqmodels.watershed import WatershedHead


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSpec:
    """What a builder needs. ``per_step``: logits ``(B, T, C)`` instead of ``(B, C)``.

    ``hidden``, ``components`` (fixed temporal components that the head sees), ``clusters`` (of NetVLAD), and
    ``layers``, ``window`` (steps to each side, None for all) and ``causal`` (no later steps; of attention, and of
    recurrent heads over steps), ``both_ways`` (of recurrent heads over videos; those over steps read both ways unless
    they are causal) and ``expected`` (positive points in a batch, of a pyramid) are ignored by heads without them.
    """

    width: int
    n_classes: int
    per_step: bool
    hidden: int = 64
    components: int = 16
    clusters: int = 16
    layers: int = 2
    window: int | None = None
    causal: bool = False
    both_ways: bool = False
    dropout: float = 0.3
    expected: float = 100.0


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


def _linear(spec: HeadSpec) -> Head:
    return LinearHead(width=spec.width, n_classes=spec.n_classes, per_step=spec.per_step)


def _recurrent(spec: HeadSpec, cell: type[nn.LSTM] | type[nn.GRU]) -> Head:
    return RecurrentHead(
        width=spec.width,
        n_classes=spec.n_classes,
        per_step=spec.per_step,
        hidden=spec.hidden,
        components=spec.components,
        dropout=spec.dropout,
        cell=cell,
        both_ways=not spec.causal if spec.per_step else spec.both_ways,
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
        window=spec.window,
        causal=spec.causal,
    )


def _ms_tcn(spec: HeadSpec) -> Head:
    return MSTCNHead(width=spec.width, n_classes=spec.n_classes, hidden=spec.hidden, dropout=spec.dropout)


def _pyramid(spec: HeadSpec, *, attention: bool) -> Localizer:
    return PyramidHead(
        width=spec.width,
        n_classes=spec.n_classes,
        hidden=spec.hidden,
        attention=attention,
        dropout=spec.dropout,
        expected=spec.expected,
    )


def _localizer(spec: HeadSpec, kind: type[ProposalHead] | type[WatershedHead]) -> Localizer:
    return kind(width=spec.width, n_classes=spec.n_classes, hidden=spec.hidden, dropout=spec.dropout)


def _bank(spec: HeadSpec, operator: Operator) -> BankHead:
    return BankHead(
        width=spec.width,
        n_classes=spec.n_classes,
        operator=operator,
        hidden=spec.hidden,
        layers=spec.layers,
        dropout=spec.dropout,
    )


VIDEO_HEADS: dict[str, Callable[[HeadSpec], Head]] = {
    "mean": partial(_pooled, pool=masked_mean),
    "max": partial(_pooled, pool=masked_max),
    "linear": _linear,
    "svm": _linear,
    "attention-pool": _attention_pooled,
    "netvlad": _netvlad,
    "lstm": partial(_recurrent, cell=nn.LSTM),
    "gru": partial(_recurrent, cell=nn.GRU),
    "attention": _attention,
}
"""Heads that answer for whole videos, or for each step."""

HEADS: dict[str, Callable[[HeadSpec], Head]] = {**VIDEO_HEADS, "ms-tcn": _ms_tcn}
"""Heads that answer for each step."""

LOCALIZERS: dict[str, Callable[[HeadSpec], Localizer]] = {
    "actionformer": partial(_pyramid, attention=True),
    "temporalmaxer": partial(_pyramid, attention=False),
    "proposals": partial(_localizer, kind=ProposalHead),
    "watershed": partial(_localizer, kind=WatershedHead),
}
"""Heads that find segments."""

DETECTORS: dict[str, Callable[[HeadSpec], BankHead]] = {
    "bank-none": partial(_bank, operator="none"),
    "bank-mean": partial(_bank, operator="mean"),
    "bank-max": partial(_bank, operator="max"),
    "bank-nonlocal": partial(_bank, operator="nonlocal"),
}
"""Heads that say what the person in a box does."""
