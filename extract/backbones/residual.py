"""The residual family with ResNet bottlenecks: C2D, I3D-R50, Slow, SlowFast, R(2+1)D, and their detection forms.

C2D, I3D: Wang et al., "Non-local Neural Networks" (CVPR 2018), tables 1 and 2a. Slow, SlowFast: Feichtenhofer et al.,
"SlowFast Networks for Video Recognition" (ICCV 2019), table 1. R(2+1)D: Tran et al. (CVPR 2018), with the bottlenecks
of pytorchvideo's ``create_r2plus1d``. Kernel lengths are those of the official checkpoints' configurations.
Shapes as in `extract.backbones.network`.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from extract.backbones.network import Bottleneck, Network, Triple, conv_norm
from extract.errors import UsageError

_EXPANSION = 4
_BETA = 8  # the fast pathway has an eighth of the slow one's channels
_DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
_LONGEST_TRACED = 257
_FAST_WIDTHS = tuple(w // _BETA for w in (64, 256, 512, 1024))

_Block = Callable[[int, int, int, Triple, int], Bottleneck]


def _bottleneck(width_in: int, inner: int, kernel_t: int, stride: Triple, dilation: int) -> Bottleneck:
    """kernel_t x 1 x 1, then 1 x 3 x 3 with the stride, then 1 x 1 x 1."""
    b = conv_norm(inner, inner, (1, 3, 3), stride=stride, dilation=(1, dilation, dilation), then=nn.ReLU())
    return _block(width_in, inner, kernel_t, stride, b)


def _factorised(width_in: int, inner: int, kernel_t: int, stride: Triple, dilation: int) -> Bottleneck:
    """1 x 1 x 1, then kernel_t x 1 x 1 (with the stride in time) and 1 x 3 x 3, then 1 x 1 x 1."""
    time = conv_norm(inner, inner, (kernel_t, 1, 1), stride=(stride[0], 1, 1), then=nn.ReLU())
    space_stride, space_dilation = (1, *stride[1:]), (1, dilation, dilation)
    space = conv_norm(inner, inner, (1, 3, 3), stride=space_stride, dilation=space_dilation, then=nn.ReLU())
    return _block(width_in, inner, 1, stride, nn.Sequential(OrderedDict(time=time, space=space)))


def _block(width_in: int, inner: int, kernel_t: int, stride: Triple, b: nn.Module) -> Bottleneck:
    width = _EXPANSION * inner
    same = width_in == width and stride == (1, 1, 1)
    return Bottleneck(
        conv_norm(width_in, inner, (kernel_t, 1, 1), then=nn.ReLU()),
        b,
        conv_norm(inner, width, (1, 1, 1)),
        nn.Identity() if same else conv_norm(width_in, width, (1, 1, 1), stride=stride),
    )


def _stage(
    block: _Block, width_in: int, inner: int, kernels_t: Sequence[int], stride: Triple, dilation: int
) -> nn.Sequential:
    first = block(width_in, inner, kernels_t[0], stride, dilation)
    rest = [block(_EXPANSION * inner, inner, k, (1, 1, 1), dilation) for k in kernels_t[1:]]
    return nn.Sequential(first, *rest)


def _stem(width: int, kernel_t: int, *, pool: bool = True) -> nn.Sequential:
    stem = conv_norm(3, width, (kernel_t, 7, 7), stride=(1, 2, 2), then=nn.ReLU())
    if pool:
        stem.add_module("pool", nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)))
    return stem


def _pathway(
    stem: nn.Sequential,
    kernels_t: Sequence[Sequence[int]],
    *,
    block: _Block = _bottleneck,
    width: int = 64,
    fused: Sequence[int] = (0, 0, 0, 0),
    strides: Sequence[Triple] = ((1, 1, 1), (1, 2, 2), (1, 2, 2), (1, 2, 2)),
    pool_frames: int = 1,
    dilation: int = 1,
) -> nn.Sequential:
    """Stem and stages res2 to res5. ``fused``: channels that are joined to each stage's input besides its own."""
    parts: dict[str, nn.Module] = {"stem": stem}
    for k, (kernels, stride) in enumerate(zip(kernels_t, strides, strict=True)):
        width_in = (width if k == 0 else _EXPANSION * width * 2 ** (k - 1)) + fused[k]
        parts[f"res{k + 2}"] = _stage(block, width_in, width * 2**k, kernels, stride, dilation if k == 3 else 1)
        if k == 0 and pool_frames > 1:
            parts["pool2"] = nn.MaxPool3d((pool_frames, 1, 1), (pool_frames, 1, 1))
    return nn.Sequential(OrderedDict(parts))


def _kernels(*lengths: int, depth: int = 50) -> list[list[int]]:
    """The same temporal kernel in every block of a stage."""
    return [[k] * blocks for k, blocks in zip(lengths, _DEPTHS[depth], strict=True)]


