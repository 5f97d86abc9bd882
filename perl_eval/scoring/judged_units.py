"""What was judged, in columns, with what people said of it, as `perl_eval.metrics.policy_comparisons` takes it.

A million judgements are read a batch at a time; only what is compared stays in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from perl_eval.errors import DataError, UserError
from perl_eval.metrics.label_join import Unit, with_units
from perl_eval.metrics.policy_comparisons import Units
from perl_eval.outcomes import HALF, worth
from perl_eval.records import HumanLabel, Judgement, unit_of
from perl_eval.scoring.unit_proxies import proxy_of
from perl_eval.storage import run_folder

__all__ = ["read_units", "units_of"]

FloatArray = NDArray[np.float64]
_NAMES = ("item", "group", "dataset", "policy_a", "policy_b", "judge", "prompt_sha256", "outcome")
"""Columns whose values occur again and again."""
_COLUMNS = (*_NAMES, "a", "b", "p_a")
_BATCH = 65_536
_STRATA = 8
"""Data sets beside the largest that correct a difference as strata."""


def read_units(sources: Sequence[Path], labels: Path | None = None, proxies: Sequence[Path] = ()) -> Units:
    """Read judged units of one judge in columns, with people's labels.

    Args:
        sources: Run folders of `judge`, or the files of them.
        labels: A run folder of labels.
        proxies: What else says something of the same answers, see `perl_eval.scoring.unit_proxies`.

    Raises:
        UserError: There are several judges or prompts, nothing was judged, or nobody labelled what was.
        DataError: An input does not match its card, or the same was judged twice.
    """
    tables = [_table(source) for source in sources]
    counts = [one.num_rows for one in tables]
    table = pa.concat_tables(tables).unify_dictionaries()
    del tables
    for name, what in (("judge", "judges"), ("prompt_sha256", "prompts")):
        several = pc.unique(table[name]).to_pylist()
        if len(several) > 1:
            raise UserError(f"there are judgements of {len(several)} {what}: {', '.join(several)}", "give those of one")
    table = table.drop_columns(["judge", "prompt_sha256"])
    _refuse_repeated(table, sources, counts)
    table = _voted(table)
    said = _labels(table, sources, labels)
    more = [proxy_of(table, one) for one in proxies]
    found = _columns(table.drop_columns(["a", "b"]), *said)
    return replace(found, more=np.stack(more, axis=1)) if more else found


def units_of(records: Sequence[Judgement]) -> Units:
    """Return judgements in columns, without labels."""
    cells: dict[str, Any] = {
        name: pa.array([getattr(one, name) for one in records], pa.string()).dictionary_encode() for name in _NAMES
    }
    cells["p_a"] = pa.array([one.p_a for one in records], pa.float64())
    for side in "ab":
        cells[f"length_{side}"] = pa.array([len(getattr(one, f"text_{side}")) for one in records], pa.int32())
    table = _voted(pa.table(cells))
    return _columns(table, np.full(table.num_rows, np.nan), np.ones(table.num_rows))


def _table(source: Path) -> pa.Table:
    path = run_folder.locate(source, Judgement)
    run_folder.fingerprint(path)
    parts = []
    with pq.ParquetFile(path, read_dictionary=list(_NAMES)) as file:
        for batch in file.iter_batches(_BATCH, columns=[*_COLUMNS, "text_a", "text_b"]):
            part = batch.select(list(_COLUMNS))
            for side in "ab":
                part = part.append_column(f"length_{side}", pc.utf8_length(batch[f"text_{side}"]).cast(pa.int32()))
            parts.append(part)
    if not parts:
        raise UserError(f"{source} holds no judgements", "judge something first")
    return pa.Table.from_batches(parts)


def _voted(table: pa.Table) -> pa.Table:
    """Return the rows with a vote: neither unjudged nor scored."""
    outcomes = table["outcome"].cast(pa.string())
    return table.filter(pc.is_in(outcomes, pa.array(list(HALF.table()), pa.string())))


def _coded(column: pa.ChunkedArray) -> tuple[NDArray[np.intp], list[str]]:
    """Return a dictionary column as codes from 0, and what they stand for."""
    whole = column.unify_dictionaries().combine_chunks()
    if isinstance(whole, pa.ChunkedArray):  # of no rows
        return np.zeros(0, np.intp), []
    return np.asarray(whole.indices, np.intp), whole.dictionary.to_pylist()


def _policies(table: pa.Table) -> tuple[list[str], NDArray[np.intp], NDArray[np.intp]]:
    """Return the policies in order, and which was first and which second in each row."""
    sides = [_coded(table[f"policy_{side}"]) for side in "ab"]
    names = sorted({name for codes, known in sides for name in (known[code] for code in np.unique(codes))})
    place = {name: code for code, name in enumerate(names)}
    first, second = (
        np.array([place.get(name, -1) for name in known], np.intp)[codes] if known else codes for codes, known in sides
    )
    return names, first, second


def _columns(table: pa.Table, truth: FloatArray, weight: FloatArray) -> Units:
    worths = HALF.table()
    outcomes, known = _coded(table["outcome"])
    lengths = [table[name].to_numpy().astype(np.float64) for name in ("length_a", "length_b")]
    policies, first, second = _policies(table)
    return Units(
        policies=policies,
        first=first,
        second=second,
        item=_coded(table["item"])[0],
        group=_coded(table["group"])[0],
        worth=np.array([worths.get(outcome, np.nan) for outcome in known], np.float64)[outcomes],
        chance=table["p_a"].cast(pa.float64()).to_numpy(),
        length=np.tanh(np.log((lengths[0] + 1) / (lengths[1] + 1))) * (lengths[1] > 0),
        truth=truth,
        weight=weight,
        more=np.zeros((len(truth), 0)),
        stratum=_strata(table),
    )


def _strata(table: pa.Table) -> FloatArray:
    """Return which data set each row is of, without the largest; few of them, or they tell nothing."""
    codes, known = _coded(table["dataset"])
    counts = np.bincount(codes, minlength=len(known))
    chosen = np.argsort(-counts, kind="stable")[1 : _STRATA + 1]
    return np.array([codes == code for code in chosen], np.float64).reshape(len(chosen), len(codes)).T


def _refuse_repeated(table: pa.Table, sources: Sequence[Path], counts: Sequence[int]) -> None:
    """Refuse two judgements of the same completions: a label would count for both.

    Raises:
        DataError: There are such two; the row is that of the second.
    """
    if pc.count_distinct(table["a"]).as_py() == table.num_rows:
        return
    codes = [np.asarray(pc.dictionary_encode(table[name]).combine_chunks().indices, np.int64) for name in ("a", "b")]
    keys = codes[0] * (int(codes[1].max(initial=0)) + 1) + codes[1]
    firsts = np.unique(keys, return_index=True)[1]
    if len(firsts) == len(keys):
        return
    again = np.ones(len(keys), np.bool_)
    again[firsts] = False
    place = int(np.flatnonzero(again)[0])
    ends = np.cumsum(counts)
    which = int(np.searchsorted(ends, place, side="right"))
    before = int(np.flatnonzero(keys == keys[place])[0])
    items = {table["item"][where].as_py() for where in (before, place)}
    of = f"items {' and '.join(map(repr, sorted(items)))}" if len(items) > 1 else "the same item"
    what = f"judgement of the same completions by the same judge occurs twice, of {of}"
    row = place - int(ends[which] - counts[which])
    raise DataError(
        what, file=sources[which], row=row, fix="give each answer an id of its own, and each judgement once"
    )


def _labels(table: pa.Table, sources: Sequence[Path], labels: Path | None) -> tuple[FloatArray, FloatArray]:
    """Return people's mean worth of each unit, NaN where nobody labelled it, and the weight of its labels."""
    truth, weight = np.full(table.num_rows, np.nan), np.ones(table.num_rows)
    if labels is None:
        return truth, weight
    given = run_folder.read(labels, HumanLabel)
    if not all(label.unit for label in given):
        given = with_units(given, _units_labelled(table, sources, {label.item for label in given if not label.unit}))
    last = {(label.unit, label.annotator): label for label in given}
    said: dict[str, list[HumanLabel]] = {}
    for label in last.values():
        said.setdefault(label.unit, []).append(label)
    met = 0
    for row, unit in _labelled_rows(table, said):
        met += 1
        truth[row] = float(np.mean([worth(label.label) for label in said[unit]]))
        weight[row] = said[unit][0].weight
    if not met:
        raise UserError(_none_met(table, given), "give labels of these units")
    return truth, weight


