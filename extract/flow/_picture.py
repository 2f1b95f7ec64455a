"""Flow as people see it.

H W pixels.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

# How many hues lie from red to yellow, yellow to green, green to cyan, cyan to blue, blue to magenta, magenta to red.
_ARCS = (15, 6, 4, 11, 13, 6)
_CORNERS = ((1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 1), (1, 0, 0))


def flow_picture(flow: NDArray[np.float32], bound_px: float) -> NDArray[np.uint8]:
    """Flow (H, W, 2) in pixels -> (H, W, 3) uint8 RGB: hue is direction, and the paler, the slower; rest is white.

    Red moves right, yellow down, cyan to blue left, violet up. What moves ``bound_px`` has full colour, what moves
    further is darker.
    Baker et al., "A Database and Evaluation Methodology for Optical Flow", IJCV 2011, section 4.1.3 and figure 8.
    """
    x, y = np.moveaxis(flow.astype(np.float64) / bound_px, -1, 0)
    turn = (np.arctan2(y, x) / (2 * np.pi)) % 1  # 0 right, a quarter down
    hues = _wheel()
    place = turn * (len(hues) - 1)
    at = place.astype(int)
    part = (place - at)[..., None]
    hue = (1 - part) * hues[at] + part * hues[(at + 1) % len(hues)]
    length = np.hypot(x, y)[..., None]
    colour = np.where(length <= 1, 1 - length * (1 - hue), 0.75 * hue)
    picture: NDArray[np.uint8] = np.floor(255 * colour).astype(np.uint8)
    return picture


@cache
def _wheel() -> NDArray[np.float64]:
    """The hues around the circle, (55, 3) in 0..1: as many in each arc as one can tell apart."""
    corners = np.array(_CORNERS, np.float64)
    return np.concatenate(
        [
            corners[at] + (corners[at + 1] - corners[at]) * (np.arange(count) / count)[:, None]
            for at, count in enumerate(_ARCS)
        ]
    )
