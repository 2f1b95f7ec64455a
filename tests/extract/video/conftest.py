"""Files that several modules of tests read; nobody changes them."""

from pathlib import Path

import pytest
from footage import KINDS, encode, overwrite_packets, regular


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("videos")
    return {name: make(folder / name) for name, make in KINDS.items()}


@pytest.fixture
def plain(made: dict[str, Path]) -> Path:
    return made["b-frames.mp4"]


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = encode(tmp_path / "broken.mp4", regular(60), options={"bf": "2"})
    overwrite_packets(path, range(15, 18))
    return path
