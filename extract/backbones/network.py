"""What every network has in common, and the parts that they are built from.

Shapes: B clips, C channels, T frames, H W pixels, D features, K classes, N boxes.
"""

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

Triple = tuple[int, int, int]


class Network(nn.Module):
    """A network from clips to maps, from maps to features, from features to logits.

    Subclasses give ``maps`` and ``classifier``, and ``pool`` where it is not the mean.

    Attributes:
        classifier: the last linear layer, (B, D) -> (B, K).
        window: (T, H, W) of the reference's pooling window over the maps; None where it takes the mean of all.
    """

    classifier: nn.Module
    window: Triple | None = None

    def maps(self, clips: Tensor) -> Tensor:
        """(B, C, T, H, W) normalised -> (B, D', T', H', W'), the last maps before pooling."""
        raise NotImplementedError

    def pool(self, maps: Tensor) -> Tensor:
        """(B, D, T', H', W') -> (B, D)."""
        return windowed(maps, self.window).mean(dim=(2, 3, 4))

    def features(self, clips: Tensor) -> Tensor:
        """(B, C, T, H, W) normalised -> (B, D), the input of the last linear layer."""
        return self.pool(self.maps(clips))

    def forward(self, clips: Tensor) -> Tensor:
        """(B, C, T, H, W) normalised -> (B, K) logits, before any activation."""
        logits: Tensor = self.classifier(self.features(clips))
        return logits


def traced() -> bool:
    """Whether torch follows the pass to make another program of it."""
    return torch.compiler.is_compiling() or torch.compiler.is_exporting()


def empty(build: Callable[[], Network]) -> Network:
    """What ``build`` makes, with shapes and no values, on torch's meta device."""
    try:
        with torch.device("meta"):
            return build()
    except NotImplementedError:  # torchvision's RegNet looks at its weights
        return build().to("meta")


def windowed(maps: Tensor, window: Triple | None) -> Tensor:
    """(B, D, T, H, W) -> its means over ``window``, at every position (stride 1) that the window has in it.

    Without a window, or where the maps are smaller than it, the mean of all: (B, D, 1, 1, 1).
    """
    size = maps.shape[2:]
    if window is None or any(have < want for have, want in zip(size, window, strict=True)):
        return maps.mean(dim=(2, 3, 4), keepdim=True)
    return functional.avg_pool3d(maps, window, stride=1)


def conv_norm(
    width_in: int,
    width: int,
    kernel: Triple,
    *,
    stride: Triple = (1, 1, 1),
    dilation: Triple = (1, 1, 1),
    groups: int = 1,
    then: nn.Module | None = None,
) -> nn.Sequential:
    """Convolution without bias, padded so that stride 1 keeps the size, BatchNorm, and what comes ``then``."""
    padding = tuple(k // 2 * d for k, d in zip(kernel, dilation, strict=True))
    parts: list[tuple[str, nn.Module]] = [
        ("conv", nn.Conv3d(width_in, width, kernel, stride, padding, dilation, groups, bias=False)),  # type: ignore[arg-type]
        ("norm", nn.BatchNorm3d(width)),
    ]
    return nn.Sequential(OrderedDict(parts if then is None else [*parts, ("then", then)]))


class Bottleneck(nn.Module):
    """relu(c(b(a(x))) + shortcut(x)): the block of every residual network here, its parts given ready-made."""

    def __init__(self, a: nn.Module, b: nn.Module, c: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.a, self.b, self.c, self.shortcut = a, b, c, shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C', T', H', W')."""
        return functional.relu(self.c(self.b(self.a(x))) + self.shortcut(x))


def roi_features(maps: Tensor, boxes: Tensor, *, stride_px: float, aligned: bool) -> Tensor:
    """(B, D, T, H, W) and boxes (N, 5) = clip in the batch, x1, y1, x2, y2 in input pixels -> (N, D).

    Mean over time, RoIAlign to 7 x 7 with adaptive sampling, maximum: the head of the AVA networks
    (pytorchvideo and PySlowFast ``head_helper.py``; Feichtenhofer et al., ICCV 2019). ``aligned`` shifts by half a
    pixel, as RoIAlign's second version does; the official AVA checkpoints were trained without.
    """
    return roi_maxima(maps.mean(2), boxes, stride_px=stride_px, aligned=aligned)


def roi_maxima(pictures: Tensor, boxes: Tensor, *, stride_px: float, aligned: bool) -> Tensor:
    """As `roi_features`, from maps that are averaged over time already, (B, D, H, W)."""
    from torchvision.ops import roi_align

    rois: Tensor = roi_align(pictures, boxes, (7, 7), 1 / stride_px, sampling_ratio=0, aligned=aligned)
    return rois.amax(dim=(2, 3))
