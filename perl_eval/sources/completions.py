"""What people bring to be judged, to Completion records: files of any known format, and objects in memory.

What is not there is derived, always in the same way, whatever the order of rows: the item and the group from the
prompt, the id from policy, item and answer, and the draw from the answers of one policy to one item, sorted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from perl_eval.errors import OptionError, UserError
from perl_eval.records import Completion, digest
from perl_eval.sources.containers import Brought, is_saved_dataset, opened
from perl_eval.sources.maker import Maker, nth_id
from perl_eval.sources.reading import FIELDS, Format, HowRead, Import
from perl_eval.storage import run_folder

__all__ = ["FIELDS", "completions", "is_ours", "layout_of", "names_items", "read", "repeats_ids", "settle"]


def completions(
    source: str | Path | Iterable[Any],
    *,
    policy: str = "",
    columns: Mapping[str, str] | None = None,
    format: str = "",
) -> list[Completion]:
    """Return what somebody brought as completions.

    Args:
        source: A run folder or its file; a file of any format that ``perl-eval import --formats`` lists; or Completion
            records, a list of dicts, a DataFrame or a Dataset. A row has ``prompt`` (text, or turns with role and
            content) and ``text``, or ``messages`` whose last turn is the answer; see `FIELDS` for other names.
        policy: What the policy is called where rows do not say; by default the file's name.
        columns: The names that the rows use, by `FIELDS`.
        format: The format, where it cannot be told from the content.

    Returns:
        Completions, in the order of the rows. Rows of one policy and item are draws 0, 1, ...

    Raises:
        UserError: There is no such file, or nothing of the kind.
        DataError: A row lacks what is needed; it names file and row.

    Example:
        >>> import perl_eval as pe
        >>> rows = [{"prompt": "Name a prime.", "text": "7", "model": "ours"}]
        >>> [(one.policy, one.text, one.draw) for one in pe.completions(rows)]
        [('ours', '7', 0)]
    """
    if isinstance(source, str | Path) and is_ours(Path(source)):
        return run_folder.read(Path(source), Completion)
    if isinstance(source, list | tuple) and source and all(isinstance(row, Completion) for row in source):
        _refuse_equal_ids(source)
        return list(source)
    reading = Import(columns or {}, policy)
    made = list(read(opened(source), reading, format))
    ids = _ids([one.id for one in made], reading.again, lambda: _said(asdict(one) for one in made))
    made = [replace(one, id=name) for one, name in zip(made, ids, strict=True)]
    draws = _draws(
        [one.policy for one in made],
        [one.item for one in made],
        [one.id for one in made],
        [one.draw for one in made],
    )
    return [replace(one, draw=int(draw)) for one, draw in zip(made, draws, strict=True)]


def read(found: Brought, reading: Import, format: str = "") -> Iterator[Completion]:
    """Yield the rows of something as completions, draw 0 where they do not say which; see `settle`.

    Raises:
        OptionError: No completion has a column of that name, or there is no such format.
        DataError: It is of no known format, or a row lacks what is needed.
    """
    unknown = set(reading.columns) - set(FIELDS)
    if unknown:
        named = f"{sorted(unknown)[0]!r}, which no completion has"
        raise OptionError("column", named, f"choose from {', '.join(FIELDS)}")
    kind = layout_of(found, reading.columns, format)
    make = Maker(found, reading)
    made = (make(row, cells) for row, cells in enumerate(kind.read(found, reading)))
    return _of_one(made, reading) if reading.only else made


def _of_one(made: Iterator[Completion], reading: Import) -> Iterator[Completion]:
    """Pass on the answers of the policy that is asked for; what was derived of others does not count."""
    before = reading.derived.copy()
    for one in made:
        if one.policy == reading.only:
            before = reading.derived.copy()
            yield one
        else:
            reading.left_out["answers of other policies"] += 1
            reading.derived = before.copy()


def layout_of(found: Brought, columns: Mapping[str, str], format: str = "") -> Format:
    """Return the format of answers that something is of; where somebody names the columns of prompts, it is a table.

    Raises:
        OptionError: There is no format of that name.
        DataError: It is of no known format.
    """
    from perl_eval.sources.recognition import format_of

    named_by_hand = "prompt" in columns or "messages" in columns
    return format_of(found, Completion, format or ("table" if named_by_hand else ""))


def names_items(found: Brought, how: HowRead) -> Literal["all", "some", "none"]:
    """Return how many rows say which item they are about; reading stops where that is plain.

    Raises:
        DataError: It is of no known format, or a row lacks what is needed.
    """
    reading, rows = Import(how.columns, requests=how.requests), 0
    for rows, _ in enumerate(read(found, reading, how.format), 1):
        if 0 < reading.derived["item"] < rows:
            return "some"
    return "none" if not rows or reading.derived["item"] else "all"


def repeats_ids(path: Path) -> bool:
    """Return whether a run folder, or the file of one, has several completions of one id."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    file = run_folder.locate(path, Completion)
    try:
        with pq.ParquetFile(file) as source:
            ids = source.read(columns=["id"])["id"]
    except (pa.ArrowInvalid, OSError, KeyError):
        return False  # its reader says what is wrong
    return bool(pc.count_distinct(ids).as_py() < len(ids))


