"""What people bring to be judged, to Completion records: files, and objects in memory.

What is not there is derived, always in the same way, whatever the order of rows: the item and the group from the
prompt, the id from policy, item, answer and draw.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from perl_eval.errors import DataError, UserError
from perl_eval.records import Completion, Message, digest
from perl_eval.sources.objects import mappings
from perl_eval.storage import run_folder

__all__ = ["FIELDS", "completions", "completions_of", "records"]

FIELDS: Mapping[str, tuple[str, ...]] = {
    "prompt": ("prompt", "instruction", "question", "input"),
    "text": ("text", "completion", "output", "answer", "response", "generation"),
    "messages": ("messages",),
    "policy": ("policy", "generator", "model", "model_id"),
    "item": ("item", "question_id", "prompt_id", "uid"),
    "group": ("group",),
    "dataset": ("dataset",),
    "id": ("id",),
}
"""What a completion has, and the names under which files keep it; the first that is there is taken."""


def completions(
    source: str | Path | Iterable[Any], *, policy: str = "", columns: Mapping[str, str] | None = None
) -> list[Completion]:
    """Return what somebody brought as completions.

    Args:
        source: A run folder or its file; a ``.json``, ``.jsonl``, ``.csv``, ``.tsv``, ``.parquet`` or ``.arrow`` file;
            or Completion records, a list of dicts, a DataFrame or a Dataset. A row has ``prompt`` (text, or turns with
            role and content) and ``text``, or ``messages`` whose last turn is the answer; see `FIELDS` for other names.
        policy: What the policy is called where rows do not say; by default the file's name.
        columns: The names that the rows use, by `FIELDS`.

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
    if isinstance(source, str | Path):
        path = Path(source)
        if path.is_dir() or _is_ours(path):
            return run_folder.read(path, Completion)
        return list(completions_of(records(path), str(path), policy=policy or path.stem, columns=columns))
    rows = list(source) if isinstance(source, Sequence) else source
    if isinstance(rows, list) and all(isinstance(row, Completion) for row in rows):
        return list(rows)
    return list(completions_of(mappings(rows), f"the {type(source).__name__}", policy=policy, columns=columns))


def completions_of(
    rows: Iterable[Mapping[str, Any]], file: str, *, policy: str = "", columns: Mapping[str, str] | None = None
) -> Iterator[Completion]:
    """Yield rows as completions; see `completions`."""
    unknown = set(columns or ()) - set(FIELDS)
    if unknown:
        raise UserError(f"a completion has no {', '.join(sorted(unknown))}", f"choose from {', '.join(FIELDS)}")
    draws: Counter[tuple[str, str]] = Counter()
    for row, cells in enumerate(rows):
        yield _completion(cells, file, row, draws, given=columns or {}, policy=policy)


def _completion(
    cells: Mapping[str, Any],
    file: str,
    row: int,
    draws: Counter[tuple[str, str]],
    *,
    given: Mapping[str, str],
    policy: str,
) -> Completion:
    def cell(field: str) -> Any:
        names = (given[field],) if field in given else FIELDS[field]
        return next((cells[name] for name in names if cells.get(name) is not None), None)

    prompt, text = _dialogue(cell("prompt"), cell("text"), cell("messages"), cells, file, row)
    who = _text(cell("policy"), policy)
    if not who:
        raise DataError("names no policy", file=file, row=row, field="policy", fix="give policy=NAME, or the column")
    spoken = [f"{turn.role}:{turn.content}" for turn in prompt]
    item = _text(cell("item"), digest("item", *spoken))
    draw = draws[who, item]
    draws[who, item] += 1
    return Completion(
        id=_text(cell("id"), digest("completion", who, item, text, str(draw))),
        item=item,
        group=_text(cell("group"), digest("group", *spoken[: _opening(prompt)])),
        dataset=_text(cell("dataset"), Path(file).stem),
        policy=who,
        prompt=prompt,
        text=text,
        finish="stop",
        draw=draw,
    )


def _text(cell: Any, derived: str) -> str:
    """Return a cell as text, or what is derived where it is empty; 0 is no empty cell."""
    return derived if cell is None or cell == "" else str(cell)


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


def _is_ours(path: Path) -> bool:
    if path.suffix != ".parquet" or not path.is_file():
        return False
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        present = set(pq.read_schema(path).names)
    except (pa.ArrowInvalid, OSError):
        return True  # its reader says what is wrong
    return {"id", "item", "group", "policy", "prompt", "text", "draw"} <= present


def records(path: Path) -> Iterable[Mapping[str, Any]]:
    """Read the records of a file by its ending, whatever they hold.

    Raises:
        UserError: There is no such file, or its ending is not known.
        DataError: It is not what its ending says.
    """
    if not path.is_file():
        raise UserError(f"no such file or folder: {path}", "check the path")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path} ends with {path.suffix or 'nothing'}", f"give one of {', '.join(_READERS)}")
    return reader(path)


def _json(path: Path) -> Iterable[Mapping[str, Any]]:
    from perl_eval.sources.formats import objects

    return objects(path)


def _json_lines(path: Path) -> Iterable[Mapping[str, Any]]:
    from perl_eval.sources.formats import json_lines

    return json_lines(path)


def _delimited(path: Path) -> Iterable[Mapping[str, Any]]:
    import csv

    from perl_eval.sources.formats import utf_8

    with utf_8(path), path.open(encoding="utf-8-sig", newline="") as handle:
        try:
            found = list(csv.DictReader(handle, delimiter="\t" if path.suffix.lower() == ".tsv" else ","))
        except csv.Error as error:
            raise DataError(f"is not CSV ({error})", file=path) from None
    return [{name: _turns_in(cell) for name, cell in row.items()} for row in found]


def _turns_in(cell: Any) -> Any:
    """Return a cell of text that holds a JSON list as that list."""
    if isinstance(cell, str) and cell.startswith("[{"):
        try:
            return json.loads(cell)
        except ValueError:
            return cell
    return cell


def _columnar(path: Path) -> Iterable[Mapping[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.suffix.lower() == ".parquet":
            return mappings(pq.read_table(path))
        with pa.memory_map(str(path)) as source:
            try:
                return mappings(pa.ipc.open_stream(source).read_all())
            except pa.ArrowInvalid:
                return mappings(pa.ipc.open_file(source).read_all())
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"is no Arrow table ({error})", file=path) from None


_READERS = {
    ".json": _json,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".csv": _delimited,
    ".tsv": _delimited,
    ".parquet": _columnar,
    ".arrow": _columnar,
}
