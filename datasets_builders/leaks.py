"""Which built rows are in another set of texts too, row by row: what training on them would give away.

A row leaks in these ways, each told apart:

- **equal prompt**: the whole prompt is one there.
- **prompt inside a dialogue**: the last turn of the prompt is a turn of a longer dialogue there, or the last turn of a
  prompt there is a turn of the row's own longer dialogue.
- **equal answer**: an answer is an answer there.
- **answer inside a dialogue**: an answer is a turn of a prompt there, or an answer there is a turn of the row's prompt.
- **run of 13 words**: any text of the row shares 13 words in a row with any text there. Runs that are in more than ten
  rows there are boilerplate and do not count.

Texts are compared without letter case, white space and punctuation around words; signs that make another word, as in
"C++" or "2-2", count. Turns and answers of fewer than five words, such as "yes", are not looked for alone: they are
everywhere.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from datasets_builders.checks import GRAM, Finding, runs, split_files
from datasets_builders.errors import BuilderError

__all__ = ["Held", "Leak", "built_rows", "drop_rows", "findings", "held_in", "leaks", "write_leaks"]

_BOILERPLATE_ROWS = 10
_SHORT = 5
_ANSWERS = ("completion", "chosen", "rejected")
_PARTING, _OF_WORDS = ("Po", "Ps", "Pe", "Pi", "Pf"), "#%&*@/\\"
_WORD = re.compile(r"\w+")
_FIELDS = ("config", "split", "id", "other_id", "kind", "matches", "other_text")
_SHOWN = 200
Grams = npt.NDArray[np.uint64]
KINDS = (
    *("equal prompt", "prompt inside a dialogue", "equal answer", "answer inside a dialogue"),
    f"run of {GRAM} words",
)


@dataclass(frozen=True, slots=True)
class Held:
    """The texts of one row.

    Attributes:
        id: The row's id.
        prompt: The text of each turn of the prompt, the last one being what is answered.
        answers: The text of each answer.
    """

    id: str
    prompt: tuple[str, ...]
    answers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Leak:
    """One row that is in the other set too, in one way.

    Attributes:
        config: The row's configuration.
        split: The row's split.
        id: The row.
        other_id: The first row there that it matches.
        kind: In which way, one of `KINDS`.
        matches: How many rows there it matches in this way.
        other_text: What that first row there asks, or says where it asks nothing, on one line, cut to 200 characters.
    """

    config: str
    split: str
    id: str
    other_id: str
    kind: str
    matches: int
    other_text: str = ""


def _plain(text: str) -> str:
    """Return a text in lower case, without the punctuation around its words; one of punctuation alone as it is."""
    words = unicodedata.normalize("NFC", text).casefold().split()
    return " ".join(filter(None, map(_bare, words))) or " ".join(words)


def _bare(word: str) -> str:
    """Return a word without the punctuation at its ends."""
    first, last = 0, len(word)
    while first < last and _closes(word[first]):
        first += 1
    while first < last and _closes(word[last - 1]):
        last -= 1
    return word[first:last]


def _closes(sign: str) -> bool:
    """Return whether a sign only parts words: quotes, brackets, stops of any script, but not "#" or "%"."""
    return unicodedata.category(sign) in _PARTING and sign not in _OF_WORDS


def _shown(row: Held) -> str:
    """Return what a row asks, or says where it asks nothing, on one line and cut."""
    text = " ".join(next(iter((*row.prompt[-1:], *row.answers)), "").split())
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _long(text: str) -> bool:
    return len(_WORD.findall(text)) >= _SHORT


def _grams(texts: Iterable[str]) -> Grams:
    """Return a hash of every run of 13 words in some texts, each once."""
    return np.unique(np.concatenate([np.empty(0, np.uint64), *map(runs, texts)]))


class _Runs:
    """The runs of words of many rows, and which rows they are in."""

    def __init__(self) -> None:
        self._grams: list[Grams] = []

    def add(self, grams: Grams) -> None:
        """Add the next row."""
        self._grams.append(grams)

    @cached_property
    def _sorted(self) -> tuple[Grams, npt.NDArray[np.int64]]:
        """All runs in order, and the row of each; without boilerplate."""
        grams = np.concatenate([np.empty(0, np.uint64), *self._grams])
        rows = np.repeat(np.arange(len(self._grams), dtype=np.int64), [len(of_row) for of_row in self._grams])
        order = np.argsort(grams, kind="stable")
        grams, rows = grams[order], rows[order]
        _, places, counts = np.unique(grams, return_inverse=True, return_counts=True)
        rare = counts[places] <= _BOILERPLATE_ROWS
        return grams[rare], rows[rare]

    def rows_with(self, grams: Grams) -> set[int]:
        """Return the rows that have one of some runs."""
        known, rows = self._sorted
        first, last = np.searchsorted(known, grams, "left"), np.searchsorted(known, grams, "right")
        hit = np.flatnonzero(last > first)
        return {int(one) for at in hit for one in rows[first[at] : last[at]]}


@dataclass(slots=True)
class _Index:
    """Where a text of the other set is: numbers of rows, by text."""

    ids: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    prompts: dict[tuple[str, ...], list[int]] = field(default_factory=lambda: defaultdict(list))
    asked: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    turns: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    answers: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    runs: _Runs = field(default_factory=_Runs)

    def add(self, row: Held) -> None:
        number = len(self.ids)
        self.ids.append(row.id)
        self.texts.append(_shown(row))
        prompt, answers = tuple(map(_plain, row.prompt)), [_plain(text) for text in row.answers]
        if prompt:
            self.prompts[prompt].append(number)
            if _long(prompt[-1]):
                self.asked[prompt[-1]].append(number)
        for turn in set(filter(_long, prompt)) if len(prompt) > 1 else ():
            self.turns[turn].append(number)
        for answer in set(filter(_long, answers)):
            self.answers[answer].append(number)
        self.runs.add(_grams([*prompt, *answers]))

    def matches(self, row: Held) -> Iterator[tuple[str, set[int]]]:
        """Yield in which ways a row is there, and where."""
        prompt, answers = tuple(map(_plain, row.prompt)), [text for text in map(_plain, row.answers) if _long(text)]
        last = prompt[-1] if prompt and _long(prompt[-1]) else None
        equal = set(self.prompts.get(prompt, ())) if prompt else set()
        yield KINDS[0], equal
        inside = set(self.turns.get(last, ())) if last else set()
        inside |= {one for turn in prompt for one in self.asked.get(turn, ())} if len(prompt) > 1 else set()
        yield KINDS[1], inside - equal
        yield KINDS[2], {one for answer in answers for one in self.answers.get(answer, ())}
        among = {one for answer in answers for one in self.turns.get(answer, ())}
        yield KINDS[3], among | {one for turn in prompt for one in self.answers.get(turn, ())}
        yield KINDS[4], self.runs.rows_with(_grams([*prompt, *map(_plain, row.answers)]))


def leaks(rows: Iterable[tuple[str, str, Held]], others: Iterable[Held]) -> Iterator[Leak]:
    """Yield in which ways rows are among others, a line for each row and way.

    Args:
        rows: Configuration, split and texts of each row.
        others: The texts to look for.
    """
    index = _Index()
    for other in others:
        index.add(other)
    for config, split, row in rows:
        for kind, found in index.matches(row):
            if found:
                first = min(found)
                yield Leak(config, split, row.id, index.ids[first], kind, len(found), index.texts[first])


def _text(turn: Mapping[str, Any]) -> str:
    content = turn["content"]
    said = content if isinstance(content, str) else " ".join(part["text"] or "" for part in content or ())
    return " ".join([said, *map(str, turn.get("tool_calls") or ())]).strip()


def built_rows(files: Sequence[Path]) -> Iterator[Held]:
    """Yield the texts of the rows in some parquet files that `build` wrote."""
    for path in files:
        with pq.ParquetFile(path) as table:
            columns = [name for name in ("id", "prompt", *_ANSWERS) if name in table.schema_arrow.names]
            for batch in table.iter_batches(batch_size=1024, columns=columns):
                for row in batch.to_pylist():
                    answers = [row[name] for name in _ANSWERS if row.get(name)]
                    said = tuple("\n".join(map(_text, answer)) for answer in answers)
                    yield Held(str(row["id"]), tuple(map(_text, row["prompt"])), said)


def held_in(folder: Path) -> list[Held]:
    """Return the texts of all rows in a folder that `build` wrote, or in one configuration's folder.

    Raises:
        BuilderError: It holds no built rows.
    """
    files = sorted([*folder.glob("*/*-of-*.parquet"), *folder.glob("*-of-*.parquet")])
    if not files:
        raise BuilderError(f"{folder} holds no built rows", "give the folder that `build` wrote, or a file of texts")
    return list(built_rows(files))


def write_leaks(folder: Path, configs: Sequence[str], others: Sequence[Held], path: Path) -> list[Leak]:
    """Look through built configurations for other texts, and list what leaks as CSV.

    Args:
        folder: The data set's folder, as `build` fills it.
        configs: The configurations to look through.
        others: The texts to look for.
        path: The file to write.

    Returns:
        What the file lists.
    """
    rows = (
        (config, split, row)
        for config in configs
        for split, files in split_files(folder / config).items()
        for row in built_rows(files)
    )
    found = list(leaks(rows, others))
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(_FIELDS)
        writer.writerows([getattr(leak, name) for name in _FIELDS] for leak in found)
    return found


def drop_rows(files: Sequence[Path], ids: Collection[str]) -> int:
    """Leave rows out of parquet files that `build` wrote; each file is replaced once it is written.

    Args:
        files: The files.
        ids: The ids of the rows.

    Returns:
        How many rows were left out.
    """
    unwanted, dropped = pa.array(sorted(ids), pa.string()), 0
    for path in files:
        partial = path.with_name(f"{path.name}.partial")
        with pq.ParquetFile(path) as table, pq.ParquetWriter(partial, table.schema_arrow) as kept:
            for batch in table.iter_batches():
                leaves = pc.is_in(batch.column("id").cast(pa.string()), value_set=unwanted)
                dropped += pc.sum(leaves, min_count=0).as_py()
                kept.write_batch(batch.filter(pc.invert(leaves)))
        partial.replace(path)
    return dropped


def findings(
    found: Sequence[Leak], sizes: Mapping[tuple[str, str], int], name: str, *, note: str = ""
) -> dict[str, list[Finding]]:
    """Return how many rows leak: in each way, and in any of them, in which a row counts once.

    Args:
        found: The leaks.
        sizes: How many rows each split of each configuration has.
        name: What the other set is called.
        note: What became of the rows, if anything did.

    Returns:
        Findings by configuration.
    """
    by_kind = Counter((leak.config, leak.split, leak.kind) for leak in found)
    rows = Counter((config, split) for config, split, _ in {(leak.config, leak.split, leak.id) for leak in found})
    lines: dict[str, list[Finding]] = {}
    for (config, split), size in sizes.items():
        where = f"{split} in {name}"
        of_config = lines.setdefault(config, [])
        of_config += [
            Finding(kind, where, count, size, note.removeprefix("; ") if count else "")
            for kind in KINDS
            for count in [by_kind[config, split, kind]]
        ]
        any_way = rows[config, split]
        told = f"rows, each counted once; listed in leaks.csv{note if any_way else ''}"
        of_config.append(Finding("leaks in any way", where, any_way, size, told))
    return lines
