"""When an image network's frames meet: late, early, or slowly, layer by layer.

Karpathy et al., "Large-scale Video Classification with Convolutional Neural Networks" (CVPR 2014), section 3.1. (Late
fusion by the mean is `ImageNetwork` itself.) Shapes as in `extract.backbones.network`.
"""

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from extract.backbones.images import ImageNetwork, inflated_weight, last_linear
from extract.backbones.network import Triple
from extract.errors import UsageError

HIDDEN = 256  # of late fusion
_TIED = (nn.AvgPool2d, nn.MaxPool2d)


class LateFusion(ImageNetwork):
    """The maps of all frames side by side, and one hidden layer over all of them.

    Args:
        trunk: as `ImageNetwork` takes it; it must have a layer ``avgpool`` behind its maps.
        clip: (C, T, H, W) of its clips, which must all be of this size.
    """

    def __init__(self, trunk: nn.Module, clip: tuple[int, int, int, int]) -> None:
        super().__init__(trunk)
        self._clip = clip
        self.end_with_maps()
        self.hidden = nn.Sequential(nn.Linear(math.prod(self.trunk_shape(clip)), HIDDEN), nn.ReLU())
        self.classifier = nn.Linear(HIDDEN, self.classes)

    def pool(self, maps: Tensor) -> Tensor:
        """(B, D, T, H', W') -> (B, 256), the hidden layer after its ReLU.

        Raises:
            UsageError: maps of clips of another size.
        """
        positions, expected = maps[0].numel(), self.hidden[0].in_features
        if positions != expected:
            raise UsageError(
                f"late fusion takes clips of {' x '.join(map(str, self._clip[1:]))} alone, whose maps have {expected} "
                f"values; these have {positions}. Name another size behind the backbone, as in late:small:8x64"
            )
        hidden: Tensor = self.hidden(maps.flatten(1))
        return hidden

    def features(self, clips: Tensor) -> Tensor:
        """(B, C, T, H, W) normalised -> (B, 256)."""
        return self.pool(self.maps(clips))


class EarlyFusion(ImageNetwork):
    """The frames as channels of one image: the first layer sees all of time, and no other sees any.

    With two channels of optical flow, the temporal stream of Simonyan and Zisserman, "Two-Stream Convolutional
    Networks" (NeurIPS 2014), section 3.1.

    Args:
        trunk: an image network whose first convolution takes C x T channels (`with_channels`).
    """

    def _folded(self, clips: Tensor) -> Tensor:
        expected, given = first_conv(self.body).in_channels, clips.shape[1] * clips.shape[2]
        if given != expected:
            raise UsageError(
                f"early fusion takes {expected} channels, frames times colours, and these clips have {clips.shape[2]} "
                f"x {clips.shape[1]}; name another length behind the backbone, as in early:small:8x64"
            )
        return (_recentred(clips) if getattr(self.body, "recentres", False) else clips).flatten(1, 2)


