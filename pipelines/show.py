"""Results as lines for people; the same results as JSON come from the functions that made them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.filesize import decimal

from pipelines.console import Meter, clock, complain, duration

if TYPE_CHECKING:  # nothing here may cost a command that does not need it the import of torch
    from extract.video import VideoInfo
    from pipelines.checkpoint import Run
    from pipelines.extraction import Plan, Progress, Summary
    from pipelines.fitting import Progress as TrainProgress
    from pipelines.scan import Scan

_NAMED = 20  # failures printed one by one


def plan_lines(plan: Plan) -> Iterator[str]:
    """What an extraction is about to do."""
    work = plan.work
    if work.done:
        yield f"{work.done} videos are in the store already"
    yield (
        f"{plan.videos} videos to read, {duration(plan.video_s)} in all, {_to_compute(plan)} "
        f"in {len(plan.units)} {'unit' if len(plan.units) == 1 else 'units'} of work"
    )
    recipe = plan.setup.recipe
    rate = recipe.fps if recipe.fps == "native" else f"{recipe.fps:g} fps"
    yield (
        f"{recipe.backbone} on {plan.setup.device}, {plan.setup.engine} {recipe.precision}: "
        f"{recipe.clip_frames} frames at {rate}, stride {recipe.frame_stride}, hop {recipe.hop}, "
        f"{f'whole frames, short side {recipe.short_side_px}' if recipe.crop_px is None else recipe.crop_px} px"
    )
    yield from (f"note: {note}" for note in work.notes)
    yield from _prediction(plan)
    if work.failed:
        yield f"{len(work.failed)} cannot be opened: {_some([failed.video_id for failed in work.failed])}"
    if work.others:
        yield f"left alone, not videos by their names: {work.others} files"


def _to_compute(plan: Plan) -> str:
    return f"about {plan.clips} clips" if plan.boxes is None else f"{plan.boxes} boxes in about {plan.clips} clips"


def _prediction(plan: Plan) -> Iterator[str]:
    """How long it should take, and why."""
    if plan.speed is None or plan.predicted_s is None or not plan.units:
        return
    slots = "one worker" if plan.slots == 1 else f"{plan.slots} workers"
    computed, decoded = 1 / plan.speed.model_s_per_clip, 1 / max(plan.speed.decode_s_per_s, 1e-9)
    yield (
        f"about {duration(plan.predicted_s)} for {slots}, bound by {plan.predicted_bound}: each decodes at "
        f"{_pace(decoded)}× real time and computes {_pace(computed)} clips/s; {decimal(plan.store_bytes)} to store"
    )


def estimate_lines(plan: Plan) -> Iterator[str]:
    """What `untrimmed estimate` found."""
    yield from plan_lines(plan)
    if plan.units and plan.speed is None:
        yield "none of the videos tried can be read: nothing was measured"


def unit_lines(plan: Plan) -> Iterator[str]:
    """The units of a plan, one a line, the longest first; many are cut short."""
    for number, unit in enumerate(plan.units[:_NAMED]):
        names = [
            task.video_id
            if task.span is None
            else f"{task.video_id} [clips {task.span.first}–{'end' if task.span.stop is None else task.span.stop - 1}]"
            for task in unit.tasks
        ]
        yield f"  {number + 1}: {_some(names)}"
    if len(plan.units) > _NAMED:
        yield f"  and {len(plan.units) - _NAMED} more; --json names all"


def follow_extraction(meter: Meter, *, quiet: bool) -> tuple[Callable[[Plan], None], Callable[[Progress], None]]:
    """What `pipelines.extraction.run_extraction` shall call with its plan, and with its progress."""
    began = time.monotonic()

    def on_plan(plan: Plan) -> None:
        nonlocal began
        began = time.monotonic()
        if not quiet:
            for line in plan_lines(plan):
                complain(line)

    def on_progress(now: Progress) -> None:
        elapsed_s = max(1e-6, time.monotonic() - began)
        share = min(1.0, now.clips_done / max(1, now.clips))
        failed = f" · {now.failed} failed" if now.failed else ""
        stopping = " · stopping after the units in work, Ctrl-C again stops at once" if now.stopping else ""
        meter.show(
            share,
            f"{now.videos_done} of {now.videos} videos · {now.clips_done} clips · "
            f"{_pace(now.clips_done / elapsed_s)} clips/s · "
            f"{_pace(share * now.video_s / elapsed_s)}× real time{failed}{stopping}",
        )

    return on_plan, on_progress


def follow_waiting(meter: Meter) -> Callable[[str, float | None], None]:
    """What `pipelines.extraction.prepare` shall call while something takes time before the plan."""
    return lambda what, share: meter.show(share or 0.0, what)


def _pace(per_s: float) -> str:
    return f"{per_s:.0f}" if per_s >= 10 else f"{per_s:.2g}"


def summary_lines(summary: Summary) -> Iterator[str]:
    """What an extraction did."""
    busy = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in summary.busy_s.items())
    boxes = "" if summary.boxes is None else f"{summary.boxes} boxes in "
    if summary.videos:
        yield (
            f"{summary.videos} videos, {boxes}{summary.clips} clips in {duration(summary.seconds)}: "
            f"{_pace(summary.clips_per_s)} clips/s, {_pace(summary.times_real_time)}× real time; "
            f"bound by {summary.bound_by} (busy: {busy})"
        )
    if summary.predicted_s is not None and summary.videos:
        took = summary.worked_s
        yield f"predicted {duration(summary.predicted_s)}, took {duration(took)}"
    yield from (f"note: {note}" for note in summary.notes)
    if summary.stopped:
        yield "stopped before all was done; the same command goes on"
    if summary.already_done:
        yield f"{summary.already_done} videos were in the store already"
    if summary.partial:
        yield f"{len(summary.partial)} videos are damaged and kept as far as they go: {_some(summary.partial)}"
    if summary.failed:
        yield f"{len(summary.failed)} videos failed; the store remembers them, --retry-failed tries them again:"
        for failure in summary.failed[:_NAMED]:
            yield f"  {failure['video']}: {failure['detail']} [{failure['reason']}]"
        if len(summary.failed) > _NAMED:
            yield f"  and {len(summary.failed) - _NAMED} more; --json names all"
    yield f"store: {summary.store}"


def scan_lines(found: Scan, *, problems_only: bool) -> Iterator[str]:
    """A table of the videos, each with its problems below it, and the totals."""
    listed = [video for video in found.videos if video.problems or not problems_only]
    width = max((len(video.video_id) for video in listed), default=0)
    if listed:
        yield f"{'video':{width}}  {'length':>12}  {'size':>11}  {'frames/s':>12}  {'bytes':>9}  codec"
    for video in listed:
        yield f"{video.video_id:{width}}  {'cannot be read' if video.info is None else _described(video.info)}"
        yield from (f"    {problem}" for problem in video.problems)
    if listed:
        yield ""
    readable, failed = found.readable, len(found.failed)
    total = f"{duration(found.duration_s)}, {decimal(found.size_bytes)}"
    odd = sum(bool(info.warnings) for info in readable)
    yield f"{len(readable)} of {len(found.videos)} videos can be read: {total}; {failed} cannot, {odd} are odd"
    if found.others:
        yield f"left alone, not videos by their names: {found.others} files"
    codecs = Counter(info.codec for info in readable)
    if codecs:
        yield "codecs: " + ", ".join(f"{codec} {count}" for codec, count in codecs.most_common())
    rate = 60 * len(found.videos) / max(found.seconds, 1e-6)
    yield f"scanned in {duration(found.seconds)}, {rate:.0f} files a minute"


def _described(info: VideoInfo) -> str:
    length = "unknown" if info.duration_s is None else clock(info.duration_s)
    size = f"{info.width} x {info.height}"
    rate = f"{info.average_fps:.3f}".rstrip("0").rstrip(".") + (" varying" if info.variable_rate else "")
    turned = f", turned {info.rotation}°" if info.rotation else ""
    return f"{length:>12}  {size:>11}  {rate:>12}  {decimal(info.size_bytes):>9}  {info.codec}{turned}"


def backbones_lines(found: list[dict[str, Any]]) -> Iterator[str]:
    """A table of all backbones."""
    from extract.backbones.families import FAMILIES

    width = max(len(backbone["name"]) for backbone in found)
    title = f"{'params':>7}  {'GMAC':>6}  {'clip':>14}  {'px':>3}  {'width':>5}  {'here':4}  published"
    yield f"{'backbone':{width}}  {title}"
    for backbone in found:
        clips, gmac = backbone["clips"], backbone["gmac"]
        rate = "native" if clips["fps"] == "native" else f"{clips['fps']:g} fps"
        clip = f"{clips['clip_frames']} × {clips['frame_stride']}, {rate}"
        yield (
            f"{backbone['name']:{width}}  {backbone['parameters'] / 1e6:6.1f}M  {gmac:6.1f}  {clip:>14}  "
            f"{clips['crop_px']:3}  {backbone['feature_width']:5}  "
            f"{'yes' if backbone['weights_here'] else 'no':4}  {backbone['published']}"
        )
    yield ""
    yield "px: side of the crop. GMAC: 1e9 multiply-adds of one clip. here: whether its weights need no download."
    yield "frames:NAME takes any torchvision image network frame by frame. `untrimmed backbones NAME` tells all."
    yield f"`untrimmed pretrain` makes it a clip model in other ways, too: {', '.join(FAMILIES)}, each with :NAME."


def backbone_lines(backbone: dict[str, Any]) -> Iterator[str]:
    """One backbone in full."""
    yield backbone["name"]
    for key, value in backbone.items():
        if key in ("name", "clips", "presets"):
            continue
        yield f"  {key.replace('_', ' '):16}  {value if value not in ('', None) else '-'}"
    for title, clips in {"": backbone["clips"], **backbone["presets"]}.items():
        name = f"preset {title}" if title else "clips"
        rate = "every frame" if clips["fps"] == "native" else f"{clips['fps']:g} samples/s"
        yield (
            f"  {name:16}  {clips['clip_frames']} frames, stride {clips['frame_stride']}, hop {clips['hop']}, {rate}, "
            f"short side {clips['short_side_px']}, crop {clips['crop_px']} px"
        )
    clips = backbone["clips"]
    yield f"  {'colours':16}  {clips['colour']}, mean {_three(clips['mean'])}, std {_three(clips['std'])} of 0..1"


def _three(values: list[float]) -> str:
    return " ".join(f"{value:.4g}" for value in values)


def info_lines(info: dict[str, Any]) -> Iterator[str]:
    """What a store holds."""
    yield f"{info['store']}"
    yield (
        f"  {info['videos']} videos, {info['clips']} {info['rows']} × {info['recipe']['feature_width']} features, "
        f"{duration(info['video_s'])} of video, {decimal(info['bytes'])} of features"
    )
    yield f"  recipe {info['recipe_digest'][:12]}"
    for key, value in info["recipe"].items():
        yield f"    {key}: {value}"
    if info["partial"]:
        yield f"  {len(info['partial'])} damaged videos, kept as far as they go: {_some(info['partial'])}"
    for failure in info["failed"][:_NAMED]:
        yield f"  failed: {failure['video']}: {failure['detail']} [{failure['reason']}]"
    if len(info["failed"]) > _NAMED:
        yield f"  and {len(info['failed']) - _NAMED} more failures; --json names all"


def status_lines(found: dict[str, Any]) -> Iterator[str]:
    """How far the work on a store is."""
    yield f"{found['store']}"
    yield f"  {found['videos']} videos, {found['clips']} {found['rows']}; {sum(found['failed'].values())} failed"
    for reason, count in sorted(found["failed"].items()):
        yield f"    {reason}: {count}"
    for video_id, clips in found["begun"].items():
        yield f"  begun: {video_id}, {clips} clips so far"
    yield (
        f"  published: {found['published_videos']} versions, {found['published_clips']} clips; "
        f"{found['compacted_clips']} of them compacted; log at {found['log_version']}"
    )
    if found["last_job"] is not None:
        yield from _job_lines(found["last_job"])


def compact_lines(found: dict[str, Any]) -> Iterator[str]:
    """What compaction did."""
    yield f"{found['store']}"
    yield f"  published: {found['published_videos']} versions, {found['published_clips']} clips"
    yield f"  {found['compacted_clips']} of them, in full shards, are read from there; the others from their segments"
    yield f"  deleted: {found['deleted_objects']} objects, {decimal(found['deleted_bytes'])}"


def _job_lines(job: dict[str, Any]) -> Iterator[str]:
    where = f" on {job['host']}" if job["host"] else ""
    yield f"  last job {job['job']}{where}: {job['state']}, heard of {duration(job['last_heard_s'])} ago"
    if job["error"]:
        yield f"    {job['error']}"
    if job["units_planned"]:
        busy = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in job["busy_s"].items())
        yield (
            f"    {job['units']} of {job['units_planned']} units, {job['clips']} of {job['clips_planned']} clips, "
            f"{job['failed']} failed in {duration(job['worked_s'])}: {_pace(job['clips_per_s'])} clips/s (busy: {busy})"
        )


def machine_lines(found: dict[str, Any]) -> Iterator[str]:
    """What this machine has."""
    width = max(len(key) for key in found)
    for key, value in found.items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        yield f"{key.replace('_', ' '):{width}}  {text}"


def follow_training(meter: Meter, seeds: int) -> Callable[[int, TrainProgress], None]:
    """What `pipelines.seeds.train_seeds` shall call after each epoch of each of ``seeds`` seeds."""

    def on_progress(number: int, now: TrainProgress) -> None:
        figure = "" if now.value is None else f" · {now.metric} {now.value:.3f}"
        seed = f"seed {number + 1} of {seeds} · " if seeds > 1 else ""
        share = (number + now.epoch / now.epochs) / seeds
        meter.show(share, f"{seed}epoch {now.epoch} of {now.epochs} · loss {now.loss:.3f}{figure}")

    return on_progress


def run_lines(run: Run) -> Iterator[str]:
    """What a training made."""
    took = f"{run.record['seconds']:.1f} s"
    yield f"trained {run.head_name} to {run.task} {len(run.classes)} classes in {took}: {run.path}"
    yield from (f"note on training: {note}" for note in run.record["notes"])
    yield from _result_lines(run.record["result"])


def seeds_lines(out: Path, summary: dict[str, Any]) -> Iterator[str]:
    """What several trainings made."""
    yield f"trained with {len(summary['runs'])} seeds, a run each in {out}: {', '.join(summary['runs'])}"
    yield from _result_lines(summary["result"])


def _result_lines(result: dict[str, Any] | None) -> Iterator[str]:
    if result is None:
        yield "not evaluated: no video of subset 'validation' is annotated and in the store"
        return
    yield "on the validation subset:"
    yield from (f"  {line}" for line in evaluation_lines(result))


def evaluation_lines(result: dict[str, Any]) -> Iterator[str]:
    """Metrics beside chance and with their spread over seeds, then each threshold and class, then the notes."""
    longest = max(12, *map(len, result["metrics"]))
    for name, value in result["metrics"].items():
        chance = result.get("chance", {}).get(name)
        spread = result.get("spread", {}).get(name)
        over = "" if spread is None else f" ± {spread:.3f} over {len(result['seeds'])} seeds"
        beside = "" if chance is None else f"   (chance {chance:.3f})"
        yield f"{name:{longest}} {_figure(value)}{over}{beside}"
    for at, value in result["per_threshold"].items():
        yield f"  tIoU {at}  map {_figure(value)}"
    width = max((len(label) for label in result["per_class"]), default=0)
    for label, figures in result["per_class"].items():
        yield f"  {label:{width}}  ap {_figure(figures['ap'])}"
    for note in result["notes"]:
        yield f"note: {note}"


def _figure(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def pretrained_lines(run: Path, record: Mapping[str, Any]) -> Iterator[str]:
    """What a pretraining reached, and how its weights are used."""
    result = record["result"]
    yield (
        f"{record['backbone']}: {record['parameters'] / 1e6:.2f} M parameters, {record['training_clips']} clips of "
        f"{len(record['classes'])} classes, {duration(record['seconds'])}"
    )
    if result is None:
        yield "no clips were held out, so there is no accuracy"
    else:
        five = "" if result["top_5"] is None else f", best five {result['top_5']:.3f}"
        clips = record["validation_clips"]
        yield f"accuracy on {clips} clips held out: {result['accuracy']:.3f}{five}, chance {result['chance']:.3f}"
    yield from (f"cannot be read: {failed}" for failed in record["failed"])
    yield from record["notes"]
    yield f"decoded clips are kept in {record['cache']}, for other trainings on them; remove them when there are none"
    weights = run / "weights.safetensors"
    yield f"use it: untrimmed extract VIDEOS -o STORE --backbone {record['backbone']} --weights {weights}"


def fused_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Accuracy of each stream and of all together."""
    named = [*zip(found["runs"], found["streams"], strict=True)]
    named += [("average of probabilities", found["average"]), ("linear SVM on them", found["svm"])]
    width = max(len(name) for name, _ in named)
    yield f"{'accuracy':{width}}  of {found['validation_clips']} clips held out"
    yield from (f"{name:{width}}  {result['accuracy']:.3f}" for name, result in named)
    yield from (f"cannot be read: {failed}" for failed in found["failed"])
