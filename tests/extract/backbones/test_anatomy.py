"""What each layer puts out, sees and costs. B clips, C channels, T frames, H W pixels."""

import math
from collections import OrderedDict
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from extract.backbones import BACKBONES, Backbone, backbone_spec
from extract.backbones.anatomy import ITSELF, Layer, layers, multiply_adds, parameters, receptive_field
from extract.backbones.recurrent import RecurrentConv
from extract.backbones.tracing import Tracer
from extract.errors import UsageError

LECTURE = "20x64"  # clips of J. Johnson's lecture on video (EECS 498-007, Michigan 2020, lecture 18)


@cache
def backbone_of(name: str) -> Backbone:
    """Without weights."""
    spec = backbone_spec(name)
    with torch.device("meta"):
        return Backbone(name, spec, spec.build())


@cache
def table(name: str) -> list[Layer]:
    """Its layers on its own clips."""
    clips = backbone_of(name).spec.clips
    return backbone_of(name).layer_table(clips.clip_frames, clips.crop_px, clips.crop_px)


def layer_of(found: list[Layer], name: str, kind: str | None = None) -> Layer:
    (layer,) = (each for each in found if each.name == name and kind in (None, each.kind))
    return layer


def meta_clips(*shape: int) -> Tensor:
    return torch.empty(1, *shape, device="meta")


# The three networks of the lecture, as it prints them: (C, T, H, W), and (T, H, W) of what a position sees
LATE = [
    ((12, 20, 64, 64), (1, 3, 3)),
    ((12, 20, 16, 16), (1, 6, 6)),
    ((24, 20, 16, 16), (1, 14, 14)),
    ((24, 1, 1, 1), (20, 64, 64)),
]
EARLY = [
    ((12, 1, 64, 64), (20, 3, 3)),
    ((12, 1, 16, 16), (20, 6, 6)),
    ((24, 1, 16, 16), (20, 14, 14)),
    ((24, 1, 1, 1), (20, 64, 64)),
]
SLOW = [
    ((12, 20, 64, 64), (3, 3, 3)),
    ((12, 5, 16, 16), (6, 6, 6)),
    ((24, 5, 16, 16), (14, 14, 14)),
    ((24, 1, 1, 1), (20, 64, 64)),
]


