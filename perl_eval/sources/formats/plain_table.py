"""Rows with named columns: a prompt and an answer each, under the names that most tools and people use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from perl_eval.records import Completion
from perl_eval.sources.containers import Brought
from perl_eval.sources.reading import FIELDS, Format, Import

__all__ = ["TABLE", "described"]


def described(found: Brought, *names: str) -> bool:
    """Return whether rows have one of some columns."""
    return any(found.has(name) for name in names)


def _read(found: Brought, reading: Import) -> Iterator[Mapping[str, Any]]:
    for cells in found.rows():
        if cells.get("instruction") and cells.get("input") and "prompt" not in reading.columns:
            # Alpaca's form: an instruction, and what it is about.
            yield {**cells, "prompt": f"{cells['instruction']}\n\n{cells['input']}"}
        else:
            yield cells


TABLE = Format(
    "table",
    Completion,
    "rows with a prompt and an answer in named columns (AlpacaEval's outputs, LLaMA-Factory's predictions)",
    lambda found: described(found, *FIELDS["prompt"], *FIELDS["text"]),
    _read,
    weak=True,
    plain=True,
    needs=f"{'|'.join(FIELDS['prompt'])} {'|'.join(FIELDS['text'])}",
)
