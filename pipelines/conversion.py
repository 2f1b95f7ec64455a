"""From one format of annotations to another. What the other one cannot hold is measured: the file is read back, and
every difference from what was to be written is counted.

V videos, N rows.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import InputError, UsageError
from pipelines.annotations.document import Boxes, Document, Media, Segments
from pipelines.annotations.formats import FORMATS, format_by_ending, format_of, read_document, write_document
from pipelines.annotations.given import Given
from pipelines.notes import noted, shown
from pipelines.whole import written_whole

TIME_S = 1e-6
"""Times that differ by less count as the same."""
PART = 1e-6
"""Parts of a frame, and relative differences of scores and rates, that differ by less count as the same."""
_Column = NDArray[np.float64] | NDArray[np.int64]
_Columns = tuple[tuple[_Column, ...], tuple[_Column, ...]]
_KNOWN = {"duration_s": "durations", "fps": "frame rates", "width": "sizes", "subset": "subsets"}


@dataclass(frozen=True, slots=True)
class Conversion:
    """What was read and written. ``notes`` are the reader's; ``lost`` says how what was written differs."""

    source: str
    output: str
    format: str
    to: str
    videos: int
    labels: int
    segments: int
    boxes: int
    notes: tuple[str, ...]
    lost: tuple[str, ...]


def convert(
    source: str | Path,
    output: str | Path,
    *,
    to: str | None = None,
    fps: float | None = None,
    size: tuple[int, int] | None = None,
    labels: str | Path | None = None,
    subset: str | None = None,
) -> Conversion:
    """Read ``source`` in whatever format it is, and write ``output`` in the format ``to``, or the one of its ending.

    ``fps``, ``size`` and ``labels`` stand in for what files do not say. ``subset``: only the videos of this subset;
    where ``source`` has none, the subset that all its videos get.

    Raises:
        UsageError: the format is unknown or not clear, or ``output`` exists.
        InputError: ``source`` cannot be read, or lacks what the format needs.
        MachineError: ``output`` cannot be written.
    """
    out = Path(output)
    form = to if to is not None else format_by_ending(out)
    if form not in FORMATS:
        raise UsageError(f"format {form!r} is unknown; expected {', '.join(FORMATS)}")
    if out.exists():
        raise UsageError(f"{out} exists; choose another name, or move it away")
    document = read_document(source, fps=fps, size=size, labels=labels)
    if subset is not None:
        document = of_subset(document, subset)
    with written_whole(out) as place:
        write_document(document, place, form, fps=fps, size=size, labels=labels)
        given = Given(fps, size, None if labels is None else Path(labels))
        lost = _measured(document, place, form, given)
    return Conversion(
        source=str(source),
        output=str(out),
        format=document.format,
        to=form,
        videos=len(document.media),
        labels=len(document.labels),
        segments=len(document.segments),
        boxes=len(document.boxes),
        notes=document.notes,
        lost=tuple(lost),
    )


def size_from(text: str) -> tuple[int, int]:
    """Width and height of ``1280x720``.

    Raises:
        UsageError: it is none.
    """
    match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text)
    if match is None or not int(match[1]) or not int(match[2]):
        raise UsageError(f"--size {text!r} is no size; expected WIDTHxHEIGHT in pixels, such as 1280x720")
    return int(match[1]), int(match[2])


def of_subset(document: Document, subset: str) -> Document:
    """The videos of one subset, with all labels; where no video has a subset, all of them, in this one.

    Raises:
        InputError: there are subsets, but not this one.
    """
    found = {media.subset for media in document.media.values()} - {None}
    if not found:
        media = {video: replace(each, subset=subset) for video, each in document.media.items()}
        return replace(document, media=media)
    if subset not in found:
        names = shown(repr(name) for name in sorted(map(str, found)))
        raise InputError(f"no video is in subset {subset!r}; there is {names}. Name one of these")
    kept = np.array([media.subset == subset for media in document.media.values()], np.bool_)
    number = np.cumsum(kept) - 1
    segments = document.segments.take(kept[document.segments.video])
    boxes = document.boxes.take(kept[document.boxes.video])
    return replace(
        document,
        media={video: each for video, each in document.media.items() if each.subset == subset},
        segments=replace(segments, video=number[segments.video]),
        boxes=replace(boxes, video=number[boxes.video]),
    )