@pytest.mark.parametrize(("family", "printed"), [("frames", LATE), ("early", EARLY), ("slow", SLOW)])
def test_the_lecture_s_tables(family: str, printed: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
    found = [layer for layer in table(f"{family}:lecture:{LECTURE}") if layer.name != "classifier"]
    if family == "frames":
        pooled = found.pop(-2)  # over each frame, and then over frames
        assert (pooled.output, pooled.sees) == ((24, 20, 1, 1), (1, 64, 64))
        assert (found[-1].name, found[-1].kernel) == (ITSELF, (20, 1, 1))
    assert [(layer.output, layer.sees) for layer in found] == printed


def test_costs_worked_by_hand() -> None:
    conv1, pool, conv2, mean, linear = table(f"slow:lecture:{LECTURE}")
    assert (conv1.kind, conv1.kernel, conv1.stride, conv1.calls) == ("convolution", (3, 3, 3), (1, 1, 1), 1)
    assert (pool.kind, pool.kernel, pool.stride) == ("maximum", (4, 4, 4), (4, 4, 4))
    assert (mean.kind, mean.kernel) == ("mean", (5, 16, 16))
    assert conv1.multiply_adds == 3 * 27 * 12 * 20 * 64 * 64
    assert conv2.multiply_adds == 12 * 27 * 24 * 5 * 16 * 16
    assert (linear.kind, linear.multiply_adds) == ("linear", 24 * 1000)
    assert [each.parameters for each in (conv1, pool, conv2, mean, linear)] == [984, 0, 7800, 0, 25_000]


def test_c3d_and_the_image_networks_beside_it() -> None:
    """Table of the lecture's C3D; totals in 1e9 multiply-adds, of convolutions and linear layers."""
    c3d = {layer.name.removeprefix("body.").removesuffix(".conv"): layer for layer in table("c3d_sports1m")}
    sizes = {name: layer.output for name, layer in c3d.items()}
    assert sizes["conv1"] == (64, 16, 112, 112)
    assert sizes["pool1"] == (64, 16, 56, 56)
    assert sizes["pool2"] == (128, 8, 28, 28)
    assert sizes["pool3"] == (256, 4, 14, 14)
    assert sizes["pool4"] == (512, 2, 7, 7)
    assert sizes["pool5"] == (512, 1, 4, 4)
    assert sizes["fc6.0"] == sizes["fc7.0"] == (4096, 1, 1, 1)
    gmac = {name: round(layer.multiply_adds / 1e9, 2) for name, layer in c3d.items()}
    assert [gmac[f"conv{at}"] for at in ("1", "2", "3a", "3b", "4a", "4b", "5a", "5b")] == [
        1.04,
        11.10,
        5.55,
        11.10,
        2.77,
        5.55,
        0.69,
        0.69,
    ]
    totals = {
        name: sum(layer.multiply_adds for layer in table(name)) / 1e9 for name in ("frames:alexnet", "frames:vgg16")
    }
    assert totals == {"frames:alexnet": pytest.approx(0.714, abs=1e-3), "frames:vgg16": pytest.approx(15.47, abs=1e-2)}


# What the sums must be, for all names

DIFFERENT = {
    "tiny_r2plus1d",
    "c3d_sports1m",
    "i3d_inception_rgb",
    "i3d_nln_r50",
    "slowfast_r50_8x8",
    "slow_r50_detection",
    "r2plus1d_18",
    "x3d_s",
    "s3d",
    "mvit_v2_s",
    "swin3d_t",
}
MADE = [
    *(f"frames:{trunk}" for trunk in ("resnet18", "alexnet", "vgg16", "vit_b_16", "swin_v2_t", "convnext_tiny")),
    *(f"{family}:small" for family in ("late", "lstm", "rcn", "rcn-gru", "rcn-lstm", "nonlocal", "slowfast")),
    "inflated:resnet18",
    "early:small:8x64:flow",
]
_ALL = [*(pytest.param(name, marks=[] if name in DIFFERENT else pytest.mark.more) for name in BACKBONES), *MADE]


@pytest.mark.parametrize("name", _ALL)
def test_layers_add_up_to_the_network(name: str) -> None:
    backbone, found = backbone_of(name), table(name)
    clips = backbone.spec.clips
    size = (clips.clip_frames, clips.crop_px, clips.crop_px)
    gmac = backbone.spec.gmac or backbone.multiply_adds(*size) / 1e9  # those described are tested with the contract
    assert sum(layer.multiply_adds for layer in found) / 1e9 == pytest.approx(gmac, rel=1e-3, abs=1e-9)
    left = parameters(backbone.network.classifier) if backbone.spec.detection else 0
    assert sum(layer.parameters for layer in found) == backbone.parameters - left
    assert {layer.name for layer in found} <= {ITSELF, *backbone.layers()}
    assert all(1 <= sees <= whole for layer in found for sees, whole in zip(layer.sees, size, strict=True))
    if not backbone.spec.detection:
        assert (found[-1].name, found[-1].sees) == ("classifier", size)
        assert found[-1].output == (backbone.network.classifier.out_features, 1, 1, 1)


def test_a_table_on_real_tensors_is_the_one_on_shapes() -> None:
    name = "nonlocal:small:4x32"
    real = backbone_spec(name).build().eval()
    assert layers(real, real, torch.randn(1, 3, 4, 32, 32)) == table(name)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in real.modules())


def test_clips_that_do_not_fit_are_refused() -> None:
    backbone = backbone_of("c3d_sports1m")
    with pytest.raises(UsageError, match=r"expected clips of 16 x 112 x 112"):
        backbone.layer_table(16, 80, 80)
    with pytest.raises(UsageError, match=r"clips are \(4, 112, 112\); c3d_sports1m expected at least \(8, 16, 16\)"):
        backbone.layer_table(4, 112, 112)
    with pytest.raises(UsageError, match=r"frames:vit_b_16 cannot take clips of 1 x 64 x 64: .*its own are 1 x 224"):
        backbone_of("frames:vit_b_16").layer_table(1, 64, 64)


# Frames in the batch, in channels, in states