def _none_met(table: pa.Table, given: Sequence[HumanLabel]) -> str:
    """Say that no label is of anything judged, with what tells why."""
    judged = set(pc.unique(table["item"]).to_pylist())
    labelled = {label.item for label in given}
    if judged & labelled:
        return "nobody labelled what was judged: the items are the same, other answers were labelled"
    examples = [repr(min(items)) for items in (labelled, judged) if items]
    return f"nobody labelled what was judged: labels are of items such as {', judgements of '.join(examples)}"


def _labelled_rows(table: pa.Table, said: dict[str, list[HumanLabel]]) -> Iterator[tuple[int, str]]:
    """Yield the rows whose units have labels: ids of the labels' items are hashed first, all only if need be."""
    missing = set(said) - {""}
    codes, known = _coded(table["item"])
    wanted = {label.item for labels in said.values() for label in labels}
    named = np.array([name in wanted for name in known], np.bool_)[codes] if known else np.zeros(0, np.bool_)
    for part in (np.flatnonzero(named), np.flatnonzero(~named)):
        if not missing:
            return
        for start in range(0, len(part), _BATCH):
            rows = part[start : start + _BATCH]
            ids = table.select(["a", "b"]).take(pa.array(rows))
            for row, a, b in zip(rows.tolist(), ids["a"].to_pylist(), ids["b"].to_pylist(), strict=True):
                unit = unit_of(a, b)
                if unit in said:
                    missing.discard(unit)
                    yield row, unit


@dataclass(frozen=True, slots=True)
class _Unit:
    """What of a judgement tells which labels are of it."""

    item: str
    a: str
    b: str
    policy_a: str
    policy_b: str


def _units_labelled(table: pa.Table, sources: Sequence[Path], items: set[str]) -> Sequence[Unit]:
    """Return the units of some items; all judgements, with their prompts, where an item is none of the judged."""
    codes, known = _coded(table["item"])
    named = np.array([name in items for name in known], np.bool_)[codes] if known else np.zeros(0, np.bool_)
    rows = table.filter(pa.array(named))
    if pc.count_distinct(rows["item"].cast(pa.string())).as_py() == len(items):
        names = ("item", "a", "b", "policy_a", "policy_b")
        return [_Unit(*cells) for cells in zip(*[rows[name].to_pylist() for name in names], strict=True)]
    return [one for source in sources for one in run_folder.read(source, Judgement)]
