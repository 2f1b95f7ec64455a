"""A transformer encoder over clip features whose positions are seconds.

B batch, T time steps, D feature width, H hidden width, N attention heads, E = H / N, C classes, W window.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from seqmodels.head import Head, inputs_for
from seqmodels.masks import masked_mean

LONGEST = 10_000.0
"""Ratio of the slowest to the fastest rotation (Su et al. 2021, section 3.2.2, there over positions)."""


class AttentionHead(Head):
    """Transformer encoder (Vaswani et al. 2017), normalised before each part (Xiong et al. 2020).

    Queries and keys are turned by angles in proportion to the seconds of their steps (rotary positions, Su et
    al. 2021), so that attention sees differences of time: the stride of the clips may differ from video to video,
    and no length is the longest.

    ``window``: a step sees that many steps on each side (None: all). ``causal``: it sees no later step.
    One logit row a video: fixed temporal components as inputs, and a mean over the real steps behind the encoder.
    One row a step (``per_step``): a trained projection.
    """

    def __init__(
        self,
        *,
        width: int,
        n_classes: int,
        per_step: bool,
        hidden: int,
        components: int,
        dropout: float,
        layers: int = 2,
        heads: int = 4,
        window: int | None = None,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.per_step = per_step
        self.context = None if window is None else window * layers
        self.inputs, kept = inputs_for(width, per_step=per_step, components=components)
        self.project = nn.Linear(kept, hidden)
        self.drop = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            EncoderLayer(hidden, heads=heads, window=window, causal=causal, dropout=dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(hidden)
        self.out = nn.Linear(hidden, n_classes)

    def stages_of(self, steps: Tensor, mask: Tensor, times: Tensor, /) -> Tensor:
        """One stage."""
        steps = self.drop(self.project(steps))
        for layer in self.layers:
            steps = layer(steps, mask, times)
        steps = self.norm(steps)
        logits: Tensor = self.out(self.drop(steps if self.per_step else masked_mean(steps, mask)))
        return logits[None]


class EncoderLayer(nn.Module):
    """``(B, T, H)`` -> ``(B, T, H)``: self-attention and two linear layers, each with a way past it."""

    def __init__(self, hidden: int, *, heads: int, window: int | None, causal: bool, dropout: float) -> None:
        super().__init__()
        if hidden % (2 * heads):
            raise ValueError(f"hidden={hidden}; expected a multiple of {2 * heads}: {heads} heads of an even width")
        self.heads, self.window, self.causal = heads, window, causal
        self.before_attention = nn.LayerNorm(hidden)
        self.queries_keys_values = nn.Linear(hidden, 3 * hidden)
        self.join = nn.Linear(hidden, hidden)
        self.mix = nn.Sequential(
            nn.LayerNorm(hidden),
            nn.Linear(hidden, 4 * hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(4 * hidden, hidden),
        )
        self.drop = nn.Dropout(dropout)

    def forward(self, steps: Tensor, mask: Tensor, times: Tensor) -> Tensor:
        """``(B, T, H)``, ``(B, T)`` bool, ``(B, T)`` seconds -> ``(B, T, H)``, of any value at padding."""
        joint = self.queries_keys_values(self.before_attention(steps))
        queries, keys, values = joint.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, N, T, E)
        queries, keys = rotated(queries, times), rotated(keys, times)
        if self.window is None:
            seen = attend(queries, keys, values, mask, causal=self.causal)
        else:
            seen = attend_nearby(queries, keys, values, mask, window=self.window, causal=self.causal)
        steps = steps + self.drop(self.join(seen.transpose(1, 2).flatten(2)))
        result: Tensor = steps + self.drop(self.mix(steps))
        return result


def rotated(values: Tensor, times: Tensor) -> Tensor:
    """Turn pairs of entries of ``(B, N, T, E)`` by ``seconds * LONGEST ** (-2 i / E)`` (Su et al. 2021, equation 34;
    pairs are entries i and i + E / 2). Products of two rotated vectors depend on the difference of their times.
    """
    half = values.shape[-1] // 2
    rates = LONGEST ** (-torch.arange(half, device=values.device, dtype=torch.float64) / half)
    angles = times[:, None, :, None].double() * rates  # hours in seconds, to a small part of a turn
    cosine, sine = angles.cos().to(values.dtype), angles.sin().to(values.dtype)
    first, second = values[..., :half], values[..., half:]
    return torch.cat((first * cosine - second * sine, first * sine + second * cosine), dim=-1)


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor, *, causal: bool) -> Tensor:
    """Attention of all steps to all real steps: three times ``(B, N, T, E)``, ``(B, T)`` -> ``(B, N, T, E)``."""
    if causal:  # padding is later than every real step
        return functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
    allowed = None if bool(mask.all()) else mask[:, None, None, :]
    return functional.scaled_dot_product_attention(queries, keys, values, attn_mask=allowed)


def attend_nearby(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor, *, window: int, causal: bool) -> Tensor:
    """`attend` to at most ``window`` steps on each side; time and memory grow with T * window, not with T squared.

    Steps stand in blocks of ``window``; the queries of a block look at their own block and its two neighbours.
    """
    count = queries.shape[2]
    blocks = -(-count // window)
    missing = blocks * window - count
    queries, keys, values = (functional.pad(x, (0, 0, 0, missing)) for x in (queries, keys, values))
    places = torch.arange(blocks * window, device=queries.device).view(blocks, window)
    near = _three_blocks(places[..., None], fill=-window - 1)[..., 0]  # (blocks, 3 W)
    distance = places[:, :, None] - near[:, None, :]
    allowed = (distance >= (0 if causal else -window)) & (distance <= window)
    real = functional.pad(mask, (0, missing)).view(len(mask), 1, blocks, window, 1)
    allowed = (allowed & _three_blocks(real, fill=0)[..., 0][:, :, :, None]) | (distance == 0)
    queries, keys, values = (x.view(*x.shape[:2], blocks, window, -1) for x in (queries, keys, values))
    seen = functional.scaled_dot_product_attention(
        queries, _three_blocks(keys, fill=0), _three_blocks(values, fill=0), attn_mask=allowed
    )
    return seen.flatten(2, 3)[:, :, :count]


def _three_blocks(blocks: Tensor, *, fill: float) -> Tensor:
    """Each block between its neighbours: ``(…, blocks, W, E)`` -> ``(…, blocks, 3 W, E)``."""
    beyond = functional.pad(blocks, (0, 0, 0, 0, 1, 1), value=fill)
    return torch.cat((beyond[..., :-2, :, :], blocks, beyond[..., 2:, :, :]), dim=-2)
