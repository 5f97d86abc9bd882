from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from report_story import estimate, judgement, write

from perl_eval.records import About, Estimate, Judgement
from perl_eval.reporting.counts import survey
from perl_eval.reporting.inputs import Figure, figures, folders
from perl_eval.reporting.related import agreements, position_figures, rates, truths


def found_rates(root: Path) -> dict[tuple[str, ...], list[tuple[str, float | None]]]:
    found = folders([root])
    shown = figures(found)
    return {
        (found[tally.folder].label, tally.a, tally.b, tally.judge, tally.dataset): [
            (figure.estimate.name, figure.estimate.value) for figure in rates(shown, tally, found)
        ]
        for tally in survey(found, seed=0, limit=0)[0]
    }


def test_a_rate_belongs_to_what_its_subject_states(tmp_path: Path) -> None:
    judged = [
        judgement(1, "win", judge="one"),
        judgement(2, "win", judge="two"),
        judgement(3, "win", judge="one", policy_a="rl-wide"),
        judgement(4, "win", judge="one", dataset="tickets"),
        judgement(5, "win", judge="one", policy_a="sft", policy_b="rl"),
    ]
    judging = write(tmp_path / "judged", "judge", [(Judgement, judged)])
    subjects = {
        About(policy="rl", against="sft", judge="one", dataset="coffee"): 0.1,
        About(policy="rl", against="sft", judge="two", dataset="coffee"): 0.2,
        About(policy="rl-wide", against="sft", judge="one", dataset="coffee"): 0.3,
        About(policy="rl", against="sft", judge="one", dataset="tickets"): 0.4,
    }
    made = [estimate("win rate, unjudged lost", 0.9, about=subject) for subject in subjects]
    made += [estimate("win rate", value, about=subject) for subject, value in subjects.items()]
    made += [estimate("true win rate", 0.8, about=subject) for subject in subjects]
    write(tmp_path / "scores", "score", [(Estimate, made)], judgements=judging)
    assert found_rates(tmp_path) == {
        ("judged", "rl", "sft", "one", "coffee"): [("win rate", 0.1)],
        ("judged", "rl", "sft", "two", "coffee"): [("win rate", 0.2)],
        ("judged", "rl-wide", "sft", "one", "coffee"): [("win rate", 0.3)],
        ("judged", "rl", "sft", "one", "tickets"): [("win rate", 0.4)],
        ("judged", "sft", "rl", "one", "coffee"): [],
    }


@pytest.mark.parametrize("given", ["folder", "file"])
def test_inputs_tell_runs_of_the_same_comparison_apart(tmp_path: Path, given: str) -> None:
    for name, value in (("early", 0.3), ("late", 0.7)):
        judging = write(tmp_path / name, "judge", [(Judgement, [judgement(len(name), "win")])])
        source = judging if given == "folder" else judging / "judgements.parquet"
        write(tmp_path / f"{name}-scores", "score", [(Estimate, [estimate("win rate", value)])], judgements=source)
    assert {key[0]: value for key, value in found_rates(tmp_path).items()} == {
        "early": [("win rate", 0.3)],
        "late": [("win rate", 0.7)],
    }


def test_yes_or_no_takes_both_rates(tmp_path: Path) -> None:
    judged = judgement(1, "yes", kind="yes_no", policy_b="", b="", text_b="", judge="one")
    about = About(policy="rl", judge="one")
    made = [estimate(name, value, about=about) for name, value in (("no rate", 0.4), ("yes rate", 0.6))]
    made.append(estimate("win rate", 0.5, about=About(policy="rl", against="sft", judge="one")))
    write(tmp_path / "judged", "judge", [(Judgement, [judged]), (Estimate, made)])
    assert list(found_rates(tmp_path).values()) == [[("yes rate", 0.6), ("no rate", 0.4)]]


def test_position_figures_stand_beside_their_comparison(story: Path) -> None:
    found = folders([story])
    (tally,) = survey(found, seed=0, limit=0)[0]
    names = [figure.estimate.name for figure in position_figures(figures(found), tally, found)]
    assert names == ["consistency", "position test p"]


def place(*made: Estimate) -> list[Figure]:
    return [Figure(each, 0) for each in made]


def test_truth_is_set_beside_what_claims_to_be_it() -> None:
    rows = truths(
        place(
            estimate("true win rate", 0.6, about=About(policy="rl", against="sft")),
            estimate("win rate", 0.5, 0.05, about=About(policy="rl", against="sft", judge="one")),
            estimate("win rate", 0.65, 0.1, about=About(policy="rl", against="sft", judge="two")),
            estimate("win rate", 0.9, about=About(policy="rl-wide", against="sft", judge="one")),
            estimate("true reward", 1.0, about=About(policy="rl")),
            estimate("learned reward", None, about=About(policy="rl"), reason="none"),
            estimate("true rank", 2.0, about=About(policy="rl")),
        )
    )
    assert [(row.judged and row.judged.estimate.subject, row.covered) for row in rows] == [
        ("rl against sft, judge one", False),
        ("rl against sft, judge two", True),
        ("rl", None),
        (None, None),
    ]
    assert [row.difference for row in rows[:2]] == [pytest.approx(-0.1), pytest.approx(0.05)]
    assert [row.difference for row in rows[2:]] == [None, None]


def test_truth_of_one_policy_is_not_set_beside_another_with_a_longer_name() -> None:
    rows = truths(
        place(
            estimate("true reward", 0.9, about=About(policy="rl")),
            estimate("true reward", 0.7, about=About(policy="rl without KL")),
            estimate("learned reward", 0.6, 0.1, about=About(policy="rl")),
            estimate("learned reward", 0.8, 0.1, about=About(policy="rl without KL")),
        )
    )
    shown = [(row.truth.estimate.value, row.judged and row.judged.estimate.value) for row in rows]
    assert shown == [(0.9, 0.6), (0.7, 0.8)]


def test_a_learned_reward_is_in_a_unit_of_its_own() -> None:
    (row,) = truths(
        place(
            estimate("true reward", 0.9, about=About(policy="rl")),
            estimate("learned reward", 0.6, 0.1, about=About(policy="rl")),
        )
    )
    assert row.judged is not None
    assert row.difference is None
    assert row.covered is None


def test_people_stand_beside_the_judge() -> None:
    one, two = About(judge="one"), About(judge="two")
    between = estimate("human-human Cohen kappa", 0.6, about=one)
    rows = agreements(
        place(
            between,
            replace(between, about=two, value=0.7),
            estimate("human-judge Cohen kappa", 0.5, about=one),
            estimate("human-judge Cohen kappa", 0.4, about=two),
            estimate("human ceiling", 0.8, about=one),
            estimate("judge at the ceiling's task", 0.75, about=one),
            estimate("judge minus human ceiling", -0.05, about=one),
            estimate("human-judge exact agreement, majority", 0.9, about=one),
            estimate("human-human Fleiss kappa", 0.3, about=one),
            estimate("win rate", 0.5),
        )
    )
    shown = [
        (row.statistic, row.people and row.people.estimate.value, row.judge and row.judge.estimate.value)
        for row in rows
    ]
    assert shown == [
        ("Cohen kappa", 0.6, 0.5),
        ("Cohen kappa", 0.7, 0.4),
        ("against the majority of the others", 0.8, 0.75),
        ("Fleiss kappa", 0.3, None),
        ("exact agreement, majority", None, 0.9),
    ]
