"""What happens from when to when. N segments, T steps of a video, C classes."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipelines.annotations import VideoAnnotation
from pipelines.config import TrainSettings
from pipelines.dataset import Example, Examples
from pipelines.tasks.said import Said
from pipelines.tasks.sequences import PaddedBatch, SequenceTask
from pipelines.tasks.task import class_notes, device_of
from seqmodels import LOCALIZERS, Localizer, Truth
from seqmodels.metrics import ACTIVITYNET_THRESHOLDS, THUMOS_THRESHOLDS, localization_map
from seqmodels.segments import Found, suppress_by_class

MOST, SEGMENT_EVERY_S = 200, 6.0  # segments of a video: 200 up to 20 minutes
KEPT = 0.5  # of a segment's length must lie within a window of training for it to be learnt there


class Localize(SequenceTask):
    """Segments of time with a class. ``target``: ``(N, 3)`` float64, rows of start and stop in seconds, class number.

    ``average_map``: ActivityNet's mean average precision, averaged over tIoU thresholds .3:.1:.7, as is the practice on
    THUMOS14. Head outputs are thinned by soft-NMS.
    """

    name = "localize"
    metric = "average_map"
    heads: ClassVar = LOCALIZERS
    default = "actionformer"
    by_steps = False

    def target(
        self, video: VideoAnnotation, _centre_s: NDArray[np.float64], classes: Sequence[str]
    ) -> NDArray[np.float64]:
        """``(N, 3)``."""
        rows = [(segment.start_s, segment.stop_s, classes.index(segment.label)) for segment in video.segments]
        return np.array(rows, np.float64).reshape(-1, 3)

    def prepare(self, head: nn.Module, examples: Examples, settings: TrainSettings) -> None:
        """Also tells the head how long segments are."""
        super().prepare(head, examples, settings)
        assert isinstance(head, Localizer)  # noqa: S101 - one of `heads`
        lengths = [np.diff(_in_steps(item), axis=1)[:, 0] for item in examples.items]
        head.fit_segments(torch.from_numpy(np.concatenate(lengths)))

    def window(self, example: Example, steps: int, rng: np.random.Generator) -> Example:
        """Segments are cut at its ends, and left out when less than `KEPT` of them is left."""
        first = int(rng.integers(0, len(example) - steps + 1))
        seen, read = slice(first, first + steps), example.read
        start_s, stop_s = to_seconds(np.array([first - 0.5, first + steps - 0.5]), example.centre_s)
        table = example.target.copy()
        table[:, :2] = table[:, :2].clip(start_s, stop_s)
        left, whole = (np.diff(rows[:, :2], axis=1)[:, 0] for rows in (table, example.target))
        return Example(
            example.video_id,
            lambda: read()[seen],
            example.centre_s[seen],
            table[(left >= KEPT * whole) & (left > 0)],
            example.duration_s,
        )

    def collate_targets(self, examples: Sequence[Example], _longest: int) -> list[Truth]:
        """Of each video."""
        return [
            Truth(torch.from_numpy(_in_steps(example)).float(), torch.from_numpy(example.target[:, 2]).long())
            for example in examples
        ]

    def loss(self, head: Localizer, batch: PaddedBatch, _settings: TrainSettings) -> Tensor:
        """The head's own."""
        where = batch.features.device
        truths = [Truth(truth.segments.to(where), truth.labels.to(where)) for truth in batch.targets]
        return head.loss(batch.features, batch.mask, truths)

    def answer(self, head: Localizer, example: Example) -> Found:
        """Segments in seconds within the video, best first: at most 200, as is usual on ActivityNet and THUMOS14, or
        one every `SEGMENT_EVERY_S` of a longer video.
        """
        found = head.find(torch.from_numpy(example.features).to(device_of(head)))
        seconds = to_seconds(found.segments, example.centre_s).clip(0, example.duration_s or None)
        longer = np.flatnonzero(seconds[:, 1] > seconds[:, 0])
        most = max(MOST, int(example.duration_s / SEGMENT_EVERY_S))
        return suppress_by_class(Found(seconds, found.scores, found.labels).take(longer), most=most)

    def said(self, answer: Found, _example: Example, _threshold: float) -> Said:
        """All that was found."""
        return Said(segments=answer)

    def report(self, examples: Examples, answers: Sequence[Found], *, n_trained: int) -> dict[str, Any]:
        """``average_map`` and the mAP at each of its thresholds; and ``average_map_activitynet``, over .5:.05:.95."""
        true = [(item.target[:, :2], item.target[:, 2].astype(np.int64)) for item in examples.items]
        result, strict = (
            localization_map(answers, true, n_classes=len(examples.classes), thresholds=thresholds)
            for thresholds in (THUMOS_THRESHOLDS, ACTIVITYNET_THRESHOLDS)
        )
        means = [None if np.isnan(row).any() else float(row.mean()) for row in result.ap]
        at = {} if result.map is None else zip(THUMOS_THRESHOLDS, result.map.tolist(), strict=True)
        return {
            "protocol": self.name,
            "metrics": {"average_map": result.average_map, "average_map_activitynet": strict.average_map},
            "chance": {},
            "per_threshold": {f"{threshold:.2f}": value for threshold, value in at},
            "per_class": {label: {"ap": ap} for label, ap in zip(examples.classes, means, strict=True)},
            "notes": [*examples.notes, *class_notes(examples.classes, means, n_trained)],
        }


def _in_steps(example: Example) -> NDArray[np.float64]:
    """Starts and stops ``(N, 2)`` on the example's grid."""
    return to_steps(example.target[:, :2], example.centre_s)


def to_steps(seconds: NDArray[np.float64], centre_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Places on the grid of steps, step t at ``centre_s[t]``; straight on beyond its ends, at the mean pace."""
    return _along(seconds, centre_s, np.arange(len(centre_s), dtype=np.float64))


def to_seconds(steps: NDArray[np.float64], centre_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of `to_steps`."""
    return _along(steps, np.arange(len(centre_s), dtype=np.float64), centre_s)


def _along(values: NDArray[np.float64], at: NDArray[np.float64], to: NDArray[np.float64]) -> NDArray[np.float64]:
    """Piecewise linear from rising ``at`` ``(T,)`` to rising ``to`` ``(T,)``; a lone step is one second long."""
    pace = (to[-1] - to[0]) / (at[-1] - at[0]) if len(at) > 1 else 1.0
    inside = np.interp(values, at, to)
    result: NDArray[np.float64] = inside + pace * ((values - at[0]).clip(None, 0) + (values - at[-1]).clip(0, None))
    return result