def test_recurrent_layers_see_what_came_before() -> None:
    recurrent = table("rcn-gru:small")
    state = layer_of(recurrent, "recurrent.0.state")
    assert (state.calls, state.output) == (16, (3 * 128, 1, 4, 4))
    assert state.sees[0] == 15, "the state that the last frame meets comes from those before it"
    assert layer_of(recurrent, "recurrent.1.input").sees[0] == 16
    assert layer_of(recurrent, "body.stage4.conv").sees[0] == 1
    lstm = layer_of(table("lstm:small"), "lstm")
    assert (lstm.kind, lstm.output, lstm.sees[0]) == ("recurrent", (128, 16, 1, 1), 16)
    assert lstm.multiply_adds == 16 * 4 * 128 * (128 + 128)


def test_recurrent_convolutions_widen_with_every_step() -> None:
    layer = RecurrentConv(3, 4, cell="tanh").to("meta")
    clips = meta_clips(3, 4, 64, 64)
    assert receptive_field(layer, clips).size == (4, 9, 9)
    assert receptive_field(lambda x: layer(x)[:, :, -1:], clips).size == (4, 9, 9)


def test_attention_of_windows_of_tokens_and_of_frames() -> None:
    swin = table("swin3d_t")
    first, second = (layer_of(swin, f"body.features.0.{block}.attn") for block in (0, 1))
    assert first.sees == (2 + 7 * 2, 4 + 6 * 4, 4 + 6 * 4), "windows of 8 x 7 x 7 patches of 2 x 4 x 4"
    assert second.sees == (2 + 2 * 7 * 2, 4 + 2 * 6 * 4, 4 + 2 * 6 * 4)
    assert (first.kind, first.output) == ("attention", (96, 16, 56, 56))
    mvit = layer_of(table("mvit_v2_s"), "body.blocks.0.attn")
    assert (mvit.output, mvit.sees) == ((96, 1 + 8 * 56 * 56), (16, 224, 224))
    vit = backbone_of("frames:vit_b_16").layer_table(3, 224, 224)
    attention = layer_of(vit, "body.encoder.layers.encoder_layer_0.self_attention")
    assert (attention.kind, attention.output, attention.sees) == ("attention", (768, 3, 197), (1, 224, 224))
    assert attention.multiply_adds == 3 * (197 * 768 * 4 * 768 + 2 * 197 * 197 * 768)


def test_gates_and_nonlocal_blocks_see_all() -> None:
    gated = table("x3d_xs")
    gate = layer_of(gated, "body.res2.0.b.then.0", "mean")
    assert (gate.kernel, gate.output) == ((4, 46, 46), (54, 1, 1, 1))
    assert layer_of(gated, "body.res2.0.b.conv").sees == (4, 7, 7)
    assert layer_of(gated, "body.res2.0.c.conv").sees == (4, 182, 182)
    nonlocal_ = table("nonlocal:small")
    product = layer_of(nonlocal_, "body.stage2.nonlocal_", "attention")
    assert (product.output, product.sees) == ((16, 4, 16, 16), (16, 64, 64))
    assert product.multiply_adds == 2 * (4 * 16 * 16) * (4 * 8 * 8) * 16


def test_slow_frames_lie_further_apart() -> None:
    found = table("slowfast:small")
    assert layer_of(found, "slow.stage1.conv").output == (16, 4, 64, 64)
    assert layer_of(found, "lateral.stage1.conv").sees == (3 + 4, 4, 4)
    assert layer_of(found, "slow.stage3.conv").sees[0] == min(16, 9 + 2 * 4), "laterals see 9, then 3 slow frames"


# The theory against gradients: networks of positive weights, in which every path counts


