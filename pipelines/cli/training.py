"""Commands about heads, figures and labels."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.cli.shared import Device, Join, Json, Labels, Quiet, Store, Verbose, app, print_result
from pipelines.config import TrainSettings
from pipelines.console import Meter

_HEADS = (
    "For classify and label: mean, max, linear, svm, attention-pool, netvlad, lstm (the default), gru, attention;"
    " for label also ms-tcn; for localize: actionformer (the default), temporalmaxer, proposals, watershed;"
    " for detect: bank-nonlocal (the default), bank-max, bank-mean, bank-none."
)
_SET = "key=value, more than once; defaults, where the head has none of its own: " + ", ".join(
    f"{key}={field.default}" for key, field in TrainSettings.model_fields.items()
)


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
        print_result({"run": str(output), **summary}, seeds_lines(output, summary), as_json=as_json)
    else:
        print_result({"run": str(trained.path), **trained.record}, run_lines(trained), as_json=as_json)


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
    print_result(result, evaluation_lines(result), as_json=as_json)


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
    print_result(result, score_lines(result), as_json=as_json)


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
    print_result(conversion_json(done), conversion_lines(done), as_json=as_json)
