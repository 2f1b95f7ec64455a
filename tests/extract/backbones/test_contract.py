"""The contract that every backbone keeps. B clips, T frames, H W pixels, D features, N boxes."""

from collections.abc import Iterable
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from extract.backbones import BACKBONES, EMBEDDED, Backbone, backbone_spec, checkpoint, load_backbone
from extract.backbones.network import empty
from extract.backbones.torchvision_video import MViT
from extract.errors import InputError, MachineError, UsageError

WEIGHTS = files("extract.backbones") / "weights"
NAMES = [*(name for name in BACKBONES if ":" not in name), "frames:resnet18", "frames:convnext_tiny"]
_FIRST_LAYERS = (
    "stem",
    "slow.stem",
    "body.stem",
    "body.conv1",
    "body.conv3d_1a_7x7",
    "body.0",
    "body.conv_proj",
    "body.patch_embed.proj",
    "body.avgpool",
)
EXACT = {"mvit_v2_s": (16, 224), "c3d_sports1m": (16, 112), "c3d_ucf101": (16, 112)}


# Networks that another name has, too, or nearly; MViT's own numbers are in test_against_torchvision.
SIMILAR = {
    "c3d_ucf101",
    "i3d_inception_flow",
    "mc3_18",
    "mvit_v2_s",
    "slow_r50_4x16",
    "slowfast_r101_16x8_50_50",
    "slowfast_r101_8x8",
    "slowfast_r50_4x16",
    "x3d_m",
    "x3d_xs",
}


def once_each(names: Iterable[str]) -> list[Any]:
    """The names, of which similar networks are for those who want more."""
    return [pytest.param(name, marks=pytest.mark.more) if name in SIMILAR else name for name in names]


@lru_cache(maxsize=1)
def random_backbone(name: str) -> Backbone:
    return load_backbone(name, "random:0")


@pytest.fixture(scope="module", params=NAMES)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return random_backbone(request.param)


@pytest.fixture(scope="module", params=once_each(NAMES))
def network_of_its_own(request: pytest.FixtureRequest) -> Backbone:
    return random_backbone(request.param)


def size_of(backbone: Backbone) -> tuple[int, int]:
    """(T, H = W) that the network takes, and that is quick."""
    return EXACT.get(backbone.name, (8 if "slowfast" in backbone.name or backbone.spec.least[0] > 4 else 4, 64))


def some_clips(backbone: Backbone, n: int = 2, *, seed: int = 1) -> Tensor:
    """(B, C, T, H, W), about normal."""
    frames, side = size_of(backbone)
    shape = (n, backbone.spec.channels, frames, side, side)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def boxes_for(backbone: Backbone, n: int = 2) -> Tensor | None:
    """One box a clip, as the networks that describe boxes need it."""
    if not backbone.spec.detection:
        return None
    return torch.tensor([[float(k), 4.0, 8.0, 40.0, 60.0] for k in range(n)])


def test_shapes_frozen_and_independent_of_the_batch(network_of_its_own: Backbone) -> None:
    backbone = network_of_its_own
    clips, boxes = some_clips(backbone), boxes_for(backbone)
    assert not any(module.training for module in backbone.network.modules())
    assert not any(parameter.requires_grad for parameter in backbone.network.parameters())
    before = {key: value.clone() for key, value in backbone.network.state_dict().items()}
    features, logits = backbone.features(clips, boxes), backbone.logits(clips.requires_grad_(True), boxes)
    assert features.shape == (2, backbone.spec.feature_width)
    assert features.dtype == torch.float32
    assert features.isfinite().all()
    assert not torch.equal(features[0], features[1])
    assert logits.ndim == 2
    assert logits.is_inference()
    assert not logits.requires_grad
    for key, value in backbone.network.state_dict().items():
        assert torch.equal(value, before[key]), key
    with torch.inference_mode():
        wanted = backbone.network.classifier(features)
    torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-5)
    one = None if boxes is None else torch.tensor([[0.0, *boxes[1, 1:].tolist()]])
    alone = backbone.features(clips[1:], one)
    torch.testing.assert_close(features[1:], alone, rtol=1e-4, atol=1e-4 * float(features.abs().max()))