def seen_by_gradient(run: Callable[[Tensor], Tensor], size: tuple[int, int, int]) -> tuple[int, ...]:
    """(T, H, W) that the middle position of (B, C, T', H', W') ``run(clips)`` depends on."""
    clips = torch.rand(1, 2, *size, dtype=torch.float64, requires_grad=True)
    out = run(clips)
    middle = tuple(n // 2 for n in out.shape[2:])
    out[(0, slice(None), *middle)].sum().backward()
    assert clips.grad is not None
    used = clips.grad[0].abs().sum(0) > 0
    ends = [used.transpose(0, axis).flatten(1).any(1) for axis in range(3)]
    return tuple(int(each.nonzero()[-1] - each.nonzero()[0]) + 1 for each in ends)


def positive(network: nn.Module) -> nn.Module:
    for parameter in network.double().parameters():
        nn.init.uniform_(parameter, 0.1, 1.0)
    return network


class Branches(nn.Module):
    """Two ways to the same place, one of which is cut out and moved."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Conv3d(2, 2, (1, 5, 5), padding=(0, 2, 2)), nn.Conv3d(2, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2, T, H, W) -> (B, 4, T - 2, H, W)."""
        return torch.cat([self.wide(x)[:, :, 2:], self.narrow(x)[:, :, :-2]], 1)


class ByFrames(nn.Module):
    """One frame after the other, and every second of them with the next."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 2, (3, 1), padding=(1, 0))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2, T, H, W) -> (B, 2, T / 2, H, W)."""
        pairs = x.unflatten(2, (-1, 2)).transpose(1, 2).flatten(2, 3)  # (B, T / 2, 4, H, W)
        return torch.stack([self.conv(pair) for pair in pairs.unbind(1)], 2)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "strides": (
        lambda: nn.Sequential(nn.Conv3d(2, 3, 3, (1, 2, 2)), nn.AvgPool3d((2, 2, 2)), nn.Conv3d(3, 2, (3, 2, 3))),
        (16, 48, 48),
    ),
    "dilation": (
        lambda: nn.Sequential(nn.Conv3d(2, 2, 3, dilation=(2, 1, 3), padding=3), nn.Conv3d(2, 2, 2)),
        (16, 24, 24),
    ),
    "branches": (Branches, (9, 12, 12)),
    "frames": (ByFrames, (8, 12, 12)),
    "mean over space": (
        lambda: nn.Sequential(nn.Conv3d(2, 2, (3, 1, 1)), nn.AdaptiveAvgPool3d((None, 1, 1))),
        (9, 7, 5),
    ),
    "adaptive": (lambda: nn.Sequential(nn.Conv3d(2, 2, 3, padding=1), nn.AdaptiveAvgPool3d((9, 2, 3))), (9, 16, 15)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_position_sees_what_its_gradient_says(name: str) -> None:
    build, size = NETWORKS[name]
    network = positive(build())
    wanted = seen_by_gradient(network, size)
    found = receptive_field(network, torch.rand(1, 2, *size, dtype=torch.float64)).size
    clipped = tuple(min(sees, whole) for sees, whole in zip(found, size, strict=True))
    if name == "adaptive":  # the theory does not know that the border is near
        assert all(have >= want for have, want in zip(clipped, wanted, strict=True))
        assert clipped == (3, 8 + 2, 5 + 2)
    elif name == "frames":  # of two neighbours that are in the channels it says the whole, which is too much
        assert wanted == (2, 3, 1)
        assert clipped[1:] == wanted[1:]
    else:
        assert clipped == wanted


def test_adaptive_pooling_sees_its_widest_window() -> None:
    """torch's windows begin at floor(i n / m) and end at ceil((i + 1) n / m)."""
    for before, after in ((10, 7), (13, 7), (9, 6), (8, 4), (5, 5)):
        x = torch.zeros(before, before)
        x.fill_diagonal_(1)
        seen = nn.AdaptiveMaxPool1d(after)(x)  # which windows each position is in
        clips = meta_clips(1, 1, 1, before)
        found = receptive_field(nn.AdaptiveAvgPool3d((1, 1, after)), clips).size[2]
        assert found == int(seen.sum(0).max()), (before, after)


# How shapes are followed


def positions(run: Callable[[Tensor], Tensor], *shape: int) -> tuple[int, ...]:
    clips = meta_clips(*shape)
    with torch.no_grad(), Tracer(clips) as tracer:
        return tracer.known(run(clips)).positions()


@pytest.mark.parametrize(
    ("run", "wanted"),
    [
        (lambda x: x, (3, 4, 6, 8)),
        (lambda x: x.transpose(1, 2).flatten(0, 1), (3, 4, 6, 8)),
        (lambda x: x.flatten(2).transpose(1, 2), (3, 4, 6, 8)),
        (lambda x: x.permute(0, 2, 3, 4, 1).reshape(1, 4, 2, 3, 8, 3).transpose(2, 3), (3, 4, 6, 8)),
        (lambda x: x.reshape(3 * 4, 6, 8)[None], (3, 4, 6, 8)),
        (lambda x: functional.pad(x, (1, 1, 0, 0, 2, 0)), (3, 6, 6, 10)),
        (lambda x: x[:, :, ::2, 1:, -3:], (3, 2, 5, 3)),
        (lambda x: x[:, :, 1], (3, 1, 6, 8)),
        (lambda x: x.unbind(2)[3], (3, 1, 6, 8)),
        (lambda x: torch.stack(x.unbind(2), 2), (3, 4, 6, 8)),
        (lambda x: x.mean((3, 4)), (3, 4, 1, 1)),
        (lambda x: x.amax(2, keepdim=True) + x, (3, 4, 6, 8)),
        (lambda x: torch.cat([x, x], 1), (6, 4, 6, 8)),
        (lambda x: torch.cat([x.new_zeros(1, 1, 3), x.flatten(2).transpose(1, 2)], 1), (3, 1 + 4 * 6 * 8)),
        (lambda x: torch.cat([x.new_zeros(4, 1, 3), x[0].flatten(2).permute(1, 2, 0)], 1), (3, 4, 1 + 6 * 8)),
        (lambda x: x.permute(0, 2, 3, 4, 1).flatten(0, 3).t(), (3, 4, 6, 8)),
        (lambda x: x[:, :, torch.tensor([0, 2])], (3, 2, 6, 8)),
        (lambda x: x[:, torch.tensor([[0, 1], [1, 2]])].flatten(1, 2), (4, 4, 6, 8)),
        (
            lambda x: torch.addmm(x.mean((3, 4)).flatten(), *(torch.empty(n, n, device="meta") for n in (12, 12))),
            (36, 4, 1, 1),
        ),
        (lambda x: functional.interpolate(x, scale_factor=2), (3, 8, 12, 16)),
    ],
)
def test_where_time_height_and_width_are(run: Callable[[Tensor], Tensor], wanted: tuple[int, ...]) -> None:
    assert positions(run, 3, 4, 6, 8) == wanted


def test_moments_cut_out_of_time_see_their_own() -> None:
    clips = meta_clips(3, 8, 4, 4)
    with torch.no_grad(), Tracer(clips) as tracer:
        first, last = clips[:, :, 0], clips[:, :, 6]
        apart = first + last
        assert tracer.known(last).size[0] == 1
        assert tracer.known(apart).size[0] == 7, "from frame 0 to frame 6"
        assert tracer.known(clips[:, :, 1:] - clips[:, :, :-1]).size == (2, 1, 1)
        assert tracer.known(clips.flatten(1) @ torch.empty(3 * 8 * 16, 2, device="meta")).size == (math.inf,) * 3
        assert tracer.seen(torch.empty(2, device="meta")) is None


def test_names_and_parameters_of_what_is_between_modules() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv3d(2, 2, 1, bias=False), nn.BatchNorm3d(2)
            self.scale = nn.Parameter(torch.ones(2, 1, 1, 1))
            self.unused = nn.Linear(5, 5)

        def forward(self, x: Tensor) -> Tensor:
            """(B, 2, T, H, W) -> the same shape, averaged over time."""
            x = self.norm(self.conv(x)) * self.scale
            return self.conv(x).mean(2, keepdim=True)

    network = Shared().eval()
    found = layers(network, network, torch.rand(1, 2, 4, 5, 6))
    assert [(layer.name, layer.kind, layer.calls, layer.parameters) for layer in found] == [
        ("conv", "convolution", 2, 4 + 4 + 2),
        (ITSELF, "mean", 1, 0),
    ]
    assert found[0].multiply_adds == multiply_adds(network, torch.rand(1, 2, 4, 5, 6)) == 2 * 4 * 4 * 5 * 6
    empty = nn.Sequential(OrderedDict(then=nn.ReLU()))
    assert layers(empty, empty, torch.rand(1, 2, 4, 5, 6)) == []
