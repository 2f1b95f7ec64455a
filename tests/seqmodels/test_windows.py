"""Windows give what the whole sequence gives."""

from dataclasses import replace

import pytest
import torch

from seqmodels import HEADS, HeadSpec
from seqmodels.ms_tcn import MSTCNHead
from seqmodels.recurrent import RecurrentHead
from seqmodels.windows import step_logits

STEPS = 70
SPEC = HeadSpec(width=6, n_classes=3, per_step=True, hidden=16, window=5, layers=2)
BUILT = {
    "attention": lambda: HEADS["attention"](SPEC),
    "lstm": lambda: HEADS["lstm"](SPEC),
    "lstm as steps come": lambda: HEADS["lstm"](replace(SPEC, causal=True)),
    "gru as steps come": lambda: HEADS["gru"](replace(SPEC, causal=True)),
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


def test_a_stream_knows_nothing_of_later_steps() -> None:
    head = HEADS["gru"](replace(SPEC, causal=True)).eval()
    assert isinstance(head, RecurrentHead)
    features = torch.randn(2, 9, 6)
    first, state = head.stream(features[:, :4])
    rest, _ = head.stream(features[:, 4:], state)
    changed = features.clone()
    changed[:, 4:] = 0
    torch.testing.assert_close(head.stream(changed)[0][:, :4], first)
    torch.testing.assert_close(torch.cat((first, rest), dim=1), head.stream(features)[0])
    with pytest.raises(ValueError, match="cannot answer as steps come"):
        HEADS["gru"](SPEC).stream(features)  # type: ignore[attr-defined]
