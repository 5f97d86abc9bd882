"""The files that the guides of docs/ start from, made small, and a judge that is right more often than not."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fake_server import Body

_TOPICS = ("a bicycle", "a recipe", "a contract", "a poem", "a budget", "a letter", "a map", "a battery")
_PEOPLE = ("ann", "ben", "cleo", "dan", "eve")


def chance(*words: object) -> float:
    """Return a number in [0, 1) that depends on nothing but the words."""
    digest = hashlib.sha256("/".join(map(str, words)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def mostly_right(body: Body) -> str:
    """Judge a pair by the number of steps that each answer gives; now and then by its position, or wrongly."""
    text = body["messages"][-1]["content"]
    first, second = text.split("=== answer A")[1].split("=== answer B")[:2]
    steps = [part.split("=== end")[0].count("Step") for part in (first, second)]
    drawn = chance("judge", body["model"], text)
    if drawn < 0.08:
        verdict = "A"
    elif drawn < 0.16 or steps[0] == steps[1]:
        verdict = "B" if chance("other", text) < 0.5 else "A"
    else:
        verdict = "A" if steps[0] > steps[1] else "B"
    return json.dumps({"verdict": verdict})


def _asked(n: int) -> str:
    return f"How do I look after {_TOPICS[n % len(_TOPICS)]}, case {n}?"


def _answer(policy: str, n: int, more: float) -> str:
    steps = 2 + (chance(policy, n) < more)
    return " ".join(f"Step {step}: check part {step} of case {n}." for step in range(1, steps + 1))


def _write_answers(path: Path, policy: str, count: int, more: float) -> None:
    rows = [{"prompt": _asked(n), "answer": _answer(policy, n, more)} for n in range(count)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")


def _preferred(n: int, person: str, more: Mapping[str, float]) -> str:
    steps = {policy: _answer(policy, n, share).count("Step") for policy, share in more.items()}
    if len(set(steps.values())) == 1:
        return "tie"
    best = max(steps, key=steps.__getitem__)
    return best if chance("person", person, n) < 0.9 else min(steps, key=steps.__getitem__)


def _write_people(path: Path, more: Mapping[str, float], count: int, people: Sequence[str]) -> None:
    first, second = more
    with path.open("w", encoding="utf-8", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(["prompt", "policy_a", "policy_b", "winner", "annotator"])
        for n in range(count):
            table.writerows([_asked(n), first, second, _preferred(n, person, more), person] for person in people)


def compare_prompts(folder: Path) -> None:
    """Answers of two versions of a prompt, and one person's preferences for a part."""
    more = {"v2": 0.8, "v1": 0.3}
    for policy, share in more.items():
        _write_answers(folder / f"{policy}.jsonl", policy, 200, share)
    _write_people(folder / "people.csv", more, 60, _PEOPLE[:1])


def replace_annotators(folder: Path) -> None:
    """Answers of two models, and five people's preferences for half of them."""
    more = {"ours": 0.7, "theirs": 0.4}
    for policy, share in more.items():
        _write_answers(folder / f"{policy}.jsonl", policy, 200, share)
    _write_people(folder / "people.csv", more, 100, _PEOPLE)


MAKERS: Mapping[str, Callable[[Path], Any]] = {
    "compare-prompts": compare_prompts,
    "replace-annotators": replace_annotators,
}
"""By the name of a guide, what makes the files that it starts from."""
