"""What is known of a backbone: its clips, and where its weights come from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from extract.backbones.network import Network, Triple
from extract.flow import FlowSettings

Colours = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class ClipDefaults:
    """What a backbone's clips are, unless the user asks otherwise. Rates in samples per second, sizes in pixels.

    ``mean`` and ``std`` are of pixels in 0..1, per channel in the order of ``colour``.
    """

    clip_frames: int
    frame_stride: int
    hop: int
    fps: float | Literal["native"]
    short_side_px: int
    crop_px: int
    mean: Colours
    std: Colours
    colour: Literal["rgb", "bgr"] = "rgb"


@dataclass(frozen=True, slots=True)
class BackboneSpec:
    """One backbone.

    Attributes:
        builds: what makes the network with random weights. More than one where official checkpoints differ
            in a detail that their tensors' names tell; the first is the default.
        feature_width: D.
        layer: what the features are.
        clips: the clips of its published test.
        licence: of the weights' repository.
        source: who trained the weights, and the paper.
        url: where ``pretrained`` weights come from; empty where there are none.
        sha256_prefix: what their sha256 begins with, where it was published.
        published: the accuracy that its authors report.
        parameters: trained numbers.
        gmac: 1e9 multiply-adds of one of its clips, without what is done for each box.
        presets: clips of published feature sets, by name.
        channels: of its clips: 3 colours, or 2 of optical flow.
        stride_px: pixels between neighbouring positions of its maps.
        detection: whether its features are of boxes; then ``aligned`` is RoIAlign's.
        aligned: see `extract.backbones.network.roi_features`.
        least: (frames, height, width) of the smallest clip that its layers can take.
        classes: names of the outputs, where they are known.
        flow: how the optical flow of its training was made, where its weights say so.
        embedded: whether its weights travel in the package.
    """

    builds: tuple[Callable[[], Network], ...]
    feature_width: int
    layer: str
    clips: ClipDefaults
    licence: str
    source: str
    url: str = ""
    sha256_prefix: str = ""
    published: str = ""
    parameters: int | None = None
    gmac: float | None = None
    presets: Mapping[str, ClipDefaults] = field(default_factory=lambda: MappingProxyType({}))
    channels: int = 3
    stride_px: int = 32
    detection: bool = False
    aligned: bool = False
    least: Triple = (1, 1, 1)
    classes: tuple[str, ...] = ()
    flow: FlowSettings | None = None
    embedded: bool = False

    def build(self) -> Network:
        """The network with random weights."""
        return self.builds[0]()

    @property
    def roi_aligned(self) -> bool:
        """RoIAlign's ``aligned`` for boxes: as the network was trained, or the later form where it saw none."""
        return self.aligned or not self.detection
