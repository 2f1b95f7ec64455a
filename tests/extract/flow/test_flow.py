"""Flow of pictures whose movement is known, its 8 bits against numbers worked by hand, and RAFT's preparation."""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torchvision.models import optical_flow

from extract.download import cached
from extract.errors import InputError, UsageError
from extract.flow import METHODS, Flow, FlowSettings, fetch_weights, flow_for, flow_frames, quantised
from extract.flow import _flow as flow_module
from extract.flow._settings import RAFT_FILES, Method

more = pytest.mark.more
Pixels = NDArray[np.uint8]
EDGE = 24


def scene(height: int, width: int) -> NDArray[np.float64]:
    """Noise of several sizes, (H, W, 3): texture everywhere."""
    noise = np.random.default_rng(0)
    layers = [
        sigma * ndimage.gaussian_filter(noise.standard_normal((height, width, 3)), (sigma, sigma, 0))
        for sigma in (1.5, 3, 6, 12)
    ]
    total = np.sum(layers, axis=0)
    return np.asarray(128 + 45 * (total - total.mean()) / total.std())


def moved(x_px: float, y_px: float, size: tuple[int, int] = (96, 128)) -> Pixels:
    """The scene, moved by so much to the right and down; by cubic splines where that is not a whole pixel."""
    whole = ndimage.shift(scene(size[0] + 64, size[1] + 64), (y_px, x_px, 0), order=3, mode="nearest")
    return np.clip(np.rint(whole[32:-32, 32:-32]), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("method", ["dis", "tvl1"])
@pytest.mark.parametrize(
    "by_px",
    [(3, 0), (0, -4), (0.5, 0), (-2.5, 1.5), pytest.param((7, 5), marks=more), pytest.param((-18, 9), marks=more)],
)
def test_a_known_translation_is_found_within_a_tenth_of_a_pixel(method: Method, by_px: tuple[float, float]) -> None:
    size = (96, 128) if max(map(abs, by_px)) < 5 else (256, 340)
    flow = Flow(FlowSettings(method=method))(moved(0, 0, size), moved(*by_px, size))
    assert flow.shape == (*size, 2)
    assert flow.dtype == np.float32
    edge = EDGE + round(max(map(abs, by_px)))
    assert np.abs(flow - np.array(by_px))[edge:-edge, edge:-edge].max() < 0.1


@pytest.mark.parametrize("method", list(RAFT_FILES))
def test_raft_finds_a_known_translation(method: Method) -> None:
    if cached(flow_module._RAFT_URL + RAFT_FILES[method]) is None:
        pytest.skip(f"the weights of {method} are not in the cache")
    flow = Flow(FlowSettings(method=method))(moved(0, 0, (192, 256)), moved(3, -2, (192, 256)))
    assert np.abs(flow - np.array([3, -2]))[EDGE:-EDGE, EDGE:-EDGE].mean() < 0.1


@pytest.mark.parametrize("method", ["dis", "tvl1"])
def test_flow_is_equal_to_the_last_bit_in_repeats_and_in_threads(method: Method) -> None:
    before, after, flow = moved(0, 0, (64, 64)), moved(2, 1, (64, 64)), Flow(FlowSettings(method=method))
    wanted = flow(before, after)
    flow(after, before)
    found = [flow(before, after)]
    threads = [threading.Thread(target=lambda: found.append(flow(before, after))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(np.array_equal(each, wanted) for each in found)


@pytest.mark.parametrize("size", [(1, 1), (8, 40), (15, 16), (9, 300), (300, 9), (17, 31)])
@pytest.mark.parametrize("method", ["dis", "tvl1"])
def test_pictures_of_any_size_have_a_flow(method: Method, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (2, *size, 3), np.uint8)
    flow = Flow(FlowSettings(method=method))(*noise)
    assert flow.shape == (*size, 2)
    assert np.isfinite(flow).all()


def test_rest_is_rest() -> None:
    still = moved(0, 0, (64, 64))
    assert not Flow(FlowSettings(method="dis"))(still, still).any()
    assert not Flow(FlowSettings(method="tvl1"))(still, still).any()


@pytest.mark.parametrize(
    "pair",
    [
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8)),
        (np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8)),
        (np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 3), np.float32)),
    ],
)
def test_other_pictures_are_refused(pair: tuple[Pixels, Pixels]) -> None:
    with pytest.raises(UsageError, match=r"expected two pictures of one size, \(H, W, 3\) uint8"):
        Flow(FlowSettings(method="dis"))(*pair)


def test_the_eight_bits_are_those_worked_by_hand() -> None:
    """255 (f + 20) / 40: rest is 127.5, which goes to the even 128; 255 / 40 = 6.375 levels a pixel."""
    flow = np.array([[[0, 1], [-1, 20], [-20, 25]], [[-1000, 0.5], [10, -10], [19.99, 0.07]]], np.float32)
    wanted = [[[128, 134], [121, 255], [0, 255]], [[0, 131], [191, 64], [255, 128]]]
    assert quantised(flow, 20.0).tolist() == wanted
    assert quantised(flow, 20.0).dtype == np.uint8
    assert quantised(np.array([[[2.0, -1.0]]], np.float32), 2.0).tolist() == [[[255, 64]]]


def test_a_level_is_never_further_than_half_a_level_from_its_movement() -> None:
    flow = np.linspace(-20, 20, 10001, dtype=np.float32)[:, None, None].repeat(2, 2)
    back = quantised(flow, 20.0).astype(np.float64) * 40 / 255 - 20
    assert np.abs(back - flow).max() <= 20 / 255 + 1e-6


