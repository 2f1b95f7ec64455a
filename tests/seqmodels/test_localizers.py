"""What every localization head must do, and its parts against torchvision and by hand."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor
from torchvision.ops import distance_box_iou_loss, sigmoid_focal_loss

from seqmodels import LOCALIZERS, HeadSpec, Localizer, Truth, pyramid
from seqmodels.metrics import localization_map
from seqmodels.proposals import corrected, corrections_of, pair_iou, pooled
from seqmodels.pyramid import distance_iou_loss, each_channel, focal_loss, three_steps
from seqmodels.segments import Found, suppress_by_class, temporal_iou
from seqmodels.watershed import groups, step_targets

WIDTH, CLASSES = 12, 3


def built(name: str, *, hidden: int = 16) -> Localizer:
    torch.manual_seed(0)
    head = LOCALIZERS[name](HeadSpec(width=WIDTH, n_classes=CLASSES, per_step=True, hidden=hidden, dropout=0.1))
    head.inputs.fit([3 * torch.randn(40, WIDTH) + 1 for _ in range(5)])
    head.fit_segments(torch.tensor([4.0, 8.0, 12.0]))
    return head.eval()


def drawn(*lengths: int, padding: float = 0.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    features = torch.full((len(lengths), max(lengths), WIDTH), padding)
    mask = torch.zeros(features.shape[:2], dtype=torch.bool)
    for row, length in enumerate(lengths):
        features[row, :length] = torch.randn(length, WIDTH, generator=generator)
        mask[row, :length] = True
    return features, mask


def truth(*rows: tuple[float, float, int]) -> Truth:
    table = torch.tensor(rows).reshape(-1, 3)
    return Truth(table[:, :2].float(), table[:, 2].long())


TRUTHS = [truth((3.2, 9.7, 0), (12.0, 30.5, 2), (12.0, 30.5, 1)), truth((0.0, 2.0, 1)), truth()]


@pytest.mark.parametrize("name", LOCALIZERS)
class TestEveryLocalizer:
    def test_loss_is_finite_and_reaches_every_parameter(self, name: str) -> None:
        head = built(name).train()
        longer = [*TRUTHS[:2], truth(*((0.0, 3.0 * 2**level, 1) for level in range(7)))]
        head.loss(*drawn(40, 9, 300), longer).backward()
        for key, parameter in head.named_parameters():
            assert parameter.grad is not None, key
            assert torch.isfinite(parameter.grad).all(), key
            assert parameter.grad.abs().max() > 0, key

    @pytest.mark.parametrize("padding", [1e6, float("nan")])
    def test_padding_changes_no_loss(self, name: str, padding: float) -> None:
        head, (features, mask) = built(name), drawn(40, 9, padding=padding)
        torch.manual_seed(3)
        together = head.loss(features, mask, TRUTHS[:2])
        clean = features.masked_fill(~mask[..., None], 0)
        wider = torch.nn.functional.pad(clean, (0, 0, 0, 24), value=7.0)
        torch.manual_seed(3)
        torch.testing.assert_close(head.loss(wider, torch.nn.functional.pad(mask, (0, 24)), TRUTHS[:2]), together)

    def test_save_and_load(self, name: str, tmp_path: Path) -> None:
        head = built(name)
        safetensors.torch.save_file(head.state_dict(), tmp_path / "head.safetensors")
        other = LOCALIZERS[name](HeadSpec(width=WIDTH, n_classes=CLASSES, per_step=True, hidden=16)).eval()
        other.load_state_dict(safetensors.torch.load_file(tmp_path / "head.safetensors"))
        features = drawn(70)[0][0]
        for mine, theirs in zip(head.find(features), other.find(features), strict=True):
            np.testing.assert_array_equal(mine, theirs)

    @pytest.mark.parametrize("length", [1, 2, 33])
    def test_any_length(self, name: str, length: int) -> None:
        head, (features, mask) = built(name), drawn(length)
        found = head.find(features[0])
        assert found.segments.shape == (len(found.scores), 2)
        assert np.isfinite(found.segments).all()
        assert ((found.scores > 0) & (found.scores <= 1)).all()
        assert ((found.labels >= 0) & (found.labels < CLASSES)).all()
        assert torch.isfinite(head.loss(features, mask, [truth((0.0, 0.5, 1))]))

    def test_nothing_annotated(self, name: str) -> None:
        assert torch.isfinite(built(name).train().loss(*drawn(20), [truth()]))

    def test_refuses_other_widths_and_empty_sequences(self, name: str) -> None:
        with pytest.raises(ValueError, match="expected"):
            built(name).find(torch.zeros(5, WIDTH + 1))
        with pytest.raises(ValueError, match="without a single real step"):
            built(name).find(torch.zeros(0, WIDTH))

    def test_learns_eight_sequences_by_heart(self, name: str) -> None:
        sequences = planted(8)
        head = built(name, hidden=32).train()
        head.inputs.fit([features for features, _ in sequences])
        head.fit_segments(torch.cat([each.segments[:, 1] - each.segments[:, 0] for _, each in sequences]))
        features = torch.stack([each for each, _ in sequences])
        mask = torch.ones(features.shape[:2], dtype=torch.bool)
        optimizer = torch.optim.Adam(head.parameters(), lr=3e-3)
        true = [(each.segments.double().numpy(), each.labels.numpy()) for _, each in sequences]
        for _ in range(6):
            for _ in range(20):
                loss = head.train().loss(features, mask, [each for _, each in sequences])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            predicted = [suppress_by_class(head.eval().find(each)) for each, _ in sequences]
            known = localization_map(predicted, true, n_classes=CLASSES, thresholds=(0.5,)).average_map
            if known == 1.0:
                break
        assert known == 1.0


def planted(count: int) -> list[tuple[Tensor, Truth]]:
    """Sequences of 64 steps of noise, with three segments of 5 to 14 steps whose steps have their class's mean."""
    generator = np.random.default_rng(5)
    means = 4 * generator.standard_normal((CLASSES, WIDTH))
    sequences = []
    for _ in range(count):
        features, rows = generator.standard_normal((64, WIDTH)), []
        for slot, label in enumerate(generator.permutation(CLASSES)):
            start = 21 * slot + int(generator.integers(0, 6))
            stop = start + int(generator.integers(5, 15))
            features[start:stop] += means[label]
            rows.append((start - 0.5, stop - 0.5, int(label)))
        sequences.append((torch.from_numpy(features).float(), truth(*rows)))
    return sequences


