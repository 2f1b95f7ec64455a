"""The command that finds more moments like one."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.shared import Json, Quiet, Store, Verbose, app, print_result


@app.command(epilog="Example: untrimmed search features.zarr --query match.mp4@12.0-18.0 -k 20 -o more.html")
def search(
    store: Store,
    query: Annotated[
        list[str], typer.Option(help="VIDEO_ID@START-STOP, in seconds or h:mm:ss. Several: what is like all of them.")
    ],
    k: Annotated[int, typer.Option("-k", help="How many moments, beside the query's own.", min=1)] = 20,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A page that plays what was found (.html), or its JSON.")
    ] = None,
    videos: Annotated[
        Path | None, typer.Option(help="Folder of the videos, for the page, where they are not where they were.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    _verbose: Verbose = False,
) -> None:
    """Find more moments like one: by the exact cosine of every clip in the store with the query's."""
    from pipelines.search import check_output, found_json, found_lines, search_store, write_found

    check_output(output, videos)
    opened, found = search_store(store, query, k=k)
    if output is not None:
        write_found(found, opened, output, videos=videos, quiet=quiet)
    lines = [*found_lines(found), *([] if output is None else [f"written: {output}"])]
    print_result(found_json(found, opened.url), lines, as_json=as_json)
