"""Completions to the files in which other tools keep answers.

Sources: tatsu-lab/alpaca_eval ``README.md`` (model outputs); lm-sys/FastChat ``fastchat/llm_judge/common.py``
(load_questions, load_model_answers); lmarena/arena-hard-auto ``show_result.py`` (uid, model); OpenAI's guide to its
Batch API (custom_id, method, url, body).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from perl_eval.errors import UserError
from perl_eval.exporting.grouped import grouped
from perl_eval.exporting.layouts import Layout, Tally, plain_text, turns, write_json, write_lines
from perl_eval.records import PICTURE, Completion, Message, digest

__all__ = ["ANSWERS"]

_QUESTIONS = "question.jsonl"
_ANSWERS = "model_answer"
_PICTURES = "answers to prompts with pictures, left out"
_CATEGORY = "hard_prompt"
"""The category of Arena-Hard whose judge's settings are the usual ones."""


def _alpaca(found: Iterable[Completion], out: Path, tally: Tally) -> None:
    policies = sorted({one.policy for one in found})
    if len(policies) > 1:
        what = f"AlpacaEval keeps one policy a file, and there are {', '.join(policies)}"
        raise UserError(what, "choose one with --policy NAME")
    rows = (
        {
            "dataset": one.dataset,
            "instruction": plain_text(one.prompt, tally),
            "output": one.text,
            "generator": one.policy,
        }
        for one in _first_draws(grouped(_without_pictures(found, tally), _policy, _item), tally)
    )
    write_json(out, rows, tally)


def _chat(found: Iterable[Completion], out: Path, tally: Tally) -> None:
    write_lines(out, _dialogues(found, tally), tally)


def _dialogues(found: Iterable[Completion], tally: Tally) -> Iterator[Mapping[str, Any]]:
    for one in _seen(found, tally):
        if one.prompt:
            yield {"messages": [*turns(one.prompt), {"role": "assistant", "content": one.text}]}
        else:
            tally.lost["answers without a prompt, left out"] += 1


def _mt_bench(found: Iterable[Completion], out: Path, tally: Tally) -> None:
    """Write ``question.jsonl`` and ``model_answer/POLICY.jsonl``, draws as choices."""
    kept = _without_pictures(found, tally)
    questions = (
        {"question_id": _numbered(item), "category": "general", "turns": [plain_text(prompt, tally)]}
        for item, prompt in _prompts(kept)
    )
    _write_beside(out / _QUESTIONS, questions, tally)
    answers = 0

    def rows(policy: str, groups: Iterable[Sequence[Completion]]) -> Iterator[Mapping[str, Any]]:
        nonlocal answers
        for group in groups:
            ordered = sorted(group, key=lambda one: one.draw)
            answers += len(ordered)
            yield {
                "question_id": _numbered(ordered[0].item),
                "answer_id": ordered[0].id,
                "model_id": policy,
                "choices": [{"index": place, "turns": [one.text]} for place, one in enumerate(ordered)],
                "tstamp": 0.0,
            }

    _write_policies(kept, out, tally, rows)
    tally.rows = answers


def _arena_hard(found: Iterable[Completion], out: Path, tally: Tally) -> None:
    """Write ``question.jsonl`` and ``model_answer/POLICY.jsonl`` as version 2 has them."""
    kept, flat = _without_pictures(found, tally), Tally()
    questions = (
        {"uid": item, "category": _CATEGORY, "subcategory": "", "prompt": plain_text(prompt, flat)}
        for item, prompt in _prompts(kept)
    )
    _write_beside(out / _QUESTIONS, questions, tally)

    def rows(policy: str, groups: Iterable[Sequence[Completion]]) -> Iterator[Mapping[str, Any]]:
        for one in _first_draws(groups, tally):
            yield {
                "uid": one.item,
                "ans_id": one.id,
                "model": policy,
                "messages": [*turns(one.prompt), {"role": "assistant", "content": {"answer": one.text}}],
                "tstamp": 0.0,
            }

    _write_policies(kept, out, tally, rows)


def _write_policies(
    found: Iterable[Completion],
    out: Path,
    tally: Tally,
    rows: Callable[[str, Iterable[Sequence[Completion]]], Iterator[Mapping[str, Any]]],
) -> None:
    """Write a file of each policy's answers, from a policy and its answers to one item after the other."""
    files = _files(found, out, tally)
    groups = grouped(found, _policy, _item)
    for policy, own in groupby(groups, key=lambda group: group[0].policy):
        write_lines(files[policy], rows(policy, own), tally)


def _requests(found: Iterable[Completion], out: Path, tally: Tally) -> None:
    """Write the prompts as requests of OpenAI's Batch API, each item once."""
    rows = (
        {
            "custom_id": one.item,
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": one.policy, "messages": turns(one.prompt)},
        }
        for one in _first_of_items(_seen(found, tally))
    )
    write_lines(out, rows, tally)