@pytest.mark.parametrize("name", ["actionformer", "temporalmaxer"])
def test_windows_equal_the_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    head, features = built(name, hidden=8), drawn(3000)[0][0]
    monkeypatch.setattr(pyramid, "MIN_SCORE", 0.0)
    monkeypatch.setattr(pyramid, "MOST", 10**6)
    whole = in_order(head.find(features))
    monkeypatch.setattr(pyramid, "WINDOW", 512)
    parts = in_order(head.find(features))
    for mine, theirs in zip(parts, whole, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=2e-3)


def in_order(found: Found) -> Found:
    return found.take(np.lexsort((found.segments[:, 1].round(2), found.segments[:, 0].round(2), found.labels)))


def test_focal_loss_is_torchvision_s() -> None:
    logits, targets = 3 * torch.randn(50, 4), (torch.rand(50, 4) < 0.2).float()
    torch.testing.assert_close(focal_loss(logits, targets), sigmoid_focal_loss(logits, targets, reduction="sum"))


def test_distance_iou_loss_is_torchvision_s() -> None:
    mine, theirs = 5 * torch.rand(50, 2) + 0.1, 5 * torch.rand(50, 2) + 0.1

    def boxes(ends: Tensor) -> Tensor:
        """As boxes of a height that hardly counts in the distance of the corners."""
        flat = torch.zeros(len(ends))
        return torch.stack((-ends[:, 0], flat, ends[:, 1], flat + 1e-3), dim=1).double()

    expected = distance_box_iou_loss(boxes(mine), boxes(theirs), reduction="sum").float()
    torch.testing.assert_close(distance_iou_loss(mine, theirs), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["actionformer", "temporalmaxer"])
def test_both_ends_can_learn_from_the_start(name: str) -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        head = LOCALIZERS[name](HeadSpec(width=WIDTH, n_classes=CLASSES, per_step=True, hidden=16))
        _, ends, _ = head.eval()(torch.randn(1, 64, WIDTH), torch.ones(1, 64, dtype=torch.bool))
        assert (ends[0] > 0).float().mean(dim=(0, 1)).min() > 0.5


