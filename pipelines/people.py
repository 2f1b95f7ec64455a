"""Who is in a video, once every so many seconds: boxes of people for `extract --boxes`, and their tracks."""

import csv
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.boxes import Boxes
from extract.cache import room_beside
from extract.engine import settle_device
from extract.errors import MachineError, UsageError, VideoError
from extract.people import SIDE_PX, PeopleDetector
from extract.sources import Source, find_videos
from extract.video import DecodingProcess
from pipelines.settling import OnWait, download_words, nobody_waits
from pipelines.tracks import link

Detect = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], NDArray[np.float32]]]
Progress = Callable[[int, int, int], None]  # videos done, of how many; people found


@dataclass
class People:
    """What was found. ``boxes`` and ``tracks`` are the files; ``key_seconds``: pictures looked at."""

    boxes: str
    tracks: str
    videos: int = 0
    key_seconds: int = 0
    people: int = 0
    tracked: int = 0
    failed: list[dict[str, str]] = field(default_factory=list)
    seconds: float = 0.0


def detect_people(
    paths: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    every_s: float = 1.0,
    min_score: float = 0.8,
    weights: str | Path = "pretrained",
    device: str = "auto",
    on_progress: Progress = lambda _done, _count, _people: None,
    on_wait: OnWait = nobody_waits,
) -> People:
    """Find the people at seconds 0, ``every_s``, 2 ``every_s`` … of every video, and write them to the csv ``out``.

    Its form is that of the detected people that FAIR published for AVA: video, second, x1, y1, x2, y2, nothing, score.
    Beside it, ``NAME.tracks.csv`` has a heading and, in place of nothing, the number of the track (`pipelines.tracks`).
    Videos that cannot be read are in the result's ``failed``, with nothing in the files; the others are done.

    Raises:
        UsageError: a value that cannot work, or a file that exists.
        InputError: a path that does not exist, or a checkpoint that cannot be used.
        MachineError: a file cannot be written, or the checkpoint cannot be downloaded.
    """
    if not 0 < every_s < np.inf:
        raise UsageError(f"--every {every_s}; expected seconds, above 0")
    files = Path(out), Path(out).with_suffix(".tracks.csv")
    for file in files:
        if file.exists():
            raise UsageError(f"{file} exists; move it away, or choose another -o")
    began = time.monotonic()
    found = find_videos([paths] if isinstance(paths, str | Path) else list(paths))
    detect = PeopleDetector(
        weights, min_score=min_score, device=settle_device(device), on_progress=download_words(on_wait)
    )
    people = People(str(files[0]), str(files[1]))
    try:
        with room_beside(files[0]) as room:
            unfinished = room / "boxes", room / "tracks"
            _write(found.sources, detect, every_s, people, unfinished, on_progress)
            for part, file in zip(unfinished, files, strict=True):
                part.replace(file)
    except MachineError:
        raise
    except OSError as error:
        raise MachineError(f"{files[0]} cannot be written ({error.strerror or error}); choose another -o") from error
    people.seconds = time.monotonic() - began
    return people


def people_in(process: DecodingProcess, path: str, detect: Detect, every_s: float) -> tuple[Boxes, int]:
    """The people in one video, and at how many seconds they were looked for. Raises VideoError."""
    seconds: list[float] = []
    boxes, scores = [np.empty((0, 4), np.float32)], [np.empty(0, np.float32)]
    looked = 0
    with process.open_video(path, fps=1 / every_s, short_side=SIDE_PX) as reader:
        for batch in reader:
            for picture, pts_s in zip(batch.pixels, batch.pts_s.tolist(), strict=True):
                looked += 1
                box, score = detect(picture)
                box = np.round(box, 4)
                seen = (box[:, :2] < box[:, 2:]).all(1)
                boxes.append(box[seen])
                scores.append(score[seen])
                seconds += [round((pts_s - reader.info.start_s) / every_s) * every_s] * int(seen.sum())
    if not looked:
        raise VideoError(path, "no_frames", "no frame could be decoded")
    return Boxes(np.array(seconds, np.float64), np.concatenate(boxes), np.concatenate(scores)), looked


def people_lines(people: People) -> Iterator[str]:
    """What was found, for people."""
    yield (
        f"{people.people} boxes of people at {people.key_seconds} seconds of {people.videos} videos, in {people.boxes}"
    )
    yield f"{people.tracked} tracks, in {people.tracks}"
    yield from (f"  {each['video']}: {each['detail']} [{each['reason']}]" for each in people.failed)


def _write(
    sources: Sequence[Source],
    detect: Detect,
    every_s: float,
    people: People,
    files: tuple[Path, Path],
    on_progress: Progress,
) -> None:
    with ExitStack() as stack:
        process = stack.enter_context(DecodingProcess())
        opened = [stack.enter_context(file.open("w", newline="", encoding="utf-8")) for file in files]
        plain, tracked = (csv.writer(file, lineterminator="\n") for file in opened)
        tracked.writerow(["video", "second", "x1", "y1", "x2", "y2", "track", "score"])
        for done, source in enumerate(sources):
            on_progress(done, len(sources), people.people)
            try:
                source.video_id.encode()
                boxes, looked = people_in(process, source.path, detect, every_s)
            except UnicodeEncodeError:
                name = source.video_id.encode("utf-8", "backslashreplace").decode()
                detail = "its name is not valid UTF-8; rename the file"
                people.failed.append({"video": name, "reason": "name", "detail": detail})
                continue
            except VideoError as error:
                people.failed.append({"video": source.video_id, "reason": error.reason, "detail": error.detail})
                continue
            tracks = link(boxes, every_s=every_s)
            for row, track in zip(_rows(source.video_id, boxes), tracks.tolist(), strict=True):
                plain.writerow(row)
                tracked.writerow([*row[:6], track, row[7]])
            people.videos += 1
            people.key_seconds += looked
            people.people += len(boxes)
            people.tracked += len(set(tracks.tolist()))


def _rows(video_id: str, boxes: Boxes) -> Iterator[list[Any]]:
    for second, box, score in zip(boxes.second.tolist(), boxes.box, boxes.score, strict=True):
        whole = f"{second:.3f}".rstrip("0").rstrip(".")  # others read whole seconds as whole numbers
        yield [video_id, whole, *(f"{value:.4f}" for value in box), "", f"{score:.4f}"]
