"""What a pretraining is told."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from extract.flow import Method
from pipelines.config import Positive, checked


def _number(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isdecimal() else value


class PretrainSettings(BaseModel):
    """Schedule, crops and test of a pretraining.

    Attributes:
        epochs: passes over the training clips.
        batch: clips in one.
        lr: the highest learning rate of AdamW; it rises over the first ``warmup`` of all steps, and falls on a cosine.
        weight_decay: of everything but biases and norms.
        warmup: see ``lr``.
        label_smoothing: of the cross-entropy (Szegedy et al., CVPR 2016, section 7).
        fps: samples per second; 0 is the backbone's own rate.
        short_side: of the frames that crops are taken from, in pixels; 0 is 8/7 of the crop, as 256 to 224.
        mirror: also show clips left to right, in half of all draws. Not for classes that know left from right.
        relight: also change contrast and brightness.
        test_clips: clips of each video, evenly over its length, whose probabilities the test averages.
        test_crops: crops of each of them: the middle, or 3 along the longer side.
        flow: method of optical flow, for networks that read it (`extract.flow`).
        flow_bound_px: motion that the flow's 8 bits end at, in pixels of the resized frame.
        examples: how many clips of made worlds to draw, where those are the source; a tenth as many are held out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: Positive = 20
    batch: Positive = 32
    lr: Annotated[float, Field(gt=0)] = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.12
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.05
    fps: Annotated[float, Field(ge=0)] = 0.0
    short_side: Annotated[int, Field(ge=0)] = 0
    mirror: bool = False
    relight: bool = True
    test_clips: Positive = 5
    test_crops: Annotated[Literal[1, 3], BeforeValidator(_number)] = 1
    flow: Method = "dis"
    flow_bound_px: Annotated[float, Field(gt=0)] = 20.0
    examples: Positive = 16_000


def pretrain_settings(values: Mapping[str, object]) -> PretrainSettings:
    """Settings from a mapping of texts or values. Raises UsageError for a key or value that cannot be."""
    return checked(PretrainSettings, values)
