"""A browser for the tests that look at the labelling page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from chrome import Chrome


@pytest.fixture(scope="session")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with Chrome(tmp_path_factory.mktemp("profile")) as browser:
        yield browser
