"""Attention against torch's own, and what its positions and windows promise."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from seqmodels.attention import EncoderLayer, attend_nearby, rotated

B, N, E = 2, 3, 8


def projections(steps: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(B, N, steps, E, generator=generator) for _ in range(3)]


def mask_of(*lengths: int) -> Tensor:
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [1, 3, 4, 50])
@pytest.mark.parametrize("steps", [1, 4, 7, 12])
def test_windows_are_masks(steps: int, window: int, causal: bool) -> None:
    queries, keys, values = projections(steps)
    mask = mask_of(steps, max(1, steps - 2))
    distance = torch.arange(steps)[:, None] - torch.arange(steps)
    allowed = (distance.abs() <= window) & mask[:, None, None, :]
    if causal:
        allowed = allowed & (distance >= 0)
    expected = functional.scaled_dot_product_attention(
        queries.double(), keys.double(), values.double(), attn_mask=allowed | torch.eye(steps, dtype=torch.bool)
    )
    seen = attend_nearby(queries, keys, values, mask, window=window, causal=causal)
    for row in range(B):
        real = mask[row]
        torch.testing.assert_close(seen[row, :, real], expected[row, :, real].float())


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [None, 20])
def test_without_time_a_layer_is_that_of_torch(window: int | None, causal: bool) -> None:
    torch.manual_seed(0)
    ours = EncoderLayer(16, heads=2, window=window, causal=causal, dropout=0.0).eval()
    theirs = nn.TransformerEncoderLayer(
        16, 2, dim_feedforward=64, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    ).eval()
    pairs = {
        "self_attn.in_proj_": "queries_keys_values.",
        "self_attn.out_proj.": "join.",
        "norm1.": "before_attention.",
        "norm2.": "mix.0.",
        "linear1.": "mix.1.",
        "linear2.": "mix.4.",
    }
    state = ours.state_dict()
    theirs.load_state_dict({t + kind: state[o + kind] for t, o in pairs.items() for kind in ("weight", "bias")})
    steps, mask = torch.randn(2, 9, 16), mask_of(9, 5)
    later = torch.ones(9, 9, dtype=torch.bool).triu(1) if causal else None
    expected = theirs(steps, src_mask=later, src_key_padding_mask=~mask)
    torch.testing.assert_close(ours(steps, mask, torch.zeros(2, 9))[mask], expected[mask])


def test_products_depend_on_differences_of_time() -> None:
    query, key = torch.randn(1, 1, 1, E), torch.randn(1, 1, 1, E)

    def product(query_s: float, key_s: float) -> Tensor:
        return (rotated(query, torch.tensor([[query_s]])) * rotated(key, torch.tensor([[key_s]]))).sum()

    torch.testing.assert_close(product(3.5, 1.25), product(36_003.5, 36_001.25))
    assert not torch.isclose(product(3.5, 1.25), product(3.5, 1.75))
    torch.testing.assert_close(product(2.0, 2.0), (query * key).sum())


def test_heads_must_share_the_width() -> None:
    with pytest.raises(ValueError, match="hidden=12; expected a multiple of 8"):
        EncoderLayer(12, heads=4, window=None, causal=False, dropout=0.0)
