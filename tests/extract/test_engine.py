"""The engine: the same bits whatever the batch, and the numbers that plain torch gives."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from extract.backbones import EMBEDDED, Backbone, load_backbone
from extract.engine import BATCH, Engine, Precision, has_amx, settle_device, settle_precision
from extract.errors import MachineError, UsageError

MEAN, STD = (0.40, 0.45, 0.50), (0.20, 0.225, 0.25)
SMALL = (8, 32, 32)
FULL = (16, 112, 112)  # what the backbone's own clips are: torch may choose other kernels here


@pytest.fixture(autouse=True)
def threads_are_put_back() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(EMBEDDED, "random:0")


def engine(backbone: Backbone, precision: Precision = "fp32") -> Engine:
    return Engine(backbone, "cpu", precision, MEAN, STD)


def some_clips(n: int, shape: tuple[int, int, int] = SMALL, *, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (n, *shape, 3), np.uint8)


@pytest.mark.parametrize("shape", [SMALL, (5, 33, 40)])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_same_bits_with_any_batch_mates(backbone: Backbone, precision: Precision, shape: tuple[int, int, int]) -> None:
    run = engine(backbone, precision)
    clip, others = some_clips(1, shape), some_clips(BATCH, shape, seed=1)
    alone = run.features(clip)[0]
    assert alone.dtype == np.float32
    for n in (2, 7, BATCH):
        for place in {0, 1, n - 1}:
            mates = others[:n].copy()
            mates[place] = clip[0]
            np.testing.assert_array_equal(run.features(mates)[place], alone)
    mates = np.full((BATCH, *shape, 3), 255, np.uint8)
    mates[3] = clip[0]
    np.testing.assert_array_equal(run.features(mates)[3], alone)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_same_bits_with_any_number_of_threads(backbone: Backbone, precision: Precision) -> None:
    run, clips = engine(backbone, precision), some_clips(BATCH)
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found += [run.features(clips), run.features(clips[::-1])[::-1]]
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


def test_same_bits_at_full_size(backbone: Backbone) -> None:
    run, clips = engine(backbone), some_clips(BATCH, FULL)
    torch.set_num_threads(1)
    together = run.features(clips)
    torch.set_num_threads(2)
    np.testing.assert_array_equal(run.features(clips[5:6])[0], together[5])
    np.testing.assert_array_equal(run.features(clips[::-1])[::-1], together)


def plain(backbone: Backbone, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
    """One clip at a time, contiguous, normalised in numpy."""
    rows = []
    for clip in clips:
        x = (clip.astype(np.float64) / 255 - np.array(MEAN)) / np.array(STD)
        x = torch.from_numpy(np.ascontiguousarray(x.transpose(3, 0, 1, 2), np.float32))[None]
        rows.append(backbone.network.features(x)[0].numpy())
    return np.stack(rows)


@pytest.mark.parametrize("shape", [SMALL, FULL])
def test_equal_to_plain_torch(backbone: Backbone, shape: tuple[int, int, int]) -> None:
    clips = some_clips(2, shape)
    clips[1] = np.linspace(0, 255, clips[1].size).reshape(clips[1].shape)
    np.testing.assert_allclose(engine(backbone).features(clips), plain(backbone, clips), rtol=1e-4, atol=1e-6)


def test_bf16_is_near(backbone: Backbone) -> None:
    clips = some_clips(BATCH, (16, 64, 64))
    exact, near = engine(backbone).features(clips), engine(backbone, "bf16").features(clips)
    assert near.dtype == np.float32
    assert not np.array_equal(near, exact), "bf16 was not used"
    size, far = np.linalg.norm(exact, axis=1), np.linalg.norm(near - exact, axis=1)
    assert (far / size).max() < 0.01
    assert ((exact * near).sum(1) / size / np.linalg.norm(near, axis=1)).min() > 0.999


@pytest.mark.parametrize("n", [0, 1, BATCH - 1, BATCH, BATCH + 1, 2 * BATCH + 3])
def test_run_keeps_keys_and_order(backbone: Backbone, n: int) -> None:
    run, clips = engine(backbone), some_clips(n, (4, 32, 32))
    batches = list(run.run((f"clip {k}", clip) for k, clip in enumerate(clips)))
    assert [len(batch) for batch in batches] == [BATCH] * (n // BATCH) + [n % BATCH] * (n % BATCH > 0)
    found = [item for batch in batches for item in batch]
    assert [key for key, _ in found] == [f"clip {k}" for k in range(n)]
    for k in sorted({0, n // 2, n - 1} & set(range(n))):
        assert found[k][1].shape == (backbone.spec.feature_width,)
        np.testing.assert_array_equal(found[k][1], run.features(clips[k : k + 1])[0])


def test_run_takes_no_more_than_a_batch_ahead(backbone: Backbone) -> None:
    clips = iter([(k, clip) for k, clip in enumerate(some_clips(BATCH + 4, (4, 32, 32)))])
    next(engine(backbone).run(clips))
    assert next(clips)[0] == BATCH


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
    monkeypatch.setattr("extract.engine.has_amx", lambda: amx)
    assert settle_precision(precision, device) == settled


def test_impossible_precisions_are_refused() -> None:
    assert has_amx() in (True, False)
    with pytest.raises(UsageError, match="--precision fp16 is for GPUs; on a CPU use bf16 or fp32"):
        settle_precision("fp16", "cpu")
    for device in ("cpu", "cuda"):
        with pytest.raises(UsageError, match="--precision 'int8'; expected auto, fp32, bf16 or fp16"):
            settle_precision("int8", device)
