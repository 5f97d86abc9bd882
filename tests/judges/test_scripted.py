"""The scripted judge against its definition."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

import pytest
from scipy import stats
from scipy.special import expit

from perl_eval.errors import UserError
from perl_eval.judges.backends.scripted import ScriptedJudge
from perl_eval.records import Ballot, Completion, Order, Question


def completion(text: str, item: str = "item") -> Completion:
    return Completion(f"{item}/{text}", item, "group", "demo", "policy", (), text, "stop", 0)


def question(*texts: str, order: Order = "ab", item: str = "item") -> Question:
    shown = tuple(completion(text, item) for text in texts)
    return Question("j", "pairwise" if len(texts) == 2 else "yes_no", order, shown, (), "sha")


def judge(**knobs: Any) -> ScriptedJudge:
    return ScriptedJudge(lambda answer: float(answer.text), name="number", **knobs)


def ballots(judge: ScriptedJudge, questions: Sequence[Question]) -> list[Ballot]:
    replies = asyncio.run(judge.ask(questions))
    return [judge.read(question, reply) for question, reply in zip(questions, replies, strict=True)]


@pytest.mark.parametrize(
    ("first", "second", "knobs", "verdict"),
    [
        ("2", "1", {}, "first"),
        ("1", "2", {}, "second"),
        ("1", "1", {}, "tie"),
        ("1", "2", {"position_bias": 1.5}, "first"),  # 1 - 2 + 1.5 > 0
        ("1", "2", {"position_bias": 0.5}, "second"),
        ("1", "2", {"tie_margin": 1.0}, "tie"),
        ("1", "2", {"tie_margin": 0.9}, "second"),
        ("1", "1", {"position_bias": 0.1}, "first"),
    ],
)
def test_the_verdict_is_the_sign_of_the_margin(first: str, second: str, knobs: dict[str, float], verdict: str) -> None:
    assert ballots(judge(**knobs), [question(first, second)])[0].verdict == verdict


def test_the_probability_is_the_logistic_of_the_margin() -> None:
    (ballot,) = ballots(judge(position_bias=0.25), [question("2", "1.5")])
    assert ballot.p_first == pytest.approx(expit(0.75))


def test_extreme_margins_do_not_overflow() -> None:
    up, down = ballots(judge(), [question("1e4", "0"), question("0", "1e4")])
    assert (up.p_first, down.p_first) == (1.0, 0.0)


@pytest.mark.parametrize(("text", "verdict"), [("0.6", "yes"), ("0.5", "no"), ("0.4", "no")])
def test_a_single_answer_is_a_yes_above_the_threshold(text: str, verdict: str) -> None:
    assert ballots(judge(threshold=0.5), [question(text, order="none")])[0].verdict == verdict


def test_noise_has_the_stated_size_and_no_bias() -> None:
    # Utilities differ by 1 and noise is 2, so P(first) = Phi(1 / 2) = 0.6915 over items.
    judged = ballots(judge(noise=2.0), [question("1", "0", item=str(i)) for i in range(4000)])
    wins = sum(ballot.verdict == "first" for ballot in judged)
    assert stats.binomtest(wins, 4000, stats.norm.cdf(0.5)).pvalue > 0.01


def test_noise_turns_its_sign_with_the_order() -> None:
    noisy = judge(noise=3.0)
    for item in map(str, range(50)):
        ab, ba = ballots(noisy, [question("1", "0", item=item), question("0", "1", order="ba", item=item)])
        assert ab.p_first is not None
        assert ba.p_first is not None
        assert ab.p_first + ba.p_first == pytest.approx(1.0)


def test_noise_depends_on_the_seed_and_not_on_other_rows() -> None:
    rows = [question("1", "0", item=str(i)) for i in range(20)]
    alone = [ballots(judge(noise=1.0), [row])[0].p_first for row in rows]
    assert [ballot.p_first for ballot in ballots(judge(noise=1.0), rows[::-1])] == alone[::-1]
    assert [ballot.p_first for ballot in ballots(judge(noise=1.0, seed=1), rows)] != alone


def test_equal_texts_have_no_noise() -> None:
    assert ballots(judge(noise=5.0), [question("1", "1")])[0].verdict == "tie"


@pytest.mark.parametrize("knobs", [{"noise": -1.0}, {"tie_margin": -0.1}, {"position_bias": math.inf}])
def test_impossible_parameters_are_refused(knobs: dict[str, float]) -> None:
    with pytest.raises(UserError):
        judge(**knobs)


def test_it_says_that_it_is_simulated_and_shows_every_parameter() -> None:
    shown = judge(position_bias=1.0, noise=2.0, tie_margin=3.0, threshold=4.0, seed=5)
    assert shown.simulated
    assert shown.parameters == {"position_bias": 1.0, "noise": 2.0, "tie_margin": 3.0, "threshold": 4.0, "seed": 5}
