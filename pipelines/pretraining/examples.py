"""Trimmed clips with one label each: from folders named by their class, or from annotations in any format."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from extract.errors import InputError
from extract.sources import find_videos
from pipelines.annotations.formats import read_document
from pipelines.notes import shown
from pipelines.report.media import find_video

TRAINING, HELD_OUT = "training", "validation"
_TEST = "test"
_SUBSETS = {"train": TRAINING, "training": TRAINING, "val": HELD_OUT, "validate": HELD_OUT, "validation": HELD_OUT}
_FOLDERS = _SUBSETS | {"test": _TEST, "testing": _TEST}


@dataclass(frozen=True, slots=True)
class Example:
    """One trimmed clip: what it is, and where; ``span_s`` None is the whole file, ``name`` its path or id there."""

    path: Path
    label: str
    subset: str
    span_s: tuple[float, float] | None = None
    name: str = ""

    def __str__(self) -> str:
        """Which clip it is, wherever its folder lies."""
        span = "" if self.span_s is None else f" {self.span_s[0]:g}-{self.span_s[1]:g} s"
        return f"{self.name or self.path}{span} ({self.label})"


@dataclass(frozen=True, slots=True)
class Examples:
    """Clips of both subsets, and the classes of those for training, sorted.

    ``notes`` say what was left out, ``missing`` which videos are not there.
    """

    rows: tuple[Example, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def of(self, subset: str) -> list[Example]:
        """Those of "training" or "validation"."""
        return [example for example in self.rows if example.subset == subset]


def read_examples(source: Path, videos: Path | None = None) -> Examples:
    """The clips that ``source`` names.

    A folder: ``LABEL/VIDEO``, all for training, or ``train/LABEL/VIDEO`` and ``val/LABEL/VIDEO``. A file: annotations
    in any of the formats (Kinetics' csv and ActivityNet's JSON among them), each segment one clip, of videos that are
    found by their ids in ``videos``, or of files that hold the segment alone and are named as Kinetics' are. Clips of
    other subsets are left out.

    Raises:
        InputError: there is no such place, nothing for training, fewer than two classes, ``videos`` is missing, or a
            video lies elsewhere than in a folder of its class.
    """
    if not source.exists():
        raise InputError(f"{source}: no such file or folder; expected trimmed clips. Check the path")
    if source.is_dir() and videos is not None:
        raise InputError(f"--videos {videos} is for a file of annotations; {source} is a folder that holds its videos")
    everything, notes, missing = (_in_folders(source), [], ()) if source.is_dir() else _annotated(source, videos)
    rows = [row for row in everything if row.subset in (TRAINING, HELD_OUT)]
    others = _others(row.subset for row in everything if row.subset not in (TRAINING, HELD_OUT))
    classes = tuple(sorted({row.label for row in rows if row.subset == TRAINING}))
    if len(classes) < 2:
        raise InputError(
            f"{source}: {len(classes)} classes in the subset {TRAINING}; expected two or more. "
            f"{''.join(f'{note}. ' for note in (*notes, *others))}"
            "In a folder, classes are folders: jump/a.mp4, throw/b.mp4, or train/jump/a.mp4 and val/jump/c.mp4"
        )
    unknown = sorted({row.label for row in rows} - set(classes))
    if unknown:
        notes.append(f"left out, of classes without training clips: {shown(unknown)}")
        rows = [row for row in rows if row.label in classes]
    return Examples(tuple(rows), classes, (*notes, *others), missing)


def _in_folders(root: Path) -> list[Example]:
    rows = []
    for source in find_videos([root]).sources:
        *folders, video = source.video_id.split("/")
        subset = _FOLDERS.get(folders[0].lower()) if folders else None
        if len(folders) != (1 if subset is None else 2):
            raise InputError(
                f"{source.path} lies in no folder of a class; expected {root}/LABEL/{video} or "
                f"{root}/SUBSET/LABEL/{video}, with a SUBSET of {', '.join(_FOLDERS)} and no LABEL of that name. "
                "Move it, or name the clips in a file of annotations"
            )
        rows.append(Example(Path(source.path), folders[-1], subset or TRAINING, name=source.video_id))
    return rows


def _annotated(source: Path, videos: Path | None) -> tuple[list[Example], list[str], tuple[str, ...]]:
    if videos is None:
        raise InputError(f"{source} names videos; expected --videos FOLDER, where they are")
    document = read_document(source)
    names, media = document.videos, list(document.media.values())
    rows: list[Example] = []
    missing: list[str] = []
    segments = document.segments
    paths = {name: find_video(name, folder=videos) for name in names}
    for video, label, (start_s, stop_s) in zip(
        segments.video.tolist(), segments.label.tolist(), segments.span_s.tolist(), strict=True
    ):
        if label < 0:
            continue
        name, span = names[video], None if start_s != start_s else (start_s, stop_s)
        path = paths[name]
        if path is None and (path := _trimmed(name, span, videos)) is not None:
            name, span = path.stem, None
        subset = media[video].subset or TRAINING
        subset = _SUBSETS.get(subset.lower(), subset)
        if path is not None or subset not in (TRAINING, HELD_OUT):
            rows.append(Example(path or videos / name, document.labels[label], subset, span, name))
        else:
            missing.append(name)
    if not rows:
        raise InputError(f"{source}: none of its {len(segments)} clips is of a video in {videos}; {_missing(missing)}")
    notes = list(document.notes)
    if unlabelled := int((segments.label < 0).sum()):
        notes.append(f"left out, without a label: {unlabelled} clips")
    if missing:
        notes.append(_missing(missing))
    return rows, notes, tuple(dict.fromkeys(missing))


def _trimmed(name: str, span_s: tuple[float, float] | None, videos: Path) -> Path | None:
    """The file that holds this span of a video alone, by the name that Kinetics' are distributed under."""
    if span_s is None or span_s[0] % 1 or span_s[1] % 1:
        return None
    start_s, stop_s = span_s
    return find_video(f"{name}_{start_s:06.0f}_{stop_s:06.0f}", folder=videos)


def _others(subsets: Iterable[str]) -> list[str]:
    counts = [f"{count} of {subset}" for subset, count in Counter(subsets).most_common()]
    return [f"left out, as clips of other subsets: {shown(counts)}"] if counts else []


def _missing(names: Sequence[str]) -> str:
    once = list(dict.fromkeys(names))
    return f"{len(once)} videos are not there, or more than once: {shown(once)}" if once else "they have no labels"
