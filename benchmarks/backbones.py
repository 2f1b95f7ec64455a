"""Backbones: how fast on this machine, and how far each engine and precision lies from torch in fp32.

    python benchmarks/backbones.py speed                       # 3 min; writes results/backbones.json
    python benchmarks/backbones.py accuracy FIXTURES VIDEOS    # 15 min; writes results/backbones_accuracy.json

*plain*: torch, eager, fp32, one clip at a time, all cores: what other tools do. *auto*: what `extract` takes here. Both
are measured in turn, ``ROUNDS`` times, and the medians count; so is the best rate of a matrix product, the limit.
FIXTURES is a folder of parity fixtures, whose made-up weights keep a signal through the network as trained ones do;
VIDEOS a folder of real videos.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from common import save, table
from numpy.typing import NDArray
from torch import nn

from extract.backbones import BACKBONES, Backbone, load_backbone
from extract.clipping import clips_of, reading_options
from extract.engine import ClipInput, Engine, has_amx, openvino_precisions, settle_engine, settle_precision
from extract.engine._model import ClipModel, folded
from extract.recipe import Recipe
from extract.video import open_video

SPEED = {
    "c3d_sports1m": (16, 112),
    "i3d_inception_rgb": (16, 224),
    "i3d_r50": (8, 224),
    "slowfast_r50_8x8": (32, 224),
    "s3d": (16, 224),
    "r3d_18": (16, 112),
    "x3d_s": (13, 160),
    "tiny_r2plus1d": (16, 112),
}
ROUNDS = 5
THREADS = torch.get_num_threads()
_SIZES = (1024, 2048, 3072)


def given(backbone: Backbone, size: tuple[int, int]) -> ClipInput:
    clips = backbone.spec.clips
    return ClipInput(*size, clips.mean, clips.std, clips.colour)


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def matrix_product_rate(dtype: torch.dtype) -> float:
    """The best GFLOP/s of a square matrix product, two operations a multiply-add."""
    best = 0.0
    for n in _SIZES:
        a, b = torch.randn(n, n).to(dtype), torch.randn(n, n).to(dtype)
        a @ b
        best = max(best, *(2e-9 * n**3 / seconds(partial(torch.matmul, a, b)) for _ in range(5)))
    return best


def speed() -> None:
    precision = settle_precision("auto", "cpu")
    rate = matrix_product_rate(torch.bfloat16 if precision == "bf16" else torch.float32)
    result: dict[str, object] = {"precision": precision, "threads": THREADS, "matrix_product_gflops": round(rate, 1)}
    rows = []
    for name, size in SPEED.items():
        backbone = load_backbone(name, "random:0")
        clips = given(backbone, size)
        chosen = settle_engine("auto", backbone, clips, device="cpu", precision=precision)
        engine = Engine(backbone, clips, engine=chosen, precision=precision, threads=THREADS)
        pixels = np.random.default_rng(0).integers(0, 256, (THREADS, size[0], size[1], size[1], 3), np.uint8)
        x = torch.randn(1, 3, size[0], size[1], size[1])
        plain_s, auto_s = [], []
        for _ in range(ROUNDS + 1):
            plain_s.append(seconds(partial(backbone.features, x)))
            auto_s.append(seconds(partial(engine.features, pixels)) / THREADS)
        plain, auto = statistics.median(plain_s[1:]), statistics.median(auto_s[1:])
        gflops = 2e-9 * backbone.multiply_adds(size[0], size[1], size[1]) / auto
        result[name] = {
            "frames": size[0],
            "side_px": size[1],
            "engine": chosen,
            "plain_s_per_clip": round(plain, 4),
            "auto_s_per_clip": round(auto, 4),
            "times_plain": round(plain / auto, 2),
            "gflops": round(gflops, 1),
            "share_of_matrix_product": round(gflops / rate, 2),
        }
        row = [name, chosen, f"{plain:.4f}", f"{auto:.4f}", f"{plain / auto:.2f}", f"{gflops / rate:.2f}"]
        rows.append(row)
        print(*row, flush=True)
    print(f"best matrix product: {rate:.0f} GFLOP/s in {precision}")
    print(table(["backbone", "engine", "plain s", "auto s", "times", "share of matrix product"], rows))
    save("backbones", f"seconds per clip, {THREADS} threads, medians of {ROUNDS} rounds in turn", result)


def fixture_weights(fixtures: Path, name: str) -> Backbone:
    """The backbone with the fixture's made-up weights; random ones where there is none."""
    sys.path[:0] = [str(fixtures), str(Path(__file__).parents[1] / "tests")]
    import make_weights

    from extract.backbones import checkpoint

    folder = next((fixtures / f for f in (name, f"tv_{name}") if (fixtures / f / "manifest.json").is_file()), None)
    if folder is None:
        return load_backbone(name, "random:0")
    arrays = make_weights.build_state(str(folder / "manifest.json"))
    tensors = {key: torch.from_numpy(value) for key, value in arrays.items() if not key.endswith("tracked")}
    spec = BACKBONES[name]
    state = checkpoint._translated(tensors)
    return Backbone(name, spec, checkpoint._filled(checkpoint._fitted(checkpoint._empty(spec.builds[0]), state), state))


