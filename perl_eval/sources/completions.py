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

from perl_eval.errors import DataError, OptionError
from perl_eval.records import Completion, Message, digest
from perl_eval.sources.containers import Brought, opened
from perl_eval.sources.reading import Import
from perl_eval.storage import run_folder

__all__ = ["FIELDS", "completions", "is_ours", "read", "settle"]

FIELDS: Mapping[str, tuple[str, ...]] = {
    "prompt": ("prompt", "instruction", "question", "input"),
    "text": ("text", "completion", "output", "answer", "response", "generation"),
    "messages": ("messages",),
    "policy": ("policy", "generator", "model", "model_id"),
    "item": ("item", "question_id", "prompt_id", "uid"),
    "group": ("group",),
    "dataset": ("dataset",),
    "id": ("id",),
    "finish": ("finish", "finish_reason"),
}
"""What a completion has, and the names under which files keep it; the first that is there is taken."""


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
    draws = _draws([one.policy for one in made], [one.item for one in made], [one.id for one in made])
    return [replace(one, draw=int(draw)) for one, draw in zip(made, draws, strict=True)]


def read(found: Brought, reading: Import, format: str = "") -> Iterator[Completion]:
    """Yield the rows of something as completions, all of them draw 0; see `settle`.

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
    reading.policy = reading.policy or found.stem
    make = _Maker(found, reading)
    return (make(row, cells) for row, cells in enumerate(kind.read(found, reading)))


class _Maker:
    """Makes completions of rows, deriving what is not there."""

    def __init__(self, found: Brought, reading: Import) -> None:
        self._file, self._reading = found.name, reading
        self._dataset = found.stem or found.name
        self._names = {
            field: (reading.columns[field],) if field in reading.columns else names for field, names in FIELDS.items()
        }
        self._seen: defaultdict[int, int] = defaultdict(int)

    def __call__(self, row: int, cells: Mapping[str, Any]) -> Completion:
        def cell(field: str) -> Any:
            return next((cells[name] for name in self._names[field] if cells.get(name) is not None), None)

        def told(field: str, derived: str) -> str:
            given = cell(field)
            if given is None or given == "":  # 0 is no empty cell
                self._reading.derived[field] += 1
                return derived
            return str(given)

        self._refuse_missing_columns(cells, row)
        prompt, text = _dialogue(cell("prompt"), cell("text"), cell("messages"), cells, self._file, row)
        who = told("policy", self._reading.policy)
        if not who:
            fix = "give policy=NAME, or name its column"
            raise DataError("names no policy", file=self._file, row=row, field="policy", fix=fix)
        spoken = [f"{turn.role}:{turn.content}" for turn in prompt]
        item = told("item", digest("item", *spoken))
        return Completion(
            id=told("id", self._id(who, item, text)),
            item=item,
            group=told("group", digest("group", *spoken[: _opening(prompt)])),
            dataset=told("dataset", self._dataset),
            policy=who,
            prompt=prompt,
            text=text,
            finish="length" if cell("finish") in ("length", "max_tokens", "MAX_TOKENS") else "stop",
            draw=0,
        )

    def _refuse_missing_columns(self, cells: Mapping[str, Any], row: int) -> None:
        for field, column in self._reading.columns.items():
            if column not in cells:
                what = f"no such column; present are {', '.join(map(str, cells))}"
                raise DataError(what, file=self._file, row=row, field=column, fix=f"name the column of {field}")

    def _id(self, who: str, item: str, text: str) -> str:
        """Return an id that says what the answer is; the second of two equal answers gets another."""
        key = digest("completion", who, item, text)
        number = int(key, 16)
        times, self._seen[number] = self._seen[number], self._seen[number] + 1
        return key if not times else digest(key, str(times))


def settle(path: Path) -> None:
    """Number the draws of a file of completions that were written as draw 0: by policy and item, sorted by id.

    Args:
        path: The file; it is written anew where a policy answers an item more than once.
    """
    import pyarrow.parquet as pq

    from perl_eval.storage import parquet

    table = pq.read_table(path, columns=["policy", "item", "id"])
    draws = _draws(*(table[name].to_pylist() for name in table.column_names))
    if not draws.any():
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


def _draws(policies: Sequence[str], items: Sequence[str], ids: Sequence[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the rank of each id among those of its policy and item; shape (n,)."""
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


def _opening(prompt: Sequence[Message]) -> int:
    """Return how many turns a dialogue opens with: up to the first that is no system turn."""
    return next((place + 1 for place, turn in enumerate(prompt) if turn.role != "system"), len(prompt))


def _dialogue(
    prompt: Any, text: Any, messages: Any, cells: Mapping[str, Any], file: str, row: int
) -> tuple[tuple[Message, ...], str]:
    """Return the turns of the prompt and the answer."""
    present = f"present are {', '.join(map(str, cells))}"
    if prompt is None and messages is None:
        raise DataError(f"has no prompt; {present}", file=file, row=row, field="prompt", fix="name its column")
    try:
        turns = Message.sequence(prompt if prompt is not None else messages)
        if prompt is None and text is None:
            *asked, answer = turns
            if answer.role != "assistant" or not asked:
                raise DataError("does not end with an assistant's turn", file=file, row=row, field="messages")
            return tuple(asked), answer.content
        if text is None:
            raise DataError(f"has no answer; {present}", file=file, row=row, field="text", fix="name its column")
        said = text if isinstance(text, str) else "\n".join(turn.content for turn in Message.sequence(text))
    except (KeyError, TypeError, AttributeError, ValueError):
        raise DataError(
            "is neither text nor a list of turns with role and content", file=file, row=row, field="prompt"
        ) from None
    return turns, said


def is_ours(path: Path) -> bool:
    """Return whether a path is a run folder with completions, or the file of one."""
    if path.is_dir():
        return True
    if path.suffix != ".parquet" or not path.is_file():
        return False
    import pyarrow.parquet as pq

    try:
        present = set(pq.read_schema(path).names)
    except (pa.ArrowInvalid, OSError):
        return True  # its reader says what is wrong
    return {"id", "item", "group", "policy", "prompt", "text", "draw"} <= present
