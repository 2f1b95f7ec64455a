"""Two streams, or more, as one: their probabilities averaged, or judged by a linear SVM.

Simonyan and Zisserman, "Two-Stream Convolutional Networks for Action Recognition in Videos" (NeurIPS 2014), section 2:
an average of the softmax scores, and an SVM on the stacked, L2-normalised softmax scores. N clips, K classes.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.svm import LinearSVC

from extract.backbones import Backbone, load_backbone
from extract.engine import settle_device
from extract.errors import InputError
from pipelines.checkpoint import RECORD_FILE
from pipelines.notes import shown
from pipelines.pretraining.loop import scores
from pipelines.pretraining.pool import OnClip, Pool
from pipelines.pretraining.run import WEIGHTS_FILE, clips_folder, figures, flow_of, material_of
from pipelines.pretraining.settings import PretrainSettings

_C = 1.0
_AGAIN = "Put the clips back that it was trained on, or train again"


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """One run: its network, how it is tested, and the clips that it learnt from and was tested on."""

    run: Path
    backbone: Backbone
    settings: PretrainSettings
    training: Pool
    held_out: Pool
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """One network's probabilities: (N, K) of the clips that it learnt from and of those held out, and their classes."""

    training: NDArray[np.float32]
    held_out: NDArray[np.float32]
    training_truth: NDArray[np.int64]
    truth: NDArray[np.int64]


def fuse(
    runs: Sequence[str | Path],
    *,
    cache: str | Path | None = None,
    device: str = "auto",
    workers: int = 1,
    on_clip: OnClip = lambda _done, _total: None,
) -> dict[str, Any]:
    """The accuracy of each of ``runs`` of `pretrain` on the clips held out, and of them together.

    Returns:
        ``streams``, a list of figures, ``average`` and ``svm``, figures each (`pipelines.pretraining.run.figures`), and
        ``failed``, the clips that could not be read, and why.

    Raises:
        InputError: fewer than two, not a run of pretraining, no clips held out, clips that are no longer those of
            the run, or runs on other clips.
    """
    if len(runs) < 2:
        raise InputError(f"{len(runs)} runs given; expected two or more, such as one on colours and one on flow")
    found = [_trained(Path(run), cache, workers, on_clip) for run in runs]
    classes = found[0].classes
    for other in found[1:]:
        _check_same(other, found[0])
    where = torch.device(settle_device(device))
    streams = [_stream(trained, where, on_clip) for trained in found]
    first = streams[0]
    return {
        "runs": [str(run) for run in runs],
        "validation_clips": len(first.truth),
        "failed": sorted({clip for each in found for pool in (each.training, each.held_out) for clip in pool.failed}),
        "streams": [figures(stream.held_out, stream.truth, classes) for stream in streams],
        "average": figures(averaged([stream.held_out for stream in streams]), first.truth, classes),
        "svm": figures(_by_svm(streams), first.truth, classes),
    }


def averaged(rows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """(N, K) of each stream -> (N, K)."""
    mean: NDArray[np.float32] = np.mean(rows, axis=0)
    return mean


def stacked(rows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """(N, K) of each of S streams -> (N, S K), each stream's row of length 1."""
    return np.concatenate([row / np.linalg.norm(row, axis=1, keepdims=True) for row in rows], 1)


def _by_svm(streams: Sequence[Stream]) -> NDArray[np.float32]:
    """(N, K) margins of an SVM that learnt from the training clips."""
    svm = LinearSVC(C=_C, random_state=0)
    svm.fit(stacked([stream.training for stream in streams]), streams[0].training_truth)
    margins = np.full_like(streams[0].held_out, -np.inf)
    found = svm.decision_function(stacked([stream.held_out for stream in streams]))
    margins[:, svm.classes_] = np.stack([-found, found], 1) if found.ndim == 1 else found
    return margins


def _trained(run: Path, cache: str | Path | None, workers: int, on_clip: OnClip) -> Trained:
    try:
        record = json.loads((run / RECORD_FILE).read_text("utf-8"))
        settings = PretrainSettings.model_validate(record["settings"])
        name, source = record["backbone"], record["source"]
        classes, counts = tuple(record["classes"]), (record["training_clips"], record["validation_clips"])
        digests, own_cache = (record["training_sha256"], record["validation_sha256"]), record["cache"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{run} is no run of `untrimmed pretrain`: {error}") from error
    backbone = load_backbone(name, run / WEIGHTS_FILE)
    clips, flow = backbone.spec.clips, flow_of(backbone.spec, settings)
    kept = clips_folder(run, cache or own_cache)
    material = material_of(source, record["videos"], clips, flow, settings, kept, workers=workers, on_clip=on_clip)
    if material.classes != classes:
        raise InputError(
            f"{run} was trained on the classes {shown(classes)}; in {source} there are now {shown(material.classes)}. "
            f"{_AGAIN}"
        )
    if material.held_out is None:
        raise InputError(f"{run}: there were no clips held out, so nothing can be scored")
    if counts != (len(material.training), len(material.held_out)):
        raise InputError(
            f"{run} was trained on {counts[0]} clips and tested on {counts[1]}; in {source} there are now "
            f"{len(material.training)} and {len(material.held_out)} that can be read. {_AGAIN}"
        )
    if digests != (material.training.digest, material.held_out.digest):
        raise InputError(f"{run} was trained or tested on other clips than those that are now in {source}. {_AGAIN}")
    return Trained(run, backbone, settings, material.training, material.held_out, classes)


def _check_same(other: Trained, first: Trained) -> None:
    if other.classes != first.classes:
        raise InputError(
            f"{other.run} tells {shown(other.classes)} apart, {first.run} {shown(first.classes)}; "
            "expected runs on the same clips"
        )
    for what, ours, theirs in (
        ("trained", first.training.names, other.training.names),
        ("tested", first.held_out.names, other.held_out.names),
    ):
        if ours != theirs:
            apart = sorted({*ours} ^ {*theirs})
            raise InputError(
                f"{other.run} was {what} on other clips than {first.run}, or in another order; expected runs on the "
                f"same. Train again on the clips of both. Of one of them alone: {shown(apart)}"
            )


def _stream(trained: Trained, device: torch.device, on_clip: OnClip) -> Stream:
    def scored(times: int, pool: Pool) -> NDArray[np.float32]:
        network, clips = trained.backbone.network, trained.backbone.spec.clips
        crops = trained.settings.test_crops
        return scores(network, pool, clips, times=times, crops=crops, device=device, on_clip=on_clip)

    return Stream(
        scored(1, trained.training),
        scored(trained.settings.test_clips, trained.held_out),
        trained.training.targets.argmax(1),
        trained.held_out.targets.argmax(1),
    )
