"""A map of a store: clips that are alike lie close together.

N clips, D feature.
"""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import InputError
from extract.store import FeatureStore
from pipelines.annotations.document import Document
from pipelines.annotations.formats import read_document
from pipelines.dataset import match_ids
from pipelines.pictures import COLOURS, picture, shortened, unit_rows
from pipelines.report.media import find_video, thumbnails

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CLIPS = 4000
_LEAST_CLIPS = 5
_DIMENSIONS = 50
_SAME = 1e-5  # of the features: what differs by less is one point
_THUMBS = 18
_THUMB_PX = 64
_REST = "other labels"
_NONE = "no label"

OnProgress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class Clips:
    """Clips out of a store.

    Attributes:
        features: ``(N, D)`` float32.
        video: id of each clip's video.
        second: ``(N,)`` float64, the clips' middles; of boxes, when they were seen.
    """

    features: NDArray[np.float32]
    video: Sequence[str]
    second: NDArray[np.float64]


def map_store(
    store: str | Path,
    output: Path,
    *,
    annotations: str | Path | None = None,
    videos: str | Path | None = None,
    seed: int = 0,
    on_progress: OnProgress = lambda _share, _words: None,
) -> int:
    """Draw the map of at most 4,000 clips, sampled evenly; how many there are.

    Features are reduced to 50 directions (PCA), then laid out by t-SNE: near is alike, but distances across the map and
    sizes of groups mean nothing. The colour is the label at the clip's middle, or without ``annotations`` the video.
    Where videos are found, in the folder ``videos`` or where they were, small pictures stand at places spread over the
    map.

    Raises:
        InputError: too few clips, or labels that do not go with the store.
        UsageError: ``output`` is neither .png nor .svg.
        StoreError: the store cannot be read.
        MachineError: ``output`` cannot be written.
    """
    opened = FeatureStore.open(store)
    on_progress(0.02, "reading features")
    clips = sampled(opened, MOST_CLIPS)
    if len(clips.second) < _LEAST_CLIPS:
        raise InputError(f"{store} has {len(clips.second)} clips; expected at least {_LEAST_CLIPS} for a map")
    named = list(clips.video) if annotations is None else labels_at(clips, read_document(annotations))
    on_progress(0.1, f"laying out {len(clips.second)} clips")
    points = laid_out(clips.features, seed)
    on_progress(0.9, "drawing")
    paths = _paths(opened, clips, None if videos is None else Path(videos))
    pictures = _pictures(clips, spread(points, _THUMBS), paths)
    with picture(output, (8.6, 7.0)) as figure:
        axes = figure.subplots()
        _scatter(axes, points, named)
        _put_pictures(axes, points, pictures)
        axes.set_title(f"{len(points)} clips of {len(set(clips.video))} videos; near is alike (t-SNE)", fontsize=10)
        axes.margins(0.09)
        axes.set_xticks([])
        axes.set_yticks([])
    return len(points)


