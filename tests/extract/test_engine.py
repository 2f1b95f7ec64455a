"""The engines: the same bits whatever the batch, and the numbers that plain torch gives."""

import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from extract.backbones import EMBEDDED, Backbone, load_backbone
from extract.engine import (
    ClipInput,
    Engine,
    Precision,
    _choose,
    _openvino,
    has_amx,
    openvino_available,
    openvino_precisions,
    settle_device,
    settle_engine,
    settle_precision,
    unit_clips,
)
from extract.engine._choose import is_right
from extract.engine._model import ClipModel, folded, without_leaps
from extract.errors import DeviceLostError, MachineError, UsageError

MEAN, STD = (0.40, 0.45, 0.50), (0.20, 0.225, 0.25)
SMALL = (8, 32)
FULL = (16, 112)  # what the backbone's own clips are: torch may choose other kernels here
ENGINES = ["torch", pytest.param("openvino", marks=pytest.mark.skipif(not openvino_available(), reason="no OpenVINO"))]
more = pytest.mark.more
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.fixture(autouse=True)
def threads_are_put_back() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(EMBEDDED, "random:0")


def given(size: tuple[int, int] = SMALL, **options: str) -> ClipInput:
    return ClipInput(*size, MEAN, STD, **options)


def engine_of(
    backbone: Backbone, engine: str = "torch", precision: Precision = "fp32", size: tuple[int, int] = SMALL
) -> Engine:
    return Engine(backbone, given(size), engine=engine, precision=precision)


def some_clips(n: int, size: tuple[int, int] = SMALL, *, seed: int = 0) -> NDArray[np.uint8]:
    frames, side = size
    return np.random.default_rng(seed).integers(0, 256, (n, frames, side, side, 3), np.uint8)


@pytest.mark.parametrize("size", [SMALL, (5, 40)])
@pytest.mark.parametrize(("engine", "precision"), [("torch", "fp32"), ("torch", "bf16"), ("openvino", "fp32")])
def test_same_bits_with_any_neighbours_threads_and_batches(
    backbone: Backbone, engine: str, precision: Precision, size: tuple[int, int]
) -> None:
    if engine == "openvino" and not openvino_available():
        pytest.skip("no OpenVINO")
    clip, others = some_clips(1, size), some_clips(7, size, seed=1)
    found = []
    for threads in (1, 2, 3):
        run = Engine(backbone, given(size), engine=engine, precision=precision, threads=threads)
        found.append(run.features(clip)[0])
        for n in (2, 7):
            for place in {0, 1, n - 1}:
                mates = others[:n].copy()
                mates[place] = clip[0]
                found.append(run.features(mates)[place])
        found.append(run.features(np.concatenate([np.full_like(others, 255), clip]))[-1])
    assert found[0].dtype == np.float32
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("name", "size"),
    [
        (EMBEDDED, FULL),
        pytest.param("r3d_18", (8, 96), marks=more),
        ("x3d_s", (8, 96)),
        pytest.param("slowfast_r50_8x8", (16, 96), marks=more),
    ],
)
def test_same_bits_with_any_number_of_threads_at_full_size(engine: str, name: str, size: tuple[int, int]) -> None:
    backbone = load_backbone(name, "random:0")
    one, two = (Engine(backbone, given(size), engine=engine, threads=threads) for threads in (1, 2))
    clips = some_clips(3, size)
    together = one.features(clips)
    np.testing.assert_array_equal(two.features(clips), together)
    np.testing.assert_array_equal(two.features(clips[::-1])[::-1], together)
    np.testing.assert_array_equal(two.features(clips[1:2])[0], together[1])


