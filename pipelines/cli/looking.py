"""The commands that show what there is."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.cli.shared import Device, Json, Quiet, Store, Verbose, app, print_result
from pipelines.console import Meter

render = typer.Typer(no_args_is_help=True, help="Annotated video; pictures of predictions, stores and motion.")
app.add_typer(render, name="render")
Predicted = Annotated[
    Path, typer.Argument(help="Predictions in any format, or a run folder.", metavar="RUN|PREDICTIONS")
]
Truth = Annotated[Path | None, typer.Option(help="Labels in any format.")]
VideoId = Annotated[str | None, typer.Option("--video", help="Which video, where there are several.")]
Videos = Annotated[Path | None, typer.Option(help="Folder of the videos, where they are not where they were.")]
Threshold = Annotated[
    float | None, typer.Option(help="Score from which on something is shown; by default a good one.", min=0, max=1)
]


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
    import threading
    import webbrowser

    from pipelines.serving import PageServer

    with PageServer(path, port) as server:
        first, *others = server.urls
        lines = [f"{first}   (Ctrl-C ends)", *others]
        print_result({"url": first, "pages": list(server.urls)}, lines, as_json=as_json)
        sys.stdout.flush()
        try:
            if not no_browser:  # apart: one in the terminal does not return before it was answered
                threading.Thread(target=webbrowser.open, args=(first,), daemon=True).start()
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            return


@render.command("video", epilog="Example: untrimmed render video match.json --truth labels.json -o match.webm")
def render_video(
    what: Predicted,
    output: Annotated[Path, typer.Option("--output", "-o", help="The video: .webm or .mp4.")],
    video: VideoId = None,
    videos: Videos = None,
    truth: Truth = None,
    threshold: Threshold = None,
    height: Annotated[int, typer.Option(help="Of the picture in pixels, without the timeline below.", min=120)] = 480,
    as_json: Json = False,
    quiet: Quiet = False,
    _verbose: Verbose = False,
) -> None:
    """A copy of a video with boxes, labels and a timeline drawn into it. Seconds stay in place; there is no sound."""
    from pipelines.render import look_up
    from pipelines.render import render_video as draw

    look = look_up(what, video, truth=truth, videos=videos, threshold=threshold)
    with Meter("render", quiet=quiet) as meter:
        draw(look, output, height_px=height, on_progress=lambda share: meter.show(share, look.video.video_id))
    _print_made(output, {"video": look.video.video_id, "threshold": look.threshold}, as_json=as_json)


@render.command("timeline", epilog="Example: untrimmed render timeline match.json --truth labels.json -o match.svg")
def render_timeline(
    what: Predicted,
    output: Annotated[Path, typer.Option("--output", "-o", help="The picture: .png or .svg.")],
    video: VideoId = None,
    truth: Truth = None,
    threshold: Threshold = None,
    as_json: Json = False,
    _verbose: Verbose = False,
) -> None:
    """A lane for each label of one video: truth, predictions, and scores over time where they are known."""
    from pipelines.pictures import draw_timeline
    from pipelines.render import look_up

    look = look_up(what, video, truth=truth, threshold=threshold)
    draw_timeline(look.video, look.labels, look.threshold, output)
    _print_made(output, {"video": look.video.video_id, "threshold": look.threshold}, as_json=as_json)


@render.command("similarity", epilog="Example: untrimmed render similarity features.zarr match.mp4 -o same.png")
def render_similarity(
    store: Store,
    video: Annotated[str, typer.Argument(help="A video of the store.", metavar="VIDEO_ID")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The picture: .png or .svg.")],
    as_json: Json = False,
    _verbose: Verbose = False,
) -> None:
    """How alike the moments of one video are: the cosine of its features with each other."""
    from extract.store import FeatureStore
    from pipelines.pictures import draw_similarity

    draw_similarity(FeatureStore.open(store)[video], video, output)
    _print_made(output, {"video": video}, as_json=as_json)


@render.command("map", epilog="Example: untrimmed render map features.zarr --annotations labels.json -o map.png")
def render_map(
    store: Store,
    output: Annotated[Path, typer.Option("--output", "-o", help="The picture: .png or .svg.")],
    annotations: Annotated[Path | None, typer.Option(help="Labels in any format, for the colours.")] = None,
    videos: Annotated[Path | None, typer.Option(help="Folder of the videos, for small pictures of them.")] = None,
    seed: Annotated[int, typer.Option(help="Of the map.", min=0)] = 0,
    as_json: Json = False,
    quiet: Quiet = False,
    _verbose: Verbose = False,
) -> None:
    """A map of a store: clips that are alike lie close together (t-SNE)."""
    from pipelines.mapping import map_store

    with Meter("map", quiet=quiet) as meter:
        clips = map_store(store, output, annotations=annotations, videos=videos, seed=seed, on_progress=meter.show)
    _print_made(output, {"clips": clips}, as_json=as_json)


@render.command("flow", epilog="Example: untrimmed render flow match.mp4 -o flow.mp4")
def render_flow(
    video: Annotated[str, typer.Argument(help="A video: a file or a URL.", metavar="VIDEO")],
    output: Annotated[Path, typer.Option("--output", "-o", help=".png for a moment; .mp4 or .webm for all of it.")],
    method: Annotated[str, typer.Option(help="dis, tvl1, raft_large or raft_small.")] = "dis",
    bound: Annotated[float, typer.Option(help="Movement in pixels that has full colour.", min=0.01)] = 5.0,
    second: Annotated[float | None, typer.Option(help="Of the .png; by default the middle.", min=0)] = None,
    fps: Annotated[
        float | None, typer.Option(help="Pictures a second, flow from each to the next; by default all, 30 at most.")
    ] = None,
    height: Annotated[int, typer.Option(help="Of each of the four panels, in pixels.", min=16)] = 256,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
    _verbose: Verbose = False,
) -> None:
    """What moves in a video, and where to: beside the picture its optical flow, as colours and in both directions."""
    from extract.engine import settle_device
    from pipelines.flow_pictures import draw_flow
    from pipelines.settling import flow_settings

    with Meter("flow", quiet=quiet) as meter:
        motion = draw_flow(
            video,
            output,
            flow_settings(method, bound),
            second=second,
            fps=fps,
            height_px=height,
            device=settle_device(device),
            on_progress=lambda share: meter.show(share, Path(video).name),
        )
    facts = {"pictures": motion.pictures, "mean_px": motion.mean_px, "most_px": motion.most_px}
    _print_made(output, facts, as_json=as_json)


def _print_made(output: Path, facts: dict[str, Any], *, as_json: bool) -> None:
    said = ", ".join(
        f"{name} {value:.2f}" if isinstance(value, float) else f"{name} {value}" for name, value in facts.items()
    )
    print_result({"output": str(output), **facts}, [f"{output}: {said}"], as_json=as_json)