def test_maps_pool_to_features(network_of_its_own: Backbone) -> None:
    backbone = network_of_its_own
    clips = some_clips(backbone, 1)
    maps = backbone.maps(clips)
    assert maps.ndim == 5
    boxes = torch.tensor([[0.0, 0.0, 0.0, 64.0, 64.0]])
    if backbone.spec.detection:
        scale = clips.shape[3] / maps.shape[3]
        assert scale == backbone.spec.stride_px
        assert backbone.features(clips, boxes).shape == (1, maps.shape[1])
        return
    assert backbone.features(clips, boxes).shape == (1, maps.shape[1]), "boxes are read from any network's maps"
    if not isinstance(backbone.network, MViT) and "convnext" not in backbone.name:  # a class token; a norm behind
        torch.testing.assert_close(backbone.features(clips), backbone.network.pool(maps), rtol=1e-4, atol=1e-4)


def test_described_width_is_found_without_computing(network_of_its_own: Backbone) -> None:
    backbone = network_of_its_own
    clips, (frames, side) = backbone.spec.clips, size_of(backbone)
    assert backbone.width(clips.clip_frames, clips.crop_px, clips.crop_px) == backbone.spec.feature_width
    assert backbone.width(frames, side, side) == backbone.spec.feature_width


def test_parameters_are_those_described(backbone: Backbone) -> None:
    assert backbone.parameters == backbone.spec.parameters
    assert backbone.spec.gmac is not None


def test_multiply_adds_are_those_described(network_of_its_own: Backbone) -> None:
    backbone, spec = network_of_its_own, network_of_its_own.spec
    clips = spec.clips
    counted = backbone.multiply_adds(clips.clip_frames, clips.crop_px, clips.crop_px) / 1e9
    assert counted == pytest.approx(spec.gmac, rel=1e-3)


def test_features_of_a_layer(network_of_its_own: Backbone) -> None:
    backbone = network_of_its_own
    clips = some_clips(backbone, 1)
    layers = backbone.layers()
    chosen = next(name for name in _FIRST_LAYERS if name in layers)
    rows = backbone.features(clips, layer=chosen)
    assert rows.ndim == 2
    assert len(rows) == 1
    assert rows.isfinite().all()
    with pytest.raises(UsageError, match=r"no layer 'body\.nowhere'; there are "):
        backbone.features(clips, layer="body.nowhere")


def test_wrong_shapes_are_refused(backbone: Backbone) -> None:
    channels = backbone.spec.channels
    for shape in ((channels, 8, 32, 32), (1, channels + 2, 8, 32, 32), (1, channels, 32, 32)):
        expected = rf"clips have shape \({shape[0]}, .*; expected \(B, {channels}, T, H, W\)"
        for use in (backbone.features, backbone.logits, backbone.maps):
            with pytest.raises(UsageError, match=expected):
                use(torch.zeros(shape))
    with pytest.raises(UsageError, match=r"clips are torch.uint8; expected normalised float32"):
        backbone.features(torch.zeros((1, channels, 8, 32, 32), dtype=torch.uint8))


