"""Commands from videos to features."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from extract.urls import without_secrets
from pipelines.cli.shared import (
    FAILED_INPUTS,
    STOPPED,
    Backbone,
    Boxes,
    ClipFrames,
    Crop,
    Decoder,
    Device,
    Engine,
    Flow,
    Fps,
    FrameStride,
    Hop,
    Json,
    Layer,
    Paths,
    Precision,
    Preset,
    Quiet,
    ShortSide,
    Verbose,
    Weights,
    Workers,
    app,
    print_json,
    print_result,
)
from pipelines.console import Meter, duration, out

if TYPE_CHECKING:
    from extract.worker import Unit


def _unit(unit: "Unit") -> dict[str, Any]:
    """A unit of work as plain values, free of secrets; of boxes, how many."""
    tasks = [{**asdict(task), "path": without_secrets(task.path)} for task in unit.tasks]
    for values, task in zip(tasks, unit.tasks, strict=True):
        values["boxes"] = None if task.boxes is None else len(task.boxes)
    return {"tasks": tasks}


@app.command(epilog="Example: untrimmed demo -o my-demo")
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="New folder for all it makes.")] = Path(
        "untrimmed-demo"
    ),
    workers: Annotated[int, typer.Option(help="Dask workers that extract.", min=0)] = 2,
    as_json: Json = False,
    quiet: Quiet = False,
    _verbose: Verbose = False,
) -> None:
    """Show the whole path on made videos, offline, on the CPU, in about two minutes.

    Makes videos, extracts them with the embedded backbone, trains and evaluates heads; ends with a report to look at.
    """
    from pipelines.demo import demo_lines, run_demo

    result = run_demo(output, workers=workers, quiet=quiet)
    print_result(result, demo_lines(result), as_json=as_json)


@app.command(epilog="Example: untrimmed synthesize order -o worlds/order --videos 96 --seconds 30 --seed 1")
def synthesize(
    kind: Annotated[str, typer.Argument(help="trimmed, untrimmed, order or memory.", metavar="KIND")],
    output: Annotated[Path, typer.Option("--output", "-o", help="New folder.")],
    videos: Annotated[int | None, typer.Option(help="How many videos.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Length of each.")] = None,
    seed: Annotated[int, typer.Option(help="Another seed, other videos; the same seed, the same bytes.")] = 0,
    workers: Annotated[int | None, typer.Option(help="Processes; by default one a core.", min=1)] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    _verbose: Verbose = False,
) -> None:
    """Make videos with known answers: motion worlds in which no single frame tells what happens."""
    from pipelines.synthetic import synthesize as make

    with Meter("synthesize", quiet=quiet) as meter:
        annotations = make(
            kind,
            output,
            videos=videos,
            seconds=seconds,
            seed=seed,
            workers=workers,
            on_progress=lambda done, total: meter.show(done / total, f"{done} of {total} videos"),
        )
    count, seconds_made = len(annotations.videos), sum(video.duration_s for video in annotations.videos)
    if as_json:
        classes = list(annotations.classes)
        print_json({"kind": kind, "output": str(output), "videos": count, "seconds": seconds_made, "classes": classes})
        return
    out.print(f"{count} videos, {duration(seconds_made)} in all, in {output / 'videos'}")
    out.print(f"labels in {output / 'annotations.json'}")


@app.command(epilog="Example: untrimmed scan archive/ --problems")
def scan(
    paths: Paths,
    problems: Annotated[bool, typer.Option("--problems", help="List only videos with problems.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    _verbose: Verbose = False,
) -> None:
    """Say what each video is, and what is wrong with it, from its header and first frames: nothing else is decoded."""
    from pipelines.scan import raw_lines, scan_json
    from pipelines.scan import scan as scan_archive
    from pipelines.show import scan_lines

    with Meter("scan", quiet=quiet) as meter:
        found = scan_archive(paths, lambda done, count: meter.show(done / count, f"{done} of {count} videos"))
    lines = [*scan_lines(found, problems_only=problems), *raw_lines(found)]
    print_result(scan_json(found), lines, as_json=as_json)
    if found.failed:
        raise typer.Exit(FAILED_INPUTS)


@app.command(epilog="Example: untrimmed extract archive/ -o features.zarr --workers 2")
def extract(
    paths: Paths,
    output: Annotated[str, typer.Option("--output", "-o", help="The feature store; made, or gone on with.")],
    backbone: Backbone = "tiny_r2plus1d",
    weights: Weights = None,
    preset: Preset = None,
    layer: Layer = None,
    clip_frames: ClipFrames = None,
    frame_stride: FrameStride = None,
    hop: Hop = None,
    fps: Fps = None,
    short_side: ShortSide = None,
    crop: Crop = None,
    precision: Precision = "auto",
    engine: Engine = "auto",
    device: Device = "auto",
    decoder: Decoder = "auto",
    flow: Flow = None,
    boxes: Boxes = None,
    workers: Workers = 0,
    scheduler: Annotated[
        str | None, typer.Option(help="Work on this Dask scheduler: tcp://HOST:PORT, or its scheduler file.")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(help="Work on a cluster that this YAML file describes (SLURM, SSH, …).")
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try videos again that failed before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    _verbose: Verbose = False,
) -> None:
    """Read videos, run the backbone over their clips, keep the features. Run it again to go on where it stopped."""
    from pipelines.extraction import Options, prepare, run_extraction
    from pipelines.planning import plan_json
    from pipelines.show import follow_extraction, follow_waiting, plan_lines, summary_lines, unit_lines

    options = Options(
        backbone=backbone,
        weights=weights,
        preset=preset,
        layer=layer,
        clip_frames=clip_frames,
        frame_stride=frame_stride,
        hop=hop,
        fps=fps,
        short_side=short_side,
        crop=crop,
        precision=precision,
        engine=engine,
        device=device,
        decoder=decoder,
        flow=flow,
        boxes=boxes,
        workers=workers,
        scheduler=scheduler,
        cluster=cluster,
        retry_failed=retry_failed,
    )
    if dry_run:
        with Meter("prepare", quiet=quiet) as meter:
            plan = prepare(paths, output, options, on_wait=follow_waiting(meter))
        if as_json:
            print_json({**plan_json(plan), "units": [_unit(unit) for unit in plan.units]})
        else:
            out.print("\n".join([*plan_lines(plan), *unit_lines(plan)]), markup=False)
        return
    with Meter("extract", quiet=quiet) as meter:
        on_plan, on_progress = follow_extraction(meter, quiet=quiet)
        _, summary = run_extraction(
            paths, output, options=options, on_plan=on_plan, on_progress=on_progress, on_wait=follow_waiting(meter)
        )
    print_result(asdict(summary), summary_lines(summary), as_json=as_json)
    if summary.stopped:
        raise typer.Exit(STOPPED)
    if summary.failed:
        raise typer.Exit(FAILED_INPUTS)


@app.command(epilog="Example: untrimmed estimate archive/ --backbone slowfast_r50_8x8 --workers 2")
def estimate(
    paths: Paths,
    backbone: Backbone = "tiny_r2plus1d",
    weights: Weights = None,
    preset: Preset = None,
    layer: Layer = None,
    clip_frames: ClipFrames = None,
    frame_stride: FrameStride = None,
    hop: Hop = None,
    fps: Fps = None,
    short_side: ShortSide = None,
    crop: Crop = None,
    precision: Precision = "auto",
    engine: Engine = "auto",
    device: Device = "auto",
    decoder: Decoder = "auto",
    flow: Flow = None,
    boxes: Boxes = None,
    workers: Workers = 0,
    as_json: Json = False,
    quiet: Quiet = False,
    _verbose: Verbose = False,
) -> None:
    """Measure a small sample; say how long `extract` with these options would take, what it would store, and why."""
    from pipelines.planning import estimate as measured
    from pipelines.planning import plan_json
    from pipelines.settling import Options
    from pipelines.show import estimate_lines, follow_waiting

    options = Options(
        backbone=backbone,
        weights=weights,
        preset=preset,
        layer=layer,
        clip_frames=clip_frames,
        frame_stride=frame_stride,
        hop=hop,
        fps=fps,
        short_side=short_side,
        crop=crop,
        precision=precision,
        engine=engine,
        device=device,
        decoder=decoder,
        flow=flow,
        boxes=boxes,
        workers=workers,
    )
    with Meter("estimate", quiet=quiet) as meter:
        plan = measured(paths, options, on_wait=follow_waiting(meter))
    print_result(plan_json(plan), estimate_lines(plan), as_json=as_json)
    if plan.work.failed:
        raise typer.Exit(FAILED_INPUTS)


@app.command("detect-people", epilog="Example: untrimmed detect-people archive/ -o boxes.csv")
def detect_people(
    paths: Paths,
    output: Annotated[Path, typer.Option("--output", "-o", help="New csv file, for `extract --boxes`.")],
    every: Annotated[float, typer.Option(help="Seconds between the pictures that are looked at.")] = 1.0,
    min_score: Annotated[float, typer.Option(help="Leave out whom the network is less sure of.")] = 0.8,
    weights: Annotated[
        str, typer.Option(help="pretrained (official, fetched once), a checkpoint FILE or URL, random:SEED.")
    ] = "pretrained",
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
    _verbose: Verbose = False,
) -> None:
    """Find people in videos, once a second: their boxes, a row each, and beside them their tracks."""
    from pipelines.people import detect_people as detect
    from pipelines.people import people_lines
    from pipelines.show import follow_waiting

    with Meter("detect people", quiet=quiet) as meter:
        found = detect(
            paths,
            output,
            every_s=every,
            min_score=min_score,
            weights=weights,
            device=device,
            on_progress=lambda done, count, people: meter.show(
                done / count, f"{done} of {count} videos · {people} people"
            ),
            on_wait=follow_waiting(meter),
        )
    print_result(asdict(found), people_lines(found), as_json=as_json)
    if found.failed:
        raise typer.Exit(FAILED_INPUTS)
