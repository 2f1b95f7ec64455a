"""A backbone with its preprocessing, as one module from uint8 pixels to features: what every engine runs.

B clips, C channels, T frames, H W pixels, D features.
"""

import copy
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from extract.backbones import Backbone
from extract.backbones.backbone import layer_features
from extract.recipe import Colours


@dataclass(frozen=True, slots=True)
class ClipInput:
    """The clips that a backbone is given, and what is asked of it.

    Attributes:
        frames: T.
        side_px: H and W; with ``maps``, the smaller of the two.
        mean: per channel of ``colour``, of pixels in 0..1; of optical flow two.
        std: as ``mean``.
        colour: "rgb", or "bgr" for networks that were trained on it; clips are always RGB, or flow.
        layer: None for the network's own features, else a module's name (see `Backbone.features`).
        maps: clips are whole frames, of any width and height, and what is asked is the mean over time of the
            network's last maps, (B, D, H', W'), for boxes to be read from.
    """

    frames: int
    side_px: int
    mean: Colours
    std: Colours
    colour: str = "rgb"
    layer: str | None = None
    maps: bool = False

    def blank(self, clips: int) -> NDArray[np.uint8]:
        """So many black clips, (B, T, H, W, C) uint8."""
        return np.zeros((clips, self.frames, self.side_px, self.side_px, len(self.mean)), np.uint8)


class ClipModel(nn.Module):
    """Normalisation and network."""

    scale: Tensor
    shift: Tensor

    def __init__(self, backbone: Backbone, given: ClipInput) -> None:
        super().__init__()
        self.network, self._layer, self._flip = backbone.network, given.layer, given.colour == "bgr"
        self._maps = given.maps
        mean, std = (torch.tensor(values).view(1, -1, 1, 1, 1) for values in (given.mean, given.std))
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", -mean / std)

    def forward(self, clips: Tensor) -> Tensor:
        """(B, T, H, W, C) uint8 -> (B, D), or maps as `ClipInput` says."""
        x = clips.permute(0, 4, 1, 2, 3).float()
        x = torch.addcmul(self.shift, x.flip(1) if self._flip else x, self.scale)
        if self._maps:
            return self.network.maps(x).float().mean(2)
        return self.network.features(x) if self._layer is None else layer_features(self.network, x, self._layer)


def folded(model: nn.Module) -> nn.Module:
    """A copy in which each BatchNorm that follows a convolution in a sequence is part of that convolution.

    Outputs are equal up to float32 rounding. Jacob et al., CVPR 2018, section 3.2.
    """
    model = copy.deepcopy(model)
    for sequence in [module for module in model.modules() if isinstance(module, nn.Sequential)]:
        names = list(sequence._modules)
        for first, second in pairwise(names):
            conv, norm = _last_leaf(sequence, first), getattr(sequence, second)
            if isinstance(norm, nn.BatchNorm3d | nn.BatchNorm2d) and conv is not None:
                _replace(sequence, first, fuse_conv_bn_eval(conv, norm))
                setattr(sequence, second, nn.Identity())
    return model


class _SeenFrames(nn.Module):
    """A convolution that strides over more frames than its kernel holds, over the frames that it sees alone: equal.

    oneDNN 3.12 (of torch 2.14) computes the first form in bf16 on AMX with accesses outside its memory: the results are
    NaN, or the process dies.
    """

    def __init__(self, conv: nn.Conv3d) -> None:
        super().__init__()
        self._kernel, self._stride, self._padding = conv.kernel_size[0], conv.stride[0], int(conv.padding[0])
        self.conv = copy.deepcopy(conv)
        self.conv.stride = (self._kernel, *conv.stride[1:])
        self.conv.padding = (0, *map(int, conv.padding[1:]))

    def forward(self, x: Tensor) -> Tensor:
        """As the convolution: (B, C, T, H, W) -> (B, C', T', H', W')."""
        x = nn.functional.pad(x, (0, 0, 0, 0, self._padding, self._padding))
        count = (x.shape[2] - self._kernel) // self._stride + 1
        seen = [at * self._stride + k for at in range(count) for k in range(self._kernel)]
        out: Tensor = self.conv(x[:, :, seen])
        return out


def without_leaps(model: nn.Module) -> nn.Module:
    """``model``, in place, with `_SeenFrames` wherever a convolution leaps over frames."""
    for module in list(model.modules()):
        for name, part in module.named_children():
            if isinstance(part, nn.Conv3d) and part.stride[0] > part.kernel_size[0] > 1 and part.dilation[0] == 1:
                setattr(module, name, _SeenFrames(part))
    return model


def channels_last(model: nn.Module) -> None:
    """Lay out the weights of convolutions as the fast kernels take them, in place."""
    for part in model.modules():
        if isinstance(part, nn.Conv3d | nn.Conv2d):
            part.to(memory_format=torch.channels_last_3d if isinstance(part, nn.Conv3d) else torch.channels_last)


def _last_leaf(sequence: nn.Sequential, name: str) -> nn.Conv3d | nn.Conv2d | None:
    """The convolution that ``name`` is, or ends with."""
    module = getattr(sequence, name)
    while isinstance(module, nn.Sequential) and len(module):
        module = module[-1]
    return module if isinstance(module, nn.Conv3d | nn.Conv2d) else None


def _replace(sequence: nn.Sequential, name: str, conv: nn.Module) -> None:
    module = getattr(sequence, name)
    if not isinstance(module, nn.Sequential):
        setattr(sequence, name, conv)
        return
    while isinstance(module[-1], nn.Sequential):
        module = module[-1]
    module[-1] = conv
