"""What all tests share: a cache folder of each process's own, and cases that only run where they are asked for.

`pytest.mark.more` is for the further, costly cases of an idea whose most telling cases always run.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Long files begin first, so that no process is left with one at the end (each file is one process's own).
LONG = (
    "test_documents.py",
    "real/test_dask_parts.py",
    "real/test_machines.py",
    "extract/test_engine.py",
    "extract/backbones/test_contract.py",
    "extract/backbones/test_parity.py",
    "pipelines/test_accidents.py",
)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "more: another costly case of what others show; needs UNTRIMMED_ALL=1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    first = {Path(__file__).parent / name: at for at, name in enumerate(LONG)}
    items.sort(key=lambda item: first.get(item.path, len(first)))
    if os.environ.get("UNTRIMMED_ALL") != "1":
        for item in items:
            if item.get_closest_marker("more"):
                item.add_marker(pytest.mark.skip(reason="more of what others show; UNTRIMMED_ALL=1 runs it"))


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the user has downloaded is neither used nor touched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNTRIMMED_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
