"""The embedded world: coffee orders with a known reward, for demos and tests. Nothing here comes from people.

A customer orders a drink in one size with one kind of milk; the agent should confirm the order. What the agent should
have said is known, so the true reward of any answer is known: content (were drink, size and milk confirmed as asked)
and form (an opening, one drink, one size, one milk, a closing, nothing else).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from perl_eval.errors import UserError
from perl_eval.records import Completion, HumanLabel, Message, digest, unit_of
from perl_eval.storage import parquet, run_folder

__all__ = [
    "ANNOTATORS",
    "DATASET",
    "TASTE",
    "build",
    "label_pairs",
    "label_single",
    "liked",
    "true_reward",
    "true_reward_of",
]

DATASET = "coffee_world"
DRINKS = ("latte", "mocha", "espresso", "cappuccino", "americano", "cortado")
SIZES = ("small", "medium", "large")
MILKS = ("oat", "soy", "whole", "almond")
OPENINGS = ("sure", "great", "okay", "certainly", "of course", "no problem", "absolutely", "perfect")
CLOSINGS = ("coming up", "on its way", "right away", "in a moment", "just for you", "as you wish")
_ASKS = (
    "can i get a {size} {drink} with {milk} milk",
    "i would like a {size} {drink} with {milk} milk please",
    "one {drink} , {size} , with {milk} milk",
    "a {size} {milk} milk {drink} please",
    "hello , {milk} milk {drink} in {size} please",
)
_CHANGES = (
    ("size", "actually make it {size}"),
    ("milk", "sorry , {milk} milk instead"),
    ("drink", "no wait , a {drink} instead"),
)
ANNOTATORS = {"annotator 1": 8.0, "annotator 2": 6.0, "annotator 3": 4.0}
"""The simulated annotators and how sharply each tells better from worse: P(a over b) = sigmoid(2 x sharpness x gap)."""
TASTE = {"absolutely": 0.1, "just for you": 0.1}
"""What all annotators like and the true reward does not count, in units of reward: a reward model learns it too."""
_SLOTS = {"drink": DRINKS, "size": SIZES, "milk": MILKS}
_FORM = re.compile(
    "({}) , one ({}) ({}) milk ({}) ({})".format(*map("|".join, (OPENINGS, SIZES, MILKS, DRINKS, CLOSINGS)))
)
_FORM_WEIGHT = 0.25


def _wanted(prompt: Sequence[Message]) -> dict[str, str]:
    """Return what the customer wants in the end: for each slot the last value they named."""
    wanted = {}
    for message in prompt:
        if message.role == "user":
            words = message.content.split()
            for slot, values in _SLOTS.items():
                named = [word for word in words if word in values]
                if named:
                    wanted[slot] = named[-1]
    return wanted


def true_reward(prompt: Sequence[Message], answer: str) -> float:
    """Return the known reward of an answer, in [0, 1].

    Three quarters are content: the share of drink, size and milk that the answer names as wanted and never otherwise.
    One quarter is form: the answer is an opening, one order and a closing, and nothing else.
    """
    words = answer.split()
    right = 0
    for slot, value in _wanted(prompt).items():
        named = [word for word in words if word in _SLOTS[slot]]
        right += bool(named) and all(word == value for word in named)
    form = _FORM.fullmatch(" ".join(words)) is not None
    return (1 - _FORM_WEIGHT) * right / len(_SLOTS) + _FORM_WEIGHT * form


def liked(prompt: Sequence[Message], answer: str) -> float:
    """Return what an answer is worth to the annotators: its true reward, and their taste."""
    return true_reward(prompt, answer) + sum(bonus for words, bonus in TASTE.items() if words in answer)


def true_reward_of(completion: Completion) -> float:
    """Return the known reward of a completion, in [0, 1]."""
    return true_reward(completion.prompt, completion.text)


def _pick(random: np.random.Generator, values: Sequence[str]) -> str:
    return values[int(random.integers(len(values)))]


def _prompt(random: np.random.Generator) -> tuple[Message, ...]:
    """Return one customer's turn, or three turns if the customer has second thoughts."""
    order = {slot: _pick(random, values) for slot, values in _SLOTS.items()}
    turns = [Message("user", _pick(random, _ASKS).format(**order))]
    if random.random() < 0.35:
        slot, change = _CHANGES[int(random.integers(len(_CHANGES)))]
        other = [value for value in _SLOTS[slot] if value != order[slot]]
        turns.append(Message("assistant", _answer(order, random)))
        turns.append(Message("user", change.format(**{slot: _pick(random, other)})))
    return tuple(turns)


def _answer(order: dict[str, str], random: np.random.Generator) -> str:
    opening, closing = _pick(random, OPENINGS), _pick(random, CLOSINGS)
    return f"{opening} , one {order['size']} {order['milk']} milk {order['drink']} {closing}"


def _flawed_answer(prompt: Sequence[Message], random: np.random.Generator, *, broken: float = 0.25) -> str:
    """Return what an agent of the data says: each slot wrong one time in five, the form as often as ``broken`` says.

    A broken form lacks a word or its end, or says a part of itself twice, as untrained speakers and language models do.
    """
    order = _wanted(prompt)
    for slot, values in _SLOTS.items():
        if random.random() < 0.2:
            order[slot] = _pick(random, [value for value in values if value != order[slot]])
    words = _answer(order, random).split()
    if random.random() < broken:
        start = int(random.integers(len(words) - 1))
        stop = start + 1 + int(random.integers(len(words) - start))
        kind = int(random.integers(3))
        if kind == 0:
            words = words[:start] + words[start + 1 :]
        elif kind == 1:
            words = words[: len(words) - 2]
        else:
            words = words[:stop] + words[start:]
    return " ".join(words)


