"""The made worlds: targets and turns tell the truth, and the shipped weights hold their card's word."""

from pathlib import Path

import numpy as np
import torch

import extract
from extract.backbones import BACKBONES, EMBEDDED, load_backbone
from pipelines.pretraining.pool import Looks
from pipelines.pretraining.views import Turns, drawn
from pipelines.pretraining.worlds import CLASSES, FIRST_SEED, FRAMES, clip_events, clip_target, worlds
from pipelines.synthetic import VERBS, synthesize
from pipelines.synthetic.encode import CLIP
from pipelines.synthetic.verbs import MIRRORED, REVERSED, Event
from pipelines.synthetic.worlds import MAX_SEED

CARD = Path(extract.__file__).parent / "backbones/weights/tiny_r2plus1d.md"
TURNS = Turns(*([CLASSES.index(swap.get(name, name)) for name in CLASSES] for swap in (MIRRORED, REVERSED)))


def test_seeds_are_apart_from_those_of_worlds() -> None:
    assert FIRST_SEED >= MAX_SEED


def test_target_shares_the_clip_among_its_events() -> None:
    both = clip_target([Event("grow", 0, 2), Event("orbit", 0, 2)])
    assert both[CLASSES.index("grow")] == both[CLASSES.index("orbit")] == 0.5
    assert clip_target([])[CLASSES.index("idle")] == 1
    counts = [len(clip_events(seed, single=False)[1]) for seed in range(300)]
    assert {0, 1, 2} == set(counts)
    assert {len(clip_events(seed, single=True)[1]) for seed in range(50)} == {1}


def test_turned_pixels_carry_the_verb_that_they_show() -> None:
    """A bright bar that moves right: after mirroring or reversing it moves left, and both together right again."""
    clip = np.zeros((FRAMES, 112, 112, 3), np.uint8)
    for t in range(FRAMES):
        clip[t, :, 4 * t : 4 * t + 9] = 255
    target = clip_target([Event("slide_right", 0, 2)])
    seen = set()
    for seed in range(40):
        changed, label = drawn(clip, target, BACKBONES[EMBEDDED].clips, TURNS, np.random.default_rng(seed))
        left = [int(np.flatnonzero(frame[0, :, 0])[0]) for frame in changed]
        expected = "slide_right" if left[-1] > left[0] else "slide_left"
        assert CLASSES[int(label.argmax())] == expected
        seen.add((expected, left[0]))
    assert len(seen) == 4, "unchanged, mirrored, reversed, and both"


def test_worlds_are_filmed_once_and_at_the_rate_of_the_embedded_backbone(tmp_path: Path) -> None:
    assert float(CLIP.rate) == BACKBONES[EMBEDDED].clips.fps
    assert BACKBONES[EMBEDDED].build().classifier.out_features == len(CLASSES)
    made: list[int] = []
    looks = Looks(10.0, 48)
    training, held_out, turns = worlds(4, looks, tmp_path, workers=1, on_clip=lambda done, _total: made.append(done))
    assert made == [1, 2, 3, 4, 1]
    assert (len(training), len(held_out), turns) == (4, 1, TURNS)
    assert training.clip(3).shape == (FRAMES, 48, 48, 3)
    assert training.targets.sum(1).tolist() == [1] * 4
    again, _, _ = worlds(4, looks, tmp_path, workers=1, on_clip=lambda done, _total: made.append(done))
    np.testing.assert_array_equal(again.clip(2), training.clip(2))
    assert len(made) == 5


def test_embedded_backbone_tells_verbs_of_unseen_files(tmp_path: Path) -> None:
    """On whole files of an unseen world, through the extraction's own reading: well above its card's threshold."""
    import pipelines

    annotations = synthesize("trimmed", tmp_path / "w", videos=96, seed=20_261_122)
    store = pipelines.extract(tmp_path / "w/videos", tmp_path / "f.zarr")
    classifier = load_backbone(EMBEDDED).network.classifier
    hits = []
    for video in annotations.videos:
        features = torch.from_numpy(store[video.video_id].features[:1].astype(np.float32))
        guess = int(classifier(features)[0, : len(VERBS)].argmax())
        hits.append(VERBS[guess] == video.segments[0].label)
    assert np.mean(hits) >= 0.85


def test_card_names_every_verb_and_the_command() -> None:
    text = CARD.read_text(encoding="utf-8")
    assert "untrimmed pretrain tiny_r2plus1d worlds" in text
    assert all(f"| {verb} |" in text for verb in VERBS)
