"""Settings of a training run."""

import difflib
from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from extract.errors import UsageError

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class TrainSettings(BaseModel):
    """How a head is trained; written beside the result. The defaults serve every head and task.

    ``warmup`` is the share of all iterations with a rising learning rate, ``clip_norm`` the largest gradient
    norm, ``time_scale`` the largest speed-up and slow-down of a training sequence (1 for none), ``splice``
    how often a training video of ``classify`` gets the ending of another of its class. ``hidden``, ``components``,
    ``clusters``, ``layers``, ``window`` and ``causal`` are of the heads that have them (``seqmodels.HeadSpec``).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: Positive = 60
    batch: Positive = 8
    lr: Annotated[float, Field(gt=0)] = 0.01
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup: Fraction = 0.1
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    hidden: Positive = 64
    components: Positive = 16
    clusters: Positive = 16
    layers: Positive = 2
    window: Annotated[int, Field(ge=0)] = 0
    causal: bool = False
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    time_scale: Annotated[float, Field(ge=1)] = 1.3
    splice: Fraction = 0.7


def settings_from(assignments: Sequence[str]) -> TrainSettings:
    """Settings from ``key=value`` texts, as ``--set`` takes them.

    Raises:
        UsageError: a text without ``=``, an unknown key (names the nearest one), or a value that cannot be.
    """
    return checked_settings(dict(map(_split, assignments)))


def checked_settings(values: dict[str, object]) -> TrainSettings:
    """Settings from a mapping; keys that are not given keep their defaults.

    Raises:
        UsageError: an unknown key (names the nearest one) or a value that cannot be.
    """
    for key in values:
        if key not in TrainSettings.model_fields:
            raise UsageError(f"no setting is named {key!r}; {_suggestion(key)}")
    try:
        return TrainSettings.model_validate(values)
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


def _suggestion(key: str) -> str:
    known = list(TrainSettings.model_fields)
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
