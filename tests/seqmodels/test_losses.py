import math

import pytest
import torch

from seqmodels import smoothness, step_loss, video_loss


def test_video_loss_of_no_opinion_is_log_of_the_classes() -> None:
    assert video_loss(torch.zeros(2, 5), torch.tensor([0, 3])).item() == pytest.approx(math.log(5))


def test_step_loss_leaves_padding_out() -> None:
    logits, targets = torch.zeros(1, 3, 2), torch.zeros(1, 3, 2)
    logits[0, 2] = 100.0
    mask = torch.tensor([[True, True, False]])
    assert step_loss(logits, targets, mask).item() == pytest.approx(math.log(2))


def test_smoothness_is_the_truncated_change_of_log_probabilities() -> None:
    torch.manual_seed(0)
    logits, mask = 8 * torch.randn(2, 6, 3), torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    chance = torch.sigmoid(logits.double())
    changes = [
        min(abs(math.log(chance[row, at, c]) - math.log(chance[row, at - 1, c])), 4) ** 2
        for row, length in ((0, 6), (1, 4))
        for at in range(1, length)
        for c in range(3)
    ]  # fmt: skip
    assert smoothness(logits, mask).item() == pytest.approx(sum(changes) / len(changes), rel=1e-5)
    assert smoothness(logits[:, :1], mask[:, :1]).item() == 0
