"""What the user chose, with every "auto" and default replaced by its value here and now."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from uuid import uuid4

from extract.backbones import EMBEDDED, BackboneSpec, ClipDefaults, backbone_spec, load_backbone
from extract.backbones.loading import default_weights, is_named
from extract.engine import check_engine, settle_device, settle_engine, settle_precision
from extract.errors import InputError, MachineError, UsageError
from extract.flow import METHODS, FlowSettings, fetch_weights
from extract.job import Crewing
from extract.recipe import OWN_FEATURES, Recipe, RoiPooling
from extract.store import FeatureStore, location
from extract.video import resize_kernel
from extract.worker import Setup, clip_input

OnWait = Callable[[str, float | None], None]  # what takes time before the work, and its share done where it is known


def nobody_waits(_what: str, _share: float | None) -> None:
    """Nobody watches."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the user may choose; None is the backbone's own value. Hop, stride and clip length in samples.

    ``flow``: how it is computed for a backbone that reads it, one of `extract.flow.METHODS`.
    ``boxes``: a file of boxes (`pipelines.boxes.read_boxes`), for features of boxes in place of clips.
    ``workers``, ``scheduler`` and ``cluster`` as in `extract.job.Crewing`.
    """

    backbone: str = EMBEDDED
    weights: str | Path | None = None
    preset: str | None = None
    layer: str | None = None
    clip_frames: int | None = None
    frame_stride: int | None = None
    hop: int | None = None
    fps: float | str | None = None
    short_side: int | None = None
    crop: int | None = None
    precision: str = "auto"
    device: str = "auto"
    engine: str = "auto"
    decoder: str = "auto"
    flow: str | None = None
    boxes: str | Path | None = None
    workers: int = 0
    scheduler: str | None = None
    cluster: str | None = None
    retry_failed: bool = False

    @property
    def crewing(self) -> Crewing:
        """Where the work is done."""
        return Crewing(self.workers, self.scheduler, self.cluster)


def check_names(options: Mapping[str, object], known: Sequence[str]) -> None:
    """Refuse options of other names than ``known``.

    Raises:
        UsageError: names the first of them.
    """
    for name in options:
        if name not in known:
            raise UsageError(f"no option is called {name!r}; there are {', '.join(known)}")


def check(options: Options, store: FeatureStore | None) -> None:
    """What can be told of the options at once, before anything is searched, downloaded or tried."""
    spec = backbone_spec(options.backbone)
    _clips(options, spec)
    _check_inputs(options, spec)
    device = settle_device(options.device)
    check_engine(options.engine, device, settle_precision(_precision(options, store, device), device))
    resize_kernel(options.decoder)
    weights = str(options.weights or default_weights(spec))
    if not is_named(weights) and not any(Path(weights + suffix).exists() for suffix in ("", ".index")):
        raise InputError(f"no weights file {weights}; expected a checkpoint of {options.backbone}, or `pretrained`")


def settle(
    options: Options, out: str | Path, store: FeatureStore | None = None, *, on_wait: OnWait = nobody_waits
) -> Setup:
    """Replace every "auto" and default by its value here and now; the precision by that of ``store``, if there.

    ``on_wait`` is told what takes time: a download, trying the engines.
    """
    spec = backbone_spec(options.backbone)
    _check_inputs(options, spec)
    device = settle_device(options.device)
    precision = settle_precision(_precision(options, store, device), device)
    weights = str(options.weights or default_weights(spec))
    backbone = load_backbone(options.backbone, weights, on_progress=download_words(on_wait))
    spec = backbone.spec  # its weights may know of other clips
    flow = _flow(options, spec)
    if flow is not None:
        fetch_weights(flow, on_progress=download_words(on_wait))
    clips = _clips(options, spec)
    roi = None
    if options.boxes is None:
        width = backbone.width(clips.clip_frames, clips.crop_px, clips.crop_px, layer=options.layer)
        pooling: Literal["global-mean", "network", "roi"] = (
            "global-mean" if options.layer or spec.embedded else "network"
        )
    else:
        width = backbone.box_width(clips.clip_frames, clips.short_side_px)
        pooling, roi = "roi", RoiPooling(stride_px=spec.stride_px, aligned=spec.roi_aligned)
    recipe = Recipe(
        backbone=options.backbone,
        weights_sha256=backbone.weights_sha256,
        layer=options.layer or OWN_FEATURES,
        feature_width=width,
        clip_frames=clips.clip_frames,
        frame_stride=clips.frame_stride,
        hop=clips.hop,
        fps=clips.fps,
        short_side_px=clips.short_side_px,
        crop_px=clips.crop_px if roi is None else None,
        resize_kernel=resize_kernel(options.decoder),
        colour=clips.colour,
        mean=clips.mean if flow is None else clips.mean[:2],
        std=clips.std if flow is None else clips.std[:2],
        precision=precision,
        pooling=pooling,
        roi=roi,
        flow=flow,
    )
    cores = len(os.sched_getaffinity(0)) / max(1, options.workers)  # this process may have few of many
    threads = max(1, int(cores))  # decoding goes on beside them, and seldom needs a core
    engine = settle_engine(
        options.engine,
        backbone,
        clip_input(recipe),
        device=device,
        precision=precision,
        on_wait=lambda what: on_wait(what, None),
    )
    if not is_named(weights):
        weights = str(Path(weights).absolute())
    return Setup(
        location(out),
        recipe,
        weights,
        device,
        engine,
        options.decoder,
        threads,
        cores,
        job=uuid4().hex,
        boxes_file="" if options.boxes is None else str(Path(options.boxes).absolute()),
    )


def _clips(options: Options, spec: BackboneSpec) -> ClipDefaults:
    """The backbone's or the preset's clips, with what the user chose."""
    if options.preset is not None and options.preset not in spec.presets:
        known = f"it has {', '.join(spec.presets)}" if spec.presets else "it has none"
        raise UsageError(f"--preset {options.preset}: {options.backbone} has no such preset; {known}")
    clips = spec.clips if options.preset is None else spec.presets[options.preset]
    clips = replace(
        clips,
        clip_frames=_or(options.clip_frames, clips.clip_frames),
        frame_stride=_or(options.frame_stride, clips.frame_stride),
        hop=_or(options.hop, clips.hop),
        fps=_rate(options.fps, clips.fps),
        short_side_px=_or(options.short_side, clips.short_side_px),
        crop_px=_or(options.crop, clips.crop_px),
    )
    if options.boxes is None and clips.crop_px > clips.short_side_px:
        raise UsageError(
            f"--crop {clips.crop_px} is more than --short-side {clips.short_side_px}; expected at most that"
        )
    return clips


def _check_inputs(options: Options, spec: BackboneSpec) -> None:
    name = options.backbone
    _flow(options, spec)
    if spec.detection and options.boxes is None:
        raise UsageError(f"{name} describes boxes: expected --boxes FILE; or take a backbone for whole clips")
    if options.boxes is not None and options.crop is not None:
        raise UsageError(f"--crop {options.crop} with --boxes: boxes are read from whole frames; leave out --crop")
    if options.boxes is not None and options.layer is not None:
        raise UsageError(f"--layer {options.layer} with --boxes: boxes are read from the last maps; leave out --layer")


def flow_settings(method: str, bound_px: float = 20.0) -> FlowSettings:
    """How flow is computed. Raises UsageError where there is no such method."""
    if method not in METHODS:
        raise UsageError(f"there is no optical flow called {method!r}; expected {', '.join(METHODS)}")
    return FlowSettings.model_validate({"method": method, "bound_px": bound_px})


def _flow(options: Options, spec: BackboneSpec) -> FlowSettings | None:
    """What the backbone reads in place of RGB: by default that of its training, TV-L1 where its weights do not say."""
    asked = None if options.flow is None else flow_settings(options.flow)
    if spec.channels != 3:
        trained = spec.flow or FlowSettings(method="tvl1")
        if asked is None or asked.method == trained.method:
            return trained
        return flow_settings(asked.method, trained.bound_px)
    if asked is not None:
        raise UsageError(
            f"--flow {options.flow}: {options.backbone} reads RGB frames; leave out --flow, or take a backbone of"
            " optical flow, such as i3d_inception_flow"
        )
    return None


def _precision(options: Options, store: FeatureStore | None, device: str) -> str:
    if options.precision != "auto" or store is None:
        return options.precision
    precision = str(store.recipe.get("precision", "auto"))
    if precision == "fp16" and device == "cpu":
        raise MachineError(f"{store.url} was made in fp16, which only GPUs compute; go on with it on a GPU")
    return precision


def download_words(on_wait: OnWait) -> Callable[[int, int | None], None]:
    """What a download of weights shall call with its bytes, so that ``on_wait`` hears of it in words."""

    def on_bytes(done: int, total: int | None) -> None:
        of = f" of {total / 1e6:.0f}" if total else ""
        on_wait(f"downloading weights: {done / 1e6:.0f}{of} MB", done / total if total else None)

    return on_bytes


def _or(given: int | None, default: int) -> int:
    if given is None:
        return default
    if given < 1:
        raise UsageError(f"{given} is too small; clip length, stride, hop and sizes are whole numbers of at least 1")
    return given


def _rate(given: float | str | None, default: float | Literal["native"]) -> float | Literal["native"]:
    if given is None:
        return default
    if given == "native":
        return "native"
    try:
        rate = float(given)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= 1000:
        raise UsageError(f"--fps {given}; expected samples per second (above 0, at most 1000), or native")
    return rate
