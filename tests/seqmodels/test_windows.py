"""Windows give what the whole sequence gives."""

import pytest
import torch

from seqmodels import HEADS, HeadSpec
from seqmodels.ms_tcn import MSTCNHead
from seqmodels.windows import step_logits

STEPS = 70
SPEC = HeadSpec(width=6, n_classes=3, per_step=True, hidden=16, window=5, layers=2)
BUILT = {
    "attention": lambda: HEADS["attention"](SPEC),
    "lstm": lambda: HEADS["lstm"](SPEC),
    "ms-tcn": lambda: MSTCNHead(width=6, n_classes=3, dropout=0.3, hidden=16, stages=2, layers=3),
}


@pytest.mark.parametrize("window", [1, 16, 70, 71])
@pytest.mark.parametrize("name", BUILT)
def test_windows_equal_the_whole(name: str, window: int) -> None:
    torch.manual_seed(0)
    head = BUILT[name]().eval()
    head.inputs.fit([torch.randn(50, 6)])
    features, times = torch.randn(STEPS, 6), torch.arange(STEPS) * 0.5 + 100
    whole = head(features[None], torch.ones(1, STEPS, dtype=torch.bool), times[None])[0]
    torch.testing.assert_close(step_logits(head, features, times, window=window), whole, rtol=1e-4, atol=1e-5)
