"""Videos enough for a job of some seconds, of which few differ; what one undisturbed process makes of those few."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from extract.store import FeatureStore
from pipelines.extraction import Options, run_extraction
from pipelines.synthetic.encode import ENCODINGS, write_video
from pipelines.synthetic.scene import compose
from pipelines.synthetic.verbs import Event

SECONDS = (9.0, 7.3, 10.0, 4.1)
COPIES = 5


@dataclass(frozen=True, slots=True)
class Archive:
    """``folder`` holds COPIES folders with the same videos; ``undisturbed`` is the store of one of these."""

    folder: Path
    undisturbed: FeatureStore

    def check(self, out: Path) -> None:
        """Assert that ``out`` holds every video, as the undisturbed process saw it, to the last bit."""
        store = FeatureStore.open(out)
        assert set(store) == {path.relative_to(self.folder).as_posix() for path in self.folder.glob("*/*")}
        assert not store.failures
        assert store.recipe_digest == self.undisturbed.recipe_digest
        for video_id in store:
            name = video_id.split("/")[1]
            ours, theirs = store.catalogue[video_id], self.undisturbed.catalogue[name]
            assert (ours.rows, ours.crc32, ours.fingerprint) == (theirs.rows, theirs.crc32, theirs.fingerprint)
            for column in ("features", "start_s", "stop_s", "real_frames", "damaged"):
                a, b = getattr(store[video_id], column), getattr(self.undisturbed[name], column)
                np.testing.assert_array_equal(a, b)


def make_archive(folder: Path) -> Archive:
    """Write the videos below ``folder`` and extract one copy of each in this process."""
    first = folder / "archive" / "0"
    first.mkdir(parents=True)
    for i, duration_s in enumerate(SECONDS):
        rng, encoding = np.random.default_rng(i), ENCODINGS[i % len(ENCODINGS)]
        events = [Event("orbit", 0.0, duration_s)]
        scene = compose(rng, events=events, duration_s=duration_s, distractors=1)
        write_video(first / f"v{i}{encoding.suffix}", scene.frame, encoding, encoding.times(duration_s, rng))
    for copy in range(1, COPIES):
        shutil.copytree(first, first.with_name(str(copy)))
    undisturbed, _ = run_extraction(first, folder / "undisturbed.zarr", options=Options())
    return Archive(first.parent, undisturbed)


def videos_done(out: Path) -> int:
    """How many videos the store at ``out`` has, 0 where there is none yet."""
    store = FeatureStore.find(out)
    return 0 if store is None else len(store)
