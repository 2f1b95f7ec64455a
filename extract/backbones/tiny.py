"""The embedded backbone: an R(2+1)D residual network small enough to travel in the package.

Factorised blocks after Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition"
(CVPR 2018); widths, strides and the 7 x 7 stride-4 stem are this project's own, chosen for 16 frames of 112 x 112.
Shapes as in `extract.backbones.network`.
"""

import torch
from torch import Tensor, nn

from extract.backbones.network import Network, Triple

WIDTHS = (32, 64, 128, 256)
FEATURE_WIDTH = WIDTHS[-1]


def _conv(width_in: int, width: int, kernel: Triple, stride: Triple) -> nn.Sequential:
    padding = tuple(k // 2 for k in kernel)
    return nn.Sequential(
        nn.Conv3d(width_in, width, kernel, stride, padding, bias=False),  # type: ignore[arg-type]
        nn.BatchNorm3d(width),
    )


class Block(nn.Module):
    """1 x 3 x 3 then 3 x 1 x 1 convolution, with a residual connection."""

    def __init__(self, width_in: int, width: int, *, space_stride: int = 1, time_stride: int = 1) -> None:
        super().__init__()
        strides = (time_stride, space_stride, space_stride)
        self.space = _conv(width_in, width, (1, 3, 3), (1, space_stride, space_stride))
        self.time = _conv(width, width, (3, 1, 1), (time_stride, 1, 1))
        same = width_in == width and strides == (1, 1, 1)
        self.shortcut = nn.Identity() if same else _conv(width_in, width, (1, 1, 1), strides)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C', T', H', W')."""
        return torch.relu(self.time(torch.relu(self.space(x))) + self.shortcut(x))


class TinyR2Plus1D(Network):
    """Stem, six blocks, global mean, linear layer."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        w1, w2, w3, w4 = WIDTHS
        self.stem = nn.Sequential(
            _conv(3, w1, (1, 7, 7), (1, 4, 4)), nn.ReLU(), _conv(w1, w1, (5, 1, 1), (1, 1, 1)), nn.ReLU()
        )
        self.blocks = nn.Sequential(
            Block(w1, w2, space_stride=2),
            Block(w2, w2),
            Block(w2, w3, space_stride=2, time_stride=2),
            Block(w3, w3),
            Block(w3, w4, space_stride=2, time_stride=2),
            Block(w4, w4),
        )
        self.classifier = nn.Linear(w4, classes)

    def maps(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, 256, T / 4, H / 32, W / 32)."""
        maps: Tensor = self.blocks(self.stem(clips))
        return maps
