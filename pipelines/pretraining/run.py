"""Pretraining a clip model: from trimmed clips to weights that `extract --weights` takes."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from extract.backbones import BackboneSpec, ClipDefaults, Network, backbone_spec, load_backbone
from extract.backbones.described import backbone_in, described_bytes
from extract.backbones.families import from_trunk, is_family, trunk_of
from extract.backbones.images import ImageNetwork
from extract.cache import file_sha256
from extract.engine import settle_device
from extract.errors import InputError, UsageError
from extract.flow import FlowSettings
from pipelines.checkpoint import check_free, write_run
from pipelines.config import check_seed
from pipelines.fitting import VALIDATIONS
from pipelines.notes import shown
from pipelines.pretraining.examples import HELD_OUT, TRAINING, read_examples
from pipelines.pretraining.loop import Loop, Progress, scores
from pipelines.pretraining.pool import Looks, OnClip, Pool, pool_of
from pipelines.pretraining.settings import PretrainSettings
from pipelines.pretraining.views import Turns
from pipelines.pretraining.worlds import CLASSES, worlds
from pipelines.resume import Resume

WORLDS = "worlds"
"""In place of a folder or file of clips: made motion worlds."""
WEIGHTS_FILE = "weights.safetensors"
_SHORT_SIDE = 8 / 7  # of the crop: 256 to 224


@dataclass(frozen=True, slots=True)
class Material:
    """Everything that a pretraining learns from, decoded."""

    training: Pool
    held_out: Pool | None
    classes: tuple[str, ...]
    turns: Turns
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def pretrain(
    backbone: str,
    source: str | Path,
    *,
    out: str | Path,
    videos: str | Path | None = None,
    init: str | None = None,
    settings: PretrainSettings | None = None,
    seed: int = 0,
    device: str = "auto",
    cache: str | Path | None = None,
    workers: int = 1,
    on_clip: OnClip = lambda _done, _total: None,
    on_progress: Callable[[Progress], None] = lambda _progress: None,
) -> dict[str, Any]:
    """Train ``backbone`` on trimmed clips, test it on those held out, and write the run folder ``out``.

    Args:
        backbone: any name of `extract.backbones.backbone_spec` that classifies whole clips.
        source: a folder or a file of annotations (`read_examples`), or "worlds".
        out: the new run; its ``weights.safetensors`` are for ``extract --weights``.
        videos: where the videos that a file names are.
        init: what to begin with: "imagenet", torchvision's weights of a family's image network; or a file with weights
            of the backbone itself or of its image network. By default random weights.
        settings: see there.
        seed: of weights, order and crops.
        device: "auto", "cpu" or "cuda".
        cache: folder of decoded clips, which other trainings on the same clips find; by default beside ``out``.
        workers: processes that decode.
        on_clip: hears of clips decoded, and then of clips tested.
        on_progress: hears of every step.

    Returns:
        What ``run.json`` holds. The same arguments give the same weights, bit for bit, on one machine and number of
        threads, also when a training was stopped after some epochs and called again.

    Raises:
        UsageError: an unknown backbone, ``out`` is taken, or the loss is no longer finite.
        InputError: clips that cannot be used, or weights that do not fit.
        MachineError: ``out`` or ``cache`` cannot be written, or there is no such device.
    """
    chosen, folder = settings or PretrainSettings(), Path(out).resolve()
    spec = _checked(backbone)
    clips = clips_of(spec, chosen)
    if str(source) == WORLDS:
        _check_worlds()
        clips = replace(clips, short_side_px=clips.crop_px)  # drawn so that all happens in the middle
    where = torch.device(settle_device(device))
    check_seed(seed)
    check_free(folder)
    kept = clips_folder(folder, cache)
    if kept.resolve().is_relative_to(folder):
        raise UsageError(f"--cache {kept} lies in the run's own folder {folder}, which is new; name another place")
    if init is not None:  # what is wrong with it is better said before hours of decoding
        with torch.random.fork_rng(devices=[]):
            _initial(backbone, spec, init)
    key = _asked(backbone, source, videos, init, seed, chosen) | {
        "threads": torch.get_num_threads(),
        "device": where.type,
    }
    Resume(folder, key)  # so is that something else was asked for
    flow = flow_of(spec, chosen)
    material = material_of(str(source), videos, clips, flow, chosen, kept, workers=workers, on_clip=on_clip)
    key |= _learnt_from(material)
    resume = Resume(folder, key)
    began = time.time()
    with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
        torch.manual_seed(seed)
        network = new_network(backbone, spec, len(material.classes), init)
        loop = Loop(network, material.training, clips, material.turns, chosen, seed, where)
        _fit(loop, material, resume, on_progress)
    trained_s = time.time() - began
    record = {
        **key,
        "task": "pretrain",
        "cache": str(kept.absolute()),
        "missing": list(material.missing),
        "failed": [clip for pool in (material.training, material.held_out) if pool is not None for clip in pool.failed],
        "notes": list(material.notes),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "seconds": trained_s,
        "result": _tested(network, material, clips, chosen, where, on_clip),
    }
    weights = described_bytes(network, name=backbone, clips=clips, classes=material.classes, flow=flow)
    write_run(folder, WEIGHTS_FILE, weights, record=record, epochs=loop.figures, card=_card(record, clips))
    resume.remove()
    return record


def clips_of(spec: BackboneSpec, settings: PretrainSettings) -> ClipDefaults:
    """The clips that ``spec`` is trained on: its own, at the rate and size that ``settings`` ask for."""
    own = spec.clips
    short_side = settings.short_side or max(own.crop_px, round(own.crop_px * _SHORT_SIDE))
    if short_side < own.crop_px:
        raise UsageError(f"short_side is {short_side}; expected at least the crop of {own.crop_px} px")
    fps = settings.fps or own.fps
    if fps == "native":
        raise UsageError("this backbone's clips have no rate of their own; choose one, such as --set fps=25")
    return replace(own, fps=float(fps), short_side_px=short_side)


def clips_folder(run: Path, cache: str | Path | None) -> Path:
    """Where decoded clips are kept: ``cache``, or beside ``run``."""
    return Path(cache) if cache is not None else run.parent / f".{run.name}.clips"


def flow_of(spec: BackboneSpec, settings: PretrainSettings) -> FlowSettings | None:
    """How ``settings`` ask for the optical flow that ``spec`` reads; None where it reads colours."""
    return None if spec.channels == 3 else FlowSettings(method=settings.flow, bound_px=settings.flow_bound_px)


def material_of(
    source: str,
    videos: str | Path | None,
    clips: ClipDefaults,
    flow: FlowSettings | None,
    settings: PretrainSettings,
    cache: Path,
    *,
    workers: int,
    on_clip: OnClip,
) -> Material:
    """Decode what ``source`` names, or find it in ``cache``. Errors as `pretrain`."""
    looks = Looks(float(clips.fps), clips.short_side_px, flow)
    if source == WORLDS:
        training, held_out, turns = worlds(settings.examples, looks, cache, workers=workers, on_clip=on_clip)
        return Material(training, held_out, CLASSES, turns)
    examples = read_examples(Path(source), None if videos is None else Path(videos))
    pools = [
        pool_of(rows, examples.classes, looks, cache, workers=workers, on_clip=on_clip) if rows else None
        for rows in map(examples.of, (TRAINING, HELD_OUT))
    ]
    training_pool, held_out_pool = pools
    assert training_pool is not None  # noqa: S101 - read_examples found classes
    unseen = [name for name, seen in zip(examples.classes, training_pool.targets.max(0), strict=True) if not seen]
    if len(unseen) > len(examples.classes) - 2:
        raise InputError(f"no clip for training of {shown(unseen)} can be read; first: {training_pool.failed[0]}")
    notes = [*examples.notes, *([f"never seen, for no clip can be read: {shown(unseen)}"] if unseen else [])]
    turns = Turns(mirrored=range(len(examples.classes)) if settings.mirror else None)
    return Material(training_pool, held_out_pool, examples.classes, turns, tuple(notes), examples.missing)


def _check_worlds() -> None:
    """Raises UsageError where a folder has this name."""
    if Path(WORLDS).exists():
        raise UsageError(
            f"{WORLDS} means made worlds, and there is {Path(WORLDS).absolute()} too; write that whole path to learn "
            "from it, or run the command elsewhere"
        )


def _asked(
    backbone: str,
    source: str | Path,
    videos: str | Path | None,
    init: str | None,
    seed: int,
    settings: PretrainSettings,
) -> dict[str, Any]:
    """What a training's result depends on of its arguments."""
    return {
        "backbone": backbone,
        "source": WORLDS if str(source) == WORLDS else str(Path(source).absolute()),
        "videos": None if videos is None else str(Path(videos).absolute()),
        "init": init,
        "init_sha256": file_sha256(Path(init)) if init is not None and Path(init).is_file() else None,
        "seed": seed,
        "settings": settings.model_dump(),
        "versions": {name: version(name) for name in ("untrimmed", "torch", "numpy")},
    }


