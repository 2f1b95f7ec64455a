"""C3D: Tran et al., "Learning Spatiotemporal Features with 3D Convolutional Networks" (ICCV 2015), figure 3.

Shapes as in `extract.backbones.network`.
"""

from collections import OrderedDict
from typing import Literal

from torch import Tensor, nn

from extract.backbones.network import Network, Triple
from extract.errors import UsageError

_CONVOLUTIONS = {
    "conv1": (3, 64),
    "conv2": (64, 128),
    "conv3a": (128, 256),
    "conv3b": (256, 256),
    "conv4a": (256, 512),
    "conv4b": (512, 512),
    "conv5a": (512, 512),
    "conv5b": (512, 512),
}
_POOLED: dict[str, Triple] = {"conv1": (1, 2, 2), "conv2": (2, 2, 2), "conv3b": (2, 2, 2), "conv4b": (2, 2, 2)}
_MAPS = (2, 7, 7)  # of 16 x 112 x 112


class C3D(Network):
    """Eight 3 x 3 x 3 convolutions, five maxima, two hidden layers, no normalisation.

    Args:
        pool5: how the last maximum gets from 7 to 4 positions. "ceil": windows begin at 0 and the last one is cut, as
            in C3D's Caffe (``pool3d_layer.cpp``), where the Sports-1M weights were trained. "pad": windows
            begin at -1, as in every PyTorch port. fc6 differs by half between the two.
        classes: outputs of the last layer.
    """

    def __init__(self, *, pool5: Literal["ceil", "pad"], classes: int) -> None:
        super().__init__()
        parts: dict[str, nn.Module] = {}
        for name, (width_in, width) in _CONVOLUTIONS.items():
            conv = nn.Conv3d(width_in, width, 3, padding=1)
            parts[name] = nn.Sequential(OrderedDict(conv=conv, then=nn.ReLU()))
            if name in _POOLED:
                parts[name.replace("conv", "pool").rstrip("b")] = nn.MaxPool3d(_POOLED[name], _POOLED[name])
        self.body = nn.Sequential(OrderedDict(parts))
        self.pool5 = nn.MaxPool3d(2, 2, ceil_mode=True) if pool5 == "ceil" else nn.MaxPool3d(2, 2, padding=(0, 1, 1))
        self.fc6 = nn.Sequential(nn.Linear(8192, 4096), nn.ReLU())
        self.fc7 = nn.Sequential(nn.Linear(4096, 4096), nn.ReLU())
        self.classifier = nn.Linear(4096, classes)

    def maps(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, 512, T / 8, H / 16, W / 16), conv5b."""
        maps: Tensor = self.body(clips)
        return maps

    def pool(self, maps: Tensor) -> Tensor:
        """(B, 512, 2, 7, 7) -> (B, 4096), fc7 after its ReLU.

        Raises:
            UsageError: maps of another size, which the hidden layers cannot take.
        """
        if tuple(maps.shape[2:]) != _MAPS:
            raise UsageError(
                f"C3D's conv5b has {tuple(maps.shape[2:])} positions here, and fc6 takes {_MAPS}: "
                "expected clips of 16 x 112 x 112; for others ask for a layer before it, such as body.conv5b"
            )
        hidden: Tensor = self.fc7(self.fc6(self.pool5(maps).flatten(1)))
        return hidden