def _measured(document: Document, path: Path, form: str, given: Given) -> list[str]:
    """How the written file differs from ``document``, when it is read with what is known of the videos."""
    first = next(iter(document.media.values()), Media())
    size = (first.width, first.height) if first.width and first.height else None
    known = Given(given.fps or first.fps or 1.0, given.size or size or (1, 1), given.labels)
    try:
        if not path.exists():
            path.mkdir(parents=True)
        lost = list(differences(document, FORMATS[form].read(path, known)))
    except InputError as error:
        return [f"it cannot be read back: {str(error).replace(str(path), path.name)}"]
    try:
        told = format_of(path)
    except InputError as error:
        said = str(error).replace(str(path), path.name)
        return [*lost, f"it is so little that nobody can tell what it is: {said}"]
    return lost if told in (form, "json") else [*lost, f"by what it holds, it will be taken for {told}"]


def differences(wanted: Document, found: Document) -> Iterator[str]:
    """Each way in which ``found`` is not ``wanted``, counted and named; rows are compared as sets, video by video."""
    gone = [video for video in wanted.media if video not in found.media]
    new = [video for video in found.media if video not in wanted.media]
    if len(gone) == len(new) == 1 == len(wanted.media):
        yield f"the video's id {gone[0]!r:.60} becomes {new[0]!r:.60}"
        found = replace(found, media={gone[0]: found.media[new[0]]})
    else:
        yield from noted(gone, "videos are not held")
        yield from noted(new, "videos are new")
    yield from _media(wanted, found)
    yield from _labels(wanted, found)
    videos = {video: n for n, video in enumerate(dict.fromkeys([*wanted.media, *found.media]))}
    names = {label: n for n, label in enumerate(dict.fromkeys([*wanted.labels, *found.labels]))}
    yield from _segments(_shared_segments(wanted, videos, names), _shared_segments(found, videos, names))
    yield from _boxes(_shared_boxes(wanted, videos, names), _shared_boxes(found, videos, names))


def _media(wanted: Document, found: Document) -> Iterator[str]:
    for name, what in _KNOWN.items():
        pairs = [
            (getattr(media, name), getattr(found.media[video], name))
            for video, media in wanted.media.items()
            if video in found.media
        ]
        lost = sum(one is not None and other is None for one, other in pairs)
        added = sum(one is None and other is not None for one, other in pairs)
        changed = sum(not _same(one, other) for one, other in pairs if one is not None and other is not None)
        counts = ((lost, "not held"), (added, "new"), (changed, "different"))
        yield from (f"{what} of {count} videos are {how}" for count, how in counts if count)


def _same(one: float | str, other: float | str) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return abs(one - other) <= TIME_S * max(1.0, abs(one))


def _labels(wanted: Document, found: Document) -> Iterator[str]:
    yield from noted((name for name in wanted.labels if name not in found.labels), "labels are not held")
    yield from noted((name for name in found.labels if name not in wanted.labels), "labels are new")