@pytest.mark.parametrize("maps", [False, True])
@pytest.mark.parametrize("name", ["late:small:4x32", "rcn-gru:small:4x32", "frames:small:4x32", "inflated:small:4x32"])
def test_threads_do_not_see_each_others_clips(name: str, maps: bool) -> None:
    """These find their maps by looking into the image network's pass."""
    backbone, clips = load_backbone(name, "random:0"), some_clips(24, (4, 32))
    one, four = (Engine(backbone, replace(given((4, 32)), maps=maps), threads=threads) for threads in (1, 4))
    wanted = one.features(clips)
    for _ in range(4):
        np.testing.assert_array_equal(four.features(clips), wanted)


@pytest.mark.skipif(not openvino_available(), reason="no OpenVINO")
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="Linux tells the cores of threads")
def test_workers_do_not_share_one_core(backbone: Backbone) -> None:
    engine = Engine(backbone, given(FULL), engine="openvino", threads=1)
    with ThreadPoolExecutor() as pool:
        computing = pool.submit(engine.features, some_clips(12, FULL))
        while not computing.done():
            for thread in Path("/proc/self/task").iterdir():
                with suppress(ProcessLookupError):
                    assert os.sched_getaffinity(int(thread.name)) == os.sched_getaffinity(0)


def test_the_process_keeps_its_threads(backbone: Backbone) -> None:
    torch.set_num_threads(2)
    Engine(backbone, given(), threads=3).features(some_clips(3))
    assert torch.get_num_threads() == 2


def plain(backbone: Backbone, clips: NDArray[np.uint8], colour: str = "rgb") -> NDArray[np.float32]:
    """One clip at a time, contiguous, normalised in numpy."""
    rows = []
    for clip in clips:
        pixels = clip[..., ::-1] if colour == "bgr" else clip
        x = (pixels.astype(np.float64) / 255 - np.array(MEAN)) / np.array(STD)
        x = torch.from_numpy(np.ascontiguousarray(x.transpose(3, 0, 1, 2), np.float32))[None]
        rows.append(backbone.features(x)[0].numpy())
    return np.stack(rows)


@pytest.mark.parametrize("size", [SMALL, FULL])
@pytest.mark.parametrize("colour", ["rgb", "bgr"])
@pytest.mark.parametrize("engine", ENGINES)
def test_equal_to_plain_torch(backbone: Backbone, engine: str, colour: str, size: tuple[int, int]) -> None:
    clips = some_clips(2, size)
    clips[1] = np.linspace(0, 255, clips[1].size).reshape(clips[1].shape)
    run = Engine(backbone, given(size, colour=colour), engine=engine)
    wanted = plain(backbone, clips, colour)
    np.testing.assert_allclose(run.features(clips), wanted, rtol=1e-4, atol=1e-6)
    assert not np.allclose(wanted, plain(backbone, clips, "bgr" if colour == "rgb" else "rgb"), rtol=1e-3)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("c3d_sports1m", (16, 112)),
        ("i3d_inception_rgb", (8, 64)),
        pytest.param("i3d_nln_r50", (4, 64), marks=more),
        ("slowfast_r50_8x8", (32, 64)),
        pytest.param("slowfast_r101_16x8_50_50", (64, 32), marks=more),
        pytest.param("r2plus1d_r50", (8, 64), marks=more),
        ("x3d_s", (5, 64)),
        pytest.param("s3d", (8, 64), marks=more),
        pytest.param("swin3d_t", (4, 64), marks=more),
        ("frames:resnet18", (2, 64)),
        ("late:small:4x32", (4, 32)),
        ("lstm:small:4x32", (4, 32)),
        ("rcn-gru:small:4x32", (4, 32)),
        ("slowfast:small:4x32", (4, 32)),
    ],
)
def test_every_kind_of_network_in_every_engine(engine: str, name: str, size: tuple[int, int]) -> None:
    backbone = load_backbone(name, "random:0")
    clips = some_clips(1, size)
    found = Engine(backbone, given(size), engine=engine).features(clips)
    wanted = plain(backbone, clips)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("engine", ENGINES)