def _first_of_items(found: Iterable[Completion]) -> Iterator[Completion]:
    """Yield the first answer to each item.

    Raises:
        UserError: An item has two prompts.
    """
    prompts: dict[str, str] = {}
    for one in found:
        own = digest(*(part for turn in one.prompt for part in (turn.role, turn.content)))
        if one.item not in prompts:
            prompts[one.item] = own
            yield one
        elif prompts[one.item] != own:
            raise _two_prompts(one.item)


def _two_prompts(item: str) -> UserError:
    return UserError(f"item {item!r} has two prompts", "give each prompt an item of its own")


def _seen(found: Iterable[Completion], tally: Tally) -> Iterator[Completion]:
    """Yield answers to prompts of text."""
    for one in found:
        if _has_pictures(one):
            tally.lost[_PICTURES] += 1
        else:
            yield one


def _has_pictures(one: Completion) -> bool:
    return bool(one.images) or any(PICTURE in turn.content for turn in one.prompt)


@dataclass(frozen=True, slots=True)
class _Textual:
    """Answers to prompts of text; can be gone through more than once."""

    found: Iterable[Completion]

    def __iter__(self) -> Iterator[Completion]:
        return (one for one in self.found if not _has_pictures(one))


def _without_pictures(found: Iterable[Completion], tally: Tally) -> Iterable[Completion]:
    """Return the answers to prompts of text, and count the others."""
    left_out = sum(map(_has_pictures, found))
    if not left_out:
        return found
    tally.lost[_PICTURES] += left_out
    return _Textual(found)


def _first_draws(groups: Iterable[Sequence[Completion]], tally: Tally) -> Iterator[Completion]:
    """Yield one answer of each policy to each item: that of the smallest draw."""
    for group in groups:
        if len(group) > 1:
            tally.lost["further draws, left out"] += len(group) - 1
        yield min(group, key=lambda one: one.draw)


def _prompts(found: Iterable[Completion]) -> Iterator[tuple[str, tuple[Message, ...]]]:
    """Yield the items with their prompts.

    Raises:
        UserError: An item has two prompts.
    """
    for group in grouped(found, _item):
        if any(one.prompt != group[0].prompt for one in group):
            raise _two_prompts(group[0].item)
        yield group[0].item, group[0].prompt


def _policy(one: Completion) -> str:
    return one.policy


def _item(one: Completion) -> str:
    return one.item


def _files(found: Iterable[Completion], out: Path, tally: Tally) -> Mapping[str, Path]:
    """Return the file of each policy's answers, called as the policy is, as far as files can be."""
    files: dict[str, Path] = {}
    for policy in dict.fromkeys(one.policy for one in found):
        name = re.sub(r"[^\w.-]+", "_", policy).lstrip(".") or "policy"
        if name != policy:
            tally.lost["policies whose file has another name"] += 1
        path = out / _ANSWERS / f"{name}.jsonl"
        files[policy] = path if path not in files.values() else path.with_stem(f"{name}-{digest(policy)[:8]}")
    return files


def _write_beside(path: Path, rows: Iterable[Mapping[str, Any]], tally: Tally) -> None:
    """Write rows that are no records of their own."""
    before = tally.rows
    write_lines(path, rows, tally)
    tally.rows = before


def _numbered(item: str) -> int | str:
    """Return an item as a number where it is written as one, for FastChat's questions are numbered."""
    return int(item) if item.isdecimal() and str(int(item)) == item else item


ANSWERS: Sequence[Layout] = (
    Layout(
        "alpaca-eval",
        (Completion,),
        "AlpacaEval's outputs (JSON): instruction, output, generator",
        _alpaca,
        frozenset({"prompt", "text", "policy", "dataset"}),
        ".json",
    ),
    Layout(
        "chat",
        (Completion,),
        "dialogues in `messages`, the last turn the answer (JSON lines)",
        _chat,
        frozenset({"prompt", "text"}),
        ".jsonl",
    ),
    Layout(
        "mt-bench",
        (Completion,),
        "FastChat's question.jsonl and model_answer/*.jsonl",
        _mt_bench,
        frozenset({"prompt", "text", "policy", "item", "draw"}),
        "",
    ),
    Layout(
        "arena-hard",
        (Completion,),
        "Arena-Hard 2's question.jsonl and model_answer/*.jsonl",
        _arena_hard,
        frozenset({"prompt", "text", "policy", "item"}),
        "",
    ),
    Layout(
        "openai-requests",
        (Completion,),
        "the prompts as requests of OpenAI's Batch API, and of vLLM's run-batch (JSON lines)",
        _requests,
        frozenset({"prompt", "item", "policy"}),
        ".jsonl",
    ),
)
