"""What is wrong with built rows: leakage between splits and from another data set, duplicates, contradictions, bias.

A row **leaks** from another part if its prompt is there too (exact), is the beginning or the continuation of a
conversation there (prefix; a beginning of one turn does not count), or shares a run of 13 words with any text there
(13-gram; what tools return is not looked at). Runs of words that occur in more than ten groups are boilerplate and do
not count.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from datasets_builders.errors import BuilderError

__all__ = ["GRAM", "Finding", "as_markdown", "examine", "runs", "split_files"]

GRAM = 13
"""How many words in a row count as copied."""
_BOILERPLATE_GROUPS = 10
_ORDER = {"train": 0, "test": 2}
_ANSWERS = ("completion", "chosen", "rejected")
_READ = ("prompt", *_ANSWERS, "label", "group")
_WORD = re.compile(r"\w+")
_WEIGHTS = np.power(np.uint64(0x9E3779B97F4A7C15), np.arange(1, GRAM + 1, dtype=np.uint64))


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        check: What was looked for.
        where: The split, or the two parts, it was looked for in.
        count: How often it was found, in rows unless ``note`` says otherwise.
        of: Out of how many.
        note: What else there is to say.
    """

    check: str
    where: str
    count: int
    of: int
    note: str = ""


@dataclass(slots=True)
class _Part:
    """What is kept of the rows of one split: hashes, lengths and labels, no text."""

    prompts: list[int] = field(default_factory=list)
    beginnings: list[list[int]] = field(default_factory=list)
    answers: list[tuple[int, ...]] = field(default_factory=list)
    lengths: list[tuple[int, ...]] = field(default_factory=list)
    labels: list[bool] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    grams: list[npt.NDArray[np.uint64]] = field(default_factory=list)


def split_files(folder: Path) -> dict[str, list[Path]]:
    """Return the parquet files of each split in the folder of a configuration.

    Raises:
        BuilderError: There are none.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*-of-*.parquet")):
        found.setdefault(path.name.split("-")[0], []).append(path)
    if not found:
        raise BuilderError(f"{folder} holds no built rows", "give the folder that `build` wrote")
    return found


def _turns(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return each message as text: role, content or parts of it, and tool calls."""
    return [
        json.dumps([turn["role"], turn["content"], turn.get("tool_calls")], ensure_ascii=False) for turn in messages
    ]


def runs(text: str) -> npt.NDArray[np.uint64]:
    """Return a hash of every run of 13 words, each once."""
    words = np.fromiter(map(hash, _WORD.findall(text.lower())), dtype=np.int64).view(np.uint64)
    if len(words) < GRAM:
        return words[:0]
    windows = np.lib.stride_tricks.sliding_window_view(words, GRAM)
    return np.unique((windows * _WEIGHTS).sum(axis=1, dtype=np.uint64))


def _said(turn: Mapping[str, Any]) -> str:
    """Return the text of a message."""
    content = turn["content"]
    return content if isinstance(content, str) else " ".join(part["text"] or "" for part in content or ())


def _done(turn: Mapping[str, Any]) -> str:
    """Return the text of a message and its tool calls, which count towards the length of an answer."""
    return " ".join([_said(turn), *map(str, turn.get("tool_calls") or ())])


def _rows(files: Sequence[Path]) -> Iterator[dict[str, Any]]:
    for path in files:
        with pq.ParquetFile(path) as table:
            columns = [name for name in _READ if name in table.schema_arrow.names]
            for batch in table.iter_batches(batch_size=1024, columns=columns):
                yield from batch.to_pylist()


def _read(files: Sequence[Path]) -> _Part:
    part = _Part()
    for row in _rows(files):
        turns = _turns(row["prompt"])
        part.prompts.append(hash(tuple(turns)))
        part.beginnings.append([hash(tuple(turns[:length])) for length in range(2, len(turns))])
        answers = [row[name] for name in _ANSWERS if name in row]
        part.answers.append(tuple(hash(tuple(_turns(answer))) for answer in answers))
        part.lengths.append(tuple(len(" ".join(map(_done, answer)).strip()) for answer in answers))
        turns_said = [turn for column in (row["prompt"], *answers) for turn in column if turn["role"] != "tool"]
        part.grams.append(runs(" ".join(map(_said, turns_said))))
        part.groups.append(row["group"])
        if "label" in row:
            part.labels.append(row["label"])
    return part


def _boilerplate(parts: Sequence[_Part]) -> npt.NDArray[np.uint64]:
    """Return the runs of words that occur in more than ten groups."""
    numbers: dict[str, int] = {}
    grams, owners = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for part in parts:
        for group, of_row in zip(part.groups, part.grams, strict=True):
            grams.append(of_row)
            owners.append(np.full(len(of_row), numbers.setdefault(group, len(numbers)), np.int64))
    all_grams, all_owners = np.concatenate(grams), np.concatenate(owners)
    order = np.lexsort((all_owners, all_grams))
    all_grams, all_owners = all_grams[order], all_owners[order]
    fresh = np.ones(len(all_grams), bool)
    fresh[1:] = (all_grams[1:] != all_grams[:-1]) | (all_owners[1:] != all_owners[:-1])
    found, counts = np.unique(all_grams[fresh], return_counts=True)
    return np.asarray(found[counts > _BOILERPLATE_GROUPS], np.uint64)


