"""What all tests share: a cache of their own, and no hub."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_cache_and_no_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One cache a session, so that the sample is tokenised once; the user's own cache is never touched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIXLM_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield
