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

from extract.backbones import load_backbone
from extract.engine import settle_device
from extract.errors import InputError
from pipelines.checkpoint import RECORD_FILE
from pipelines.pretraining.loop import scores
from pipelines.pretraining.pool import OnClip
from pipelines.pretraining.run import WEIGHTS_FILE, clips_folder, figures, flow_of, material_of
from pipelines.pretraining.settings import PretrainSettings

_C = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """One network's probabilities: (N, K) of the clips that it learnt from and of those held out, and their classes."""

    classes: tuple[str, ...]
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
        ``streams``, a list of figures, ``average`` and ``svm``, figures each (`pipelines.pretraining.run.figures`).

    Raises:
        InputError: fewer than two, not a run of pretraining, no clips held out, or runs on other clips.
    """
    if len(runs) < 2:
        raise InputError(f"{len(runs)} runs given; expected two or more, such as one on colours and one on flow")
    streams = [_stream(Path(run), cache, settle_device(device), workers, on_clip) for run in runs]
    first = streams[0]
    for run, stream in zip(runs, streams, strict=True):
        if stream.classes != first.classes or not np.array_equal(stream.truth, first.truth):
            raise InputError(f"{run} was trained on other clips than {runs[0]}; expected runs on the same")
    return {
        "runs": [str(run) for run in runs],
        "validation_clips": len(first.truth),
        "streams": [figures(stream.held_out, stream.truth, stream.classes) for stream in streams],
        "average": figures(averaged([stream.held_out for stream in streams]), first.truth, first.classes),
        "svm": figures(_by_svm(streams), first.truth, first.classes),
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


def _stream(run: Path, cache: str | Path | None, device: str, workers: int, on_clip: OnClip) -> Stream:
    try:
        record = json.loads((run / RECORD_FILE).read_text("utf-8"))
        settings = PretrainSettings.model_validate(record["settings"])
        name, source = record["backbone"], record["source"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{run} is no run of `untrimmed pretrain`: {error}") from error
    backbone = load_backbone(name, run / WEIGHTS_FILE)
    clips = backbone.spec.clips
    kept = clips_folder(run, cache)
    flow = flow_of(backbone.spec, settings)
    material = material_of(source, record["videos"], clips, flow, settings, kept, workers=workers, on_clip=on_clip)
    if material.held_out is None:
        raise InputError(f"{run}: there were no clips held out, so nothing can be scored")
    where = torch.device(device)

    def scored(times: int, which: Any) -> NDArray[np.float32]:  # noqa: ANN401
        return scores(
            backbone.network, which, clips, times=times, crops=settings.test_crops, device=where, on_clip=on_clip
        )

    return Stream(
        material.classes,
        scored(1, material.training),
        scored(settings.test_clips, material.held_out),
        material.training.targets.argmax(1),
        material.held_out.targets.argmax(1),
    )
