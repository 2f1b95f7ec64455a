"""What a job of 100,000 videos costs beside decoding and computing, and whether memory stays flat.

    python benchmarks/scale.py [VIDEOS]    # writes benchmarks/results/scale.json

The videos are names of one tiny file. They are found, fingerprinted, probed and divided as always; then the units go
through the real coordinator and crews to work that decodes nothing and writes ``CLIPS`` clips of ``WIDTH`` features a
video into real segments. *overhead* is the wall time less that of writing segments, where units are done in this
process; with worker processes it is the processor time of the process that plans, schedules and commits. Each phase
has a fresh process, whose resident memory is noted while it works. ``FEW`` videos are done on a disk and in memory,
which shows what waiting for a disk adds; ``VIDEOS`` in memory only.
"""

import os
import pickle
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from common import encode, save, table
from numpy.typing import NDArray

from extract.job import Crewing, crew
from extract.measure import Speed
from extract.sources import find_videos
from extract.store import FeatureStore, VideoFeatures
from extract.worker import Setup, Task, Unit, UnitResult
from pipelines.extraction import Progress, Summary, _Job
from pipelines.planning import Work, divide, gather
from pipelines.settling import Options, settle

VIDEOS, FEW, A_FOLDER = 100_000, 3_000, 1_000
MEMORY = "/dev/shm"  # noqa: S108 - files there are in memory: nothing waits for a disk
CLIPS = 5
SPEED = Speed(open_s=6.0, decode_s_per_s=0.0, model_s_per_clip=0.0, threads=1)  # ten videos are a minute of work
OPTIONS = Options(engine="torch", precision="fp32")
WIDTH = 256  # of the default backbone
NOTED = 10  # times that memory is noted
PROVENANCE: dict[str, object] = {
    "uri": "/archive/of/videos/000/000000.mp4",
    "size_bytes": 123_456_789,
    "container": "mov,mp4,m4a,3gp,3g2,mj2",
    "codec": "h264",
    "width": 1920,
    "height": 1080,
    "average_fps": 29.97002997002997,
    "variable_rate": False,
    "clock_start_s": 0.0,
    "declared_frames": 17_982,
    "declared_duration_s": 600.0,
    "decoded_frames": 17_982,
    "bad_packets": 0,
    "damaged_spans_s": [],
    "repaired_times": 0,
    "clock_restarts": 0,
    "holes_s": [],
    "short_by_s": 0.0,
    "warnings": [],
    "decoder": "pyav",
    "decoder_library": "PyAV 18.0.0, FFmpeg 8.1",
    "engine": "torch 2.13.0+cpu eager",
    "weights": "embedded",
    "device": "cpu: AMD EPYC",
    "host": "worker-01",
    "untrimmed": "0.1.0",
    "started_unix_s": 1_790_000_000.123,
    "finished_unix_s": 1_790_000_010.456,
}


def make(root: Path, count: int) -> None:
    """``count`` names of one small video, in folders; each folder has its own file, for links are limited."""
    pictures = (np.full((72, 64), 16 + 8 * at, np.uint8) for at in range(10))
    small = encode(root.parent / "small.mp4", pictures, size=(64, 48), rate=Fraction(10))
    for first in range(0, count, A_FOLDER):
        folder = root / f"{first // A_FOLDER:03d}"
        folder.mkdir(parents=True)
        own = folder / f"{first:06d}.mp4"
        own.write_bytes(small.read_bytes())
        for number in range(first + 1, min(first + A_FOLDER, count)):
            (folder / f"{number:06d}.mp4").hardlink_to(own)


def write_only(setup: Setup, unit: Unit, on_clips: Callable[[int], None]) -> UnitResult:
    """A unit's part of the store, as `extract.worker.run_unit` writes it, without its videos being read."""
    began = time.perf_counter()
    clips = CLIPS * len(unit.tasks)
    on_clips(clips)
    receipt = FeatureStore.open(setup.store).write_segment([features_of(task) for task in unit.tasks])
    store_s = time.perf_counter() - began
    return UnitResult(receipt, (), clips, video_s=float(len(unit.tasks)), decode_s=0.0, model_s=0.0, store_s=store_s)


