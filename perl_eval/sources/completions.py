"""What people bring to be judged, to Completion records: files of any known format, and objects in memory.

What is not there is derived, always in the same way, whatever the order of rows: the item and the group from the
prompt, the id from policy, item and answer, and the draw from the answers of one policy to one item, sorted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from perl_eval.errors import OptionError
from perl_eval.records import Completion
from perl_eval.sources.containers import Brought, is_saved_dataset, opened
from perl_eval.sources.maker import Maker
from perl_eval.sources.reading import FIELDS, HowRead, Import
from perl_eval.storage import run_folder

__all__ = ["FIELDS", "completions", "is_ours", "names_items", "read", "settle"]


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
        return list(source)
    reading = Import(columns or {}, policy)
    made = list(read(opened(source), reading, format))
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
    from perl_eval.sources.recognition import format_of

    unknown = set(reading.columns) - set(FIELDS)
    if unknown:
        named = f"{sorted(unknown)[0]!r}, which no completion has"
        raise OptionError("column", named, f"choose from {', '.join(FIELDS)}")
    named_by_hand = "prompt" in reading.columns or "messages" in reading.columns
    kind = format_of(found, Completion, format or ("table" if named_by_hand else ""))
    make = Maker(found, reading)
    return (make(row, cells) for row, cells in enumerate(kind.read(found, reading)))


def names_items(found: Brought, how: HowRead) -> bool:
    """Return whether the first row says which item it is about, so that items need not be told by their prompts.

    Raises:
        DataError: It is of no known format, or its first row lacks what is needed.
    """
    reading = Import(how.columns, "any", how.requests)
    first = next(read(found, reading, how.format), None)
    return first is not None and not reading.derived["item"]


def settle(path: Path) -> None:
    """Number the draws of a file of completions by policy and item, sorted by id, unless they are told apart already.

    Args:
        path: The file; it is written anew where a policy answers an item more than once as the same draw.
    """
    import pyarrow.parquet as pq

    from perl_eval.storage import parquet

    table = pq.read_table(path, columns=["policy", "item", "id", "draw"])
    given = table["draw"].to_numpy()
    policies, items, ids = (table[name].to_pylist() for name in ("policy", "item", "id"))
    draws = _draws(policies, items, ids, given)
    if np.array_equal(draws, given):
        return
    schema = pq.read_schema(path)
    place = schema.get_field_index("draw")

    def write(partial: Path) -> None:
        start = 0
        with pq.ParquetFile(path) as source, pq.ParquetWriter(partial, schema) as target:
            for batch in source.iter_batches(1024):
                numbers = pa.array(draws[start : start + len(batch)], pa.int64())
                target.write_batch(batch.set_column(place, schema.field("draw"), numbers))
                start += len(batch)

    parquet.replace_file(path, write)


def _draws(
    policies: Sequence[str], items: Sequence[str], ids: Sequence[str], given: Sequence[int]
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the draws that are given if they tell all answers apart, else ranks of ids in policy and item; (n,)."""
    if len(set(zip(policies, items, given, strict=True))) == len(ids):
        return np.asarray(given, np.int64)
    draws = np.zeros(len(ids), np.int64)
    together: Counter[tuple[str, str]] = Counter(zip(policies, items, strict=True))
    several = defaultdict(list)
    for place, key in enumerate(zip(policies, items, strict=True)):
        if together[key] > 1:
            several[key].append(place)
    for places in several.values():
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
