"""The story that the tests of the report tell, written once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from chrome import Chrome
from report_story import write_story


@pytest.fixture(scope="session")
def story(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of run folders: training, judging, scoring, labels, agreement."""
    return write_story(tmp_path_factory.mktemp("story") / "demo")


@pytest.fixture(scope="session")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with Chrome(tmp_path_factory.mktemp("profile")) as browser:
        yield browser
