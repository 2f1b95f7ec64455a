"""Clip models made from any image network, by name: ``FAMILY:TRUNK[:TxS][:flow]``.

``TRUNK`` is one of torchvision's image networks, or `extract.backbones.trunks.OWN`. ``TxS`` is the clip: T frames of
S x S pixels, which late and early fusion cannot change afterwards. ``flow`` makes it a network of optical flow, of two
channels.
They have no official weights: `untrimmed pretrain` makes them, from nothing or from an image network's weights, which
every family takes over.
"""

import copy
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import torch
from torch import Tensor, nn

from extract.backbones.attention import Instantiation, insert_nonlocal
from extract.backbones.fusion import EarlyFusion, LateFusion, SlowFusion, first_conv, in_three_dimensions, with_channels
from extract.backbones.images import ImageNetwork, inflate
from extract.backbones.network import Network, conv_norm, empty
from extract.backbones.recurrent import Cell, LSTMNetwork, RecurrentConvNetwork
from extract.backbones.residual import SlowFast
from extract.backbones.spec import BackboneSpec, ClipDefaults, Colours
from extract.backbones.trunks import OWN, trunk_builder
from extract.errors import UsageError

Clip = tuple[int, int, int, int]  # C, T, H, W
FRAMES = 16
FPS = 10.0
_USUAL_STRIDE_PX = 32
SIDE_PX = 64  # of this project's own trunks
_SIZE = re.compile(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})")
_GREY: tuple[Colours, Colours] = ((0.45,) * 3, (0.225,) * 3)
_FLOW: tuple[Colours, Colours] = ((0.5,) * 3, (0.5,) * 3)


@dataclass(frozen=True, slots=True)
class Family:
    """One way to make an image network see time.

    Attributes:
        make: takes a trunk over, (B, C, H, W) -> (B, K), and makes the network for clips of one size.
        layer: what its features are.
    """

    make: Callable[[nn.Module, Clip], Network]
    layer: str


def _inflated(trunk: nn.Module, clip: Clip) -> Network:
    return inflate(with_channels(trunk, clip[0]))


def _early(trunk: nn.Module, clip: Clip) -> Network:
    return EarlyFusion(with_channels(trunk, clip[0], clip[1]))


def _late(trunk: nn.Module, clip: Clip) -> Network:
    return LateFusion(with_channels(trunk, clip[0]), clip)


def _frames(trunk: nn.Module, clip: Clip) -> Network:
    return ImageNetwork(with_channels(trunk, clip[0]))


def _slow(trunk: nn.Module, clip: Clip) -> Network:
    return SlowFusion(in_three_dimensions(with_channels(trunk, clip[0]), clip))


def _c3d(trunk: nn.Module, clip: Clip) -> Network:
    return SlowFusion(in_three_dimensions(with_channels(trunk, clip[0]), clip, first_pool_t=False))


def _nonlocal(instantiation: Instantiation) -> Callable[[nn.Module, Clip], Network]:
    def make(trunk: nn.Module, clip: Clip) -> Network:
        network = _slow(trunk, clip)
        insert_nonlocal(network, _middle(network, clip), channels=clip[0], instantiation=instantiation)
        return network

    return make


def _lstm(trunk: nn.Module, clip: Clip) -> Network:
    return LSTMNetwork(with_channels(trunk, clip[0]))


def _recurrent(cell: Cell) -> Callable[[nn.Module, Clip], Network]:
    return lambda trunk, clip: RecurrentConvNetwork(with_channels(trunk, clip[0]), clip, cell=cell)


