"""Heads with a feature bank: what each must do, and the attention against its definition."""

import math
from pathlib import Path
from typing import get_args

import pytest
import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional

from seqmodels.bank import BankHead, Operator, attend, detection_loss, knots_at, probabilities

WIDTH, CLASSES, BOXES, SLOTS = 12, 5, 4, 7
OPERATORS: tuple[Operator, ...] = get_args(Operator)
NONE = torch.zeros(0, dtype=torch.int64)


def built(operator: Operator) -> BankHead:
    torch.manual_seed(0)
    head = BankHead(width=WIDTH, n_classes=CLASSES, operator=operator, hidden=8)
    for layer in getattr(head, "layers", []):  # as after some training
        torch.nn.init.normal_(layer.out.weight)
    head.inputs.fit([3 * torch.randn(20, WIDTH) + 1 for _ in range(5)])
    return head.eval()


def batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Boxes with 7, 3, 1 and no real slots."""
    generator = torch.Generator().manual_seed(1)
    roi, bank = torch.randn(BOXES, WIDTH, generator=generator), torch.randn(BOXES, SLOTS, WIDTH, generator=generator)
    offset_s = 60 * torch.rand(BOXES, SLOTS, generator=generator) - 30
    mask = torch.arange(SLOTS) < torch.tensor([7, 3, 1, 0])[:, None]
    return roi, bank, mask, offset_s


@pytest.mark.parametrize("operator", OPERATORS)
class TestEveryOperator:
    @pytest.mark.parametrize("padding", [1e6, float("nan"), float("inf")])
    def test_empty_slots_change_nothing(self, operator: Operator, padding: float) -> None:
        roi, bank, mask, offset_s = batch()
        head = built(operator)
        expected = head(roi, bank, mask, offset_s)
        assert expected.shape == (BOXES, CLASSES)
        filled = bank.masked_fill(~mask[..., None], padding)
        torch.testing.assert_close(head(roi, filled, mask, offset_s.masked_fill(~mask, padding)), expected)
        alone = [head(roi[i : i + 1], bank[i : i + 1, :n], mask[i : i + 1, :n], offset_s[i : i + 1, :n])
                 for i, n in enumerate((7, 3, 1, 0))]  # fmt: skip
        torch.testing.assert_close(torch.cat(alone), expected)

    def test_order_of_slots_does_not_matter(self, operator: Operator) -> None:
        roi, bank, mask, offset_s = batch()
        head = built(operator)
        expected = head(roi, bank, mask, offset_s)
        torch.testing.assert_close(head(roi, bank.flip(1), mask.flip(1), offset_s.flip(1)), expected)

    def test_gradients_reach_every_parameter_and_are_finite(self, operator: Operator) -> None:
        head = built(operator)
        (head(*batch()) * torch.arange(1, CLASSES + 1)).sum().backward()
        for name, parameter in head.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().sum() > 0, name

    def test_learns_eight_boxes_by_heart(self, operator: Operator) -> None:
        torch.manual_seed(0)
        head = BankHead(width=WIDTH, n_classes=CLASSES, operator=operator, hidden=32, dropout=0.0)
        roi, bank, mask, offset_s = (torch.cat((part, part.flip(0))) for part in batch())
        roi = torch.randn(8, WIDTH)
        wanted = torch.rand(8, CLASSES) < 0.4
        optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
        for _ in range(300):
            optimizer.zero_grad()
            detection_loss(head(roi, bank, mask, offset_s), wanted, NONE).backward()
            optimizer.step()
        assert torch.equal(head(roi, bank, mask, offset_s) > 0, wanted)

    def test_saved_and_loaded_equal(self, operator: Operator, tmp_path: Path) -> None:
        head = built(operator)
        safetensors.torch.save_file(head.state_dict(), tmp_path / "head.safetensors")
        other = BankHead(width=WIDTH, n_classes=CLASSES, operator=operator, hidden=8).eval()
        other.load_state_dict(safetensors.torch.load_file(tmp_path / "head.safetensors"))
        assert torch.equal(head(*batch()), other(*batch()))

    def test_scale_of_the_features_does_not_matter(self, operator: Operator) -> None:
        roi, bank, mask, offset_s = batch()
        head = built(operator)
        head.inputs.fit([roi])
        before = head(roi, bank, mask, offset_s)
        head.inputs.fit([roi * 100 - 5])
        torch.testing.assert_close(head(roi * 100 - 5, bank * 100 - 5, mask, offset_s), before, rtol=1e-3, atol=1e-3)

    def test_refuses_what_does_not_fit(self, operator: Operator) -> None:
        roi, bank, mask, offset_s = batch()
        head = built(operator)
        with pytest.raises(ValueError, match=r"roi has shape \(4, 3\); expected \(boxes, 12\)"):
            head(roi[:, :3], bank, mask, offset_s)
        with pytest.raises(ValueError, match=r"bank has shape \(3, 7, 12\); expected \(4, slots, 12\)"):
            head(roi, bank[:3], mask, offset_s)
        with pytest.raises(ValueError, match=r"bank_mask is torch.int64 \(4, 7\); expected torch.bool"):
            head(roi, bank, mask.long(), offset_s)
        with pytest.raises(ValueError, match=r"offset_s has shape \(4,\); expected \(4, 7\)"):
            head(roi, bank, mask, offset_s[:, 0])


def test_the_bank_matters_but_for_none() -> None:
    roi, bank, mask, offset_s = batch()
    for operator in OPERATORS:
        head = built(operator)
        same = torch.isclose(head(roi, bank, mask, offset_s), head(roi, bank + 1, mask, offset_s)).all(dim=1)
        assert same.tolist() == ([True] * 4 if operator == "none" else [False, False, False, True]), operator


def test_only_attention_knows_time() -> None:
    roi, bank, mask, offset_s = batch()
    for operator in OPERATORS:
        head = built(operator)
        same = torch.allclose(head(roi, bank, mask, offset_s), head(roi, bank, mask, -offset_s))
        assert same == (operator != "nonlocal"), operator


def test_pooled_values() -> None:
    roi, bank, mask, offset_s = batch()
    for operator in ("mean", "max"):
        head = built(operator)
        slots = head.reduce_bank(head.inputs(bank))[1, :3]
        pooled = slots.mean(dim=0) if operator == "mean" else slots.amax(dim=0)
        expected = head.out(torch.cat((head.inputs(roi)[1], pooled)))
        torch.testing.assert_close(head(roi, bank, mask, offset_s)[1], expected)
        empty = head.out(torch.cat((head.inputs(roi)[3], torch.zeros(8))))
        torch.testing.assert_close(head(roi, bank, mask, offset_s)[3], empty)


def test_an_untrained_attention_passes_the_box_on() -> None:
    head = BankHead(width=WIDTH, n_classes=CLASSES, operator="nonlocal", hidden=8).eval()
    roi, bank, mask, offset_s = batch()
    expected = head.out(torch.cat((roi, head.reduce_box(roi)), dim=1))
    torch.testing.assert_close(head(roi, bank, mask, offset_s), expected)


def test_attention_is_scaled_dot_product_attention() -> None:
    generator = torch.Generator().manual_seed(2)
    queries, keys, values = (
        torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((3, 8), (3, 6, 8), (3, 6, 8))
    )
    mask = torch.arange(6) < torch.tensor([6, 4, 1])[:, None]
    expected = functional.scaled_dot_product_attention(queries[:, None], keys, values, attn_mask=mask[:, None])[:, 0]
    torch.testing.assert_close(attend(queries, keys, values, mask), expected, rtol=1e-12, atol=1e-12)
    none = attend(queries, keys, values, torch.zeros_like(mask))
    assert torch.equal(none, torch.zeros_like(queries))


def test_the_attention_layers_are_their_definition() -> None:
    head = built("nonlocal").double()
    roi, bank, mask, offset_s = (x.double() if x.is_floating_point() else x for x in batch())
    box, slots = head.reduce_box(head.inputs(roi[0])), []
    for slot, offset in zip(head.reduce_bank(head.inputs(bank[0])), offset_s[0].tolist(), strict=True):
        place = (offset + 30) / 2
        low, part = math.floor(place), place - math.floor(place)
        slots.append((slot + (1 - part) * head.time[low] + part * head.time[low + 1]).relu())
    for layer in head.layers:
        scores = [(layer.theta(box) @ layer.phi(slot)).item() / 8**0.5 for slot in slots]
        weights = [math.exp(score) / sum(map(math.exp, scores)) for score in scores]
        seen = sum(weight * layer.g(slot) for weight, slot in zip(weights, slots, strict=True))
        box = box + layer.out(functional.layer_norm(seen, (8,), layer.norm.weight, layer.norm.bias, 1e-5).relu())
    expected = head.out(torch.cat((head.inputs(roi[0]), box)))
    torch.testing.assert_close(head(roi, bank, mask, offset_s)[0], expected, rtol=1e-9, atol=1e-9)


def test_knots() -> None:
    weights = knots_at(torch.tensor([[-30.0, -29.0, 0.5, 31.0]]))
    assert weights.shape == (1, 4, 31)
    assert weights.sum(dim=-1).tolist() == [[1.0] * 4]
    assert weights[0, 0, 0] == 1.0
    assert weights[0, 1, :2].tolist() == [0.5, 0.5]
    assert weights[0, 2, 15:17].tolist() == [0.75, 0.25]
    assert weights[0, 3, 30] == 1.0


def test_loss_and_probabilities_without_exclusive_classes_are_binary() -> None:
    logits, targets = torch.randn(6, 3), torch.randint(0, 2, (6, 3))
    expected = functional.binary_cross_entropy_with_logits(logits, targets.float())
    torch.testing.assert_close(detection_loss(logits, targets, NONE), expected)
    torch.testing.assert_close(probabilities(logits, NONE), logits.sigmoid())


def test_exclusive_classes_share_a_softmax() -> None:
    logits = torch.tensor([[1.0, 0.0, 2.0], [0.5, 0.5, 0.5], [3.0, 1.0, -1.0]])
    targets = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 0, 0]])  # rows of one, two and no exclusive class
    exclusive = torch.tensor([0, 2])
    binary = functional.binary_cross_entropy_with_logits(logits[:, 1], targets[:, 1].float())
    softmax = math.log(1 + math.e)
    torch.testing.assert_close(detection_loss(logits, targets, exclusive), binary + softmax)
    chances = probabilities(logits, exclusive)
    torch.testing.assert_close(chances[:, exclusive].sum(dim=1), torch.ones(3))
    torch.testing.assert_close(chances[:, 1], logits[:, 1].sigmoid())


def test_loss_of_all_exclusive_and_of_no_clear_row() -> None:
    logits = torch.randn(4, 3, requires_grad=True)
    every = torch.arange(3)
    targets = functional.one_hot(torch.tensor([0, 2, 1, 1]), 3)
    torch.testing.assert_close(
        detection_loss(logits, targets, every), functional.cross_entropy(logits, targets.argmax(1))
    )
    nothing = detection_loss(logits, torch.zeros(4, 3), every)
    nothing.backward()
    assert nothing == 0
    assert torch.equal(logits.grad, torch.zeros(4, 3))  # type: ignore[arg-type]


def test_a_new_head_expects_few_classes() -> None:
    head = BankHead(width=WIDTH, n_classes=CLASSES, operator="none")
    nothing = (torch.zeros(1, WIDTH), torch.zeros(1, 0, WIDTH), torch.zeros(1, 0, dtype=torch.bool), torch.zeros(1, 0))
    torch.testing.assert_close(head.eval()(*nothing).sigmoid(), torch.full((1, CLASSES), 0.05))


def test_unknown_operator() -> None:
    with pytest.raises(ValueError, match="operator is 'avg'; expected one of none, mean, max, nonlocal"):
        BankHead(width=4, n_classes=2, operator="avg")  # type: ignore[arg-type]
