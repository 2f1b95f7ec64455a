"""Image networks on video: frame by frame, and inflated to three dimensions.

Frames are folded into the batch, so that all of an image network works as it is, whatever operators it has; inflated
convolutions alone see time. Shapes as in `extract.backbones.network`.
"""

import copy
from collections.abc import Sequence
from threading import get_ident

import torch
from torch import Tensor, nn
from torch.nn import functional

from extract.backbones.network import Network, traced
from extract.errors import UsageError


class ImageNetwork(Network):
    """A 2D network on every frame, features averaged over time before its last linear layer.

    Args:
        network: an image classifier (B, 3, H, W) -> (B, K) whose last layer is linear. It is taken over, and changed.

    Attributes:
        row_width: D of an image.
        classes: K.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        name, last = last_linear(network)
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, nn.Identity())
        self.body, self.classifier, self.last_layer = network, last, name
        self.row_width, self.classes = last.in_features, last.out_features

    def features(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) normalised -> (B, D), the mean over frames of the last layer's input."""
        return self.rows(clips).mean(1)

    def rows(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) normalised -> (B, T, D), the last layer's input of each frame."""
        rows: Tensor = self.body(self._folded(clips))
        return rows.reshape(clips.shape[0], -1, rows.shape[-1])

    def maps(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, D', T, H', W'), what the network's ``avgpool`` takes.

        Raises:
            UsageError: the network has no layer of this name.
        """
        layer = getattr(self.body, "avgpool", None)
        if not isinstance(layer, nn.Module):
            raise UsageError(
                "this image network has no layer avgpool, so its maps are not known; name a --layer, or make the clip "
                "model from a network that has one, such as resnet18 or small"
            )
        seen: list[Tensor] = []
        thread = get_ident()

        def note(_module: nn.Module, given: tuple[Tensor, ...]) -> None:
            if traced() or get_ident() == thread:  # a pass in another thread has its own
                seen.append(given[0])

        hook = layer.register_forward_pre_hook(note)
        try:
            self.body(self._folded(clips))
        finally:
            hook.remove()
        return seen[0] if seen[0].ndim == 5 else _unfold(seen[0], len(seen[0]) // len(clips))

    def trunk_shape(self, clip: Sequence[int]) -> tuple[int, ...]:
        """(D', T, H', W') of the image network's maps of a clip (C, T, H, W); nothing is computed."""
        shadow = copy.deepcopy(self).to("meta").eval()
        return tuple(ImageNetwork.maps(shadow, torch.empty(1, *clip, device="meta")).shape[1:])

    def end_with_maps(self) -> None:
        """Leave out what follows the maps, where somebody else takes them."""
        names = list(self.body._modules)
        for name in names[names.index("avgpool") :] if "avgpool" in names else ():
            setattr(self.body, name, nn.Identity())

    def whole(self) -> nn.Module:
        """A copy of the image network as it was given, with its last layer in its place."""
        body = copy.deepcopy(self.body)
        parent, _, child = self.last_layer.rpartition(".")
        setattr(body.get_submodule(parent), child, copy.deepcopy(self.classifier))
        return body

    def _folded(self, clips: Tensor) -> Tensor:
        for module in self.body.modules():
            if isinstance(module, InflatedConv):
                module.frames = clips.shape[2]
        return _fold(clips)


def _fold(clips: Tensor) -> Tensor:
    """(B, C, T, H, W) -> (B T, C, H, W); without a copy in channels-last layout."""
    return clips.transpose(1, 2).flatten(0, 1)


def _unfold(frames: Tensor, length: int) -> Tensor:
    """(B T, C, H, W) -> (B, C, T, H, W)."""
    return frames.reshape(-1, length, *frames.shape[1:]).transpose(1, 2)


class InflatedConv(nn.Module):
    """A 2D convolution with its kernel repeated along time and divided by its length, on folded frames.

    The ends of a clip are continued by their own frames, so that a clip that does not move gives what the 2D
    convolution gives, at the ends too.

    Attributes:
        frames: how many frames each clip of the folded batch has; set by `ImageNetwork` before each pass.
    """

    def __init__(self, conv: nn.Conv2d, kernel_t: int) -> None:
        super().__init__()
        self.frames = 1
        weight = inflated_weight(conv, kernel_t)
        self.conv = nn.Conv3d(
            conv.in_channels,
            conv.out_channels,
            (kernel_t, *conv.kernel_size),  # type: ignore[arg-type]
            (1, *conv.stride),  # type: ignore[arg-type]
            (0, *_padding(conv)),  # type: ignore[arg-type]
            (1, *conv.dilation),  # type: ignore[arg-type]
            conv.groups,
            bias=conv.bias is not None,
            device=weight.device,
            dtype=weight.dtype,
        )
        self.conv.weight = nn.Parameter(weight, requires_grad=conv.weight.requires_grad)
        if conv.bias is not None:
            self.conv.bias = nn.Parameter(conv.bias.detach().clone(), requires_grad=conv.bias.requires_grad)

    def forward(self, x: Tensor) -> Tensor:
        """(B T, C, H, W) -> (B T, C', H', W')."""
        kernel_t = self.conv.kernel_size[0]
        clips = _unfold(x, self.frames)
        clips = functional.pad(clips, (0, 0, 0, 0, (kernel_t - 1) // 2, kernel_t // 2), mode="replicate")
        return _fold(self.conv(clips))


def inflated_weight(conv: nn.Conv2d, kernel_t: int) -> Tensor:
    """(C', C, H, W) -> (C', C, T, H, W): repeated along time and divided by its length."""
    return conv.weight.detach()[:, :, None].repeat(1, 1, kernel_t, 1, 1) / kernel_t


def _padding(conv: nn.Conv2d) -> tuple[int, ...]:
    if isinstance(conv.padding, str) or conv.padding_mode != "zeros":
        raise UsageError(f"a convolution padded by {conv.padding!r}, {conv.padding_mode} cannot be inflated")
    return conv.padding


def inflate(network_2d: nn.Module, *, kernel_t: int | None = None) -> ImageNetwork:
    """A 3D network from a 2D one: every convolution wider than 1 x 1 gets a kernel along time.

    Carreira and Zisserman (CVPR 2017), section 2.4: the kernel is repeated along time and divided by its length, so a
    clip of one repeated image gives what the image gives. ``network_2d`` itself is left as it is.

    Args:
        network_2d: any image classifier (B, 3, H, W) -> (B, K) that ends in a linear layer, such as torchvision's.
        kernel_t: length along time; by default each kernel's own height, as in I3D.

    Raises:
        UsageError: the network does not end in a linear layer, or a convolution is padded otherwise than by zeros.
    """
    network = copy.deepcopy(network_2d)
    convolutions = [(name, m) for name, m in network.named_modules() if isinstance(m, nn.Conv2d)]
    for name, conv in convolutions:
        if max(conv.kernel_size) > 1:
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, InflatedConv(conv, kernel_t or conv.kernel_size[0]))
    return ImageNetwork(network)


def last_linear(network: nn.Module) -> tuple[str, nn.Linear]:
    """Name and module of the last layer of an image classifier. Raises UsageError where it is not linear."""
    layers = [(name, module) for name, module in network.named_modules() if not list(module.children())]
    for name, module in reversed(layers):
        if isinstance(module, nn.Linear):
            return name, module
        if any(True for _ in module.parameters()):
            break
    raise UsageError(f"{type(network).__name__} does not end in a linear layer, so it has no features before one")