def _learnt_from(material: Material) -> dict[str, Any]:
    """What a training's result depends on of its clips."""
    training, held_out = material.training, material.held_out
    return {
        "classes": list(material.classes),
        "training_clips": len(training),
        "validation_clips": 0 if held_out is None else len(held_out),
        "training_sha256": training.digest,
        "validation_sha256": None if held_out is None else held_out.digest,
    }


def new_network(name: str, spec: BackboneSpec, classes: int, init: str | None) -> Network:
    """The network ``name`` with so many outputs and the weights that ``init`` names, or random ones (torch's seed)."""
    network = _initial(name, spec, init)
    network.requires_grad_(True)  # those of files are frozen
    last = network.classifier
    if not isinstance(last, nn.Linear) or last.out_features != classes:
        network.classifier = nn.Linear(spec.feature_width, classes)
    return network


def _initial(name: str, spec: BackboneSpec, init: str | None) -> Network:
    if init is None:
        return spec.build()
    if init == "imagenet" and not is_family(name):
        raise UsageError(f"--init imagenet is for clip models of families; for {name} name pretrained, or a file")
    if not is_family(name) or (init not in ("imagenet", "pretrained") and backbone_in(Path(init)) == name):
        return load_backbone(name, init).network
    trunk = f"frames:{trunk_of(name)}"
    if init == "imagenet":
        if not backbone_spec(trunk).url:
            raise UsageError(
                f"--init imagenet: {trunk} has no official weights; pretrain it, and give its weights file"
            )
        init = "pretrained"
    held = backbone_in(Path(init)) or trunk
    family, _, _ = held.partition(":")
    knows_less = family != "frames" or backbone_spec(held).channels < spec.channels  # flow says nothing of colours
    if knows_less or trunk_of(held) != trunk_of(name):
        raise InputError(
            f"--init {init} holds weights of {held}; expected those of {name} or {trunk}. Pretrain one of them, and "
            "give its weights file"
        )
    image = load_backbone(held, init).network
    assert isinstance(image, ImageNetwork)  # noqa: S101 - as all of that family
    return from_trunk(name, image.whole())


