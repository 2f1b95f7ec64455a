"""The command ``untrimmed``. Results go to stdout, everything else to stderr.

Exit codes: 0 done, 1 unexpected, 2 usage, 3 bad input or environment, 4 finished, but some inputs failed.
"""

import json
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from extract.errors import UntrimmedError, UsageError
from extract.urls import without_secrets
from pipelines.config import TrainSettings
from pipelines.console import Meter, complain, duration, out

if TYPE_CHECKING:
    from extract.worker import Unit

app = typer.Typer(
    name="untrimmed",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Features of long, untrimmed video: extracted once, stored so they can be trusted, used in seconds.",
    epilog="Begin with: untrimmed demo",
)

Labels = Annotated[
    Path,
    typer.Option(
        help="Labels: ActivityNet's JSON, or another format with durations and subsets; for detect AVA's csv files, by"
        " their folder or one of them."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show the traceback of an error.")]
Paths = Annotated[list[str], typer.Argument(help="Videos, folders of videos, or URLs of videos.", metavar="PATH…")]
Store = Annotated[str, typer.Argument(help="A feature store.", metavar="STORE")]
Backbone = Annotated[str, typer.Option(help="Network that reads the clips; see `untrimmed backbones`.")]
Weights = Annotated[
    str | None,
    typer.Option(help="embedded, pretrained (official, fetched once), a checkpoint FILE or URL, random:SEED."),
]
Preset = Annotated[str | None, typer.Option(help="Clips of a published feature set; see `untrimmed backbones NAME`.")]
Layer = Annotated[str | None, typer.Option(help="Mean of this layer's maps in place of the features.")]
ClipFrames = Annotated[int | None, typer.Option(help="Frames of a clip. These six: the backbone's own.")]
FrameStride = Annotated[int | None, typer.Option(help="Samples between two frames of a clip.")]
Hop = Annotated[int | None, typer.Option(help="Samples between the starts of two clips.")]
Fps = Annotated[str | None, typer.Option(help="Samples per second, or native.")]
ShortSide = Annotated[int | None, typer.Option(help="Shorter side of the resized frame, in pixels.")]
Crop = Annotated[int | None, typer.Option(help="Side of the centre crop, in pixels.")]
Precision = Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")]
Engine = Annotated[str, typer.Option(help="auto, torch, compile or openvino.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Decoder = Annotated[str, typer.Option(help="auto, pyav, decord, torchcodec or torchcodec:cuda.")]
Boxes = Annotated[
    Path | None,
    typer.Option(help="People: a csv file of video, second, x1, y1, x2, y2. A row of features for each of them."),
]
Workers = Annotated[int, typer.Option(help="Dask worker processes; 0 works in this process.", min=0)]
Join = Annotated[
    list[str] | None,
    typer.Option(help="Another store whose features of the same videos are put beside, such as optical flow."),
]
BAD_INPUT = 3
FAILED_INPUTS = 4
STOPPED = 130
_GO_ON = {
    "extract": "An extraction",
    "demo": "An extraction",
    "detect-people": "A search for people",
    "train": "A training",
}
_HEADS = (
    "For classify and label: mean, max, linear, svm, attention-pool, netvlad, lstm (the default), gru, attention;"
    " for label also ms-tcn; for localize: actionformer (the default), temporalmaxer, proposals, watershed;"
    " for detect: bank-nonlocal (the default), bank-max, bank-mean, bank-none."
)
_SET = "key=value, more than once; defaults, where the head has none of its own: " + ", ".join(
    f"{key}={field.default}" for key, field in TrainSettings.model_fields.items()
)


def main() -> None:
    """Run the command line; every error of ours becomes one message and its exit code."""
    verbose = "-v" in sys.argv or "--verbose" in sys.argv
    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # when Python ends, nobody could catch its error any more
    except BrokenPipeError:
        _end_unheard()
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # typer's and rich's own answer to it
            _end_unheard()
        if ended.code == STOPPED:  # typer's own answer to Ctrl-C
            what = next((_GO_ON[name] for name in sys.argv[1:2] if name in _GO_ON), "")
            goes_on = f" {what} goes on from here when the same command is run again." if what else ""
            complain(f"untrimmed: stopped.{goes_on}")
        raise
    except UntrimmedError as error:
        if verbose:
            raise
        complain(f"untrimmed: {error}")
        sys.exit(error.exit_code)
    except Exception as error:  # the last line of defence: no traceback unless asked for
        if verbose:
            raise
        complain(
            f"untrimmed: unexpected {type(error).__name__}: {error}\nRun it again with -v to see where; that is a bug."
        )
        sys.exit(1)


def _end_unheard() -> NoReturn:
    """End well: whoever read stdout, such as ``head``, has all that it wants."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still in the buffer goes there
    sys.exit(0)


def _print(result: dict[str, Any]) -> None:
    typer.echo(json.dumps(result, indent=2))


def _print_result(result: dict[str, Any], lines: Iterable[str], *, as_json: bool) -> None:
    if as_json:
        _print(result)
        return
    for line in lines:
        out.print(line, markup=False)


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

    Makes videos, extracts them with the embedded backbone, trains and evaluates heads.
    """
    from pipelines.demo import demo_lines, run_demo

    result = run_demo(output, workers=workers, quiet=quiet)
    if as_json:
        _print(result)
        return
    for line in demo_lines(result):
        out.print(line, markup=False)


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
        _print({"kind": kind, "output": str(output), "videos": count, "seconds": seconds_made, "classes": classes})
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
    from pipelines.scan import scan as scan_archive
    from pipelines.scan import scan_json
    from pipelines.show import scan_lines

    with Meter("scan", quiet=quiet) as meter:
        found = scan_archive(paths, lambda done, count: meter.show(done / count, f"{done} of {count} videos"))
    if as_json:
        _print(scan_json(found))
    else:
        for line in scan_lines(found, problems_only=problems):
            out.print(line, markup=False)
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
            _print({**plan_json(plan), "units": [_unit(unit) for unit in plan.units]})
        else:
            out.print("\n".join([*plan_lines(plan), *unit_lines(plan)]), markup=False)
        return
    with Meter("extract", quiet=quiet) as meter:
        on_plan, on_progress = follow_extraction(meter, quiet=quiet)
        _, summary = run_extraction(
            paths, output, options=options, on_plan=on_plan, on_progress=on_progress, on_wait=follow_waiting(meter)
        )
    if as_json:
        _print(asdict(summary))
    else:
        for line in summary_lines(summary):
            out.print(line, markup=False)
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
        boxes=boxes,
        workers=workers,
    )
    with Meter("estimate", quiet=quiet) as meter:
        plan = measured(paths, options, on_wait=follow_waiting(meter))
    if as_json:
        _print(plan_json(plan))
    else:
        for line in estimate_lines(plan):
            out.print(line, markup=False)
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
    if as_json:
        _print(asdict(found))
    else:
        for line in people_lines(found):
            out.print(line, markup=False)
    if found.failed:
        raise typer.Exit(FAILED_INPUTS)


@app.command(epilog="Example: untrimmed backbones slowfast_r50_8x8")
def backbones(
    name: Annotated[str | None, typer.Argument(help="One of them, or frames:NAME, in full.", metavar="[NAME]")] = None,
    as_json: Json = False,
    _verbose: Verbose = False,
) -> None:
    """Every backbone: parameters, multiply-adds, clips, features, licence, and where its weights come from."""
    from pipelines.machine import backbones_info
    from pipelines.show import backbone_lines, backbones_lines

    found = backbones_info(name)
    if as_json:
        _print({"backbones": found} if name is None else found[0])
        return
    for line in backbones_lines(found) if name is None else backbone_lines(found[0]):
        out.print(line, markup=False)


@app.command(epilog="Example: untrimmed info features.zarr")
def info(
    store: Store,
    as_json: Json = False,
    _verbose: Verbose = False,
) -> None:
    """What a store holds: recipe, videos, clips, hours, failures."""
    from pipelines.inspection import store_info
    from pipelines.show import info_lines

    found = store_info(store)
    if as_json:
        _print(found)
        return
    for line in info_lines(found):
        out.print(line, markup=False)


@app.command(epilog="Example: untrimmed status features.zarr")
def status(store: Store, as_json: Json = False, _verbose: Verbose = False) -> None:
    """How far the work on a store is: videos, what was begun, failures by reason, what is published, the last job."""
    from pipelines.inspection import store_status
    from pipelines.show import status_lines

    found = store_status(store)
    if as_json:
        _print(found)
        return
    for line in status_lines(found):
        out.print(line, markup=False)


@app.command(epilog="Example: untrimmed verify features.zarr --sample 0.01")
def verify(
    store: Store,
    sample: Annotated[
        float, typer.Option(help="Extract this share of the videos again, and compare.", min=0, max=1)
    ] = 0.0,
    as_json: Json = False,
    quiet: Quiet = False,
    _verbose: Verbose = False,
) -> None:
    """Read everything in a store, compare it with its checksums, and extract a sample again.

    Exit code 3 when anything is damaged or differs; all of it is named.
    """
    from extract.store import FeatureStore
    from pipelines.comparison import compare_sample, comparison_json, comparison_lines
    from pipelines.verification import verification_json, verification_lines, verify_store

    opened = FeatureStore.open(store)
    with Meter("verify", quiet=quiet) as meter:
        found = verify_store(opened, lambda done, count: meter.show(done / max(1, count), f"{done} of {count} clips"))
    compared = []
    if sample:
        with Meter("extract a sample again", quiet=quiet) as meter:
            compared = compare_sample(
                opened, sample, lambda done, count: meter.show(done / count, f"{done} of {count} videos")
            )
    if as_json:
        _print({**verification_json(found), "sample": comparison_json(compared)})
    else:
        for line in (*verification_lines(found), *(comparison_lines(compared) if sample else ())):
            out.print(line, markup=False)
    if found.damaged or any(each.problem for each in compared):
        raise typer.Exit(BAD_INPUT)


@app.command(epilog="Example: untrimmed export features.zarr match/day1.mp4 -o day1.npy")
def export(
    store: Store,
    output: Annotated[Path, typer.Option("--output", "-o", help="FILE.npy or FILE.npz, or a folder for all videos.")],
    video: Annotated[str | None, typer.Argument(help="A video's id; all videos without it.", metavar="[ID]")] = None,
    layout: Annotated[
        str | None, typer.Option(help="For all videos: npy (what it is by default), npz, actionformer or opentad.")
    ] = None,
    annotations: Annotated[Path | None, typer.Option(help="Labels for actionformer and opentad.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    _verbose: Verbose = False,
) -> None:
    """Write features as files for other programs, one a video."""
    from extract.store import FeatureStore
    from pipelines.exports import export_json, export_lines, export_store, export_video

    opened = FeatureStore.open(store)
    if video is not None:
        if layout is not None or annotations is not None:
            raise UsageError(f"--layout and --annotations are for all videos; leave them out, or {video}")
        result = export_video(opened, video, output)
    else:
        with Meter("export", quiet=quiet) as meter:
            result = export_store(
                opened,
                output,
                layout=layout or "npy",
                annotations=annotations,
                on_progress=lambda done, count: meter.show(done / max(1, count), f"{done} of {count} videos"),
            )
    if as_json:
        _print(export_json(result))
    else:
        for line in export_lines(result):
            out.print(line, markup=False)
    if result.failed:
        raise typer.Exit(FAILED_INPUTS)


@app.command(epilog="Example: untrimmed compact features.zarr")
def compact(
    store: Store,
    grace: Annotated[float, typer.Option(help="Leave alone what was written in these last hours.", min=0)] = 24.0,
    as_json: Json = False,
    _verbose: Verbose = False,
) -> None:
    """Publish, read published clips from there, and delete what is stored twice or named by nothing.

    Jobs and readers may go on meanwhile.
    """
    from pipelines.inspection import compact_store
    from pipelines.show import compact_lines

    found = compact_store(store, grace_hours=grace)
    if as_json:
        _print(found)
        return
    for line in compact_lines(found):
        out.print(line, markup=False)


@app.command(epilog="Example: untrimmed doctor")
def doctor(as_json: Json = False, _verbose: Verbose = False) -> None:
    """What this machine has: torch, device, precision, decoders, codecs, memory, weights."""
    from pipelines.machine import machine_info
    from pipelines.show import machine_lines

    found = machine_info()
    if as_json:
        _print(found)
        return
    for line in machine_lines(found):
        out.print(line, markup=False)


@app.command(
    epilog="Example: untrimmed train classify features.zarr --annotations labels.json -o runs/lstm --head lstm"
)
def train(
    task: Annotated[
        str,
        typer.Argument(
            help="classify (one label a video), label (every clip), localize (from when to when) or detect (who does"
            " what, each second).",
            metavar="TASK",
        ),
    ],
    store: Store,
    annotations: Labels,
    output: Annotated[Path, typer.Option("--output", "-o", help="New folder for the run.")],
    head: Annotated[str | None, typer.Option(help=_HEADS)] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help=_SET)] = None,
    join: Join = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and augmentation.")] = 0,
    seeds: Annotated[int, typer.Option(help="Train with so many seeds, from --seed on: mean and spread.", min=1)] = 1,
    device: Device = "auto",
    tensorboard: Annotated[Path | None, typer.Option(help="Also write the curves there, for TensorBoard.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    _verbose: Verbose = False,
) -> None:
    """Train a head over the features of a store. A training that was stopped goes on when it is called again."""
    from pipelines.config import settings_from
    from pipelines.joined import open_stores
    from pipelines.seeds import train_seeds
    from pipelines.show import follow_training, run_lines, seeds_lines
    from pipelines.tensorboard import with_tensorboard
    from pipelines.training import checked_head, checked_task
    from pipelines.training import train as run

    name = checked_head(checked_task(task), head)
    options: dict[str, Any] = {
        "annotations": annotations,
        "out": output,
        "head": name,
        "settings": settings_from(settings or [], name),
        "seed": seed,
        "device": device,
    }
    with Meter(f"train {name}", quiet=quiet) as meter:
        opened = open_stores(store, join or [])
        follow = follow_training(meter, seeds)
        if tensorboard is not None:
            follow = with_tensorboard(tensorboard, follow)
        if seeds > 1:
            summary = train_seeds(task, opened, seeds=seeds, on_progress=follow, **options)
        else:
            trained = run(task, opened, on_progress=partial(follow, 0), **options)
    if seeds > 1:
        _print_result({"run": str(output), **summary}, seeds_lines(output, summary), as_json=as_json)
    else:
        _print_result({"run": str(trained.path), **trained.record}, run_lines(trained), as_json=as_json)


@app.command(epilog="Example: untrimmed evaluate runs/lstm features.zarr --annotations labels.json")
def evaluate(
    run: Annotated[Path, typer.Argument(help="A run folder.", metavar="RUN")],
    store: Store,
    annotations: Labels,
    subset: Annotated[str, typer.Option(help="Which subset to score.")] = "validation",
    join: Join = None,
    as_json: Json = False,
    _verbose: Verbose = False,
) -> None:
    """Score a trained head on held-out videos."""
    from pipelines.evaluation import evaluate as score
    from pipelines.joined import open_stores
    from pipelines.show import evaluation_lines

    result = score(run, open_stores(store, join or []), annotations=annotations, subset=subset)
    _print_result(result, evaluation_lines(result), as_json=as_json)


@app.command(
    epilog="Example: untrimmed score activitynet --truth activity_net.v1-3.min.json --predictions detections.json"
)
def score(
    protocol: Annotated[
        str,
        typer.Argument(
            help="activitynet, activitynet-proposals, activitynet-classification, thumos14, ava, ava-2019, ava-2018,"
            " charades, charades-localize, segmental, topk, gap or video-map.",
            metavar="PROTOCOL",
        ),
    ],
    truth: Annotated[Path, typer.Option(help="Labels, in any format; for segmental a folder.")],
    predictions: Annotated[Path, typer.Option(help="What is scored, in any format; for segmental a folder.")],
    subset: Annotated[str | None, typer.Option(help="Of the truth; by default the protocol's own.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Class list: AVA's .pbtxt, or names of class numbers.")] = None,
    exclude: Annotated[Path | None, typer.Option(help="AVA's excluded frames, for ava-2019 and ava-2018.")] = None,
    blocked: Annotated[Path | None, typer.Option(help="JSON list of videos that do not count (ActivityNet's).")] = None,
    max_proposals: Annotated[
        str, typer.Option(help="Proposals of a video, on average; all for as many as there are.")
    ] = "100",
    kit: Annotated[
        str | None, typer.Option(help="thumos14 as its MATLAB kit has it: 11-point or hits (the two forms of AP).")
    ] = None,
    distinct: Annotated[
        bool, typer.Option("--distinct", help="Count duplicated true segments once, as ActionFormer and OpenTAD do.")
    ] = False,
    views: Annotated[str, typer.Option(help="topk: average views as probabilities or as scores.")] = "probabilities",
    background: Annotated[str, typer.Option(help="segmental: the label that is no action.")] = "background",
    inclusive: Annotated[
        bool, typer.Option("--inclusive", help="video-map: compare tubes as the code for JHMDB and UCF101-24 does.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Rows that cannot be scored, or look wrong, are errors.")
    ] = False,
    bootstrap: Annotated[int, typer.Option(help="So many resamples of the videos: 95 % interval.", min=0)] = 0,
    against: Annotated[
        Path | None, typer.Option(help="Other predictions: the difference, and whether it could be chance.")
    ] = None,
    as_json: Json = False,
    _verbose: Verbose = False,
) -> None:
    """The official figure for anybody's predictions, by its protocol's own rules, and what is odd about the files.

    Of equal scores the first in the file goes first; where another order gives another figure, its range is told.
    """
    from pipelines.scoring import Options, proposals_of
    from pipelines.scoring import score as run
    from pipelines.scoring.lines import score_lines

    options = Options(
        subset=subset,
        labels=labels,
        exclude=exclude,
        blocked=blocked,
        max_proposals=proposals_of(max_proposals),
        kit=kit,
        distinct=distinct,
        views=views,
        background=background,
        inclusive=inclusive,
    )
    result = run(protocol, truth, predictions, options=options, strict=strict, bootstrap=bootstrap, against=against)
    _print_result(result, score_lines(result), as_json=as_json)


@app.command(epilog="Example: untrimmed convert match.eaf labels.json --to activitynet")
def convert(
    source: Annotated[Path, typer.Argument(help="A file or folder, in any format.", metavar="IN")],
    output: Annotated[Path, typer.Argument(help="New file; or folder, for formats of several files.", metavar="OUT")],
    to: Annotated[str | None, typer.Option(help="Its format; by default the one that its ending means.")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second, where files count frames.", min=0.001)] = None,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT of the frame, where boxes are in pixels.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Class list, where files have numbers of classes.")] = None,
    subset: Annotated[
        str | None, typer.Option(help="Only its videos; where IN has no subsets, the one that all videos get.")
    ] = None,
    as_json: Json = False,
    _verbose: Verbose = False,
) -> None:
    """Labels or predictions from one format to another. Reads back what it wrote, and says what is not the same."""
    from pipelines.conversion import conversion_json, conversion_lines, size_from
    from pipelines.conversion import convert as run

    frame = None if size is None else size_from(size)
    done = run(source, output, to=to, fps=fps, size=frame, labels=labels, subset=subset)
    _print_result(conversion_json(done), conversion_lines(done), as_json=as_json)


if __name__ == "__main__":
    main()