def test_convolutions_are_torch_s() -> None:
    torch.manual_seed(0)
    steps, weight, taps = torch.randn(2, 9, 4), torch.randn(5, 4, 3), torch.randn(3, 4)
    dense = torch.nn.functional.conv1d(steps.transpose(1, 2), weight, padding=1).transpose(1, 2)
    torch.testing.assert_close(three_steps(steps) @ weight.permute(0, 2, 1).flatten(1).T, dense)
    for stride in (1, 2):
        alone = torch.nn.functional.conv1d(
            steps.transpose(1, 2), taps.T[:, None], stride=stride, padding=1, groups=4
        ).transpose(1, 2)
        torch.testing.assert_close(each_channel(steps, taps, stride), alone)


def test_points_learn_what_their_level_looks_at() -> None:
    points, strides, lowest, highest = pyramid._points([16, 8, 4, 2, 1, 1], torch.device("cpu"))
    wanted = truth((2.0, 5.0, 0), (2.0, 5.0, 2), (3.0, 15.0, 1))
    classes, ends = pyramid._targets(points, strides, lowest, highest, wanted, CLASSES)
    # stride 1: points 3 and 4 lie within 1.5 of 3.5, as do 2 and 5 not (the ends themselves)
    rows = classes[:16].nonzero().tolist()
    assert rows == [[3, 0], [3, 2], [4, 0], [4, 2]]
    assert ends[3].tolist() == [1.0, 2.0]
    # the long segment's middle is 9: at stride 2, points 6.1 .. 11.9 whose farther end is 4 to 8 away
    assert [int(points[16 + at]) for at, label in classes[16:24].nonzero().tolist() if label == 1] == [8, 10]
    assert ends[16 + 4].tolist() == [2.5, 3.5]
    # at stride 4, points 3.1 .. 14.9 whose farther end is 8 to 16 away
    assert [int(points[24 + at]) for at, _ in classes[24:28].nonzero().tolist()] == [4, 12]
    assert classes[28:].sum() == 0


def test_of_two_the_shorter_is_learnt() -> None:
    points, strides, lowest, highest = pyramid._points([16, 8, 4, 2, 1, 1], torch.device("cpu"))
    classes, _ = pyramid._targets(points, strides, lowest, highest, truth((4.0, 8.0, 0), (4.5, 7.5, 1)), CLASSES)
    assert classes[6].tolist() == [0, 1, 0]


def test_corrections_are_inverse() -> None:
    segments = torch.tensor([[1.0, 5.0], [10.0, 11.0]])
    wanted = torch.tensor([[2.0, 9.0], [8.0, 10.0]])
    torch.testing.assert_close(corrected(segments, corrections_of(segments, wanted)), wanted)
    far = corrected(segments[1:], torch.tensor([[0.0, 9.0]]))
    assert far.tolist() == [[8.5, 12.5]]  # at most four times as long


def test_pooling_interpolates_and_takes_maxima() -> None:
    maps = torch.arange(10.0)[:, None]
    bins = pooled(maps, torch.tensor([[2.0, 6.0]]))  # with context 0 to 8: sixteen points half a step apart
    torch.testing.assert_close(bins[0, :, 0], torch.arange(8.0) + 0.75)
    assert pooled(maps, torch.tensor([[8.0, 30.0]]))[0, -1, 0] == 0  # beyond the end


def test_pair_iou_is_temporal_iou() -> None:
    first, second = torch.rand(6, 2).cumsum(1), torch.rand(4, 2).cumsum(1)
    expected = torch.from_numpy(temporal_iou(first.numpy(), second.numpy())).float()
    torch.testing.assert_close(pair_iou(first, second), expected)


def test_groups_of_steps() -> None:
    found = groups(np.array([0.0, 0.9, 0.9, 0.4, 0.9, 0.0, 0.0, 0.0, 0.6])).tolist()
    assert [0.5, 4.5] in found  # above 0.4, and bridged above it: three of four
    assert [0.5, 2.5] in found
    assert [3.5, 4.5] in found
    assert [7.5, 8.5] in found
    assert [0.5, 8.5] not in found
    assert groups(np.zeros(5)).shape == (0, 2)


def test_steps_in_segments() -> None:
    targets = step_targets(truth((1.0, 3.0, 0), (1.5, 2.5, 0), (2.2, 9.0, 2)), 5, CLASSES)
    assert targets.T.tolist() == [[0, 1, 1, 0, 0], [0] * 5, [0, 0, 0, 1, 1]]
