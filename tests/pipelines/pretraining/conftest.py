"""One thread, so that trainings repeat, and the smallest clips to train on."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from shades import dark_and_light


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    return dark_and_light(tmp_path / "clips")
