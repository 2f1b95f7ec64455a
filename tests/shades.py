"""The smallest clips that a network can be trained on: grey pictures, dark or light."""

from pathlib import Path

import numpy as np
from footage import H, W, encode, regular
from numpy.typing import NDArray


def film_grey(path: Path, level: int) -> None:
    """Three frames of one grey."""

    def picture(_index: int) -> NDArray[np.uint8]:
        return np.full((H, W, 3), level, np.uint8)

    path.parent.mkdir(parents=True, exist_ok=True)
    encode(path, regular(3), picture=picture)


def dark_and_light(root: Path) -> Path:
    """Two clips of each to train on, a.mp4 and b.mp4, and c.mp4 held out."""
    for label, level in (("dark", 30), ("light", 220)):
        for name in ("train/{}/a.mp4", "train/{}/b.mp4", "val/{}/c.mp4"):
            film_grey(root / name.format(label), level)
    return root
