"""Completions to judge, and a judge's measure of them, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from perl_eval.judging import judge
from perl_eval.records import Completion, Judgement, Message
from perl_eval.storage import run_folder

MIRROR = {"win": "loss", "loss": "win"}
OPTIONS = judge.JudgeOptions("dialogue")


def completion(policy: str, item: int, text: str, draw: int = 0) -> Completion:
    prompt = (Message("user", f"order {item}"),)
    return Completion(
        f"{policy}-{item}-{draw}", f"item{item:04}", f"g{item // 2}", "demo", policy, prompt, text, "stop", draw
    )


def saved(folder: Path, completions: Sequence[Completion]) -> Path:
    with run_folder.start(folder, verb="sample", arguments={}) as run:
        run.write(completions, Completion)
    return folder


def pair_judged(place: int, outcome: str, **changes: object) -> Judgement:
    """Return the judgement of pair number ``place``, each in a group of its own, without ballots."""
    made = Judgement(
        id=f"j{place}",
        kind="pairwise",
        item=f"i{place}",
        group=f"g{place}",
        dataset="orders",
        a=f"a{place}",
        b=f"b{place}",
        policy_a="rl",
        policy_b="sft",
        prompt=(),
        text_a="",
        text_b="",
        outcome=outcome,
        ballots=(),
        judge="scripted",
        prompt_sha256="0" * 64,
        simulated=False,
    )
    return replace(made, **changes)


def length(answer: Completion) -> float:
    return float(len(answer.text))
