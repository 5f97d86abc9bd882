"""Which completion meets which: the units of a contest, and the order to ask about them.

Only ids, items and draws are held; the completions themselves are read from their files when it is their turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from perl_eval.errors import DataError, UserError
from perl_eval.records import Completion
from perl_eval.storage import parquet
from perl_eval.storage.external_sort import Ordered, Places, column

__all__ = [
    "JUDGED",
    "Matching",
    "Pairs",
    "drawn",
    "index",
    "match",
    "pairs",
    "placed",
    "refuse_other_prompts",
    "stored",
]

_EXAMPLES = 3
_INDEX = pa.schema([("id", pa.string()), ("item", pa.string()), ("draw", pa.int64())])
JUDGED = pa.schema([pa.field("a", pa.string(), nullable=False), pa.field("b", pa.string(), nullable=False)])
"""The columns of judgements that say what was judged."""


class Matching(NamedTuple):
    """Units, a row each, sorted by item and draw, and the ids of what is left over.

    The columns of ``units`` are ``item``, ``draw``, ``id_a``, ``row_a`` and, of pairs, ``id_b`` and ``row_b``; without
    a contestant b ``id_b`` is empty.
    """

    units: pa.Table
    only_a: list[str]
    only_b: list[str]


class Pairs(NamedTuple):
    """Matched completions, and the ids of those left over."""

    matched: list[tuple[Completion, Completion]]
    only_a: list[str]
    only_b: list[str]


def pairs(a: Iterable[Completion], b: Iterable[Completion]) -> Pairs:
    """Match completions of the same item and draw.

    Raises:
        UserError: Nothing matches, one side has two completions of one item and draw, or a pair's prompts differ.
    """
    ours, theirs = list(a), list(b)
    found = match(_index_of(ours), _index_of(theirs))
    rows = zip(found.units["row_a"].to_pylist(), found.units["row_b"].to_pylist(), strict=True)
    matched = [(ours[one], theirs[other]) for one, other in rows]
    for one, other in matched:
        if (one.prompt, one.images) != (other.prompt, other.images):
            raise _other_prompt(one.item)
    return Pairs(matched, found.only_a, found.only_b)


def _index_of(completions: Sequence[Completion]) -> pa.Table:
    columns = ([one.id for one in completions], [one.item for one in completions], [one.draw for one in completions])
    return pa.table(list(columns), schema=_INDEX)


def index(path: Path) -> pa.Table:
    """Read id, item and draw of the completions in a file.

    Raises:
        UserError: There is no such file.
        DataError: It is not a table of completions, or one of them lacks its id, item or draw, or has another one's id.
    """
    batches = [batch.select(_INDEX.names) for batch in parquet.batches(path, Completion, _INDEX.names)]
    if not batches:
        return _INDEX.empty_table()
    table = pa.Table.from_batches(batches)
    for name in _INDEX.names:
        if table[name].null_count:
            raise DataError("is empty", file=path, row=pc.index(table[name].is_null(), True).as_py(), field=name)
    parquet.refuse_repeated(table["id"], path, "id")
    try:
        return table.cast(_INDEX)
    except pa.ArrowInvalid as error:
        raise DataError(f"does not fit its column ({error})", file=path, field="draw") from None


def match(a: pa.Table, b: pa.Table | None) -> Matching:
    """Match completions of the same item and draw, or take those of a alone.

    Args:
        a: Id, item and draw of each completion of contestant a.
        b: Those of contestant b, if there is one.

    Raises:
        UserError: Nothing matches, or one side has two completions of one item and draw.
    """
    if b is None:
        rows = np.arange(len(a))
        return Matching(_units(a, rows).append_column("id_b", pa.array([""] * len(a), pa.string())), [], [])
    keys, others = _keys(a, "A"), _keys(b, "B")
    partners = pc.index_in(keys, others).fill_null(-1).to_numpy()
    rows = np.flatnonzero(partners >= 0)
    if not len(rows):
        raise UserError(
            f"no item is in both: A has {_named(a)}, B has {_named(b)}",
            "sample both from the same prompts, with the same number of draws",
        )
    only_a, only_b = np.flatnonzero(partners < 0), np.setdiff1d(np.arange(len(b)), partners)
    found = _units(a, rows)
    found = found.append_column("id_b", b["id"].take(column(partners[rows])))
    found = found.append_column("row_b", column(partners[rows]))
    left_over = [sorted(side["id"].take(column(rest)).to_pylist()) for side, rest in ((a, only_a), (b, only_b))]
    return Matching(found.sort_by([("item", "ascending"), ("draw", "ascending")]), *left_over)


def _units(completions: pa.Table, rows: Places) -> pa.Table:
    chosen = completions.take(column(rows)).rename_columns(["id_a", "item", "draw"])
    return chosen.append_column("row_a", column(rows))


def _keys(completions: pa.Table, side: str) -> pa.Array:
    """Return one text for item and draw of each completion, and refuse two of the same.

    Raises:
        UserError: There are two.
    """
    draws = completions["draw"].cast(pa.string())
    keys = pc.binary_join_element_wise(draws, completions["item"], "/").combine_chunks()
    counts = pc.value_counts(keys)
    if len(counts) < len(keys):
        twins = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
        draw, _, item = pc.min(twins).as_py().partition("/")
        raise UserError(
            f"{side} has two completions of item {item!r}, draw {draw}", "give the completions of one policy"
        )
    return keys


def _named(completions: pa.Table) -> str:
    shown = completions.sort_by([("item", "ascending"), ("draw", "ascending")]).slice(0, _EXAMPLES).to_pylist()
    names = [f"{one['item']!r} (draw {one['draw']})" for one in shown]
    return f"{len(completions)}, such as {', '.join(names)}" if names else "none"


def drawn(units: pa.Table, seed: int, limit: int | None) -> pa.Table:
    """Return the units in a seeded random order that does not depend on the order of rows; at most so many of them.

    Any beginning of it is a random sample of all units.
    """
    by_id = units.sort_by([("id_a", "ascending"), ("id_b", "ascending")])
    return by_id.take(column(np.random.default_rng(seed).permutation(len(by_id))[:limit]))


def stored(units: pa.Table, judged: pa.Table) -> pa.Table:
    """Return the units in the order of judgements about them.

    Args:
        units: All units.
        judged: The ids of contestants ``a`` and ``b`` of each judgement.

    Raises:
        UserError: A judgement is about something else.
    """
    known, wanted = _both_ids(units, "id_a", "id_b"), _both_ids(judged, "a", "b")
    rows = pc.index_in(wanted, known).fill_null(-1).to_numpy()
    if (rows < 0).any():
        missing = judged["a"][int(np.flatnonzero(rows < 0)[0])].as_py()
        raise UserError(
            f"the run judged completion {missing!r}, which its inputs do not hold", "put the inputs of the run back"
        )
    return units.take(column(rows))


def _both_ids(table: pa.Table, a: str, b: str) -> pa.Array:
    lengths = pc.binary_length(table[a]).cast(pa.string())  # in front, so that no two pairs of ids look alike
    return pc.binary_join_element_wise(lengths, table[a], table[b], "/").combine_chunks()


def placed(rows: pa.ChunkedArray, count: int) -> Places:
    """Return the place of each of ``count`` rows, from the rows in the order they are wanted in; -1 for all others."""
    places = np.full(count, -1, np.int64)
    places[rows.to_numpy()] = np.arange(len(rows))
    return places


def refuse_other_prompts(a: Ordered[Completion], b: Ordered[Completion]) -> None:
    """Check that paired completions answer the same prompt, before anybody is asked about them.

    Raises:
        UserError: They do not.
    """
    for ours, theirs in zip(a.tables(), b.tables(), strict=True):
        for name in ("prompt", "images"):
            one, other = (side[name] if name in side.column_names else None for side in (ours, theirs))
            if one is None or other is None or not one.equals(other):
                absent: list[object] = [None] * len(ours)
                left, right = (absent if column is None else column.to_pylist() for column in (one, other))
                for row, (mine, yours) in enumerate(zip(left, right, strict=True)):
                    if (mine or []) != (yours or []):
                        raise _other_prompt(ours["item"][row].as_py())


def refuse_twins(a: Ordered[Completion], b: Ordered[Completion]) -> None:
    """Check that not every answer is paired with itself, as when one file is given twice: nothing can come of it.

    Raises:
        UserError: Each pair is of one policy and one text.
    """
    for ours, theirs in zip(a.tables(), b.tables(), strict=True):
        if not (ours["policy"].equals(theirs["policy"]) and ours["text"].equals(theirs["text"])):
            return
    raise UserError(
        "each answer would be judged against itself: both sides have the same texts of the same policy",
        "give another set of answers; from a sheet with a column for each side make two files first: `perl-eval "
        "import`, with --column text=NAME --policy NAME, for each",
    )


def _other_prompt(item: str) -> UserError:
    return UserError(f"item {item!r} has one prompt in A and another in B", "sample both from the same prompts")
