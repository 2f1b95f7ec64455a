"""What is shown of networks is what is in them: filters, clips that maximise a class, and where a class is seen."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from footage import W, encode, regular
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

from extract.backbones import Backbone, BackboneSpec, ClipDefaults, Network, load_backbone
from extract.errors import InputError, UsageError
from extract.flow import FlowSettings
from extract.video import probe
from pipelines.cli import app
from pipelines.visualizing.clips import Samples, clip_at, grid_of, read_samples
from pipelines.visualizing.drawn import Evidence, as_pictures, filter_grid, filter_slices, line_over_time
from pipelines.visualizing.filters import filter_pictures, first_filters
from pipelines.visualizing.made import show_filters, show_maximised, show_saliency
from pipelines.visualizing.maximizing import Ascent, maximise, whole_motion_px
from pipelines.visualizing.networks import Looked
from pipelines.visualizing.saliency import Method, clip_saliency, saliency_of
from pipelines.visualizing.written import spread, write_moving

T, SIDE = 4, 16
GREY = (0.5, 0.5, 0.5)
CLIPS = ClipDefaults(T, 1, 2, 10.0, 64, SIDE, GREY, (0.25, 0.25, 0.25))


GRADIENT = Method("gradient")


class Small(Network):
    """A 3D convolution, and two classes."""

    def __init__(self, channels: int = 3, *, pool: bool = True) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv3d(channels, 6, 3, padding=1), nn.Tanh())
        self.classifier = nn.Linear(6, 2) if pool else nn.Identity()

    def maps(self, clips: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, 6, T, H, W)."""
        maps: Tensor = self.body(clips)
        return maps