def _checked(name: str) -> BackboneSpec:
    spec = backbone_spec(name)
    if spec.detection:
        raise UsageError(
            f"{name} classifies boxes; expected a backbone of whole clips, such as {name.partition('_det')[0]}"
        )
    return spec


def _fit(loop: Loop, material: Material, resume: Resume, on_progress: Callable[[Progress], None]) -> None:
    """Train, and measure on the middle of each held-out clip a few times on the way, for the curves alone."""
    resume.load(loop)
    every = math.ceil(loop.settings.epochs / VALIDATIONS)
    while loop.epoch < loop.settings.epochs:
        loss = loop.run_epoch(on_progress)
        measured = None
        if material.held_out is not None and (loop.epoch % every == 0 or loop.epoch == loop.settings.epochs):
            found = scores(loop.network, material.held_out, loop.clips, times=1, crops=1, device=loop.device)
            truth = material.held_out.targets.argmax(1)
            measured = {"accuracy": figures(found, truth, material.classes)["accuracy"]}
        loop.figures.append({"epoch": loop.epoch, "loss": loss, "validation": measured})
        resume.save(loop)


def _tested(
    network: Network,
    material: Material,
    clips: ClipDefaults,
    settings: PretrainSettings,
    device: torch.device,
    on_clip: OnClip,
) -> dict[str, Any] | None:
    """`figures` on the clips held out; None where there are none."""
    pool = material.held_out
    if pool is None:
        return None
    times, crops = settings.test_clips, settings.test_crops
    found = scores(network, pool, clips, times=times, crops=crops, device=device, on_clip=on_clip)
    return figures(found, pool.targets.argmax(1), material.classes)


def figures(found: NDArray[np.float32], truth: NDArray[np.int64], classes: Sequence[str]) -> dict[str, Any]:
    """Accuracy of scores (N, K) on clips of classes (N,): the best, the best five, and for each class.

    Raises:
        UsageError: some are no numbers.
    """
    if spoilt := int(np.isnan(found).any(1).sum()):
        raise UsageError(
            f"the scores of {spoilt} of {len(found)} clips are no numbers: the training diverged. "
            "Train again with a lower lr"
        )
    own = found[np.arange(len(found)), truth][:, None]
    before = np.arange(found.shape[1]) < truth[:, None]
    rank = ((found > own) | ((found == own) & before)).sum(1)  # of equal ones the first is the answer
    per_class = {
        name: float((rank[truth == number] == 0).mean())
        for number, name in enumerate(classes)
        if (truth == number).any()
    }
    return {
        "accuracy": float((rank == 0).mean()),
        "top_5": float((rank < 5).mean()) if len(classes) > 5 else None,
        "mean_class_accuracy": float(np.mean([*per_class.values()])),
        "per_class": per_class,
        "chance": 1 / len(classes),
    }


def _card(record: Mapping[str, Any], clips: ClipDefaults) -> str:
    result = record["result"]
    tested = "There were no clips held out."
    if result is not None:
        tested = f"Accuracy on {record['validation_clips']} clips held out: {result['accuracy']:.3f}"
        tested += f" (chance {result['chance']:.3f})."
    return (
        f"# {record['backbone']}\n\nTrained on {record['training_clips']} clips of {len(record['classes'])} classes, "
        f"{record['settings']['epochs']} epochs, {record['parameters'] / 1e6:.2f} M parameters, "
        f"{record['seconds']:.0f} s on {record['device']}. {tested}\n\n"
        f"Clips of {clips.clip_frames} frames, stride {clips.frame_stride}, {clips.fps:g} a second, {clips.crop_px} px."
        "\n\n"
        f"    untrimmed extract VIDEOS -o STORE --backbone {record['backbone']} --weights {WEIGHTS_FILE}\n"
    )
