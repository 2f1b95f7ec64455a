"""Commands that look inside networks."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.shared import Backbone, Device, Json, Quiet, Verbose, Weights, app, print_result
from pipelines.console import Meter

visualize = typer.Typer(
    no_args_is_help=True, help="Look inside a network: its filters, clips that it takes for a class, what it looks at."
)
app.add_typer(visualize, name="visualize")
Name = Annotated[str, typer.Argument(help="A backbone; see `untrimmed backbones`.", metavar="BACKBONE")]
Output = Annotated[Path, typer.Option("--output", "-o", help="The file: .gif, .mp4 or .webm moves, .png stands still.")]
Classes = Annotated[
    list[str] | None, typer.Option("--class", help="A class, by its name or number; more than once for several.")
]


@visualize.command("filters", epilog="Example: untrimmed visualize filters tiny_r2plus1d --over-time -o filters.gif")
def filters(
    backbone: Name,
    output: Output,
    weights: Weights = None,
    layer: Annotated[
        str | None, typer.Option(help="Another convolution over the clip itself, such as the fast pathway's.")
    ] = None,
    over_time: Annotated[
        bool, typer.Option("--over-time", help="In (2+1)D networks: times the convolution over time behind it.")
    ] = False,
    most: Annotated[int, typer.Option(help="Show the first so many filters.", min=1)] = 64,
    fps: Annotated[float, typer.Option(help="Slices a second.")] = 4.0,
    as_json: Json = False,
    quiet: Quiet = False,
    _verbose: Verbose = False,
) -> None:
    """The filters of the first layer as small moving pictures; as .png, their slices over time side by side."""
    from extract import load_backbone
    from pipelines.settling import download_words
    from pipelines.show import follow_waiting
    from pipelines.visualizing.made import filter_lines, show_filters

    with Meter("filters", quiet=quiet) as meter:
        loaded = load_backbone(backbone, weights, on_progress=download_words(follow_waiting(meter)))
    result = show_filters(loaded, output, layer=layer, over_time=over_time, most=most, fps=fps)
    print_result(result, filter_lines(result), as_json=as_json)


@visualize.command(
    "maximize",
    epilog="Example: untrimmed visualize maximize tiny_r2plus1d --class slide_left --temporal-smoothness 0"
    " --temporal-smoothness 3000 -o left.gif",
)
def maximize(
    backbone: Name,
    output: Output,
    classes: Classes = None,
    weights: Weights = None,
    begin: Annotated[
        str | None, typer.Option("--from", help="VIDEO@SECOND to begin with; by default the mean colour.")
    ] = None,
    temporal_smoothness: Annotated[
        list[float] | None,
        typer.Option(
            help="Weight of change over time: small for fast motion, large for slow; several stand side by side."
            " 300 by default."
        ),
    ] = None,
    total_variation: Annotated[float, typer.Option(help="Weight of change over space.")] = 300.0,
    l2: Annotated[float, typer.Option(help="Weight of the squared distance from where it began.")] = 1.0,
    steps: Annotated[int, typer.Option(help="Steps of gradient ascent.")] = 160,
    seed: Annotated[int, typer.Option(help="Of the noise that it begins with.", min=0)] = 0,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
    _verbose: Verbose = False,
) -> None:
    """Clips that the network takes for a class as much as can be, by gradient ascent on their pixels."""
    from pipelines.settling import download_words
    from pipelines.show import follow_waiting
    from pipelines.visualizing import Ascent, look_into, show_maximised
    from pipelines.visualizing.made import maximised_lines

    ascent = Ascent(steps=steps, l2=l2, total_variation=total_variation, seed=seed)
    with Meter("maximize", quiet=quiet) as meter:
        looked = look_into(backbone, weights, device=device, on_progress=download_words(follow_waiting(meter)))
        result = show_maximised(
            looked,
            classes or [],
            output,
            ascent=ascent,
            temporal_smoothness=temporal_smoothness or [],
            begin=begin,
            on_share=meter.show,
        )
    print_result(result, maximised_lines(result), as_json=as_json)


@visualize.command(
    "saliency", epilog="Example: untrimmed visualize saliency match.mp4 --start 10 --stop 20 --class orbit -o orbit.mp4"
)
def saliency(
    video: Annotated[str, typer.Argument(help="A video, or its URL.", metavar="VIDEO")],
    output: Output,
    backbone: Backbone = "tiny_r2plus1d",
    weights: Weights = None,
    classes: Classes = None,
    start: Annotated[float, typer.Option(help="Second to begin at.", min=0)] = 0.0,
    stop: Annotated[float | None, typer.Option(help="Second to end at; by default the video's end.")] = None,
    method: Annotated[
        str, typer.Option(help="integrated: what brings the logit; smoothgrad, gradient: what would change it.")
    ] = "integrated",
    steps: Annotated[int, typer.Option(help="Gradients for each clip; the method gradient takes one.")] = 16,
    noise: Annotated[float, typer.Option(help="Of smoothgrad's copies, as a share of the range of the pixels.")] = 0.15,
    seed: Annotated[int, typer.Option(help="Of the noise.", min=0)] = 0,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
    _verbose: Verbose = False,
) -> None:
    """Where in a video, and when, a class hangs on the pixels: heat over the frames, and a curve over time."""
    from pipelines.settling import download_words
    from pipelines.show import follow_waiting
    from pipelines.visualizing import Method, look_into, show_saliency
    from pipelines.visualizing.made import saliency_lines

    how = Method(method, steps, noise, seed)
    with Meter("saliency", quiet=quiet) as meter:
        looked = look_into(backbone, weights, device=device, on_progress=download_words(follow_waiting(meter)))
        result = show_saliency(
            looked,
            video,
            output,
            classes=classes or [],
            start_s=start,
            stop_s=stop,
            method=how,
            on_share=meter.show,
        )
    print_result(result, saliency_lines(result), as_json=as_json)
