"""Rows of any format to completions: what is not there is derived, always in the same way."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from perl_eval.errors import DataError
from perl_eval.records import Completion, Message, digest
from perl_eval.sources.containers import Brought
from perl_eval.sources.reading import FIELDS, Import

__all__ = ["Maker"]


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

    def __call__(self, row: int, cells: Mapping[str, Any]) -> Completion:
        """Return the completion that a row is.

        Args:
            row: The row, for what is said about an error.
            cells: Its cells, by `FIELDS`.

        Raises:
            DataError: It has no prompt, answer or policy, or a column that was named is not there.
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
            fix = "give policy=NAME, or name its column"
            raise DataError("names no policy", file=self._file, row=row, field="policy", fix=fix)
        spoken = [f"{turn.role}:{turn.content}" for turn in prompt]
        item = digest("item", *spoken) if self._reading.by_prompt else told("item", digest("item", *spoken))
        return Completion(
            id=told("id", self._id(who, item, text)),
            item=item,
            group=told("group", digest("group", *spoken[: _opening(prompt)])),
            dataset=told("dataset", self._dataset),
            policy=who,
            prompt=prompt,
            text=text,
            finish="length" if cell("finish") in ("length", "max_tokens", "MAX_TOKENS") else "stop",
            draw=self._draw(cell("draw"), row),
        )

    def _draw(self, given: Any, row: int) -> int:
        if given is None or given == "":
            return 0
        if not str(given).isdecimal():
            raise DataError(f"{given!r} is no whole number", file=self._file, row=row, field="draw", fix="count from 0")
        return int(given)

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
