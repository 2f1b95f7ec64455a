"""Each look into a network, from its name or itself to a file, and what can be said of it in numbers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from extract.backbones import Backbone
from extract.errors import UsageError
from extract.urls import without_secrets
from pipelines.video_out import check_ending, check_is_other
from pipelines.visualizing.clips import clip_at
from pipelines.visualizing.drawn import Evidence, filter_grid, filter_slices, maximised_frames, maximised_sheet
from pipelines.visualizing.filters import filter_pictures, first_filters
from pipelines.visualizing.maximizing import Ascent, Maximised, maximise
from pipelines.visualizing.networks import Looked
from pipelines.visualizing.saliency import Method, video_saliency
from pipelines.visualizing.written import ENDINGS, write_moving, write_picture

OnShare = Callable[[float, str], None]  # share of the work that is done, and what is being done


def _nobody(_share: float, _words: str) -> None:
    """Nobody watches."""


def show_filters(
    backbone: Backbone,
    output: Path,
    *,
    layer: str | None = None,
    over_time: bool = False,
    most: int = 64,
    fps: float = 4.0,
) -> dict[str, Any]:
    """Write the filters of a network's first layer: moving in a grid (.gif, .mp4, .webm), or as slices (.png).

    Args:
        backbone: any with a convolution over pixels.
        output: the file.
        layer: see `pipelines.visualizing.filters.first_filters`, and so ``over_time``.
        over_time: as ``layer``.
        most: show the first so many.
        fps: slices a second.

    Returns:
        JSON values: the layer, its filters, their size.

    Raises:
        UsageError: no such filters, or another ending.
        MachineError: the file cannot be written.
    """
    check_ending(output, ENDINGS)
    if most < 1 or not 0.1 <= fps <= 60:
        raise UsageError(f"{most} filters at {fps:g} slices a second; expected at least 1, and 0.1 to 60")
    found = first_filters(backbone, layer, over_time=over_time)
    pictures = filter_pictures(found.weights[:most])
    if output.suffix == ".png":
        write_picture(filter_slices(pictures), output)
    else:
        write_moving(filter_grid(pictures), output, fps=fps)
    filters, channels, frames, height, width = found.weights.shape
    return {
        "output": str(output),
        "backbone": backbone.name,
        "layer": found.layer,
        "over_time": found.over_time,
        "multiplied": over_time,
        "filters": filters,
        "shown": len(pictures),
        "channels": channels,
        "frames": frames,
        "height_px": height,
        "width_px": width,
    }


def filter_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """What people read of `show_filters`."""
    size = f"{result['frames']} x {result['height_px']} x {result['width_px']} (T x H x W)"
    layer = f"{result['layer']} times {result['over_time']}" if result["multiplied"] else result["layer"]
    yield f"{result['output']}: {result['shown']} of {result['filters']} filters of {layer}, {size}"
    if result["over_time"] and not result["multiplied"]:
        yield f"note: they see one frame; --over-time shows them together with {result['over_time']} behind them"


def show_maximised(
    looked: Looked,
    classes: Sequence[str],
    output: Path,
    *,
    ascent: Ascent | None = None,
    temporal_smoothness: Sequence[float] = (),
    begin: str | None = None,
    on_share: OnShare = _nobody,
) -> dict[str, Any]:
    """Write clips that maximise classes, a row each: moving (.gif, .mp4, .webm), or frames side by side (.png).

    Args:
        looked: the network.
        classes: names or numbers.
        output: the file.
        ascent: how they are sought.
        temporal_smoothness: weights that stand side by side; by default that of ``ascent`` alone.
        begin: ``VIDEO@SECOND`` to begin with; by default the network's mean colour.
        on_share: is told the share that is done.

    Returns:
        JSON values: settings, and for each class and weight what was reached.

    Raises:
        UsageError: an unknown class, another ending, or weights below 0.
        InputError, VideoError: ``begin`` cannot be read.
        MachineError: the file cannot be written.
    """
    check_ending(output, ENDINGS)
    if not classes:
        raise UsageError("no class is named; expected --class NAME or its number, at least once")
    ascent = ascent or Ascent()
    weights = tuple(temporal_smoothness) or (ascent.temporal_smoothness,)
    ascents = [replace(ascent, temporal_smoothness=weight) for weight in weights]
    numbers = [looked.number(text) for text in classes]
    start = None if begin is None else clip_at(begin, looked.backbone.spec)
    if begin is not None:
        check_is_other(output, begin.rpartition("@")[0])
    rows: list[list[Maximised]] = []
    whole = len(numbers) * len(ascents) * ascent.steps
    for number in numbers:
        row: list[Maximised] = []
        for each in ascents:
            before = (len(rows) * len(ascents) + len(row)) * ascent.steps
            words = f"{looked.label(number)}, temporal smoothness {each.temporal_smoothness:g}"
            row.append(maximise(looked, number, each, start=start, on_step=_told(on_share, before, whole, words)))
        rows.append(row)
    named = [(looked.label(number), row) for number, row in zip(numbers, rows, strict=True)]
    if output.suffix == ".png":
        labels = [_label(name, *pair) for name, row in named for pair in zip(weights, row, strict=True)]
        write_picture(maximised_sheet([found for row in rows for found in row], labels), output)
    else:
        titles = [[f"{name}, {weight:g}" for weight in weights] for name, _ in named]
        write_moving(maximised_frames(rows, titles), output, fps=_fps(looked))
    settings = {key: value for key, value in asdict(ascent).items() if key != "temporal_smoothness"}
    return {
        "output": str(output),
        "backbone": looked.backbone.name,
        "weights_sha256": looked.backbone.weights_sha256,
        "from": None if begin is None else without_secrets(begin),
        "settings": settings,
        "clips": [
            {
                "class": looked.label(number),
                "number": number,
                "temporal_smoothness": weight,
                **_figures(found),
            }
            for number, row in zip(numbers, rows, strict=True)
            for weight, found in zip(weights, row, strict=True)
        ],
    }


def maximised_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """What people read of `show_maximised`."""
    yield f"{result['output']}: {len(result['clips'])} clip{'s' if len(result['clips']) > 1 else ''}"
    for each in result["clips"]:
        yield (
            f"  {each['class']}, temporal smoothness {each['temporal_smoothness']:g}: "
            f"logit {each['start_logit']:.2f} -> {each['logit']:.2f}, "
            f"probability {each['start_probability']:.3f} -> {each['probability']:.3f}, "
            f"changes by {255 * each['temporal_difference']:.1f} of 255 a frame{_moves(each['motion_px'])}"
        )


def show_saliency(
    looked: Looked,
    video: str,
    output: Path,
    *,
    classes: Sequence[str] = (),
    start_s: float = 0.0,
    stop_s: float | None = None,
    method: Method | None = None,
    on_share: OnShare = _nobody,
) -> dict[str, Any]:
    """Write what classes hang on in a video: moving with every frame (.gif, .mp4, .webm), or eight of them (.png).

    Args:
        looked: the network.
        video: a file or URL.
        output: the file.
        classes: names or numbers; by default the class that the network finds most probable over the stretch.
        start_s: of the stretch, from the video's first displayed frame on.
        stop_s: its end; by default the video's.
        method: how it is told.
        on_share: is told the share that is done.

    Returns:
        JSON values: seconds of the frames, and for each class the saliency and probability at each.

    Raises:
        UsageError: an unknown class, another ending, an empty or too long stretch, or ``output`` is the video itself.
        InputError, VideoError: the video cannot be read.
        MachineError: the file cannot be written.
    """
    check_ending(output, ENDINGS)
    check_is_other(output, video)
    method = method or Method()
    found = video_saliency(
        looked,
        video,
        [looked.number(text) for text in classes],
        start_s=start_s,
        stop_s=stop_s,
        method=method,
        on_clip=lambda done, whole: on_share(done / whole, f"{done} of {whole} clips"),
    )
    labels = [looked.label(number) for number in found.classes]
    evidence = Evidence(found, labels)
    if output.suffix == ".png":
        write_picture(evidence.still(), output)
    else:
        write_moving(list(evidence.frames()), output, fps=_rate(found.second, _fps(looked)))
    return {
        "output": str(output),
        "video": without_secrets(video),
        "backbone": looked.backbone.name,
        "weights_sha256": looked.backbone.weights_sha256,
        "method": asdict(method),
        "second": found.second.tolist(),
        "classes": [
            {"class": label, "number": number, "saliency": curve.tolist(), "probability": said.tolist()}
            for label, number, curve, said in zip(labels, found.classes, found.curve, found.probability, strict=True)
        ],
    }


def saliency_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """What people read of `show_saliency`."""
    second = np.array(result["second"])
    yield f"{result['output']}: {len(second)} frames of {result['video']}, {second[0]:.1f} to {second[-1]:.1f} s"
    for each in result["classes"]:
        curve, said = np.array(each["saliency"]), np.array(each["probability"])
        yield (
            f"  {each['class']}: hangs most on {second[curve.argmax()]:.1f} s; "
            f"most probable at {second[said.argmax()]:.1f} s ({said.max():.2f})"
        )


def _told(on_share: OnShare, before: int, whole: int, words: str) -> Callable[[int, float], None]:
    return lambda done, logit: on_share((before + done) / whole, f"{words}, logit {logit:.1f}")


def _label(name: str, weight: float, found: Maximised) -> str:
    return f"{name}, temporal smoothness {weight:g}: logit {found.logit:.1f}{_moves(found.motion_px)}"


def _moves(motion_px: Sequence[float] | None) -> str:
    return "" if motion_px is None else f", moves by {motion_px[0]:+.2f}, {motion_px[1]:+.2f} px a frame"


def _figures(found: Maximised) -> dict[str, Any]:
    names = ("logit", "probability", "start_logit", "start_probability", "temporal_difference", "motion_px")
    return {name: getattr(found, name) for name in names}


def _fps(looked: Looked) -> float:
    """Frames of a clip a second; of native ones, 25 samples a second, which many videos have."""
    clips = looked.backbone.spec.clips
    return (25.0 if clips.fps == "native" else clips.fps) / clips.frame_stride


def _rate(second: np.ndarray[Any, np.dtype[np.float64]], otherwise: float) -> float:
    """Frames a second of frames at these times."""
    step_s = float(np.median(np.diff(second))) if len(second) > 1 else 0.0
    return 1 / step_s if step_s > 0 else otherwise
