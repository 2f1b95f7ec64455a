"""Truth and predictions in time, on one numbering of videos and labels; and what is odd about them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import InputError
from pipelines.annotations.document import Document, Media, Segments
from pipelines.annotations.files import JsonFile
from pipelines.annotations.formats import read_document
from pipelines.annotations.given import read_labels
from pipelines.annotations.thumos import CLASS_LIST
from pipelines.notes import shown
from pipelines.scoring.scored import Options
from seqmodels.metrics.localization import Spans

OVERSHOOT_S = 1.0
AMBIGUOUS = "Ambiguous"
SAME_S = 1e-3


@dataclass(slots=True, eq=False)
class Compared:
    """Rows of one subset. ``found.video`` is -1 where the truth does not have the video; ``trouble`` as of `Scored`."""

    videos: tuple[str, ...]
    media: tuple[Media, ...]
    labels: tuple[str, ...]
    truth: Spans
    found: Spans
    ambiguous: Spans
    trouble: list[str]
    notes: list[str]


def read_segments(path: Path, labels: Path | None = None) -> Document:
    """A file or folder of segments, of any format.

    Raises:
        InputError: it has boxes and no segments.
    """
    document = read_document(path, labels=labels)
    if len(document.boxes) and not len(document.segments):
        raise InputError(f"{path}: boxes ({document.format}); expected segments of time, such as ActivityNet JSON")
    return document


def read_compared(
    truth: Path, predictions: Path, options: Options, *, subsets: Sequence[str], labelled: bool = True
) -> Compared:
    """Both files, cut to one subset of the truth.

    ``subsets``: those to take by default, the first that there is. Predictions with labels that the truth's subset
    does not have are left out, when ``labelled``.

    Raises:
        InputError: a file cannot be read, has no such subset, or rows without scores.
    """
    true = read_segments(truth)
    found = read_predictions(truth, predictions, options)
    notes = [*(f"{truth.name}: {n}" for n in true.notes), *(f"{predictions.name}: {n}" for n in found.notes)]
    chosen, of_subset = _subset(true, options.subset, subsets, truth)
    notes += of_subset
    blocked = _blocked(options.blocked)
    videos = tuple(name for name in chosen if name not in blocked)
    if blocked:
        notes.append(f"{len(chosen) - len(videos)} videos of {len(chosen)} are blocked and do not count")
    number = {name: i for i, name in enumerate(videos)}
    rows = true.segments
    of_video = np.array([number.get(name, -1) for name in true.videos], np.int64)[rows.video]
    rows = replace_video(rows, of_video).take(of_video >= 0)
    ambiguous_label = true.labels.index(AMBIGUOUS) if AMBIGUOUS in true.labels else -2
    ambiguous = rows.take(rows.label == ambiguous_label)
    rows = rows.take(rows.label != ambiguous_label)
    labels = tuple(sorted({true.labels[i] for i in np.unique(rows.label) if i >= 0}))
    compared = Compared(
        videos=videos,
        media=tuple(true.media[name] for name in videos),
        labels=labels,
        truth=_spans(rows, true.labels, labels),
        found=no_spans(),
        ambiguous=_spans(ambiguous, true.labels, (AMBIGUOUS,)),
        trouble=[],
        notes=notes,
    )
    if len(ambiguous) and options.kit is None and labelled:
        compared.notes.append(f"{len(ambiguous)} true segments are {AMBIGUOUS!r}: no class, and left out")
    _check_truth(compared, truth, options)
    _take_predictions(compared, found, set(true.videos) - set(chosen), blocked, predictions, labelled=labelled)
    return compared


def read_predictions(truth: Path, predictions: Path, options: Options) -> Document:
    """Predictions; where they have numbers for labels, the names are those of the truth.

    Raises:
        InputError: rows without scores, or none at all that could be a prediction.
    """
    found = read_segments(predictions, options.labels)
    if options.labels is None and found.labels and all(label.isdigit() for label in found.labels):
        source = truth / CLASS_LIST if truth.is_dir() else truth
        if source.is_file() and found.format in ("actionformer", "thumos"):
            _check_numbers({int(label) for label in found.labels}, source, predictions)
            found = read_segments(predictions, source)
    bare = np.isnan(found.segments.score)
    if bare.any():
        raise InputError(
            f"{predictions}: {bare.sum()} of {len(bare)} rows have no score; expected predictions with a score each."
            " Are truth and predictions exchanged?"
        )
    return found


def _check_numbers(numbers: set[int], source: Path, predictions: Path) -> None:
    known = set(read_labels(source))
    for step in (1, -1):
        if not numbers <= known and {number + step for number in numbers} <= known:
            raise InputError(
                f"{predictions}: class numbers are {min(numbers)}..{max(numbers)}, those of {source} are"
                f" {min(known)}..{max(known)}; expected the same numbering, and this one looks shifted by one. Give the"
                " list that belongs to the predictions with --labels"
            )


def no_spans() -> Spans:
    """Not one row."""
    return Spans(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 2)), np.zeros(0))


def replace_video(rows: Segments, video: NDArray[np.int64]) -> Segments:
    """The rows with other numbers of videos."""
    return replace(rows, video=video)


def _spans(rows: Segments, names: Sequence[str], labels: Sequence[str]) -> Spans:
    number = {label: i for i, label in enumerate(labels)}
    table = np.array([*(number.get(name, -1) for name in names), -1], np.int64)
    return Spans(rows.video, table[rows.label], rows.span_s, rows.score)


def _subset(
    document: Document, asked: str | None, defaults: Sequence[str], path: Path
) -> tuple[tuple[str, ...], list[str]]:
    """The videos of a subset, and a note where the name was not exactly this one."""
    there = sorted({media.subset for media in document.media.values() if media.subset is not None})
    wanted = [asked] if asked is not None else list(defaults)
    name = next((s for w in wanted for s in there if s == w), None)
    name = name or next((s for w in wanted for s in there if s.casefold() == w.casefold()), None)
    if name is None and asked is None and len(there) <= 1:
        return document.videos, []
    if name is None:
        raise InputError(
            f"{path}: no video of subset {wanted[0]!r}; there is {shown(map(repr, there))}."
            " Name one of these with --subset"
        )
    notes = [f"subset {name!r} is taken for {asked!r}"] if asked is not None and name != asked else []
    if asked is None and name.casefold() != defaults[0].casefold():
        notes = [f"subset {name!r} is scored; name another with --subset"]
    return tuple(video for video, media in document.media.items() if media.subset == name), notes


def _blocked(path: Path | None) -> set[str]:
    if path is None:
        return set()
    file = JsonFile.read(path, "a list of video ids")
    names = file.root
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise file.wrong([], names, 'a list of video ids, such as ["abc"]')
    return set(names)


def _check_truth(compared: Compared, path: Path, options: Options) -> None:
    truth, name = compared.truth, path.name
    if np.isnan(truth.span).any():
        bare = np.isnan(truth.span).any(axis=1)
        if not bare.all():
            compared.trouble.append(f"{name}: {bare.sum()} annotations have no segment and are left out")
            compared.truth = truth = truth.take(np.flatnonzero(~bare))
    twice = duplicated(truth)
    if options.distinct:
        short = np.diff(truth.span, axis=1)[:, 0] < SAME_S
        if (gone := twice | short).any():
            compared.notes.append(
                f"{name}: {twice.sum()} duplicated true segments and {(short & ~twice).sum()} shorter than"
                f" {SAME_S:g} s are left out"
            )
        compared.truth = truth = truth.take(np.flatnonzero(~gone))
    elif twice.any():
        compared.trouble.append(
            f"{name}: {twice.sum()} true segments are there twice (same video and label, ends within {SAME_S:g} s), and"
            f" count twice: {_examples(compared, truth, twice)}; --distinct counts them once"
        )
    compared.trouble += _odd_segments(compared, truth, name, "true segments")


def duplicated(rows: Spans) -> NDArray[np.bool_]:
    """Which rows ``(N,)`` have an earlier one of their video and label whose ends are within `SAME_S`."""
    order = np.lexsort((np.arange(len(rows)), rows.span[:, 0], rows.label, rows.video))
    result = np.zeros(len(rows), np.bool_)
    video, label, span = rows.video[order], rows.label[order], rows.span[order]
    for step in range(1, len(rows)):  # neighbours by start; few are within the distance
        near = (video[step:] == video[:-step]) & (label[step:] == label[:-step])
        near &= span[step:, 0] - span[:-step, 0] < SAME_S
        if not near.any():
            break
        both = near & (np.abs(span[step:, 1] - span[:-step, 1]) < SAME_S)
        pair = np.stack((order[:-step][both], order[step:][both]))
        result[pair.max(axis=0)] = True
    return result


def _take_predictions(
    compared: Compared, document: Document, elsewhere: set[str], blocked: set[str], path: Path, *, labelled: bool
) -> None:
    """Put the predictions on the numbers of the truth, and note what is odd about them."""
    rows, name = document.segments, path.name
    number = {video: i for i, video in enumerate(compared.videos)}
    aliases = {video: _alias(video, number) for video in document.videos}
    renamed = [video for video, alias in aliases.items() if alias != video]
    if renamed:
        compared.notes.append(
            f"{name}: {len(renamed)} video ids differ from the truth's by v_ alone, and are taken for them:"
            f" {shown(renamed)}"
        )
    shut = np.array([video in blocked for video in document.videos], np.bool_)
    video = np.array([number.get(aliases[name], -1) for name in document.videos], np.int64)[rows.video]
    kept = ~shut[rows.video] if len(rows) else np.zeros(0, np.bool_)
    found = _spans(replace_video(rows, video), document.labels, compared.labels)
    if labelled:
        unknown = kept & (found.label < 0)
        if unknown.any():
            names = Counter(document.labels[i] if i >= 0 else "no label" for i in rows.label[unknown].tolist())
            compared.trouble.append(
                f"{name}: {unknown.sum()} predictions have a label that the truth of this subset does not have, and are"
                f" left out: {shown(f'{label!r} ({n})' for label, n in names.most_common())}"
            )
        kept = kept & ~unknown
    stray = kept & (video < 0)
    if stray.any():
        names = Counter(document.videos[i] for i in rows.video[stray].tolist())
        others = sum(video in elsewhere for video in names)
        compared.trouble.append(
            f"{name}: {stray.sum()} predictions are of {len(names)} videos that are not scored ({others} of another"
            f" subset, {len(names) - others} unknown); they count as the protocol says, as false: {shown(names)}"
        )
    compared.found = found.take(kept)
    compared.trouble += _odd_segments(compared, compared.found, name, "predictions")
    seen = np.isin(np.arange(len(compared.videos)), compared.found.video)
    true = np.isin(np.arange(len(compared.videos)), compared.truth.video)
    missing = [compared.videos[i] for i in np.flatnonzero(true & ~seen)]
    if missing:
        compared.trouble.append(
            f"{name}: {len(missing)} of {true.sum()} videos with truth have no prediction: {shown(missing)}"
        )
    if labelled and (silent := [compared.labels[i] for i in _silent(compared)]):
        compared.notes.append(f"{len(silent)} classes have no prediction, which is an AP of 0: {shown(silent)}")


def _silent(compared: Compared) -> list[int]:
    there = set(np.unique(compared.found.label).tolist())
    return [i for i in range(len(compared.labels)) if i not in there]


def _alias(video: str, known: dict[str, int]) -> str:
    if video in known:
        return video
    other = video.removeprefix("v_") if video.startswith("v_") else f"v_{video}"
    return other if other in known else video


def _odd_segments(compared: Compared, rows: Spans, name: str, what: str) -> list[str]:
    """Segments that are empty, reversed or outside their video."""
    start, stop = rows.span.T
    durations = np.array([media.duration_s or np.inf for media in compared.media] + [np.inf])
    with np.errstate(invalid="ignore"):
        odd: list[tuple[NDArray[Any], str]] = [
            (stop == start, "have no length"),
            (stop < start, "end before they begin"),
            (start < -OVERSHOOT_S, f"begin more than {OVERSHOOT_S:g} s before their video"),
            (stop > durations[rows.video] + OVERSHOOT_S, f"end more than {OVERSHOOT_S:g} s after their video"),
        ]
    return [
        f"{name}: {mask.sum()} of {len(rows)} {what} {says}: {_examples(compared, rows, mask)}"
        for mask, says in odd
        if mask.any()
    ]


def _examples(compared: Compared, rows: Spans, mask: NDArray[np.bool_]) -> str:
    chosen = rows.take(np.flatnonzero(mask))
    names = [*compared.videos, "a video that is not scored"]  # the last is number -1
    return shown(
        f"{names[video]} [{start:g}, {stop:g}]"
        for video, (start, stop) in zip(chosen.video.tolist(), chosen.span.tolist(), strict=True)
    )
