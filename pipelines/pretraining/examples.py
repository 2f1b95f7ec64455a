"""Trimmed clips with one label each: from folders named by their class, or from annotations in any format."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from extract.errors import InputError
from extract.sources import find_videos
from pipelines.annotations.formats import read_document
from pipelines.notes import shown
from pipelines.report.media import find_video

TRAINING, HELD_OUT = "training", "validation"
_SUBSETS = {"train": TRAINING, "training": TRAINING, "val": HELD_OUT, "validate": HELD_OUT, "validation": HELD_OUT}


@dataclass(frozen=True, slots=True)
class Example:
    """One trimmed clip: what it is, and where; ``span_s`` None is the whole file."""

    path: Path
    label: str
    subset: str
    span_s: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Examples:
    """Clips of both subsets, and the classes of those for training, sorted; ``notes`` say what was left out."""

    rows: tuple[Example, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def of(self, subset: str) -> list[Example]:
        """Those of "training" or "validation"."""
        return [example for example in self.rows if example.subset == subset]


def read_examples(source: Path, videos: Path | None = None) -> Examples:
    """The clips that ``source`` names.

    A folder: ``LABEL/VIDEO``, all for training, or ``train/LABEL/VIDEO`` and ``val/LABEL/VIDEO``. A file: annotations
    in any of the formats (Kinetics' csv and ActivityNet's JSON among them), each segment one clip, of videos that are
    found by their ids in ``videos``.

    Raises:
        InputError: there is no such place, nothing for training, fewer than two classes, or ``videos`` is missing.
    """
    if not source.exists():
        raise InputError(f"{source}: no such file or folder; expected trimmed clips. Check the path")
    if source.is_dir():
        rows, notes = list(_in_folders(source)), list[str]()
    else:
        rows, notes = _annotated(source, videos)
    classes = tuple(sorted({row.label for row in rows if row.subset == TRAINING}))
    if len(classes) < 2:
        raise InputError(
            f"{source}: {len(classes)} classes in the subset {TRAINING}; expected two or more. "
            f"{''.join(f'{note}. ' for note in notes)}"
            "In a folder, classes are folders: jump/a.mp4, throw/b.mp4, or train/jump/a.mp4 and val/jump/c.mp4"
        )
    unknown = sorted({row.label for row in rows} - set(classes))
    if unknown:
        notes.append(f"left out, of classes without training clips: {shown(unknown)}")
        rows = [row for row in rows if row.label in classes]
    return Examples(tuple(rows), classes, tuple(notes))


def _in_folders(root: Path) -> Iterator[Example]:
    for source in find_videos([root]).sources:
        parts = source.video_id.split("/")
        subset = _SUBSETS.get(parts[0].lower()) if len(parts) > 2 else None
        if len(parts) < 2:
            raise InputError(f"{source.path} lies in no folder of a class; expected {root}/LABEL/{source.video_id}")
        yield Example(Path(source.path), parts[-2], subset or TRAINING)


def _annotated(source: Path, videos: Path | None) -> tuple[list[Example], list[str]]:
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
        path = paths[names[video]]
        if path is None:
            missing.append(names[video])
        elif label >= 0:
            subset = _SUBSETS.get((media[video].subset or TRAINING).lower(), media[video].subset or "")
            span = None if start_s != start_s else (start_s, stop_s)
            rows.append(Example(path, document.labels[label], subset, span))
    if not rows:
        raise InputError(f"{source}: none of its {len(segments)} clips is of a video in {videos}; {_missing(missing)}")
    return rows, [_missing(missing)] if missing else []


def _missing(names: Sequence[str]) -> str:
    once = list(dict.fromkeys(names))
    return f"{len(once)} videos are not there: {shown(once)}" if once else "they have no labels"