def real_clip(videos: Path, backbone: Backbone, size: tuple[int, int]) -> NDArray[np.uint8]:
    """(1, T, H, W, 3): the first clip of the first video that can be read, in the backbone's rate and stride."""
    clips = backbone.spec.clips
    recipe = Recipe(
        backbone=backbone.name,
        weights_sha256="",
        layer="features",
        feature_width=1,
        clip_frames=size[0],
        frame_stride=clips.frame_stride,
        hop=clips.hop,
        fps=clips.fps,
        short_side_px=size[1] * 8 // 7,
        crop_px=size[1],
        resize_kernel="",
        mean=clips.mean,
        std=clips.std,
        precision="fp32",
    )
    for path in sorted(videos.glob("*.mp4")):
        with open_video(path, **reading_options(recipe, "auto")) as reader:
            return next(iter(clips_of(reader, recipe))).frames[None]
    sys.exit(f"no mp4 in {videos}")


def rounded(model: nn.Module) -> nn.Module:
    """``model`` with weights, inputs and outputs of each convolution and matrix product rounded to bf16.

    What hardware does that multiplies bf16 and adds in fp32; processors without it take minutes a clip.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv3d | nn.Conv2d | nn.Linear):
            module.weight.data = module.weight.data.bfloat16().float()
            module.register_forward_pre_hook(lambda _m, given: (given[0].bfloat16().float(),))
            module.register_forward_hook(lambda _m, _given, out: out.bfloat16().float())
    return model


def computes(backbone: Backbone, clips: ClipInput) -> Iterator[tuple[str, Callable[[NDArray[np.uint8]], NDArray]]]:
    """Each engine and precision but torch in fp32."""
    if has_amx():
        yield "torch bf16", Engine(backbone, clips, precision="bf16", threads=THREADS).features
    else:
        model = rounded(folded(ClipModel(backbone, clips)).eval())

        def compute(pixels: NDArray[np.uint8]) -> NDArray:
            with torch.inference_mode():
                return np.concatenate([model(torch.from_numpy(clip[None])).numpy() for clip in pixels])

        yield "torch bf16, rounded", compute
    for precision in openvino_precisions():
        engine = Engine(backbone, clips, engine="openvino", precision=precision, threads=THREADS)  # type: ignore[arg-type]
        yield f"openvino {precision}", engine.features


def accuracy(fixtures: Path, videos: Path) -> None:
    result: dict[str, object] = {"bf16_in_hardware": has_amx()}
    for name, spec in BACKBONES.items():
        if ":" in name or spec.channels != 3 or spec.detection:
            continue
        backbone = fixture_weights(fixtures, name)
        size = (min(32, spec.clips.clip_frames), min(224, spec.clips.crop_px))
        clips = given(backbone, size)
        pixels = real_clip(videos, backbone, size)
        pixels = np.concatenate([pixels, np.random.default_rng(0).integers(0, 256, pixels.shape, np.uint8)])
        exact = Engine(backbone, clips, threads=THREADS).features(pixels).astype(np.float64)
        found = {}
        for title, compute in computes(backbone, clips):
            rows = compute(pixels).astype(np.float64)
            length = np.linalg.norm(exact, axis=1)
            apart = np.linalg.norm(rows - exact, axis=1) / length
            cosine = (rows * exact).sum(1) / length / np.linalg.norm(rows, axis=1)
            found[title] = {
                "real_relative_error": float(apart[0]),
                "noise_relative_error": float(apart[1]),
                "least_cosine": float(cosine.min()),
            }
        result[name] = found
        print(name, found, flush=True)
        save("backbones_accuracy", "a real clip and one of noise, to torch in fp32", result)


if __name__ == "__main__":
    if sys.argv[1:2] == ["speed"]:
        speed()
    elif sys.argv[1:2] == ["accuracy"] and len(sys.argv) == 4:
        accuracy(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        sys.exit(__doc__)
