"""What an outcome is worth, its mirror and its words stand in one table, and every reader goes by it."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_outcome_words as told
from contests import pair_judged
from outcome_changes import (
    ANSWERS,
    FLAGS,
    GIVEN,
    OPEN,
    PAIRS,
    QUICK,
    SAID,
    SAYS,
    TOLD,
    TURNED,
    WORTH,
    WORTHS,
    Changed,
    Under,
    judged,
    labelled,
    named,
    pearson,
    putting,
)

from perl_eval import outcomes
from perl_eval.judges.parsing.verdicts import p_first
from perl_eval.judges.readers import ProbabilityReader
from perl_eval.judging import jury
from perl_eval.judging.early_stopping import Referee
from perl_eval.judging.jury_votes import by_majority, by_probability
from perl_eval.metrics.agreement import estimate_agreement
from perl_eval.metrics.corrected_rates import corrected_rates
from perl_eval.metrics.judgement_estimates import estimate_judgements
from perl_eval.outcomes import DROPPED, EVEN, HALF, LABELS, LOST, TABLE, WON
from perl_eval.records import OUTCOMES, Ballot, Question
from perl_eval.scoring import audit_figures, outcome_table, power
from perl_eval.scoring.audit_options import AuditOptions
from perl_eval.stats.correction import Sample, prediction_powered_mean
from perl_eval.stats.length import longer_preferred_rate
from perl_eval.stats.paired import paired_outcomes
from perl_eval.stats.ranking import Comparison, rank
from perl_eval.stats.sequential import StopRule
from perl_eval.stats.winrate import outcome_scores, tally, win_rates, yes_rates

PACKAGE = Path(outcomes.__file__).parent


# The table.


def test_the_table_says_what_the_rule_says() -> None:
    assert set(TABLE) == set(OUTCOMES)
    for name, found in TABLE.items():
        assert found.worth == WORTH.get(name), name
        assert found.undecided == (name in OPEN), name
        assert found.mirror == TURNED.get(name, name), name
        assert found.as_label == SAYS.get(name), name
        assert found.word == name
    assert outcomes.outcomes_of("pairwise") == (*PAIRS, "unjudged")
    assert outcomes.outcomes_of("yes_no") == ("yes", "no", "unjudged")
    assert outcomes.outcomes_of("score") == ("scored", "unjudged")
    assert outcomes.people_labels() == ("win", "tie", "loss", "yes", "no")
    assert {label for labels in LABELS.values() for label in labels} == set(outcomes.people_labels())
    assert outcomes.UNDECIDED == "undecided"


def test_the_laws_of_the_table() -> None:
    for name in TABLE:
        turned = outcomes.mirror(name)
        assert outcomes.mirror(turned) == name
        assert outcomes.is_undecided(turned) == outcomes.is_undecided(name)
        if TABLE[name].kind == "pairwise":
            assert outcomes.worth(turned) == 1 - outcomes.worth(name)
        if outcomes.is_vote(name):
            said = outcomes.as_label(name)
            assert outcomes.as_label(said) == said
            assert outcomes.worth(said) == outcomes.worth(name)
    assert EVEN == 1 - EVEN


def test_each_weighting_counts_the_undecided_in_its_own_way() -> None:
    zeros = dict.fromkeys(OPEN, 0.0)
    judged = {name: WORTH[name] for name in WORTH}
    assert WON.table() == judged | zeros
    assert LOST.table() == {name: 1 - value for name, value in judged.items()} | zeros
    assert HALF.table() == judged
    assert DROPPED.table() == {name: value for name, value in judged.items() if name not in OPEN}
    for weighting in (WON, LOST, HALF, DROPPED):
        assert weighting.of("unjudged") is None
        assert weighting.of("scored") is None


def test_what_has_no_worth_is_refused() -> None:
    for name in ("unjudged", "scored"):
        assert not outcomes.is_vote(name)
        with pytest.raises(ValueError, match=name):
            outcomes.worth(name)
        with pytest.raises(ValueError, match=name):
            outcomes.as_label(name)
    with pytest.raises(ValueError, match="'draw' is no outcome"):
        outcomes.worth("draw")
    assert (outcomes.word("divided"), outcomes.mirror("divided")) == ("divided", "divided")


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_a_verdict_and_its_outcome_are_two_ways_to_say_one_thing(order: Any) -> None:
    winner = "first" if order == "ab" else "second"
    assert outcomes.of_verdict(winner, order) == "win"
    for verdict in ("first", "second", "tie", "yes", "no"):
        assert outcomes.as_verdict(outcomes.of_verdict(verdict, order), order) == verdict


@pytest.fixture
def under(monkeypatch: pytest.MonkeyPatch) -> Under:
    return putting(monkeypatch)


@pytest.mark.parametrize("change", WORTHS + FLAGS[1:], ids=lambda change: change.name)
def test_win_rates(under: Under, change: Changed) -> None:
    now = under(change)
    found = named(win_rates([*SAID, "unjudged"]))
    worth, won, flags = now.worth(SAID), now.won(SAID), now.open(SAID)
    decided = [value for value, flag in zip(worth, flags, strict=True) if not flag]
    assert found["win rate, undecided half"] == pytest.approx(np.mean(worth))
    assert outcome_scores(SAID).tolist() == pytest.approx(worth)
    assert found["win minus loss"] == pytest.approx(2 * np.mean(worth) - 1)
    assert found["win rate"] == pytest.approx(np.mean(won))
    assert found["loss rate"] == pytest.approx(sum(1 - value for value in decided) / len(SAID))
    assert found["undecided rate"] == pytest.approx(np.mean(flags))
    assert found["win rate, undecided dropped"] == pytest.approx(np.mean(decided))
    lost, top = now.worth(["loss", "win"])
    for case, filled in (("lost", lost), ("won", top)):
        assert found[f"win rate, unjudged {case}"] == pytest.approx(np.mean([*won, filled]))
        assert found[f"win rate, undecided half, unjudged {case}"] == pytest.approx(np.mean([*worth, filled]))
    assert tally(SAID).undecided == sum(flags)


@pytest.mark.parametrize("change", WORTHS, ids=lambda change: change.name)
def test_yes_rates(under: Under, change: Changed) -> None:
    worth = under(change).worth(ANSWERS)
    found = named(yes_rates([*ANSWERS, "unjudged"]))
    assert found["yes rate"] == pytest.approx(np.mean(worth))
    assert found["no rate"] == pytest.approx(1 - np.mean(worth))
    for case in ("yes", "no"):
        filled = change.worth([case])
        assert found[f"yes rate, unjudged {case}"] == pytest.approx(np.mean([*worth, *filled]))
        assert found[f"no rate, unjudged {case}"] == pytest.approx(1 - np.mean([*worth, *filled]))


@pytest.mark.parametrize("change", WORTHS + FLAGS[1:], ids=lambda change: change.name)
def test_paired_differences(under: Under, change: Changed) -> None:
    now = under(change)
    found = named(paired_outcomes(SAID, ["loss"] * len(SAID), resampling=QUICK))
    half = np.mean(now.worth(SAID)) - now.worth(["loss"])[0]
    won = np.mean(now.won(SAID)) - now.won(["loss"])[0]
    assert found["win rate difference, undecided half"] == pytest.approx(half)
    assert found["win rate difference"] == pytest.approx(won)


@pytest.mark.parametrize("change", WORTHS, ids=lambda change: change.name)
@pytest.mark.parametrize("said", [SAID, ANSWERS], ids=["pairs", "answers"])
def test_early_stopping(under: Under, change: Changed, said: list[str]) -> None:
    worth = under(change).worth(said)
    records = judged([*said, "unjudged"])
    referee = Referee(records[0].kind, StopRule.over([r.group for r in records], half_width=1e-3), len(records))
    assert list(referee.until_decided(iter(records))) == records
    estimate = referee.estimate()
    assert (estimate.n, estimate.n_missing) == (len(said), 1)
    assert estimate.value == pytest.approx(np.mean(worth))


@pytest.mark.parametrize("change", WORTHS, ids=lambda change: change.name)
def test_the_jury(under: Under, change: Changed) -> None:
    now = under(change)
    labels = ["win", "tie", "tie", "loss"]
    for record, worth in zip(judged(PAIRS), now.worth(PAIRS), strict=True):
        assert jury._value(record) == worth
        assert jury._error(record, labels) == pytest.approx(abs(worth - np.mean(now.worth(labels))))
        assert by_probability([record]).p_a == pytest.approx(worth)
    # A ballot without a probability is worth what its verdict would be as an outcome; a stands second in order ba.
    for verdict, outcome in (("first", "win"), ("second", "loss"), ("tie", "tie")):
        ballots = (Ballot("none", verdict), Ballot("none", "first", p_first=0.25))  # type: ignore[arg-type]
        found = by_probability([pair_judged(0, "split", ballots=ballots)]).p_a
        assert found == pytest.approx((now.worth([outcome])[0] + 0.25) / 2)
    for answer in ("yes", "no"):
        record = judged([answer], ballots=(Ballot("none", answer), Ballot("none", "yes", p_first=0.125)))[0]  # type: ignore[arg-type]
        assert by_probability([record]).p_a == pytest.approx((now.worth([answer])[0] + 0.125) / 2)


@pytest.mark.parametrize("change", FLAGS, ids=lambda change: change.name)
def test_a_majority_of_the_jury_holds_undecided_judges_together(under: Under, change: Changed) -> None:
    now = under(change)
    for one in PAIRS:
        for other in PAIRS:
            together = one == other or all(now.open([one, other]))
            decision = by_majority(judged([one, other, "win" if now.open(["win"])[0] else "loss"])[:2])
            if not together:
                assert decision.outcome == "split"
            elif now.open([one])[0]:
                assert decision.outcome == ("tie" if one == other == "tie" else "split")


@pytest.mark.parametrize("change", WORTHS, ids=lambda change: change.name)
def test_agreement_correlates_worths(under: Under, change: Changed) -> None:
    now = under(change)
    for said, given in ((SAID, GIVEN), (ANSWERS, TOLD)):
        records = judged(said)
        found = named(estimate_agreement(records, labelled(records, given), resampling=QUICK))
        assert found["human-judge Pearson r"] == pytest.approx(pearson(now.worth(said), now.worth(given)))


@pytest.mark.parametrize("change", WORTHS, ids=lambda change: change.name)
def test_corrected_rates(under: Under, change: Changed) -> None:
    now = under(change)
    rates: dict[str, tuple[list[str], list[str], Callable[[Sequence[str]], list[float]]]] = {
        "win rate": (SAID * 2, GIVEN, now.won),
        "win rate, undecided half": (SAID * 2, GIVEN, now.worth),
        "yes rate": (ANSWERS * 4, TOLD * 2, now.worth),
        "no rate": (ANSWERS * 4, TOLD * 2, lambda names: [1 - value for value in now.worth(names)]),
    }
    for name, (said, given, worth) in rates.items():
        records = judged(said)
        labels = {record.unit: [label] for record, label in zip(records, given, strict=False)}
        found = named(
            corrected_rates(records, lambda record, labels=labels: labels.get(record.unit, []), resampling=QUICK)
        )  # type: ignore[misc]
        heard = worth([SAYS[outcome] for outcome in said])
        cut = len(given)
        sample = Sample(worth(given), heard[:cut], heard[cut:], [record.group for record in records])
        expected = prediction_powered_mean(name, sample).value
        assert found[f"{name}, corrected by PPI++"] == pytest.approx(expected), name


def test_rates_with_the_confusion_undone_read_the_undecided_as_ties() -> None:
    records = judged(SAID * 4)
    given = {record.unit: [SAYS[str(record.outcome)]] for record in records[:30]}
    found = named(corrected_rates(records, lambda record: given.get(record.unit, []), resampling=QUICK))
    # People who always agree leave the judge's own rates.
    assert found["win rate, corrected by Rogan-Gladen"] == pytest.approx(5 / 15)
    assert found["loss rate, corrected by Rogan-Gladen"] == pytest.approx(3 / 15)
    assert {name for name in found if name.endswith("Rogan-Gladen")} == {
        "win rate, corrected by Rogan-Gladen",
        "loss rate, corrected by Rogan-Gladen",
    }


@pytest.mark.parametrize("change", WORTHS + FLAGS[1:], ids=lambda change: change.name)
def test_a_pilot_of_power(under: Under, change: Changed) -> None:
    now = under(change)
    for said, given in ((SAID, GIVEN), (ANSWERS, TOLD)):
        records = judged(said)
        taken = named(power._taken(power.Pilot(), power.PowerOptions(), records, labelled(records, given)))
        assert taken["decided share"] == pytest.approx(1 - np.mean(now.open(said)))
        assert taken["difference"] == pytest.approx(2 * np.mean(now.worth(said)) - 1)
        assert taken["correlation with people"] == pytest.approx(pearson(now.worth(said), now.worth(given)))


@pytest.mark.parametrize("change", WORTHS, ids=lambda change: change.name)
def test_the_audit(under: Under, change: Changed) -> None:
    now = under(change)
    labels = ["win", "tie", "tie", "loss"]
    assert audit_figures._truth(labels) == pytest.approx(np.mean(now.worth(labels)))
    assert [audit_figures._score(record) for record in judged(PAIRS)] == now.worth(PAIRS)
    assert audit_figures._score(pair_judged(0, "unjudged")) is None
    # What the judge gives its own family, whose answer is a, beyond what people give it.
    records = judged()
    by_unit = {label.unit: {"ann": label.label} for label in labelled(records, GIVEN)}
    found = named(audit_figures.figures_of_pairs(records, by_unit, AuditOptions(family=("rl",), resampling=QUICK)))
    assert found["self-preference"] == pytest.approx(np.mean(now.worth(SAID)) - np.mean(now.worth(GIVEN)))


def test_the_longer_answer_wins_only_decided_pairs() -> None:
    texts = {"text_a": "long answer", "text_b": "short"}
    records = judged([*SAID, "unjudged"], **texts)
    by_unit = {label.unit: {"ann": label.label} for label in labelled(records, GIVEN)}
    one = records[0].unit
    by_unit[one] = {"ann": "win", "bob": "tie"}  # leans to a
    found = {e.name: e for e in audit_figures.figures_of_pairs(records, by_unit, AuditOptions(resampling=QUICK))}
    judge, people = (found[f"longer preferred rate, {who}"] for who in ("judge", "people"))
    assert (judge.value, judge.n, judge.n_missing) == (5 / 8, 8, 8)
    assert (people.value, people.n) == (5 / 10, 10)
    assert longer_preferred_rate([1.0, 0.0, 0.5], [2, 2, 2], [1, 1, 1]).n == 2


def test_an_undecided_pair_is_a_tie_of_the_ranking() -> None:
    def strengths(scores: Sequence[float]) -> list[float]:
        met = [Comparison("x", "y", score) for score in scores]
        found = rank(met, resampling=QUICK)
        return [float(found[name].value or 0.0) for name in ("x", "y")]

    # Davidson's strengths of two: with w wins and l losses and any ties, log(w / l) apart in log strength.
    x, y = strengths([1.0] * 3 + [0.0] * 2 + [0.5] * 4)
    assert x - y == pytest.approx(math.log(3 / 2), abs=1e-3)


@pytest.mark.parametrize("change", WORTHS, ids=lambda change: change.name)
def test_scored_judgements_and_tables(under: Under, tmp_path: Path, change: Changed) -> None:
    now = under(change)
    found = named(estimate_judgements(judged()))
    assert found["win rate, undecided half"] == pytest.approx(np.mean(now.worth(SAID)))
    for said, name in ((SAID, "win rate, undecided half"), (ANSWERS, "yes rate")):
        table = tmp_path / "outcomes.csv"
        table.write_text("outcome\n" + "\n".join(said) + "\n")
        assert named(outcome_table.of_table(table))[name] == pytest.approx(np.mean(now.worth(said)))


@pytest.mark.parametrize("change", WORTHS, ids=lambda change: change.name)
def test_a_tie_in_a_probability(under: Under, change: Changed) -> None:
    win, tie, loss = under(change).worth(["win", "tie", "loss"])
    tokens = [("A", math.log(0.5)), ("B", math.log(0.2)), ("tie", math.log(0.3))]
    assert p_first(tokens, "pairwise") == pytest.approx(0.5 * win + 0.2 * loss + 0.3 * tie)
    if not change.name.startswith(("win", "loss")):  # an option's own probability is no worth
        question: Any = type("Asked", (), {"scale": None, "kind": "pairwise"})()
        assert _probability(question, {"A": 0.5, "B": 0.2, "tie": 0.3}) == pytest.approx(0.5 + 0.3 * tie)


def _probability(question: Question, given: Mapping[str, float]) -> float:
    class Answer:
        finish = "stop"
        text = str(dict(given)).replace("'", '"')

        def ballot(self, *_: Any, p_first: float) -> float:
            return p_first

    answer: Any = Answer()
    found: Any = ProbabilityReader().read(question, answer)
    return float(found)


# What the script that changes the table leaves out.

UNTRIED = {
    "judging/judge.py": "only decides",
    "judging/outcome_of.py": "only decides",
    "sources/judgements.py": "only decides",
    "sources/verdict_records.py": "only decides",
    "scoring/judged_units.py": "reads worths only",
    "exporting/record_cells.py": "says who won in an order",
    "judging/attack_success.py": "asks only whether an attack got through",
    "scoring/unit_proxies.py": "reads worths only",
    "reporting/cautions.py": "bounds a rate whose figures others make",
    "reporting/notebook.py": "draws counts",
    "reporting/running_judge.py": "decides, and reads worths only",
    "reporting/sides.py": "sets outcomes side by side, and counts nothing",
}
"""Modules that import `outcomes` and are not changed by the script, and why."""


def test_every_change_to_try_still_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """``scripts/mutate_outcomes.py`` tries changes of source lines, and names the tests that ought to fail."""
    path = PACKAGE.parent / "scripts" / "mutate_outcomes.py"
    specification = importlib.util.spec_from_file_location("mutate_outcomes", path)
    assert specification is not None
    assert specification.loader is not None
    script = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "mutate_outcomes", script)  # dataclasses look their module up
    specification.loader.exec_module(script)
    changes = [*script.of_table(), *script.READERS]
    assert [str(change) for change in changes if not change.fits()] == []
    tests = [name for name in (*globals(), *vars(told)) if name.startswith("test_")]
    words = {word for chosen in script.CHOSEN.values() for word in chosen.split(" or ")}
    assert [word for word in sorted(words) if not any(word in name for name in tests)] == []
    readers = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if path.name != "outcomes.py" and "from perl_eval.outcomes import" in path.read_text("utf-8")
    }
    assert readers - {change.file for change in changes} == set(UNTRIED)
