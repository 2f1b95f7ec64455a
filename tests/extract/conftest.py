"""Translated checkpoints of a test are gone with it: all of them together are gigabytes."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache_of_one_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNTRIMMED_CACHE", str(tmp_path / "cache"))
