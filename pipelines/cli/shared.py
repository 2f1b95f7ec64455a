"""What the commands share: the app, the types of common options, and how results are printed."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.console import out

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
Flow = Annotated[
    str | None,
    typer.Option(help="Optical flow for a backbone that reads it: dis, tvl1 (its own), raft_large or raft_small."),
]
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


def print_json(result: dict[str, Any]) -> None:
    """A result for machines."""
    typer.echo(json.dumps(result, indent=2))


def print_result(result: dict[str, Any], lines: Iterable[str], *, as_json: bool) -> None:
    """A result as JSON, or as the lines that people read."""
    if as_json:
        print_json(result)
        return
    for line in lines:
        out.print(line, markup=False)