def _prefers(gap: float, sharpness: float, random: np.random.Generator) -> bool:
    return bool(random.random() < 1 / (1 + math.exp(-2 * sharpness * gap)))


def _turns(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _row(prompt: tuple[Message, ...], index: str, **columns: Any) -> dict[str, Any]:
    text = "\n".join(f"{message.role}: {message.content}" for message in prompt)
    wide = {"id": digest(DATASET, index, text), "group": digest(DATASET, text), "dataset": DATASET}
    return {**wide, "source_file": "embedded", "prompt": _turns(prompt), **columns}


def _preference(prompt: tuple[Message, ...], index: str, random: np.random.Generator) -> dict[str, Any]:
    """Return a pair of answers that differ in worth, ordered by the majority of the three annotators."""
    gap = 0.0
    while gap == 0:
        first, second = (_flawed_answer(prompt, random, broken=0.5) for _ in range(2))
        gap = liked(prompt, first) - liked(prompt, second)
    votes = sum(_prefers(gap, sharpness, random) for sharpness in ANNOTATORS.values())
    chosen, rejected = (first, second) if votes * 2 > len(ANNOTATORS) else (second, first)
    return _row(
        prompt,
        index,
        chosen=_turns([Message("assistant", chosen)]),
        rejected=_turns([Message("assistant", rejected)]),
    )


def build(out: Path, *, demonstrations: int = 4000, preferences: int = 3000, prompts: int = 600, seed: int = 0) -> Path:
    """Write the world's data in the layout of ``perl-eval build``: demonstrations, preferences and prompts.

    Args:
        out: The run folder; gets one folder a config, with the splits train and validation, preferences also test,
            prompts train and test.
        demonstrations: Training rows of demonstrations; a tenth as many for validation.
        preferences: Training rows of preferences; a tenth as many for validation, a third for test.
        prompts: Training prompts; half as many for test, less those drawn twice. Test prompts occur in no other split.
        seed: Seeds everything.

    Raises:
        UserError: A size is below 1, or the folder holds something else or cannot be written.
    """
    sizes = {"demonstrations": demonstrations, "preferences": preferences, "prompts": prompts}
    for name, size in sizes.items():
        if size < 1:
            raise UserError(f"{name} is {size}", "give 1 or more")
    with run_folder.start(out, verb="build", arguments={"name": DATASET, **sizes}, seed=seed, simulated=True) as going:
        if going.done:
            return going.folder
        random = np.random.default_rng(seed)
        test = {_prompt(random): None for _ in range(max(1, prompts // 2))}

        def fresh() -> tuple[Message, ...]:
            while (prompt := _prompt(random)) in test:
                pass
            return prompt

        for split, share in (("train", 1), ("validation", 10)):
            rows = []
            for index in range(max(1, demonstrations // share)):
                prompt = fresh()
                answer = Message("assistant", _flawed_answer(prompt, random))
                rows.append(_row(prompt, f"d{split}{index}", completion=_turns([answer])))
            _write(going.folder / "demonstrations" / f"{split}.parquet", rows)
            count = max(1, preferences // share)
            pairs = [_preference(fresh(), f"p{split}{index}", random) for index in range(count)]
            _write(going.folder / "preferences" / f"{split}.parquet", pairs)
        asked = [_row(fresh(), f"q{index}") for index in range(prompts)]
        _write(going.folder / "prompts" / "train.parquet", asked)
        _write(going.folder / "prompts" / "test.parquet", [_row(prompt, "test") for prompt in test])
        pairs = [_preference(fresh(), f"ptest{index}", random) for index in range(max(1, preferences // 3))]
        _write(going.folder / "preferences" / "test.parquet", pairs)
        going.notes["simulated"] = "dialogues, reward and annotators come from a program; no person was asked"
    return going.folder


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(rows)
    parquet.replace_file(path, lambda partial: pq.write_table(table, partial))


def label_pairs(a: Sequence[Completion], b: Sequence[Completion], *, seed: int = 0) -> list[HumanLabel]:
    """Return the three simulated annotators' labels of answer pairs, from a's view.

    An annotator compares twice, each time right as `ANNOTATORS` says, and calls it a tie if the two comparisons differ:
    of answers of equal true reward half are ties, a quarter wins and a quarter losses.
    """
    labels = []
    for one, other in zip(a, b, strict=True):
        gap = liked(one.prompt, one.text) - liked(other.prompt, other.text)
        for name, sharpness in ANNOTATORS.items():
            random = np.random.default_rng(int(digest(str(seed), name, one.id, other.id), 16))
            first, second = (_prefers(gap, sharpness, random) for _ in range(2))
            label = "tie" if first != second else "win" if first else "loss"
            labels.append(_label(name, label, one, other.id))
    return labels


def label_single(completions: Sequence[Completion], *, threshold: float = 0.9, seed: int = 0) -> list[HumanLabel]:
    """Return the three simulated annotators' yes or no to "did the agent do what was asked?"."""
    labels = []
    for one in completions:
        for name, sharpness in ANNOTATORS.items():
            random = np.random.default_rng(int(digest(str(seed), name, one.id), 16))
            good = _prefers(2 * (true_reward_of(one) - threshold), sharpness, random)
            labels.append(_label(name, "yes" if good else "no", one, ""))
    return labels


def _label(annotator: str, label: Any, one: Completion, other: str) -> HumanLabel:
    return HumanLabel(
        unit=unit_of(one.id, other), item=one.item, group=one.group, annotator=annotator, label=label, simulated=True
    )
