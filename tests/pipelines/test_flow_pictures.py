"""Pictures and videos of flow: what moves has the colour of its direction, at its second."""

import json
from pathlib import Path

import numpy as np
import pytest
from commands import run
from footage import H, W, encode, regular
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from extract.errors import InputError, UsageError
from extract.flow import FlowSettings, flow_picture
from extract.video import open_video
from pipelines.flow_pictures import draw_flow

DIS = FlowSettings(method="dis", bound_px=4.0)


def ground() -> NDArray[np.float64]:
    """Smooth noise that goes around at its edges."""
    noise = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((H, W)), 2, mode="wrap")
    return np.asarray(128 + 60 * noise / np.abs(noise).max())


def moving(index: int) -> NDArray[np.uint8]:
    """Two pixels to the right with each of the first ten pictures, then two up."""
    right, up = min(index, 10), max(0, index - 10)
    picture = np.roll(ground(), (-2 * up, 2 * right), axis=(0, 1)).astype(np.uint8)
    return np.repeat(picture[..., None], 3, 2)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("videos") / "moving.mp4"
    return encode(path, regular(21), picture=moving, options={"crf": "12"})


def middles(drawn: NDArray[np.uint8]) -> list[list[float]]:
    """Median colour of the middle of each of the four panels."""
    height, width = drawn.shape[0] // 2, drawn.shape[1] // 2
    panels = [drawn[:height, :width], drawn[:height, width:], drawn[height:, :width], drawn[height:, width:]]
    inner = [panel[height // 3 : -height // 3, width // 3 : -width // 3] for panel in panels]
    return [np.median(each, axis=(0, 1)).tolist() for each in inner]


def assert_moves(drawn: NDArray[np.uint8], x_px: float, y_px: float, within: float) -> None:
    _, colour, right, down = middles(drawn)
    wanted = flow_picture(np.array([[[x_px, y_px]]], np.float32), DIS.bound_px)[0, 0]
    np.testing.assert_allclose(colour, wanted, atol=within)
    np.testing.assert_allclose(right, 127.5 * (1 + x_px / DIS.bound_px), atol=within)
    np.testing.assert_allclose(down, 127.5 * (1 + y_px / DIS.bound_px), atol=within)


@pytest.mark.parametrize(("second", "by_px"), [(0.1, (2, 0)), (0.7, (0, -2))])
def test_a_still_picture_shows_the_flow_at_its_second(
    video: Path, tmp_path: Path, second: float, by_px: tuple[int, int]
) -> None:
    motion = draw_flow(video, tmp_path / "flow.png", DIS, second=second, height_px=H)
    drawn = np.asarray(Image.open(tmp_path / "flow.png"))
    assert drawn.shape == (2 * H, 2 * W, 3)
    assert_moves(drawn, *by_px, within=8)
    assert motion.pictures == 1
    assert motion.mean_px == pytest.approx(2, abs=0.3)
    again = tmp_path / "again.png"
    draw_flow(video, again, DIS, second=second, height_px=H)
    assert again.read_bytes() == (tmp_path / "flow.png").read_bytes()


def test_a_video_shows_every_picture_and_its_flow(video: Path, tmp_path: Path) -> None:
    heard: list[float] = []
    motion = draw_flow(video, tmp_path / "flow.mp4", DIS, height_px=H, on_progress=heard.append)
    with open_video(tmp_path / "flow.mp4") as reader:
        batches = list(reader)
    drawn, seconds = (np.concatenate([getattr(each, name) for each in batches]) for name in ("pixels", "pts_s"))
    assert drawn.shape == (21, 2 * H, 2 * W, 3)
    np.testing.assert_allclose(seconds, np.arange(21) / 25, atol=1e-3)
    for index, picture in enumerate(drawn):
        assert_moves(picture, *((2, 0) if index < 10 else (0, -2)), within=25)  # of a lossy video
    assert motion.pictures == 21
    assert heard[-1] == 1.0
    assert heard == sorted(heard)


def test_at_a_lower_rate_flow_is_longer(video: Path, tmp_path: Path) -> None:
    motion = draw_flow(video, tmp_path / "flow.png", DIS, second=0.0, fps=12.5, height_px=H)
    assert motion.mean_px == pytest.approx(4, abs=0.3)


def test_the_command_says_how_much_moved(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "flow.png"
    assert run(monkeypatch, "render", "flow", str(video), "-o", str(output), "--second", "0.2", "--json", "-q") == 0
    found = json.loads(capsys.readouterr().out)
    assert found.keys() == {"output", "pictures", "mean_px", "most_px"}
    assert output.is_file()
    assert run(monkeypatch, "render", "flow", str(video), "-o", str(output), "--method", "brox") == 2
    assert "no optical flow called 'brox'; expected dis, tvl1" in capsys.readouterr().err


def test_a_single_picture_is_at_rest(tmp_path: Path) -> None:
    one = encode(tmp_path / "one.mp4", regular(1), picture=moving)
    motion = draw_flow(one, tmp_path / "flow.webm", DIS, height_px=H)
    assert (motion.pictures, motion.most_px) == (1, 0.0)
    with pytest.raises(InputError, match=r"has 1 of the two pictures that flow needs"):
        draw_flow(one, tmp_path / "flow.png", DIS, second=0.0)
    assert not (tmp_path / "flow.png").exists()


def test_what_cannot_be_drawn_is_refused(video: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected a name in \.png, \.webm, \.mp4"):
        draw_flow(video, tmp_path / "flow.gif", DIS)
    with pytest.raises(UsageError, match="--second 1 is for a still picture"):
        draw_flow(video, tmp_path / "flow.mp4", DIS, second=1.0)
    with pytest.raises(UsageError, match="is the video itself"):
        draw_flow(video, video, DIS)
    with pytest.raises(UsageError, match="--fps 60; expected pictures per second, above 0 and at most 30"):
        draw_flow(video, tmp_path / "flow.png", DIS, fps=60.0)
