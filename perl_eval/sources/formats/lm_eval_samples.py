"""Samples of lm-evaluation-harness: ``samples_*.jsonl`` that ``--log_samples`` writes, a row for each document.

A task with several filters has a row for each of them, with the same answers as generated (``resps``).

Source: EleutherAI/lm-evaluation-harness ``lm_eval/loggers/evaluation_tracker.py`` and ``lm_eval/evaluator.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from perl_eval.errors import DataError
from perl_eval.records import Completion
from perl_eval.sources.containers import Brought
from perl_eval.sources.reading import Format, Import, cell

__all__ = ["LM_EVAL"]

Cells = Mapping[str, Any]


def _matches(found: Brought) -> bool:
    return found.has("doc_id", "doc", "resps", "arguments")


def _read(found: Brought, reading: Import) -> Iterator[Cells]:
    policy = _policy(found.path)
    filter_of: dict[str, Any] = {}
    for row, cells in enumerate(found.rows()):
        item = str(cell(cells, "doc_id", (int, str), found.name, row))
        if filter_of.setdefault(item, cells.get("filter")) != cells.get("filter"):
            reading.left_out["rows of other filters, with the same answers"] += 1
            continue
        prompt = _prompt(cells, found.name, row)
        for said in _answers(cells, found.name, row):
            yield {"prompt": prompt, "text": said, "policy": policy, "item": item, "group": item}


def _prompt(cells: Cells, file: str, row: int) -> Any:
    """Return what the model was given: a text, or turns where a chat model was asked."""
    arguments = cell(cells, "arguments", (dict, list), file, row)
    requests = list(arguments.values()) if isinstance(arguments, dict) else arguments
    first = requests[0] if requests else None
    given = first.get("arg_0") if isinstance(first, dict) else first[0] if isinstance(first, list) and first else None
    if not isinstance(given, str):
        raise DataError("has no prompt", file=file, row=row, field="arguments")
    if given.startswith("[{"):
        try:
            return json.loads(given)
        except ValueError:
            return given
    return given


def _answers(cells: Cells, file: str, row: int) -> Iterator[str]:
    for several in cell(cells, "resps", list, file, row):
        for said in several if isinstance(several, list) else [several]:
            if not isinstance(said, str):
                raise DataError(
                    "has log-likelihoods, no answers",
                    file=file,
                    row=row,
                    field="resps",
                    fix="give a generate_until task",
                )
            yield said


def _policy(path: Path | None) -> str | None:
    """Return the model's name from the results beside, which are of the same date."""
    if path is None:
        return None
    results = path.with_name(f"results_{path.name.rpartition('_')[2].removesuffix('l')}")
    try:
        told = json.loads(results.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    name = told.get("model_name") or told.get("model_source") if isinstance(told, dict) else None
    return str(name) if name else None


LM_EVAL = Format(
    "lm-eval",
    Completion,
    "samples of lm-evaluation-harness (--log_samples)",
    _matches,
    _read,
    needs="doc_id doc resps arguments",
)
