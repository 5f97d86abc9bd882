"""No code of a model's own is ever run: whatever opens one says so, in so many words."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("perl_eval", "datasets_builders", "benchmarks", "examples", "scripts")
OPENERS = ("from_pretrained", "from_config", "pipeline", "snapshot_module", "get_class_from_dynamic_module")
WITHOUT = ("PeftModel", "DecisionConfig", "GenerationConfig")
"""Classes that load no code and take no such argument."""


def programs() -> Iterator[Path]:
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and (
                path.suffix == ".py" or (not path.suffix and path.read_bytes()[:20].startswith(b"#!/usr/bin/env pyth"))
            ):
                yield path


def opened_without(text: str) -> list[int]:
    """Return the lines of calls that open a model, and do not say ``trust_remote_code=False`` themselves."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        owner = getattr(function.value, "id", "") if isinstance(function, ast.Attribute) else ""
        if name not in OPENERS or owner in WITHOUT:
            continue
        said = [word.value for word in node.keywords if word.arg == "trust_remote_code"]
        if not (len(said) == 1 and isinstance(said[0], ast.Constant) and said[0].value is False):
            found.append(node.lineno)
    return found


def test_everything_that_opens_a_model_refuses_its_code() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}" for path in programs() for line in opened_without(path.read_text("utf-8"))
    ]
    assert wrong == []
    assert sum("trust_remote_code=False" in path.read_text("utf-8") for path in programs()) >= 4


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("AutoModel.from_pretrained(x)", [1]),
        ("AutoModel.from_pretrained(x, **told)", [1]),
        ("AutoModel.from_pretrained(x, trust_remote_code=True)", [1]),
        ("AutoModel.from_pretrained(x, trust_remote_code=flag)", [1]),
        ("transformers.pipeline('x')", [1]),
        ("AutoModel.from_pretrained(x, trust_remote_code=False)", []),
        ("PeftModel.from_pretrained(model, x)", []),
    ],
)
def test_it_is_seen_where_it_is_left_out(text: str, lines: list[int]) -> None:
    assert opened_without(text) == lines


def test_nobody_turns_it_on() -> None:
    for path in programs():
        assert "trust_remote_code=True" not in path.read_text("utf-8").replace(" ", ""), path