def _leakage(name: str, part: _Part, other: _Part, boilerplate: npt.NDArray[np.uint64]) -> Iterator[Finding]:
    """Yield how many rows of a part leak from another."""
    size = len(part.prompts)
    there, begun = set(other.prompts), {one for of_row in other.beginnings for one in of_row}
    exact = sum(prompt in there for prompt in part.prompts)
    yield Finding("the same prompt", name, exact, size)
    prefix = sum(
        prompt in begun or not there.isdisjoint(beginnings)
        for prompt, beginnings in zip(part.prompts, part.beginnings, strict=True)
    )
    yield Finding("a prompt that begins or continues one there", name, prefix, size)
    yield Finding("a group that is there too", name, sum(map(set(other.groups).__contains__, part.groups)), size)
    known = np.setdiff1d(np.concatenate([np.empty(0, np.uint64), *other.grams]), boilerplate)
    ends = np.cumsum([0, *map(len, part.grams)])
    hit = np.isin(np.concatenate([np.empty(0, np.uint64), *part.grams]), known)
    sums = np.concatenate([[0], np.cumsum(hit)])
    yield Finding("a run of 13 words that is there too", name, int((sums[ends[1:]] > sums[ends[:-1]]).sum()), size)


def _repeats(parts: Mapping[str, _Part]) -> Iterator[Finding]:
    """Yield duplicate and contradictory rows, over all splits."""
    labels = [label for part in parts.values() for label in part.labels or [True] * len(part.prompts)]
    rows = [
        (prompt, answers) for part in parts.values() for prompt, answers in zip(part.prompts, part.answers, strict=True)
    ]
    times = Counter(zip(rows, labels, strict=True))
    yield Finding("the same prompt, answers and label again", "all splits", len(rows) - len(times), len(rows))
    if any(part.labels for part in parts.values()):
        both = Counter(row for row, _ in times)
        yield Finding("rated both up and down", "all splits", sum(n > 1 for n in both.values()), len(both), "answers")
    elif rows and len(rows[0][1]) == 2:
        pairs = {row for row, _ in times}
        swapped = sum((prompt, answers[::-1]) in pairs for prompt, answers in pairs if answers[0] != answers[1])
        yield Finding("preferred both ways round", "all splits", swapped // 2, len(pairs), "pairs")


def _balance(split: str, part: _Part) -> Iterator[Finding]:
    """Yield the share of thumbs up, or of longer chosen answers."""
    size = len(part.prompts)
    if part.labels:
        ups = sum(part.labels)
        lengths = np.array([length for (length,) in part.lengths])
        up = np.array(part.labels, dtype=bool)
        note = ", ".join(
            f"mean {lengths[mask].mean():.0f} characters {word}"
            for word, mask in (("up", up), ("down", ~up))
            if mask.any()
        )
        yield Finding("thumbs up", split, ups, size, note)
    elif part.lengths and len(part.lengths[0]) == 2:
        chosen, rejected = np.array(part.lengths).T
        note = f"mean {chosen.mean():.0f} characters chosen, {rejected.mean():.0f} rejected"
        note += f"; {int((chosen == rejected).sum()):,} of equal length"
        yield Finding("the chosen answer is longer", split, int((chosen > rejected).sum()), size, note)


def examine(folder: Path, *, against: Path | None = None) -> list[Finding]:
    """Look through the built rows of one configuration.

    Args:
        folder: The configuration's folder of parquet files.
        against: Folder of another data set, of all its configurations, to look for leakage from.

    Raises:
        BuilderError: A folder holds no built rows.
    """
    files = split_files(folder)
    parts = {split: _read(files[split]) for split in sorted(files, key=lambda name: (_ORDER.get(name, 1), name))}
    if against is not None:
        other = _read(sorted(against.glob("*/*-of-*.parquet")))
        if not other.prompts:
            raise BuilderError(f"{against} holds no built rows", "give the folder that `build` wrote")
    boilerplate = _boilerplate([*parts.values(), *([other] if against is not None else [])])
    findings: list[Finding] = []
    for earlier, later in combinations(parts, 2):
        findings += _leakage(f"{later} from {earlier}", parts[later], parts[earlier], boilerplate)
    if against is not None:
        for split, part in parts.items():
            findings += _leakage(f"{split} from {against.name}", part, other, boilerplate)
    findings += _repeats(parts)
    for split, part in parts.items():
        findings += _balance(split, part)
    return findings


def as_markdown(findings: Sequence[Finding]) -> str:
    """Return the findings as a table."""
    lines = ["| check | where | found | share | note |", "| --- | --- | --- | --- | --- |"]
    for one in findings:
        share = f"{one.count / one.of:.1%}" if one.of else ""
        lines.append(f"| {one.check} | {one.where} | {one.count:,} of {one.of:,} | {share} | {one.note} |")
    return "\n".join(lines)