def _recentred(clips: Tensor) -> Tensor:
    """(B, 3, T, H, W) normalised by ImageNet's statistics -> by 0.5 and 0.5, which GoogLeNet and Inception learnt from.

    torchvision's ``transform_input``.
    """
    mean, std = (clips.new_tensor(values).view(3, 1, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return clips * (std / 0.5) + (mean - 0.5) / 0.5


class SlowFusion(ImageNetwork):
    """A 3D network: time passes through every layer as height and width do.

    Args:
        trunk: a network of 3D layers, (B, C, T, H, W) -> (B, K), from `in_three_dimensions`.
    """

    def _folded(self, clips: Tensor) -> Tensor:
        return clips


def with_channels(trunk: nn.Module, channels: int, frames: int = 1) -> nn.Module:
    """``trunk``, in place, its first convolution for so many input channels of so many frames.

    The trunk's own channels: every frame of a colour gets the colour's kernel, divided by the number of frames, so that
    a clip that does not move gives what its image gives. Others, as of flow: the kernel's mean over its channels is
    repeated, and scaled so that equal channels give what they gave, as in Wang et al., "Temporal Segment Networks"
    (ECCV 2016), section 3.2.
    """
    conv = first_conv(trunk)
    if (channels, frames) == (conv.in_channels, 1):
        return trunk
    weight, seen = conv.weight.detach(), channels * frames
    if channels == conv.in_channels:
        weight = weight.repeat_interleave(frames, 1) / frames
    else:
        weight = weight.sum(1, keepdim=True).expand(-1, seen, -1, -1) / seen
    conv.weight = nn.Parameter(weight.clone())
    conv.in_channels = seen
    if getattr(trunk, "transform_input", False):  # of three colours at a time
        trunk.transform_input = False  # type: ignore[assignment]
        trunk.recentres = channels == 3  # type: ignore[assignment]  # `EarlyFusion` does it
    return trunk


def first_conv(network: nn.Module) -> nn.Conv2d:
    """The convolution that pixels go into. Raises UsageError where there is none."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            return module
    raise UsageError(
        f"{type(network).__name__} has no convolution to give other channels; take a convolutional network"
    )


def in_three_dimensions(trunk: nn.Module, clip: tuple[int, int, int, int], *, first_pool_t: bool = True) -> nn.Module:
    """``trunk``, in place, with time treated as height and width are: k x k becomes k x k x k, strides and pools too.

    Kernels are those of the trunk repeated along time and divided by their length (Carreira and Zisserman, CVPR 2017,
    section 2.4). Pooling ends where one frame is left.

    Args:
        trunk: an image classifier (B, C, H, W) -> (B, K) of convolutions, pooling and BatchNorm.
        clip: (C, T, H, W), to try it with.
        first_pool_t: whether the first pooling layer pools time too; C3D's does not.

    Raises:
        UsageError: it has layers or arithmetic that take images only.
    """
    last_linear(trunk)
    pooled = first_pool_t
    for name, module in list(trunk.named_modules()):
        parent, _, child = name.rpartition(".")
        if isinstance(module, _TIED):
            setattr(trunk.get_submodule(parent), child, _Pool(module, over_time=pooled))
            pooled = True
        elif (made := _three_dimensional(module)) is not None:
            setattr(trunk.get_submodule(parent), child, made)
    try:
        copy.deepcopy(trunk).to("meta").eval()(torch.empty(1, *clip, device="meta"))
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        raise UsageError(
            f"{type(trunk).__name__} cannot be made three-dimensional for clips of {clip[1]} frames of {clip[3]} px "
            f"({str(error).splitlines()[0]}); expected a network of plain convolutions, such as resnet18, vgg11_bn, "
            "alexnet or efficientnet_b0, and clips that are not too short or small for it; or take inflated:NAME"
        ) from error
    return trunk


class _Pool(nn.Module):
    """A maximum or mean over windows of time, height and width; over as many frames as there are."""

    def __init__(self, pool: nn.MaxPool2d | nn.AvgPool2d, *, over_time: bool) -> None:
        super().__init__()
        self._kernel, self._stride, self._padding = (_pair(v) for v in (pool.kernel_size, pool.stride, pool.padding))
        self._over_time, self._ceil = over_time, pool.ceil_mode
        self._pool = functional.max_pool3d if isinstance(pool, nn.MaxPool2d) else functional.avg_pool3d

    def extra_repr(self) -> str:
        """What its class does not tell."""
        return f"{self._kernel}, stride={self._stride}, over_time={self._over_time}"

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C, T', H', W')."""
        kernel_t, stride_t, padding_t = self._kernel[0], self._stride[0], self._padding[0]
        if not self._over_time:
            kernel_t, stride_t, padding_t = 1, 1, 0
        elif kernel_t > x.shape[2] + 2 * padding_t:
            kernel_t, stride_t, padding_t = x.shape[2], 1, 0
        return self._pool(
            x,
            (kernel_t, *self._kernel),
            (stride_t, *self._stride),
            (padding_t, *self._padding),
            ceil_mode=self._ceil,
        )


def _three_dimensional(module: nn.Module) -> nn.Module | None:
    """The 3D form of one layer; None for what takes any number of dimensions, or has parts."""
    if isinstance(module, nn.Conv2d):
        return _conv(module)
    if isinstance(module, nn.BatchNorm2d):
        norm = nn.BatchNorm3d(
            module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats
        )
        norm.load_state_dict(module.state_dict(), assign=True)
        return norm
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return nn.AdaptiveAvgPool3d((1, *_pair(module.output_size)))
    if isinstance(module, nn.Dropout2d):
        return nn.Dropout3d(module.p)
    return None


def _conv(conv: nn.Conv2d) -> nn.Conv3d:
    kernel, stride, padding, dilation = (_cube(v) for v in (conv.kernel_size, conv.stride, conv.padding, conv.dilation))
    made = nn.Conv3d(
        conv.in_channels,
        conv.out_channels,
        kernel,
        stride,
        padding,
        dilation,
        conv.groups,
        conv.bias is not None,
        device=conv.weight.device,
    )
    made.weight = nn.Parameter(inflated_weight(conv, kernel[0]))
    if conv.bias is not None:
        made.bias = nn.Parameter(conv.bias.detach().clone())
    return made


def _pair(value: int | Sequence[int | None] | None) -> tuple[int, int]:
    if isinstance(value, int) or value is None:
        return (value or 0,) * 2
    height, width = (1 if size is None else size for size in value[:2])
    return height, width


def _cube(value: int | str | Sequence[int]) -> Triple:
    if isinstance(value, str):
        raise UsageError(f"a convolution padded by {value!r} cannot be made three-dimensional")
    height, width = _pair(value)
    return height, height, width
