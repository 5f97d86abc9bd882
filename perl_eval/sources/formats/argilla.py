"""Argilla's records: nested, as ``records.to_json`` writes them, and flat, as ``to_list(flatten=True)`` and data sets.

Sources: argilla 2.8 ``records/_io/_generic.py`` (``NAME.responses``, ``NAME.responses.users``,
``NAME.responses.status``), ``records/_resource.py`` and ``responses.py`` (status draft, submitted or discarded; the
nested form leaves it out).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from perl_eval.errors import DataError
from perl_eval.records import HumanLabel
from perl_eval.sources.containers import Brought
from perl_eval.sources.json_files import parts
from perl_eval.sources.label_rows import LabelMaker, named, not_given
from perl_eval.sources.questions import QuestionsMet
from perl_eval.sources.reading import Format, Import

__all__ = ["ARGILLA"]

_FLAT = ".responses"


def _is_flat(cells: Mapping[str, Any]) -> bool:
    return any(str(name).endswith(_FLAT) and f"{name}.users" in cells for name in cells)


def _is_nested(cells: Mapping[str, Any]) -> bool:
    return isinstance(cells.get("responses"), dict) and isinstance(cells.get("fields"), dict)


def _matches(found: Brought) -> bool:
    return any(_is_flat(cells) or _is_nested(cells) for cells in found.head[:1])


def _read(found: Brought, reading: Import) -> Iterator[HumanLabel]:
    make, question = LabelMaker(found.name, reading), named(reading.columns, "label")[0]
    person, note = named(reading.columns, "annotator")[0], named(reading.columns, "note")[0]
    asked = QuestionsMet(found.name, question)
    if found.document is not None and not _matches(found):
        raise DataError("is not a list of JSON objects", file=found.name, fix="export records.to_json")
    for row, cells in enumerate(found.rows()):
        data, responses = _parts(cells, found.name, row)
        asked.met((name, _kind(one.get("value"))) for name, given in responses.items() for one in given)
        texts = {
            (name, one.get("user_id")): str(one.get("value") or "")
            for name in (person, note)
            for one in responses.get(name, ())
        }
        for one in responses.get(question, ()):
            status, user = one.get("status") or "submitted", one.get("user_id")
            if status != "submitted":
                reading.left_out[f"responses that are {status}"] += 1
            elif one.get("value") is None or not_given(one["value"], reading.columns):
                reading.left_out["responses without a value"] += 1
            else:
                if one.get("status") is None:
                    reading.derived["status, taken as submitted"] += 1
                who = texts.get((person, user)) or str(user or "")
                yield make(row, data, _value(one["value"]), who, texts.get((note, user), ""))
        if not responses.get(question):
            reading.left_out[f"records without a response to {question!r}"] += 1
    asked.refuse_unless_answered()


def _parts(
    cells: Mapping[str, Any], file: str, row: int
) -> tuple[Mapping[str, Any], Mapping[str, list[Mapping[str, Any]]]]:
    """Return what a record is about, and its responses by question."""
    if _is_flat(cells) or not ("fields" in cells or "responses" in cells):
        names = [str(name)[: -len(_FLAT)] for name in cells if str(name).endswith(_FLAT)]
        if not names:
            raise _no_record(cells, file, row)
        return cells, {name: _flat(cells, name, file, row) for name in names}
    if not _is_nested(cells):
        raise _no_record(cells, file, row)
    metadata = cells.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise DataError("has metadata that are not an object", file=file, row=row, field="metadata")
    responses = {name: list(parts(given, f"responses.{name}", file, row)) for name, given in cells["responses"].items()}
    return {**cells["fields"], **metadata}, responses


def _no_record(cells: Mapping[str, Any], file: str, row: int) -> DataError:
    field = "responses" if isinstance(cells.get("fields"), dict) else "fields"
    return DataError("is not an Argilla record with fields and responses", file=file, row=row, field=field)


def _flat(cells: Mapping[str, Any], question: str, file: str, row: int) -> list[Mapping[str, Any]]:
    """Return the responses to one question of a flat record, as the nested form has them."""
    name = f"{question}{_FLAT}"
    values, users, states = (cells.get(one) for one in (name, f"{name}.users", f"{name}.status"))
    if values is None:
        return []
    states = [None] * len(values) if states is None and isinstance(values, list) else states
    lists = (values, users, states)
    if not all(isinstance(one, list) for one in lists) or len({len(one or ()) for one in lists}) != 1:
        raise DataError("values, users and status are not lists of one length", file=file, row=row, field=name)
    together = zip(values or (), users or (), states or (), strict=True)
    return [{"value": value, "user_id": user, "status": status} for value, user, status in together]


def _kind(value: Any) -> str:
    """Return the type of question that a response is to."""
    if isinstance(value, bool):
        return "label"
    if isinstance(value, int | float):
        return "rating"
    if isinstance(value, list):
        return "ranking" if any(isinstance(one, dict) and "rank" in one for one in value) else "multi-label"
    return "label" if isinstance(value, str) and len(value) <= _SHORT else "text"


_SHORT = 20
"""Longer answers are texts, not choices."""


def _value(value: Any) -> Any:
    """Return a response as a label: of a ranking the value that is alone in front, tie where none is."""
    if isinstance(value, list) and value and all(isinstance(one, dict) and "rank" in one for one in value):
        best = min(one["rank"] for one in value)
        leaders = [one.get("value") for one in value if one["rank"] == best]
        return leaders[0] if len(leaders) == 1 else "tie"
    return value


ARGILLA = Format(
    "argilla",
    HumanLabel,
    "Argilla's records, nested or flat; the question is called label, or --column label=NAME",
    _matches,
    _read,
    needs="fields responses",
)
