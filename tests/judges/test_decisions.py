"""The decisions door in both forms: the requests it sends and what it makes of the answers."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import pytest
from fake_server import FakeServer, serving

from perl_eval.client.ledger import Ledger
from perl_eval.client.usage import Usage
from perl_eval.errors import UserError
from perl_eval.judges import prompting
from perl_eval.judges.backends.decisions import DecisionJudge, DecisionOptions
from perl_eval.judging.engine.ask import AskOptions, ask
from perl_eval.judging.outcome_of import plan
from perl_eval.outcomes import decide
from perl_eval.records import Ballot, Completion, Message, Question

QUICK = AskOptions(attempts=4, backoff_s=0.001)
Form = Literal["openai", "systemone"]
FORMS: list[Form] = ["openai", "systemone"]


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted")


def completion(side: str, number: int, text: str) -> Completion:
    prompt = (Message("user", f"order {number}"),)
    return Completion(f"{side}{number}", str(number), "g", "d", side, prompt, text, "stop", 0)


def contest(count: int) -> list[tuple[Completion, Completion]]:
    """Make pairs: a is shorter, longer, or as long as b, in turn."""
    return [
        (completion("a", number, "x" * (5 + (number % 3 - 1))), completion("b", number, "y" * 5))
        for number in range(count)
    ]


def judge_of(server: FakeServer, form: Form, **knobs: Any) -> DecisionJudge:
    return DecisionJudge("luna", DecisionOptions(form=form, base_url=server.url, **knobs))


def put(judge: DecisionJudge, path: Path, questions: list[Question], tally: Usage | None = None) -> list[Ballot]:
    with Ledger(path / "ledger.sqlite") as ledger:
        return list(ask(questions, judge, ledger, options=QUICK, tally=tally))


@pytest.mark.parametrize("form", FORMS)
def test_both_orders_travel_in_one_request_over_one_shared_input(tmp_path: Path, form: Form) -> None:
    with serving(FakeServer()) as server:
        judge, tally = judge_of(server, form), Usage()
        questions = list(plan(contest(9), judge, prompting.load("dialogue")))
        ballots = put(judge, tmp_path, questions, tally)
    assert len(server.requests) == tally.requests == 9
    for body in server.requests:
        shared = body["input"] if form == "openai" else body["state"]
        asked = body["questions"] if form == "openai" else list(body["questions"].values())
        assert [question["type"] for question in asked] == ["choice", "choice"]
        assert "order " in shared
        assert "xxxx" not in shared
        own = [question["instructions"] for question in asked]
        assert own[0].index("xxxx") < own[0].index("yyyyy")
        assert own[1].index("yyyyy") < own[1].index("xxxx")
    outcomes = [decide(ballots[place : place + 2]) for place in range(0, 18, 2)]
    # The server gives the shorter answer 0.6 of 0.9, wherever it stands, and equals 0.5 each, which is a tie.
    assert [decision.outcome for decision in outcomes] == ["win", "tie", "loss"] * 3
    assert [decision.p_a for decision in outcomes[:3]] == pytest.approx([2 / 3, 1 / 2, 1 / 3])


@pytest.mark.parametrize("form", FORMS)
def test_a_tie_can_be_an_option_and_counts_half(tmp_path: Path, form: Form) -> None:
    with serving(FakeServer()) as server:
        judge = judge_of(server, form, tie=True)
        ballots = put(judge, tmp_path, list(plan(contest(1), judge, prompting.load("dialogue"))))
    assert [(ballot.order, ballot.verdict) for ballot in ballots] == [("ab", "first"), ("ba", "second")]
    # 0.6 and 0.3 for the two answers, and 0.1 for a tie: 0.65 and 0.35.
    assert [ballot.p_first for ballot in ballots] == pytest.approx([0.65, 0.35])


@pytest.mark.parametrize("form", FORMS)
def test_single_answers_are_predicates(tmp_path: Path, form: Form) -> None:
    with serving(FakeServer()) as server:
        judge = judge_of(server, form)
        questions = list(plan([(completion("a", 1, "x"),)], judge, prompting.load("harmful")))
        (ballot,) = put(judge, tmp_path, questions)
    assert (ballot.verdict, ballot.p_first) == ("yes", 0.75)


@pytest.mark.parametrize("form", FORMS)
def test_tokens_are_split_and_add_up(tmp_path: Path, form: Form) -> None:
    with serving(FakeServer()) as server:
        judge = judge_of(server, form, price_in_usd=10.0, price_out_usd=0.0)
        tally = Usage()
        ballots = put(judge, tmp_path, list(plan(contest(1), judge, prompting.load("dialogue"))), tally)
    assert [ballot.tokens_in for ballot in ballots] == [51, 50]
    assert tally.cost_usd == pytest.approx(101 * 10 / 1e6)


@pytest.mark.parametrize("form", FORMS)
def test_one_order_from_the_ledger_leaves_the_other_alone_in_its_request(tmp_path: Path, form: Form) -> None:
    with serving(FakeServer()) as server:
        judge = judge_of(server, form)
        questions = list(plan(contest(3), judge, prompting.load("dialogue")))
        whole = put(judge, tmp_path / "whole", questions)
        put(judge, tmp_path / "parts", questions[1:2])
        server.requests.clear()
        assert [ballot.p_first for ballot in put(judge, tmp_path / "parts", questions)] == [b.p_first for b in whole]
        assert sorted(len(body["questions"]) for body in server.requests) == [1, 2, 2]


def test_a_refusal_is_unjudged(tmp_path: Path) -> None:
    with serving(FakeServer(refusal="no")) as server:
        judge = judge_of(server, "openai")
        ballots = put(judge, tmp_path, list(plan(contest(1), judge, prompting.load("dialogue"))))
    assert {(ballot.verdict, ballot.reason) for ballot in ballots} == {(None, "the judge refused to answer")}


@pytest.mark.parametrize("form", FORMS)
def test_faults_are_asked_again(tmp_path: Path, form: Form) -> None:
    faults = ("500", "half_json", "drop", "429")
    server = FakeServer(fault=lambda body, attempt: faults[len(json.dumps(body)) % 4] if attempt == 1 else None)
    with serving(server):
        judge, tally = judge_of(server, form), Usage()
        ballots = put(judge, tmp_path, list(plan(contest(12), judge, prompting.load("dialogue"))), tally)
    assert all(ballot.verdict is not None for ballot in ballots)
    # What a kept connection drops without a word is sent once more at once, which is no retry.
    dropped = sum(faults[len(asked) % 4] == "drop" for asked in {json.dumps(body) for body in server.requests})
    assert 12 - dropped <= tally.retries <= 12
    assert set(Counter(json.dumps(body) for body in server.requests).values()) == {2}
    assert len(server.requests) == 24


def test_an_answer_of_another_form_is_unjudged(tmp_path: Path) -> None:
    with serving(FakeServer(system_one=lambda _: {"answers": {}})) as server:
        judge = judge_of(server, "systemone")
        ballots = put(judge, tmp_path, list(plan(contest(1), judge, prompting.load("dialogue"))))
    assert {str(ballot.reason) for ballot in ballots} == {"JudgeError: the reply has an unexpected form: no '0'"}


def test_the_same_checks_of_key_and_address_apply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(UserError, match="OPENAI_API_KEY is not set"):
        DecisionJudge("luna")
    with pytest.raises(UserError, match="password"):
        DecisionJudge("luna", DecisionOptions(base_url="http://me:secret@host/v1"))
