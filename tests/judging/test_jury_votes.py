"""What several judges say together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from perl_eval.judging.jury_votes import by_majority, by_probability, jury_judgement
from perl_eval.outcomes import decide
from perl_eval.records import Ballot, Judgement, Kind, Order, Outcome, Verdict, unit_of

PAIR: dict[str, tuple[Verdict | None, Verdict | None]] = {
    "win": ("first", "second"),
    "loss": ("second", "first"),
    "split": ("first", "first"),
    "tie": ("tie", "tie"),
    "mixed": ("first", "tie"),
    "unjudged": (None, None),
}


def judgement(outcome: Outcome, ballots: Sequence[Ballot], kind: Kind = "pairwise", judge: str = "j") -> Judgement:
    decided = decide(ballots)
    assert decided.outcome == outcome
    return Judgement(
        id=f"{judge}-{outcome}",
        kind=kind,
        item="i",
        group="g",
        dataset="d",
        a="one",
        b="two" if kind == "pairwise" else "",
        policy_a="rl",
        policy_b="sft" if kind == "pairwise" else "",
        prompt=(),
        text_a="x",
        text_b="y",
        outcome=outcome,
        ballots=tuple(ballots),
        judge=judge,
        prompt_sha256="p",
        simulated=False,
        p_a=decided.p_a,
        reason=decided.reason,
    )


def pair(outcome: Outcome, p_ab: float | None = None, p_ba: float | None = None, judge: str = "j") -> Judgement:
    """Make one judge's judgement; p_ba is the probability of the answer shown first, which is b."""
    verdicts = PAIR[outcome]
    reason = None if verdicts[0] else "refused"
    ballots = [
        Ballot("ab", verdicts[0], reason=reason, p_first=p_ab),
        Ballot("ba", verdicts[1], reason=reason, p_first=p_ba),
    ]
    return judgement(outcome, ballots, judge=judge)


def single(verdict: Verdict | None, p: float | None = None) -> Judgement:
    outcome: Outcome = verdict if verdict in ("yes", "no") else "unjudged"  # type: ignore[assignment]
    return judgement(outcome, [Ballot("none", verdict, reason=None if verdict else "late", p_first=p)], "yes_no")


# ---------------------------------------------------------------------------------------------------- majority


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        (("win", "win", "loss"), "win"),
        (("loss", "split", "loss"), "loss"),
        (("win", "loss", "tie"), "split"),
        (("win", "win", "loss", "loss"), "split"),
        (("win", "loss"), "split"),
        (("tie", "tie", "win"), "tie"),
        (("tie", "split", "win"), "split"),
        (("mixed", "mixed", "win"), "split"),
        (("win", "win", "unjudged"), "win"),
        (("win", "loss", "unjudged"), "split"),
        (("win", "unjudged", "unjudged"), "unjudged"),
        (("win", "unjudged"), "unjudged"),
        (("win", "win", "win", "unjudged", "unjudged"), "win"),
    ],
)
def test_more_than_half_of_the_judges_with_a_verdict_decide(said: tuple[Outcome, ...], outcome: str) -> None:
    for order in itertools.permutations(said):
        assert by_majority([pair(one) for one in order]).outcome == outcome


@pytest.mark.parametrize(
    ("said", "outcome", "reason"),
    [
        (("yes", "no", "yes"), "yes", None),
        (("no", "no", None), "no", None),
        (("yes", "no"), "unjudged", "as many judges say yes as no"),
        (("yes", None), "unjudged", "late"),
    ],
)
def test_judges_of_single_answers(said: tuple[Verdict | None, ...], outcome: str, reason: str | None) -> None:
    decision = by_majority([single(verdict) for verdict in said])
    assert (decision.outcome, decision.reason) == (outcome, reason)


# ------------------------------------------------------------------------------------------------- probability


def test_the_mean_probability_decides_in_each_order() -> None:
    # In order ab a has 0.9 and 0.4: 0.65. In order ba it has 1 - 0.2 and 1 - 0.45: 0.675. One judge alone says loss.
    sure, unsure = pair("win", 0.9, 0.2), pair("split", 0.4, 0.45)
    unsure = replace(unsure, ballots=(Ballot("ab", "second", p_first=0.4), Ballot("ba", "second", p_first=0.45)))
    decision = by_probability([sure, unsure])
    assert (decision.outcome, decision.p_a) == ("win", pytest.approx((0.65 + 0.675) / 2))


def test_a_judge_without_probabilities_counts_as_sure() -> None:
    # Order ab: (0.9 + 0) / 2 = 0.45; order ba: (0.9 + 0) / 2.
    assert by_probability([pair("win", 0.9, 0.1), pair("loss")]).outcome == "loss"
    # A tie is one half: (0.6 + 0.5) / 2 in both orders.
    decision = by_probability([pair("win", 0.6, 0.4), pair("tie")])
    assert (decision.outcome, decision.p_a) == ("win", pytest.approx(0.55))


