"""A judge from its run card reads every reply as its own door does, and answers nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from perl_eval.client.reply import Reply
from perl_eval.errors import UserError
from perl_eval.judges.backends.offline import KeptJudge, reopen
from perl_eval.judges.backends.reward_model import RewardJudge
from perl_eval.judges.backends.scripted import ScriptedJudge
from perl_eval.records import Completion, Kind, Message, Question, RunCard, Scale

ASKED = (Message("user", "hi"),)


def question(kind: Kind = "pairwise") -> Question:
    answers = tuple(Completion(name, "i", "g", "d", "p", ASKED, name, "stop", 0) for name in ("one", "two"))
    shown = answers if kind == "pairwise" else answers[:1]
    scale = Scale(1, 5) if kind == "score" else None
    return Question("q", kind, "ab" if kind == "pairwise" else "none", shown, ASKED, "0", scale=scale)


@pytest.mark.parametrize(
    ("door", "parameters", "reply", "kind", "verdict"),
    [
        ("chat", {}, "[[B]]", "pairwise", "second"),
        ("chat", {}, "Score: 4", "score", "scored"),
        ("decisions", {"tie_margin": 0.2}, '{"A": 0.55, "B": 0.45}', "pairwise", "tie"),
        ("decisions", {"tie_margin": 0.05}, '{"A": 0.55, "B": 0.45}', "pairwise", "first"),
        ("local", {"tie_margin": 0.2}, '{"A": 0.45, "B": 0.55}', "pairwise", "tie"),
        ("local", {"tie_margin": 0.0}, '{"A": 0.45, "B": 0.55}', "pairwise", "second"),
        ("local", {"tie_margin": 0.0}, '{"yes": 0.3, "no": 0.7}', "yes_no", "no"),
    ],
)
def test_replies_are_read_by_the_rules_on_the_card(
    door: str, parameters: dict[str, Any], reply: str, kind: Kind, verdict: str
) -> None:
    ballot = KeptJudge(door, "m", parameters).read(question(kind), Reply(reply))
    assert ballot.verdict == verdict


@pytest.mark.parametrize(
    "judge",
    [
        RewardJudge(lambda _: (), name="rm", threshold=0.5, tie_margin=1.5),
        ScriptedJudge(lambda _: 0.0, name="s", position_bias=0.5, noise=0.1, tie_margin=1.5, threshold=2.0, seed=3),
    ],
    ids=["reward", "scripted"],
)
def test_judges_here_read_as_before(judge: RewardJudge | ScriptedJudge) -> None:
    kept = KeptJudge(judge.door, judge.model, dict(judge.parameters))
    assert (kept.positional, kept.simulated, kept.sees) == (judge.positional, judge.simulated, judge.sees)
    replies = ["[1.0, 2.0]", "[1.0, 4.0]"] if judge.door == "reward" else ["1.0", "-3.0"]
    for reply in replies:
        assert kept.read(question(), Reply(reply)) == judge.read(question(), Reply(reply))


def test_it_answers_nothing() -> None:
    kept = KeptJudge("chat", "m", {})
    with pytest.raises(UserError, match="m is known from its run card only, and cannot answer"):
        asyncio.run(kept.ask([question()]))


CARD = RunCard("judge", {}, 0, {}, {}, {}, 0.0, 0, "now")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "a run of `judge` has no judge"),
        ({"judge": "chat"}, "a run of `judge` has no judge"),
        ({"judge": {"door": "oracle", "model": "m", "parameters": {}}}, "names no judge of this version"),
        ({"judge": {"door": "local", "model": "m", "parameters": {}}}, "names no judge of this version"),
        ({"judge": {"door": "reward", "model": "m", "parameters": {"x": 1}}}, "names no judge of this version"),
    ],
)
def test_a_card_without_a_known_judge_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        reopen(replace(CARD, arguments=arguments))
