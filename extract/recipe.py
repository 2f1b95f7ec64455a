"""The recipe: everything that changes a feature, as canonical JSON with a digest.

Engine, device, decoder and library versions do not belong here: they are provenance, recorded per video.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from extract.flow import FlowSettings

FORMAT_VERSION = 1
OWN_FEATURES = "features"  # in place of a layer's name: the input of the backbone's last linear layer

Positive = Annotated[int, Field(ge=1)]
Colours = tuple[float, float, float] | tuple[float, float]  # per channel: of colours, or of flow


class RoiPooling(BaseModel):
    """How features of boxes are read from a clip's maps: mean over time, RoIAlign to ``bins`` x ``bins``, maximum.

    A box is read from the clip whose middle lies nearest to its second; of two, the earlier one. ``stride_px``: pixels
    between positions of the maps; ``aligned``: as `extract.backbones.network.roi_features` has it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    clip: Literal["nearest-middle"] = "nearest-middle"
    time: Literal["mean"] = "mean"
    bins: Literal[7] = 7
    stride_px: Positive
    aligned: bool
    space: Literal["max"] = "max"


class Recipe(BaseModel):
    """What a feature is made with. ``fps`` is samples per second, or ``"native"`` for every decoded frame.

    ``layer``: a module's name, or `OWN_FEATURES`; ``pooling`` "network" is the backbone's own, as published.
    ``short_side_px``: the shorter display side after resizing; ``crop_px``: side of the centre crop, None for whole
    frames. ``mean`` and ``std`` are in units of the 0..1 pixel range, in the order of ``colour``. With ``roi``, and
    ``pooling`` "roi", features are of boxes and not of clips; without, the recipe's JSON has no such key.
    ``flow``: clips are of optical flow, to the right and down, and ``mean`` and ``std`` have two values; without, of
    RGB frames.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int = FORMAT_VERSION
    backbone: str
    weights_sha256: str
    layer: str
    feature_width: Positive
    clip_frames: Positive
    frame_stride: Positive
    hop: Positive
    fps: Annotated[float, Field(gt=0)] | Literal["native"]
    short_side_px: Positive
    crop_px: Positive | None
    resize_kernel: str
    tail: Literal["pad-last-frame"] = "pad-last-frame"
    colour: Literal["rgb", "bgr"] = "rgb"
    mean: Colours
    std: Colours
    precision: Literal["fp32", "bf16", "fp16"]
    pooling: Literal["global-mean", "network", "roi"] = "global-mean"
    roi: RoiPooling | None = None
    flow: FlowSettings | None = None
    stored_dtype: Literal["float16", "float32"] = "float16"

    @model_validator(mode="after")
    def _one_value_a_channel(self) -> "Recipe":
        channels = 3 if self.flow is None else 2
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != channels:
                what = "RGB" if self.flow is None else "optical flow"
                raise ValueError(f"{name} has {len(values)} values; clips of {what} need {channels}")
        return self

    def as_dict(self) -> dict[str, object]:
        """The recipe as plain JSON values."""
        values = self.model_dump(mode="json")
        return values if self.roi is not None else {key: value for key, value in values.items() if key != "roi"}


def digest(recipe: Mapping[str, object]) -> str:
    """Hexadecimal sha256 of the canonical JSON (sorted keys, no spaces) of ``recipe``."""
    text = json.dumps(recipe, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def difference(
    theirs: Mapping[str, object],
    ours: Mapping[str, object],
    *,
    where: str = "in the store",
    whose: str = "asked for",
) -> list[str]:
    """Lines ``key: THEIRS where, OURS whose`` for each key whose value differs; empty when equal."""
    keys = sorted({*theirs, *ours})
    return [
        f"{key}: {theirs.get(key, 'nothing')!r} {where}, {ours.get(key, 'nothing')!r} {whose}"
        for key in keys
        if theirs.get(key) != ours.get(key)
    ]
