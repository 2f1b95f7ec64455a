"""One-stage localization over a pyramid of time scales: ActionFormer and TemporalMaxer.

B batch, T time steps, D feature width, H hidden width, C classes, L levels, P points of all levels together.

A level of stride s has a *point* at every s-th step. Each point says how sure it is of each class, and how far
before and after it the segment around it begins and ends. Figures are those of ActionFormer (Zhang, Wu & Li,
ECCV 2022) as its configuration for THUMOS14 has them, with I3D features.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from seqmodels.attention import attend_nearby
from seqmodels.localizer import Localizer, Truth
from seqmodels.segments import Found, joined
from seqmodels.standardise import Standardise

LEVELS = 6
STRIDES = tuple(2**level for level in range(LEVELS))
LIMITS = (0.0, 4.0, 8.0, 16.0, 32.0, 64.0, float("inf"))
"""A level of number i learns segments whose farther end is LIMITS[i] to LIMITS[i + 1] steps away."""
RADIUS = 1.5  # strides around a segment's middle, within which points learn it
SHARED = 1e-3  # steps by which lengths may differ of segments that one point learns together
FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0  # Lin et al., ICCV 2017
PRIOR = 0.01  # probability that every class starts with (same paper, section 4.1)
MEMORY = 0.9  # of the running number of positive points, by which losses are divided
MIN_SCORE, MOST, SHORTEST = 0.001, 2000, 0.05  # of a level's candidates; shortest in steps
WINDOW = 4096  # steps that are looked at at once; a multiple of every stride
CONTEXT = 1024  # steps around a window that its points may depend on, or more; likewise


class Level(NamedTuple):
    """Maps ``(B, T / stride, H)`` of one time scale and which of its points are real, ``(B, T / stride)`` bool."""

    maps: Tensor
    mask: Tensor


class PyramidHead(Localizer):
    """Convolutions, a pyramid, and convolutions shared by its levels.

    ``attention``: transformer blocks with local attention build the pyramid (ActionFormer, 29 million parameters at
    2048 features and the paper's 512 channels); without it, maxima over time alone (TemporalMaxer, Tang, Kim & Sohn
    2023, 7 million). TemporalMaxer's own assignment of points to segments is replaced by ActionFormer's.

    ``dropout`` is of the inputs (the papers have none), ``drop`` of whole ways through the blocks. ``expected``:
    positive points in a batch, before training has counted them (100 for THUMOS14).
    """

    positives: Tensor

    def __init__(
        self,
        *,
        width: int,
        n_classes: int,
        hidden: int,
        attention: bool,
        dropout: float,
        drop: float = 0.1,
        expected: float = 100.0,
    ) -> None:
        super().__init__()
        self.n_classes = n_classes
        self.inputs = Standardise(width)
        self.drop = nn.Dropout(dropout)
        self.embed = nn.ModuleList((MaskedConv(width, hidden), MaskedConv(hidden, hidden)))
        stem = [Block(hidden, stride=1, drop=drop) for _ in range(2 if attention else 0)]
        self.stem = nn.ModuleList(stem)
        deeper: list[nn.Module] = [Block(hidden, stride=2, drop=drop) for _ in STRIDES[1:]] if attention else []
        self.deeper = nn.ModuleList(deeper)
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in STRIDES)
        self.classes = nn.ModuleList((MaskedConv(hidden, hidden), MaskedConv(hidden, hidden)))
        self.class_out = nn.Linear(3 * hidden, n_classes)
        self.ends = nn.ModuleList((MaskedConv(hidden, hidden), MaskedConv(hidden, hidden)))
        self.ends_out = nn.Linear(3 * hidden, 2)
        self.scales = nn.Parameter(torch.ones(LEVELS))
        self.register_buffer("positives", torch.tensor(expected))
        nn.init.constant_(self.class_out.bias, -float(np.log((1 - PRIOR) / PRIOR)))
        nn.init.ones_(self.ends_out.bias)  # an end that began below 0 everywhere would have no gradient

    def forward(self, steps: Tensor, mask: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Standardised steps ``(B, T, D)``, ``(B, T)`` -> of each level: class logits ``(B, T / stride, C)``, distances
        to start and stop ``(B, T / stride, 2)`` in strides, >= 0, and real points ``(B, T / stride)``.
        """
        logits, ends, masks = [], [], []
        for number, (maps, real) in enumerate(self._levels(steps, mask)):
            maps = self.norms[number](maps) * real[..., None]
            logits.append(self.class_out(three_steps(_through(self.classes, maps, real))))
            distances = self.ends_out(three_steps(_through(self.ends, maps, real)))
            ends.append(functional.relu(distances * self.scales[number]))
            masks.append(real)
        return logits, ends, masks

    def _levels(self, steps: Tensor, mask: Tensor) -> Iterator[Level]:
        maps = _through(self.embed, self.drop(steps) * mask[..., None], mask)
        for block in self.stem:
            maps, mask = block(maps, mask)
        yield Level(maps, mask)
        for number in range(1, LEVELS):
            if len(self.deeper):
                maps, mask = self.deeper[number - 1](maps, mask)
            else:
                maps, mask = _halved(maps, mask)
            yield Level(maps, mask)

    def loss_of(self, steps: Tensor, mask: Tensor, truths: Sequence[Truth], /) -> Tensor:
        """Focal loss of the classes of all real points and distance-IoU loss of the ends of those in segments (Zheng et
        al., AAAI 2020), both over the running number of the latter.
        """
        logits, ends, masks = (torch.cat(levels, dim=1) for levels in self(steps, mask))  # (B, P, …)
        points, strides, lowest, highest = _points([level.shape[1] for level in self._shapes(mask)], steps.device)
        targets = [_targets(points, strides, lowest, highest, truth, self.n_classes) for truth in truths]
        wanted, wanted_ends = torch.stack([each[0] for each in targets]), torch.stack([each[1] for each in targets])
        inside = (wanted.sum(dim=-1) > 0) & masks
        if self.training:
            found = inside.sum().clamp(min=1)
            self.positives.copy_(MEMORY * self.positives + (1 - MEMORY) * found)
        focal = focal_loss(logits[masks], wanted[masks])
        overlap = distance_iou_loss(ends[inside], wanted_ends[inside])
        return (focal + overlap) / self.positives

    def _shapes(self, mask: Tensor) -> list[Tensor]:
        return [mask[:, ::stride] for stride in STRIDES]

    def find_in(self, steps: Tensor, /) -> Found:
        """Window by window: what lies a window and `CONTEXT` steps away has no part in a point's answer, so that memory
        does not grow with T, and the answer is that of the whole.
        """
        parts = []
        for first in range(0, len(steps), WINDOW):
            begin = max(0, first - CONTEXT)
            seen = steps[begin : first + WINDOW + CONTEXT]
            parts.append(self._find_between(seen, begin, first, first + WINDOW))
        return joined(parts)

    def _find_between(self, steps: Tensor, begin: int, first: int, stop: int) -> Found:
        """Of the points ``first`` to ``stop`` - 1, where ``steps`` begin at ``begin``."""
        mask = torch.ones(1, len(steps), dtype=torch.bool, device=steps.device)
        parts = []
        for stride, logits, ends in zip(STRIDES, *self(steps[None], mask)[:2], strict=True):
            points = begin + stride * torch.arange(logits.shape[1], device=steps.device)
            mine = (points >= first) & (points < stop)
            parts.append(_candidates(points[mine], stride, logits[0, mine].sigmoid(), ends[0, mine]))
        return joined(parts)