def _slowfast(trunk: nn.Module, clip: Clip) -> Network:
    """Widths of the trunk's stages and a quarter of them; alpha 4. The trunk's weights are not taken over."""
    stages = [stage for stage in trunk.children() if isinstance(stage, nn.Sequential)] if _is_own(trunk) else []
    if not stages:
        raise UsageError(
            f"slowfast takes this project's own networks ({', '.join(OWN)}), not {type(trunk).__name__}; "
            "for a larger one take slowfast_r50_8x8"
        )
    widths = [conv.out_channels for stage in stages for conv in stage if isinstance(conv, nn.Conv2d)]
    thin = [width // 4 for width in widths]
    slow_t = [1] * (len(widths) // 2) + [3] * (len(widths) - len(widths) // 2)
    return SlowFast(
        _pathway(clip[0], widths, slow_t, fused=[0, *(2 * width for width in thin[:-1])]),
        _pathway(clip[0], thin, [3] * len(widths), fused=[0] * len(widths)),
        alpha=4,
        lateral_kernel_t=5,
        frames=None,
        classes=1000,
        fast_widths=thin[:-1],
        width=widths[-1] + thin[-1],
    )


def _is_own(trunk: nn.Module) -> bool:
    return isinstance(trunk, nn.Sequential)  # torchvision's are classes of their own


def _pathway(channels: int, widths: Sequence[int], kernels_t: Sequence[int], *, fused: Sequence[int]) -> nn.Sequential:
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    for at, (width_in, width) in enumerate(zip((channels, *widths), widths, strict=False)):
        stage = conv_norm(width_in + fused[at], width, (kernels_t[at], 3, 3), then=nn.ReLU())
        stage.add_module("pool", nn.MaxPool3d((1, 2, 2), (1, 2, 2)))
        stages[f"stage{at + 1}"] = stage
    return nn.Sequential(stages)


_ROWS = "input of the last linear layer"
FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "frames": Family(_frames, f"{_ROWS}, mean over the clip's frames"),
        "late": Family(_late, "hidden layer over the maps of all frames, after its ReLU"),
        "early": Family(_early, _ROWS),
        "slow": Family(_slow, _ROWS),
        "c3d": Family(_c3d, _ROWS),
        "inflated": Family(_inflated, f"{_ROWS}, mean over the clip's frames"),
        "nonlocal": Family(_nonlocal("softmax"), _ROWS),
        "nonlocal-dot": Family(_nonlocal("dot_product"), _ROWS),
        "lstm": Family(_lstm, "state of the LSTM after the last frame"),
        "rcn": Family(
            _recurrent("tanh"), "state of the recurrent convolutions after the last frame, mean over positions"
        ),
        "rcn-gru": Family(_recurrent("gru"), "as rcn, with gated recurrent units"),
        "rcn-lstm": Family(_recurrent("lstm"), "as rcn, with LSTM cells"),
        "slowfast": Family(_slowfast, "mean of the last maps of both pathways"),
    }
)
"""What each does is told in docs/clip-models.md."""


def is_family(name: str) -> bool:
    """Whether ``name`` is written as a clip model of a family."""
    return name.partition(":")[0] in FAMILIES


@lru_cache(maxsize=64)
def family_spec(name: str) -> BackboneSpec:
    """The description of ``FAMILY:TRUNK[:TxS][:flow]``.

    Raises:
        UsageError: an unknown family or trunk, or another ending.
    """
    family, trunk, clip, clips = _read(name)
    make = FAMILIES[family].make
    build_trunk = trunk_builder(trunk)

    def build() -> Network:
        return fresh(make(build_trunk(), clip))

    try:
        network = empty(build).eval()
        stride_px = _stride_px(network, clip)
    except (RuntimeError, AssertionError) as error:  # each layer says so in its own way
        raise UsageError(
            f"{name}: {trunk} cannot take clips of {clip[1]} frames of {clip[3]} px ({str(error).splitlines()[0]}); "
            f"expected larger ones, such as {family}:{trunk}:{FRAMES}x{_image_input(trunk)[0]}"
        ) from error
    return BackboneSpec(
        builds=(build,),
        feature_width=network.classifier.in_features,  # type: ignore[arg-type]
        layer=FAMILIES[family].layer,
        clips=clips,
        licence="that of your videos",
        source="without official weights; train it with `untrimmed pretrain`",
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        channels=clip[0],
        stride_px=stride_px,
    )


def _stride_px(network: Network, clip: Clip) -> int:
    """Pixels between positions of the maps; the usual 32 where maps are not known, or do not divide the picture."""
    try:
        maps = network.maps(torch.empty(1, *clip, device="meta"))
    except UsageError:
        return _USUAL_STRIDE_PX
    return _USUAL_STRIDE_PX if clip[3] % maps.shape[4] else clip[3] // maps.shape[4]


