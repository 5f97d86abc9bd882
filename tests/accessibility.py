"""What axe-core finds of a page in a browser."""

from __future__ import annotations

import importlib.util
from importlib.resources import files
from typing import Any

import pytest
from chrome import Chrome


def axe() -> str:
    """Return the source of axe-core, as its package has it."""
    if importlib.util.find_spec("axe_playwright_python") is None:
        pytest.skip("axe-playwright-python is not installed")
    return files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")


def serious(chrome: Chrome) -> list[str]:
    """Return what axe-core finds of the page as it is, serious and worse: the rule and the first place."""
    chrome.script(axe())
    found: Any = chrome.script("return axe.run(document, { resultTypes: ['violations'] })")
    assert found["passes"], "axe-core looked at nothing"
    return [
        f"{one['id']} ({one['impact']}): {one['nodes'][0]['html'][:200]}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]
