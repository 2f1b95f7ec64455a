"""Whole jobs among bad videos, other clients, and storages that fail."""

import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import labour
import pytest
from object_server import faulty, new_bucket, s3_server, use_s3

from extract.errors import MachineError
from extract.store import FeatureStore
from pipelines.extraction import Options, Summary, run_extraction
from pipelines.verification import verify_store

from .conftest import assert_equal_stores, make_video

GOOD = 40
# Stands in for PyAV in decoding processes: three files do what a broken decoder does when they are read. To be probed,
# a file is handed over open; to be read, by its path.
BAD_DECODER = """
import numpy, os, sys, time
folder = os.path.dirname(__file__)
sys.path.remove(folder)
del sys.modules["av"]
import av
sys.path.insert(0, folder)
true_open = av.open

def bad_open(file, *args, **options):
    name = os.path.basename(str(file))
    if name == "kills.mp4":
        os.kill(os.getpid(), 11)
    if name == "hangs.mp4":
        time.sleep(3600)
    eaten = []
    while name == "eats.mp4":
        eaten.append(numpy.empty(1 << 30, numpy.uint8))
    return true_open(file, *args, **options)

av.open = bad_open
"""
IMPATIENT = """
from extract.video._isolated import DecodingProcess
DecodingProcess.__init__.__defaults__ = (6.0,)
"""


@pytest.fixture
def bad_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "av.py").write_text(BAD_DECODER)
    (folder / "sitecustomize.py").write_text(IMPATIENT)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))


@pytest.mark.usefixtures("bad_decoder")
def test_three_bad_videos_among_forty(tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    good = make_video(folder / "00.mp4", 1.0, 1)
    for number in range(1, GOOD):
        shutil.copy(good, folder / f"{number:02d}.mp4")
    for name in ("kills", "hangs", "eats"):
        make_video(folder / f"{name}.mp4", 0.5, 2)
    began = time.monotonic()
    store, summary = run_extraction(folder, tmp_path / "f.zarr", options=Options(workers=2))
    assert time.monotonic() - began < 60
    assert summary.videos == len(store) == GOOD
    assert {failed["video"]: failed["reason"] for failed in summary.failed} == {
        "kills.mp4": "decoder_crashed",
        "hangs.mp4": "stalled",
        "eats.mp4": "out_of_memory",
    }
    assert set(store.failures) == {"kills.mp4", "hangs.mp4", "eats.mp4"}
    assert len({record.crc32 for record in store.catalogue.values()}) == 1


def test_two_clients_race_for_one_store(archive: Path, undisturbed: FeatureStore, tmp_path: Path) -> None:
    start = threading.Barrier(2)

    def client() -> Summary:
        start.wait()
        return run_extraction(archive, tmp_path / "f.zarr", options=Options(workers=1))[1]

    with ThreadPoolExecutor(2) as pool:
        clients = [pool.submit(client) for _ in range(2)]
    summaries = [each.result() for each in clients]
    assert [s.videos + s.already_done for s in summaries] == [len(undisturbed)] * 2
    store = FeatureStore.open(tmp_path / "f.zarr")
    assert_equal_stores(store, undisturbed)
    found = verify_store(store)
    assert (found.damaged, found.unpublished) == ((), 0)


def test_a_worker_that_dies_before_there_is_a_plan(
    archive: Path, undisturbed: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.extraction.measure", labour.die)
    store, summary = run_extraction(archive, tmp_path / "f.zarr", options=Options(workers=1))
    assert summary.predicted_s is None
    assert_equal_stores(store, undisturbed)


@contextmanager
def bucket(monkeypatch: pytest.MonkeyPatch, rate: float) -> Iterator[str]:
    with s3_server() as endpoint, faulty(endpoint, seed=1, rate=rate) as proxy:
        use_s3(monkeypatch, proxy.endpoint)
        yield f"s3://{new_bucket(endpoint)}/some/store.zarr"


@pytest.mark.parametrize(("workers", "rate"), [(0, 0.0), (2, 0.1)])
def test_on_s3_it_is_the_same_store(
    archive: Path, undisturbed: FeatureStore, monkeypatch: pytest.MonkeyPatch, workers: int, rate: float
) -> None:
    with bucket(monkeypatch, rate) as url:
        store, summary = run_extraction(archive, url, options=Options(workers=workers))
        assert summary.videos == len(undisturbed)
        assert_equal_stores(FeatureStore.open(url), undisturbed)
        _, again = run_extraction(archive, url, options=Options())
        assert (again.videos, again.already_done) == (0, len(undisturbed))
        assert not verify_store(store).damaged


def test_a_storage_that_goes_away_leaves_what_was_done(
    archive: Path, undisturbed: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("extract.store.objects._bucket.PATIENCE_S", 0.5)
    with s3_server() as endpoint, faulty(endpoint) as proxy:
        use_s3(monkeypatch, proxy.endpoint)
        url = f"s3://{new_bucket(endpoint)}/store"

        def fail_from_now(_progress: object) -> None:
            proxy.rate = 1.0

        with pytest.raises(MachineError, match="run the same command again"):
            run_extraction(archive, url, options=Options(), on_progress=fail_from_now)
        proxy.rate = 0.0
        run_extraction(archive, url, options=Options())
        assert_equal_stores(FeatureStore.open(url), undisturbed)
