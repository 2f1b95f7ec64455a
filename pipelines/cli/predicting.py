"""The command that answers for raw videos."""

import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from extract.errors import UsageError
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
from pipelines.console import Meter, clock, complain

if TYPE_CHECKING:
    from extract.video import ReadReport


@app.command(epilog="Example: untrimmed predict runs/loc match.mp4 -o match.json")
def predict(
    run: Annotated[Path, typer.Argument(help="A run folder.", metavar="RUN")],
    videos: Paths,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="New file for the predictions.")] = None,
    to: Annotated[
        str | None, typer.Option(help="Its format, of those of `convert`; activitynet by default, or ava for boxes.")
    ] = None,
    min_score: Annotated[float | None, typer.Option(help="Rows of lower scores are not written.", min=0, max=1)] = None,
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
    stream: Annotated[
        bool,
        typer.Option(
            "--stream", help="Follow a file that grows, a named pipe, or - (stdin), and print segments as they end."
        ),
    ] = False,
    idle: Annotated[
        float, typer.Option(help="With --stream: seconds without growth after which a file is at its end.", min=0)
    ] = 10.0,
    as_json: Json = False,
    quiet: Quiet = False,
    _verbose: Verbose = False,
) -> None:
    """Say what happens in raw videos, from when to when, of any length: features, head, segments or boxes.

    Features are read from --store, or the store that the run was trained on, where they have the videos.
    """
    if stream:
        others: dict[str, Any] = {"-o": output, "--to": to, "--store": store, "--boxes": boxes, "--workers": workers}
        others["--min-score"] = min_score is not None
        _check_stream(videos, decoder, [name for name, value in others.items() if value])
        _follow(
            run, videos[0], as_json, threshold=threshold, idle_s=idle, weights=weights, device=device, engine=engine
        )
        return
    from pipelines.predicting import checked_run, predict_videos, predicted_json, predicted_lines
    from pipelines.predictions import settled_format, write_predictions
    from pipelines.show import follow_extraction, follow_waiting

    trained = checked_run(run)
    if output is not None:
        settled_format(output, to, boxes=trained.task == "detect")
    with Meter("predict", quiet=quiet) as meter:
        on_plan, on_progress = follow_extraction(meter, quiet=quiet)
        done = predict_videos(
            trained,
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
    form = None if output is None else write_predictions(done.predictions, output, to, min_score=min_score)
    lines = predicted_lines(done, output, form, min_score)
    print_result(predicted_json(done, output), lines, as_json=as_json)
    if done.failed:
        raise typer.Exit(FAILED_INPUTS)


def _check_stream(videos: list[str], decoder: str, others: list[str]) -> None:
    if len(videos) != 1:
        raise UsageError(f"--stream with {len(videos)} videos; expected one, and a command for each of them")
    if others:
        raise UsageError(f"--stream with {others[0]}, which it has no use for; its lines can be sent to a file with >")
    if decoder not in ("auto", "pyav"):
        raise UsageError(f"--stream with --decoder {decoder}; expected pyav, the one that reads what is still to come")


def _follow(run: Path, source: str, as_json: bool, **options: Any) -> None:  # noqa: ANN401
    """Print segments as they end, a line each."""
    from pipelines.streaming import stream_predictions, streamed_id

    video = streamed_id(source)
    reports: list[ReadReport] = []
    try:
        with closing(stream_predictions(run, source, on_end=reports.append, **options)) as segments:
            for start_s, stop_s, label, score in segments:
                row = {"video": video, "label": label, "start": start_s, "stop": stop_s, "score": score}
                line = f"{clock(start_s):>10} {clock(stop_s):>10}  {score:.2f}  {label}"
                typer.echo(json.dumps(row, ensure_ascii=False) if as_json else line)
    finally:
        for report in reports:
            if report.damaged_frames or report.bad_packets:
                complain(
                    f"{video}: {report.damaged_frames} of {report.decoded_frames} frames may be damaged,"
                    f" {report.bad_packets} packets could not be decoded"
                )
