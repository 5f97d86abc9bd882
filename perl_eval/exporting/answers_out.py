"""Completions to the files in which other tools keep answers.

Sources: tatsu-lab/alpaca_eval ``README.md`` (model outputs); lm-sys/FastChat ``fastchat/llm_judge/common.py``
(load_questions, load_model_answers); lmarena/arena-hard-auto ``show_result.py`` (uid, model); OpenAI's guide to its
Batch API (custom_id, method, url, body).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from perl_eval.errors import UserError
from perl_eval.exporting.layouts import Layout, Tally, plain_text, turns, write_json, write_lines
from perl_eval.records import PICTURE, Completion, Message, digest

__all__ = ["ANSWERS"]

_QUESTIONS = "question.jsonl"
_ANSWERS = "model_answer"
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
        for one in _first_draws(_seen(found, tally), tally)
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
    kept = list(_seen(found, tally))
    questions = [
        {"question_id": _numbered(item), "category": "general", "turns": [plain_text(prompt, tally)]}
        for item, prompt in _prompts(kept).items()
    ]
    _write_beside(out / _QUESTIONS, questions, tally)
    for policy, file in _files(kept, out, tally).items():
        by_item: dict[str, list[Completion]] = defaultdict(list)
        for one in kept:
            if one.policy == policy:
                by_item[one.item].append(one)
        rows = []
        for item, answers in by_item.items():
            ordered = sorted(answers, key=lambda one: one.draw)
            choices = [{"index": place, "turns": [one.text]} for place, one in enumerate(ordered)]
            rows.append(
                {
                    "question_id": _numbered(item),
                    "answer_id": ordered[0].id,
                    "model_id": policy,
                    "choices": choices,
                    "tstamp": 0.0,
                }
            )
        before = tally.rows
        write_lines(file, rows, tally)
        tally.rows = before + sum(map(len, by_item.values()))


def _arena_hard(found: Iterable[Completion], out: Path, tally: Tally) -> None:
    """Write ``question.jsonl`` and ``model_answer/POLICY.jsonl`` as version 2 has them."""
    kept = list(_first_draws(_seen(found, tally), tally))
    flat = Tally()
    questions = [
        {"uid": item, "category": _CATEGORY, "subcategory": "", "prompt": plain_text(prompt, flat)}
        for item, prompt in _prompts(kept).items()
    ]
    _write_beside(out / _QUESTIONS, questions, tally)
    for policy, file in _files(kept, out, tally).items():
        rows = [
            {
                "uid": one.item,
                "ans_id": one.id,
                "model": policy,
                "messages": [*turns(one.prompt), {"role": "assistant", "content": {"answer": one.text}}],
                "tstamp": 0.0,
            }
            for one in kept
            if one.policy == policy
        ]
        write_lines(file, rows, tally)


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
        if one.images or any(PICTURE in turn.content for turn in one.prompt):
            tally.lost["answers to prompts with pictures, left out"] += 1
        else:
            yield one


def _first_draws(found: Iterator[Completion], tally: Tally) -> Iterator[Completion]:
    """Yield one answer of each policy to each item: that of the smallest draw."""
    first: dict[tuple[str, str], Completion] = {}
    for one in found:
        key = (one.policy, one.item)
        if key in first:
            tally.lost["further draws, left out"] += 1
        if key not in first or one.draw < first[key].draw:
            first[key] = one
    yield from first.values()


def _prompts(found: Sequence[Completion]) -> Mapping[str, tuple[Message, ...]]:
    """Return the prompt of each item.

    Raises:
        UserError: There are two.
    """
    prompts: dict[str, tuple[Message, ...]] = {}
    for one in found:
        if prompts.setdefault(one.item, one.prompt) != one.prompt:
            raise _two_prompts(one.item)
    return prompts


def _files(found: Sequence[Completion], out: Path, tally: Tally) -> Mapping[str, Path]:
    """Return the file of each policy's answers, called as the policy is, as far as files can be."""
    files: dict[str, Path] = {}
    for policy in dict.fromkeys(one.policy for one in found):
        name = re.sub(r"[^\w.-]+", "_", policy).lstrip(".") or "policy"
        if name != policy:
            tally.lost["policies whose file has another name"] += 1
        path = out / _ANSWERS / f"{name}.jsonl"
        files[policy] = path if path not in files.values() else path.with_stem(f"{name}-{digest(policy)[:8]}")
    return files


def _write_beside(path: Path, rows: Sequence[Mapping[str, Any]], tally: Tally) -> None:
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
