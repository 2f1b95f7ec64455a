"""Colours of known directions, and of all directions against torchvision's wheel."""

import numpy as np
import pytest
import torch
from torchvision.utils import flow_to_image

from extract.flow import flow_picture


@pytest.mark.parametrize(
    ("x_px", "y_px", "colour"),
    [
        (0, 0, (255, 255, 255)),
        (4, 0, (255, 0, 0)),
        (2, 0, (255, 127, 127)),
        (0, 4, (255, 229, 0)),  # 13.5 of the 15 hues from red to yellow
        (-4, 0, (0, 209, 255)),  # two of the 11 hues from cyan to blue
        (0, -4, (88, 0, 255)),  # 4.5 of the 13 hues from blue to magenta
        (8, 0, (191, 0, 0)),  # beyond what is drawn: darker
    ],
)
def test_known_directions_have_the_colours_of_the_wheel(x_px: float, y_px: float, colour: tuple[int, int, int]) -> None:
    found = flow_picture(np.array([[[x_px, y_px]]], np.float32), 4.0)
    assert found.shape == (1, 1, 3)
    assert found.dtype == np.uint8
    np.testing.assert_allclose(found[0, 0].astype(int), colour, atol=1)


def test_all_directions_are_as_torchvision_draws_them() -> None:
    """It scales by the longest movement, of which one is put into the corner."""
    flow = np.random.default_rng(0).uniform(-2, 2, (40, 50, 2)).astype(np.float32)
    flow[0, 0] = 3, 0
    theirs = flow_to_image(torch.from_numpy(flow).permute(2, 0, 1)).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(flow_picture(flow, 3.0).astype(int), theirs.astype(int), atol=2)
