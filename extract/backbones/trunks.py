"""Image networks that clip models are made from: torchvision's, and two small ones of this project.

Shapes as in `extract.backbones.network`.
"""

import difflib
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from torch import nn

from extract.errors import UsageError

SMALL_WIDTHS = (16, 32, 64, 128)


def plain(widths: Sequence[int], *, pool: int, norm: bool, last_pool: bool, classes: int) -> nn.Module:
    """Stages of one 3 x 3 convolution and a maximum over ``pool`` x ``pool``; mean of the last maps; a linear layer.

    Args:
        widths: channels of each stage.
        pool: window and stride of the maximum.
        norm: whether BatchNorm follows each convolution.
        last_pool: whether a maximum follows the last stage too.
        classes: outputs.
    """
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    for at, (width_in, width) in enumerate(zip((3, *widths), widths, strict=False), 1):
        stage: OrderedDict[str, nn.Module] = OrderedDict(conv=nn.Conv2d(width_in, width, 3, padding=1, bias=not norm))
        if norm:
            stage["norm"] = nn.BatchNorm2d(width)
        stage["then"] = nn.ReLU()
        if at < len(widths) or last_pool:
            stage["pool"] = nn.MaxPool2d(pool, pool)
        parts[f"stage{at}"] = nn.Sequential(stage)
    ends = OrderedDict(avgpool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=nn.Linear(widths[-1], classes))
    return nn.Sequential(parts | ends)


OWN: Mapping[str, Callable[[], nn.Module]] = MappingProxyType(
    {
        "small": lambda: plain(SMALL_WIDTHS, pool=2, norm=True, last_pool=True, classes=1000),
        # The example of J. Johnson's lecture on video (EECS 498-007, Michigan 2020, lecture 18), on 3 x 20 x 64 x 64.
        "lecture": lambda: plain((12, 24), pool=4, norm=False, last_pool=False, classes=1000),
    }
)


def trunk_builder(name: str) -> Callable[[], nn.Module]:
    """What builds image network ``name``, (B, 3, H, W) -> (B, K).

    Its weights are random, and heads that only training uses are left out.

    Raises:
        UsageError: no such network; names the nearest.
    """
    if name in OWN:
        return OWN[name]
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        near = difflib.get_close_matches(name, [*OWN, *known], n=1)
        hint = f"did you mean frames:{near[0]}?" if near else f"there are {', '.join(known[:8])} …"
        raise UsageError(f"torchvision has no image network {name!r}; {hint}")

    def build() -> nn.Module:
        options: dict[str, Any] = {}
        if name in ("googlenet", "inception_v3"):
            options = {"transform_input": True, "init_weights": True, "aux_logits": False}
        elif name.startswith("vit_"):  # its positions are of one size, that of its weights
            options = {"image_size": models.get_model_weights(name).DEFAULT.meta["min_size"][0]}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # how it initialises is about to change: no matter here
            network: nn.Module = models.get_model(name, weights=None, **options)
            return network

    return build
