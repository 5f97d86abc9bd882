"""A plugin of pytest for scripts/drift: writes every warning, by package, to the file PERL_EVAL_SEEN_WARNINGS."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

_INSTALLED = re.compile(r"site-packages[/\\]([A-Za-z0-9_]+)")


def pytest_warning_recorded(warning_message: Any) -> None:
    """Write package (or our own module that called it), category and the first line of the message."""
    place = str(warning_message.filename)
    match = _INSTALLED.search(place)
    package = match[1] if match else Path(place).name
    said = (str(warning_message.message).strip().splitlines() or [""])[0][:160]
    with Path(os.environ["PERL_EVAL_SEEN_WARNINGS"]).open("a", encoding="utf-8") as file:
        file.write(json.dumps([package, warning_message.category.__name__, said]) + "\n")
