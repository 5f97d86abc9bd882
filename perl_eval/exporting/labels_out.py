"""People's labels to the files of labelling tools: tasks of Label Studio, records of Argilla.

Sources: label-studio-sdk 2.1 ``converter/converter.py`` (annotation_result_from_task); argilla 2.8
``records/_io/_generic.py`` and ``_resource.py`` (fields, metadata, responses by question).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from perl_eval.exporting.grouped import grouped
from perl_eval.exporting.layouts import Layout, Tally, write_json
from perl_eval.records import HumanLabel

__all__ = ["LABELS"]

_PEOPLE = uuid.UUID("6f1c3f0a-5a0e-4f5e-9a5c-7d0c5b1e8a42")
"""Name space of the user ids that annotators get in Argilla, which takes UUIDs only; that of our labelling page."""
_HELD = frozenset(
    ("unit", "item", "group", "annotator", "label", "note", "weight", "policy_a", "policy_b", "simulated")
)


def _about(one: HumanLabel) -> dict[str, Any]:
    """Return what was labelled; what is empty is left out."""
    names = ("unit", "item", "group", "policy_a", "policy_b", "weight", "simulated")
    cells = {name: getattr(one, name) for name in names}
    return {name: value for name, value in cells.items() if value != ""}


def _write_units(
    found: Iterable[HumanLabel], out: Path, tally: Tally, row: Callable[[int, list[HumanLabel]], dict[str, Any]]
) -> None:
    """Write a row for each unit, made of its number and its labels; what is counted are the labels."""
    labels = 0

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal labels
        for number, given in enumerate(grouped(found, lambda one: tuple(_about(one).items())), start=1):
            labels += len(given)
            yield row(number, given)

    write_json(out, rows(), tally)
    tally.rows = labels


def _label_studio(found: Iterable[HumanLabel], out: Path, tally: Tally) -> None:
    def result(name: str, kind: str, value: Mapping[str, Any]) -> dict[str, Any]:
        return {"from_name": name, "to_name": "item", "type": kind, "value": value}

    def annotation(place: int, one: HumanLabel) -> dict[str, Any]:
        results = [
            result("label", "choices", {"choices": [one.label]}),
            result("annotator", "textarea", {"text": [one.annotator]}),
        ]
        return {
            "id": place,
            "result": [*results, *([result("note", "textarea", {"text": [one.note]})] if one.note else [])],
        }

    numbers = count(1)  # Label Studio's exports number tasks and annotations

    def task(number: int, given: list[HumanLabel]) -> dict[str, Any]:
        annotations = [annotation(next(numbers), one) for one in given]
        return {"id": number, "data": _about(given[0]), "annotations": annotations}

    _write_units(found, out, tally, task)


def _argilla(found: Iterable[HumanLabel], out: Path, tally: Tally) -> None:
    def user(name: str, again: int) -> str:
        return str(uuid.uuid5(_PEOPLE, name if not again else f"{name}, label {again + 1}"))

    def record(_: int, given: list[HumanLabel]) -> dict[str, Any]:
        met: dict[str, int] = {}
        responses: dict[str, list[dict[str, str]]] = {"label": [], "annotator": [], "note": []}
        for one in given:
            who = user(one.annotator, met.setdefault(one.annotator, 0))
            met[one.annotator] += 1
            for name, answers in responses.items():
                if value := getattr(one, name):
                    answers.append({"value": value, "user_id": who, "status": "submitted"})
        about = _about(given[0])
        return {
            "id": str(uuid.uuid5(_PEOPLE, repr(sorted(about.items())))),
            "fields": {"item": about.get("item") or about.get("unit", "")},
            "metadata": about,
            "suggestions": {},
            "responses": {name: answers for name, answers in responses.items() if answers},
            "vectors": {},
        }

    _write_units(found, out, tally, record)


LABELS: Sequence[Layout] = (
    Layout(
        "label-studio",
        (HumanLabel,),
        "tasks of Label Studio with their annotations (JSON)",
        _label_studio,
        _HELD,
        ".json",
    ),
    Layout("argilla", (HumanLabel,), "records of Argilla, as records.from_json takes them", _argilla, _HELD, ".json"),
)
