"""Learnt pooling against sums written out in float64."""

import torch

from seqmodels.pooling import AttentionPool, NetVLAD


def test_netvlad_is_its_equation() -> None:
    torch.manual_seed(0)
    pool = NetVLAD(5, 3).double()
    steps = torch.randn(2, 7, 5, dtype=torch.float64)
    mask = torch.arange(7) < torch.tensor([[7], [4]])
    pooled = pool(steps, mask)
    for row, length in enumerate((7, 4)):
        clusters = []
        for k in range(3):
            total = torch.zeros(5, dtype=torch.float64)
            for step in steps[row, :length]:
                scores = (pool.assign.weight @ step + pool.assign.bias).exp()
                total += scores[k] / scores.sum() * (step - pool.centres[k])
            clusters.append(total / total.norm())
        whole = torch.cat(clusters)
        torch.testing.assert_close(pooled[row], whole / whole.norm())


def test_a_step_repeated_pools_to_itself() -> None:
    torch.manual_seed(0)
    pool = AttentionPool(4, 8)
    step = torch.randn(4)
    mask = torch.arange(6) < torch.tensor([[6], [2]])
    torch.testing.assert_close(pool(step.expand(2, 6, 4), mask), step.expand(2, 4))


def test_attention_weights_are_shares_of_the_real_steps() -> None:
    torch.manual_seed(0)
    pool = AttentionPool(4, 8)
    steps, mask = torch.randn(2, 6, 4), torch.arange(6) < torch.tensor([[6], [2]])
    weights = pool.weights(steps, mask)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2))
    assert torch.equal(weights > 0, mask)
    scores = torch.tensor([[pool.weigh(pool.signal(x).tanh() * pool.gate(x).sigmoid()).item() for x in steps[1, :2]]])
    torch.testing.assert_close(weights[1:, :2], scores.softmax(dim=1))