def features_of(task: Task) -> VideoFeatures:
    """Something to write."""
    start_s: NDArray[np.float64] = np.arange(CLIPS, dtype=np.float64) * 0.2
    return VideoFeatures(
        video_id=task.video_id,
        features=np.ones((CLIPS, WIDTH), np.float32),
        start_s=start_s,
        stop_s=start_s + np.float64(0.2),
        real_frames=np.full(CLIPS, 2, np.int32),
        damaged=np.zeros(CLIPS, np.bool_),
        duration_s=1.0,
        fingerprint=task.fingerprint,
        status="ok",
        provenance={**PROVENANCE, "uri": task.path},
    )


class Idle:
    """A crew whose work is `write_only`."""

    def __init__(self, hands: Any) -> None:  # noqa: ANN401 - `work` is beyond the protocol
        self._hands = hands
        self.notes, self.slots, self.call, self.drain = hands.notes, hands.slots, hands.call, hands.drain

    def run(self, setup: Setup, units: Any, on_clips: Callable[[int], None]) -> Any:  # noqa: ANN401
        """As the crew's own."""
        return self._hands.run(setup, units, on_clips, work=write_only)


def resident_mb() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def timed(work: Callable[[], object]) -> float:
    """Wall seconds of ``work``."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def planned(root: Path, store_path: Path, file: Path) -> dict[str, Any]:
    """Find, fingerprint and probe the videos; the work goes into ``file``."""
    before_mb, probed_from = resident_mb(), 0.0

    def note(what: str, _share: float | None) -> None:
        nonlocal probed_from
        if what.startswith("probing") and not probed_from:
            probed_from = time.perf_counter()

    settle_s = [timed(lambda: settle(OPTIONS, store_path)) for _ in range(2)][-1]
    find_s = timed(lambda: find_videos([root]))
    began = time.perf_counter()
    work = gather(root, store_path, OPTIONS, on_wait=note)
    ended = time.perf_counter()
    assert work.setup.recipe.feature_width == WIDTH
    file.write_bytes(pickle.dumps(work))
    return {
        "videos": len(work.videos),
        "find_s": find_s,
        "fingerprint_s": probed_from - began - settle_s - find_s,
        "probe_s": ended - probed_from,
        "resident_mb": [before_mb, resident_mb()],
    }


def worked(file: Path, store_path: Path, workers: int) -> dict[str, Any]:
    """Divide the work, do it, commit and publish; seconds of each, and memory meanwhile."""
    work: Work = pickle.loads(file.read_bytes())
    work = replace(work, setup=replace(work.setup, store=str(store_path)))
    store = FeatureStore.open_or_create(store_path, work.setup.recipe.as_dict())
    summary, memory_mb = Summary(store.url, store.recipe_digest), [resident_mb()]

    def note(progress: Progress) -> None:
        while progress.videos_done * NOTED >= len(memory_mb) * progress.videos:
            memory_mb.append(resident_mb())

    with crew(Crewing(workers)) as hands:
        began = time.perf_counter()
        plan = divide(work, SPEED, slots=max(1, workers), cores=1.0)
        divide_s = time.perf_counter() - began
        job, cpu_s = _Job(store, work, summary, note), time.process_time()
        run_s = timed(lambda: job.run(plan, Idle(hands)))
        cpu_s = time.process_time() - cpu_s
    job.close(run_s)
    job.events.flush()
    assert summary.videos == len(work.videos), summary
    segments_s = summary.busy_s["store"]
    return {
        "workers": workers,
        "videos": summary.videos,
        "units": len(plan.units),
        "divide_s": divide_s,
        "run_s": run_s,
        "client_processor_s": cpu_s,
        "segments_s": segments_s,
        "overhead_s": cpu_s if workers else run_s - segments_s,
        "resident_mb": memory_mb,
    }


def published(store_path: Path) -> dict[str, Any]:
    """Publish what was committed."""
    store = FeatureStore.open(store_path)
    videos, before_mb = len(store), resident_mb()
    return {"videos": videos, "publish_s": timed(store.publish), "resident_mb": [before_mb, resident_mb()]}


def opened(store_path: Path) -> dict[str, Any]:
    """Read the whole log; what the catalogue takes in memory, and what the store consists of."""
    FeatureStore.open(store_path)
    before_mb, began = resident_mb(), time.perf_counter()
    store = FeatureStore.open(store_path)
    videos = len(store)
    open_s = time.perf_counter() - began
    catalogue_mb = resident_mb() - before_mb
    log_bytes = [entry.stat().st_size for entry in (store_path / "_log").iterdir()]
    in_segments, published = counted(store_path)
    figures = {
        "videos": videos,
        "open_s": open_s,
        "catalogue_bytes_a_video": round(1e6 * catalogue_mb / videos),
        "log_entries": len(log_bytes),
        "log_bytes_a_video": round(sum(log_bytes) / videos),
        "objects_in_segments": in_segments,
        "objects_published": published,
    }
    figures["compact_s"] = timed(store.compact)
    figures["collect_s"] = timed(lambda: store.collect(grace_s=0.0))
    figures["objects_in_segments_compacted"] = counted(store_path)[0]
    return figures


def counted(store_path: Path) -> tuple[int, int]:
    """How many files there are in segments, and of the published arrays."""
    segments = sum(len(files) for _, _, files in os.walk(store_path / "_segments"))
    return segments, sum(1 for _ in store_path.glob("*/c.*")) + sum(1 for _ in store_path.glob("*/zarr.json")) + 1


def again(root: Path, store_path: Path) -> dict[str, Any]:
    """What the same command costs when everything is done."""
    settle_s = [timed(lambda: settle(OPTIONS, store_path)) for _ in range(2)][-1]
    began = time.perf_counter()
    work = gather(root, store_path, OPTIONS)
    again_s = time.perf_counter() - began - settle_s
    assert not work.videos
    return {"videos": work.done, "again_s": again_s, "resident_mb": resident_mb()}


def alone(work: Callable[..., dict[str, Any]], *arguments: object) -> dict[str, Any]:
    """``work(*arguments)`` in a fresh process."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def measured(folder: Path, videos: int, *, in_process: bool) -> dict[str, Any]:
    """All figures, of videos and stores made below ``folder``; of doing it in one process, too, if so wished."""
    root, store_path, file = folder / "videos", folder / "crewed.zarr", folder / "work"
    make(root, videos)
    result = {"planned": alone(planned, root, store_path, file), "two workers": alone(worked, file, store_path, 2)}
    if in_process:
        result["in process"] = alone(worked, file, folder / "here.zarr", 0)
    result["published"] = alone(published, store_path)
    result["again"] = alone(again, root, store_path)
    result["opened"] = alone(opened, store_path)
    return {"ms_a_video": ms_a_video(result), **result}


