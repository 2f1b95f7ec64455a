"""I3D Inception: Carreira and Zisserman, "Quo Vadis, Action Recognition?" (CVPR 2017), figure 3.

Layer names are those of DeepMind's release, in lower case. Shapes as in `extract.backbones.network`.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from extract.backbones.network import Network, Triple

# (branch 0; reduction and width of branch 1; of branch 2; projection of branch 3)
_MIXED = {
    "mixed_3b": (64, 96, 128, 16, 32, 32),
    "mixed_3c": (128, 128, 192, 32, 96, 64),
    "mixed_4b": (192, 96, 208, 16, 48, 64),
    "mixed_4c": (160, 112, 224, 24, 64, 64),
    "mixed_4d": (128, 128, 256, 24, 64, 64),
    "mixed_4e": (112, 144, 288, 32, 64, 64),
    "mixed_4f": (256, 160, 320, 32, 128, 128),
    "mixed_5b": (256, 160, 320, 32, 128, 128),
    "mixed_5c": (384, 192, 384, 48, 128, 128),
}
_BEFORE: dict[str, tuple[str, Triple, Triple]] = {
    "mixed_3b": ("maxpool3d_3a_3x3", (1, 3, 3), (1, 2, 2)),
    "mixed_4b": ("maxpool3d_4a_3x3", (3, 3, 3), (2, 2, 2)),
    "mixed_5b": ("maxpool3d_5a_2x2", (2, 2, 2), (2, 2, 2)),
}
Static = tuple[bool, bool, bool]  # along time, height, width: see `same_padding`
_DYNAMIC = (False, False, False)
TF_EPS = 1e-3  # Sonnet's default, which the weights were trained with


def same_padding(size: int, kernel: int, stride: int, *, static: bool) -> tuple[int, int]:
    """Zeros in front of and behind ``size`` positions, as TensorFlow's SAME: the shorter half in front.

    ``static``: as if the size were a multiple of the stride.
    """
    rest = 0 if static else size % stride
    total = max(kernel - (rest or stride), 0)
    return total // 2, total - total // 2


def _pad(x: Tensor, kernel: Triple, stride: Triple, *, static: Static) -> Tensor:
    sizes = zip(x.shape[2:], kernel, stride, static, strict=True)
    pairs = [same_padding(size, k, s, static=fixed) for size, k, s, fixed in sizes]
    flat = [zeros for pair in reversed(pairs) for zeros in pair]
    return functional.pad(x, flat) if any(flat) else x


class _Unit(nn.Sequential):
    """SAME-padded convolution, BatchNorm, ReLU."""

    def __init__(
        self, width_in: int, width: int, kernel: int, *, stride: int = 1, eps: float, static: Static = _DYNAMIC
    ) -> None:
        inside = kernel // 2 if stride == 1 else 0
        super().__init__(
            OrderedDict(
                conv=nn.Conv3d(width_in, width, kernel, stride, inside, bias=False),
                norm=nn.BatchNorm3d(width, eps=eps),
                then=nn.ReLU(),
            )
        )
        self._kernel: Triple = (kernel,) * 3
        self._stride: Triple = (stride,) * 3
        self._static = static

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C', T', H', W')."""
        if self._stride != (1, 1, 1):
            x = _pad(x, self._kernel, self._stride, static=self._static)
        out: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return out


class _Pool(nn.Module):
    """Maximum with SAME padding; the zeros are no maxima, since its input comes after a ReLU."""

    def __init__(self, kernel: Triple, stride: Triple, *, static: Static) -> None:
        super().__init__()
        self._kernel, self._stride, self._static = kernel, stride, static

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C, T', H', W')."""
        x = _pad(x, self._kernel, self._stride, static=self._static)
        return functional.max_pool3d(x, self._kernel, self._stride, ceil_mode=True)


class _Mixed(nn.Module):
    def __init__(self, width_in: int, widths: tuple[int, ...], *, eps: float, static: Static) -> None:
        super().__init__()
        b0, reduce1, b1, reduce2, b2, b3 = widths
        self.branch_0 = _Unit(width_in, b0, 1, eps=eps)
        self.branch_1 = nn.Sequential(_Unit(width_in, reduce1, 1, eps=eps), _Unit(reduce1, b1, 3, eps=eps))
        self.branch_2 = nn.Sequential(_Unit(width_in, reduce2, 1, eps=eps), _Unit(reduce2, b2, 3, eps=eps))
        pool = _Pool((3, 3, 3), (1, 1, 1), static=static)
        self.branch_3 = nn.Sequential(pool, _Unit(width_in, b3, 1, eps=eps))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C', T, H, W)."""
        return torch.cat([self.branch_0(x), self.branch_1(x), self.branch_2(x), self.branch_3(x)], 1)


class InceptionI3D(Network):
    """Inflated Inception-v1.

    Args:
        channels: 3 for RGB, 2 for flow.
        classes: outputs of the last layer.
        eps: of every BatchNorm. The weights were trained with 1e-3; the port in video_features has 1e-5, which moves
            features by 1 %.
        static: along which dimensions padding is laid out as for even sizes: height and width in hassony2's port, time
            too in video_features'; TensorFlow's and piergiaj's look at the sizes. Maps of even sizes are the same.
    """

    window = (2, 7, 7)

    def __init__(self, channels: int, *, classes: int = 400, eps: float = TF_EPS, static: Static = _DYNAMIC) -> None:
        super().__init__()
        parts: dict[str, nn.Module] = {
            "conv3d_1a_7x7": _Unit(channels, 64, 7, stride=2, eps=eps, static=static),
            "maxpool3d_2a_3x3": _Pool((1, 3, 3), (1, 2, 2), static=static),
            "conv3d_2b_1x1": _Unit(64, 64, 1, eps=eps),
            "conv3d_2c_3x3": _Unit(64, 192, 3, eps=eps),
        }
        width = 192
        for name, widths in _MIXED.items():
            if name in _BEFORE:
                pool, kernel, stride = _BEFORE[name]
                parts[pool] = _Pool(kernel, stride, static=static)
            parts[name] = _Mixed(width, widths, eps=eps, static=static)
            width = widths[0] + widths[2] + widths[4] + widths[5]
        self.body = nn.Sequential(OrderedDict(parts))
        self.classifier = nn.Linear(width, classes)

    def maps(self, clips: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, 1024, T / 8, H / 32, W / 32), mixed_5c."""
        maps: Tensor = self.body(clips)
        return maps
