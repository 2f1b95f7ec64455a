"""Who is in a video, once every so many seconds: boxes of people for `extract --boxes`, and their tracks."""

import csv
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from extract.boxes import Boxes
from extract.cache import file_sha256
from extract.download import fetch
from extract.engine import settle_device
from extract.errors import MachineError, UsageError, VideoError
from extract.people import SIDE_PX, URL, PeopleDetector
from extract.sources import Source, find_videos, fingerprint
from extract.video import DecodingProcess
from pipelines.settling import OnWait, download_words, nobody_waits
from pipelines.tracks import link
from pipelines.whole import written_whole

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
    Videos that cannot be read are in the result's ``failed``, with nothing in the files; the others are done. The files
    are written in the end; until then each finished video is kept in ``.NAME.detecting`` beside them, from where the
    same call goes on to the same files, however the first one ended. Videos that failed or changed are read again.

    Raises:
        UsageError: a value that cannot work, a file that exists, or a call with other values was interrupted there.
        InputError: a path that does not exist, or a checkpoint that cannot be used.
        MachineError: a file cannot be written, the checkpoint cannot be downloaded, or the GPU fails.
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
    key = {"--every": float(every_s), "--min-score": float(min_score), "--weights": _identity(str(weights))}
    try:
        kept = _Kept(files[0], key)
        _write(_look(found.sources, detect, every_s, people, kept, on_progress), kept.folder, files)
        kept.remove()
    except MachineError:
        raise
    except OSError as error:
        why = error.strerror or error
        raise MachineError(f"{files[0]} cannot be written ({why}); free space, or choose another -o") from error
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


class _Kept:
    """What was found in each finished video, until the file ``out`` is written. ``key``: what that depends on.

    Each `video-*.json` is whole or not there; its name stands for the key, the video, and the content that this had.

    Raises:
        UsageError: videos of another key are kept there.
        MachineError: the folder cannot be written; OSError where it cannot be made.
    """

    def __init__(self, out: Path, key: Mapping[str, object]) -> None:
        self.folder, self._key = out.parent / f".{out.name}.detecting", key
        before = self.read(self.folder / "key.json") or key
        others = [f"{name} {before.get(name)} then, {now} now" for name, now in key.items() if before.get(name) != now]
        if others and any(self.folder.glob("video-*.json")):
            raise UsageError(
                f"another search for people to {out} was interrupted: {'; '.join(others)}\n"
                f"Go on with that one, choose another -o, or remove {self.folder}"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        self.write(self.folder / "key.json", key)

    def place(self, source: Source) -> Path:
        """Where this video, with its content of now, is kept. Raises VideoError when it cannot be read."""
        what = json.dumps([self._key, source.video_id, fingerprint(source.path)])
        return self.folder / f"video-{hashlib.sha256(what.encode()).hexdigest()}.json"

    def read(self, place: Path) -> dict[str, Any] | None:
        """What is kept there, if anything."""
        try:
            found = json.loads(place.read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def write(self, place: Path, what: Mapping[str, object]) -> None:
        """Keep it there. Raises MachineError."""
        with written_whole(place, "free space, and go on with the same command") as fresh:
            fresh.write_text(json.dumps(what), "utf-8")

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _identity(weights: str) -> str:
    """What weights that were just read are recognised by."""
    if weights == "pretrained":
        return URL.rpartition("/")[2]  # ends with its digest
    if weights.startswith("random:"):
        return weights
    return f"sha256:{file_sha256(fetch(weights) if '://' in weights else Path(weights))}"


def _look(
    sources: Sequence[Source],
    detect: Detect,
    every_s: float,
    people: People,
    kept: _Kept,
    on_progress: Progress,
) -> list[Path]:
    """Where each video that could be read is kept, in their order; ``people`` hears of them, and of the others."""
    places = []
    with DecodingProcess() as process:
        for done, source in enumerate(sources):
            on_progress(done, len(sources), people.people)
            name = source.video_id.encode("utf-8", "backslashreplace").decode()
            try:
                if name != source.video_id:
                    raise VideoError(name, "name", "its name is not valid UTF-8; rename the file")
                place = kept.place(source)
                seen = kept.read(place)
                if seen is None:
                    seen = _seen(process, source, detect, every_s)
                    kept.write(place, seen)
            except (MachineError, UsageError):
                raise  # not this video's fault
            except (torch.AcceleratorError, torch.OutOfMemoryError) as error:  # nor would the next one do better
                raise MachineError(
                    f"the GPU failed at {name} ({error}); the same command goes on from there"
                ) from error
            except Exception as error:  # whatever a strange file brings about: it must not stop the others
                failure = error
                if not isinstance(failure, VideoError):
                    failure = VideoError(source.path, "unexpected", f"{type(error).__name__}: {error}")
                people.failed.append({"video": name, "reason": failure.reason, "detail": failure.detail})
                continue
            places.append(place)
            people.videos += 1
            people.key_seconds += seen["looked"]
            people.people += len(seen["rows"])
            people.tracked += len(set(seen["tracks"]))
    return places


def _seen(process: DecodingProcess, source: Source, detect: Detect, every_s: float) -> dict[str, Any]:
    """What is kept of a video: at how many seconds was ``looked``, the ``rows``, and the track of each."""
    boxes, looked = people_in(process, source.path, detect, every_s)
    tracks = link(boxes, every_s=every_s).tolist()
    return {"looked": looked, "rows": list(_rows(source.video_id, boxes)), "tracks": tracks}


def _write(places: Sequence[Path], folder: Path, files: tuple[Path, Path]) -> None:
    """Write what is kept to ``files``: first in ``folder``, so that they are whole."""
    unfinished = folder / "boxes", folder / "tracks"
    with ExitStack() as stack:
        opened = [stack.enter_context(file.open("w", newline="", encoding="utf-8")) for file in unfinished]
        plain, tracked = (csv.writer(file, lineterminator="\n") for file in opened)
        tracked.writerow(["video", "second", "x1", "y1", "x2", "y2", "track", "score"])
        for place in places:
            seen = json.loads(place.read_text("utf-8"))
            plain.writerows(seen["rows"])
            tracked.writerows(
                [*row[:6], track, row[7]] for row, track in zip(seen["rows"], seen["tracks"], strict=True)
            )
    for part, file in zip(unfinished, files, strict=True):
        part.replace(file)


def _rows(video_id: str, boxes: Boxes) -> Iterator[list[str]]:
    for second, box, score in zip(boxes.second.tolist(), boxes.box, boxes.score, strict=True):
        whole = f"{second:.3f}".rstrip("0").rstrip(".")  # others read whole seconds as whole numbers
        yield [video_id, whole, *(f"{value:.4f}" for value in box), "", f"{score:.4f}"]
