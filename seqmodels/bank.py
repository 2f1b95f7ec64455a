"""Actions of boxes with the help of a bank of what was seen around them (Wu et al., "Long-Term Feature Banks for
Detailed Video Understanding", CVPR 2019).

R query boxes, S slots of the bank, D feature width, H hidden width, C classes, K knots in time. A mask is ``(R, S)``
bool, True at real slots, which may stand anywhere; what the other slots hold never changes a result.
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from seqmodels.standardise import Standardise

Operator = Literal["none", "mean", "max", "nonlocal"]
REACH_S = 30.0
"""Offsets beyond it are taken for this: half of the paper's window of 60 s."""
KNOT_S = 2.0
"""Seconds between the knots of a learnt function of time."""
PRIOR = 0.05
"""Probability of each class before training: a box has few of the classes (Lin et al., "Focal Loss for Dense Object
Detection", ICCV 2017, section 4.1). Without it the first epochs go into learning this."""


class BankHead(nn.Module):
    """A feature bank operator (FBO, section 3.3 of the paper) on features of boxes, and a linear layer behind it.

    - ``none``: the box alone.
    - ``mean``, ``max``: the box beside the mean or maximum of the reduced bank.
    - ``nonlocal``: FBO-NL, the box beside what ``layers`` attention layers (`NonLocal`) make of the reduced box and
      bank. Unlike in the paper, empty slots get no attention (there, zeros take part in the softmax), and slots know
      how many seconds lie between them and the box, so that the order of events can be told: a reduced slot is
      ``relu(reduce(slot) + time(offset))``. ``time`` is learnt: a vector at each of K knots ``KNOT_S`` apart, and a
      straight line between them. (With time in the keys alone the frame mAP on the memory world, see docs/worlds.md,
      was near that of ``max``, 0.44, and not 0.78.)

    ``inputs`` has constants from the training features; ``exclusive`` ``(C,)`` bool tells the classes that exclude each
    other (see `detection_loss`). A box without a real slot is answered as by the box alone, with zeros beside it
    (``mean``, ``max``) or its reduced self (``nonlocal``).
    """

    exclusive: Tensor

    def __init__(
        self,
        *,
        width: int,
        n_classes: int,
        operator: Operator,
        hidden: int = 512,
        layers: int = 2,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        if operator not in get_args(Operator):
            raise ValueError(f"operator is {operator!r}; expected one of {', '.join(get_args(Operator))}")
        self.operator = operator
        self.inputs = Standardise(width)
        self.register_buffer("exclusive", torch.zeros(n_classes, dtype=torch.bool))
        self.drop = nn.Dropout(dropout)
        if operator != "none":
            self.reduce_bank = nn.Linear(width, hidden)
        if operator == "nonlocal":
            self.reduce_box = nn.Linear(width, hidden)
            self.time = nn.Parameter(0.1 * torch.randn(round(2 * REACH_S / KNOT_S) + 1, hidden))
            self.layers = nn.ModuleList(NonLocal(hidden, dropout=dropout) for _ in range(layers))
        self.out = nn.Linear(width + (hidden if operator != "none" else 0), n_classes)
        nn.init.constant_(self.out.bias, math.log(PRIOR / (1 - PRIOR)))

    def forward(self, roi: Tensor, bank: Tensor, bank_mask: Tensor, offset_s: Tensor) -> Tensor:
        """Boxes ``(R, D)``, slots ``(R, S, D)``, real slots ``(R, S)`` bool, and the seconds from each box to each slot
        ``(R, S)`` (negative: the slot is earlier) -> logits ``(R, C)``.

        Raises:
            ValueError: shapes that do not fit, or a mask that is not bool.
        """
        _check(roi, bank, bank_mask, offset_s, self.inputs.width)
        boxes: Tensor = self.inputs(roi)
        if self.operator != "none":
            boxes = torch.cat((boxes, self._context(boxes, bank, bank_mask, offset_s)), dim=1)
        logits: Tensor = self.out(self.drop(boxes))
        return logits

    def _context(self, boxes: Tensor, bank: Tensor, mask: Tensor, offset_s: Tensor) -> Tensor:
        """``(R, D)``, ``(R, S, D)``, ``(R, S)``, ``(R, S)`` -> ``(R, H)``."""
        empty = ~mask
        slots = self.reduce_bank(self.inputs(bank.masked_fill(empty[..., None], 0)))
        if self.operator == "mean":
            return _mean(slots, mask)
        if self.operator == "max":
            return _max(slots, mask)
        slots = self.drop((slots + knots_at(offset_s.masked_fill(empty, 0)).to(slots.dtype) @ self.time).relu())
        context: Tensor = self.drop(self.reduce_box(boxes))
        for layer in self.layers:
            context = layer(context, slots, mask)
        return context


class NonLocal(nn.Module):
    """One layer of FBO-NL (the paper's figure 4 and its supplement): attention of each box to the real slots of its
    bank, LayerNorm, ReLU, a projection that starts at zero, dropout, and a way past it all.
    """

    def __init__(self, hidden: int, *, dropout: float) -> None:
        super().__init__()
        self.theta, self.phi, self.g = (nn.Linear(hidden, hidden) for _ in range(3))
        self.norm = nn.LayerNorm(hidden)
        self.out = nn.Linear(hidden, hidden)
        self.drop = nn.Dropout(dropout)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, boxes: Tensor, slots: Tensor, mask: Tensor) -> Tensor:
        """``(R, H)``, finite ``(R, S, H)``, ``(R, S)`` -> ``(R, H)``; without a real slot, the box as it came."""
        seen = attend(self.theta(boxes), self.phi(slots), self.g(slots), mask)
        change = self.drop(self.out(self.norm(seen).relu()))
        result: Tensor = boxes + change.masked_fill(~mask.any(dim=1, keepdim=True), 0)
        return result


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Scaled dot product attention of one query to the real slots of its row; 0 where there are none.

    ``(R, H)``, ``(R, S, H)``, ``(R, S, H)``, ``(R, S)`` -> ``(R, H)``.
    """
    scores = (keys @ queries[..., None])[..., 0] / queries.shape[-1] ** 0.5  # (R, S)
    lowest = torch.finfo(scores.dtype).min  # not -inf: a row without a real slot stays finite
    weights = scores.masked_fill(~mask, lowest).softmax(dim=-1) * mask
    seen: Tensor = (weights[..., None] * values).sum(dim=1)
    return seen


def knots_at(offset_s: Tensor) -> Tensor:
    """Weights of the knots at each offset in seconds, linear between the two nearest: ``(R, S)`` -> ``(R, S, K)``."""
    count = round(2 * REACH_S / KNOT_S) + 1
    place = (offset_s.clamp(-REACH_S, REACH_S) + REACH_S) / KNOT_S
    knots = torch.arange(count, device=offset_s.device, dtype=place.dtype)
    return (1 - (place[..., None] - knots).abs()).clamp(min=0)


def detection_loss(logits: Tensor, targets: Tensor, exclusive: Tensor) -> Tensor:
    """Loss of boxes that may have several classes, some of which exclude each other: scalar, in nats.

    Cross-entropy of the softmax over the ``exclusive`` classes, mean over the rows that have exactly one of them, plus
    binary cross-entropy of the others, mean over rows and classes. With no exclusive classes it is the binary
    cross-entropy of all. (The poses of AVA exclude each other: Tang et al., "Asynchronous Interaction Aggregation for
    Action Detection", ECCV 2020; Pan et al., "Actor-Context-Actor Relation Network", CVPR 2021.)

    Args:
        logits: ``(R, C)``.
        targets: ``(R, C)``, 0 or 1.
        exclusive: ``(E,)`` int64 numbers of classes, may be empty.
    """
    others = _others(logits, exclusive)
    loss = logits.sum() * 0
    if others.any():
        wanted = targets[:, others].to(logits.dtype)
        loss = loss + functional.binary_cross_entropy_with_logits(logits[:, others], wanted)
    poses = targets[:, exclusive].bool()
    clear = poses.sum(dim=1) == 1
    if clear.any():
        loss = loss + functional.cross_entropy(logits[clear][:, exclusive], poses[clear].float().argmax(dim=1))
    return loss


def probabilities(logits: Tensor, exclusive: Tensor) -> Tensor:
    """Softmax over the ``exclusive`` classes ``(E,)``, sigmoid of the others: ``(R, C)`` -> ``(R, C)`` in 0..1."""
    return logits.sigmoid().index_copy(1, exclusive, logits[:, exclusive].softmax(dim=1))


def _others(logits: Tensor, exclusive: Tensor) -> Tensor:
    others = torch.ones(logits.shape[1], dtype=torch.bool, device=logits.device)
    others[exclusive] = False
    return others


def _mean(slots: Tensor, mask: Tensor) -> Tensor:
    total = slots.masked_fill(~mask[..., None], 0).sum(dim=1)
    return total / mask.sum(dim=1, keepdim=True).clamp(min=1)


def _max(slots: Tensor, mask: Tensor) -> Tensor:
    if slots.shape[1] == 0:
        return slots.new_zeros(slots.shape[0], slots.shape[2])
    best = slots.masked_fill(~mask[..., None], float("-inf")).amax(dim=1)
    return best.masked_fill(~mask.any(dim=1, keepdim=True), 0)


def _check(roi: Tensor, bank: Tensor, mask: Tensor, offset_s: Tensor, width: int) -> None:
    if roi.ndim != 2 or roi.shape[1] != width:
        raise ValueError(f"roi has shape {tuple(roi.shape)}; expected (boxes, {width})")
    if bank.ndim != 3 or bank.shape[0] != roi.shape[0] or bank.shape[2] != width:
        raise ValueError(f"bank has shape {tuple(bank.shape)}; expected ({roi.shape[0]}, slots, {width})")
    if mask.shape != bank.shape[:2] or mask.dtype != torch.bool:
        raise ValueError(f"bank_mask is {mask.dtype} {tuple(mask.shape)}; expected torch.bool {tuple(bank.shape[:2])}")
    if offset_s.shape != mask.shape:
        raise ValueError(f"offset_s has shape {tuple(offset_s.shape)}; expected {tuple(mask.shape)}")
