"""Pretraining: targets and augmentation tell the truth, the loop learns, the shipped weights hold their card's word."""

from pathlib import Path

import numpy as np
import torch

from extract.backbones import BACKBONES, EMBEDDED, load_backbone
from pipelines import pretrain
from pipelines.pretrain import CLASSES, FRAMES, SIDE_PX, Settings, augment, clip_events, clip_target, to_input
from pipelines.synthetic import VERBS, synthesize
from pipelines.synthetic.encode import CLIP
from pipelines.synthetic.verbs import Event
from pipelines.synthetic.worlds import MAX_SEED

CARD = Path(pretrain.__file__).parents[1] / "extract/backbones/weights/tiny_r2plus1d.md"


def test_seeds_are_apart_from_those_of_worlds() -> None:
    assert pretrain.FIRST_SEED >= MAX_SEED


def test_target_shares_the_clip_among_its_events() -> None:
    both = clip_target([Event("grow", 0, 2), Event("orbit", 0, 2)])
    assert both[CLASSES.index("grow")] == both[CLASSES.index("orbit")] == 0.5
    assert clip_target([])[CLASSES.index("idle")] == 1
    counts = [len(clip_events(seed, single=False)[1]) for seed in range(300)]
    assert {0, 1, 2} == set(counts)
    assert {len(clip_events(seed, single=True)[1]) for seed in range(50)} == {1}


def test_augmented_pixels_carry_the_verb_that_they_show() -> None:
    """A bright bar that moves right: after mirroring or reversing it moves left, and both together right again."""
    clip = np.zeros((FRAMES, 8, 32, 3), np.uint8)
    for t in range(FRAMES):
        clip[t, :, t : t + 4] = 255
    target = clip_target([Event("slide_right", 0, 2)])
    seen = set()
    for seed in range(40):
        changed, label = augment(clip, target, np.random.default_rng(seed))
        left = [int(np.flatnonzero(frame[0, :, 0])[0]) for frame in changed]
        expected = "slide_right" if left[-1] > left[0] else "slide_left"
        assert CLASSES[int(label.argmax())] == expected
        seen.add((expected, left[0]))
    assert len(seen) == 4, "unchanged, mirrored, reversed, and both"


def test_single_frame_input_is_the_middle_frame() -> None:
    clips = np.random.default_rng(0).integers(0, 255, (2, FRAMES, 8, 8, 3), dtype=np.uint8)
    one = to_input(clips, frames="middle")
    assert one.shape == (2, 3, 1, 8, 8)
    torch.testing.assert_close(one[:, :, 0], to_input(clips, frames="all")[:, :, FRAMES // 2])


def test_same_normalisation_as_in_extraction() -> None:
    clips = BACKBONES[EMBEDDED].clips
    assert clips.mean == (pretrain.MEAN,) * 3
    assert clips.std == (pretrain.STD,) * 3
    assert float(CLIP.rate) == clips.fps
    assert BACKBONES[EMBEDDED].build().classifier.out_features == len(CLASSES)


def test_loop_learns_and_repeats() -> None:
    torch.set_num_threads(1)  # earlier tests may have asked for more; here that only makes it slower
    rng = np.random.default_rng(0)
    pool = rng.integers(0, 60, (16, FRAMES, SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    pool[8:, ..., 2] += 180
    targets = np.stack([clip_target([Event("shake" if i < 8 else "orbit", 0, 2)]) for i in range(16)])
    settings = Settings(clips=16, epochs=20, batch=8, warmup_steps=2)
    first = pretrain.fit(pool, targets, settings, frames="middle")
    again = pretrain.fit(pool, targets, settings, frames="middle")
    with torch.inference_mode():
        guesses = first(to_input(pool, frames="middle")).argmax(1)
    assert [CLASSES[i] for i in guesses] == ["shake"] * 8 + ["orbit"] * 8
    for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


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
    assert "python -m pipelines.pretrain" in text
    assert all(f"| {verb} |" in text for verb in VERBS)
