"""Pictures of predictions and of features, by matplotlib.

C labels, T steps or clips, N rows, D feature.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import InputError, UsageError
from extract.store import FeatureSequence
from pipelines.console import clock
from pipelines.report.payload import Shown
from pipelines.report.verdicts import Rows
from pipelines.whole import written_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#f0e442")
"""Of Okabe and Ito: also who is colour-blind can tell them apart."""
_MOST_COLUMNS = 1000
_MOST_LABELS = 40
_DPI = 110
_INK, _DIM, _FAINT = "#222222", "#777777", "#e6e6e6"
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)


def colour_of(number: int) -> tuple[int, int, int]:
    """Red, green and blue of a label or a track, 0..255."""
    text = COLOURS[number % len(COLOURS)]
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def shortened(text: str, most: int) -> str:
    """``text`` in one line of at most so many characters."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def tick_seconds(duration_s: float, *, most: int) -> list[float]:
    """Round seconds from 0 on, at most ``most`` of them, for an axis of time."""
    step = next(
        (step for step in _STEPS_S if duration_s / step < most), _STEPS_S[-1] * (1 + duration_s // 86400 // most)
    )
    return [float(second) for second in np.arange(0, duration_s + 1e-9, step)]


def lanes(span_s: NDArray[np.float64], most: int) -> tuple[NDArray[np.int64], int]:
    """A lane for each of ``(N, 2)`` spans, so that those of one lane do not overlap while there are lanes enough;
    and how many are used.
    """
    free_s: list[float] = []
    lane = np.zeros(len(span_s), np.int64)
    for row in np.lexsort((span_s[:, 1], span_s[:, 0])).tolist():
        start_s, stop_s = span_s[row].tolist()
        at = next((at for at, until_s in enumerate(free_s) if until_s <= start_s), len(free_s))
        if at == len(free_s) < most:
            free_s.append(stop_s)
        at = min(at, most - 1)
        free_s[at] = max(free_s[at], stop_s)
        lane[row] = at
    return lane, len(free_s)


@contextmanager
def picture(output: Path, size_in: tuple[float, float]) -> "Iterator[Figure]":
    """A figure that is written to ``output`` (.png or .svg) at the end; the same content gives the same bytes.

    Raises:
        UsageError: ``output`` has another ending.
        MachineError: it cannot be written.
    """
    import matplotlib as mpl  # not above: commands that draw nothing need not wait for it
    from matplotlib.figure import Figure

    if output.suffix not in (".png", ".svg"):
        raise UsageError(f"{output}: expected a name in .png or .svg")
    style: dict[Any, Any] = {
        "svg.hashsalt": "untrimmed",
        "text.parse_math": False,
        "font.size": 9,
        "axes.edgecolor": _DIM,
    }
    with mpl.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # of another alphabet: a frame stands for it
        figure = Figure(figsize=size_in, layout="constrained")
        yield figure
        about = {"Date": None} if output.suffix == ".svg" else {"Software": None}
        with written_whole(output) as partial:
            figure.savefig(partial, dpi=_DPI, metadata=about)


def draw_timeline(video: Shown, labels: Sequence[str], threshold: float, output: Path) -> None:
    """A lane for each label that occurs: truth above, predictions below, the scores over time as a curve behind.

    What is predicted at or above ``threshold`` is drawn, the darker the surer. Of more than 40 labels, those with the
    most rows are.

    Raises:
        UsageError: ``output`` is neither .png nor .svg.
        MachineError: it cannot be written.
    """
    found = video.at(threshold)
    rows = [each for each in (found, video.truth) if each is not None]
    counts = np.bincount(np.concatenate([each.label for each in rows]), minlength=len(labels))
    used = np.sort(np.argsort(-counts, kind="stable")[: min(_MOST_LABELS, int((counts > 0).sum()))]).tolist()
    with picture(output, (9.0, 1.3 + 0.42 * max(1, len(used)))) as figure:
        axes = figure.subplots()
        for lane, label in enumerate(used):
            axes.axhspan(lane + 0.04, lane + 0.96, color="#f6f6f6", zorder=0)
            _curve(axes, video, label, lane, threshold)
            colour = COLOURS[label % len(COLOURS)]
            if video.truth is not None:
                _bars(axes, video.truth, label, (lane + 0.1, 0.34), colour, outlined=True)
            _bars(axes, found, label, (lane + 0.52, 0.38), colour, outlined=False)
        axes.set_yticks(np.arange(len(used)) + 0.5, [shortened(labels[label], 28) for label in used])
        axes.set_ylim(max(1, len(used)), 0)
        more = int((counts > 0).sum()) - len(used)
        _titled(axes, video, threshold, f"; {more} more labels are not shown" if more else "")
        _time_axis(axes.xaxis, video.duration_s, most=12)
        axes.set_xlim(0, video.duration_s or 1)
        axes.tick_params(axis="y", length=0)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)


