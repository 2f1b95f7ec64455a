"""Settings of a training run."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from extract.errors import UsageError

Model = TypeVar("Model", bound=BaseModel)
Positive = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


def check_seed(seed: int) -> None:
    """Raises UsageError for what torch cannot take."""
    if not 0 <= seed < 2**63:
        raise UsageError(f"seed is {seed}; expected 0 or more, and below 2**63")


class TrainSettings(BaseModel):
    """How a head is trained; written beside the result. `HEAD_SETTINGS` has what single heads do otherwise by default.

    Of the loop: ``iterations`` is the least number of batches, for which few videos are shown in more than ``epochs``
    epochs, ``warmup`` is the share of all iterations with a rising learning rate, ``clip_norm`` the largest
    gradient norm, ``ema`` the decay of the running mean of the weights that is kept in their place (0: the weights
    themselves), ``patience`` the number of epochs without a better official figure on the validation subset after which
    the training ends with the best weights (0: it goes to its end, and nothing is chosen by these labels), ``bf16``
    whether matrix products are of that type.

    Of the data: ``step_s`` is the grid, in seconds, that features are resampled to (0: as they are stored),
    ``max_steps`` the longest window of a sequence that is learnt from at once (not of ``classify``), ``time_scale`` the
    largest speed-up and slow-down of a sequence (1: none), ``splice`` how often a video of ``classify`` gets the ending
    of another of its class, ``balanced`` whether classes of ``classify`` are shown equally often.

    Of ``detect``: ``exclusive`` says which classes exclude each other (AVA's poses, all, or none), ``bank_s`` is the
    length of the window that a box's feature bank reaches over, in seconds.

    ``smoothing`` is the weight of the loss on unsteady labels of steps, ``c`` scikit-learn's C. The others are sizes of
    the heads that have them (``seqmodels.HeadSpec``).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: Positive = 60
    batch: Positive = 8
    iterations: Natural = 0
    lr: Annotated[float, Field(gt=0)] = 0.01
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup: Fraction = 0.1
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    patience: Natural = 0
    bf16: bool = False
    hidden: Positive = 64
    components: Positive = 16
    clusters: Positive = 16
    layers: Positive = 2
    window: Natural = 0
    causal: bool = False
    both_ways: bool = False
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    expected: Annotated[float, Field(gt=0)] = 100.0
    smoothing: Annotated[float, Field(ge=0)] = 0.0
    c: Annotated[float, Field(gt=0)] = 0.01
    exclusive: Literal["poses", "all", "none"] = "poses"
    bank_s: Annotated[float, Field(ge=0)] = 60.0
    step_s: Annotated[float, Field(ge=0)] = 0.0
    max_steps: Positive = 2304
    time_scale: Annotated[float, Field(ge=1)] = 1.3
    splice: Fraction = 0.7
    balanced: bool = False


_SEGMENTS: dict[str, object] = {
    "epochs": 30,
    "iterations": 300,
    "batch": 4,
    "lr": 0.001,
    "weight_decay": 0.05,
    "warmup": 0.15,
    "ema": 0.99,
    "hidden": 128,
    "dropout": 0.1,
    "expected": 20,
}
_BOXES: dict[str, object] = {"epochs": 30, "batch": 64, "lr": 0.0005, "hidden": 128}
HEAD_SETTINGS: dict[str, dict[str, object]] = {
    "ms-tcn": {"lr": 0.005, "batch": 4},
    "actionformer": _SEGMENTS,
    "temporalmaxer": _SEGMENTS,
    "proposals": _SEGMENTS,
    "watershed": {"lr": 0.005, "batch": 4},
    "bank-none": {**_BOXES, "bank_s": 0.0},
    "bank-mean": _BOXES,
    "bank-max": _BOXES,
    "bank-nonlocal": _BOXES,
}
"""Defaults of single heads; the papers' own are in docs/heads.md."""


def settings_from(assignments: Sequence[str], head: str = "") -> TrainSettings:
    """Settings of ``head`` from ``key=value`` texts, as ``--set`` takes them.

    Raises:
        UsageError: a text without ``=``, an unknown key (names the nearest one), or a value that cannot be.
    """
    return checked_settings(assigned(assignments), head)


def assigned(assignments: Sequence[str]) -> dict[str, object]:
    """Values by their names, from ``key=value`` texts. Raises UsageError for a text without ``=``."""
    return dict(map(_split, assignments))


def checked_settings(values: Mapping[str, object], head: str = "") -> TrainSettings:
    """Settings of ``head`` from a mapping; keys that are not given keep their defaults.

    Raises:
        UsageError: an unknown key (names the nearest one) or a value that cannot be.
    """
    return checked(TrainSettings, values, HEAD_SETTINGS.get(head, {}))


def checked(model: type[Model], values: Mapping[str, object], defaults: Mapping[str, object] | None = None) -> Model:
    """The settings ``model`` with ``values``, else ``defaults``, else its own. Errors as `checked_settings`."""
    for key in values:
        if key not in model.model_fields:
            raise UsageError(f"no setting is named {key!r}; {_suggestion(key, list(model.model_fields))}")
    try:
        return model.model_validate({**(defaults or {}), **values})
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"setting {first['loc'][0]} is {first['input']!r}; expected: {first['msg'].lower()}"
        ) from error


def _split(assignment: str) -> tuple[str, object]:
    key, equals, value = assignment.partition("=")
    if not equals:
        raise UsageError(f"setting {assignment!r} has no '='; expected key=value, such as epochs=100")
    return key.strip(), value.strip()


def _suggestion(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
