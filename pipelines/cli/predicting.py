"""The command that answers for raw videos."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.shared import (
    FAILED_INPUTS,
    Boxes,
    Decoder,
    Device,
    Engine,
    Json,
    Paths,
    Quiet,
    Verbose,
    Workers,
    app,
    print_result,
)
from pipelines.console import Meter


@app.command(epilog="Example: untrimmed predict runs/loc match.mp4 -o match.json")
def predict(
    run: Annotated[Path, typer.Argument(help="A run folder.", metavar="RUN")],
    videos: Paths,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="New file for the predictions.")] = None,
    to: Annotated[
        str | None, typer.Option(help="Its format, of those of `convert`; activitynet by default, or ava for boxes.")
    ] = None,
    store: Annotated[
        str | None, typer.Option(help="Features are read from this store, and new ones kept in it.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Score from which on steps are a segment (label); the run's own.", min=0, max=1)
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Weights of the backbone, where they are not where they were.")
    ] = None,
    boxes: Boxes = None,
    device: Device = "auto",
    engine: Engine = "auto",
    decoder: Decoder = "auto",
    workers: Workers = 0,
    as_json: Json = False,
    quiet: Quiet = False,
    _verbose: Verbose = False,
) -> None:
    """Say what happens in raw videos, from when to when, of any length: features, head, segments or boxes.

    Features are read from --store, or the store that the run was trained on, where they have the videos.
    """
    from pipelines.predicting import predict_videos, predicted_json, predicted_lines
    from pipelines.predictions import write_predictions
    from pipelines.show import follow_extraction, follow_waiting

    with Meter("predict", quiet=quiet) as meter:
        on_plan, on_progress = follow_extraction(meter, quiet=quiet)
        done = predict_videos(
            run,
            videos,
            store=store,
            threshold=threshold,
            weights=weights,
            boxes=boxes,
            device=device,
            engine=engine,
            decoder=decoder,
            workers=workers,
            on_plan=on_plan,
            on_progress=on_progress,
            on_wait=follow_waiting(meter),
        )
    form = None if output is None else write_predictions(done.predictions, output, to)
    print_result(predicted_json(done, output), predicted_lines(done, output, form), as_json=as_json)
    if done.failed:
        raise typer.Exit(FAILED_INPUTS)