class OneFrame(Small):
    """Sees nothing but the upper left quarter of its third frame."""

    def maps(self, clips: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, 6, 1, H / 2, W / 2)."""
        return super().maps(clips[:, :, 2:3])[:, :, :, : SIDE // 2 - 1, : SIDE // 2 - 1]


def backbone(network: Network | None = None, *, channels: int = 3, classes: tuple[str, ...] = ()) -> Backbone:
    torch.manual_seed(0)
    network = network or Small(channels)
    spec = BackboneSpec((lambda: network,), 6, "maps", CLIPS, "", "", channels=channels, classes=classes)
    return Backbone("small", spec, network)


def invoked(*arguments: object) -> dict[str, object]:
    done = CliRunner().invoke(app, ["visualize", *map(str, arguments), "--json"])
    assert done.exit_code == 0, (done.output, done.exception)
    result: dict[str, object] = json.loads(done.stdout)
    return result


def test_filters_are_the_weights() -> None:
    network = Small()
    weights = network.body[0].weight.detach().numpy()  # (6, 3, 3, 3, 3)
    found = first_filters(backbone(network))
    np.testing.assert_array_equal(found.weights, weights)
    assert (found.layer, found.over_time) == ("body.0", None)
    pictures = filter_pictures(found.weights)  # (K, T, H, W, 3)
    most = np.abs(weights).max(axis=(1, 2, 3, 4)).reshape(6, 1, 1, 1, 1)
    back = (pictures.astype(np.float64) - 127.5) / 127.5 * most
    np.testing.assert_allclose(back, weights.transpose(0, 2, 3, 4, 1), atol=0.51 / 127.5 * most.max())
    assert [picture.shape for picture in filter_grid(pictures)] == [filter_grid(pictures)[0].shape] * 3
    grid = filter_grid(pictures)[1]
    np.testing.assert_array_equal(grid[4 + 10, 4 + 10], pictures[0, 1, 0, 0])  # each weight is a square
    assert filter_slices(pictures).shape[1] > filter_slices(pictures[:, :1]).shape[1]


def test_filters_of_flow_have_the_colours_of_what_they_answer_to() -> None:
    weights = np.zeros((2, 2, 1, 2, 2), np.float32)
    weights[0, 0, 0, 0, 0], weights[0, 1, 0, 1, 1] = 2, -1
    weights[1] = weights[0] * 100
    pictures = filter_pictures(weights)
    assert pictures.shape == (2, 1, 2, 2, 3)
    assert pictures[0, 0, 0, 0].tolist() == [255, 0, 0]  # to the right
    assert pictures[0, 0, 0, 1].tolist() == [255, 255, 255]
    red, green, blue = pictures[0, 0, 1, 1].tolist()  # up, half as much
    assert green < red < blue
    np.testing.assert_array_equal(pictures[0], pictures[1])


def test_filters_of_other_networks() -> None:
    early = load_backbone("early:lecture", "random:0")
    conv = next(module for module in early.network.modules() if isinstance(module, nn.Conv2d))
    found = first_filters(early).weights
    assert found.shape == (12, 3, 16, 3, 3)
    assert found[5, 2, 7, 1, 0] == conv.weight[5, 2 * 16 + 7, 1, 0]  # frames are channels there
    with pytest.raises(UsageError, match="no convolution over the clip itself"):
        first_filters(load_backbone("early:lecture:4x32:flow", "random:0"), "body.stage2.conv")
    with pytest.raises(UsageError, match="no convolution over the clip itself; expected one of body"):
        first_filters(backbone(), "classifier")
    with pytest.raises(UsageError, match="no layer that sees time alone"):
        first_filters(backbone(), over_time=True)


def test_blue_comes_first_in_networks_of_bgr() -> None:
    plain = backbone()
    turned = backbone()
    turned.spec = replace(turned.spec, clips=replace(CLIPS, colour="bgr"))
    np.testing.assert_array_equal(first_filters(turned).weights, first_filters(plain).weights[:, ::-1])
    clip = torch.rand(1, 3, T, SIDE, SIDE)
    torch.testing.assert_close(Looked(turned).logits(clip), Looked(plain).logits(clip.flip(1)))


@pytest.mark.parametrize("groups", [1, 2])
def test_space_times_time_is_what_both_layers_do(groups: int) -> None:
    torch.manual_seed(1)
    space, norm = nn.Conv3d(3, 4, (1, 3, 3), bias=False), nn.BatchNorm3d(4)
    time = nn.Conv3d(4, 6, (3, 1, 1), groups=groups, bias=False)
    nn.init.uniform_(norm.running_var, 0.5, 2)  # type: ignore[arg-type]
    nn.init.uniform_(norm.weight, 0.5, 2)
    network = Small()
    network.body = nn.Sequential(space, norm, nn.ReLU(), time)
    found = first_filters(backbone(network), over_time=True)
    assert (found.layer, found.over_time, found.weights.shape) == ("body.0", "body.3", (6, 3, 3, 3, 3))
    clip = torch.randn(1, 3, 3, 3, 3)
    expected = time(norm(space(clip)))
    torch.testing.assert_close(nn.functional.conv3d(clip, torch.from_numpy(found.weights)), expected)


def test_gradient_ascent_raises_the_logit_and_smoothness_slows_the_motion() -> None:
    looked = Looked(backbone())
    ascent = Ascent(steps=30, step_size=0.05, total_variation=1, temporal_smoothness=0, jitter_px=2)
    fast, slow = (
        maximise(looked, 1, replace(ascent, temporal_smoothness=weight), start=None) for weight in (0.0, 1000.0)
    )
    assert fast.logit > fast.start_logit + 0.3
    assert slow.logit > slow.start_logit
    assert slow.logit < fast.logit
    assert slow.temporal_difference < 0.5 * fast.temporal_difference
    assert fast.pixels.shape == (T, SIDE, SIDE, 3)
    logits = looked.logits(torch.from_numpy(fast.pixels).permute(3, 0, 1, 2)[None].float() / 255)[0]
    assert fast.logit == pytest.approx(logits[1].item(), abs=1e-5)  # of what is written, not of what was sought
    assert fast.probability == pytest.approx(logits.softmax(0)[1].item(), abs=1e-5)
    again = maximise(looked, 1, ascent)
    np.testing.assert_array_equal(again.pixels, fast.pixels)
    assert (maximise(looked, 1, replace(ascent, seed=1)).pixels != fast.pixels).any()


def test_it_begins_with_a_clip_and_stays_near_it() -> None:
    looked = Looked(backbone())
    start = np.random.default_rng(0).integers(0, 256, (T, SIDE, SIDE, 3), dtype=np.uint8)
    ascent = Ascent(steps=5, step_size=0.01, total_variation=0, temporal_smoothness=0, noise=0)
    free, held = (maximise(looked, 0, replace(ascent, l2=weight), start=start) for weight in (0.0, 1e5))
    away = [np.abs(found.pixels.astype(int) - start).mean() for found in (free, held)]
    assert away[1] < away[0] < 0.06 * 255
    with pytest.raises(UsageError, match=r"has shape \(3, 2, 16, 16\); expected \(3, 4, 16, 16\)"):
        maximise(looked, 0, ascent, start=start[:2])
    with pytest.raises(UsageError, match="temporal_smoothness is -1"):
        Ascent(temporal_smoothness=-1)
    with pytest.raises(UsageError, match=r"no longer made of numbers after 2 steps, .* temporal_smoothness 1e\+300"):
        maximise(looked, 0, Ascent(steps=2, temporal_smoothness=1e300))
    for seed in (-1, 2**63):
        with pytest.raises(UsageError, match=f"seed is {seed}; expected 0 or more"):
            Ascent(seed=seed)


def test_every_kind_of_network_has_gradients() -> None:
    for name in ("lstm:small", "rcn-gru:small", "late:small", "slowfast:small"):
        looked = Looked(load_backbone(name, "random:0"))
        pixels = torch.rand(looked.size).requires_grad_()
        (gradient,) = torch.autograd.grad(looked.logits(pixels[None])[0, 3], pixels)
        assert gradient.abs().sum() > 0, name


def test_saliency_lies_where_the_network_looks() -> None:
    looked = Looked(backbone(OneFrame()))
    clip = np.random.default_rng(0).integers(0, 256, (T, SIDE, SIDE, 3), dtype=np.uint8)
    for method in (GRADIENT, Method("smoothgrad", 3), Method(steps=3)):
        gradient = clip_saliency(looked, clip, 0, method)
        assert np.flatnonzero(np.abs(gradient).sum(axis=(1, 2, 3))).tolist() == [2]
        rows, columns = np.nonzero(np.abs(gradient[2]).sum(axis=2))
        assert (rows.max(), columns.max()) == (SIDE // 2 - 1, SIDE // 2 - 1)
    pixels = torch.from_numpy(clip).permute(3, 0, 1, 2).float() / 255
    step = torch.zeros_like(pixels)
    step[0, 2, 3, 4] = 1e-3
    with torch.no_grad():
        rise = (looked.logits((pixels + step)[None]) - looked.logits((pixels - step)[None]))[0, 0] / 2e-3
    assert clip_saliency(looked, clip, 0, GRADIENT)[2, 3, 4, 0] == pytest.approx(rise.item(), rel=1e-2)


def test_what_is_attributed_adds_up_to_the_logit_against_the_clip_at_rest() -> None:
    looked = Looked(backbone())
    clip = np.zeros((T, SIDE, SIDE, 3), np.uint8)
    clip[1] = 255
    pixels = torch.from_numpy(clip).permute(3, 0, 1, 2).float() / 255
    rest = pixels.mean(1, keepdim=True).expand_as(pixels)
    difference = looked.answer(pixels, 1)[0] - looked.answer(rest, 1)[0]
    assert abs(difference) > 0.02
    assert clip_saliency(looked, clip, 1, Method(steps=32)).sum() == pytest.approx(difference, rel=0.02)
    still = np.repeat(clip[:1], T, axis=0)
    assert np.abs(clip_saliency(looked, still, 1, Method(steps=2))).max() < 1e-6
    with pytest.raises(UsageError, match="--method gradients; expected one of integrated, smoothgrad, gradient"):
        Method("gradients")
    with pytest.raises(UsageError, match=r"a clip of one frame is its own rest, .* take --method smoothgrad"):
        clip_saliency(looked, clip[:1], 1, Method())
    with pytest.raises(UsageError, match=f"seed is {2**64}; expected 0 or more"):
        Method(seed=2**64)


def test_saliency_over_a_video_is_the_mean_of_its_clips() -> None:
    looked = Looked(backbone(OneFrame()))
    frames = np.random.default_rng(0).integers(0, 256, (7, SIDE, SIDE, 3), dtype=np.uint8)
    samples = Samples(frames, np.arange(7) / 10, (0,))
    assert [clip.tolist() for clip in samples.clips(grid_of(looked.backbone.spec))] == [
        [0, 1, 2, 3],
        [2, 3, 4, 5],
        [4, 5, 6, 6],
    ]
    found = saliency_of(looked, samples, (0, 1), method=GRADIENT)
    assert [np.flatnonzero(curve).tolist() for curve in found.curve] == [[2, 4, 6]] * 2  # the third frame of each clip
    alone = np.abs(clip_saliency(looked, frames[2:6], 1, GRADIENT)).sum()
    assert found.curve[1, 4] == pytest.approx(alone / 2, rel=1e-5)  # one of the two clips that frame 4 is in sees it
    assert found.curve[1, 6] > 0
    np.testing.assert_allclose(found.probability.sum(0), 1)
    best = saliency_of(looked, samples, method=GRADIENT).classes
    assert best == (int(found.probability.mean(1).argmax()),)


def test_no_clip_spans_a_hole_and_a_stride_leaves_samples_out() -> None:
    looked = Looked(backbone(OneFrame()))
    frames = np.zeros((8, SIDE, SIDE, 3), np.uint8)
    holed = Samples(frames, np.arange(8.0), (0, 5))
    clips = [clip.tolist() for clip in holed.clips(grid_of(looked.backbone.spec))]
    assert clips == [[0, 1, 2, 3], [2, 3, 4, 4], [5, 6, 7, 7]]
    spec = replace(looked.backbone.spec, clips=replace(CLIPS, frame_stride=2, hop=8))
    looked.backbone.spec = spec
    assert saliency_of(looked, Samples(frames, np.arange(8.0), (0,)), (0,)).second.tolist() == [0, 2, 4, 6]


def test_classes_have_names_or_numbers() -> None:
    named, bare = Looked(backbone(classes=("jump", "throw"))), Looked(backbone())
    assert (named.number("throw"), named.number("0"), named.label(1)) == (1, 0, "throw")
    assert (bare.number("1"), bare.label(1)) == (1, "class 1")
    with pytest.raises(UsageError, match="--class jmp: did you mean jump"):
        named.number("jmp")
    with pytest.raises(UsageError, match="by number alone; expected 0 to 1"):
        bare.number("2")
    assert Looked(load_backbone()).number("orbit") == 13
    with pytest.raises(UsageError, match="no last layer"):
        Looked(backbone(Small(pool=False)))
    with pytest.raises(UsageError, match="describes boxes"):
        Looked(Backbone("boxes", replace(backbone().spec, detection=True), Small()))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2.4 s, brighter from second to second."""
    place = tmp_path_factory.mktemp("visualized") / "v.mp4"
    return encode(place, regular(60), picture=lambda k: np.full((64, W, 3), 4 * k, np.uint8))


