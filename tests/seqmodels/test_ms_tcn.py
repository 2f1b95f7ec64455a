"""How far the stages look, and that all of them are trained."""

import torch

from seqmodels.ms_tcn import MSTCNHead


def small(**sizes: int) -> MSTCNHead:
    torch.manual_seed(0)
    return MSTCNHead(width=4, n_classes=3, dropout=0.0, hidden=8, **sizes).eval()


def test_sizes_of_the_paper() -> None:
    head = MSTCNHead(width=2048, n_classes=19, dropout=0.5)
    assert sum(p.numel() for p in head.parameters()) == 800_396  # counted by hand; 0.80 M


def test_context_is_as_far_as_a_step_looks() -> None:
    head = small(stages=2, layers=3)
    assert head.context == 14
    features, mask = torch.randn(1, 60, 4, requires_grad=True), torch.ones(1, 60, dtype=torch.bool)
    head(features, mask)[0, 30].sum().backward()
    assert features.grad is not None
    reached = features.grad[0].abs().sum(dim=1).nonzero()[:, 0]
    assert (reached.min(), reached.max()) == (30 - 14, 30 + 14)


def test_stages_see_probabilities_alone() -> None:
    head = small(stages=2, layers=2)
    features, mask = torch.randn(2, 9, 4), torch.ones(2, 9, dtype=torch.bool)
    first, second = head.every_stage(features, mask)
    assert first.shape == second.shape == (2, 9, 3)
    again = head.stages[1](first.sigmoid().transpose(1, 2), mask[:, None]).transpose(1, 2)
    torch.testing.assert_close(second, again)
    torch.testing.assert_close(head(features, mask), second)
