"""X3D: Feichtenhofer, "X3D: Expanding Architectures for Efficient Video Recognition" (CVPR 2020), table 3.

Shapes as in `extract.backbones.network`.
"""

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional

from extract.backbones.network import Bottleneck, Network, Triple, conv_norm, windowed

_WIDTHS = (24, 48, 96, 192)
_DEPTHS = (3, 5, 11, 7)
_HIDDEN = 432
_FEATURES = 2048


def _rounded(width: float, multiple: int = 8) -> int:
    """The multiple of ``multiple`` next to ``width``, not below nine tenths of it, nor below ``multiple``."""
    rounded = max(multiple, int(width + multiple / 2) // multiple * multiple)
    return rounded + multiple if rounded < 0.9 * width else rounded


class SqueezeExcitation(nn.Module):
    """Weighs channels by a gate computed from their means over time and space."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = _rounded(width / 16)
        self.squeeze, self.excite = nn.Conv3d(width, inner, 1), nn.Conv3d(inner, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> the same shape."""
        gate: Tensor = self.excite(functional.relu(self.squeeze(x.mean(dim=(2, 3, 4), keepdim=True)))).sigmoid()
        return x * gate


def _block(width_in: int, width: int, stride: Triple, *, gated: bool, norm_all_shortcuts: bool) -> Bottleneck:
    inner = int(2.25 * width)
    after: list[nn.Module] = [SqueezeExcitation(inner)] if gated else []
    b = conv_norm(inner, inner, (3, 3, 3), stride=stride, groups=inner, then=nn.Sequential(*after, nn.SiLU()))
    return Bottleneck(
        conv_norm(width_in, inner, (1, 1, 1), then=nn.ReLU()),
        b,
        conv_norm(inner, width, (1, 1, 1)),
        _shortcut(width_in, width, stride, norm=width_in != width or norm_all_shortcuts),
    )


def _shortcut(width_in: int, width: int, stride: Triple, *, norm: bool) -> nn.Module:
    if width_in == width and stride == (1, 1, 1):
        return nn.Identity()
    if norm:
        return conv_norm(width_in, width, (1, 1, 1), stride=stride)
    return nn.Sequential(OrderedDict(conv=nn.Conv3d(width_in, width, 1, stride, bias=False)))


def _stage(width_in: int, width: int, depth: int, *, norm_all_shortcuts: bool) -> nn.Sequential:
    blocks = [
        _block(
            width_in if k == 0 else width,
            width,
            (1, 2, 2) if k == 0 else (1, 1, 1),
            gated=k % 2 == 0,
            norm_all_shortcuts=norm_all_shortcuts,
        )
        for k in range(depth)
    ]
    return nn.Sequential(*blocks)


class X3D(Network):
    """X3D-XS, S and M, which differ by their clips alone.

    Args:
        window: frames and positions of the pooling window: all frames, and a 32nd of the training crop, rounded up.
        classes: outputs of the last layer.
        norm_all_shortcuts: whether the first shortcut, which keeps the width, has a BatchNorm, as in PySlowFast's
            network; pytorchvideo's has none. Both have official weights, which are not interchangeable.
    """

    def __init__(self, window: Triple, *, classes: int = 400, norm_all_shortcuts: bool = False) -> None:
        super().__init__()
        self.window = window
        stem = OrderedDict[str, nn.Module](
            space=nn.Conv3d(3, 24, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False),
            time=nn.Conv3d(24, 24, (5, 1, 1), padding=(2, 0, 0), groups=24, bias=False),
            norm=nn.BatchNorm3d(24),
            then=nn.ReLU(),
        )
        parts: dict[str, nn.Module] = {"stem": nn.Sequential(stem)}
        for k, (width, depth) in enumerate(zip(_WIDTHS, _DEPTHS, strict=True)):
            width_in = 24 if k == 0 else _WIDTHS[k - 1]
            parts[f"res{k + 2}"] = _stage(width_in, width, depth, norm_all_shortcuts=norm_all_shortcuts)
        parts["conv5"] = conv_norm(_WIDTHS[-1], _HIDDEN, (1, 1, 1), then=nn.ReLU())
        self.body = nn.Sequential(OrderedDict(parts))
        self.hidden = nn.Sequential(OrderedDict(conv=nn.Conv3d(_HIDDEN, _FEATURES, 1, bias=False), then=nn.ReLU()))
        self.classifier = nn.Linear(_FEATURES, classes)

    def maps(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, 432, T, H / 32, W / 32)."""
        maps: Tensor = self.body(clips)
        return maps

    def pool(self, maps: Tensor) -> Tensor:
        """(B, 432, T, H', W') -> (B, 2048): the hidden layer at every position of the window, then the mean."""
        hidden: Tensor = self.hidden(windowed(maps, self.window))
        return hidden.mean(dim=(2, 3, 4))
