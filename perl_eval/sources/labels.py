"""Human labels from tables and from the exports of Label Studio and Argilla."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from perl_eval.errors import DataError, UserError
from perl_eval.outcomes import mirror, people_labels
from perl_eval.records import HumanLabel, unit_of
from perl_eval.sources.containers import opened
from perl_eval.sources.json_files import objects, parts
from perl_eval.sources.objects import mappings
from perl_eval.storage import run_folder

__all__ = ["LabelColumns", "labels", "read_labels"]

_MEANINGS = {
    **{name: name for name in people_labels()},
    **{"a": "win", "b": "loss", "left": "win", "right": "loss", "first": "win", "second": "loss", "lose": "loss"},
    **{"model_a": "win", "model_b": "loss", "1": "win", "2": "loss", "equal": "tie", "draw": "tie", "both": "tie"},
    **{"true": "yes", "false": "no", "thumbs_up": "yes", "thumbs_down": "no", "good": "yes", "bad": "no"},
}


@dataclass(frozen=True, slots=True)
class LabelColumns:
    """Where a label file keeps what a label needs. Rows that lack an annotator are one person's, ``unnamed``.

    Attributes:
        a: Id of completion a, or of the one completion; used where ``unit`` is not there.
        b: Id of completion b.
        unit: Id of the judged unit, where the file has it.
        label: The label; in Label Studio and Argilla the name of the question.
        annotator: Who gave it; in Label Studio and Argilla also the name of a text question that says so, where the
            tool's own user is not meant.
        group: What shares a source; the unit itself where the file has none.
        item: Id of the prompt; the unit itself where the file has none.
        weight: How many units the labelled one stands for; 1 where the file does not say.
        note: What the annotator added; in Label Studio and Argilla the name of a text question.
        a_is: ``second`` in rows that showed b first, so that ``first`` there means b.
    """

    a: str = "a"
    b: str = "b"
    unit: str = "unit"
    label: str = "label"
    annotator: str = "annotator"
    group: str = "group"
    item: str = "item"
    weight: str = "weight"
    note: str = "note"
    a_is: str = "a_is"


def labels(source: str | Path | Iterable[Any], *, columns: LabelColumns | None = None) -> list[HumanLabel]:
    """Return what somebody brought as human labels.

    Args:
        source: A run folder or its file; a ``.csv``, ``.jsonl`` or ``.parquet`` table; or HumanLabel records, a list of
            dicts, a DataFrame or a Dataset.
        columns: Where a table keeps what.

    Raises:
        UserError: There is no such file, or nothing of the kind.
        DataError: A column is missing, or a label means nothing here.

    Example:
        >>> import perl_eval as pe
        >>> found = pe.labels([{"a": "x1", "b": "y1", "label": "win", "annotator": "ann"}])
        >>> [(one.annotator, one.label) for one in found]
        [('ann', 'win')]
    """
    where = columns or LabelColumns()
    if isinstance(source, str | Path):
        path = Path(source)
        if path.is_dir() or path.name == run_folder.FILES[HumanLabel]:
            return run_folder.read(path, HumanLabel)
        if not path.is_file():
            raise UserError(f"no such file or folder: {path}", "check the path")
        return read_labels(path, "table", where)
    given = list(source) if isinstance(source, Sequence) else source
    if isinstance(given, list) and all(isinstance(one, HumanLabel) for one in given):
        return list(given)
    name = Path(f"the {type(source).__name__}")
    return [_label(one, name) for one in _labelled(mappings(given), name, where)]


def read_labels(source: Path, form: str = "table", columns: LabelColumns | None = None) -> list[HumanLabel]:
    """Read human labels; `form` is ``table``, ``label-studio`` or ``argilla``."""
    where = columns or LabelColumns()
    readers: dict[str, Callable[[Path, LabelColumns], Iterator[_Given]]] = {
        "table": _table,
        "label-studio": _label_studio,
        "argilla": _argilla,
    }
    return [_label(given, source) for given in readers[form](source, where)]


@dataclass(frozen=True, slots=True)
class _Given:
    """One label as another tool wrote it: the row it stands in, whose it is, what of."""

    row: int
    label: Any
    annotator: str
    data: Mapping[str, Any]
    columns: LabelColumns
    note: str = ""


def _label(given: _Given, file: Path) -> HumanLabel:
    names, data = given.columns, given.data
    unit = data.get(names.unit)
    if unit is None:
        if data.get(names.a) is None:
            raise DataError(
                f"has neither {names.unit!r} nor {names.a!r}; present are {', '.join(map(str, data))}",
                file=file,
                row=given.row,
                fix="name the columns that hold them",
            )
        unit = unit_of(str(data[names.a]), str(data.get(names.b) or ""))
    meaning = _MEANINGS.get(str(given.label).strip().lower())
    if meaning is None:
        raise DataError(
            f"label {given.label!r} means nothing here; known are {', '.join(_MEANINGS)}",
            file=file,
            row=given.row,
            field=names.label,
        )
    label: Any = mirror(meaning) if data.get(names.a_is) == "second" else meaning
    item, group = (str(unit if data.get(name) is None else data[name]) for name in (names.item, names.group))
    weight = _weight(data.get(names.weight), given, file)
    return HumanLabel(str(unit), item, group, given.annotator, label, note=given.note, weight=weight)


def _weight(value: Any, given: _Given, file: Path) -> float:
    try:
        weight = 1.0 if value is None or value == "" else float(value)
    except (TypeError, ValueError):
        weight = 0.0
    if not (isfinite(weight) and weight > 0):
        raise DataError(
            f"{value!r} is no weight", file=file, row=given.row, field=given.columns.weight, fix="give a number above 0"
        )
    return weight


def _table(source: Path, columns: LabelColumns) -> Iterator[_Given]:
    return _labelled(opened(source).rows(), source, columns)


def _labelled(rows: Iterable[Mapping[str, Any]], source: Path, columns: LabelColumns) -> Iterator[_Given]:
    for row, data in enumerate(rows):
        if columns.label not in data:
            raise DataError(
                f"no such column; present are {', '.join(map(str, data))}", file=source, row=row, field=columns.label
            )
        person, note = str(data.get(columns.annotator) or "unnamed"), str(data.get(columns.note) or "")
        yield _Given(row, data[columns.label], person, data, columns, note)


def _label_studio(source: Path, columns: LabelColumns) -> Iterator[_Given]:
    """Read Label Studio's JSON export: choices, or the side chosen in a pairwise comparison."""
    for row, task in enumerate(objects(source)):
        data = task.get("data")
        if not isinstance(data, dict) or not isinstance(task.get("annotations"), list):
            raise DataError("is no Label Studio task with data and annotations", file=source, row=row)
        for annotation in parts(task["annotations"], "annotations", source, row):
            if annotation.get("was_cancelled"):
                continue
            by = annotation.get("completed_by")
            results = parts(annotation.get("result"), "result", source, row)
            person = _said(results, columns.annotator) or str(by.get("id") if isinstance(by, dict) else by)
            for result in results:
                if result.get("from_name") == columns.label and result.get("type") in ("choices", "pairwise"):
                    yield _Given(row, _chosen(_value(result)), person, data, columns, _said(results, columns.note))


