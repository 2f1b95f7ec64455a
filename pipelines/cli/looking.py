"""The commands that show what there is."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.shared import Json, Verbose, app, print_result


@app.command(epilog="Example: untrimmed view report.html")
def view(
    path: Annotated[Path, typer.Argument(help="A page, or a folder of pages.", metavar="PATH")],
    port: Annotated[int, typer.Option(help="Port on this machine; 0 takes any that is free.", min=0, max=65535)] = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address alone.")] = False,
    as_json: Json = False,
    _verbose: Verbose = False,
) -> None:
    """Show a page with its videos at an address of this machine, until Ctrl-C. Nobody else can open it."""
    import sys
    import webbrowser

    from pipelines.serving import PageServer

    with PageServer(path, port) as server:
        first, *others = server.urls
        lines = [f"{first}   (Ctrl-C ends)", *others]
        print_result({"url": first, "pages": list(server.urls)}, lines, as_json=as_json)
        sys.stdout.flush()
        try:
            if not no_browser:
                webbrowser.open(first)
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            return