def settle(path: Path, again: Mapping[str, int]) -> int:
    """Make ids and draws of a file of completions what they are in any order of its rows.

    Equal answers get their ids in the order of all that they say, and answers whose given ids are the same get derived
    ones; answers of one policy to one item that do not say
    which draw they are get numbers in the order of their ids.

    Args:
        path: The file; it is written anew where ids or draws are not so yet.
        again: `Import.again`.

    Returns:
        How many given ids were not those of one answer, and are derived now.
    """
    import pyarrow.parquet as pq

    from perl_eval.storage import parquet

    table = pq.read_table(path, columns=["policy", "item", "id", "draw"])
    given = table["draw"].to_numpy()
    policies, items, before = (table[name].to_pylist() for name in ("policy", "item", "id"))
    ids = _ids(before, again, lambda: _said(_cells(path)))
    draws = _draws(policies, items, ids, given)
    given_twice = len(_given_twice(before, again))
    if np.array_equal(draws, given) and ids == before:
        return given_twice
    schema = pq.read_schema(path)

    def write(partial: Path) -> None:
        start = 0
        with pq.ParquetFile(path) as source, pq.ParquetWriter(partial, schema) as target:
            for batch in source.iter_batches(1024):
                settled = batch
                for name, values in (("id", ids), ("draw", draws)):
                    part, kept = values[start : start + len(batch)], schema.field(name)
                    settled = settled.set_column(schema.get_field_index(name), kept, pa.array(part, kept.type))
                target.write_batch(settled)
                start += len(batch)

    parquet.replace_file(path, write)
    return given_twice


def _refuse_equal_ids(found: Sequence[Completion]) -> None:
    """Refuse records of which two have one id: nothing could tell what was said of either.

    Raises:
        UserError: There are two.
    """
    first: dict[str, int] = {}
    for place, one in enumerate(found):
        if (before := first.setdefault(one.id, place)) != place:
            raise UserError(f"completions {before} and {place} have the same id, {one.id!r}", "give each its own")


def _given_twice(ids: Sequence[str], again: Mapping[str, int]) -> list[int]:
    """Return the places of ids that were given to several answers."""
    if len(set(ids)) == len(ids):
        return []
    counts = Counter(ids)
    derived = {nth_id(key, times) for key, count in again.items() for times in range(count)}
    return [place for place, name in enumerate(ids) if counts[name] > 1 and name not in derived]


def _said(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield a digest of policy, item and answer of each completion, and all that it says but its id, as text."""
    for row in rows:
        key = digest("completion", row["policy"], row["item"], row["text"])
        yield key, repr([(name, row[name]) for name in sorted(row) if name != "id"])


def _cells(path: Path) -> Iterator[Mapping[str, Any]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as source:
        for batch in source.iter_batches(1024):
            yield from batch.to_pylist()


def _ids(ids: Sequence[str], again: Mapping[str, int], said: Callable[[], Iterator[tuple[str, str]]]) -> list[str]:
    """Return ids, each of one answer, of which those of equal answers go by all that the answers say.

    Args:
        ids: As they were given, or derived in the order of rows; (n,).
        again: How many equal answers there are, by the first one's id.
        said: Gives what each completion says; (n,). It is read only where there are equal answers, or equal ids.
    """
    twice = set(_given_twice(ids, again))
    if not again and not twice:
        return list(ids)
    first = {nth_id(key, times): key for key, count in again.items() for times in range(count)}
    equal: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    for place, (name, (key, words)) in enumerate(zip(ids, said(), strict=True)):
        if place in twice:
            equal[digest(name, key)].append((words, place))
        elif name in first:
            equal[first[name]].append((words, place))
    settled = list(ids)
    for key, places in equal.items():
        for times, (_, place) in enumerate(sorted(places)):
            settled[place] = nth_id(key, times)
    return settled


def _draws(
    policies: Sequence[str], items: Sequence[str], ids: Sequence[str], given: Sequence[int]
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the draws of an item that are given where they tell its answers apart, else ranks of ids; (n,)."""
    draws = np.array(given, np.int64)
    together: Counter[tuple[str, str]] = Counter(zip(policies, items, strict=True))
    several = defaultdict(list)
    for place, key in enumerate(zip(policies, items, strict=True)):
        if together[key] > 1:
            several[key].append(place)
    for places in several.values():
        if len({int(given[place]) for place in places}) == len(places):
            continue
        for rank, place in enumerate(sorted(places, key=lambda one: ids[one])):
            draws[place] = rank
    return draws


def is_ours(path: Path) -> bool:
    """Return whether a path is a run folder with completions, or the file of one."""
    if path.is_dir():
        return not is_saved_dataset(path)
    if path.suffix != ".parquet" or not path.is_file():
        return False
    import pyarrow.parquet as pq

    try:
        present = set(pq.read_schema(path).names)
    except (pa.ArrowInvalid, OSError):
        return True  # its reader says what is wrong
    return {"id", "item", "group", "policy", "prompt", "text", "draw"} <= present
