"""Rows, and judged pairs, to the shapes that TRL's trainers take, as JSON lines, one file a split.

Source: TRL, "Dataset formats and types": conversational language modelling, prompt-only, prompt-completion, unpaired
preference, preference with explicit and implicit prompt; standard (texts) for prompts and answers of one turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from perl_eval.exporting.layouts import Layout, Tally, turns, write_lines
from perl_eval.outcomes import meaning
from perl_eval.records import PICTURE, Judgement, Message
from perl_eval.sources.rows import Row

__all__ = ["TRL", "SplitRows"]

Cells = Mapping[str, Any]
Shape = Callable[[Row, Tally], Iterator[Cells]]


@dataclass(frozen=True, slots=True)
class SplitRows:
    """The rows of one split, which can be gone through more than once."""

    name: str
    rows: Iterable[Row]


def _write(shape: Shape) -> Callable[[Iterable[Any], Path, Tally], None]:
    def write_split(name: str, rows: Iterable[Row], out: Path, tally: Tally) -> None:
        shaped = (cells for row in _seen(rows, tally) for cells in shape(row, tally))
        write_lines(out / f"{name}.jsonl", shaped, tally)

    def write(found: Iterable[Any], out: Path, tally: Tally) -> None:
        remaining = iter(found)
        first = next(remaining, None)
        if isinstance(first, SplitRows):
            for split in chain([first], remaining):
                write_split(split.name, split.rows, out, tally)
        elif first is not None:
            write_split("train", _rows(chain([first], remaining), tally), out, tally)

    return write


def _rows(found: Iterable[Judgement], tally: Tally) -> Iterator[Row]:
    """Yield judged pairs as preferences, and answers that got yes or no as ratings; what is undecided is left out."""
    for one in found:
        a, b = ((Message("assistant", text),) for text in (one.text_a, one.text_b))
        if meaning(one.outcome).kind is None or meaning(one.outcome).undecided or one.kind == "score":
            tally.lost[f"judgements that are {one.outcome}, left out"] += 1
        elif not one.prompt or not one.text_a or (one.kind == "pairwise" and not one.text_b):
            tally.lost["judgements without prompt or answers, left out"] += 1
        elif one.kind == "yes_no":
            yield Row(one.item, one.group, one.dataset, one.prompt, completion=a, label=one.outcome == "yes")
        else:
            better, worse = (a, b) if one.outcome == "win" else (b, a)
            yield Row(one.item, one.group, one.dataset, one.prompt, chosen=better, rejected=worse)


def _seen(rows: Iterable[Row], tally: Tally) -> Iterator[Row]:
    for row in rows:
        if row.images or any(PICTURE in turn.content for turn in row.prompt):
            tally.lost["rows with pictures, left out (the parquet files of `build` hold them)"] += 1
        else:
            yield row


def _as_it_is(row: Row, _: Tally) -> Iterator[Cells]:
    cells: dict[str, Any] = {"prompt": turns(row.prompt)}
    for name in ("completion", "chosen", "rejected"):
        if (answer := getattr(row, name)) is not None:
            cells[name] = turns(answer)
    yield cells | ({} if row.label is None else {"label": row.label})


def _as_texts(row: Row, tally: Tally) -> Iterator[Cells]:
    sides = {
        name: getattr(row, name) for name in ("completion", "chosen", "rejected") if getattr(row, name) is not None
    }
    plain = len(row.prompt) == 1 and all(len(one) == 1 for one in sides.values())
    if not plain:
        tally.lost["rows of several turns, left out"] += 1
        return
    cells = {"prompt": row.prompt[0].content} | {name: one[0].content for name, one in sides.items()}
    yield cells | ({} if row.label is None else {"label": row.label})


def _as_messages(row: Row, tally: Tally) -> Iterator[Cells]:
    answer = row.chosen if row.completion is None else row.completion
    if answer is None or row.label is False:
        why = "prompts without an answer" if answer is None else "answers that people call bad"
        tally.lost[f"{why}, left out"] += 1
        return
    if row.rejected is not None:
        tally.lost["rejected answers, left out"] += 1
    yield {"messages": turns((*row.prompt, *answer))}


def _unpaired(row: Row, tally: Tally) -> Iterator[Cells]:
    sides = [(row.chosen, True), (row.rejected, False), (row.completion, row.label)]
    given = [(answer, label) for answer, label in sides if answer is not None and label is not None]
    if not given:
        tally.lost["rows of which nobody says whether they are good, left out"] += 1
    for answer, label in given:
        yield {"prompt": turns(row.prompt), "completion": turns(answer), "label": label}


def _implicit(row: Row, tally: Tally) -> Iterator[Cells]:
    if row.chosen is None or row.rejected is None:
        tally.lost["rows that are no preference, left out"] += 1
        return
    yield {"chosen": turns((*row.prompt, *row.chosen)), "rejected": turns((*row.prompt, *row.rejected))}


def _prompts(row: Row, _: Tally) -> Iterator[Cells]:
    yield {"prompt": turns(row.prompt)}


def _layout(name: str, what: str, shape: Shape, *fields: str) -> Layout:
    return Layout(
        name, (Row, Judgement), f"TRL's {what} (JSON lines, one file a split)", _write(shape), frozenset(fields), ""
    )


_ALL = ("prompt", "completion", "chosen", "rejected", "label")
_PAIR = ("text_a", "text_b", "outcome")
TRL: Sequence[Layout] = (
    _layout("trl", "conversational shape that the rows have; of judgements, preferences", _as_it_is, *_ALL, *_PAIR),
    _layout("trl-text", "standard shape, texts in place of turns", _as_texts, *_ALL, *_PAIR),
    _layout(
        "trl-messages", "language modelling, for SFT: of preferences the chosen answers", _as_messages, *_ALL, *_PAIR
    ),
    _layout("trl-unpaired", "unpaired preference, for KTO", _unpaired, *_ALL, *_PAIR),
    _layout("trl-implicit", "preference whose sides repeat the prompt", _implicit, *_ALL, *_PAIR),
    _layout("trl-prompts", "prompts alone, for online methods", _prompts, "prompt"),
)
