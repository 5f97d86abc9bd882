"""Tables of labels: one label a row, in named columns; or one column a rater."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from perl_eval.errors import DataError
from perl_eval.records import HumanLabel
from perl_eval.sources.column_names import columns_typed
from perl_eval.sources.containers import Brought
from perl_eval.sources.label_rows import NAMES, LabelMaker, meaning_of, named, not_given
from perl_eval.sources.reading import FIELDS, Format, Import

__all__ = ["TABLE", "WIDE"]

_KNOWN = frozenset(name for names in NAMES.values() for name in names)
_NO_RATER = frozenset(("id", "index", "row", "turn", "rank", "tstamp", "seed", "split", "language"))
"""Columns whose numbers are no labels."""
_ABOUT = ("unit", "a", "item", "prompt")
"""One of these says what was labelled."""


def _has(found: Brought, *fields: str) -> bool:
    return any(found.has(name) for field in fields for name in NAMES[field])


def _matches(found: Brought) -> bool:
    if not (_has(found, "label") and _has(found, *_ABOUT)):
        return False
    if not any(found.has(name) for name in FIELDS["text"]):
        return True
    # Answers beside: their `label` may be the known good answer.
    said = [(cells.get(name), cells) for cells in found.head for name in NAMES["label"] if name in cells]
    return any(_means(cell, cells, Import()) for cell, cells in said)


def _read(found: Brought, reading: Import) -> Iterator[HumanLabel]:
    make = LabelMaker(found.name, reading, contestants=_names_contestants(found, reading))
    names = {field: named(reading.columns, field) for field in ("label", "annotator", "note")}
    for row, cells in enumerate(found.rows()):
        _refuse_missing(reading.columns, cells, found.name, row)
        column = next((name for name in names["label"] if name in cells), None)
        if column is None:
            what = f"no such column; present are {', '.join(map(str, cells))}"
            raise DataError(what, file=found.name, row=row, field=names["label"][0], fix=_named_label(cells))
        if why := not_given(cells[column], reading.columns):
            reading.left_out[f"rows whose {column} {why}"] += 1
            continue
        yield make(row, cells, cells[column], make.cell(cells, "annotator"), make.cell(cells, "note"))


def _named_label(cells: Mapping[str, Any]) -> str:
    return f"name it: {columns_typed(['label'], list(map(str, cells)))}"


def _refuse_missing(columns: Mapping[str, str], cells: Mapping[str, Any], file: str, row: int) -> None:
    for field, column in columns.items():
        if field != "yes_from" and column not in cells:
            what = f"no such column; present are {', '.join(map(str, cells))}"
            raise DataError(what, file=file, row=row, field=column, fix=f"name the column of {field}")


def _names_contestants(found: Brought, reading: Import) -> bool:
    """Return whether columns a and b name policies: the label is the winner, or one a stands at several items."""
    if not found.head or {"a", "b", "policy_a", "policy_b"} & set(reading.columns) or _has(found, "policy_a"):
        return False
    if found.has("winner") and not found.has("label"):
        return True
    items: dict[Any, set[Any]] = {}
    for cells in found.head:
        item = next((cells[name] for name in named(reading.columns, "item") if name in cells), None)
        if item is not None and cells.get("a") is not None:
            items.setdefault(cells["a"], set()).add(item)
    return any(len(met) > 1 for met in items.values())


def _raters(found: Brought, reading: Import) -> Sequence[str]:
    """Return the columns of raters: those that were named, or those of which most first cells are labels."""
    typed = reading.columns.get("annotator", "").split(",")
    if len(typed) > 1:
        return typed
    if not found.head:
        return ()
    taken = {*_KNOWN, *_NO_RATER, *reading.columns.values()}
    raters = []
    for name in found.head[0]:
        filled = [cells[name] for cells in found.head if not not_given(cells.get(name), reading.columns)]
        meant = sum(
            _means(cells[name], cells, reading)
            for cells in found.head
            if not not_given(cells.get(name), reading.columns)
        )
        if name not in taken and filled and 2 * meant > len(filled):
            raters.append(name)
    return raters


def _means(cell: Any, cells: Mapping[str, Any], reading: Import) -> bool:
    sides = [cells.get(name) for field in ("policy_a", "policy_b") for name in named(reading.columns, field)]
    return meaning_of(reading.meant(cell), reading.columns) is not None or (cell in sides)


def _is_wide(found: Brought) -> bool:
    return not _has(found, "label") and _has(found, *_ABOUT) and len(_raters(found, Import())) > 1


def _read_wide(found: Brought, reading: Import) -> Iterator[HumanLabel]:
    raters = _raters(found, reading)
    columns = {field: name for field, name in reading.columns.items() if field != "annotator"}
    apart = Import(columns, derived=reading.derived, means=reading.means, met=reading.met)
    make = LabelMaker(found.name, apart, contestants=_a_is_known(found))
    if not raters:
        what = f"has no column of labels; present are {', '.join(map(str, found.head[0] if found.head else ()))}"
        raise DataError(what, file=found.name, fix="name them: --column annotator=ANN,BOB")
    for row, cells in enumerate(found.rows()):
        _refuse_missing({**columns, **{rater: rater for rater in raters}}, cells, found.name, row)
        for rater in raters:
            if not_given(cells[rater], columns):
                reading.left_out["empty cells: units that a rater did not label"] += 1
            else:
                yield make(row, cells, cells[rater], rater, make.cell(cells, "note"), column=rater)


def _a_is_known(found: Brought) -> bool:
    return _names_contestants(found, Import())


TABLE = Format(
    "table",
    HumanLabel,
    "one label a row: item, policy_a, policy_b (or a, b of completions), label or winner, annotator",
    _matches,
    _read,
    needs=f"{'|'.join(NAMES['label'])} {'|'.join(name for field in _ABOUT for name in NAMES[field])}",
)
WIDE = Format("wide", HumanLabel, "one column a rater: item, policy_a, policy_b, ANN, BOB", _is_wide, _read_wide)
