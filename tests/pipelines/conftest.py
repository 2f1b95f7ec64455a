"""A small archive of real video files, made once, and one undisturbed extraction of it."""

from pathlib import Path

import numpy as np
import pytest

from extract.store import FeatureStore
from pipelines.extraction import Options, run_extraction
from pipelines.synthetic.encode import ENCODINGS, write_video
from pipelines.synthetic.scene import compose
from pipelines.synthetic.verbs import Event

SECONDS = (2.0, 3.1, 0.4, 5.0, 2.5, 4.2)


def make_video(path: Path, seconds: float, seed: int, encoding: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    scene = compose(rng, events=[Event("orbit", 0.0, max(1.0, seconds))], duration_s=seconds, distractors=1)
    write_video(path, scene.frame, ENCODINGS[encoding], ENCODINGS[encoding].times(seconds, rng))
    return path


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six short videos of every encoding, in two folders, two of them of one name."""
    root = tmp_path_factory.mktemp("archive")
    for i, seconds in enumerate(SECONDS):
        folder = root / ("a" if i % 2 else "b")
        folder.mkdir(exist_ok=True)
        encoding = i % len(ENCODINGS)
        name = "same.mp4" if encoding in (0, 2, 4) and i in (0, 2) else f"v{i}{ENCODINGS[encoding].suffix}"
        make_video(folder / name if not (folder / name).exists() else folder / f"v{i}.mp4", seconds, i, encoding)
    make_video(root / "a" / "same.mp4", 2.0, 77)
    return root


@pytest.fixture(scope="session")
def undisturbed(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    out = tmp_path_factory.mktemp("undisturbed") / "f.zarr"
    store, _ = run_extraction(archive, out, options=Options())
    return store


def assert_equal_stores(ours: FeatureStore, theirs: FeatureStore) -> None:
    """Equal catalogue, features and times, to the last bit."""
    assert list(ours) == list(theirs)
    assert dict(ours.failures) == dict(theirs.failures)
    assert ours.recipe_digest == theirs.recipe_digest
    for video_id in ours:
        a, b = ours.catalogue[video_id], theirs.catalogue[video_id]
        assert (a.rows, a.crc32, a.fingerprint, a.status) == (b.rows, b.crc32, b.fingerprint, b.status)
        assert a.duration_s == b.duration_s
        for name in ("features", "start_s", "stop_s", "real_frames", "damaged"):
            np.testing.assert_array_equal(getattr(ours[video_id], name), getattr(theirs[video_id], name))