def from_trunk(name: str, trunk: nn.Module) -> Network:
    """The network ``name`` with the weights of ``trunk``, an image network (B, 3, H, W) -> (B, K), as its beginning.

    Convolutions that see time begin as `inflated` ones; what the trunk does not have stays random.

    Raises:
        UsageError: as `family_spec`; or a family that takes no weights over.
    """
    family, _, clip, _ = _read(name)
    if family == "slowfast":
        raise UsageError("slowfast has other layers than an image network, and cannot begin with its weights")
    return FAMILIES[family].make(copy.deepcopy(trunk), clip)


def trunk_of(name: str) -> str:
    """The image network that clip model ``name`` is made from. Raises UsageError as `family_spec`."""
    return _read(name)[1]


def fresh(network: Network) -> Network:
    """``network``, in place, with random convolutions over time: repeated kernels would be blind to it at first."""
    for module in network.modules():
        if not isinstance(module, nn.Conv2d | nn.Conv3d):
            continue
        over_time = isinstance(module, nn.Conv3d) and module.kernel_size[0] > 1
        if over_time or (isinstance(network, EarlyFusion) and module is first_conv(network)):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


def _read(name: str) -> tuple[str, str, Clip, ClipDefaults]:
    family, trunk, *rest = (*name.split(":"), "")[: max(2, name.count(":") + 1)]
    if family not in FAMILIES:
        raise UsageError(f"no family of clip models called {family!r}; there are {', '.join(FAMILIES)}")
    side_px, (mean, std), short_side_px = _image_input(trunk)
    frames, channels = FRAMES, 3
    if len({part == "flow" for part in rest}) < len(rest):
        raise UsageError(
            f"backbone {name!r} names a clip's size or flow twice; expected each once, as in early:small:16x64:flow"
        )
    for part in rest:
        if part == "flow":
            channels, (mean, std) = 2, _FLOW
        elif (size := _SIZE.fullmatch(part)) is not None:
            frames, short_side_px = int(size[1]), int(size[2]) * short_side_px // side_px
            side_px = int(size[2])
        else:
            raise UsageError(
                f"backbone {name!r} ends in {part!r}; expected FAMILY:TRUNK, then perhaps a clip's size such as 16x112 "
                "(frames x pixels), and flow"
            )
    clips = ClipDefaults(frames, 1, max(1, frames // 2), FPS, short_side_px, side_px, mean, std)
    return family, trunk, (channels, frames, side_px, side_px), clips


def _image_input(trunk: str) -> tuple[int, tuple[Colours, Colours], int]:
    """Crop, (mean, std) and short side of ``trunk``: of torchvision's tests, or of this project's own."""
    if trunk in OWN:
        return SIDE_PX, _GREY, SIDE_PX
    trunk_builder(trunk)  # says what is wrong with the name
    from torchvision.models import get_model_weights

    how = get_model_weights(trunk).DEFAULT.transforms()
    crop = how.crop_size[0]
    return crop, (tuple(how.mean), tuple(how.std)), min(how.resize_size) if how.resize_size else crop


def _middle(network: Network, clip: Clip) -> list[str]:
    """The last layers of two sizes of maps, those before the smallest: Wang et al.'s res3 and res4."""
    shadow = copy.deepcopy(network).to("meta").eval()
    sizes: dict[int, str] = {}

    def note(name: str, out: Tensor) -> None:
        if out.ndim == 5 and out.shape[4] > 1:
            sizes[out.shape[4]] = name

    body = shadow.get_submodule("body")
    stages = list(body.named_children())
    if "features" in dict(stages):  # torchvision's VGG and its kin
        stages = [(f"features.{name}", module) for name, module in body.get_submodule("features").named_children()]
    for name, module in stages:
        module.register_forward_hook(lambda _m, _i, out, name=f"body.{name}": note(name, out))
    shadow.maps(torch.empty(1, *clip, device="meta"))
    found = [name for _, name in sorted(sizes.items(), reverse=True)][-3:-1]
    if not found:
        raise UsageError(
            f"non-local blocks stand between layers of different sizes of maps, and {type(body).__name__} has one size "
            "alone, or no layers that are known; take a network such as small or resnet18"
        )
    return found
