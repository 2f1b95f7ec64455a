"""What every head must do, and what the order task needs of the recurrent one."""

import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from seqmodels import HEADS, VIDEO_HEADS, HeadSpec
from seqmodels.head import Head

WIDTH, CLASSES = 20, 3


KINDS = [
    pytest.param(name, per_step, id=f"{name}-{'label' if per_step else 'classify'}")
    for name in HEADS
    for per_step in (False, True)
    if per_step or name in VIDEO_HEADS
]


def built(name: str, per_step: bool) -> Head:
    torch.manual_seed(0)
    spec = HeadSpec(width=WIDTH, n_classes=CLASSES, per_step=per_step, hidden=8, components=6)
    head = HEADS[name](spec)
    head.inputs.fit([3 * torch.randn(20, WIDTH) + 1 for _ in range(10)])
    return head.eval()


def batch(*lengths: int, padding: float = 0.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    features = torch.full((len(lengths), max(lengths), WIDTH), padding)
    mask = torch.zeros(features.shape[:2], dtype=torch.bool)
    for row, length in enumerate(lengths):
        features[row, :length] = torch.randn(length, WIDTH, generator=generator)
        mask[row, :length] = True
    return features, mask


@pytest.mark.parametrize(("name", "per_step"), KINDS)
class TestEveryHead:
    def test_shapes(self, name: str, per_step: bool) -> None:
        logits = built(name, per_step)(*batch(7, 4))
        assert logits.shape == ((2, 7, CLASSES) if per_step else (2, CLASSES))

    @pytest.mark.parametrize("padding", [0.0, 1e6, float("nan")])
    def test_padding_changes_nothing(self, name: str, per_step: bool, padding: float) -> None:
        head = built(name, per_step)
        features, mask = batch(4, 9, padding=padding)
        together = head(features, mask)[0]
        alone = head(features[:1, :4], mask[:1, :4])[0]
        torch.testing.assert_close(together[:4] if per_step else together, alone)

    def test_length_one(self, name: str, per_step: bool) -> None:
        assert torch.isfinite(built(name, per_step)(*batch(1))).all()

    def test_gradients_reach_every_parameter(self, name: str, per_step: bool) -> None:
        head = built(name, per_step)
        logits = head(*batch(6, 3))
        (logits * torch.arange(1, CLASSES + 1)).sum().backward()
        for parameter_name, parameter in head.named_parameters():
            assert parameter.grad is not None, parameter_name
            assert parameter.grad.abs().sum() > 0, parameter_name

    def test_saved_and_loaded_equal(self, name: str, per_step: bool, tmp_path: Path) -> None:
        head = built(name, per_step)
        safetensors.torch.save_file(head.state_dict(), tmp_path / "head.safetensors")
        spec = HeadSpec(width=WIDTH, n_classes=CLASSES, per_step=per_step, hidden=8, components=6)
        other = HEADS[name](spec).eval()
        other.load_state_dict(safetensors.torch.load_file(tmp_path / "head.safetensors"))
        inputs = batch(5, 2)
        assert torch.equal(head(*inputs), other(*inputs))

    def test_scale_of_the_features_does_not_matter(self, name: str, per_step: bool) -> None:
        features, mask = batch(6, 6)
        head = built(name, per_step)
        head.inputs.fit(list(features))
        before = head(features, mask)
        head.inputs.fit(list(features * 100 - 5))
        torch.testing.assert_close(head(features * 100 - 5, mask), before, rtol=1e-3, atol=1e-3)

    def test_learns_eight_sequences_by_heart(self, name: str, per_step: bool) -> None:
        torch.manual_seed(0)
        features, mask = batch(*range(12, 20))
        spec = HeadSpec(width=WIDTH, n_classes=CLASSES, per_step=per_step, hidden=32, dropout=0.0)
        head = HEADS[name](spec)
        head.inputs.fit([row[real] for row, real in zip(features, mask, strict=True)])
        wanted = torch.arange(8) % CLASSES
        if per_step:
            of_step = features[..., :CLASSES].argmax(dim=-1)
            blind = name in ("mean", "max", "attention-pool", "netvlad")  # the same answer for all steps of a video
            wanted = (wanted[:, None].expand(mask.shape) if blind else of_step)[mask]
        optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
        for _ in range(300):
            logits = head(features, mask)[mask] if per_step else head(features, mask)
            if (logits.argmax(dim=-1) == wanted).all():
                break
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(logits, wanted).backward()
            optimizer.step()
        assert (logits.argmax(dim=-1) == wanted).all()

    def test_refuses_what_does_not_fit(self, name: str, per_step: bool) -> None:
        head = built(name, per_step)
        features, mask = batch(4, 3)
        with pytest.raises(ValueError, match=r"expected \(batch, time, 20\)"):
            head(features[..., :5], mask)
        with pytest.raises(ValueError, match=r"mask is torch.int64 \(2, 4\); expected torch.bool"):
            head(features, mask.long())
        with pytest.raises(ValueError, match="without a single real step"):
            head(features, torch.zeros_like(mask))
        with pytest.raises(ValueError, match="real steps come first"):
            head(features, mask.flip(1))


def test_both_ways_reads_the_end_first_too() -> None:
    torch.manual_seed(0)
    spec = HeadSpec(width=WIDTH, n_classes=CLASSES, per_step=False, hidden=8, components=6, both_ways=True)
    head = HEADS["lstm"](spec).eval()
    features, mask = batch(5, 9)
    cells, steps = head.cells, head.inputs(features[1:])  # type: ignore[operator, union-attr]
    forward = cells(steps)[1][0][0]  # type: ignore[operator]
    backward = cells(steps)[1][0][1]  # type: ignore[operator]
    expected = head.out(torch.cat((forward, backward), dim=1))  # type: ignore[operator]
    torch.testing.assert_close(head(features, mask)[1:], expected)
    torch.testing.assert_close(head(features[:1, :5], mask[:1, :5])[0], head(features, mask)[0])


LONG = """
import resource, torch
from seqmodels import HEADS, LOCALIZERS, HeadSpec
from seqmodels.windows import step_logits
torch.set_num_threads(1)
features, times = torch.randn(100_000, 16), torch.arange(100_000.0)
spec = HeadSpec(width=16, n_classes=2, per_step=True, hidden=8, window=32)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name, build in HEADS.items():
    assert step_logits(build(spec).eval(), features, times).shape == (100_000, 2), name
for name, build in LOCALIZERS.items():
    build(spec).eval().find(features)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_hundred_thousand_steps_need_little_memory() -> None:
    done = subprocess.run([sys.executable, "-c", LONG], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 400_000  # KiB; a map of all pairs of steps alone would be 37 GiB


def test_pooling_ignores_order_and_lstm_does_not() -> None:
    features, mask = batch(8)
    reverse = features.flip(1)
    for name in ("mean", "max"):
        head = built(name, per_step=False)
        torch.testing.assert_close(head(features, mask), head(reverse, mask))
    lstm = built("lstm", per_step=False)
    assert not torch.allclose(lstm(features, mask), lstm(reverse, mask), atol=1e-4)


def test_constant_features_and_few_steps_stay_finite() -> None:
    for name in HEADS:
        head = built(name, per_step=name not in VIDEO_HEADS)
        head.inputs.fit([torch.ones(3, WIDTH)])
        assert torch.isfinite(head(torch.ones(1, 3, WIDTH), torch.ones(1, 3, dtype=torch.bool))).all()


def test_wider_than_the_features_is_no_error() -> None:
    spec = HeadSpec(width=4, n_classes=2, per_step=False, components=16)
    head = HEADS["lstm"](spec)
    assert head(torch.randn(1, 3, 4), torch.ones(1, 3, dtype=torch.bool)).shape == (1, 2)
