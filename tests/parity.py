"""The shared parity fixtures: networks with made-up weights and the outputs that their originals gave."""

import importlib.util
import json
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

FIXTURES = Path(__file__).parents[2] / "shared" / "fixtures" / "backbones"
needs_fixtures = pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"the parity fixtures are not at {FIXTURES}")
FOLDERS = sorted(folder.name for folder in FIXTURES.glob("*") if folder.is_dir())


def backbone_name(folder: str) -> str:
    return folder.removeprefix("tv_")


@cache
def rule() -> ModuleType:
    """``make_weights.py``, which rebuilds weights and inputs from a manifest."""
    spec = importlib.util.spec_from_file_location("make_weights", FIXTURES / "make_weights.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(folder: str, file: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FIXTURES / folder / file).read_text(encoding="utf-8"))
    return content


def weights(folder: str, manifest: str = "manifest.json", **options: float) -> dict[str, Tensor]:
    """Tensors that nobody may change: the next test has the same."""
    return dict(_weights(folder, manifest, **options))


@lru_cache(maxsize=1)
def _weights(folder: str, manifest: str, **options: float) -> dict[str, Tensor]:
    arrays = rule().build_state(read(folder, manifest), **options)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def clip(shape: list[int]) -> Tensor:
    array: np.ndarray = rule().make_input(shape)
    return torch.from_numpy(array)


def assert_near(got: Tensor, expected: dict[str, Any], what: str) -> None:
    """RULE.md's tolerance: 2e-5 of the largest value, and 1e-5 of the norm."""
    assert list(got.shape) == expected["shape"], what
    values, first = got.double().numpy().ravel(), np.array(expected["first"])
    apart = np.abs(values[: len(first)] - first).max()
    assert apart <= 2e-5 * np.abs(first).max(), f"{what}: {apart}"
    assert np.linalg.norm(values) == pytest.approx(expected["l2"], rel=1e-5), what
