"""A store that another process makes while this one looks for it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from extract.store import FeatureStore
from extract.store.objects import LocalObjects

RECIPE = {"feature_width": 3, "stored_dtype": "float16"}


@pytest.mark.parametrize("look", [FeatureStore.find, lambda path: FeatureStore.open_or_create(path, RECIPE)])
def test_a_store_that_is_made_meanwhile_is_found(
    look: Callable[[Path], FeatureStore | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_unused = LocalObjects.is_unused

    def late(objects: LocalObjects) -> bool:
        monkeypatch.undo()
        FeatureStore.create(tmp_path / "store", RECIPE)
        return is_unused(objects)

    monkeypatch.setattr(LocalObjects, "is_unused", late)
    store = look(tmp_path / "store")
    assert store is not None
    assert dict(store.recipe) == RECIPE