def test_features_of_a_layer(backbone: Backbone, engine: str) -> None:
    clips = some_clips(12)
    found = Engine(backbone, given(layer="blocks.2"), engine=engine, threads=3).features(clips)
    x = torch.from_numpy(clips).permute(0, 4, 1, 2, 3).float() / 255
    x = (x - torch.tensor(MEAN).view(3, 1, 1, 1)) / torch.tensor(STD).view(3, 1, 1, 1)
    np.testing.assert_allclose(found, backbone.features(x, layer="blocks.2").numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("name", "layer"),
    [
        (EMBEDDED, "stem.0.0"),  # a convolution, whose norm must not be folded into it
        ("frames:resnet18", "body.layer1.0.bn2"),  # what follows computes in place
        ("r3d_18", "body.layer1.0.conv1.1"),
        ("c3d_sports1m", "fc6"),  # behind the maps
    ],
)
def test_layers_are_the_same_in_every_engine(engine: str, name: str, layer: str) -> None:
    backbone = load_backbone(name, "random:0")
    size = (16, 112) if "c3d" in name else (4, 64)
    clips = some_clips(1, size)
    x = torch.from_numpy(clips).permute(0, 4, 1, 2, 3).float() / 255
    x = (x - torch.tensor(MEAN).view(3, 1, 1, 1)) / torch.tensor(STD).view(3, 1, 1, 1)
    wanted = backbone.features(x, layer=layer).numpy()
    found = Engine(backbone, given(size, layer=layer), engine=engine).features(clips)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("name", [EMBEDDED, "r2plus1d_18", "s3d", "slowfast_r50_8x8", "r2plus1d_r50"])
