"""Curves of a training, as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def draw_curves(epochs: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write an SVG with the training loss, and with the figures on the validation videos where they were measured.

    The same ``epochs``, the lines of ``metrics.jsonl``, give the same bytes.
    """
    import matplotlib as mpl  # not above: commands that draw nothing need not wait for it
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "untrimmed", "svg.fonttype": "none"}):
        figure = Figure(figsize=(6.4, 3.2), layout="constrained")
        loss = figure.subplots()
        loss.plot([line["epoch"] for line in epochs], [line["loss"] for line in epochs], color="0.5", label="loss")
        loss.set_xlabel("epoch")
        loss.set_ylabel("training loss")
        measured = [line for line in epochs if line["validation"] is not None]
        if measured:
            _draw_metrics(loss.twinx(), measured)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _draw_metrics(axes: Any, measured: Sequence[Mapping[str, Any]]) -> None:  # noqa: ANN401 - matplotlib's own
    for name in measured[0]["validation"]:
        points = [(line["epoch"], line["validation"][name]) for line in measured]
        shown = [(epoch, value) for epoch, value in points if value is not None]
        axes.plot(*zip(*shown, strict=True), marker="o", label=name) if shown else None
    axes.set_ylim(0, 1)
    axes.set_ylabel("on the validation videos")
    axes.legend(frameon=False)