def _matched(
    wanted: Sequence[_Columns], found: Sequence[_Columns], n: int, m: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of rows that belong together. Each step pairs, of the rows that are left, those of equal keys, in the
    order of the rest of its columns.
    """
    left, right = np.arange(n), np.arange(m)
    pairs = [(left[:0], right[:0])]
    for (keys, rest), (other_keys, other_rest) in zip(wanted, found, strict=True):
        one, other = _pairs(
            [column[left] for column in keys],
            [column[right] for column in other_keys],
            [column[left] for column in rest],
            [column[right] for column in other_rest],
        )
        pairs.append((left[one], right[other]))
        left, right = np.delete(left, one), np.delete(right, other)
    return np.concatenate([one for one, _ in pairs]), np.concatenate([other for _, other in pairs])


def _pairs(
    keys: Sequence[_Column], other_keys: Sequence[_Column], rest: Sequence[_Column], other_rest: Sequence[_Column]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    n = len(keys[0])
    both = [np.concatenate(columns) for columns in zip(keys, other_keys, strict=True)]
    order = np.lexsort(both)
    new = np.zeros(len(order), np.bool_)
    for column in both:
        new[1:] |= column[order][1:] != column[order][:-1]
    group = np.zeros(len(order), np.int64)
    group[order] = np.cumsum(new)
    ids = [_ranked(group[:n], rest), _ranked(group[n:], other_rest)]
    scale = len(order) + 1
    unique = (scale * group[:n] + ids[0], scale * group[n:] + ids[1])
    _, one, other = np.intersect1d(*unique, assume_unique=True, return_indices=True)
    return one.astype(np.int64), other.astype(np.int64)


def _ranked(group: NDArray[np.int64], columns: Sequence[_Column]) -> NDArray[np.int64]:
    """Which one of its group each row is, by ``columns``, the first of them first."""
    order = np.lexsort((*columns[::-1], group))
    ordered = group[order]
    rank = np.zeros(len(group), np.int64)
    rank[order] = np.arange(len(group)) - np.searchsorted(ordered, ordered)
    return rank


def _key(column: NDArray[np.float64]) -> NDArray[np.float64]:
    """Equal for numbers that count as the same, but for those near a border; none is a number too."""
    with np.errstate(all="ignore"):
        return np.nan_to_num(np.rint(column / TIME_S), nan=-1e300)


def _segments(wanted: Segments, found: Segments) -> Iterator[str]:
    def steps(s: Segments) -> list[_Columns]:
        start, stop, score = _key(s.span_s[:, 0]), _key(s.span_s[:, 1]), np.nan_to_num(s.score, nan=-1e300)
        return [
            ((s.video, s.label, start, stop), (score,)),
            ((s.video, start, stop), (score,)),
            ((s.video, s.label), (start, stop, score)),
        ]

    one, other = _matched(steps(wanted), steps(found), len(wanted), len(found))
    yield from _unmatched(len(wanted) - len(one), len(found) - len(other), "segments")
    a, b = wanted.take(one), found.take(other)
    yield from _count(a.label != b.label, "segments have another label")
    yield from _apart(a.span_s, b.span_s, TIME_S, "segments", "s")
    yield from _scores(a.score, b.score, "segments")
    yield from _order(a.video, one, other, "segments")


def _boxes(wanted: Boxes, found: Boxes) -> Iterator[str]:
    def steps(b: Boxes) -> list[_Columns]:
        second, corners, score = _key(b.second), tuple(_key(b.box).T), np.nan_to_num(b.score, nan=-1e300)
        return [
            ((b.video, b.label, b.track, second, *corners), (score,)),
            ((b.video, second, *corners), (b.label, b.track, score)),
            ((b.video, b.label, b.track), (second, *corners)),
            ((b.video, b.label), (second, *corners)),
        ]

    one, other = _matched(steps(wanted), steps(found), len(wanted), len(found))
    yield from _unmatched(len(wanted) - len(one), len(found) - len(other), "boxes")
    a, b = wanted.take(one), found.take(other)
    yield from _count(a.label != b.label, "boxes have another label")
    yield from _count((a.track >= 0) & (b.track < 0), "boxes lose their track")
    yield from _count((a.track < 0) & (b.track >= 0), "boxes get a track")
    yield from _count((a.track >= 0) & (b.track >= 0) & (a.track != b.track), "boxes get another track")
    yield from _apart(a.second[:, None], b.second[:, None], TIME_S, "moments of boxes", "s")
    yield from _apart(a.box, b.box, PART, "boxes", "of the frame")
    yield from _scores(a.score, b.score, "boxes")
    yield from _order(a.video, one, other, "boxes")


def _unmatched(lost: int, added: int, what: str) -> Iterator[str]:
    if lost:
        yield f"{lost} {what} are not held"
    if added:
        yield f"{added} {what} are new"


def _count(where: NDArray[np.bool_], what: str) -> Iterator[str]:
    if where.any():
        yield f"{int(where.sum())} {what}"


def _apart(one: NDArray[np.float64], other: NDArray[np.float64], same: float, what: str, unit: str) -> Iterator[str]:
    """How far rows ``(N, columns)`` are apart at most."""
    none = np.isnan(one[:, 0]), np.isnan(other[:, 0])
    yield from _count(none[0] & ~none[1], f"{what} of the whole video, or of nothing, get numbers")
    yield from _count(none[1] & ~none[0], f"{what} lose their numbers")
    both = ~(none[0] | none[1])
    with np.errstate(all="ignore"):
        apart = np.abs(one[both] - other[both]).max(axis=1, initial=0.0)
        far = apart > same * (1 + 1e-3) + 1e-12 * np.abs(one[both]).max(axis=1, initial=0.0)
    if far.any():
        yield f"{int(far.sum())} {what} are moved, by up to {apart.max():.3g} {unit}"


def _scores(one: NDArray[np.float64], other: NDArray[np.float64], what: str) -> Iterator[str]:
    has, kept = ~np.isnan(one), ~np.isnan(other)
    yield from _count(has & ~kept, f"{what} lose their score")
    yield from _count(kept & ~has, f"{what} get a score")
    both = has & kept
    with np.errstate(all="ignore"):
        far = np.abs(one[both] - other[both]) > PART * np.abs(one[both])
    yield from _count(far, f"scores of {what} are different")


def _order(video: NDArray[np.int64], one: NDArray[np.int64], other: NDArray[np.int64], what: str) -> Iterator[str]:
    order = np.lexsort((one, video))
    back = (np.diff(other[order]) < 0) & (np.diff(video[order]) == 0)
    videos = len(np.unique(video[order][1:][back]))
    if videos:
        yield f"the {what} of {videos} videos are in another order"


def _shared_segments(document: Document, videos: Mapping[str, int], labels: Mapping[str, int]) -> Segments:
    """The rows with numbers of videos and labels that both documents share."""
    rows = document.segments
    return replace(rows, video=_of(rows.video, document.media, videos), label=_of(rows.label, document.labels, labels))


def _shared_boxes(document: Document, videos: Mapping[str, int], labels: Mapping[str, int]) -> Boxes:
    rows = document.boxes
    return replace(rows, video=_of(rows.video, document.media, videos), label=_of(rows.label, document.labels, labels))


def _of(column: NDArray[np.int64], names: Iterable[str], numbers: Mapping[str, int]) -> NDArray[np.int64]:
    return np.array([*(numbers[name] for name in names), -1], np.int64)[column]


def conversion_json(done: Conversion) -> dict[str, Any]:
    """The result as plain JSON values."""
    return {**asdict(done), "notes": list(done.notes), "lost": list(done.lost)}


def conversion_lines(done: Conversion) -> Iterator[str]:
    """The result for people."""
    rows = [f"{count} {what}" for count, what in ((done.segments, "segments"), (done.boxes, "boxes")) if count]
    held = " and ".join(rows) or "no rows"
    yield f"read {done.source} ({done.format}): {done.videos} videos, {held}, {done.labels} labels"
    yield from (f"note: {note}" for note in done.notes)
    yield f"wrote {done.output} ({done.to})"
    if not done.lost:
        yield f"nothing is lost: read back, {done.output} says the same"
    else:
        yield f"read back, {done.output} differs:"
        yield from (f"  {each}" for each in done.lost)
