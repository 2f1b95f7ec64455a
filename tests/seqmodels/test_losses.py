import math

import pytest
import torch

from seqmodels import step_loss, video_loss


def test_video_loss_of_no_opinion_is_log_of_the_classes() -> None:
    assert video_loss(torch.zeros(2, 5), torch.tensor([0, 3])).item() == pytest.approx(math.log(5))


def test_step_loss_leaves_padding_out() -> None:
    logits, targets = torch.zeros(1, 3, 2), torch.zeros(1, 3, 2)
    logits[0, 2] = 100.0
    mask = torch.tensor([[True, True, False]])
    assert step_loss(logits, targets, mask).item() == pytest.approx(math.log(2))