def counting(calls: list[tuple[int, int]]) -> Flow:
    """A flow that says by how much the first pixel grew, and notes which pictures it was given."""

    def grown(before: Pixels, after: Pixels) -> NDArray[np.float32]:
        calls.append((int(before[0, 0, 0]), int(after[0, 0, 0])))
        return np.full((*before.shape[:2], 2), float(after[0, 0, 0]) - float(before[0, 0, 0]), np.float32)

    made: Callable[..., NDArray[np.float32]] = grown
    made.settings = SimpleNamespace(bound_px=20.0)  # type: ignore[attr-defined]
    return made  # type: ignore[return-value]


def test_frames_have_the_flow_to_the_next_and_the_last_repeats_it() -> None:
    frames = np.array([10, 12, 9, 19], np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 3), np.uint8)
    calls: list[tuple[int, int]] = []
    found = flow_frames(frames, counting(calls))
    assert found.shape == (4, 2, 3, 2)
    steps = [quantised(np.full((2, 3, 2), step, np.float32), 20.0) for step in (2, -3, 10, 10)]
    np.testing.assert_array_equal(found, np.stack(steps))
    assert calls == [(10, 12), (12, 9), (9, 19)]


def test_a_single_frame_is_at_rest_and_none_are_refused() -> None:
    flow = Flow(FlowSettings(method="dis"))
    assert (flow_frames(np.zeros((1, 4, 5, 3), np.uint8), flow) == np.full((1, 4, 5, 2), 128)).all()
    with pytest.raises(UsageError, match="at least one frame"):
        flow_frames(np.zeros((0, 4, 5, 3), np.uint8), flow)


def test_settings_say_all_that_changes_numbers() -> None:
    assert METHODS == ("dis", "tvl1", "raft_large", "raft_small")
    assert FlowSettings(method="tvl1").model_dump() == {
        "method": "tvl1",
        "bound_px": 20.0,
        "quantisation": "uint8-nearest",
        "weights": None,
    }
    raft = FlowSettings(method="raft_small")
    assert raft.weights == "raft_small_C_T_V2-01064c6d.pth"
    assert FlowSettings.model_validate(raft.model_dump()) == raft
    assert flow_for(FlowSettings(method="dis")) is flow_for(FlowSettings(method="dis"))
    with pytest.raises(ValueError, match="greater than 0"):
        FlowSettings(method="dis", bound_px=0.0)


def test_the_files_of_raft_are_torchvisions_defaults() -> None:
    urls = {
        "raft_large": optical_flow.Raft_Large_Weights.DEFAULT.url,
        "raft_small": optical_flow.Raft_Small_Weights.DEFAULT.url,
    }
    assert {name: flow_module._RAFT_URL + file for name, file in RAFT_FILES.items()} == urls


@pytest.fixture
def raft_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Random weights in place of the published ones; gives what was asked of the download."""
    torch.manual_seed(0)
    torch.save(optical_flow.raft_small(weights=None).state_dict(), tmp_path / "raft.pth")
    asked: list[str] = []

    def fetched(url: str, *, sha256_prefix: str, on_progress: object) -> Path:
        asked.append(f"{url} {sha256_prefix}")
        return tmp_path / "raft.pth"

    monkeypatch.setattr(flow_module, "fetch", fetched)
    return asked


def test_raft_is_torchvisions_on_pictures_made_fit(raft_at_hand: list[str]) -> None:
    """70 x 90 pixels become 128 x 128, by the pixels of the edge, as many on both sides."""
    flow = Flow(FlowSettings(method="raft_small"))
    before, after = moved(0, 0, (70, 90)), moved(2, 1, (70, 90))
    found = flow(before, after)
    torch.manual_seed(0)
    network = optical_flow.raft_small(weights=None).eval()
    wide = [np.pad(each, ((29, 29), (19, 19), (0, 0)), mode="edge") for each in (before, after)]
    given = [torch.from_numpy(each).permute(2, 0, 1)[None] for each in wide]
    with torch.inference_mode():
        wanted = network(*optical_flow.Raft_Small_Weights.DEFAULT.transforms()(*given))[-1][0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, wanted[29:-29, 19:-19], rtol=1e-3, atol=1e-3)
    assert np.array_equal(flow(before, after), found)
    assert raft_at_hand == ["https://download.pytorch.org/models/raft_small_C_T_V2-01064c6d.pth 01064c6d"]


def test_other_weights_of_raft_are_refused(raft_at_hand: list[str]) -> None:
    fetch_weights(FlowSettings(method="raft_large"))
    fetch_weights(FlowSettings(method="dis"))
    assert len(raft_at_hand) == 1
    with pytest.raises(InputError, match="weights of raft_large are of another network"):
        Flow(FlowSettings(method="raft_large"))
    old = FlowSettings(method="raft_small", weights="raft_small_C_T_V1-ad48884c.pth")
    with pytest.raises(UsageError, match=r"raft_small_C_T_V1-ad48884c\.pth; this version of untrimmed takes"):
        Flow(old)


def test_a_gpu_computes_the_flow_of_the_cpu(raft_at_hand: list[str]) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    pair = moved(0, 0, (128, 128)), moved(2, 1, (128, 128))
    on_cpu, on_gpu = (Flow(FlowSettings(method="raft_small"), device)(*pair) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(on_gpu, on_cpu, rtol=1e-2, atol=1e-2)


def test_a_file_that_was_changed_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNTRIMMED_CACHE", str(tmp_path))
    url = flow_module._RAFT_URL + RAFT_FILES["raft_small"]
    place = tmp_path / "weights" / f"{hashlib.sha256((url + '?').encode()).hexdigest()[:12]}-{url.rpartition('/')[2]}"
    place.parent.mkdir()
    place.write_bytes(b"something else")
    with pytest.raises(InputError, match="begins with 01064c6d"):
        Flow(FlowSettings(method="raft_small"))
