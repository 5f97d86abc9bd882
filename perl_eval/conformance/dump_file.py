"""A trainer checked by what it dumped: tokens, log-probabilities, rewards and gradients of its batches, as JSON lines.

The first line says what the language is; each line after it is a completion:

``{"vocabulary": 3, "end": 0, "longest": 2, "beta": 0.3, "group_size": 2, "objective": "kl"}``

``{"batch": 0, "tokens": [1, 0], "log_probs": [[..], [..]], "prior_log_probs": [[..], [..]], "reward": 0.5,
"gradient": [[..], [..]]}``

``log_probs`` and ``prior_log_probs`` are of every word of the vocabulary at each place, T x V; ``gradient`` is that of
the loss of the batch in the logits whose softmax is sampled from, T x V, before any optimiser. ``end`` is null in a
language without one. One policy and one prompt a dump; nearly all of what the policy can say must occur in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from perl_eval.checks import existing
from perl_eval.conformance.batch_gradients import GradientLaw
from perl_eval.conformance.listed_language import (
    ListedLanguage,
    WorldShape,
    assembled,
    list_sequences,
    summed_log_probs,
)
from perl_eval.conformance.objective_list import known_objective
from perl_eval.errors import DataError

__all__ = ["Dump", "read_dump"]

_HEAD = ("vocabulary", "end", "longest", "beta", "group_size")
_ROW = ("batch", "tokens", "log_probs", "prior_log_probs", "reward", "gradient")
_AGREE = 1e-3
"""Log-probabilities of one prefix may differ by this, nats: rounding of float16 is near it."""
_MOST = 20_000
"""Sequences that are listed."""
_UNSEEN = 1e-3
"""The probability of all that the dump does not show."""


@dataclass(frozen=True, slots=True, eq=False)
class Dump:
    """A language, as a dump shows it, and the gradient that was measured on it.

    Attributes:
        language: Every sequence, with the policy, prior and rewards of the dump.
        law: The mean gradient over batches, to be ascended, and its standard error.
        objective: What the trainer claims.
        unseen: The probability of the sequences that do not occur.
    """

    language: ListedLanguage
    law: GradientLaw
    objective: str
    unseen: float


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of a dump, its number, and its words with the end as word 0."""

    line: int
    batch: str
    tokens: tuple[int, ...]
    policy: torch.Tensor
    prior: torch.Tensor
    reward: float
    gradient: torch.Tensor


def read_dump(path: Path) -> Dump:
    """Read a dump.

    Args:
        path: A file of JSON lines, see the module.

    Raises:
        UserError: There is no such file, or its objective is not known.
        DataError: A line is not as it has to be, the policy changes, or too much of the language does not occur.
    """
    file = existing(path)
    lines = _lines(file)
    _, head = next(lines, (0, None))
    if head is None:
        raise DataError("the file is empty", file=file, fix="write a line about the language, then completions")
    _has(head, _HEAD, file, 1)
    shape = _shape(head, file)
    rows = [_row(line, content, shape, head["end"], file) for line, content in lines]
    if not rows:
        raise DataError("there is no completion", file=file, fix="write a line for each completion")
    language, unseen = _language(rows, shape, file)
    objective = known_objective(str(head.get("objective", "kl")), file.name)
    return Dump(language, _measured(rows, language), objective, unseen)


def _shape(head: dict[str, Any], file: Path) -> WorldShape:
    try:
        whole = {name: int(head[name]) for name in ("vocabulary", "longest", "group_size")}
        beta, end = float(head["beta"]), head["end"]
        if end is not None and not 0 <= int(end) < whole["vocabulary"]:
            raise ValueError(f"end is {end}, and the vocabulary has {whole['vocabulary']} words")
    except (TypeError, ValueError) as error:
        raise DataError(f"line 1: {error}", file=file, fix="write numbers") from None
    if whole["vocabulary"] ** whole["longest"] > _MOST:
        said = f"{whole['vocabulary']} words and {whole['longest']} tokens are too many to list"
        raise DataError(said, file=file, fix=f"train on a language of at most {_MOST:,} sequences")
    return WorldShape(
        file.name,
        whole["vocabulary"],
        whole["longest"],
        end_rate=0.0 if end is None else 0.5,
        group_size=whole["group_size"],
        beta=beta,
    )


def _lines(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with file.open(encoding="utf-8") as handle:
        for number, line in enumerate(handle, 1):
            if not line.strip():
                continue
            try:
                content = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"line {number} is not JSON: {error.msg}", file=file, fix="write JSON lines") from None
            if not isinstance(content, dict):
                raise DataError(f"line {number} is not an object", file=file, fix="write one object a line")
            yield number, content