def ms_a_video(result: dict[str, Any]) -> dict[str, float]:
    """What each phase took."""
    plan, crewed = result["planned"], result["two workers"]
    phases = {
        "find": plan["find_s"],
        "fingerprint": plan["fingerprint_s"],
        "probe": plan["probe_s"],
        "divide": crewed["divide_s"],
        "dispatch and commit, two workers: client's processor time": crewed["overhead_s"],
        "write segments, two workers": crewed["segments_s"],
    }
    if "in process" in result:
        phases["dispatch and commit, in process: wall time"] = result["in process"]["overhead_s"]
        phases["write segments, in process"] = result["in process"]["segments_s"]
    phases["publish"] = result["published"]["publish_s"]
    phases["open"] = result["opened"]["open_s"]
    phases["run again, all done"] = result["again"]["again_s"]
    return {name: round(1000 * seconds / plan["videos"], 3) for name, seconds in phases.items()}


def main() -> None:
    """Measure, print, and write the results."""
    many = int(sys.argv[1]) if len(sys.argv) > 1 else VIDEOS
    result = {}
    for title, videos, where in (("on disk", FEW, None), ("in memory", FEW, MEMORY), ("many", many, MEMORY)):
        with tempfile.TemporaryDirectory(dir=where) as folder:
            result[title] = measured(Path(folder), videos, in_process=title != "many")
        print(table([title, "ms a video"], [[name, f"{ms:.3f}"] for name, ms in result[title]["ms_a_video"].items()]))
    save("scale", "a job of many videos beside decoding and computing", result)


if __name__ == "__main__":
    main()
