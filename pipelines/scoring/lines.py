"""A score as people read it."""

from collections.abc import Iterator
from typing import Any

_CLASSES = 20
_PERCENT = {"auc", "accuracy", "edit", "f1_10", "f1_25", "f1_50"}
_NAMES = {
    "topk": "",
    "video-map": "overlap",
    "ava": "IoU",
    "ava-2019": "IoU",
    "ava-2018": "IoU",
    "segmental": "overlap",
}


def score_lines(result: dict[str, Any]) -> Iterator[str]:
    """Metrics, thresholds, classes from worst to best, where it comes from, how sure it is, and the notes."""
    yield f"{result['protocol']}:"
    percent = _PERCENT if result["protocol"] in ("segmental", "activitynet-proposals") else set()
    width = max(map(len, result["metrics"]))
    for name, value in result["metrics"].items():
        yield f"  {name:{width}}  {_figure(value, percent=name in percent)}"
    yield from _sure_lines(result)
    over = _NAMES.get(result["protocol"], "tIoU")
    if len(result["per_threshold"]) > 1:
        yield f"at {over} of:"
        for at, value in result["per_threshold"].items():
            yield f"  {at}  {_figure(value, percent=bool(percent) and result['protocol'] == 'segmental')}"
    yield from _class_lines(result["per_class"])
    yield from _origin_lines(result)
    for note in result["notes"]:
        yield f"note: {note}"


def _sure_lines(result: dict[str, Any]) -> Iterator[str]:
    if sure := result.get("interval"):
        yield (
            f"  {sure['metric']} is between {_figure(sure['low'])} and {_figure(sure['high'])} in 95 % of"
            f" {sure['resamples']} resamples of {sure['videos']} videos"
        )
    if pair := result.get("against"):
        yield (
            f"  against {pair['predictions']} ({_figure(pair['other'])}): {_signed(pair['difference'])}, 95 % between"
            f" {_signed(pair['low'])} and {_signed(pair['high'])}, p {_figure(pair['p'])}"
        )


def _class_lines(per_class: dict[str, dict[str, Any]]) -> Iterator[str]:
    rows = [(label, next(iter(row.items()))) for label, row in per_class.items()]
    known = sorted(((value, label, name) for label, (name, value) in rows if value is not None))
    if not known:
        return
    shown = known if len(known) <= _CLASSES else [*known[: _CLASSES // 2], *known[-_CLASSES // 2 :]]
    width = max(len(label) for _, label, _ in shown)
    yield f"classes, worst first ({known[0][2]}):"
    for place, (value, label, _) in enumerate(shown):
        if len(shown) < len(known) and place == _CLASSES // 2:
            yield f"  … {len(known) - len(shown)} more …"
        yield f"  {label:{width}}  {_figure(value)}"


def _origin_lines(result: dict[str, Any]) -> Iterator[str]:
    if rows := result.get("by_duration"):
        yield "by length of the true segments (average map):"
        for row in rows:
            low, high = (end if end is not None else float("inf") for end in row["seconds"])
            lengths = f"{low:.1f} to {high:.1f} s"
            yield f"  {row['segments']:14} {lengths}, {row['count']} segments  {_figure(row['average_map'])}"
    if errors := result.get("errors"):
        yield (
            f"the best predictions of each class, as many as it has true segments: {errors['right']} of"
            f" {errors['predictions']} right at tIoU {errors['threshold']:g}; of the others"
        )
        for name in ("double", "localization", "confusion", "background"):
            yield f"  {name:13} {errors[name]['count']:6}   map {_signed(errors[name]['gain'])} without all of its kind"
        yield f"  true segments missed by all predictions: {errors['missed']['count']}"


def _figure(value: float | None, *, percent: bool = False) -> str:
    if value is None:
        return "undefined"
    return f"{value:.2f} %" if percent else f"{value:.4f}"


def _signed(value: float | None) -> str:
    return "undefined" if value is None else f"{value:+.4f}"
