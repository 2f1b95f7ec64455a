"""Every test process has a cache folder of its own: what the user has downloaded is neither used nor touched."""

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNTRIMMED_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
