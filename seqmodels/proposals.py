"""Two-stage localization: proposals from anchors over time, then the class and the ends of each.

B batch, T time steps, D feature width, H hidden width, C classes, K anchor lengths, N segments.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from seqmodels.localizer import Localizer, Truth
from seqmodels.pyramid import MaskedConv
from seqmodels.segments import Found, joined, none_found, suppress
from seqmodels.standardise import Standardise

SCALES = (1, 2, 3, 4, 5, 6, 8, 11, 16)
"""Anchor lengths, in units that the training segments set (TAL-Net, section 4: in steps of its features)."""
POSITIVE, NEGATIVE = 0.7, 0.3  # tIoU of anchors that hold an action, and that hold none
IS_ACTION = 0.5  # tIoU of proposals with their action
ANCHORS_A_VIDEO, SEGMENTS_A_VIDEO = 256, 128  # that losses look at; at most half and a quarter of them positive
PROPOSAL_IOU, PROPOSALS, CONSIDERED = 0.7, 300, 2000  # hard suppression of proposals; those kept; those before it
BINS = 8
STRETCH = 4.0  # lengths may grow and shrink by that factor at most
MIN_SCORE = 0.001
WINDOW = 4096


class Proposed(NamedTuple):
    """Of all anchors: their own segments, ``(A, 2)`` in steps, logits ``(A,)`` and corrections ``(A, 2)``."""

    anchors: Tensor
    logits: Tensor
    corrections: Tensor


class ProposalHead(Localizer):
    """Faster R-CNN along time, as TAL-Net has it (Chao et al., CVPR 2018).

    Each anchor length has its own pair of dilated convolutions that see about the anchor's length and its surroundings.
    Proposals are pooled with as much context on each side as half of their length (`BINS` bins, each the maximum of
    two interpolated points), classified, and their ends corrected again. The unit of the anchors' lengths is a
    sixteenth of the 95th percentile of the training segments.
    """

    unit: Tensor

    def __init__(self, *, width: int, n_classes: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.n_classes = n_classes
        self.inputs = Standardise(width)
        self.embed = nn.ModuleList((MaskedConv(width, hidden), MaskedConv(hidden, hidden)))
        self.near = nn.ModuleList(nn.Conv1d(hidden, hidden, 3) for _ in SCALES)
        self.far = nn.ModuleList(nn.Conv1d(hidden, hidden, 3) for _ in SCALES)
        self.answers = nn.ModuleList(nn.Conv1d(hidden, 3, 1) for _ in SCALES)
        self.judge = nn.Sequential(
            nn.Linear(BINS * hidden, 2 * hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(2 * hidden, 2 * hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        self.class_out = nn.Linear(2 * hidden, n_classes + 1)
        self.ends_out = nn.Linear(2 * hidden, 2 * n_classes)
        self.register_buffer("unit", torch.tensor(1.0))

    def fit_segments(self, lengths: Tensor) -> None:
        """Set the unit of the anchors' lengths."""
        if len(lengths):
            self.unit.copy_((torch.quantile(lengths.float(), 0.95) / SCALES[-1]).clamp(min=0.5))

    def loss_of(self, steps: Tensor, mask: Tensor, truths: Sequence[Truth], /) -> Tensor:
        """Of both stages: cross-entropy, and smooth L1 of the corrections of positives (Ren et al. 2015)."""
        maps = self._maps(steps, mask)
        losses = []
        for row, truth in enumerate(truths):
            count = int(mask[row].sum())
            proposed = self._proposed(maps[row, :count])
            losses.append(self._proposal_loss(proposed, truth))
            segments, _ = self._best(proposed, count)
            losses.append(self._judge_loss(maps[row, :count], torch.cat((segments, truth.segments)), truth))
        return torch.stack(losses).sum() / len(truths)

    def find_in(self, steps: Tensor, /) -> Found:
        """Window by window, each with its own proposals, which begin in it; memory does not grow with T."""
        context = math.ceil(4 * SCALES[-1] * float(self.unit))
        parts = [none_found()]
        for first in range(0, len(steps), WINDOW):
            begin = max(0, first - context)
            parts.append(self._find_between(steps[begin : first + WINDOW + context], begin, first))
        return joined(parts)

    def _find_between(self, steps: Tensor, begin: int, first: int) -> Found:
        mask = torch.ones(1, len(steps), dtype=torch.bool, device=steps.device)
        maps = self._maps(steps[None], mask)[0]
        segments, _ = self._best(self._proposed(maps), len(steps))
        starts = segments[:, 0] + begin
        mine = (starts < first + WINDOW) & ((starts >= first) | (first == 0))
        segments = segments[mine]
        if len(segments) == 0:
            return none_found()
        logits, corrections = self._judged(maps, segments)
        scores = logits.softmax(dim=1)[:, 1:]
        final = corrected(segments[:, None].expand(-1, self.n_classes, 2), corrections) + begin
        rows, labels = torch.nonzero(scores > MIN_SCORE, as_tuple=True)
        return Found(
            final[rows, labels].double().cpu().numpy(),
            scores[rows, labels].double().cpu().numpy(),
            labels.cpu().numpy(),
        )

    def _maps(self, steps: Tensor, mask: Tensor) -> Tensor:
        maps = steps * mask[..., None]
        for layer in self.embed:
            maps = layer(maps, mask)
        return maps

    def _proposed(self, maps: Tensor) -> Proposed:
        """Of one sequence ``(T, H)``: an anchor of each length around each step."""
        seen, answers, anchors = maps.T[None], [], []
        middles = torch.arange(len(maps), device=maps.device, dtype=maps.dtype)
        for scale, near, far, out in zip(SCALES, self.near, self.far, self.answers, strict=True):
            length = scale * float(self.unit)
            dilation = max(1, round(length / 6))
            hidden = _dilated(near, seen, dilation)
            answers.append(out(_dilated(far, hidden, 2 * dilation))[0].T)
            anchors.append(torch.stack((middles - length / 2, middles + length / 2), dim=1))
        joint = torch.cat(answers)
        return Proposed(torch.cat(anchors), joint[:, 0], joint[:, 1:])

    def _best(self, proposed: Proposed, count: int) -> tuple[Tensor, Tensor]:
        """The proposals, within the ``count`` steps of the sequence, and their probabilities."""
        with torch.no_grad():
            scores = proposed.logits.sigmoid()
            scores, order = scores.topk(min(CONSIDERED, len(scores)))
            segments = corrected(proposed.anchors[order], proposed.corrections[order]).clamp(-0.5, count - 0.5)
            rows, _ = suppress(
                segments.cpu().numpy(),
                scores.double().cpu().numpy(),
                method="hard",
                iou_threshold=PROPOSAL_IOU,
                min_score=0.0,
                most=PROPOSALS,
            )
            kept = torch.from_numpy(rows).to(segments.device)
            return segments[kept], scores[kept]

    def _proposal_loss(self, proposed: Proposed, truth: Truth) -> Tensor:
        overlaps = pair_iou(proposed.anchors, truth.segments)  # (A, N)
        best, which = _best_of(overlaps)
        positive = best >= POSITIVE
        if overlaps.shape[1]:
            positive |= ((overlaps == overlaps.amax(dim=0)) & (overlaps > 0)).any(dim=1)  # every action has an anchor
        rows, n_positive = _sampled(positive, (best < NEGATIVE) & ~positive, ANCHORS_A_VIDEO, ANCHORS_A_VIDEO // 2)
        targets = positive[rows].to(proposed.logits.dtype)
        loss = functional.binary_cross_entropy_with_logits(proposed.logits[rows], targets)
        hit = rows[:n_positive]
        wanted = corrections_of(proposed.anchors[hit], truth.segments[which[hit]])
        return loss + _smooth_l1(proposed.corrections[hit], wanted) / max(1, len(rows))

    def _judge_loss(self, maps: Tensor, segments: Tensor, truth: Truth) -> Tensor:
        best, which = _best_of(pair_iou(segments, truth.segments))
        positive = best >= IS_ACTION
        rows, n_positive = _sampled(positive, ~positive, SEGMENTS_A_VIDEO, SEGMENTS_A_VIDEO // 4)
        logits, corrections = self._judged(maps, segments[rows])
        labels = torch.zeros(len(rows), dtype=torch.int64, device=maps.device)
        hit = truth.labels[which[rows[:n_positive]]] if n_positive else labels[:0]
        labels[:n_positive] = hit + 1
        loss = functional.cross_entropy(logits, labels)
        wanted = corrections_of(segments[rows[:n_positive]], truth.segments[which[rows[:n_positive]]])
        mine = corrections[torch.arange(n_positive, device=maps.device), hit]
        return loss + _smooth_l1(mine, wanted) / max(1, len(rows))

    def _judged(self, maps: Tensor, segments: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits (0: none) ``(N, C + 1)`` and corrections ``(N, C, 2)`` of segments of one sequence."""
        hidden = self.judge(pooled(maps, segments).flatten(1))
        return self.class_out(hidden), self.ends_out(hidden).view(-1, self.n_classes, 2)


def pooled(maps: Tensor, segments: Tensor) -> Tensor:
    """Segment-of-interest pooling with context: ``(T, H)``, ``(N, 2)`` steps -> ``(N, BINS, H)``.

    The segment and half of its length on each side in `BINS` equal bins; the maximum of two points a bin, each
    interpolated between its two steps. Beyond the sequence the maps are 0.
    """
    lengths = segments[:, 1] - segments[:, 0]
    places = (torch.arange(2 * BINS, device=maps.device) + 0.5) / BINS - 0.5  # -0.5 … 1.5 of the segment
    points = segments[:, :1] + lengths[:, None] * places
    below = points.floor()
    share = (points - below)[..., None]
    values = (1 - share) * _at(maps, below.long()) + share * _at(maps, below.long() + 1)
    return values.view(len(segments), BINS, 2, maps.shape[1]).amax(dim=2)


def _at(maps: Tensor, steps: Tensor) -> Tensor:
    """Maps at steps ``(N, P)``, zeros beyond: -> ``(N, P, H)``."""
    there = (steps >= 0) & (steps < len(maps))
    return maps[steps.clamp(0, len(maps) - 1)] * there[..., None]


def corrections_of(segments: Tensor, wanted: Tensor) -> Tensor:
    """How middle (in lengths) and logarithm of the length must change: twice ``(N, 2)`` -> ``(N, 2)``."""
    middle, length = segments.mean(dim=-1), segments[..., 1] - segments[..., 0]
    ratio = (wanted[..., 1] - wanted[..., 0]).clamp(min=1e-3) / length.clamp(min=1e-3)
    return torch.stack(((wanted.mean(dim=-1) - middle) / length.clamp(min=1e-3), ratio.log()), dim=-1)


def corrected(segments: Tensor, corrections: Tensor) -> Tensor:
    """The inverse of `corrections_of`, within `STRETCH`: ``(…, 2)`` twice -> ``(…, 2)``."""
    length = segments[..., 1] - segments[..., 0]
    middle = segments.mean(dim=-1) + corrections[..., 0] * length
    half = length * corrections[..., 1].clamp(-math.log(STRETCH), math.log(STRETCH)).exp() / 2
    return torch.stack((middle - half, middle + half), dim=-1)


def pair_iou(first: Tensor, second: Tensor) -> Tensor:
    """Overlap over union of ``(M, 2)`` and ``(N, 2)`` -> ``(M, N)``; 0 where both have no length."""
    shared = torch.minimum(first[:, None, 1], second[:, 1]) - torch.maximum(first[:, None, 0], second[:, 0])
    shared = shared.clamp(min=0)
    union = (first[:, 1] - first[:, 0])[:, None] + (second[:, 1] - second[:, 0]) - shared
    return shared / union.clamp(min=1e-6)


def _best_of(overlaps: Tensor) -> tuple[Tensor, Tensor]:
    """Largest overlap of each row and with what; 0 and 0 where there is nothing."""
    if overlaps.shape[1] == 0:
        return overlaps.new_zeros(len(overlaps)), torch.zeros(len(overlaps), dtype=torch.int64, device=overlaps.device)
    best = overlaps.max(dim=1)
    return best.values, best.indices


def _sampled(positive: Tensor, negative: Tensor, count: int, most_positive: int) -> tuple[Tensor, int]:
    """Rows drawn by torch's seed, positives first, and how many of them are positive."""
    hits, misses = (torch.nonzero(rows)[:, 0] for rows in (positive, negative))
    hits = hits[torch.randperm(len(hits), device=hits.device)[:most_positive]]
    misses = misses[torch.randperm(len(misses), device=misses.device)[: count - len(hits)]]
    return torch.cat((hits, misses)), len(hits)


def _smooth_l1(values: Tensor, targets: Tensor) -> Tensor:
    return functional.smooth_l1_loss(values, targets, reduction="sum")


def _dilated(conv: nn.Module, maps: Tensor, dilation: int) -> Tensor:
    assert isinstance(conv, nn.Conv1d)  # noqa: S101 - for the type alone
    return functional.relu(functional.conv1d(maps, conv.weight, conv.bias, padding=dilation, dilation=dilation))
