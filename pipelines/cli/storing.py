"""Commands about stores, backbones and the machine."""

from pathlib import Path
from typing import Annotated

import typer

from extract.errors import UsageError
from pipelines.cli.shared import BAD_INPUT, FAILED_INPUTS, Json, Quiet, Store, Verbose, app, print_result
from pipelines.console import Meter


@app.command(epilog="Example: untrimmed backbones slowfast_r50_8x8 --layers")
def backbones(
    name: Annotated[str | None, typer.Argument(help="One of them, or FAMILY:NAME, in full.", metavar="[NAME]")] = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="What each layer of NAME puts out, sees of the clip, and costs.")
    ] = False,
    clip: Annotated[
        str | None, typer.Option(help="With --layers: clips of TxHxW, by default its own.", metavar="TxHxW")
    ] = None,
    as_json: Json = False,
    _verbose: Verbose = False,
) -> None:
    """Every backbone: parameters, multiply-adds, clips, features, licence, and where its weights come from."""
    from pipelines.machine import backbones_info
    from pipelines.show import backbone_lines, backbones_lines

    if layers or clip is not None:
        _print_layers(name, clip, layers=layers, as_json=as_json)
        return
    found = backbones_info(name)
    if name is None:
        print_result({"backbones": found}, backbones_lines(found), as_json=as_json)
    else:
        print_result(found[0], backbone_lines(found[0]), as_json=as_json)


def _print_layers(name: str | None, clip: str | None, *, layers: bool, as_json: bool) -> None:
    from pipelines.layers import layers_info, layers_lines

    if name is None:
        raise UsageError("--layers and --clip are about one backbone; name it: untrimmed backbones NAME --layers")
    if not layers:
        raise UsageError(f"--clip {clip} says of which clips --layers tells; give --layers too")
    found = layers_info(name, clip)
    print_result(found, layers_lines(found), as_json=as_json)


@app.command(epilog="Example: untrimmed info features.zarr")
def info(
    store: Store,
    as_json: Json = False,
    _verbose: Verbose = False,
) -> None:
    """What a store holds: recipe, videos, clips, hours, failures."""
    from pipelines.inspection import store_info
    from pipelines.show import info_lines

    found = store_info(store)
    print_result(found, info_lines(found), as_json=as_json)


@app.command(epilog="Example: untrimmed status features.zarr")
def status(store: Store, as_json: Json = False, _verbose: Verbose = False) -> None:
    """How far the work on a store is: videos, what was begun, failures by reason, what is published, the last job."""
    from pipelines.inspection import store_status
    from pipelines.show import status_lines

    found = store_status(store)
    print_result(found, status_lines(found), as_json=as_json)


@app.command(epilog="Example: untrimmed verify features.zarr --sample 0.01")
def verify(
    store: Store,
    sample: Annotated[
        float, typer.Option(help="Extract this share of the videos again, and compare.", min=0, max=1)
    ] = 0.0,
    as_json: Json = False,
    quiet: Quiet = False,
    _verbose: Verbose = False,
) -> None:
    """Read everything in a store, compare it with its checksums, and extract a sample again.

    Exit code 3 when anything is damaged or differs; all of it is named.
    """
    from extract.store import FeatureStore
    from pipelines.comparison import compare_sample, comparison_json, comparison_lines
    from pipelines.verification import verification_json, verification_lines, verify_store

    opened = FeatureStore.open(store)
    with Meter("verify", quiet=quiet) as meter:
        found = verify_store(opened, lambda done, count: meter.show(done / max(1, count), f"{done} of {count} clips"))
    compared = []
    if sample:
        with Meter("extract a sample again", quiet=quiet) as meter:
            compared = compare_sample(
                opened, sample, lambda done, count: meter.show(done / count, f"{done} of {count} videos")
            )
    lines = [*verification_lines(found), *(comparison_lines(compared) if sample else ())]
    result = {**verification_json(found), "sample": comparison_json(compared)}
    print_result(result, lines, as_json=as_json)
    if found.damaged or any(each.problem for each in compared):
        raise typer.Exit(BAD_INPUT)


@app.command(epilog="Example: untrimmed export features.zarr match/day1.mp4 -o day1.npy")
def export(
    store: Store,
    output: Annotated[Path, typer.Option("--output", "-o", help="FILE.npy or FILE.npz, or a folder for all videos.")],
    video: Annotated[str | None, typer.Argument(help="A video's id; all videos without it.", metavar="[ID]")] = None,
    layout: Annotated[
        str | None, typer.Option(help="For all videos: npy (what it is by default), npz, actionformer or opentad.")
    ] = None,
    annotations: Annotated[Path | None, typer.Option(help="Labels for actionformer and opentad.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    _verbose: Verbose = False,
) -> None:
    """Write features as files for other programs, one a video."""
    from extract.store import FeatureStore
    from pipelines.exports import export_json, export_lines, export_store, export_video

    opened = FeatureStore.open(store)
    if video is not None:
        if layout is not None or annotations is not None:
            raise UsageError(f"--layout and --annotations are for all videos; leave them out, or {video}")
        result = export_video(opened, video, output)
    else:
        with Meter("export", quiet=quiet) as meter:
            result = export_store(
                opened,
                output,
                layout=layout or "npy",
                annotations=annotations,
                on_progress=lambda done, count: meter.show(done / max(1, count), f"{done} of {count} videos"),
            )
    print_result(export_json(result), export_lines(result), as_json=as_json)
    if result.failed:
        raise typer.Exit(FAILED_INPUTS)


@app.command(epilog="Example: untrimmed compact features.zarr")
def compact(
    store: Store,
    grace: Annotated[float, typer.Option(help="Leave alone what was written in these last hours.", min=0)] = 24.0,
    as_json: Json = False,
    _verbose: Verbose = False,
) -> None:
    """Publish, read published clips from there, and delete what is stored twice or named by nothing.

    Jobs and readers may go on meanwhile.
    """
    from pipelines.inspection import compact_store
    from pipelines.show import compact_lines

    found = compact_store(store, grace_hours=grace)
    print_result(found, compact_lines(found), as_json=as_json)


@app.command(epilog="Example: untrimmed doctor")
def doctor(as_json: Json = False, _verbose: Verbose = False) -> None:
    """What this machine has: torch, device, precision, decoders, codecs, memory, weights."""
    from pipelines.machine import machine_info
    from pipelines.show import machine_lines

    found = machine_info()
    print_result(found, machine_lines(found), as_json=as_json)
