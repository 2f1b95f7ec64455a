"""What all tests share: a cache folder of each process's own, and cases that only run where they are asked for.

`pytest.mark.more` is for the further, costly cases of an idea whose most telling cases always run.
"""

import os
from collections.abc import Iterator

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "more: another costly case of what others show; needs UNTRIMMED_ALL=1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
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