def draw_similarity(sequence: FeatureSequence, name: str, output: Path) -> None:
    """Cosine of each moment of a video with each other; of more than 1,000 clips, means of several.

    Raises:
        InputError: there are no features, or they are of boxes.
        UsageError: ``output`` is neither .png nor .svg.
        MachineError: it cannot be written.
    """
    if not len(sequence) or sequence.box is not None:
        what = "no clips" if not len(sequence) else "features of boxes, not of clips"
        raise InputError(f"{name}: {what}; expected a video with features of clips")
    pooled = pooled_rows(sequence.features, _MOST_COLUMNS)
    unit = unit_rows(pooled - pooled.mean(axis=0))
    low_s, high_s = float(sequence.start_s[0]), float(sequence.stop_s[-1])
    with picture(output, (6.4, 5.6)) as figure:
        axes = figure.subplots()
        image = axes.imshow(
            unit @ unit.T,
            cmap="cividis",
            vmin=-1,
            vmax=1,
            extent=(low_s, high_s, high_s, low_s),
            interpolation="nearest",
        )
        for axis in (axes.xaxis, axes.yaxis):
            _time_axis(axis, high_s, most=8)
        axes.set_title(f"{shortened(name, 50)}: how alike its moments are", fontsize=10)
        figure.colorbar(image, shrink=0.8, label="cosine, of features less their mean")


def pooled_rows(features: NDArray[np.floating[Any]], most: int) -> NDArray[np.float32]:
    """Means of consecutive rows ``(T, D)``, so that at most ``most`` remain."""
    edges = np.linspace(0, len(features), min(most, len(features)) + 1).round().astype(int)
    return np.stack([features[a:b].mean(axis=0, dtype=np.float32) for a, b in pairwise(edges)])


def unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row over its length; rows of 0 stay."""
    scaled: NDArray[np.float32] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return scaled


def _curve(axes: "Axes", video: Shown, label: int, lane: int, threshold: float) -> None:
    if video.curves is None:
        return
    score = video.curves.values[label] / 255
    axes.fill_between(video.curves.centre_s, lane + 0.96, lane + 0.96 - 0.88 * score, color="#d2d2d2", lw=0, zorder=1)
    axes.axhline(lane + 0.96 - 0.88 * threshold, color="#b0b0b0", lw=0.5, ls=(0, (4, 4)), zorder=1)


def _bars(axes: "Axes", rows: Rows, label: int, place: tuple[float, float], colour: str, *, outlined: bool) -> None:
    mine = rows.take(rows.label == label)
    if mine.box is not None:
        axes.plot(mine.span_s[:, 0], np.full(len(mine), place[0] + place[1] / 2), "|", color=colour, ms=6, zorder=3)
        return
    spans = [(start, stop - start) for start, stop in mine.span_s.tolist()]
    if outlined:
        axes.broken_barh(spans, place, facecolor="white", edgecolor=colour, lw=1.3, zorder=2)
        return
    for span, score in zip(spans, mine.score.tolist(), strict=True):
        axes.broken_barh([span], place, facecolor=colour, alpha=0.35 + 0.65 * min(1.0, max(0.0, score)), zorder=3, lw=0)


def _titled(axes: "Axes", video: Shown, threshold: float, more: str) -> None:
    parts = (["outlined: truth"] if video.truth is not None else []) + [f"filled: predicted, score ≥ {threshold:.2f}"]
    if video.curves is not None:
        parts.append("grey: score over time")
    axes.set_title(shortened(video.video_id, 60), fontsize=10, loc="left", color=_INK)
    axes.set_title("   ".join(parts) + more, fontsize=8, loc="right", color=_DIM)


def _time_axis(axis: Any, duration_s: float, *, most: int) -> None:  # noqa: ANN401 - matplotlib's XAxis or YAxis
    seconds = tick_seconds(duration_s, most=most)
    axis.set_ticks(seconds, [clock(second).removesuffix(".0") for second in seconds])
