"""Commands about clip models that are trained here."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.shared import FAILED_INPUTS, Device, Json, Quiet, Verbose, app, print_result
from pipelines.console import Meter

Cache = Annotated[
    Path | None,
    typer.Option(help="Folder of decoded clips, for trainings on the same clips; by default beside the run."),
]

Readers = Annotated[int, typer.Option("--workers", help="Processes that decode.", min=1)]


@app.command(epilog="Example: untrimmed pretrain early:small clips/kinetics.csv --videos clips/videos -o runs/early")
def pretrain(
    backbone: Annotated[str, typer.Argument(help="A clip model, such as slow:resnet18; see `untrimmed backbones`.")],
    source: Annotated[
        str,
        typer.Argument(
            help="Trimmed clips: a folder of classes (LABEL/VIDEO, or train/LABEL/VIDEO and val/LABEL/VIDEO), a file of"
            " annotations such as Kinetics' csv, or the word worlds.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="New folder for the run.")],
    videos: Annotated[Path | None, typer.Option(help="Where the videos are that a file of annotations names.")] = None,
    init: Annotated[
        str | None,
        typer.Option(help="Begin with: imagenet, or a weights file of the backbone or of its image network."),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, more than once; see docs/pretrain.md.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and crops.")] = 0,
    device: Device = "auto",
    cache: Cache = None,
    workers: Readers = 1,
    as_json: Json = False,
    quiet: Quiet = False,
    _verbose: Verbose = False,
) -> None:
    """Train a clip model on trimmed clips. Its weights are for `extract --weights`; called again, it goes on."""
    from pipelines.config import assigned
    from pipelines.pretraining import pretrain as run
    from pipelines.pretraining import pretrain_settings
    from pipelines.show import pretrained_lines

    chosen = pretrain_settings(assigned(settings or []))
    with Meter(f"pretrain {backbone}", quiet=quiet) as meter:
        record = run(
            backbone,
            source,
            out=output,
            videos=videos,
            init=init,
            settings=chosen,
            seed=seed,
            device=device,
            cache=cache,
            workers=workers,
            on_clip=lambda done, total: meter.show(done / total, f"{done} of {total} clips"),
            on_progress=lambda at: meter.show(
                at.step / at.steps, f"epoch {at.epoch}, step {at.step} of {at.steps}, loss {at.loss:.3f}"
            ),
        )
    print_result({"run": str(output), **record}, pretrained_lines(output, record), as_json=as_json)
    if record["failed"] or record["missing"]:
        raise typer.Exit(FAILED_INPUTS)


@app.command(epilog="Example: untrimmed fuse runs/colours runs/flow")
def fuse(
    runs: Annotated[list[Path], typer.Argument(help="Runs of `untrimmed pretrain` on the same clips.", metavar="RUN…")],
    device: Device = "auto",
    cache: Cache = None,
    workers: Readers = 1,
    as_json: Json = False,
    quiet: Quiet = False,
    _verbose: Verbose = False,
) -> None:
    """Score clip models as one, such as the two streams of colours and of optical flow: by average and by SVM."""
    from pipelines.pretraining.fusing import fuse as run
    from pipelines.show import fused_lines

    with Meter("fuse", quiet=quiet) as meter:
        found = run(
            runs,
            cache=cache,
            device=device,
            workers=workers,
            on_clip=lambda done, total: meter.show(done / total, f"{done} of {total} clips"),
        )
    print_result(found, fused_lines(found), as_json=as_json)
    if found["failed"]:
        raise typer.Exit(FAILED_INPUTS)