class MaskedConv(nn.Module):
    """Convolution over three steps, LayerNorm, ReLU; zeros at padding: ``(B, T, D)`` -> ``(B, T, H)``."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.conv = nn.Linear(3 * width, hidden, bias=False)  # LayerNorm has a bias
        self.norm = nn.LayerNorm(hidden)

    def forward(self, steps: Tensor, mask: Tensor) -> Tensor:
        """``(B, T, D)`` with zeros at padding, ``(B, T)`` -> ``(B, T, H)``."""
        result: Tensor = functional.relu(self.norm(self.conv(three_steps(steps)))) * mask[..., None]
        return result


class Block(nn.Module):
    """Local self-attention and two linear layers, each with a scaled way past it; halves the steps at stride 2.

    Queries, keys and values come from convolutions over three steps of each channel. The first ways in are small
    (1e-4, Touvron et al., ICCV 2021, "Going deeper with image transformers"), and whole ways are dropped in training
    (stochastic depth, Huang et al., ECCV 2016).
    """

    def __init__(self, hidden: int, *, stride: int, drop: float, heads: int = 4, window: int = 9) -> None:
        super().__init__()
        if hidden % heads:
            raise ValueError(f"hidden={hidden}; expected a multiple of the {heads} attention heads")
        self.heads, self.window, self.stride, self.drop = heads, window, stride, drop
        self.before_attention, self.before_mix = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.convs = nn.Parameter(
            torch.empty(3, 3, hidden).uniform_(-(3**-0.5), 3**-0.5)
        )  # of q, k, v; steps; channels
        self.conv_norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(3))
        self.projections = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(3))
        self.join = nn.Linear(hidden, hidden)
        self.mix = nn.Sequential(nn.Linear(hidden, 4 * hidden), nn.GELU(), nn.Linear(4 * hidden, hidden))
        self.attention_scale = nn.Parameter(torch.full((hidden,), 1e-4))
        self.mix_scale = nn.Parameter(torch.full((hidden,), 1e-4))

    def forward(self, steps: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, T, H)`` with zeros at padding, ``(B, T)`` -> the same for every ``stride``-th step."""
        real = mask[:, :: self.stride]
        normed = self.before_attention(steps) * mask[..., None]
        queries, keys, values = (
            project(norm(each_channel(normed, taps, self.stride))).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for taps, norm, project in zip(self.convs, self.conv_norms, self.projections, strict=True)
        )
        seen = attend_nearby(queries, keys, values, real, window=self.window, causal=False)
        attended = self.join(seen.transpose(1, 2).flatten(2))
        past = steps if self.stride == 1 else _halved(steps, mask)[0]
        steps = (past + self._dropped(attended * self.attention_scale)) * real[..., None]
        steps = (steps + self._dropped(self.mix(self.before_mix(steps)) * self.mix_scale)) * real[..., None]
        return steps, real

    def _dropped(self, way: Tensor) -> Tensor:
        if not self.training or self.drop == 0:
            return way
        kept = torch.rand(len(way), 1, 1, device=way.device) >= self.drop
        return way * kept / (1 - self.drop)