class SinglePathway(Network):
    """One stack of residual stages, a pooling window, a linear layer."""

    def __init__(self, pathway: nn.Sequential, window: Triple, classes: int, width: int = 2048) -> None:
        super().__init__()
        self.body, self.window = pathway, window
        self.classifier = nn.Linear(width, classes)

    def maps(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, 2048, T', H/32, W/32); H/16, W/16 in detection forms."""
        maps: Tensor = self.body(clips)
        return maps


class SlowFast(Network):
    """A slow pathway on every alpha-th frame, a thin fast one on all, and lateral connections from fast to slow.

    Args:
        slow: its stages, in order; each but the first takes twice the fast pathway's channels besides its own.
        fast: stages of the same names.
        alpha: see above.
        lateral_kernel_t: length of the lateral connections' kernels.
        frames: of the slow pathway's pooling window; None for the mean of all.
        classes: outputs.
        fast_widths: channels of the fast pathway's stages but the last.
        width: D, of both pathways' last stages together.
    """

    def __init__(
        self,
        slow: nn.Sequential,
        fast: nn.Sequential,
        *,
        alpha: int,
        lateral_kernel_t: int,
        frames: int | None,
        classes: int,
        fast_widths: Sequence[int] = _FAST_WIDTHS,
        width: int = 2048 + 2048 // _BETA,
    ) -> None:
        super().__init__()
        self.slow, self.fast, self.alpha = slow, fast, alpha
        self.window = None if frames is None else (frames, 7, 7)
        for length in range(alpha, _LONGEST_TRACED, alpha):
            slow_frames(length, alpha)  # computed before a tracer looks on, which would compute it its own way
        self.lateral = nn.ModuleDict(
            {
                stage: conv_norm(
                    width,
                    2 * width,
                    (lateral_kernel_t, 1, 1),
                    stride=(alpha, 1, 1),
                    then=nn.ReLU(),
                )
                for stage, width in zip(list(slow._modules)[:-1], fast_widths, strict=True)
            }
        )
        self.classifier = nn.Linear(width, classes)

    def maps(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W), the fast pathway's frames -> (B, 2304, T / alpha, H', W').

        The slow pathway's 2048 channels first; then the fast one's 256, averaged over every alpha frames, so that
        both lie on one grid and the mean over it is the reference's.
        """
        frames = clips.shape[2]
        if frames % self.alpha:
            raise UsageError(f"clips have {frames} frames; SlowFast expected a multiple of alpha = {self.alpha}")
        slow, fast = clips[:, :, slow_frames(frames, self.alpha)], clips
        for stage in self.slow._modules:
            slow, fast = self.slow.get_submodule(stage)(slow), self.fast.get_submodule(stage)(fast)
            if stage in self.lateral:
                slow = torch.cat([slow, self.lateral[stage](fast)], 1)
        return torch.cat([slow, functional.avg_pool3d(fast, (self.alpha, 1, 1))], 1)


@cache
def slow_frames(frames: int, alpha: int) -> list[int]:
    """Which of ``frames`` the slow pathway sees: frames // alpha of them, the first and the last included.

    PySlowFast ``datasets/utils.py`` pack_pathway_output: float32 linspace, truncated; 0 4 8 13 17 22 26 31 of 32.
    """
    return [int(k) for k in torch.linspace(0, frames - 1, frames // alpha, device="cpu").tolist()]


def c2d(classes: int = 400) -> SinglePathway:
    """ResNet-50 on every frame, with a maximum over pairs of frames after res2."""
    return SinglePathway(_pathway(_stem(64, 1), _kernels(1, 1, 1, 1), pool_frames=2), (4, 7, 7), classes)


def i3d(classes: int = 400) -> SinglePathway:
    """ResNet-50 with every second kernel inflated to 3 x 1 x 1, and C2D's maximum over time."""
    kernels_t = [[3, 3, 3], [3, 1, 3, 1], [3, 1, 3, 1, 3, 1], [1, 3, 1]]
    return SinglePathway(_pathway(_stem(64, 5), kernels_t, pool_frames=2), (4, 7, 7), classes)


def slow(frames: int, classes: int = 400) -> SinglePathway:
    """The slow pathway alone: temporal kernels in res4 and res5 only."""
    return SinglePathway(_pathway(_stem(64, 1), _kernels(1, 1, 3, 3)), (frames, 7, 7), classes)


def slow_detection(classes: int = 80) -> SinglePathway:
    """Slow with res5 dilated instead of strided, for boxes."""
    body = _pathway(_stem(64, 1), _kernels(1, 1, 3, 3), strides=_DILATED, dilation=2)
    return SinglePathway(body, (4, 14, 14), classes)


_DILATED = ((1, 1, 1), (1, 2, 2), (1, 2, 2), (1, 1, 1))


def r2plus1d(classes: int = 400) -> SinglePathway:
    """R(2+1)D with ResNet-50's bottlenecks: no pooling in the stem, temporal strides in res4 and res5."""
    body = _pathway(
        _stem(64, 1, pool=False),
        _kernels(3, 3, 3, 3),
        block=_factorised,
        strides=((1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2)),
    )
    return SinglePathway(body, (4, 7, 7), classes)


def slowfast(
    *,
    depth: int = 50,
    frames: int = 8,
    alpha: int = 4,
    lateral_kernel_t: int = 5,
    temporal_res4: int | None = None,
    detection: bool = False,
    classes: int = 400,
) -> SlowFast:
    """SlowFast R50 or R101.

    ``frames``: of the slow pathway's pooling window. ``temporal_res4``: how many blocks of res4 have a temporal kernel;
    None for all.
    """

    def kernels_t(res2: int, res3: int) -> list[list[int]]:
        kernels = _kernels(res2, res3, 3, 3, depth=depth)
        if temporal_res4 is not None:
            kernels[2] = [3 if k < temporal_res4 else 1 for k in range(len(kernels[2]))]
        return kernels

    strides, dilation = (_DILATED, 2) if detection else (((1, 1, 1), *_DILATED[1:3], (1, 2, 2)), 1)
    fused = [2 * width for width in _FAST_WIDTHS]
    slow_path = _pathway(_stem(64, 1), kernels_t(1, 1), fused=fused, strides=strides, dilation=dilation)
    fast_path = _pathway(_stem(8, 5), kernels_t(3, 3), width=8, strides=strides, dilation=dilation)
    return SlowFast(
        slow_path,
        fast_path,
        alpha=alpha,
        lateral_kernel_t=lateral_kernel_t,
        frames=frames,
        classes=classes,
    )
