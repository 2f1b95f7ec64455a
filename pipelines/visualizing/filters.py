"""The filters of a network's first layer, which see pixels themselves.

K filters, C channels (3 colours, or 2 of optical flow), T frames, H W pixels of a filter.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from extract.backbones import Backbone
from extract.backbones.fusion import EarlyFusion, first_conv
from extract.errors import UsageError
from extract.flow import flow_picture
from pipelines.notes import shown

_Conv = nn.Conv2d | nn.Conv3d


@dataclass(frozen=True, eq=False)
class Filters:
    """Filters of one layer, of ``weights`` (K, C, T, H, W) float32; colours are red, green, blue.

    ``over_time``: the name of the layer behind it that sees time in its place; None where there is none.
    """

    layer: str
    weights: NDArray[np.float32]
    over_time: str | None


def first_filters(backbone: Backbone, layer: str | None = None, *, over_time: bool = False) -> Filters:
    """The filters of the first convolution of ``backbone``, or of ``layer``.

    Early fusion's first convolution sees the frames as channels; they come out as T again. In (2+1)D networks the first
    convolution sees one frame, and the next one time alone. With ``over_time`` both are multiplied to the filter over
    space and time that they are where all units between them let everything pass: the scale of BatchNorm between them
    is taken in, its shift and the ReLU are not.

    Args:
        backbone: any with a convolution over pixels.
        layer: the name of a convolution that reads the clip itself, such as the fast pathway's.
        over_time: as above.

    Raises:
        UsageError: no such layer, none that reads pixels, or none over time behind it.
    """
    network = backbone.network
    stacked = first_conv(network) if isinstance(network, EarlyFusion) else None
    readers = {
        name: conv
        for name, conv in _convolutions(network)
        if conv is stacked or (stacked is None and conv.weight.shape[1] == backbone.spec.channels)
    }
    if not readers:
        raise UsageError(f"{backbone.name} has no convolution over pixels, so there are no filters to show")
    name = next(iter(readers)) if layer is None else layer
    if name not in readers:
        raise UsageError(f"layer {name!r} is no convolution over the clip itself; expected one of {shown(readers)}")
    weights = _weights(readers[name], backbone.spec.channels)
    behind = _over_time(network, name)
    if over_time:
        if behind is None:
            raise UsageError(
                f"behind {name} of {backbone.name} there is no layer that sees time alone, as (2+1)D networks have it; "
                "leave out --over-time"
            )
        weights = _through_time(weights, *behind[1:])
    if backbone.spec.clips.colour == "bgr" and backbone.spec.channels == 3:
        weights = weights.flip(1)
    return Filters(name, weights.numpy().copy(), None if behind is None else behind[0])


def filter_pictures(weights: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(K, C, T, H, W) -> (K, T, H, W, 3), each filter up to its own greatest weight.

    Of colours: grey is 0, and the greatest weight makes its colour full or none. Of optical flow: white is 0, and the
    colour is that of the motion that the weights of x and y answer to (`extract.flow.flow_picture`).
    """
    if weights.shape[1] == 3:
        most = np.abs(weights).max(axis=(1, 2, 3, 4), keepdims=True)
        shades = np.rint(127.5 + 127.5 * weights / np.where(most > 0, most, 1)).astype(np.uint8)
        return np.ascontiguousarray(shades.transpose(0, 2, 3, 4, 1))
    motion = weights.transpose(0, 2, 3, 4, 1)  # (K, T, H, W, 2)
    fastest = [max(float(np.hypot(each[..., 0], each[..., 1]).max()), 1e-30) for each in motion]
    return np.stack([[flow_picture(at, most) for at in each] for each, most in zip(motion, fastest, strict=True)])


def _convolutions(network: nn.Module) -> Iterator[tuple[str, _Conv]]:
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            yield name, module


def _weights(conv: _Conv, channels: int) -> Tensor:
    """(K, C, T, H, W), early fusion's channels as C and T."""
    weights: Tensor = conv.weight.detach().float().cpu()
    return weights if weights.ndim == 5 else weights.reshape(len(weights), channels, -1, *weights.shape[2:])


def _over_time(network: nn.Module, name: str) -> tuple[str, nn.Conv3d, nn.BatchNorm3d | None] | None:
    """The convolution over time alone that follows layer ``name`` next, and the BatchNorm between them."""
    modules = list(network.named_modules())
    at = next(number for number, (other, _) in enumerate(modules) if other == name)
    first, norm = modules[at][1], None
    if not isinstance(first, nn.Conv3d) or first.kernel_size[0] != 1:
        return None
    for other, module in modules[at + 1 :]:
        if isinstance(module, nn.BatchNorm3d):
            norm = module
        elif isinstance(module, nn.Conv3d):
            alone = module.kernel_size[0] > 1 and module.kernel_size[1:] == (1, 1)
            return (other, module, norm) if alone and module.in_channels == first.out_channels else None
    return None


def _through_time(weights: Tensor, conv: nn.Conv3d, norm: nn.BatchNorm3d | None) -> Tensor:
    """(I, C, 1, H, W) and a convolution over time of I channels -> (K, C, T, H, W)."""
    if norm is not None:
        assert norm.running_var is not None  # noqa: S101 - networks are in eval mode
        scale = (norm.running_var + norm.eps).rsqrt().cpu()
        scale = scale if norm.weight is None else scale * norm.weight.detach().cpu()
        weights = weights * scale.view(-1, 1, 1, 1, 1)
    grouped = weights.reshape(conv.groups, -1, *weights.shape[1:2], *weights.shape[3:])  # (G, I / G, C, H, W)
    kernels = conv.weight.detach().float().cpu()  # (K, I / G, T, 1, 1)
    over_time = kernels.reshape(conv.groups, -1, *kernels.shape[1:3])  # (G, K / G, I / G, T)
    return torch.einsum("gichw,gkit->gkcthw", grouped, over_time).flatten(0, 1)
