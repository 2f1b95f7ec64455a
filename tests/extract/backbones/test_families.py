"""Clip models of every family. B clips, C channels, T frames, H W pixels, D features."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from extract.backbones import backbone_spec, load_backbone
from extract.backbones.described import described_bytes
from extract.backbones.families import FAMILIES, from_trunk
from extract.backbones.fusion import first_conv, with_channels
from extract.backbones.network import empty
from extract.backbones.recurrent import Cell, RecurrentConv
from extract.backbones.trunks import trunk_builder
from extract.errors import InputError, UsageError

NAMES = [f"{family}:small:4x32" for family in FAMILIES]
FLOW = [f"{family}:small:4x32:flow" for family in ("early", "inflated", "frames")]


def clips_for(name: str, n: int = 2) -> Tensor:
    spec = backbone_spec(name)
    size = (n, spec.channels, spec.clips.clip_frames, spec.clips.crop_px, spec.clips.crop_px)
    return torch.randn(size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", [*NAMES, *FLOW, "slow:resnet18:4x32", "early:resnet18:4x32", "late:alexnet:2x64"])
def test_features_as_described_and_independent_of_the_batch(name: str) -> None:
    backbone, clips = load_backbone(name, "random:0"), clips_for(name)
    features = backbone.features(clips)
    assert features.shape == (2, backbone.spec.feature_width)
    torch.testing.assert_close(features[1:], backbone.features(clips[1:]), rtol=1e-4, atol=1e-5)
    assert backbone.logits(clips).shape == (2, 1000)
    assert backbone.parameters == backbone.spec.parameters
    torch.testing.assert_close(features, load_backbone(name, "random:0").features(clips))
    assert not torch.allclose(features, load_backbone(name, "random:1").features(clips))


@pytest.mark.parametrize("name", NAMES)
def test_boxes_are_read_where_the_maps_are(name: str) -> None:
    backbone, clips = load_backbone(name, "random:0"), clips_for(name, 1)
    assert backbone.spec.stride_px == 16
    assert backbone.maps(clips).shape[3:] == (2, 2)
    if not name.startswith(("lstm", "late")):
        torch.testing.assert_close(backbone.features(clips), backbone.network.pool(backbone.maps(clips)))


def trained_trunk(name: str = "small") -> nn.Module:
    """An image network whose norms have seen something, in evaluation mode."""
    torch.manual_seed(0)
    trunk = trunk_builder(name)()
    for norm in trunk.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            norm.running_mean = torch.randn(norm.num_features) * 0.1
            norm.running_var = torch.rand(norm.num_features) + 0.5
    return trunk.eval()


def still(frames: int, side: int = 64) -> tuple[Tensor, Tensor]:
    image = torch.randn(2, 3, side, side)
    return image, image[:, :, None].repeat(1, 1, frames, 1, 1)


@pytest.mark.parametrize("family", ["frames", "early", "inflated"])
def test_with_a_trunks_weights_a_still_clip_is_its_image(family: str) -> None:
    trunk = trained_trunk()
    image, clip = still(8)
    network = from_trunk(f"{family}:small:8x64", trunk).eval()
    torch.testing.assert_close(network(clip), trunk(image), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(network(torch.randn_like(clip)), trunk(image), atol=1e-2)


def test_colours_that_the_image_network_recentres_are_recentred() -> None:
    trunk = trained_trunk("googlenet")
    image, clip = still(3)
    assert trunk.transform_input
    torch.testing.assert_close(
        from_trunk("early:googlenet:3x64", trunk).eval()(clip), trunk(image), rtol=1e-3, atol=1e-4
    )


def test_three_dimensional_kernels_are_the_trunks_spread_over_time() -> None:
    trunk = trained_trunk("resnet18")
    network = from_trunk("slow:resnet18:8x32", trunk)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv3d)]
    flat = [module for module in trunk.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == len(flat)
    for volume, image in zip(convolutions, flat, strict=True):
        assert volume.kernel_size == (image.kernel_size[0], *image.kernel_size)
        assert volume.stride == (image.stride[0], *image.stride)
        torch.testing.assert_close(volume.weight.sum(2), image.weight)


def test_time_is_treated_as_height_is() -> None:
    """A 3D network with time and height exchanged, in its kernels and in the clip, gives the same."""
    network = load_backbone("slow:small:32x32", "random:0").network
    clip = torch.randn(1, 3, 32, 32, 32)
    wanted = network(clip)
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            module.weight.data = module.weight.data.transpose(2, 3).contiguous()
    torch.testing.assert_close(network(clip.transpose(2, 3)), wanted, rtol=1e-4, atol=1e-5)


def test_c3ds_first_pooling_leaves_time() -> None:
    slow, c3d = (load_backbone(f"{family}:small:16x64", "random:0") for family in ("slow", "c3d"))
    clip = torch.randn(1, 3, 16, 64, 64)
    assert slow.maps(clip).shape[2] == 1
    assert c3d.maps(clip).shape[2] == 2


@pytest.mark.parametrize("family", ["nonlocal", "nonlocal-dot"])
def test_new_non_local_blocks_change_nothing(family: str) -> None:
    trunk = trained_trunk()
    slow, other = (from_trunk(f"{name}:small:8x64", trunk).eval() for name in ("slow", family))
    blocks = [name for name, _ in other.named_modules() if name.endswith("nonlocal_")]
    assert blocks == ["body.stage2.nonlocal_", "body.stage3.nonlocal_"]
    clip = torch.randn(2, 3, 8, 64, 64)
    torch.testing.assert_close(other(clip), slow(clip), rtol=0, atol=0)
    for name in blocks:
        nn.init.ones_(other.get_submodule(f"{name}.norm").weight)  # type: ignore[arg-type]
    assert not torch.allclose(other(clip), slow(clip), atol=1e-3)


def test_the_two_non_local_families_weigh_otherwise() -> None:
    blocks = [
        load_backbone(f"{family}:small:8x64", "random:0").network.get_submodule("body.stage2.nonlocal_")
        for family in ("nonlocal", "nonlocal-dot")
    ]
    blocks[1].load_state_dict(blocks[0].state_dict())
    clip = torch.randn(1, 32, 8, 8, 8)
    for block in blocks:
        nn.init.ones_(block.norm.weight)  # type: ignore[arg-type]
    assert not torch.allclose(blocks[0](clip), blocks[1](clip), atol=1e-3)


def by_hand(layer: RecurrentConv, maps: Tensor) -> Tensor:
    """The equations of the cells at each position, without a convolution: float64 sums over the neighbours."""
    weights = {name: p.detach().double().numpy() for name, p in layer.named_parameters()}
    given = maps.double().numpy()
    n, _, frames, height, width = given.shape

    def seen(x: np.ndarray, name: str) -> np.ndarray:
        kernel, half = weights[f"{name}.weight"], weights[f"{name}.weight"].shape[2] // 2
        padded = np.pad(x, ((0, 0), (0, 0), (half, half), (half, half)))
        out = np.zeros((n, len(kernel), height, width)) + weights[f"{name}.bias"][:, None, None]
        for i in range(kernel.shape[2]):
            for j in range(kernel.shape[3]):
                out += np.einsum(
                    "ocij,bchw->bohw", kernel[:, :, i : i + 1, j : j + 1], padded[:, :, i : i + height, j : j + width]
                )
        return out

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    hidden = memory = np.zeros((n, layer.width, height, width))
    states = []
    for t in range(frames):
        x, h = seen(given[:, :, t], "input"), seen(hidden, "state")
        if layer.cell == "tanh":
            hidden = np.tanh(x + h)
        elif layer.cell == "gru":
            (xr, xz, xn), (hr, hz, hn) = np.split(x, 3, 1), np.split(h, 3, 1)
            update = sigmoid(xz + hz)
            hidden = (1 - update) * np.tanh(xn + sigmoid(xr + hr) * hn) + update * hidden
        else:
            i, f, g, o = np.split(x + h, 4, 1)
            memory = sigmoid(f) * memory + sigmoid(i) * np.tanh(g)
            hidden = sigmoid(o) * np.tanh(memory)
        states.append(hidden)
    return torch.from_numpy(np.stack(states, 2))


@pytest.mark.parametrize("cell", ["tanh", "gru", "lstm"])
def test_recurrent_convolution_is_its_equations(cell: Cell) -> None:
    torch.manual_seed(0)
    layer, maps = RecurrentConv(3, 4, cell=cell), torch.randn(2, 3, 5, 4, 6)
    torch.testing.assert_close(layer(maps).double(), by_hand(layer, maps), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("cell", "torchs"), [("tanh", nn.RNN), ("gru", nn.GRU), ("lstm", nn.LSTM)])
def test_a_recurrent_convolution_of_one_position_is_torchs(cell: Cell, torchs: type[nn.RNNBase]) -> None:
    torch.manual_seed(0)
    layer = RecurrentConv(3, 4, kernel=1, cell=cell)
    other = torchs(3, 4, batch_first=True)  # type: ignore[call-arg, arg-type]
    for ours, theirs in (("input", "ih"), ("state", "hh")):
        getattr(other, f"weight_{theirs}_l0").data = getattr(layer, ours).weight.data.flatten(1)
        getattr(other, f"bias_{theirs}_l0").data = getattr(layer, ours).bias.data
    maps = torch.randn(2, 3, 7, 1, 1)
    wanted = other(maps.flatten(2).transpose(1, 2))[0].transpose(1, 2)
    torch.testing.assert_close(layer(maps).flatten(2), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", ["lstm", "rcn", "rcn-gru", "rcn-lstm", "late", "early", "slow", "inflated"])
def test_only_the_mean_does_not_know_the_order_of_frames(family: str) -> None:
    network = load_backbone(f"{family}:small:4x32", "random:0").network
    mean = load_backbone("frames:small:4x32", "random:0").network
    clip = torch.randn(1, 3, 4, 32, 32)
    assert not torch.allclose(network.features(clip), network.features(clip.flip(2)), rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(mean.features(clip), mean.features(clip.flip(2)), rtol=1e-4, atol=1e-6)


def test_slowfasts_slow_pathway_sees_every_fourth_frame() -> None:
    network = load_backbone("slowfast:small:8x32", "random:0").network
    seen = []
    network.get_submodule("slow.stage1").register_forward_pre_hook(lambda _m, given: seen.append(given[0].shape[2]))
    network.get_submodule("fast.stage1").register_forward_pre_hook(lambda _m, given: seen.append(given[0].shape[2]))
    network(torch.randn(1, 3, 8, 32, 32))
    assert seen == [2, 8]


@pytest.mark.parametrize(
    ("name", "maps"),
    [
        ("frames:lecture:20x64", (24, 20, 16, 16)),
        ("early:lecture:20x64", (24, 1, 16, 16)),
        ("slow:lecture:20x64", (24, 5, 16, 16)),
    ],
)
def test_the_three_networks_of_the_lecture(name: str, maps: tuple[int, ...]) -> None:
    assert load_backbone(name, "random:0").maps(torch.randn(1, 3, 20, 64, 64)).shape[1:] == maps


def test_other_channels_keep_the_answer_to_grey() -> None:
    trunk = trained_trunk()
    grey = torch.randn(1, 1, 32, 32)
    wanted = trunk(grey.repeat(1, 3, 1, 1))
    torch.testing.assert_close(with_channels(trunk, 10)(grey.repeat(1, 10, 1, 1)), wanted, rtol=1e-4, atol=1e-5)


def test_stacked_flow_has_no_colours_of_the_image() -> None:
    trunk = trained_trunk()
    kernel = trunk.get_submodule("stage1.conv").weight.detach().mean(1, keepdim=True)  # type: ignore[operator]
    stacked = first_conv(from_trunk("early:small:12x32:flow", trunk)).weight
    torch.testing.assert_close(stacked, (kernel * 3 / 24).expand_as(stacked))


@pytest.mark.parametrize("name", ["frames:googlenet:1x64", "inflated:inception_v3:2x96"])
def test_networks_with_heads_for_training_train_without_them(name: str) -> None:
    network, clips = load_backbone(name, "random:0").network.train().requires_grad_(), backbone_spec(name).clips
    network(torch.randn(2, 3, clips.clip_frames, clips.crop_px, clips.crop_px)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nonlocal:lecture", "stand between layers of different sizes of maps"),
        ("early:small:8x64:4x32", "names a clip's size or flow twice"),
        ("early:small:flow:flow", "names a clip's size or flow twice"),
        ("early:small:x", "ends in 'x'; expected FAMILY:TRUNK"),
        ("early:smal", "did you mean frames:small"),
        ("early:small:1x9999999", "ends in '1x9999999'"),
        ("frames:inception_v3:4x64", "inception_v3 cannot take clips of 4 frames of 64 px .* such as frames:inception"),
        ("late:small:4x8", "small cannot take clips of 4 frames of 8 px .* such as late:small:16x64"),
        ("slow:alexnet:4x64", "for clips of 4 frames of 64 px .* not too short or small"),
        ("slow:squeezenet1_0", "SqueezeNet does not end in a linear layer"),
        ("slow:convnext_tiny", "ConvNeXt cannot be made three-dimensional .*inflated:NAME"),
        ("slowfast:resnet18", "slowfast takes this project's own networks .* not ResNet"),
    ],
)
def test_names_that_cannot_be(name: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        backbone_spec(name)


@pytest.mark.parametrize(
    ("family", "told"), [("late", "takes clips of 4 x 32 x 32 alone"), ("early", "takes 12 channels")]
)
def test_clips_of_another_size_are_refused(family: str, told: str) -> None:
    backbone = load_backbone(f"{family}:small:4x32", "random:0")
    with pytest.raises(UsageError, match=told):
        backbone.features(torch.randn(1, 3, 8, 64, 64))


def test_weights_say_which_clips_and_classes_they_are_for(tmp_path: Path) -> None:
    name = "early:small:4x32"
    made, file = load_backbone(name, "random:0"), tmp_path / "w.safetensors"
    clips = backbone_spec("frames:small").clips
    file.write_bytes(described_bytes(made.network, name=name, clips=clips, classes=["a", "b"]))
    found = load_backbone(name, file)
    assert (found.spec.clips, found.spec.classes) == (clips, ("a", "b"))
    assert found.weights_sha256 == made.weights_sha256
    with pytest.raises(InputError, match="holds weights of early:small:4x32, not of slow:small; take --backbone early"):
        load_backbone("slow:small", file)


@pytest.mark.parametrize("name", ["late:vgg11:2x64", "rcn-gru:vgg11:2x64"])
def test_layers_behind_the_maps_are_not_computed_for_nothing(name: str) -> None:
    spec = backbone_spec(name)
    vgg = backbone_spec("frames:vgg11").parameters
    linear = 25088 * 4096 + 4096 * 4096 + 4096 * 1000 + 2 * 4096 + 1000
    added = {"late": 2 * 512 * 2 * 2 * 256 + 256 + 257 * 1000, "rcn-gru": 0}[name.split(":")[0]]
    assert vgg is not None
    assert spec.parameters is not None
    assert spec.parameters - (vgg - linear) == added or (not added and spec.parameters < vgg - linear + 10_000_000)


@pytest.mark.parametrize("name", ["frames:regnet_x_400mf", "frames:vit_h_14"])
def test_every_image_network_is_described(name: str) -> None:
    spec = backbone_spec(name)
    assert spec.parameters == sum(p.numel() for p in empty(spec.build).parameters())
