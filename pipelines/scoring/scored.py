"""What a protocol makes of truth and predictions, and what it noticed on the way. V videos, R weightings of them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import InputError
from seqmodels.metrics.ranking import Ranking, Ties, mean_ap

Floats = NDArray[np.float64]
MATTERS = 1e-6  # figures are printed with four decimals


@dataclass(frozen=True, slots=True)
class Options:
    """What a protocol can be told.

    Attributes:
        subset: of the truth; None: the protocol's own.
        labels: list of classes: AVA's pbtxt, or names of class numbers.
        exclude: AVA's excluded frames.
        blocked: JSON list of videos that do not count.
        max_proposals: of a video, on average; None: all there are.
        kit: of THUMOS14: "11-point" or "hits" scores as its MATLAB kit does.
        distinct: count duplicated truth once, and truth of no length not at all (ActionFormer, OpenTAD).
        views: average the views of a video as "probabilities" or "scores".
        background: label of frames that are no action.
        inclusive: tubes as ACT's code compares them.
    """

    subset: str | None = None
    labels: Path | None = None
    exclude: Path | None = None
    blocked: Path | None = None
    max_proposals: float | None = 100
    kit: str | None = None
    distinct: bool = False
    views: str = "probabilities"
    background: str = "background"
    inclusive: bool = False


@dataclass(slots=True, eq=False)
class Scored:
    """Figures, and what is needed to say how sure they are.

    Attributes:
        metrics: by name; None where the protocol leaves it undefined.
        headline: the metric that is resampled.
        videos: those that are resampled, by id.
        resample: headline when video v counts ``weights[:, v]`` times: ``(R, V)`` -> ``(R,)``, NaN where undefined.
        per_threshold: the headline's parts.
        per_class: figures of each class.
        tied: least and greatest headline that the order of equal scores allows; None where that order is no matter.
        first: which of equal scores goes first.
        trouble: rows that were left out, or that are likely mistakes; errors when the user wants none.
        notes: other things worth knowing.
        details: more figures, of one protocol alone.
    """

    metrics: dict[str, float | None]
    headline: str
    videos: Sequence[str]
    resample: Callable[[Floats], Floats]
    per_threshold: dict[str, float | None] = field(default_factory=dict)
    per_class: dict[str, dict[str, Any]] = field(default_factory=dict)
    tied: tuple[float, float] | None = None
    first: str = "the first in the file"
    trouble: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    def report(self, protocol: str) -> dict[str, Any]:
        """As `untrimmed score --json` prints it."""
        undefined = [name for name, value in self.metrics.items() if value is None]
        notes = [*self.trouble, *self.notes]
        if undefined and not any("undefined" in note for note in notes):
            notes.append(f"{', '.join(undefined)}: undefined, there is nothing to find or nothing to score")
        result: dict[str, Any] = {
            "protocol": protocol,
            "metrics": self.metrics,
            "per_threshold": self.per_threshold,
            "per_class": self.per_class,
            "notes": notes,
        }
        if self.tied is not None:
            low, high = self.tied
            result["ties"] = {self.headline: [low, high]}
            notes.append(
                f"equal scores: {self.headline} is between {low:.6g} and {high:.6g}, by the order in which they are"
                f" taken; here {self.first} goes first"
            )
        return {**result, **self.details}


def value(number: float) -> float | None:
    """A figure for JSON: None where it is not finite."""
    return float(number) if np.isfinite(number) else None


def at(threshold: float) -> str:
    """A threshold as a key: "0.50"."""
    return f"{threshold:.2f}"


def mean_over_thresholds(ranking: Ranking) -> Callable[[Floats], Floats]:
    """`Scored.resample` of a mean average precision."""
    return lambda weights: mean_ap(ranking.resampled(weights)).mean(axis=-1)


def class_figures(labels: Sequence[str], ap: Floats, thresholds: Sequence[float]) -> dict[str, dict[str, Any]]:
    """``ap`` ``(C, K)``: each class's mean, and where there are several thresholds the value at each."""
    rows: dict[str, dict[str, Any]] = {}
    for label, row in zip(labels, ap, strict=True):
        rows[label] = {"ap": value(float(row.mean()))}
        if len(thresholds) > 1:
            rows[label]["ap_per_threshold"] = {at(t): value(x) for t, x in zip(thresholds, row.tolist(), strict=True)}
    return rows


def order_range(ranking: Ranking) -> tuple[float, float] | None:
    """`tie_range` of a mean average precision, where the order of equal scores does not change what is right."""
    each: tuple[Ties, ...] = ("file", "best", "worst")
    return tie_range(float(mean_ap(ranking.ap(ties=ties)).mean()) for ties in each)


def tie_range(figures: Iterable[float]) -> tuple[float, float] | None:
    """Least and greatest of figures of several orders, where they differ."""
    each = np.array(list(figures))
    if np.isnan(each).any() or np.ptp(each) < MATTERS:
        return None
    return float(each.min()), float(each.max())


def refuse(trouble: Sequence[str]) -> None:
    """The errors of ``--strict``.

    Raises:
        InputError: there is any trouble.
    """
    if trouble:
        raise InputError("with --strict these are errors; correct the files:\n  " + "\n  ".join(trouble))
