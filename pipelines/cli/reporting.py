"""The command that makes the page."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.shared import Json, Quiet, Verbose, app, print_result
from pipelines.console import Meter


@app.command(epilog="Example: untrimmed report match.json --videos archive/ --truth labels.json -o match.html")
def report(
    what: Annotated[
        Path, typer.Argument(help="A run folder, or predictions in any format.", metavar="RUN|PREDICTIONS")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page.")] = Path("report.html"),
    videos: Annotated[
        Path | None, typer.Option(help="Folder of the videos, where they are not where they were.")
    ] = None,
    truth: Annotated[Path | None, typer.Option(help="Labels in any format; of a run, those of its training.")] = None,
    subset: Annotated[str | None, typer.Option(help="Of the truth; of a run by default validation.")] = None,
    store: Annotated[str | None, typer.Option(help="Of a run: features, where they are not where they were.")] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Where its slider stands at first; by default a good one.", min=0, max=1)
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title of the page.")] = None,
    proxy: Annotated[
        bool, typer.Option("--proxy", help="Beside the page, make small copies of videos that browsers refuse.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    _verbose: Verbose = False,
) -> None:
    """One page to look at, offline: player, timeline of truth and predictions, errors worst first, review.

    Many videos get an index and a page each. Videos are linked by relative path, never copied into the page.
    """
    from pipelines.report.build import report as build
    from pipelines.report.build import report_json, report_lines

    with Meter("report", quiet=quiet) as meter:
        done = build(
            what,
            output,
            videos=videos,
            truth=truth,
            subset=subset,
            store=store,
            threshold=threshold,
            title=title,
            proxy=proxy,
            on_progress=meter.show,
        )
    print_result(report_json(done), report_lines(done), as_json=as_json)
