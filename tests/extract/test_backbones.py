"""The contract that every backbone keeps. B clips, T frames, H W pixels, D features."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from extract.backbones import BACKBONES, EMBEDDED, Backbone, load_backbone
from extract.errors import InputError, UsageError

WEIGHTS = files("extract.backbones") / "weights"


@pytest.fixture(scope="module", params=BACKBONES)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return load_backbone(request.param, "random:0")


@pytest.fixture
def saved(backbone: Backbone, tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    save_file(backbone.network.state_dict(), path)
    return path


def some_clips(n: int = 3, *, seed: int = 1) -> Tensor:
    """(B, 3, 8, 32, 32), about normal."""
    return torch.randn(n, 3, 8, 32, 32, generator=torch.Generator().manual_seed(seed))


def test_shapes(backbone: Backbone) -> None:
    features, logits = backbone.features(some_clips()), backbone.logits(some_clips())
    assert features.shape == (3, backbone.spec.feature_width)
    assert features.dtype == torch.float32
    assert logits.ndim == 2
    assert len(logits) == 3
    assert features.isfinite().all()
    assert not torch.equal(features[0], features[1])


def test_other_lengths_and_sizes_give_as_many_features(backbone: Backbone) -> None:
    for shape in ((1, 3, 16, 48, 32), (2, 3, 1, 33, 65)):
        assert backbone.features(torch.zeros(shape)).shape == (shape[0], backbone.spec.feature_width)


def test_frozen_in_eval_without_gradients(backbone: Backbone) -> None:
    assert not any(module.training for module in backbone.network.modules())
    assert not any(parameter.requires_grad for parameter in backbone.network.parameters())
    clips = some_clips().requires_grad_(True)
    before = {key: value.clone() for key, value in backbone.network.state_dict().items()}
    for result in (backbone.features(clips), backbone.logits(clips)):
        assert result.is_inference()
        assert not result.requires_grad
    for key, value in backbone.network.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_a_clip_does_not_feel_its_batch(backbone: Backbone) -> None:
    together = backbone.features(some_clips(4))
    alone = torch.cat([backbone.features(clip[None]) for clip in some_clips(4)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)


def test_features_are_the_input_of_the_last_linear_layer(backbone: Backbone) -> None:
    with torch.inference_mode():
        wanted = backbone.network.classifier(backbone.features(some_clips()))
    torch.testing.assert_close(backbone.logits(some_clips()), wanted)


def test_random_weights_are_the_seeds(backbone: Backbone) -> None:
    torch.manual_seed(7)
    state = torch.random.get_rng_state()
    again, other = load_backbone(backbone.name, "random:0"), load_backbone(backbone.name, "random:1")
    assert torch.equal(torch.random.get_rng_state(), state), "the caller's random numbers are left alone"
    assert again.weights_sha256 == backbone.weights_sha256 != other.weights_sha256
    assert torch.equal(again.features(some_clips()), backbone.features(some_clips()))
    assert not torch.allclose(other.features(some_clips()), backbone.features(some_clips()))


def test_saved_weights_come_back_equal(backbone: Backbone, saved: Path) -> None:
    for weights in (saved, str(saved)):
        loaded = load_backbone(backbone.name, weights)
        assert loaded.name == backbone.name
        assert loaded.weights_sha256 == backbone.weights_sha256
        assert torch.equal(loaded.features(some_clips()), backbone.features(some_clips()))
        assert torch.equal(loaded.logits(some_clips()), backbone.logits(some_clips()))


def test_digest_tells_one_number(backbone: Backbone, saved: Path) -> None:
    state = load_file(saved)
    key = next(key for key in sorted(state) if key.endswith("running_mean"))
    state[key][0] += 1e-6
    save_file(state, saved)
    assert load_backbone(backbone.name, saved).weights_sha256 != backbone.weights_sha256


@pytest.mark.parametrize(
    ("shape", "told"),
    [((3, 8, 32, 32), r"\(3, 8, 32, 32\)"), ((1, 8, 3, 32, 32), r"\(1, 8, 3, 32, 32\)"), ((1, 3, 32, 32), "1, 3, 32")],
)
def test_wrong_shapes_are_refused(backbone: Backbone, shape: tuple[int, ...], told: str) -> None:
    for use in (backbone.features, backbone.logits):
        with pytest.raises(UsageError, match=f"clips have shape .*{told}.*; expected \\(B, 3, T, H, W\\)"):
            use(torch.zeros(shape))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("pretrained", "--weights pretrained: .* is not downloaded; expected embedded"),
        ("https://example.org/w.safetensors", "is not downloaded"),
        ("random:x", "random:x: the seed is not a whole number below 2"),
        ("random:", "the seed is not a whole number"),
        ("random:-1", "the seed is not a whole number"),
    ],
)
def test_weights_it_does_not_have_are_refused(backbone: Backbone, weights: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_backbone(backbone.name, weights)


def test_unknown_name_is_refused() -> None:
    with pytest.raises(UsageError, match=f"no backbone called 'tinny'; expected one of .*{EMBEDDED}"):
        load_backbone("tinny", "random:0")


def test_wrong_files_are_refused(backbone: Backbone, saved: Path, tmp_path: Path) -> None:
    def refused(weights: Path, message: str) -> None:
        with pytest.raises(InputError, match=message):
            load_backbone(backbone.name, weights)

    refused(tmp_path / "nowhere.safetensors", r"no weights file .*nowhere.safetensors; expected a .safetensors file")
    refused(tmp_path, "no weights file")
    text = tmp_path / "text.safetensors"
    text.write_text("not weights at all")
    refused(text, r"text.safetensors is no safetensors file \(.+\); expected weights of")
    text.write_bytes(saved.read_bytes()[:-100])
    refused(text, "is no safetensors file")

    state = load_file(saved)
    first = next(iter(sorted(state)))

    def refused_state(changed: dict[str, Any], message: str) -> None:
        save_file(changed, text)
        refused(text, message)

    refused_state({key: state[key] for key in state if key != first}, f"missing \\['{first}'\\], unexpected nothing")
    refused_state({**state, "head.extra": torch.zeros(2)}, r"missing nothing, unexpected \['head.extra'\]")
    refused_state({**state, first: torch.zeros(5, 5)}, rf"{first} has shape \(5, 5\), {backbone.name} has \(")


def test_small_enough_to_travel(backbone: Backbone) -> None:
    if backbone.spec.embedded:
        assert sum(parameter.numel() for parameter in backbone.network.parameters()) <= 3_000_000


def test_clip_defaults_are_possible(backbone: Backbone) -> None:
    clips = backbone.spec.clips
    assert clips.crop_px <= clips.short_side_px
    assert 1 <= clips.hop <= clips.clip_frames * clips.frame_stride
    assert clips.fps > 0
    assert min(clips.std) > 0
    assert backbone.spec.licence
    assert backbone.spec.source


@pytest.mark.parametrize("name", [name for name, spec in BACKBONES.items() if spec.embedded])
def test_embedded_weights(name: str) -> None:
    file = WEIGHTS / f"{name}.safetensors"
    if not file.is_file():
        with pytest.raises(InputError, match="no weights file"):
            load_backbone(name)
        pytest.skip(f"{name} has not been trained yet")
    assert isinstance(file, Path)
    assert file.stat().st_size < 10_000_000
    backbone = load_backbone(name)
    assert backbone.features(some_clips()).isfinite().all()
    assert backbone.weights_sha256 == load_backbone(name, file).weights_sha256
