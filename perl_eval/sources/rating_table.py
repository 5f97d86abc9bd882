"""Tables of ratings that people bring: one rating a row, or one column a rater."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from perl_eval.errors import DataError
from perl_eval.sources import user_table

__all__ = ["RatingColumns", "Ratings", "ratings_of"]

Row = tuple[str, str, Any, str]
"""Unit, rater, rating (None where there is none) and group."""
_UNITS = ("item", "question_id", "id")
"""What tables call the unit where they have no column of the name asked for."""
_RATERS = ("judge", "rater")
_ABOUT = ("prompt", "text", "text_a", "text_b", "policy", "policy_a", "policy_b", "dataset")
"""Columns of a wide table that no rater wrote."""


@dataclass(frozen=True, slots=True)
class RatingColumns:
    """Where a table of ratings keeps what.

    A table without a column of raters has one column a rater: all but the unit and the group, or those that ``rater``
    names, with commas between.

    Attributes:
        unit: What was rated; ``item``, ``question_id`` or ``id`` where the table has no column of this name.
        rater: Who rated it; ``judge`` or ``rater`` where the table has no column of this name.
        label: The rating: a label, or a number.
        group: What shares a source; units are independent where the table has none.
    """

    unit: str = "unit"
    rater: str = "annotator"
    label: str = "label"
    group: str = "group"


@dataclass(frozen=True, slots=True)
class Ratings:
    """A table of ratings, read.

    Attributes:
        rows: One rating each.
        raters: Who rated, each once.
    """

    rows: Sequence[Row]
    raters: Sequence[str]


def ratings_of(source: Any, columns: RatingColumns, *, numbers: bool) -> Ratings:
    """Read a table of ratings, long or wide.

    Args:
        source: A parquet, CSV or JSON lines file, or a `datasets.Dataset`.
        columns: Where it keeps what.
        numbers: Whether ratings are numbers.

    Raises:
        UserError: There is no such file.
        DataError: A column is missing, a cell of unit or rater is empty, or a rating is not a number.
    """
    present = user_table.columns(source)
    unit = _first(present, columns.unit, "unit", _UNITS)
    wide = _wide(present, columns, unit)
    if wide:
        return _of_wide(source, unit, columns.group, wide, numbers=numbers)
    rater = _first(present, columns.rater, "annotator", _RATERS)
    sheet = user_table.read(source, (unit, rater, columns.label), optional=(columns.group,))
    units, raters = sheet.full_texts(unit), sheet.full_texts(rater)
    given: Sequence[Any] = sheet.numbers(columns.label) if numbers else sheet.texts(columns.label)
    groups = sheet.full_texts(columns.group) if sheet.has(columns.group) else units
    return Ratings(list(zip(units, raters, given, groups, strict=True)), list(dict.fromkeys(raters)))


def _first(present: Sequence[str], asked: str, usual: str, others: Sequence[str]) -> str:
    """Return the column asked for; where only the usual one was and it is not there, the first other that is."""
    if asked in present or asked != usual:
        return asked
    return next((name for name in others if name in present), asked)


def _wide(present: Sequence[str], columns: RatingColumns, unit: str) -> Sequence[str]:
    """Return the columns of raters, none where one column says who rated."""
    if "," in columns.rater:
        return columns.rater.split(",")
    if columns != RatingColumns(unit=columns.unit, group=columns.group) or columns.label in present:
        return ()
    if {columns.rater, *_RATERS} & set(present) or unit not in present:
        return ()
    found = [name for name in present if name not in (unit, columns.group, *_ABOUT)]
    return found if len(found) > 1 else ()


def _of_wide(source: Any, unit: str, group: str, raters: Sequence[str], *, numbers: bool) -> Ratings:
    sheet = user_table.read(source, (unit, *raters), optional=(group,))
    units = sheet.full_texts(unit)
    groups = sheet.full_texts(group) if sheet.has(group) else units
    if len(set(units)) < len(units):
        row = next(place for place, name in enumerate(units) if name in units[:place])
        what = f"{units[row]!r} has two rows, and each column is one rater"
        raise DataError(what, file=sheet.name, row=row, field=unit, fix="give one row a unit, or one rating a row")
    rows: list[Row] = []
    for rater in raters:
        given: Sequence[Any] = sheet.numbers(rater) if numbers else sheet.texts(rater)
        rows += [(name, rater, rating, of) for name, rating, of in zip(units, given, groups, strict=True)]
    return Ratings(rows, list(raters))
