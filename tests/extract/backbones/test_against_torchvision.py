"""torchvision's own forward passes are the reference for its networks; its files load by their names."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models

from extract.backbones import backbone_spec, load_backbone

SHAPES = {
    "r3d_18": (1, 3, 8, 64, 64),
    "mc3_18": (1, 3, 8, 64, 64),
    "r2plus1d_18": (1, 3, 8, 64, 64),
    "s3d": (1, 3, 16, 224, 224),
    "mvit_v2_s": (1, 3, 16, 224, 224),
    "swin3d_t": (1, 3, 8, 64, 64),
}
IMAGES = ["resnet18", "vgg11", "densenet121", "vit_b_16", "mnasnet0_5", "googlenet", "inception_v3"]
# Names in older official files, which torchvision's own loaders translate.
OLDER = {
    "densenet121": (r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2."),
    "vit_b_16": (r"\.mlp\.([03])\.", lambda found: f".mlp.linear_{1 + int(found[1]) // 3}."),
}


def spread(network: nn.Module) -> nn.Module:
    """With statistics that differ from those of a new network, so that a wrong norm shows."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d | nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    return network.eval()


@pytest.mark.parametrize("name", SHAPES)
def test_video_networks(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    original = spread(models.get_model(name, weights=None))
    torch.save(original.state_dict(), tmp_path / "w.pth")
    backbone = load_backbone(name, tmp_path / "w.pth")
    clips = torch.randn(SHAPES[name])
    with torch.inference_mode():
        torch.testing.assert_close(backbone.logits(clips), original(clips), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", IMAGES)
def test_image_networks(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    options = {"transform_input": True, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    original = spread(models.get_model(name, weights=None, **options))
    torch.save(original.state_dict(), tmp_path / "w.pth")
    backbone = load_backbone(f"frames:{name}", tmp_path / "w.pth")
    side = 299 if name == "inception_v3" else 224
    clips = torch.randn(1, 3, 1, side, side)
    with torch.inference_mode():
        torch.testing.assert_close(backbone.logits(clips), original(clips[:, :, 0]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", OLDER)
def test_image_networks_in_older_files(name: str, tmp_path: Path) -> None:
    pattern, replacement = OLDER[name]
    original = models.get_model(name, weights=None)
    state = {re.sub(pattern, replacement, key): value for key, value in original.state_dict().items()}
    assert state.keys() != original.state_dict().keys()
    torch.save(state, tmp_path / "old.pth")
    torch.save(original.state_dict(), tmp_path / "new.pth")
    old, new = (load_backbone(f"frames:{name}", tmp_path / file) for file in ("old.pth", "new.pth"))
    assert old.weights_sha256 == new.weights_sha256


@pytest.mark.parametrize("name", SHAPES)
def test_descriptions_are_torchvisions(name: str) -> None:
    spec, weights = backbone_spec(name), models.get_model_weights(name).DEFAULT
    how, figures = weights.transforms(), weights.meta["_metrics"]["Kinetics-400"]
    assert spec.url == weights.url
    assert spec.parameters == weights.meta["num_params"]
    published = [float(figure) for figure in re.findall(r"\d+\.\d+", spec.published)]
    assert published == pytest.approx([figures["acc@1"], figures["acc@5"]], abs=0.0051)
    assert (spec.clips.mean, spec.clips.std) == (tuple(how.mean), tuple(how.std))
    assert (spec.clips.crop_px, spec.clips.short_side_px) == (how.crop_size[0], min(how.resize_size))
