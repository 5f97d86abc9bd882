"""The reward model as judge against the Bradley-Terry formula."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import tiny_models
from scipy.special import expit

from perl_eval.errors import UserError
from perl_eval.judges.backend_options import BackendOptions
from perl_eval.judges.backends.reward_model import RewardJudge, opened
from perl_eval.records import Ballot, Completion, Message, Question


def question(*texts: str) -> Question:
    shown = tuple(Completion(text, "i", "g", "d", "p", (), text, "stop", 0) for text in texts)
    return Question("j", "pairwise" if len(texts) == 2 else "yes_no", "none", shown, (), "sha")


def rewards(completions: Sequence[Completion]) -> list[float]:
    return [float(completion.text) for completion in completions]


def ballots(judge: RewardJudge, questions: Sequence[Question]) -> list[Ballot]:
    replies = asyncio.run(judge.ask(questions))
    return [judge.reader.read(question, reply) for question, reply in zip(questions, replies, strict=True)]


def test_pairs_follow_bradley_terry() -> None:
    judge = RewardJudge(rewards, name="rm")
    first, second, tie = ballots(judge, [question("1.5", "0.5"), question("-2", "1"), question("1", "1")])
    assert (first.verdict, second.verdict, tie.verdict) == ("first", "second", "tie")
    # P(first preferred) = exp(r1) / (exp(r1) + exp(r2))
    assert first.p_first == pytest.approx(math.exp(1.5) / (math.exp(1.5) + math.exp(0.5)))
    assert second.p_first == pytest.approx(expit(-3.0))
    assert tie.p_first == 0.5


def test_single_answers_are_held_against_the_threshold() -> None:
    above, below = ballots(RewardJudge(rewards, name="rm", threshold=1.0), [question("1.5"), question("1.0")])
    assert (above.verdict, below.verdict) == ("yes", "no")
    assert above.p_first == pytest.approx(expit(0.5))


def test_a_margin_makes_ties() -> None:
    judge = RewardJudge(rewards, name="rm", tie_margin=0.5)
    assert [ballot.verdict for ballot in ballots(judge, [question("1", "0.5"), question("1", "0.4")])] == [
        "tie",
        "first",
    ]


def test_a_slope_scales_the_odds_of_a_pair() -> None:
    """Odds are exp(0.5 x (1.5 + 0.5)) = e; which comes first means nothing, so the intercept does not enter."""
    judge = RewardJudge(rewards, name="rm", slope=0.5, intercept=0.7)
    first, second = ballots(judge, [question("1.5", "-0.5"), question("-0.5", "1.5")])
    assert first.p_first == pytest.approx(math.e / (1 + math.e))
    assert second.p_first == pytest.approx(1 / (1 + math.e))
    assert judge.parameters == {"threshold": 0.0, "tie_margin": 0.0, "slope": 0.5, "intercept": 0.7}


def test_a_calibrated_chance_of_a_yes_is_of_the_answer_alone() -> None:
    """At slope 2 and intercept -1 a reward of 0.5 is an even chance, wherever yes begins."""
    for threshold, verdict in ((0.0, "yes"), (1.0, "no")):
        judge = RewardJudge(rewards, name="rm", threshold=threshold, slope=2.0, intercept=-1.0)
        even, up = ballots(judge, [question("0.5"), question("1.0")])
        assert (even.verdict, even.p_first) == (verdict, 0.5)
        assert up.p_first == pytest.approx(math.e / (1 + math.e))


def test_without_an_intercept_a_single_answer_is_held_against_the_threshold() -> None:
    (ballot,) = ballots(RewardJudge(rewards, name="rm", threshold=1.0, slope=2.0), [question("1.5")])
    assert ballot.p_first == pytest.approx(math.e / (1 + math.e))


def test_all_candidates_of_a_call_are_scored_together() -> None:
    calls: list[int] = []

    def score(completions: Sequence[Completion]) -> list[float]:
        calls.append(len(completions))
        return rewards(completions)

    ballots(RewardJudge(score, name="rm"), [question("1", "2"), question("3"), question("4", "5")])
    assert calls == [5]


def test_a_reward_that_is_no_number_is_unjudged() -> None:
    (ballot,) = ballots(RewardJudge(lambda _: [math.nan, 1.0], name="rm"), [question("1", "2")])
    assert ballot.verdict is None
    assert "not finite" in str(ballot.reason)


def test_a_wrong_number_of_rewards_is_a_bug() -> None:
    with pytest.raises(ValueError, match="gave 1 rewards for 2"):
        ballots(RewardJudge(lambda _: [1.0], name="rm"), [question("1", "2")])


@pytest.mark.parametrize(
    "wrong",
    [{"tie_margin": -1.0}, {"slope": 0.0}, {"slope": math.inf}, {"intercept": math.nan}, {"threshold": math.inf}],
)
def test_impossible_parameters_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match="finite"):
        RewardJudge(rewards, name="rm", **wrong)


def test_equal_completions_of_a_call_are_scored_once() -> None:
    """Whoever gives the rewards, and however they depend on the place in the call."""
    calls: list[list[str]] = []

    def score(completions: Sequence[Completion]) -> list[float]:
        calls.append([one.text for one in completions])
        return [float(place) for place in range(len(completions))]

    found = ballots(RewardJudge(score, name="rm"), [question("x", "x"), question("y", "x"), question("y", "y")])
    assert [ballot.verdict for ballot in found] == ["tie", "first", "tie"]
    assert calls == [["x", "y"]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a reward model of random weights."""
    from perl_eval.models.backbone import LoraShape, open_backbone
    from perl_eval.models.reward_model import REWARD, RewardScale

    folder = tmp_path_factory.mktemp("reward")
    backbone = open_backbone(tiny_models.save_blank(folder / "blank"))
    backbone.attach(REWARD, LoraShape(4), seed=0, head=1)
    tiny_models.stir(backbone, REWARD)
    backbone.save(REWARD, folder / "reward")
    RewardScale("pairwise", 0.5, 2.0, 64).save(folder / "reward")
    return folder / "reward"


def test_a_reward_depends_on_the_text_alone_to_the_last_bit(trained: Path) -> None:
    judge = opened(str(trained), BackendOptions(local_batch=5))
    assert judge.group == 5
    texts = ["red", "blue gold green gold", "gold red", "a long answer about green paint", "red red", "", "gold " * 20]
    pairs = [(one, other) for one in texts for other in texts]
    turn = (Message("user", "paint 3"),)
    questions = [
        Question(
            "j", "pairwise", "none", tuple(Completion(t, "i", "g", "d", "p", turn, t, "stop", 0) for t in pair), (), "s"
        )
        for pair in pairs
    ]
    alone = [asyncio.run(judge.ask([one]))[0].text for one in questions]
    for size in (2, 5, 49):
        parts = [questions[start : start + size] for start in range(0, len(questions), size)]
        assert [reply.text for part in parts for reply in asyncio.run(judge.ask(part))] == alone
    for pair, reply in zip(pairs, alone, strict=True):
        first, second = json.loads(reply)
        assert (first == second) == (pair[0] == pair[1])
