"""torchvision's video networks, in the form that all networks have here.

Shapes as in `extract.backbones.network`.
"""

from typing import Any

from torch import Tensor, nn

from extract.backbones.network import Network
from extract.errors import UsageError


class VideoResNet(Network):
    """r3d_18, mc3_18, r2plus1d_18."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.body: Any = _built(name)
        self.classifier, self.body.fc = self.body.fc, nn.Identity()

    def maps(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, 512, T / 8, H / 16, W / 16); T for mc3_18."""
        maps = clips
        for part in ("stem", "layer1", "layer2", "layer3", "layer4"):
            maps = getattr(self.body, part)(maps)
        return maps


class S3D(Network):
    """Separable Inception."""

    window = (2, 7, 7)

    def __init__(self) -> None:
        super().__init__()
        body = _built("s3d")
        self.body: nn.Module = body.features
        width, classes = body.classifier[1].in_channels, body.classifier[1].out_channels
        self.classifier = nn.Linear(width, classes)

    def maps(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, 1024, T / 8, H / 32, W / 32)."""
        maps: Tensor = self.body(clips)
        return maps


class MViT(Network):
    """Multiscale vision transformer; its features are those of the class token."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.body: Any = _built(name)
        self.classifier, self.body.head = self.body.head[1], nn.Identity()

    def features(self, clips: Tensor) -> Tensor:
        """(B, 3, 16, 224, 224) normalised -> (B, 768), the class token after the last norm."""
        return self._tokens(clips)[0][:, 0]

    def maps(self, clips: Tensor) -> Tensor:
        """(B, 3, 16, 224, 224) -> (B, 768, 8, 7, 7), the other tokens."""
        tokens, grid = self._tokens(clips)
        return tokens[:, 1:].transpose(1, 2).reshape(len(clips), -1, *grid)

    def _tokens(self, clips: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
        position = self.body.pos_encoding
        grid = (position.temporal_size, *position.spatial_size)
        patches = self.body.conv_proj(clips)
        if tuple(patches.shape[2:]) != grid:
            raise UsageError(f"clips are {tuple(clips.shape[2:])}; MViT's positions expect 16 x 224 x 224")
        tokens = position(patches.flatten(2).transpose(1, 2))
        for block in self.body.blocks:
            tokens, grid = block(tokens, grid)
        return self.body.norm(tokens), grid


class Swin3d(Network):
    """Video Swin transformer."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.body: Any = _built(name)
        self.classifier, self.body.head = self.body.head, nn.Identity()

    def maps(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, 768, T / 2, H / 32, W / 32)."""
        x = self.body.norm(self.body.features(self.body.pos_drop(self.body.patch_embed(clips))))
        maps: Tensor = x.permute(0, 4, 1, 2, 3)
        return maps


def _built(name: str) -> Any:  # noqa: ANN401 - torchvision's networks have parts of their own
    from torchvision.models import get_model

    return get_model(name, weights=None)