def sampled(store: FeatureStore, most: int) -> Clips:
    """Every so many clips of the store, in the order of its videos, at most ``most``."""
    step = max(1, -(-sum(record.rows for record in store.catalogue.values()) // most))
    features, names, seconds, before = [], [], [], 0
    for video_id in sorted(store):
        count = store.catalogue[video_id].rows
        rows = np.arange(-before % step, count, step)
        before += count
        if not len(rows):
            continue
        sequence = store[video_id]
        seen_s = (sequence.start_s + sequence.stop_s) / 2 if sequence.second is None else sequence.second
        features.append(sequence.features[rows].astype(np.float32))
        names += [video_id] * len(rows)
        seconds.append(seen_s[rows])
    if not features:
        return Clips(np.zeros((0, 0), np.float32), (), np.zeros(0))
    return Clips(np.concatenate(features), names, np.concatenate(seconds))


def labels_at(clips: Clips, document: Document) -> list[str]:
    """The label of each clip's middle: of the shortest segment there, or that nothing is there."""
    theirs = {stored: annotated for annotated, stored in match_ids(document.videos, sorted(set(clips.video))).items()}
    number = {video_id: at for at, video_id in enumerate(document.videos)}
    rows, named = document.segments, []
    length_s = np.nan_to_num(np.diff(rows.span_s, axis=1)[:, 0], nan=np.inf)
    for video_id, second in zip(clips.video, clips.second.tolist(), strict=True):
        at = number.get(theirs.get(video_id, ""), -1)
        start_s, stop_s = np.nan_to_num(rows.span_s, nan=0.0).T
        inside = (rows.video == at) & ((start_s <= second) & (second < stop_s) | np.isinf(length_s)) & (rows.label >= 0)
        here = np.flatnonzero(inside)
        named.append(document.labels[rows.label[here[np.argmin(length_s[here])]]] if len(here) else _NONE)
    return named


def laid_out(features: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    """A place ``(N, 2)`` for each row of ``(N, D)``; the same on the same machine."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    centred = features - features.mean(axis=0)
    if np.abs(centred).max(initial=0.0) <= _SAME * np.abs(features).max(initial=0.0):  # t-SNE would divide by 0
        return np.zeros((len(features), 2))
    unit = unit_rows(centred)
    reduced = PCA(min(_DIMENSIONS, *unit.shape), random_state=seed).fit_transform(unit)
    begin = np.pad(reduced, ((0, 0), (0, 1)))[:, :2]
    perplexity = min(30.0, (len(unit) - 1) / 3)
    scatter = TSNE(2, perplexity=perplexity, init=(begin / begin[:, 0].std() * 1e-4), random_state=seed)
    places: NDArray[np.float64] = np.asarray(scatter.fit_transform(reduced), np.float64)
    return places


def spread(points: NDArray[np.float64], most: int) -> list[int]:
    """Rows that lie far from each other, each the farthest from all before it."""
    chosen = [int(np.argmin(np.linalg.norm(points - points.mean(axis=0), axis=1)))]
    away = np.linalg.norm(points - points[chosen[0]], axis=1)
    while len(chosen) < min(most, len(points)) and away.max() > 0:
        chosen.append(int(np.argmax(away)))
        away = np.minimum(away, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return chosen


def _paths(store: FeatureStore, clips: Clips, folder: Path | None) -> dict[str, Path | None]:
    """Where the videos of the clips are."""
    recorded = {video_id: store.catalogue[video_id].provenance.get("uri") for video_id in dict.fromkeys(clips.video)}
    return {
        video_id: find_video(video_id, source=source if isinstance(source, str) else None, folder=folder)
        for video_id, source in recorded.items()
    }


def _pictures(clips: Clips, chosen: Sequence[int], paths: Mapping[str, Path | None]) -> dict[int, NDArray[np.uint8]]:
    """What is shown at the middle of each chosen clip whose video is found."""
    from PIL import Image

    found: dict[int, NDArray[np.uint8]] = {}
    by_video: dict[str, list[int]] = {}
    for row in chosen:
        by_video.setdefault(clips.video[row], []).append(row)
    for video_id, rows in by_video.items():
        path = paths[video_id]
        links = [] if path is None else thumbnails(path, clips.second[rows].tolist(), width_px=_THUMB_PX)
        for row, link in zip(rows, links, strict=False):
            if link is not None:
                data = base64.b64decode(link.partition(",")[2])
                found[row] = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    return found


def _scatter(axes: "Axes", points: NDArray[np.float64], named: Sequence[str]) -> None:
    """The points in the colours of the most frequent names; the others, and those without, are grey."""
    names = np.array(named)
    kinds, counts = np.unique(names[names != _NONE], return_counts=True)
    order = kinds[np.argsort(-counts, kind="stable")]
    markers = "osD"
    shown = sorted(order[: len(COLOURS) * len(markers)].tolist())
    rest = ~np.isin(names, shown)
    texts: list[str] = []
    for text, rows, colour in ((_NONE, names == _NONE, "#d8d8d8"), (_REST, rest & (names != _NONE), "#9a9a9a")):
        if rows.any():
            axes.scatter(points[rows, 0], points[rows, 1], s=9, color=colour, lw=0, label=str(len(texts)), zorder=1)
            texts.append(text)
    for at, name in enumerate(shown):
        marker, colour = markers[at // len(COLOURS)], COLOURS[at % len(COLOURS)]
        axes.scatter(
            points[names == name, 0],
            points[names == name, 1],
            s=14,
            color=colour,
            marker=marker,
            lw=0,
            label=str(len(texts)),
            zorder=2,
        )
        texts.append(shortened(name, 24))
    legend = axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8, markerscale=1.6)
    for said, text in zip(legend.get_texts(), texts, strict=True):
        said.set_text(text)  # not as labels: of these, matplotlib would leave out what begins with "_"


def _put_pictures(axes: "Axes", points: NDArray[np.float64], pictures: dict[int, NDArray[np.uint8]]) -> None:
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    for row, pixels in pictures.items():
        image: Any = OffsetImage(pixels, zoom=0.55)
        beside = AnnotationBbox(
            image,
            tuple(points[row].tolist()),
            xybox=(26, 20),
            boxcoords="offset points",
            pad=0.0,
            bboxprops={"edgecolor": "#555555"},
            arrowprops={"arrowstyle": "-", "color": "#555555", "lw": 0.8},
        )
        axes.add_artist(beside)
