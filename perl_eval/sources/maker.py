"""Rows of any format to completions: what is not there is derived, always in the same way."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from perl_eval.errors import DataError
from perl_eval.records import Completion, Message, digest
from perl_eval.sources.column_names import columns_typed
from perl_eval.sources.containers import Brought
from perl_eval.sources.reading import FIELDS, Import

__all__ = ["Maker", "nth_id"]

_DIGITS = len(str(2**63 - 1))
"""Numbers of as many digits may not fit a column of whole numbers."""


class Maker:
    """Makes completions of rows, deriving what is not there."""

    def __init__(self, found: Brought, reading: Import) -> None:
        reading.policy = reading.policy or found.stem
        self._file, self._reading = found.name, reading
        self._dataset = found.stem or found.name
        self._names = {
            field: (reading.columns[field],) if field in reading.columns else names for field, names in FIELDS.items()
        }
        self._seen: defaultdict[int, int] = defaultdict(int)
        self._drawn: set[int] = set()
        self._tells: dict[int, bool] = {}

    def __call__(self, row: int, cells: Mapping[str, Any]) -> Completion:
        """Return the completion that a row is.

        Args:
            row: The row, for what is said about an error.
            cells: Its cells, by `FIELDS`.

        Raises:
            DataError: It has no prompt, answer or policy, a column that was named is not there, or its draw is none or
                that of another answer.
        """

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
            fix = "name its column: --column policy=NAME"
            raise DataError("names no policy", file=self._file, row=row, field="policy", fix=fix)
        spoken = [f"{turn.role}:{turn.content}" for turn in prompt]
        item = digest("item", *spoken) if self._reading.by_prompt else told("item", digest("item", *spoken))
        return Completion(
            id=told("id", "") or self._id(who, item, text),
            item=item,
            group=told("group", digest("group", *spoken[: _opening(prompt)])),
            dataset=told("dataset", self._dataset),
            policy=who,
            prompt=prompt,
            text=text,
            finish="length" if cell("finish") in ("length", "max_tokens", "MAX_TOKENS") else "stop",
            draw=self._draw(cell("draw"), row, who, item),
        )

    def _draw(self, given: Any, row: int, who: str, item: str) -> int:
        """Return the draw that a row says, 0 if it says none; see `perl_eval.sources.completions.settle`."""
        known = given is not None and given != ""
        place = int(digest(who, item), 16)
        if self._tells.setdefault(place, known) != known:
            what = f"of the answers of {who!r} to item {item!r} some say which draw they are, and others do not"
            raise self._wrong_draw(what, row, "say it for all, or for none")
        if not known:
            return 0
        if not str(given).isdecimal():
            raise self._wrong_draw(f"{given!r} is not a whole number", row, "count from 0")
        if len(str(given)) >= _DIGITS:
            raise self._wrong_draw(f"{given} is too large", row, "count from 0")
        draw = int(given)
        number = int(digest(who, item, str(draw)), 16)
        if number in self._drawn:
            what = f"a second answer of {who!r} to item {item!r} is draw {draw}"
            raise self._wrong_draw(what, row, "leave one out, or number them from 0")
        self._drawn.add(number)
        return draw

    def _wrong_draw(self, what: str, row: int, fix: str) -> DataError:
        return DataError(what, file=self._file, row=row, field="draw", fix=fix)

    def _refuse_missing_columns(self, cells: Mapping[str, Any], row: int) -> None:
        for field, column in self._reading.columns.items():
            if column not in cells:
                what = f"no such column; present are {', '.join(map(str, cells))}"
                raise DataError(what, file=self._file, row=row, field=column, fix=f"name the column of {field}")

    def _id(self, who: str, item: str, text: str) -> str:
        """Return an id that says what the answer is; the second of two equal answers gets another.

        Which of them is the second depends on the order of rows here, and is settled later: `Import.again` has it.
        """
        key = digest("completion", who, item, text)
        number = int(key, 16)
        times, self._seen[number] = self._seen[number], self._seen[number] + 1
        if not times:
            return key
        self._reading.again[key] = times + 1
        return nth_id(key, times)


def nth_id(key: str, times: int) -> str:
    """Return the id of an answer before which there are as many equal ones."""
    return key if not times else digest(key, str(times))


def _opening(prompt: Sequence[Message]) -> int:
    """Return how many turns a dialogue opens with: up to the first that is no system turn."""
    return next((place + 1 for place, turn in enumerate(prompt) if turn.role != "system"), len(prompt))


def _dialogue(
    prompt: Any, text: Any, messages: Any, cells: Mapping[str, Any], file: str, row: int
) -> tuple[tuple[Message, ...], str]:
    """Return the turns of the prompt and the answer."""
    present = f"present are {', '.join(map(str, cells))}"
    if prompt is None and messages is None:
        fix = _what_to_type("prompt", cells, text is None)
        raise DataError(f"has no prompt; {present}", file=file, row=row, field="prompt", fix=fix)
    turns = _turns(
        prompt if prompt is not None else messages, "prompt" if prompt is not None else "messages", file, row
    )
    if prompt is None and text is None:
        if len(turns) < 2 or turns[-1].role != "assistant":
            raise DataError("does not end with an assistant's turn", file=file, row=row, field="messages")
        return turns[:-1], turns[-1].content
    if text is None:
        fix = _what_to_type("text", cells)
        raise DataError(f"has no answer; {present}", file=file, row=row, field="text", fix=fix)
    said = text if isinstance(text, str) else "\n".join(turn.content for turn in _turns(text, "text", file, row))
    return turns, said


def _what_to_type(field: str, cells: Mapping[str, Any], also_text: bool = False) -> str:
    if there := next((name for name in FIELDS[field] if name in cells), ""):
        return f"fill its {there} in, or leave the row out; or name another column: --column {field}=NAME"
    fields = [field, "text"] if also_text else [field]
    return f"name its column: {columns_typed(fields, list(map(str, cells)))}"


def _turns(given: Any, field: str, file: str, row: int) -> tuple[Message, ...]:
    try:
        return Message.sequence(given)
    except (KeyError, TypeError, AttributeError, ValueError):
        what = "is neither text nor a list of turns with role and content"
        raise DataError(what, file=file, row=row, field=field) from None