def _halved(steps: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Every second step, with the maximum of it and its neighbours: ``(B, T, H)`` -> ``(B, (T + 1) / 2, H)``."""
    real = mask[:, ::2]
    hidden = steps.masked_fill(~mask[..., None], float("-inf")).transpose(1, 2)
    pooled = functional.max_pool1d(hidden, 3, stride=2, padding=1).transpose(1, 2)
    return pooled.masked_fill(~real[..., None], 0), real


def three_steps(steps: Tensor) -> Tensor:
    """Each step beside the one before and the one after it, zeros beyond the ends: ``(B, T, H)`` -> ``(B, T, 3 H)``. A
    linear layer over it is a convolution over three steps, without turning the maps around.
    """
    around = functional.pad(steps, (0, 0, 1, 1))
    return torch.cat((around[:, :-2], steps, around[:, 2:]), dim=-1)


def each_channel(steps: Tensor, taps: Tensor, stride: int) -> Tensor:
    """Convolution over three steps of each channel alone: ``(B, T, H)``, ``(3, H)`` -> every ``stride``-th step."""
    around = functional.pad(steps, (0, 0, 1, 1))
    before, now, after = around[:, :-2:stride], steps[:, ::stride], around[:, 2::stride]
    return before * taps[0] + now * taps[1] + after * taps[2]


def _through(layers: nn.ModuleList, steps: Tensor, mask: Tensor) -> Tensor:
    for layer in layers:
        steps = layer(steps, mask)
    return steps


def _points(counts: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of all points: step, stride, and the least and greatest distance that they learn. Four times ``(P,)``."""
    rows = [
        (float(stride * at), float(stride), LIMITS[level], LIMITS[level + 1])
        for level, (stride, count) in enumerate(zip(STRIDES, counts, strict=True))
        for at in range(count)
    ]
    points, strides, lowest, highest = torch.tensor(rows, device=device).T
    return points, strides, lowest, highest


def _targets(
    points: Tensor, strides: Tensor, lowest: Tensor, highest: Tensor, truth: Truth, n_classes: int
) -> tuple[Tensor, Tensor]:
    """What the points shall say: classes ``(P, C)`` 0 or 1, and distances ``(P, 2)`` in strides (0 outside segments).

    A point learns a segment that holds it, near the segment's middle (`RADIUS`), whose farther end is as far as its
    level looks. The shortest of several is learnt; those of equal length all give their class.
    """
    if len(truth.labels) == 0:
        return points.new_zeros(len(points), n_classes), points.new_zeros(len(points), 2)
    start, stop = truth.segments[:, 0], truth.segments[:, 1]
    distances = torch.stack((points[:, None] - start, stop - points[:, None]), dim=-1)  # (P, N, 2)
    middle, reach = (start + stop) / 2, RADIUS * strides[:, None]
    near = (points[:, None] - middle).abs() < torch.minimum(reach, (stop - start) / 2)
    farther = distances.amax(dim=-1)
    learns = near & (farther >= lowest[:, None]) & (farther <= highest[:, None])
    lengths = torch.where(learns, stop - start, torch.inf)
    shortest, which = lengths.min(dim=1)
    together = (learns & (lengths <= shortest[:, None] + SHARED)).to(points.dtype)
    classes = (together @ functional.one_hot(truth.labels, n_classes).to(points.dtype)).clamp(max=1)
    mine = distances[torch.arange(len(points), device=points.device), which]
    ends = torch.where(shortest.isfinite()[:, None], mine / strides[:, None], 0)
    return classes, ends


def focal_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Sum of the sigmoid focal loss (Lin et al., ICCV 2017, equation 5): ``(…)``, ``(…)`` 0..1 -> scalar."""
    losses = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    probability = logits.sigmoid()
    right = probability * targets + (1 - probability) * (1 - targets)
    alpha = FOCAL_ALPHA * targets + (1 - FOCAL_ALPHA) * (1 - targets)
    return (alpha * (1 - right) ** FOCAL_GAMMA * losses).sum()


def distance_iou_loss(ends: Tensor, targets: Tensor) -> Tensor:
    """Sum of 1 - DIoU (Zheng et al., AAAI 2020, equation 7) of segments around one point, given by their distances to
    start and stop: twice ``(N, 2)``, >= 0 -> scalar.
    """
    shared = torch.minimum(ends, targets).sum(dim=-1)
    union = ends.sum(dim=-1) + targets.sum(dim=-1) - shared
    around = torch.maximum(ends, targets).sum(dim=-1)
    between = ((ends[:, 1] - ends[:, 0]) - (targets[:, 1] - targets[:, 0])) / 2
    tiny = torch.finfo(ends.dtype).eps
    losses = 1 - shared / union.clamp(min=tiny) + (between / around.clamp(min=tiny)) ** 2
    return losses.sum()


def _candidates(points: Tensor, stride: int, scores: Tensor, ends: Tensor) -> Found:
    """Scored segments of one level: the best `MOST`, or half as many as a long sequence has points, above `MIN_SCORE`
    that are not shorter than `SHORTEST` steps.
    """
    best, order = scores.flatten().sort(descending=True, stable=True)
    most = max(MOST, len(points) // 2)
    order = order[: int((best[:most] > MIN_SCORE).sum())]
    rows, labels = order // scores.shape[1], order % scores.shape[1]
    starts, stops = points[rows] - ends[rows, 0] * stride, points[rows] + ends[rows, 1] * stride
    found = Found(
        torch.stack((starts, stops), dim=1).double().cpu().numpy(),
        scores.flatten()[order].double().cpu().numpy(),
        labels.cpu().numpy(),
    )
    return found.take(np.flatnonzero(found.segments[:, 1] - found.segments[:, 0] > SHORTEST))
