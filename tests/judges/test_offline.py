"""A judge from its run card reads every reply as its own backend does, and answers nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from perl_eval.client.reply import Reply
from perl_eval.errors import UserError
from perl_eval.judges.backends.offline import READING, described, reopen
from perl_eval.judges.backends.reward_model import RewardJudge
from perl_eval.judges.backends.scripted import ScriptedJudge
from perl_eval.judges.readers import register_reader
from perl_eval.records import Completion, Kind, Message, Question, RunCard, Scale

ASKED = (Message("user", "hi"),)


def question(kind: Kind = "pairwise") -> Question:
    answers = tuple(Completion(name, "i", "g", "d", "p", ASKED, name, "stop", 0) for name in ("one", "two"))
    shown = answers if kind == "pairwise" else answers[:1]
    scale = Scale(1, 5) if kind == "score" else None
    return Question("q", kind, "ab" if kind == "pairwise" else "none", shown, ASKED, "0", scale=scale)


CARD = RunCard("judge", {}, 0, {}, {}, {}, 0.0, 0, "now")


def card(door: str, model: str, parameters: dict[str, Any]) -> RunCard:
    return replace(CARD, arguments={"judge": {"door": door, "model": model, "parameters": parameters}})


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
    ballot = reopen(card(door, "m", parameters)).reader.read(question(kind), Reply(reply))
    assert ballot.verdict == verdict


@pytest.mark.parametrize(
    "judge",
    [
        RewardJudge(lambda _: (), name="rm", threshold=0.5, tie_margin=1.5),
        ScriptedJudge(lambda _: 0.0, name="s", position_bias=0.5, noise=0.1, tie_margin=1.5, threshold=2.0, seed=3),
    ],
    ids=["reward", "scripted"],
)
@pytest.mark.parametrize("said", [False, True], ids=["a card of before", "a card of now"])
def test_judges_here_read_as_before(judge: RewardJudge | ScriptedJudge, said: bool) -> None:
    of_before = card(judge.backend, judge.model, dict(judge.parameters))
    kept = reopen(replace(of_before, notes={READING: described(judge)}) if said else of_before)
    assert (kept.positional, kept.simulated, kept.sees) == (judge.positional, judge.simulated, judge.sees)
    replies = ["[1.0, 2.0]", "[1.0, 4.0]"] if judge.backend == "reward" else ["1.0", "-3.0"]
    for reply in replies:
        assert kept.reader.read(question(), Reply(reply)) == judge.reader.read(question(), Reply(reply))


def test_it_answers_nothing() -> None:
    kept = reopen(card("chat", "m", {}))
    with pytest.raises(UserError, match="m is known from its run card only, and cannot answer"):
        asyncio.run(kept.ask([question()]))


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


@pytest.mark.parametrize(
    ("reading", "message"),
    [
        ({}, "names no judge of this version"),
        ("text", "names no judge of this version"),
        ({"reader": {"name": "tea leaves"}}, "no replies are known to be read as 'tea leaves'"),
        ({"reader": {"name": "text", "x": 1}}, "no replies are known to be read as 'text'"),
        ({"reader": {"name": "probabilities", "tie_margin": 0.5}}, None),
    ],
)
def test_a_card_says_how_its_replies_are_read(reading: Any, message: str | None) -> None:
    facts = {"positional": True, "simulated": False, "sees": "messages"}
    said = {**facts, **reading} if isinstance(reading, dict) and reading else reading
    given = replace(card("own", "m", {}), notes={READING: said})
    if message is None:
        assert reopen(given).reader.read(question(), Reply('{"A": 0.6, "B": 0.4}')).verdict == "tie"
        return
    with pytest.raises(UserError, match=message):
        reopen(given)


def test_readers_keep_their_names() -> None:
    with pytest.raises(UserError, match="a reader 'text' is there already"):
        register_reader(type("Other", (), {"name": "text"}))
