"""Reading a sample of a store's videos again, and comparing: does this machine, today, give what the store holds?"""

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from extract.backbones import load_backbone
from extract.boxes import Boxes, content_of
from extract.engine import settle_device, settle_engine
from extract.errors import MachineError, VideoError
from extract.recipe import Recipe
from extract.sources import fingerprint
from extract.store import FeatureSequence, FeatureStore, VideoRecord
from extract.worker import Setup, Task, clip_input, features_of

# The largest difference of a feature, as a share of the video's largest: rounding to float16 is 5e-4 of it, engines of
# one precision differ by less; bf16 and fp16 round at every layer (docs/backbones.md has the measurements).
TOLERANCES = {"fp32": 2e-3, "bf16": 5e-2, "fp16": 2e-2}


@dataclass(frozen=True, slots=True)
class Compared:
    """One video of the sample. ``error``: largest difference over the largest feature, None where nothing could be
    compared; ``problem`` says what is wrong, empty for what agrees.
    """

    video_id: str
    error: float | None
    problem: str


def compare_sample(
    store: FeatureStore, share: float, on_progress: Callable[[int, int], None] = lambda _done, _count: None
) -> list[Compared]:
    """Extract ``share`` (0..1) of the videos again, at least one, and compare times and features.

    The sample depends on the store's version alone. A video that is not where it was, or has another content now,
    cannot be compared and is named.

    Raises:
        MachineError: the weights are not here, or are others.
    """
    ids = list(store)
    chosen = random.Random(store.version).sample(ids, min(len(ids), max(1, round(share * len(ids)))))
    found = []
    for at, video_id in enumerate(sorted(chosen)):
        on_progress(at, len(chosen))
        found.append(_compared(store, store.catalogue[video_id]))
    return found


def comparison_json(found: list[Compared]) -> list[dict[str, Any]]:
    """As plain values."""
    return [{"video": each.video_id, "error": each.error, "problem": each.problem} for each in found]


def comparison_lines(found: list[Compared]) -> Iterator[str]:
    """What the comparison found."""
    good = [each for each in found if not each.problem]
    largest = max((each.error or 0.0 for each in good), default=0.0)
    yield f"{len(good)} of {len(found)} videos extracted again agree (largest difference {largest:.1e} of the maximum)"
    yield from (f"  {each.video_id}: {each.problem}" for each in found if each.problem)


def _compared(store: FeatureStore, record: VideoRecord) -> Compared:
    path = str(record.provenance["uri"])
    stored = store[record.video_id]
    try:
        if fingerprint(path) != content_of(record.fingerprint):
            return Compared(record.video_id, None, f"{path} has another content now than when it was extracted")
        task = Task(record.video_id, path, record.fingerprint, None, boxes=_boxes(stored))
        again = features_of(_setup(store, record), task)
    except VideoError as error:
        return Compared(record.video_id, None, str(error))
    if again.features.shape != stored.features.shape or not np.array_equal(again.start_s, stored.start_s):
        return Compared(
            record.video_id,
            None,
            f"{len(again.features)} clips now, {len(stored)} in the store, or at other times; "
            f"it was read by {record.provenance['decoder_library']}",
        )
    scale = float(np.abs(stored.features.astype(np.float32)).max(initial=0)) or 1.0
    difference = float(np.abs(again.features - stored.features.astype(np.float32)).max(initial=0)) / scale
    most = TOLERANCES[str(store.recipe["precision"])]
    problem = f"features differ by {difference:.1e} of the maximum, more than {most:g}" if difference > most else ""
    return Compared(record.video_id, difference, problem)


def _boxes(stored: FeatureSequence) -> Boxes | None:
    """The boxes that were stored with the features; the same ones are read again."""
    if stored.second is None or stored.box is None or stored.box_score is None:
        return None
    return Boxes(stored.second, stored.box, stored.box_score)


def _setup(store: FeatureStore, record: VideoRecord) -> Setup:
    """As the job's was, with the device and engine of this machine."""
    recipe = Recipe.model_validate(dict(store.recipe))
    device = settle_device("auto")
    weights = str(record.provenance["weights"])
    backbone = load_backbone(recipe.backbone, weights)
    if backbone.weights_sha256 != recipe.weights_sha256:
        raise MachineError(
            f"{weights} has digest {backbone.weights_sha256[:12]}, the store was made with "
            f"{recipe.weights_sha256[:12]}; put the checkpoint back where it was"
        )
    cores = len(os.sched_getaffinity(0))
    engine = settle_engine(
        "auto",
        backbone,
        clip_input(recipe),
        device=device,
        precision=recipe.precision,
    )
    return Setup(store.url, recipe, weights, device, engine, "auto", cores, cores)
