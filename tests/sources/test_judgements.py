"""Tables of judgements: one verdict or two, contestants or positions, and what is not asked is not there."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from perl_eval.errors import DataError, OptionError
from perl_eval.metrics.judgement_estimates import estimate_judgements
from perl_eval.records import Estimate, Judgement
from perl_eval.scoring import dispatch
from perl_eval.sources.judgements import read_outcomes
from perl_eval.sources.labels import read_labels
from perl_eval.stats.position_bias import NAMES
from perl_eval.storage import run_folder


def figures(judged: Sequence[Judgement]) -> dict[str, Estimate]:
    return {one.name: one for one in estimate_judgements(judged)}


def once(verdicts: Sequence[str], **more: Any) -> list[Mapping[str, Any]]:
    about = {"policy_a": "rl", "policy_b": "sft", **more}
    return [{"item": f"q{place}", **about, "verdict": verdict} for place, verdict in enumerate(verdicts)]


def test_a_judge_asked_once_has_outcomes_and_no_positions() -> None:
    judged = read_outcomes(once(["a", "sft", "tie", "rl", ""]))
    assert [one.outcome for one in judged] == ["win", "loss", "tie", "win", "unjudged"]
    assert all(one.ballots == () for one in judged)
    found = figures(judged)
    assert found["win rate"].value == pytest.approx(2 / 4)
    for name in NAMES:
        assert found[name].value is None
        assert "not asked" in str(found[name].reason)


@pytest.mark.parametrize("column", ["verdict_ab", "verdict_ba"])
def test_one_order_alone_is_known_by_its_position(column: str) -> None:
    rows = [{"item": f"q{place}", column: said} for place, said in enumerate(["a", "b", "first", "tie"])]
    judged = read_outcomes(rows)
    first = "win" if column == "verdict_ab" else "loss"
    assert [one.outcome for one in judged] == ["win", "loss", first, "tie"]
    assert {ballot.order for one in judged for ballot in one.ballots} == {column[-2:]}
    assert figures(judged)["consistency"].reason == "not asked: each pair was judged in one order"


def test_positions_may_be_written_as_such() -> None:
    rows = [{"verdict_ab": "first", "verdict_ba": "second"}, {"verdict_ab": "second", "verdict_ba": "second"}]
    assert [one.outcome for one in read_outcomes(rows)] == ["win", "split"]


def both(pairs: Sequence[tuple[str, str]]) -> list[Mapping[str, Any]]:
    return [{"item": f"q{n}", "verdict_ab": one, "verdict_ba": other} for n, (one, other) in enumerate(pairs)]


def test_positions_where_contestants_belong_are_found() -> None:
    winners = random.Random(0).choices("ab", k=40)
    positions = [(one, "b" if one == "a" else "a") for one in winners]
    with pytest.raises(DataError, match=r"field 'verdict_ba': 40 of 40 pairs.*first and the second answer shown"):
        read_outcomes(both(positions))
    contestants = [(one, one) for one in winners]
    assert {one.outcome for one in read_outcomes(both(contestants))} == {"win", "loss"}


@pytest.mark.parametrize("judge", ["always first", "always second", "no opinion"])
def test_judges_that_position_decides_or_nothing_does_are_no_mistake(judge: str) -> None:
    draw = random.Random(1)
    said = {"always first": ("a", "b"), "always second": ("b", "a")}
    pairs = [said.get(judge, (draw.choice("ab"), draw.choice("ab"))) for _ in range(300)]
    assert len(read_outcomes(both(pairs))) == 300


def test_two_judges_of_one_table_judge_the_same_units() -> None:
    rows = [*once(["a", "b"], judge="g"), *once(["b", "b"], judge="h")]
    judged = read_outcomes(rows)
    assert [one.unit for one in judged[:2]] == [one.unit for one in judged[2:]]
    assert len({one.id for one in judged}) == 4
    turned = read_outcomes([{**row, "policy_a": "sft", "policy_b": "rl"} for row in rows[:2]])
    assert [(one.a, one.b) for one in turned] == [(one.b, one.a) for one in judged[:2]]


def test_an_item_judged_twice_by_one_judge_is_two_units() -> None:
    one, other = read_outcomes([*once(["a"]), *once(["b"])])
    assert one.unit != other.unit


def test_single_answers_are_judged_yes_or_no() -> None:
    judged = read_outcomes([{"item": "q", "policy_a": "rl", "verdict": said} for said in ("yes", "No", "")])
    assert [(one.kind, one.outcome, one.b) for one in judged] == [
        ("yes_no", "yes", ""),
        ("yes_no", "no", ""),
        ("yes_no", "unjudged", ""),
    ]


def test_verdicts_and_labels_know_the_same_words_for_a_tie() -> None:
    for word in ("Draw", "equal", "same", "both", "neither", "tied", "Tie (bothbad)", "both  bad"):
        (one,) = read_outcomes(once([word]))
        (label,) = read_labels([{"item": "q", "policy_a": "x", "policy_b": "y", "label": word, "annotator": "p"}])
        assert (word, one.outcome, label.label) == (word, "tie", "tie")
    (row,) = read_outcomes([{"item": "q", "verdict_ab": "draw", "verdict_ba": "same"}])
    assert [ballot.verdict for ballot in row.ballots] == ["tie", "tie"]


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ({"verdict": "first"}, r"row 0, field 'verdict': verdict 'first' is a position"),
        ({"verdict": "maybe"}, r"row 0, field 'verdict': verdict 'maybe' is none of a, b, tie, rl, sft"),
        ({"verdict": "a", "verdict_ab": "a"}, r"field 'verdict': is given together with verdict_ab"),
        (
            {"outcome": "win", "verdict_ab": "b", "verdict_ba": "b"},
            r"row 0, field 'outcome': outcome 'win' is not that of the verdicts",
        ),
        ({"outcome": "win", "p_a": "much"}, r"row 0, field 'p_a': 'much' is not a number"),
        ({"score": 1}, r"no such column; present are item, policy_a, policy_b, score"),
    ],
)
def test_what_is_wrong_is_named(row: Mapping[str, Any], line: str) -> None:
    with pytest.raises(DataError, match=line):
        read_outcomes([{"item": "q", "policy_a": "rl", "policy_b": "sft", **row}])


def test_columns_are_used_or_refused() -> None:
    rows = [{"id": "q", "won": "rl", "policy_a": "rl", "policy_b": "sft"}]
    (found,) = read_outcomes(rows, {"verdict": "won", "item": "id"})
    assert (found.item, found.outcome) == ("q", "win")
    with pytest.raises(OptionError, match="'label', which no table of judgements has"):
        read_outcomes(rows, {"label": "won"})
    with pytest.raises(DataError, match="field 'who': no such column"):
        read_outcomes(rows, {"verdict": "won", "judge": "who"})


def test_score_takes_a_table_of_verdicts(tmp_path: Path) -> None:
    path = tmp_path / "judged.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in once(["rl", "rl", "sft"], judge="g")), "utf-8")
    out = dispatch.run(path, tmp_path / "out")
    found = {one.name: one for one in run_folder.read(out, Estimate)}
    assert found["win rate"].value == pytest.approx(2 / 3)
    assert found["win rate"].about.judge == "g"
    assert len(run_folder.read(out / "inputs" / "judgements", Judgement)) == 3


def test_a_row_without_the_column_of_the_others_is_refused_not_unjudged() -> None:
    about = {"policy_a": "rl", "policy_b": "sft"}
    rows = [{"item": "q0", **about, "outcome": "win"}, {"item": "q1", **about, "verdict": "b"}]
    with pytest.raises(DataError, match=r"row 1, field 'verdict': has verdict and no outcome"):
        read_outcomes(rows)
    with pytest.raises(DataError, match=r"row 0, field 'verdict': has verdict and no outcome"):
        read_outcomes(rows[::-1])
    with pytest.raises(DataError, match=r"row 1, field 'outcome': no such field, which other rows have"):
        read_outcomes([rows[0], {"item": "q1", **about}])


def test_a_table_reads_the_column_that_any_row_fills() -> None:
    about = {"policy_a": "rl", "policy_b": "sft"}
    rows = [{"item": f"q{n}", **about, "outcome": None, "verdict": said} for n, said in enumerate(["", "b", "a"])]
    assert [one.outcome for one in read_outcomes(rows)] == ["unjudged", "loss", "win"]
    late = [{"item": "q0", **about, "verdict": None}, {"item": "q1", **about, "verdict": "a"}]
    assert [one.outcome for one in read_outcomes(late)] == ["unjudged", "win"]


def test_the_first_row_alone_may_lack_a_column_of_something_else() -> None:
    rows = once(["a", "b"])
    assert [one.judge for one in read_outcomes([rows[0], {**rows[1], "judge": "mine"}])] == ["unnamed", "mine"]


def test_the_same_completions_twice_by_one_judge_are_refused() -> None:
    rows = [{**cells, "a": "1", "b": "2"} for cells in once(["a", "b"])]
    with pytest.raises(DataError, match=r"row 1, field 'a': .* occurs twice, first in row 0"):
        read_outcomes(rows)
    assert len(read_outcomes([rows[0], {**rows[1], "judge": "another"}])) == 2


def test_a_winner_is_read_where_no_order_or_outcome_says_more() -> None:
    rows = [{"question": "Say 1.", "model_1": "x", "model_2": "y", "winner": "model_2"}]
    one = read_outcomes(rows, {"verdict": "winner"})[0]
    assert (one.outcome, one.policy_a, one.policy_b, one.prompt[0].content) == ("loss", "x", "y", "Say 1.")
    orders = [{"item": "q", "verdict_ab": "a", "verdict_ba": "a", "winner": "b"}]
    assert read_outcomes(orders)[0].outcome == "win"
    assert read_outcomes([{"item": "q", "outcome": "tie", "winner": "b"}])[0].outcome == "tie"