def test_frames_are_those_that_extraction_reads(video: Path) -> None:
    spec = backbone().spec
    found = read_samples(str(video), spec, start_s=0.5, stop_s=1.0)
    np.testing.assert_allclose(found.second, [0.5, 0.6, 0.7, 0.8, 0.9], atol=1e-6)
    assert found.pixels.shape == (5, SIDE, SIDE, 3)
    np.testing.assert_allclose(found.pixels.mean(axis=(1, 2, 3)), [4 * k for k in (12, 15, 17, 20, 22)], atol=3)
    clip = clip_at(f"{video}@2.2", spec)
    assert clip.shape == (T, SIDE, SIDE, 3)
    np.testing.assert_array_equal(clip[1], clip[3])  # the video ends there
    with pytest.raises(UsageError, match="expected VIDEO@SECOND"):
        clip_at(str(video), spec)
    with pytest.raises(UsageError, match="expected --start below --stop"):
        read_samples(str(video), spec, start_s=2, stop_s=1)
    with pytest.raises(InputError, match="no frame from 9 s on"):
        read_samples(str(video), spec, start_s=9)
    with pytest.raises(UsageError, match="expected at least 99 x 99"):
        read_samples(str(video), replace(spec, clips=replace(CLIPS, crop_px=99)))


def test_networks_of_flow_are_shown_flow(tmp_path: Path) -> None:
    texture = np.random.default_rng(0).integers(0, 256, (64, W, 3), dtype=np.uint8).repeat(4, axis=1)[:, :W]
    path = encode(tmp_path / "v.mp4", regular(25), picture=lambda k: np.roll(texture, k, axis=1))
    spec = replace(backbone(channels=2).spec, flow=FlowSettings(method="dis", bound_px=5.0))
    found = read_samples(str(path), spec, stop_s=0.5)
    assert found.pixels.shape == (5, SIDE, SIDE, 2)
    x, y = (np.median(found.pixels[..., axis]) / 255 * 10 - 5 for axis in (0, 1))
    assert (x, y) == pytest.approx((2.5, 0), abs=0.5)  # 25 frames a second, and 10 samples
    looked = Looked(Backbone("small", spec, Small(2)))
    assert show_saliency(looked, str(path), tmp_path / "s.gif", stop_s=0.5, method=GRADIENT)["classes"]