def test_folding_leaves_no_norm_and_changes_nothing(name: str) -> None:
    torch.manual_seed(0)
    backbone = load_backbone(name, "random:0")
    for module in backbone.network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    model = ClipModel(backbone, given((8, 64))).eval()
    light = folded(model)
    assert not any(isinstance(module, nn.BatchNorm3d) for module in light.modules())
    assert any(isinstance(module, nn.BatchNorm3d) for module in model.modules()), "the backbone is left as it is"
    clips = torch.from_numpy(some_clips(1, (8, 64)))
    with torch.inference_mode():
        wanted = model(clips)
        torch.testing.assert_close(light(clips), wanted, rtol=0, atol=2e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize(("kernel", "stride", "padding", "frames"), [(5, 8, 2, 32), (3, 4, 1, 33), (5, 8, 0, 40)])
def test_a_convolution_that_leaps_over_frames_sees_the_same_ones(
    kernel: int, stride: int, padding: int, frames: int
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv3d(4, 6, (kernel, 3, 3), (stride, 2, 2), (padding, 1, 1))
    network = nn.Sequential(nn.Sequential(conv))
    x = torch.randn(2, 4, frames, 9, 7)
    wanted = network(x)
    assert without_leaps(network)[0][0] is not conv
    torch.testing.assert_close(network(x), wanted)


def test_convolutions_without_leaps_stay_as_they_are() -> None:
    network = nn.Sequential(nn.Conv3d(4, 6, (5, 1, 1), (4, 1, 1)), nn.Conv3d(6, 6, 1, (2, 2, 2)))
    before = list(network)
    assert list(without_leaps(network)) == before


@pytest.mark.skipif(not has_amx(), reason="no AMX: bf16 convolutions are other code")
def test_bf16_of_networks_that_leap_over_frames() -> None:
    backbone = load_backbone("slowfast_r50_4x16", "random:0")
    clips = some_clips(2, (32, 64))
    exact, near = (engine_of(backbone, "torch", p, (32, 64)).features(clips) for p in ("fp32", "bf16"))  # type: ignore[arg-type]
    assert is_right(near, exact)


def test_bf16_is_near(backbone: Backbone) -> None:
    clips = some_clips(8, (16, 64))
    exact, near = (engine_of(backbone, "torch", p, (16, 64)).features(clips) for p in ("fp32", "bf16"))  # type: ignore[arg-type]
    assert near.dtype == np.float32
    assert not np.array_equal(near, exact), "bf16 was not used"
    assert is_right(near, exact)


def test_compiled_torch_equals_eager() -> None:
    backbone = load_backbone("slow:lecture", "random:0")  # a larger one takes half a minute to compile
    clips = some_clips(3)
    eager, compiled = (engine_of(backbone, engine).features(clips) for engine in ("torch", "compile"))
    np.testing.assert_allclose(compiled, eager, rtol=1e-4, atol=1e-6)


@gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("engine", ["torch", "compile"])
def test_cuda_is_near(backbone: Backbone, engine: str, precision: Precision) -> None:
    clips = some_clips(3, FULL)
    exact = engine_of(backbone, size=FULL).features(clips)
    found = Engine(backbone, given(FULL), engine=engine, device="cuda", precision=precision).features(clips)
    assert is_right(found, exact)


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 19])
def test_run_keeps_keys_and_order(backbone: Backbone, n: int) -> None:
    run, clips = Engine(backbone, given(), threads=8), some_clips(n)
    assert run.batch == 8
    batches = list(run.run((f"clip {k}", clip) for k, clip in enumerate(clips)))
    assert [len(batch) for batch in batches] == [8] * (n // 8) + [n % 8] * (n % 8 > 0)
    found = [item for batch in batches for item in batch]
    assert [key for key, _ in found] == [f"clip {k}" for k in range(n)]
    for k in sorted({0, n // 2, n - 1} & set(range(n))):
        assert found[k][1].shape == (backbone.spec.feature_width,)
        np.testing.assert_array_equal(found[k][1], run.features(clips[k : k + 1])[0])


def test_run_takes_no_more_than_a_batch_ahead(backbone: Backbone) -> None:
    run = engine_of(backbone)
    clips = iter([(k, clip) for k, clip in enumerate(some_clips(run.batch + 4))])
    next(run.run(clips))
    assert next(clips)[0] == run.batch


def test_units_depend_on_the_clips_and_the_device_alone() -> None:
    assert unit_clips(given((16, 112)), "cpu") == 1
    assert unit_clips(given((16, 112)), "cuda") == 64
    assert unit_clips(given((32, 256)), "cuda") == 12


# Choosing


def test_settle_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert settle_device("auto") == settle_device("cpu") == "cpu"
    with pytest.raises(MachineError, match="--device cuda, but torch sees no GPU; use --device cpu"):
        settle_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert settle_device("auto") == settle_device("cuda") == "cuda"
    assert settle_device("cpu") == "cpu"
    with pytest.raises(UsageError, match="--device 'tpu'; expected auto, cpu or cuda"):
        settle_device("tpu")


@pytest.mark.parametrize(
    ("precision", "device", "amx", "settled"),
    [
        ("auto", "cpu", False, "fp32"),
        ("auto", "cpu", True, "bf16"),
        ("auto", "cuda", False, "bf16"),
        ("fp32", "cuda", True, "fp32"),
        ("bf16", "cpu", False, "bf16"),
        ("fp16", "cuda", False, "fp16"),
    ],
)
def test_settle_precision(
    monkeypatch: pytest.MonkeyPatch, precision: str, device: str, amx: bool, settled: str
) -> None:
    monkeypatch.setattr("extract.engine._settle.has_amx", lambda: amx)
    assert settle_precision(precision, device) == settled


def test_impossible_precisions_are_refused() -> None:
    assert has_amx() in (True, False)
    with pytest.raises(UsageError, match="--precision fp16 is for GPUs; on a CPU use bf16 or fp32"):
        settle_precision("fp16", "cpu")
    for device in ("cpu", "cuda"):
        with pytest.raises(UsageError, match="--precision 'int8'; expected auto, fp32, bf16 or fp16"):
            settle_precision("int8", device)


def settled(
    backbone: Backbone, engine: str, size: tuple[int, int] = SMALL, *, device: str = "cpu", precision: str = "fp32"
) -> tuple[str, list[str]]:
    told: list[str] = []
    found = settle_engine(
        engine,
        backbone,
        given(size),
        device=device,
        precision=precision,  # type: ignore[arg-type]
        on_wait=told.append,
    )
    return found, told


def test_gpus_compute_in_torch() -> None:
    assert settled(load_backbone("r3d_18", "random:0"), "auto", FULL, device="cuda")[0] == "torch"


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNTRIMMED_CACHE", str(tmp_path))
    return tmp_path / "weights"


@pytest.mark.skipif(not openvino_available(), reason="no OpenVINO")
def test_auto_takes_the_fastest_and_remembers(backbone: Backbone, empty_cache: Path) -> None:
    first, told = settled(backbone, "auto")
    assert told == [f"trying the engines for {EMBEDDED}, once on this machine"]
    (kept,) = empty_cache.glob("engine-*.json")
    answer = json.loads(kept.read_text())
    assert first == answer["engine"] == min(answer["seconds_per_clip"], key=answer["seconds_per_clip"].get)
    assert settled(backbone, "auto") == (first, [])
    kept.write_text("{broken")
    assert settled(backbone, "auto")[1] == told


@pytest.mark.skipif(not openvino_available(), reason="no OpenVINO")
def test_an_engine_with_wrong_numbers_is_not_taken(
    backbone: Backbone, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_choose, "is_right", lambda _found, _wanted: False)
    assert settled(backbone, "auto")[0] == "torch"


def test_right_is_within_one_percent_of_each_clip() -> None:
    wanted = np.ones((2, 400), np.float32)
    assert is_right(wanted * 1.009, wanted)
    assert not is_right(wanted * np.array([[1], [1.011]], np.float32), wanted)
    turned = wanted.copy()
    turned[1, :8] = 1.2
    assert not is_right(turned, wanted)
    assert not is_right(np.full_like(wanted, np.nan), wanted)


@pytest.mark.skipif(not openvino_available(), reason="no OpenVINO")
def test_an_engine_that_rounds_a_network_too_far_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_openvino, "precisions", lambda: ("fp32", "bf16"))
    backbone, clips = load_backbone("mvit_v2_s", "random:0"), given((16, 224))
    with pytest.raises(
        UsageError, match="in bf16 rounds the features of mvit_v2_s by more than 1%; use --engine torch"
    ):
        settle_engine("openvino", backbone, clips, device="cpu", precision="bf16")
    assert settle_engine("openvino", backbone, clips, device="cpu", precision="fp32") == "openvino"


def test_engines_that_cannot_be_are_refused(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="--engine 'onnx'; expected auto, torch, compile, openvino"):
        settled(backbone, "onnx")
    with pytest.raises(UsageError, match=r"--engine compile computes no layers \(stem\); use --engine torch"):
        settle_engine("compile", backbone, given(layer="stem"), device="cpu", precision="fp32")
    with pytest.raises(UsageError, match="--engine openvino computes on the CPU"):
        settled(backbone, "openvino", device="cuda")
    if openvino_available():
        monkeypatch.setattr(_openvino, "precisions", lambda: ("fp32",))
        with pytest.raises(UsageError, match="does not compute bf16 on this processor, only fp32"):
            settled(backbone, "openvino", precision="bf16")
        assert settled(backbone, "openvino")[0] == "openvino"
    monkeypatch.setattr(_openvino, "available", lambda: False)
    with pytest.raises(MachineError, match="OpenVINO is not installed: pip install openvino"):
        settled(backbone, "openvino")
    assert settled(load_backbone("r3d_18", "random:0"), "auto")[0] == "torch"


@pytest.mark.skipif(not openvino_available(), reason="no OpenVINO")
def test_openvino_graphs_are_kept_and_read_again(
    backbone: Backbone, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "fp32" in openvino_precisions()
    clips = some_clips(2)
    first = engine_of(backbone, "openvino").features(clips)
    (graph,) = empty_cache.glob("openvino-*.xml")
    assert graph.with_suffix(".bin").is_file()
    assert {path.suffix for path in empty_cache.iterdir()} == {".xml", ".bin", ".sha256"}, "nothing unfinished is left"
    with monkeypatch.context() as patch:
        patch.setattr(_openvino, "_converted", None)
        np.testing.assert_array_equal(engine_of(backbone, "openvino").features(clips), first)
    weights = graph.with_suffix(".bin")
    weights.write_bytes(bytes(weights.stat().st_size))  # as after a power cut
    np.testing.assert_array_equal(engine_of(backbone, "openvino").features(clips), first)


@pytest.mark.skipif(not openvino_available(), reason="no OpenVINO")
def test_a_changed_network_gets_a_graph_of_its_own(backbone: Backbone) -> None:
    clips = some_clips(1)
    before = engine_of(backbone, "openvino").features(clips)
    changed = load_backbone(EMBEDDED, "random:0")
    for block in (module for module in changed.network.modules() if isinstance(module, nn.BatchNorm3d)):
        block.eps = 0.1
    assert not np.allclose(engine_of(changed, "openvino").features(clips), before, rtol=1e-3)


@pytest.mark.skipif(not openvino_available(), reason="no OpenVINO")
def test_auto_takes_torch_where_openvino_fails(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("an operator that it does not know")

    monkeypatch.setattr(_openvino, "_converted", fail)
    assert settled(load_backbone("r3d_18", "random:0"), "auto")[0] == "torch"


@pytest.mark.skipif(not openvino_available(), reason="no OpenVINO")
def test_a_cache_that_cannot_be_written_only_costs_time(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("UNTRIMMED_CACHE", str(tmp_path / "file"))
    assert engine_of(backbone, "openvino").features(some_clips(1)).shape == (1, 256)


def short_of_memory(engine: Engine, most: int, error: Exception, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have ``engine`` fail where more than ``most`` clips are computed at once; how many were, each time."""
    inner, lock, seen, now = engine._compute, threading.Lock(), [], 0

    def compute(clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        nonlocal now
        with lock:
            now += 1
            seen.append(now)
        try:
            time.sleep(0.01)
            if now > most:
                raise error
            return inner(clips)
        finally:
            with lock:
                now -= 1

    monkeypatch.setattr(engine, "_compute", compute)
    return seen


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("[enforce fail] can't allocate memory: you tried 1 TB")])
def test_out_of_memory_halves_the_batch(backbone: Backbone, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    clips = some_clips(9)
    expected = engine_of(backbone).features(clips)
    engine = Engine(backbone, given(), threads=4)
    assert engine.batch == 4
    seen = short_of_memory(engine, 1, error, monkeypatch)
    np.testing.assert_array_equal(engine.features(clips), expected)
    assert engine.batch == 1
    seen.clear()
    engine.features(clips)
    assert max(seen) == 1, "it stays so"


def test_memory_too_small_for_one_clip(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(backbone, given(), threads=2)
    short_of_memory(engine, 0, MemoryError(), monkeypatch)
    with pytest.raises(MachineError, match=r"out of memory with a single clip of 8x32x32 .*smaller --crop"):
        engine.features(some_clips(1))


def test_a_lost_gpu_is_told_apart(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of(backbone)
    short_of_memory(
        engine, 0, torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), monkeypatch
    )
    with pytest.raises(DeviceLostError, match="illegal memory access"):
        engine.features(some_clips(1))
    short_of_memory(engine, 0, RuntimeError("shape mismatch"), monkeypatch)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        engine.features(some_clips(1))