def _value(result: Mapping[str, Any]) -> Mapping[str, Any]:
    value = result.get("value")
    return value if isinstance(value, dict) else {}


def _chosen(value: Mapping[str, Any]) -> Any:
    """Return the chosen side of a pair, or the first of the choices; None if there is neither."""
    choices = value.get("choices")
    return value.get("selected") or (choices[0] if isinstance(choices, list) and choices else None)


def _said(results: Sequence[Mapping[str, Any]], question: str) -> str:
    """Return the answer to a text question of Label Studio, empty if there is none."""
    texts = [_value(result).get("text") for result in results if result.get("from_name") == question]
    return "\n".join(str(line) for text in texts for line in (text if isinstance(text, list) else [text or ""]))


def _argilla(source: Path, columns: LabelColumns) -> Iterator[_Given]:
    """Read Argilla's records as JSON: fields and metadata, and the responses to one question."""
    for row, record in enumerate(objects(source)):
        responses = record.get("responses")
        if not isinstance(responses, dict) or not isinstance(record.get("fields"), dict):
            raise DataError("is no Argilla record with fields and responses", file=source, row=row)
        metadata = record.get("metadata") or {}
        if not isinstance(metadata, dict):
            raise DataError("has metadata that are no object", file=source, row=row)
        data = {**record["fields"], **metadata}
        texts = {
            (name, response.get("user_id")): str(response.get("value"))
            for name in (columns.annotator, columns.note)
            for response in parts(responses.get(name), f"responses to {name}", source, row)
        }
        for response in parts(responses.get(columns.label), f"responses to {columns.label}", source, row):
            if response.get("status", "submitted") == "submitted":
                user = response.get("user_id")
                person, note = texts.get((columns.annotator, user), str(user)), texts.get((columns.note, user), "")
                yield _Given(row, response.get("value"), person, data, columns, note)