def test_too_long_a_stretch_is_refused(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.visualizing.clips.MOST_BYTES", 3000)
    with pytest.raises(UsageError, match="more than fits in memory; name a shorter stretch by --start and --stop"):
        read_samples(str(video), backbone().spec)


def test_files_are_what_their_endings_say(tmp_path: Path, video: Path) -> None:
    found = backbone(classes=("jump", "throw"))
    looked, ascent = Looked(found), Ascent(steps=2)
    for ending in ("png", "gif", "mp4"):
        filters, maximised, saliency = (tmp_path / f"{what}.{ending}" for what in ("filters", "maximised", "saliency"))
        show_filters(found, filters)
        result = show_maximised(looked, ["jump", "1"], maximised, ascent=ascent, temporal_smoothness=(0, 10))
        assert [(each["class"], each["temporal_smoothness"]) for each in result["clips"]] == [
            ("jump", 0),
            ("jump", 10),
            ("throw", 0),
            ("throw", 10),
        ]
        shown = show_saliency(looked, str(video), saliency, classes=("throw",), stop_s=0.8, method=GRADIENT)
        assert len(shown["classes"][0]["saliency"]) == len(shown["second"]) == 8
    with Image.open(tmp_path / "filters.gif") as gif:
        assert (gif.n_frames, gif.info["loop"], gif.info["duration"]) == (3, 0, 250)  # type: ignore[attr-defined]
    with Image.open(tmp_path / "saliency.gif") as gif:
        assert (gif.n_frames, gif.info["duration"]) == (8, 100)  # type: ignore[attr-defined]
    assert probe(tmp_path / "saliency.mp4").duration_s == pytest.approx(4.0, abs=0.05)  # five times 0.8 s
    assert probe(tmp_path / "maximised.mp4").average_fps == pytest.approx(10, abs=0.1)
    with pytest.raises(UsageError, match=r"expected a name in \.gif"):
        show_filters(found, tmp_path / "filters.jpg")
    with pytest.raises(UsageError, match="is the video itself"):
        show_saliency(looked, str(video), video)
    with pytest.raises(UsageError, match="expected --class"):
        show_maximised(looked, [], tmp_path / "m.gif")


def test_the_curve_stands_over_its_second() -> None:
    looked = Looked(backbone(OneFrame()))
    samples = Samples(np.zeros((40, SIDE, SIDE, 3), np.uint8), np.arange(40) / 10, (0,))
    found = saliency_of(looked, samples, (0,), method=GRADIENT)
    flat = found.maps * 0
    flat[0, 20] = 1  # one frame of 40
    frames = list(Evidence(replace(found, maps=flat), ["jump"]).frames())
    assert len(frames) == 40
    lane = frames[0][-60:-20].astype(int)
    filled = (np.abs(lane - [153, 199, 224]).sum(axis=2) < 12).any(axis=0)
    middle = np.flatnonzero(filled)
    assert abs(middle.mean() / frames[0].shape[1] - 20 / 39) < 0.02
    assert not np.array_equal(frames[0], frames[1])


def test_a_line_over_time_slants_as_things_move() -> None:
    frames = np.zeros((8, 32, 32, 3), np.uint8)
    for t in range(8):
        frames[t, :, 2 + 3 * t] = 255
    picture = line_over_time(frames)[..., 0]
    assert [int(picture[2 + 4 * t].argmax()) for t in range(8)] == [2 + 3 * t for t in range(8)]


def test_flow_is_shown_in_the_colours_of_its_directions() -> None:
    flow = np.full((1, 4, 4, 2), 128, np.uint8)
    flow[..., 0] = 255
    red = as_pictures(flow)[0, 0, 0]
    assert red[0] > 200
    assert red[1:].max() < 60
    looked = Looked(backbone(channels=2))
    assert (looked.is_flow, looked.size) == (True, (2, T, SIDE, SIDE))
    found = maximise(looked, 0, Ascent(steps=3))
    assert as_pictures(found.pixels).shape == (T, SIDE, SIDE, 3)


def test_the_motion_of_a_whole_clip() -> None:
    texture = (
        np.random.default_rng(0).integers(0, 256, (24, 24, 3)).repeat(4, axis=0).repeat(4, axis=1).astype(np.uint8)
    )
    frames = np.stack([np.roll(texture, (t, -t), axis=(0, 1)) for t in range(6)])  # to the left and down
    assert whole_motion_px(frames) == pytest.approx((-1, 1), abs=0.15)
    assert whole_motion_px(frames[:1]) is None
    assert whole_motion_px(frames * 0) is None


def test_small_arithmetic() -> None:
    assert spread(3, 8) == [0, 1, 2]
    assert spread(16, 4) == [0, 5, 10, 15]


def test_a_gif_of_equal_pictures_keeps_its_time(tmp_path: Path) -> None:
    picture: NDArray[np.uint8] = np.zeros((8, 8, 3), np.uint8)
    write_moving([picture, picture, picture + 200], tmp_path / "a.gif", fps=10)
    with Image.open(tmp_path / "a.gif") as gif:
        shown = []
        for number in range(gif.n_frames):  # type: ignore[attr-defined]
            gif.seek(number)
            shown.append(gif.info["duration"])
        assert sum(shown) == 300


def test_the_command(tmp_path: Path, video: Path) -> None:
    filters = invoked("filters", "tiny_r2plus1d", "--over-time", "-o", tmp_path / "f.gif")
    assert (filters["filters"], filters["frames"], filters["layer"]) == (32, 5, "stem.0.0")
    options = ["--class", "slide_left", "--steps", 2, "--from", f"{video}@0.5", "-q"]
    made = invoked("maximize", "tiny_r2plus1d", "-o", tmp_path / "m.png", *options)
    (clip,) = made["clips"]  # type: ignore[misc]
    assert clip["logit"] > clip["start_logit"]
    seen = invoked("saliency", video, "--stop", 1, "--method", "gradient", "-o", tmp_path / "s.png", "-q")
    assert (seen["method"]["name"], len(seen["second"])) == ("gradient", 10)  # type: ignore[index, arg-type]
    said = CliRunner().invoke(app, ["visualize", "filters", "tiny_r2plus1d", "-o", str(tmp_path / "g.png")])
    assert "--over-time shows them together with stem.2.0" in said.stdout.replace("\n", " ")