def test_saved_weights_come_back_equal(backbone: Backbone, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(backbone.network.state_dict(), path)
    loaded = load_backbone(backbone.name, path)
    assert (loaded.name, loaded.weights_sha256) == (backbone.name, backbone.weights_sha256)
    wanted, got = backbone.network.state_dict(), loaded.network.state_dict()
    assert wanted.keys() == got.keys()
    assert all(torch.equal(got[key], wanted[key]) for key in wanted if not key.endswith("num_batches_tracked"))
    assert not any(tensor.is_meta for tensor in [*loaded.network.parameters(), *loaded.network.buffers()])


def test_description_is_possible(backbone: Backbone) -> None:
    spec = backbone.spec
    assert spec.licence
    assert spec.source
    assert spec.published or spec.embedded
    assert spec.embedded or spec.url.startswith("http")
    for clips in (spec.clips, *spec.presets.values()):
        assert clips.crop_px <= clips.short_side_px
        assert 1 <= clips.hop <= clips.clip_frames * clips.frame_stride
        assert clips.fps == "native" or clips.fps > 0
        assert min(clips.std) > 0


# Boxes


def test_boxes_that_cannot_be_are_refused() -> None:
    backbone = random_backbone("slow_r50_detection")
    clips = some_clips(backbone)
    with pytest.raises(UsageError, match="slow_r50_detection describes boxes: expected boxes"):
        backbone.features(clips)
    for box, told in (
        ([2.0, 0.0, 0.0, 9.0, 9.0], r"box 1 is \[2.0, .*expected clip in 0..1"),
        ([0.5, 0.0, 0.0, 9.0, 9.0], "box 1 is"),
        ([0.0, 9.0, 0.0, 9.0, 9.0], "x1 < x2"),
        ([0.0, 0.0, 0.0, float("nan"), 9.0], "box 1 is"),
    ):
        with pytest.raises(UsageError, match=told):
            backbone.features(clips, torch.tensor([[0.0, 0.0, 0.0, 9.0, 9.0], box]))
    with pytest.raises(UsageError, match=r"boxes and layer .* at once"):
        backbone.features(clips, torch.tensor([[0.0, 0.0, 0.0, 9.0, 9.0]]), layer="body.res4")
    with pytest.raises(UsageError, match=r"boxes have shape \(2, 4\); expected \(N, 5\)"):
        backbone.features(clips, torch.zeros(2, 4))
    assert backbone.features(clips, torch.zeros(0, 5)).shape == (0, 2048)


def test_logits_of_boxes_need_a_detection_network() -> None:
    backbone = load_backbone(EMBEDDED, "random:0")
    with pytest.raises(UsageError, match="classifies whole clips"):
        backbone.logits(torch.zeros(1, 3, 4, 32, 32), torch.tensor([[0.0, 0.0, 0.0, 9.0, 9.0]]))


# Sizes


@pytest.mark.parametrize(
    ("name", "shape", "told"),
    [
        ("slowfast_r50_8x8", (6, 64, 64), "clips have 6 frames; SlowFast expected a multiple of alpha = 4"),
        ("c3d_sports1m", (16, 128, 128), "expected clips of 16 x 112 x 112"),
        ("c3d_sports1m", (4, 112, 112), r"c3d_sports1m expected at least \(8, 16, 16\)"),
        ("mvit_v2_s", (8, 224, 224), "MViT's positions expect 16 x 224 x 224"),
        ("i3d_r50", (1, 64, 64), r"expected at least \(2, 1, 1\)"),
        ("i3d_nln_r50", (8, 16, 16), r"expected at least \(2, 17, 17\)"),
    ],
)
def test_sizes_that_a_network_cannot_take(name: str, shape: tuple[int, int, int], told: str) -> None:
    backbone = random_backbone(name)
    with pytest.raises(UsageError, match=told):
        backbone.features(torch.zeros(1, 3, *shape))
    with pytest.raises(UsageError, match=told):
        backbone.width(*shape)


@pytest.mark.parametrize(
    ("name", "shape", "told"),
    [
        ("frames:vit_b_16", (1, 192, 192), "cannot take clips of 1 x 192 x 192: .*; its own are 1 x 224 x 224"),
        ("frames:alexnet", (1, 32, 32), "frames:alexnet cannot take clips of 1 x 32 x 32"),
    ],
)
def test_sizes_that_layers_refuse_in_their_own_words(name: str, shape: tuple[int, int, int], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        random_backbone(name).width(*shape)


@pytest.mark.parametrize("name", ["slowfast_r101_ava_nln_32x2", "i3d_nln_r50", "s3d", "c3d_sports1m"])
def test_the_least_clip_is_enough(name: str) -> None:
    backbone = random_backbone(name)
    assert backbone.maps(torch.zeros(1, 3, *backbone.spec.least)).ndim == 5


@pytest.mark.parametrize("name", ["slow_r50_8x8", "i3d_inception_rgb", "x3d_s", "s3d"])
def test_windows_above_the_training_crop_and_means_below(name: str) -> None:
    """At the window's size one position; above it, more, which weigh the middle; below it, the mean of all."""
    backbone = random_backbone(name)
    window = backbone.network.window
    assert window is not None
    maps = torch.rand(1, backbone.spec.feature_width if name != "x3d_s" else 432, window[0], window[1] + 1, window[2])
    small, exact = maps[..., :2, :2], maps[..., : window[1], :]
    pool = backbone.network.pool
    with torch.inference_mode():
        both = torch.stack([pool(maps[..., k : k + window[1], :]) for k in range(2)]).mean(0)
        torch.testing.assert_close(pool(maps), both)
        if name != "x3d_s":
            torch.testing.assert_close(pool(small), small.mean((2, 3, 4)))
            torch.testing.assert_close(pool(exact), exact.mean((2, 3, 4)))


# Weights


def test_random_weights_are_the_seeds() -> None:
    torch.manual_seed(7)
    state = torch.random.get_rng_state()
    first, again, other = (load_backbone(EMBEDDED, f"random:{seed}") for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state), "the caller's random numbers are left alone"
    assert again.weights_sha256 == first.weights_sha256 != other.weights_sha256
    clips = some_clips(first)
    assert torch.equal(again.features(clips), first.features(clips))
    assert not torch.allclose(other.features(clips), first.features(clips))


def test_digest_tells_one_number_and_not_what_no_feature_depends_on(tmp_path: Path) -> None:
    backbone, path = load_backbone(EMBEDDED, "random:0"), tmp_path / "w.safetensors"
    state = dict(backbone.network.state_dict())
    counter = next(key for key in sorted(state) if key.endswith("num_batches_tracked"))
    save_file({**state, counter: torch.tensor(9)}, path)
    assert load_backbone(EMBEDDED, path).weights_sha256 == backbone.weights_sha256
    key = next(key for key in sorted(state) if key.endswith("running_mean"))
    save_file({**state, key: state[key] + 1e-6}, path)
    assert load_backbone(EMBEDDED, path).weights_sha256 != backbone.weights_sha256


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        (EMBEDDED, "pretrained", "--weights pretrained: tiny_r2plus1d has no official checkpoint"),
        ("i3d_r50", "embedded", "--weights embedded: i3d_r50 does not travel in the package"),
        (EMBEDDED, "random:x", "random:x: the seed is not a whole number below 2"),
        (EMBEDDED, "random:", "the seed is not a whole number"),
        (EMBEDDED, "random:-1", "the seed is not a whole number"),
        (EMBEDDED, "s3://bucket/w.pth", "s3://bucket/w.pth"),
    ],
)
def test_weights_it_does_not_have_are_refused(name: str, weights: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_backbone(name, weights)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("slowfast_r50", "did you mean 'slowfast_r50_"),
        ("zzz", "expected one of .*tiny_r2plus1d, .*frames:NAME"),
        ("frames:resnet5", "did you mean frames:resnet"),
        ("frames:zzzz", "torchvision has no image network 'zzzz'; there are "),
        ("frames:squeezenet1_0", "SqueezeNet does not end in a linear layer"),
    ],
)
def test_unknown_names_are_refused(name: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        load_backbone(name, "random:0")


def test_a_file_of_another_network_is_refused_with_its_likely_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(weights: Path, message: str, name: str = EMBEDDED) -> None:
        with pytest.raises(InputError, match=message):
            load_backbone(name, weights)

    refused(tmp_path / "nowhere.safetensors", "nowhere.safetensors")
    path = tmp_path / "w.safetensors"
    state = random_backbone("i3d_r50").network.state_dict()
    save_file(state, path)
    refused(path, "another network than c2d_r50: of another shape .*; it looks like weights of i3d_r50$", "c2d_r50")
    save_file(random_backbone("slow_r50_8x8").network.state_dict(), path)
    refused(path, "looks like weights of slow_r50_4x16 or slow_r50_8x8 or slow_r50_detection$", "c2d_r50")
    few = {name: spec for name, spec in BACKBONES.items() if name in ("c2d_r50", "i3d_r50", "slowfast_r50_8x8")}
    monkeypatch.setattr(checkpoint, "BACKBONES", few)  # trying all takes seconds
    save_file(state, path)
    refused(
        path, "than slowfast_r50_8x8: missing slow.stem.* and \\d+ more; unexpected body.*i3d_r50", "slowfast_r50_8x8"
    )
    wide = {**state, "classifier.weight": torch.zeros(400, 100)}
    save_file(wide, path)
    refused(path, r"of another shape classifier.weight of \(400, 100\) for \(400, 2048\)", "i3d_r50")
    first = next(iter(state))
    save_file({key: value for key, value in state.items() if key != first}, path)
    refused(path, f"than i3d_r50: missing {first}$", "i3d_r50")
    save_file({"a": torch.zeros(2), "b": torch.zeros(2)}, path)
    refused(path, r"holds tensors of no known names \(a, b\); expected weights of tiny_r2plus1d in one of the formats")


def test_a_file_with_other_classes_or_none(tmp_path: Path) -> None:
    backbone, path = random_backbone("i3d_r50"), tmp_path / "w.safetensors"
    state: dict[str, Any] = dict(backbone.network.state_dict())
    clips = some_clips(backbone)
    save_file({**state, "classifier.weight": torch.ones(20, 2048), "classifier.bias": torch.zeros(20)}, path)
    fine_tuned = load_backbone("i3d_r50", path)
    assert fine_tuned.logits(clips).shape == (2, 20)
    torch.testing.assert_close(fine_tuned.features(clips), backbone.features(clips))
    save_file({key: value for key, value in state.items() if not key.startswith("classifier.")}, path)
    headless = load_backbone("i3d_r50", path)
    torch.testing.assert_close(headless.features(clips), backbone.features(clips))
    with pytest.raises(UsageError, match="these weights of i3d_r50 have no last layer"):
        headless.logits(clips)


def test_translated_files_are_kept_and_a_broken_copy_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNTRIMMED_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "w.pth"
    names = {"classifier.weight": "fc.weight", "classifier.bias": "fc.bias"}
    state = random_backbone("r3d_18").network.state_dict()
    official = {names.get(key, key.removeprefix("body.")): value for key, value in state.items()}
    torch.save({"model_state": official}, source)
    first = load_backbone("r3d_18", source)
    (kept,) = (tmp_path / "cache" / "weights").glob("converted-*.safetensors")
    assert load_file(kept).keys() == {k for k in first.network.state_dict() if not k.endswith("num_batches_tracked")}
    kept.write_bytes(kept.read_bytes()[:1000])
    assert load_backbone("r3d_18", source).weights_sha256 == first.weights_sha256
    (tmp_path / "readonly").write_text("a file, where the cache folder should be")
    monkeypatch.setenv("UNTRIMMED_CACHE", str(tmp_path / "readonly"))
    assert load_backbone("r3d_18", source).weights_sha256 == first.weights_sha256


def test_what_is_read_in_parts_or_by_no_format_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNTRIMMED_CACHE", str(tmp_path / "cache"))
    state = random_backbone("r3d_18").network.state_dict()
    torch.save(state, tmp_path / "ours.pth")  # no official names: no translation to keep
    load_backbone("r3d_18", tmp_path / "ours.pth")
    torch.save({k.removeprefix("body."): v for k, v in state.items()}, tmp_path / "model.meta")
    (tmp_path / "model.index").write_text("beside TensorFlow's index, other files may hold the values")
    assert checkpoint._kept(tmp_path / "model.meta") is None
    assert not (tmp_path / "cache").exists()


def test_pretrained_is_downloaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "w.pth"
    torch.save(random_backbone("r3d_18").network.state_dict(), source)
    asked: list[tuple[str, str]] = []

    def fetch(url: str, *, sha256_prefix: str = "", **_: object) -> Path:
        asked.append((url, sha256_prefix))
        return source

    monkeypatch.setattr("extract.backbones.loading.fetch", fetch)
    assert load_backbone("r3d_18").weights_sha256 == random_backbone("r3d_18").weights_sha256
    assert asked == [(backbone_spec("r3d_18").url, "b3b3357e")]


def test_offline_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr("extract.download._PAUSES_S", ())
    with pytest.raises(MachineError, match=r"(?s)c3d.pickle.*--weights FILE"):
        load_backbone("c3d_sports1m", "pretrained")


@pytest.mark.parametrize("name", [name for name, spec in BACKBONES.items() if spec.embedded])
def test_embedded_weights(name: str) -> None:
    file = WEIGHTS / f"{name}.safetensors"
    assert isinstance(file, Path)
    assert file.stat().st_size < 10_000_000
    backbone = load_backbone(name)
    assert backbone.parameters <= 3_000_000
    assert backbone.features(some_clips(backbone)).isfinite().all()
    assert backbone.weights_sha256 == load_backbone(name, file).weights_sha256


def test_receptive_fields() -> None:
    """R50: stem 7, pool 3, then one 3 x 3 in each of 3, 4, 6, 3 blocks; worked by hand for each stage's stride."""
    field = random_backbone("i3d_r50").receptive_field()
    space = 1 + 6 * 1 + 2 * 2 + 3 * 2 * 4 + (1 * 4 + 3 * 8) * 2 + (1 * 8 + 5 * 16) * 2 + (1 * 16 + 2 * 32) * 2
    time = 1 + 4 + 3 * 2 + 1 + (2 + 3 + 1) * 2 * 2
    assert field.size == (time, space, space)
    assert field.stride == (2, 32, 32)
    c3d = random_backbone("c3d_sports1m").receptive_field()
    assert c3d.stride == (8, 16, 16)
    assert c3d.size[1] == 1 + 2 + 1 + 2 * 2 + 2 + 2 * 2 * 4 + 4 + 2 * 2 * 8 + 8 + 2 * 2 * 16
    assert random_backbone("frames:resnet18").receptive_field().size[0] == 1
    assert random_backbone("i3d_nln_r50").receptive_field().size == (float("inf"),) * 3


# Multiply-adds at the sizes that papers and model zoos give: the training crop.
PUBLISHED_GMAC = {
    "c2d_r50": (8, 224, 19.49),
    "i3d_r50": (8, 224, 28.41),
    "i3d_nln_r50": (8, 224, 36.54),
    "slow_r50_8x8": (8, 224, 41.74),
    "slow_r50_4x16": (4, 224, 20.87),
    "slowfast_r50_8x8": (32, 224, 50.31),
    "slowfast_r50_4x16": (32, 224, 27.64),
    "slowfast_r101_8x8": (32, 224, 96.40),
    "slowfast_r101_16x8_50_50": (64, 224, 163.10),
    "r2plus1d_r50": (16, 224, 57.53),
    "x3d_xs": (4, 160, 0.605),
    "x3d_s": (13, 160, 1.963),
    "x3d_m": (16, 224, 4.732),
    "i3d_inception_rgb": (16, 224, 27.79),
    "c3d_sports1m": (16, 112, 38.549),
    "r3d_18": (16, 112, 40.697),
    "mc3_18": (16, 112, 43.343),
    "r2plus1d_18": (16, 112, 40.519),
    "s3d": (16, 224, 17.979),
    "mvit_v2_s": (16, 224, 64.224),
    "swin3d_t": (16, 224, 43.882),
}


@pytest.mark.parametrize("name", once_each(PUBLISHED_GMAC))
def test_the_published_figures(name: str) -> None:
    frames, side, gmac = PUBLISHED_GMAC[name]
    spec = backbone_spec(name)
    with torch.device("meta"):
        backbone = Backbone(name, spec, spec.build())
    assert backbone.multiply_adds(frames, side, side) / 1e9 == pytest.approx(gmac, abs=0.006), name


def test_every_module_of_the_networks_is_used() -> None:
    """A layer that a forward pass leaves out would load and never matter."""
    for name in ("slowfast_r50_8x8", "i3d_inception_rgb", "x3d_s", "s3d", "r3d_18"):
        backbone = random_backbone(name)
        used: set[str] = set()
        hooks = [
            module.register_forward_hook(lambda _m, _i, _o, name=name, used=used: used.add(name))
            for name, module in backbone.network.named_modules()
            if any(True for _ in module.parameters(recurse=False)) and not isinstance(module, nn.Identity)
        ]
        backbone.logits(some_clips(backbone, 1))
        assert len(used) == len(hooks), name
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize(
    ("name", "layer", "told"),
    [
        ("frames:swin_t", "body.features.1", "channels last"),
        ("frames:vit_b_16", "body.encoder.layers.encoder_layer_0", "channels last"),
        ("swin3d_t", "body.features.0", "channels last"),
        ("rcn-gru:small:4x32", "recurrent.0.state", "once for each frame, on the state before it; take 'recurrent.0'"),
    ],
)
def test_layers_that_have_no_mean_of_maps_are_refused(name: str, layer: str, told: str) -> None:
    spec = backbone_spec(name)
    backbone, clips = Backbone(name, spec, empty(spec.build)), spec.clips
    with pytest.raises(UsageError, match=told):
        backbone.width(clips.clip_frames, clips.crop_px, clips.crop_px, layer=layer)


def test_layers_of_convolutions_are_not_refused() -> None:
    for name, layer, width in (("late:swin_t:4x224", "body.features.0.0", 96), ("mvit_v2_s", "body.conv_proj", 96)):
        spec = backbone_spec(name)
        clips = spec.clips
        shadow = Backbone(name, spec, empty(spec.build))
        assert shadow.width(clips.clip_frames, clips.crop_px, clips.crop_px, layer=layer) == width


@pytest.mark.parametrize("weights", ["embedded", "pretrained"])
def test_weights_that_are_not_there_name_those_that_are(weights: str) -> None:
    with pytest.raises(UsageError, match=r"; expected a file, such as of `untrimmed pretrain`, or random:0 to try it"):
        load_backbone("slow:small:8x64", weights)
