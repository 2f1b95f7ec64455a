"""Features of a store as files that other programs read.

Layouts of a whole store: ``npy`` (features alone), ``npz`` (everything that the store says of a clip), and
``actionformer`` and ``opentad``, the folders that these two code bases for temporal action localization read.
They know no seconds of a row: they compute them from its number, a stride and a frame rate, which go into a small
file beside the features. Where no such rule gives a video's own seconds, the video is refused.
"""

import filecmp
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
import yaml

from extract.clips import ClipGrid
from extract.errors import InputError, StoreError, UsageError
from extract.sources import SUFFIXES
from extract.store import FeatureSequence, FeatureStore
from pipelines.annotations import VideoAnnotation, read_activitynet
from pipelines.notes import noted
from pipelines.whole import written_whole

LAYOUTS = ("npy", "npz", "actionformer", "opentad")
UNLABELLED = "unlabelled"  # subset of videos that no annotation names
_CLOCK_S = 1e-3  # what rounding of a container's clock may add
_LISTED = 20


class IrregularGridError(InputError):
    """The seconds of a video's clips do not follow from their numbers."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A video that was not exported: ``reason`` is irregular, name or damaged, ``detail`` a sentence."""

    video_id: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What an export made. ``written``: the file of each video, by id, below ``output``."""

    store: str
    output: str
    layout: str
    written: Mapping[str, str]
    failed: tuple[Refused, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rows:
    """The rule of a video's clips: clip k is the samples [k * hop, k * hop + span) at ``fps`` samples per second.

    ``error_s``: by how much the middle of a clip differs from the rule at most. A padded clip ends with the video
    instead; of it, the start is meant. ``padded`` and ``damaged`` count clips of each kind.
    """

    fps: float
    duration_s: float
    error_s: float
    clips: int
    padded: int
    damaged: int


def export_video(store: FeatureStore, video_id: str, file: str | Path) -> ExportResult:
    """Write one video: features (clips, D) as stored to ``NAME.npy``; to ``NAME.npz`` all arrays of
    `FeatureSequence`, and ``duration_s``, by their names.

    Raises:
        UsageError: another suffix, or the file exists with other content.
        StoreError: no such video, or its stored bytes are damaged.
        MachineError: the file cannot be written.
    """
    path = Path(file)
    layout = path.suffix.removeprefix(".")
    if layout not in ("npy", "npz"):
        raise UsageError(f"{path} ends in {path.suffix or 'no suffix'}; expected a file called .npy or .npz")
    _write(path, store[video_id])
    return ExportResult(store.url, str(path), layout, {video_id: path.name})


def export_store(
    store: FeatureStore,
    folder: str | Path,
    *,
    layout: str = "npy",
    annotations: str | Path | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> ExportResult:
    """Write every video of ``store`` to a file of its own in ``folder``; done again, it goes on.

    ``npy`` and ``npz`` keep the video's id with its folders. The two others want one flat folder: there a file is
    called like the video in ``annotations`` (ActivityNet's JSON form), or by its id with ``_`` for ``/`` and without
    suffix; beside it lie the annotations in the form that the code base reads, and what its configuration must say.
    ``on_progress`` is called with the number of videos done, and of all.

    Videos that cannot be exported are in the result's ``failed``; the others are written.

    Raises:
        UsageError: an unknown layout, annotations with ``npy`` or ``npz``, or a file that exists with other content.
        InputError: the annotations cannot be read, or fit no video.
        StoreError: an empty store, or for the last two layouts, a recipe that does not say how clips are cut.
        MachineError: a file cannot be written.
    """
    out = Path(folder)
    _check(store, out, layout, annotations)
    grid = _grid(store) if layout in _SIDECARS else None
    labels, notes = _labels(store, annotations)
    files, refused = _files(store, layout, labels)
    videos: list[_Exported] = []
    for done, video_id in enumerate(store, start=1):
        if video_id in files:
            try:
                videos.append(_export(store, video_id, out, files[video_id], grid))
            except IrregularGridError as error:
                refused.append(Refused(video_id, "irregular", str(error)))
            except StoreError as error:
                refused.append(Refused(video_id, "damaged", str(error)))
        on_progress(done, len(store))
    if grid is not None and videos:
        for name, text in _SIDECARS[layout](out.absolute(), store.recipe, grid, videos, labels):
            _put_text(out / name, text)
    written = {video.video_id: video.file for video in videos}
    return ExportResult(store.url, str(out), layout, written, tuple(refused), tuple(notes))


def rows_of(sequence: FeatureSequence, grid: ClipGrid, fps: float | None, *, declared_fps: float | None) -> Rows:
    """The rule that gives the seconds of the clips. ``fps``: samples per second, None for every frame of the video.

    Then the rate follows from the clips themselves, because what a container declares may be wrong; only where no
    clip is whole, ``declared_fps`` is believed.

    Raises:
        IrregularGridError: no rate puts every clip within half a sample of its seconds.
    """
    clips = np.arange(len(sequence))
    padded = sequence.real_frames < grid.clip_frames
    rate = fps
    if rate is None:
        rate = declared_fps if declared_fps and padded.all() else _native_rate(sequence, grid)
    first_s, span_s = clips * grid.hop / rate, grid.span / rate
    centre_s = (sequence.start_s + sequence.stop_s) / 2
    off_s = np.abs(np.where(padded, sequence.start_s - first_s, centre_s - (first_s + span_s / 2)))
    off = off_s > 0.5 / rate + _CLOCK_S
    if off.any():
        clip = int(np.argmax(off))
        why = " or a varying frame rate. At a fixed --fps the latter does not matter; " if fps is None else "; "
        raise IrregularGridError(
            f"clip {clip} lies {off_s[clip]:.3f} s from where {rate:g} frames per second put it, because of a hole"
            f" in time{why}npz has the seconds of each clip"
        )
    return Rows(
        fps=rate,
        duration_s=sequence.duration_s,
        error_s=float(off_s.max()),
        clips=len(clips),
        padded=int(np.sum(padded)),
        damaged=int(np.sum(sequence.damaged)),
    )


def _native_rate(sequence: FeatureSequence, grid: ClipGrid) -> float:
    """Samples per second from the first clip's start to the last one's, or over the only clip."""
    last = len(sequence) - 1
    if last:
        samples, seconds = last * grid.hop, float(sequence.start_s[last] - sequence.start_s[0])
    else:
        samples = (max(1, int(sequence.real_frames[0])) - 1) * grid.frame_stride + 1
        seconds = float(sequence.stop_s[0] - sequence.start_s[0])
    if seconds <= 0:
        raise IrregularGridError(f"its clips take {seconds} s; expected that they follow each other in time")
    return samples / seconds


@dataclass(frozen=True, slots=True)
class _Exported:
    """A written video; ``rows`` in the layouts that need it."""

    video_id: str
    file: str
    rows: Rows | None


def _export(store: FeatureStore, video_id: str, out: Path, file: str, grid: ClipGrid | None) -> _Exported:
    sequence = store[video_id]
    rows = None
    if grid is not None:
        declared: Any = store.catalogue[video_id].provenance.get("average_fps")
        rows = rows_of(sequence, grid, _fixed_fps(store.recipe), declared_fps=declared)
    _write(out / file, sequence)
    return _Exported(video_id, file, rows)


def _check(store: FeatureStore, out: Path, layout: str, annotations: str | Path | None) -> None:
    if layout not in LAYOUTS:
        raise UsageError(f"layout {layout!r} is unknown; expected {', '.join(LAYOUTS)}")
    if annotations is not None and layout not in _SIDECARS:
        raise UsageError(f"{layout} holds no annotations; expected --annotations with {' or '.join(_SIDECARS)} alone")
    if (out / "_log").exists():
        raise UsageError(f"{out} is a feature store itself; choose another folder to export to")
    if store.of_boxes and layout in _SIDECARS:
        raise UsageError(f"{layout} wants features of clips; {store.url} holds features of boxes: export npy or npz")
    if not len(store):
        raise StoreError(f"{store.url} holds no video; extract some into it first")


def _grid(store: FeatureStore) -> ClipGrid:
    try:
        values = [int(str(store.recipe[key])) for key in ("clip_frames", "frame_stride", "hop")]
    except (KeyError, ValueError) as error:
        raise StoreError(f"{store.url}: the recipe does not say how clips are cut ({error}); export npz") from error
    return ClipGrid(*values)


def _fixed_fps(recipe: Mapping[str, object]) -> float | None:
    return None if recipe["fps"] == "native" else float(str(recipe["fps"]))


def _labels(store: FeatureStore, file: str | Path | None) -> tuple[dict[str, VideoAnnotation], list[str]]:
    """The annotated videos by their id in the store, and what did not find its like."""
    if file is None:
        return {}, []
    from pipelines.dataset import match_ids  # needs torch, which an export without labels does not

    videos = {video.video_id: video for video in read_activitynet(file).videos}
    matches = match_ids(list(videos), list(store))
    labels = {stored_id: videos[video_id] for video_id, stored_id in matches.items()}
    notes = [
        *noted((key for key in videos if key not in matches), "annotated videos are not in the store"),
        *noted((key for key in store if key not in labels), f"videos are not annotated: subset {UNLABELLED!r}"),
    ]
    return labels, notes


def _files(
    store: FeatureStore, layout: str, labels: Mapping[str, VideoAnnotation]
) -> tuple[dict[str, str], list[Refused]]:
    """The file of each video below the folder, and the videos that no file can be called after."""
    if layout in _SIDECARS:
        names = {video_id: _flat_name(video_id, labels.get(video_id)) for video_id in store}
    else:
        names = {video_id: video_id for video_id in store}
    rivals = Counter(names.values())
    files, refused = {}, []
    for video_id, name in names.items():
        if rivals[name] > 1:
            others = ", ".join(repr(key) for key in names if names[key] == name and key != video_id)
            refused.append(Refused(video_id, "name", f"its file would be {name!r} as that of {others}; export npz"))
        elif name.startswith("/") or {"", ".", ".."} & set(name.split("/")):
            refused.append(Refused(video_id, "name", "its id is no path below a folder; export it alone, by its id"))
        else:
            files[video_id] = name + (".npz" if layout == "npz" else ".npy")
    return files, refused


def _flat_name(video_id: str, annotation: VideoAnnotation | None) -> str:
    path = PurePosixPath(video_id)
    stored = str(path.with_suffix("")) if path.suffix.lower() in SUFFIXES else video_id
    return (stored if annotation is None else annotation.video_id).replace("/", "_")


def _write(file: Path, sequence: FeatureSequence) -> None:
    """Write ``sequence`` in the format that the file's suffix names, ``.npy`` or ``.npz``."""
    if file.suffix == ".npy":
        _put(file, lambda stream: np.save(stream, sequence.features))
        return
    arrays: dict[str, Any] = {
        "features": sequence.features,
        "start_s": sequence.start_s,
        "stop_s": sequence.stop_s,
        "real_frames": sequence.real_frames,
        "damaged": sequence.damaged,
        "duration_s": sequence.duration_s,
    }
    if sequence.box is not None:
        arrays |= {"box": sequence.box, "box_score": sequence.box_score, "second": sequence.second}
    _put(file, lambda stream: np.savez(stream, **arrays))


def _put_text(file: Path, text: str) -> None:
    _put(file, lambda stream: stream.write(text.encode()))


def _put(file: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file. The same file again is no error."""
    advice = "free some space or choose another -o. The same command goes on from here"
    with written_whole(file, advice) as fresh:
        with fresh.open("wb") as stream:
            write(stream)
        if not file.exists():
            return
        if not filecmp.cmp(fresh, file, shallow=False):
            raise UsageError(f"{file} exists with other content; move it away, or choose another -o")
        fresh.unlink()


_Labels = Mapping[str, VideoAnnotation]
_Sidecars = Iterator[tuple[str, str]]


def _actionformer(
    out: Path, recipe: Mapping[str, object], grid: ClipGrid, videos: list[_Exported], labels: _Labels
) -> _Sidecars:
    """What ActionFormer reads: row k stands for second (k * feat_stride + num_frames / 2) / fps.

    Its reader of THUMOS14 leaves out every label of number 4, so that of ActivityNet is named.
    """
    classes = _classes(videos, labels)
    numbers = {label: {"label_id": number} for number, label in enumerate(classes)}
    yield "annotations.json", _database(videos, labels, numbers, lambda rows: {"fps": rows.fps})
    config = {
        "dataset_name": "anet",
        "dataset": {
            "json_file": str(out / "annotations.json"),
            "feat_folder": str(out),
            "file_prefix": None,
            "file_ext": ".npy",
            "num_classes": len(classes),
            "input_dim": recipe["feature_width"],
            "feat_stride": grid.hop,
            "num_frames": grid.span,
            "default_fps": None,
        },
    }
    yield "actionformer.yaml", yaml.safe_dump(config, sort_keys=False)


def _opentad(
    out: Path, recipe: Mapping[str, object], grid: ClipGrid, videos: list[_Exported], labels: _Labels
) -> _Sidecars:
    """What OpenTAD reads: row k stands for second (k * feature_stride + offset_frames) / fps, fps = frame / duration.

    It cuts offset_frames to a whole number: where half a clip is none, all of these count half frames.
    """
    units, fps = 1 + grid.span % 2, _fixed_fps(recipe)
    classes = _classes(videos, labels)
    yield (
        "annotations.json",
        _database(videos, labels, {}, lambda rows: {"frame": units * rows.fps * rows.duration_s}),
    )
    yield "category_idx.txt", "".join(f"{label}\n" for label in classes)
    config = {
        "ann_file": str(out / "annotations.json"),
        "class_map": str(out / "category_idx.txt"),
        "data_path": str(out),
        "feature_stride": units * grid.hop,
        "sample_stride": 1,
        "offset_frames": units * grid.span // 2,
        "fps": -1 if fps is None else units * fps,
    }
    yield "opentad.yaml", yaml.safe_dump(config, sort_keys=False)


_SIDECARS = {"actionformer": _actionformer, "opentad": _opentad}


def _classes(videos: Iterable[_Exported], labels: _Labels) -> list[str]:
    """The labels of written videos, sorted: both code bases expect that each of them occurs."""
    return sorted({label for video in videos if video.video_id in labels for label in labels[video.video_id].labels})


def _database(
    videos: Iterable[_Exported],
    labels: _Labels,
    more_of_label: Mapping[str, Mapping[str, object]],
    rate: Callable[[Rows], Mapping[str, float]],
) -> str:
    """Annotations of the written videos in ActivityNet's form, with what only one layout has: ``more_of_label``
    and ``rate``. Neither reader minds the keys at the end.
    """
    entries = {}
    for video in videos:
        rows, annotation = video.rows, labels.get(video.video_id)
        assert rows is not None  # noqa: S101 - made with a grid
        segments = annotation.segments if annotation else ()
        entries[PurePosixPath(video.file).stem] = {
            "subset": annotation.subset if annotation else UNLABELLED,
            "duration": rows.duration_s,
            **rate(rows),
            "annotations": [
                {"segment": [each.start_s, each.stop_s], "label": each.label, **more_of_label.get(each.label, {})}
                for each in segments
            ],
            "video_id": video.video_id,
            "clips": rows.clips,
            "padded_clips": rows.padded,
            "damaged_clips": rows.damaged,
            "error_s": round(rows.error_s, 6),
        }
    document = {"version": "untrimmed 1", "database": entries}
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def export_json(result: ExportResult) -> dict[str, Any]:
    """The result as plain JSON values."""
    return {
        "store": result.store,
        "output": result.output,
        "layout": result.layout,
        "videos": len(result.written),
        "files": dict(result.written),
        "failed": [{"video": each.video_id, "reason": each.reason, "detail": each.detail} for each in result.failed],
        "notes": list(result.notes),
    }


def export_lines(result: ExportResult) -> Iterator[str]:
    """The result for people."""
    yield f"{len(result.written)} videos, {result.layout}: {result.output}"
    yield from (f"note: {note}" for note in result.notes)
    if result.failed:
        yield f"{len(result.failed)} videos were not exported:"
    for each in result.failed[:_LISTED]:
        yield f"  {each.video_id}: {each.detail} [{each.reason}]"
    if len(result.failed) > _LISTED:
        yield f"  and {len(result.failed) - _LISTED} more; --json names all"
