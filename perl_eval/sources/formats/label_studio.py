"""Label Studio's exports: JSON (tasks with annotations), JSON-MIN and CSV (one row an annotation).

Sources: label-studio-sdk 2.1 ``converter/converter.py`` (``convert_to_json_min``, ``annotation_result_from_task``),
``converter/exports/csv2.py`` and ``converter/utils.py`` (``prettify_result``, ``get_annotator``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from perl_eval.errors import DataError
from perl_eval.records import HumanLabel
from perl_eval.sources.containers import Brought
from perl_eval.sources.json_files import parts
from perl_eval.sources.label_rows import NAMES, LabelMaker, named, not_given
from perl_eval.sources.questions import QuestionsMet
from perl_eval.sources.reading import Format, Import

__all__ = ["LABEL_STUDIO"]

_OF_ROW = ("annotation_id", "lead_time")
"""Columns that JSON-MIN and CSV always have."""
_NO_QUESTION = {
    *(name for field, names in NAMES.items() for name in names if field != "label"),
    *("id", "annotator", "created_at", "updated_at", "agreement", "history", *_OF_ROW),
}
"""Columns that hold what was labelled, or what the tool itself knows."""


def _matches(found: Brought) -> bool:
    if not found.head:
        return False
    first = found.head[0]
    tasks = isinstance(first.get("data"), dict) and isinstance(first.get("annotations", first.get("completions")), list)
    return tasks or found.has(*_OF_ROW)


def _read(found: Brought, reading: Import) -> Iterator[HumanLabel]:
    return _rows(found, reading) if found.has(*_OF_ROW) and not found.has("annotations") else _tasks(found, reading)


def _tasks(found: Brought, reading: Import) -> Iterator[HumanLabel]:
    make, question = LabelMaker(found.name, reading), named(reading.columns, "label")[0]
    person, note = named(reading.columns, "annotator")[0], named(reading.columns, "note")[0]
    asked = QuestionsMet(found.name, question)
    for row, task in enumerate(found.rows()):
        data, given = task.get("data"), task.get("annotations", task.get("completions"))
        if not isinstance(data, dict) or not isinstance(given, list):
            field = "annotations" if isinstance(data, dict) else "data"
            what = "is not a Label Studio task with data and annotations"
            raise DataError(what, file=found.name, row=row, field=field)
        for annotation in parts(given, "annotations", found.name, row):
            if annotation.get("was_cancelled") or annotation.get("skipped"):
                reading.left_out["annotations that were skipped in Label Studio"] += 1
                continue
            results = parts(annotation.get("result"), "annotations.result", found.name, row)
            asked.met((str(one.get("from_name")), str(one.get("type"))) for one in results)
            answers = [one for one in results if one.get("from_name") == question]
            if not answers:
                reading.left_out[f"annotations without an answer to {question!r}"] += 1
            by = annotation.get("completed_by")
            who = _said(results, person) or str(by.get("id", by.get("email")) if isinstance(by, dict) else by)
            for one in answers:
                label = _chosen(one.get("value"))
                if label is not None and (why := not_given(label, reading.columns)):
                    reading.left_out[f"answers to {question!r} of which the value {why}"] += 1
                    continue
                yield make(row, data, label, "" if who == "None" else who, _said(results, note))
    asked.refuse_unless_answered()


def _rows(found: Brought, reading: Import) -> Iterator[HumanLabel]:
    """Read JSON-MIN or CSV: the task's data and the answers side by side, ``_data_NAME`` where they share a name."""
    make, question = LabelMaker(found.name, reading), named(reading.columns, "label")[0]
    note = named(reading.columns, "note")[0]
    asked = QuestionsMet(found.name, question)
    for row, cells in enumerate(found.rows()):
        if cells.get("annotation_id") in (None, ""):
            reading.left_out["tasks that nobody annotated"] += 1
            continue
        values = {name: _parsed(cell) for name, cell in cells.items()}
        asked.met((name, kind) for name, value in values.items() if name not in _NO_QUESTION and (kind := _kind(value)))
        label = _chosen(values.get(question))
        if not_given(label, reading.columns):
            reading.left_out[f"annotations without an answer to {question!r}"] += 1
            continue
        data = {**cells, **{name[6:]: cell for name, cell in cells.items() if name.startswith("_data_")}}
        by = cells.get("annotator")
        yield make(row, data, label, "" if by in (None, "") else str(by), str(cells.get(note) or ""))
    asked.refuse_unless_answered()


def _parsed(cell: Any) -> Any:
    """Return a cell of CSV that holds JSON as what it holds."""
    if isinstance(cell, str) and cell[:1] in ("[", "{"):
        try:
            return json.loads(cell)
        except ValueError:
            return cell
    return cell


def _kind(value: Any) -> str:
    """Return the type of question that an answer is of, empty for text that may be anything."""
    first = value[0] if isinstance(value, list) and value else value
    if isinstance(first, dict):
        names = (("selected", "pairwise"), ("rating", "rating"), ("choices", "choices"), ("text", "textarea"))
        return next((kind for name, kind in names if name in first), "")
    return "choice or text" if isinstance(first, str) and len(first) <= _SHORT else ""


_SHORT = 20
"""Longer texts in JSON-MIN and CSV are no choices that could be labels."""


def _chosen(value: Any) -> Any:
    """Return the chosen side of a pair, the rating, or the one choice; None if there is none of them."""
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    if not isinstance(value, dict):
        return value if isinstance(value, str | int | float) else None
    choices = value.get("choices")
    if isinstance(choices, list) and choices:
        return choices[0] if len(choices) == 1 else choices
    return value.get("selected", value.get("rating", value.get("number")))


def _said(results: Sequence[Mapping[str, Any]], question: str) -> str:
    """Return the answer to a text question, empty if there is none."""
    values = [one.get("value") for one in results if one.get("from_name") == question]
    texts = [value.get("text") for value in values if isinstance(value, dict)]
    return "\n".join(str(line) for text in texts for line in (text if isinstance(text, list) else [text or ""]))


LABEL_STUDIO = Format(
    "label-studio",
    HumanLabel,
    "Label Studio's exports: JSON, JSON-MIN and CSV; the question is called label, or --column label=NAME",
    _matches,
    _read,
    needs="data annotations",
)
