"""Image networks frame by frame, inflated, and with non-local blocks: against the 2D networks themselves."""

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from extract.backbones import NonLocal, inflate, insert_nonlocal, load_backbone
from extract.backbones.images import ImageNetwork
from extract.errors import UsageError

KINDS = [
    "resnet18",
    pytest.param("vgg11_bn", marks=pytest.mark.more),  # twice the weights of all others together
    "densenet121",
    "mobilenet_v2",
    "efficientnet_b0",
    "convnext_tiny",
    "shufflenet_v2_x0_5",
]


def two_d(name: str, seed: int = 0) -> nn.Module:
    """A torchvision network whose running statistics are not those of a new one."""
    torch.manual_seed(seed)
    network: nn.Module = models.get_model(name, weights=None).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    return network


def pictures(n: int = 2) -> Tensor:
    return torch.randn(n, 3, 64, 64, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("name", KINDS)
def test_an_inflated_network_on_a_still_clip_equals_its_2d_network(name: str) -> None:
    network, images = two_d(name), pictures()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    inflated = inflate(network).eval()
    still = images[:, :, None].expand(-1, -1, 5, -1, -1)
    with torch.inference_mode():
        wanted = network(images)
        torch.testing.assert_close(inflated(still), wanted, rtol=1e-4, atol=1e-5)
        moving = torch.stack([images, images.flip(3), -images], 2)
        assert not torch.equal(inflated(moving), inflated(still[:, :, :3]))
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items()), "left as it was"


def test_inflated_kernels_are_repeated_and_divided() -> None:
    network = two_d("resnet18")
    inflated = inflate(network)
    weight = inflated.body.conv1.conv.weight
    assert weight.shape == (64, 3, 7, 7, 7)
    for frame in weight.unbind(2):
        torch.testing.assert_close(frame * 7, network.conv1.weight)
    assert inflate(network, kernel_t=3).body.conv1.conv.weight.shape[2] == 3
    assert isinstance(inflated.body.layer2[0].downsample[0], nn.Conv2d), "1 x 1 kernels stay"


def test_an_inflated_network_sees_time_and_trains() -> None:
    """Reversing time changes what asymmetric kernels see; gradients reach every parameter."""
    inflated = inflate(two_d("resnet18"), kernel_t=3)
    with torch.no_grad():
        inflated.body.conv1.conv.weight[:, :, 0] *= 2
    inflated.eval()
    clips = torch.randn(1, 3, 6, 64, 64)
    with torch.inference_mode():
        assert not torch.allclose(inflated(clips), inflated(clips.flip(2)), atol=1e-4)
    inflated.train()(torch.randn(2, 3, 4, 64, 64)).sum().backward()
    assert all(parameter.grad is not None for parameter in inflated.parameters())


def test_frames_are_the_mean_over_the_2d_network() -> None:
    network, images = two_d("resnet18"), pictures(6)
    clips = images.unflatten(0, (2, 3)).transpose(1, 2)
    with torch.inference_mode():
        each = nn.Sequential(*list(network.children())[:-1])(images).flatten(1)
        single = ImageNetwork(network).eval()
        torch.testing.assert_close(single.features(clips), each.unflatten(0, (2, 3)).mean(1))
        assert single.maps(clips).shape == (2, 512, 3, 2, 2)
        torch.testing.assert_close(single.maps(clips).mean((2, 3, 4)), single.features(clips))


def test_what_cannot_be_inflated_is_refused() -> None:
    with pytest.raises(UsageError, match="SqueezeNet does not end in a linear layer"):
        inflate(models.squeezenet1_0(weights=None))
    strange = nn.Sequential(nn.Conv2d(3, 4, 3, padding="same"), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(UsageError, match="padded by 'same', zeros cannot be inflated"):
        inflate(strange)


def test_frames_without_maps_say_so() -> None:
    backbone = load_backbone("frames:vit_b_16", "random:0")
    with pytest.raises(UsageError, match="has no layer avgpool"):
        backbone.maps(torch.zeros(1, 3, 1, 224, 224))


# Non-local blocks


@pytest.mark.parametrize("instantiation", ["softmax", "dot_product"])
def test_nonlocal_against_a_loop_over_positions(instantiation: str) -> None:
    torch.manual_seed(0)
    block = NonLocal(6, instantiation=instantiation, pool=(1, 1, 1)).double().eval().requires_grad_(False)  # type: ignore[arg-type]
    nn.init.normal_(block.norm.weight)
    x = torch.randn(1, 6, 2, 3, 2, dtype=torch.float64)
    theta, phi, g = (part(x).flatten(2)[0].T for part in (block.theta, block.phi, block.g))  # (S, C')
    rows = []
    for query in theta:
        scores = torch.tensor([(query @ key).item() for key in phi], dtype=torch.float64)
        weights = (scores / 3**0.5).softmax(0) if instantiation == "softmax" else scores / len(phi)
        rows.append(sum(weight * value for weight, value in zip(weights, g, strict=True)))
    seen = torch.stack(rows).T.reshape(1, 3, 2, 3, 2)  # type: ignore[arg-type]
    torch.testing.assert_close(block(x), x + block.norm(block.out(seen)))


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("i3d_r50", ["body.res3.1", "body.res4.5"]),
        ("slowfast_r50_8x8", ["slow.res4.2"]),
        ("i3d_inception_rgb", ["body.mixed_4f"]),
        ("r3d_18", ["body.layer3"]),
        ("tiny_r2plus1d", ["blocks.3"]),
    ],
)
def test_a_new_nonlocal_block_changes_nothing_until_trained(name: str, where: list[str]) -> None:
    backbone = load_backbone(name, "random:0")
    clips = torch.randn(1, 3, 8, 64, 64)
    before = backbone.logits(clips)
    network = insert_nonlocal(backbone.network, where)
    with torch.inference_mode():
        assert torch.equal(network(clips), before)
        block = network.get_submodule(f"{where[0]}.nonlocal_")
        assert isinstance(block, NonLocal)
        assert not block.training
        nn.init.ones_(block.norm.weight)
        assert not torch.allclose(network(clips), before, atol=1e-6)


def test_nonlocal_blocks_where_none_can_stand_are_refused() -> None:
    network = load_backbone("tiny_r2plus1d", "random:0").network
    with pytest.raises(UsageError, match=r"no module 'blocks\.9'; its modules are stem"):
        insert_nonlocal(network, ["blocks.9"])
    with pytest.raises(UsageError, match="is not used when the network runs"):
        insert_nonlocal(network, ["classifier"])
    slowfast = load_backbone("frames:resnet18", "random:0").network
    with pytest.raises(UsageError, match="gives no maps"):
        insert_nonlocal(slowfast, ["body.layer1"])