def test_a_judge_without_positions_counts_in_both_orders() -> None:
    reward = judgement("win", [Ballot("none", "first", p_first=0.8)])
    # ab: (0.8 + 0.3) / 2 = 0.55; ba: (0.8 + 1 - 0.8) / 2 = 0.5.
    other = pair("loss", 0.3, 0.8)
    decision = by_probability([reward, other])
    assert (decision.outcome, decision.p_a) == ("mixed", pytest.approx(0.525))


def test_a_judge_without_ballots_counts_with_what_is_known_of_it() -> None:
    # From a table of outcomes: a win with 0.9, and a split that stands for one half; (0.9 + 0.5) / 2 in both orders.
    decision = by_probability([replace(pair("win"), ballots=(), p_a=0.9), replace(pair("split"), ballots=())])
    assert (decision.outcome, decision.p_a) == ("win", pytest.approx(0.7))
    assert by_probability([replace(pair(said), ballots=()) for said in ("loss", "tie")]).p_a == pytest.approx(0.25)


def test_probabilities_of_yes_are_averaged() -> None:
    decision = by_probability([single("yes", 0.6), single("no", 0.1), single(None)])
    assert (decision.outcome, decision.p_a) == ("no", pytest.approx(0.35))
    assert by_probability([single("yes"), single("no")]).outcome == "unjudged"
    assert by_probability([single("yes"), single(None)]).outcome == "unjudged"


@settings(deadline=None)
@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=5))
def test_a_jury_of_judges_that_see_only_the_position_never_wins(biases: list[float]) -> None:
    # Each gives the answer shown first the same probability in both orders.
    judges = [
        pair("tie", bias, bias)
        if bias == 0.5
        else judgement("split", [Ballot(o, v, p_first=bias) for o, v in _orders(bias)])
        for bias in biases
    ]
    for decide_by in (by_majority, by_probability):
        assert decide_by(judges).outcome in ("split", "tie", "mixed")


def _orders(bias: float) -> list[tuple[Order, Verdict]]:
    named: Verdict = "first" if bias > 0.5 else "second"
    return [("ab", named), ("ba", named)]


def mirrored(one: Judgement) -> Judgement:
    """Return the judgement of b against a: what was order ab is ba, and every reply is what it was."""
    ballots = [replace(ballot, order="ba" if ballot.order == "ab" else "ab") for ballot in one.ballots]
    return replace(one, ballots=tuple(ballots), outcome=decide(ballots).outcome, a=one.b, b=one.a)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(PAIR)), st.none() | st.floats(0, 1)), min_size=2, max_size=6))
@example([("loss", None), ("loss", 1e-9)])  # a mean of one half less 5e-10, the usual relative tolerance
def test_swapping_the_contestants_mirrors_the_jury(said: list[tuple[Outcome, float | None]]) -> None:
    turn = {"win": "loss", "loss": "win"}
    ours = [pair(outcome, p, p) for outcome, p in said]
    for decide_by in (by_majority, by_probability):
        one, other = decide_by(ours), decide_by([mirrored(judgement) for judgement in ours])
        assert other.outcome == turn.get(one.outcome, one.outcome)


# -------------------------------------------------------------------------------------------------- judgements


def test_a_jurys_judgement_names_the_jury_and_casts_no_ballots() -> None:
    members = [pair("win", judge="m1"), pair("win", judge="m2"), replace(pair("loss", judge="m3"), simulated=True)]
    said = jury_judgement(members, "majority")
    assert (said.judge, said.outcome, said.ballots, said.simulated) == ("jury of 3, majority", "win", (), True)
    assert said.unit == unit_of("one", "two")
    assert said.id not in {member.id for member in members}
    assert said.id != jury_judgement(members, "mean probability").id
    assert said.prompt_sha256 == "p"
    assert jury_judgement([members[0], replace(members[1], prompt_sha256="q")], "majority").prompt_sha256 == ""


def test_scores_are_averaged() -> None:
    scored = [
        replace(
            single("yes"), kind="score", outcome="scored", score=score, ballots=(Ballot("none", "scored", score=score),)
        )
        for score in (4.0, 7.0)
    ]
    missing = replace(single(None), kind="score")
    for rule in ("majority", "mean probability"):
        said = jury_judgement([*scored, missing], rule)
        assert (said.outcome, said.score) == ("scored", 5.5)
        assert jury_judgement([scored[0], missing], rule).outcome == "unjudged"


def test_judgements_of_different_things_are_no_jury() -> None:
    with pytest.raises(ValueError, match="different things"):
        jury_judgement([pair("win"), replace(pair("win"), a="other")], "majority")