def _has(content: dict[str, Any], names: Sequence[str], file: Path, line: int) -> None:
    missing = [name for name in names if name not in content]
    if missing:
        raise DataError(f"line {line} has no {', '.join(missing)}", file=file, fix=f"write {', '.join(names)}")


def _row(line: int, content: dict[str, Any], shape: WorldShape, end: int | None, file: Path) -> _Row:
    _has(content, _ROW, file, line)
    order = list(range(shape.vocabulary))
    if end is not None:
        order = [end, *(word for word in order if word != end)]
    try:
        tokens = tuple(order.index(word) for word in content["tokens"])
        tables = [torch.tensor(content[name], dtype=torch.float64)[:, order] for name in (_ROW[2], _ROW[3], _ROW[5])]
        reward = float(content["reward"])
        if not all(bool(torch.isfinite(table).all()) for table in (*tables, torch.tensor(reward))):
            raise ValueError("a number is not finite")
    except (ValueError, TypeError, IndexError) as error:
        raise DataError(f"line {line}: {error}", file=file, fix="write numbers, T x V in tables") from None
    sizes = {tuple(table.shape) for table in tables}
    if sizes != {(len(tokens), shape.vocabulary)} or not 0 < len(tokens) <= shape.longest:
        said = f"line {line} has {len(tokens)} tokens and tables of {', '.join(map(str, sorted(sizes)))}"
        raise DataError(said, file=file, fix=f"write 1 to {shape.longest} tokens, tables T x {shape.vocabulary}")
    if end is not None and (0 in tokens[:-1] or (tokens[-1] != 0 and len(tokens) < shape.longest)):
        raise DataError(f"line {line}: the end comes too early, or not at all", file=file, fix="cut padding off")
    return _Row(line, str(content["batch"]), tokens, tables[0], tables[1], reward, tables[2])


def _language(rows: Sequence[_Row], shape: WorldShape, file: Path) -> tuple[ListedLanguage, float]:
    """Return the language that rows show, and the probability of what they do not.

    Raises:
        DataError: One prefix has two distributions, one sequence two rewards, or too much is missing.
    """
    ends = shape.end_rate > 0
    sequences = list_sequences(shape.vocabulary, shape.longest, ends=ends)
    prefixes = list(dict.fromkeys(one[:place] for one in sequences for place in range(len(one))))
    number = {prefix: place for place, prefix in enumerate(prefixes)}
    size = (len(prefixes), shape.vocabulary)
    tables = [torch.zeros(size, dtype=torch.float64) for _ in range(2)]
    seen: dict[int, int] = {}
    rewards: dict[tuple[int, ...], tuple[float, int]] = {}
    for row in rows:
        for place in range(len(row.tokens)):
            prefix = number[row.tokens[:place]]
            for table, told in zip(tables, (row.policy, row.prior), strict=True):
                if prefix in seen and float((table[prefix] - told[place]).abs().max()) > _AGREE:
                    said = f"lines {seen[prefix]} and {row.line} have two distributions after the same tokens"
                    raise DataError(said, file=file, fix="dump one policy and one prompt")
                table[prefix] = told[place]
            seen.setdefault(prefix, row.line)
        before = rewards.setdefault(row.tokens, (row.reward, row.line))
        if abs(before[0] - row.reward) > _AGREE:
            said = f"lines {before[1]} and {row.line} have two rewards for the same tokens"
            raise DataError(said, file=file, fix="dump rewards that depend on the tokens alone")
    paid = torch.tensor([rewards.get(one, (0.0, 0))[0] for one in sequences], dtype=torch.float64)
    language = assembled(shape, sequences, paid, (tables[0], tables[1]), ends=ends)
    absent = torch.tensor([one not in rewards for one in sequences])
    unseen = float(summed_log_probs(language, language.theta).exp()[absent].sum())
    if unseen > _UNSEEN:
        said = f"sequences of probability {unseen:.2g} do not occur"
        raise DataError(said, file=file, fix="dump more batches, or a smaller language")
    return language, unseen


def _measured(rows: Sequence[_Row], language: ListedLanguage) -> GradientLaw:
    """Return the mean over batches of the gradient, turned round, and its standard error."""
    number = {prefix: place for place, prefix in enumerate(language.prefixes)}
    by_batch: dict[str, torch.Tensor] = {}
    for row in rows:
        found = by_batch.setdefault(row.batch, torch.zeros_like(language.theta))
        for place in range(len(row.tokens)):
            found[number[row.tokens[:place]]] -= row.gradient[place]
    stacked = torch.stack(list(by_batch.values()))
    spread = stacked.var(0) if len(stacked) > 1 else torch.zeros_like(language.theta)
    return GradientLaw(stacked.mean(0), (spread / len(stacked)).sqrt(), float(spread.sum()), len(stacked), listed=False)
