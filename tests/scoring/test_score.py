"""The verb `score`: judgements, rewards and completions to estimates on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import datasets
import pandas as pd
import pytest
from contests import pair_judged

from perl_eval.errors import DataError, UserError
from perl_eval.records import About, Ballot, Completion, Estimate, Judgement
from perl_eval.scoring import score
from perl_eval.scoring.diversity import run_diversity
from perl_eval.scoring.outcome_table import OutcomeColumns, of_table, run_table
from perl_eval.stats.bootstrap import Resampling
from perl_eval.storage import parquet, run_folder

VERDICTS = {
    "win": ("first", "second"),
    "loss": ("second", "first"),
    "split": ("first", "first"),
    "tie": ("tie", "tie"),
    "unjudged": (None, "first"),
}


def pair(place: int, outcome: str, **changes: object) -> Judgement:
    ab, ba = VERDICTS[outcome]
    made: dict[str, object] = {
        "ballots": (Ballot("ab", ab), Ballot("ba", ba)),
    }
    return pair_judged(place, outcome, **(made | changes))


def single(place: int, outcome: str) -> Judgement:
    return replace(pair(place, "tie"), kind="yes_no", b="", policy_b="", outcome=outcome, ballots=())


OUTCOMES = ["win"] * 12 + ["loss"] * 4 + ["split"] * 6 + ["tie"] * 2 + ["unjudged"] * 3
PAIRS = [pair(place, outcome) for place, outcome in enumerate(OUTCOMES)]


def scored(folder: Path, records: list[Judgement], **options: object) -> dict[tuple[str, str], Estimate]:
    parquet.write(folder / "judgements.parquet", records, Judgement)
    out = score.run(folder / "judgements.parquet", folder / "scores", options=score.ScoreOptions(**options))
    estimates = run_folder.read(out, Estimate)
    found = {(estimate.subject, estimate.name): estimate for estimate in estimates}
    assert len(found) == len(estimates)
    return found


def test_pairs_become_rates_and_position_bias(tmp_path: Path) -> None:
    found = scored(tmp_path, PAIRS)
    subject = "rl against sft, judge scripted"
    rate = found[subject, "win rate"]
    assert rate.value == pytest.approx(12 / 24)
    assert (rate.n, rate.n_missing, rate.method, rate.simulated) == (24, 3, "Wilson", False)
    assert found[subject, "splits"].value == 6
    assert found[subject, "first in both orders"].value == 6
    assert found[subject, "consistency"].value == pytest.approx(18 / 24)
    card = run_folder.read_card(tmp_path / "scores")
    assert card is not None
    assert (card.verb, card.simulated) == ("score", False)


def test_groups_that_repeat_widen_the_interval(tmp_path: Path) -> None:
    grouped = [replace(record, group=record.outcome) for record in PAIRS]
    name = ("rl against sft, judge scripted", "win rate")
    alone, together = scored(tmp_path / "a", PAIRS)[name], scored(tmp_path / "b", grouped)[name]
    assert together.method == "Wilson, 4 clusters"
    assert together.value == alone.value
    assert together.high - together.low > alone.high - alone.low


def test_what_differs_is_never_pooled(tmp_path: Path) -> None:
    other = [replace(record, judge="reward", ballots=(Ballot("none", "first"),)) for record in PAIRS[:12]]
    third = [replace(record, prompt_sha256="abcdef1234" + "0" * 54, simulated=True) for record in PAIRS[:5]]
    found = scored(tmp_path, [*PAIRS, *other, *third, *(single(place, "no") for place in range(4))])
    subjects = {subject for subject, _ in found}
    assert subjects == {
        "rl against sft, judge scripted, prompt 00000000",
        "rl against sft, judge scripted, prompt abcdef12",
        "rl against sft, judge reward",
        "rl, judge scripted",
    }
    reward = found["rl against sft, judge reward", "consistency"]
    assert (reward.value, reward.reason) == (None, "the judge sees no positions")
    assert found["rl, judge scripted", "no rate"].value == 1.0
    assert found["rl against sft, judge scripted, prompt abcdef12", "win rate"].simulated
    assert not found["rl against sft, judge scripted, prompt 00000000", "win rate"].simulated


def test_data_sets_are_never_pooled(tmp_path: Path) -> None:
    more = [replace(record, dataset="tickets", a=f"c{place}") for place, record in enumerate(PAIRS[:16])]
    found = scored(tmp_path, [*PAIRS, *more])
    assert found["rl against sft, judge scripted, data tickets", "win rate"].n == 16
    assert found["rl against sft, judge scripted, data orders", "win rate"].n == 24


def test_comparisons_on_several_data_sets_say_which(tmp_path: Path) -> None:
    made = [
        replace(record, policy_a=policy, a=f"{policy}{dataset}{record.a}", dataset=dataset)
        for dataset in ("shop", "tickets")
        for policy in ("rl", "best")
        for record in PAIRS
    ]
    found = scored(tmp_path, made)
    for dataset in ("shop", "tickets"):
        assert (f"best minus rl, both against sft, judge scripted, data {dataset}", "win rate difference") in found
        assert (f"rl, judge scripted, data {dataset}", "strength") in found


def test_length_is_counted_in_characters(tmp_path: Path) -> None:
    sized = [
        replace(record, text_a="x" * (10 + place % 7), text_b="x" * (8 + place % 5))
        for place, record in enumerate(PAIRS)
    ]
    subject = "rl against sft, judge scripted"
    found = scored(tmp_path, sized, length_control="alpaca", resampling=Resampling(50))
    equal = found[subject, "win rate at equal length"]
    assert (equal.n, equal.n_missing) == (24, 3)
    longer = found[subject, "longer preferred rate"]
    decided = [record for record in sized if record.outcome in ("win", "loss")]
    differing = [record for record in decided if len(record.text_a) != len(record.text_b)]
    hits = [(len(record.text_a) > len(record.text_b)) == (record.outcome == "win") for record in differing]
    assert longer.value == pytest.approx(sum(hits) / len(hits))
    assert found[subject, "win rate, AlpacaEval length control"].value is not None
    assert found[subject, "win rate, AlpacaEval length control"].n_missing == 3


def test_policies_that_met_one_baseline_are_compared_on_the_same_items(tmp_path: Path) -> None:
    other = [replace(record, policy_a="base", a=f"c{place}", outcome="loss") for place, record in enumerate(PAIRS[:20])]
    found = scored(tmp_path, [*PAIRS, *other], resampling=Resampling(50))
    # On the 20 shared items rl won 12 and base none; 7 of rl's items have no partner.
    gap = found["base minus rl, both against sft, judge scripted", "win rate difference"]
    assert gap.value == pytest.approx(-12 / 20)
    assert (gap.n, gap.n_missing) == (20, 7)
    assert found["base minus rl, both against sft, judge scripted", "McNemar p"].value < 0.001
    # base never won or tied, so nobody can be ranked.
    assert found["base, judge scripted", "strength"].reason == "some policies never win or tie against the rest"
    assert not any(name == "strength" for _, name in scored(tmp_path / "two", PAIRS))


def test_more_than_two_policies_are_ranked(tmp_path: Path) -> None:
    met = [
        ("rl", "sft", "win"),
        ("rl", "base", "win"),
        ("sft", "base", "win"),
        ("sft", "rl", "win"),
        ("base", "rl", "win"),
    ]
    records = [
        replace(
            PAIRS[0], id=f"{place}-{draw}", a=f"{a}{draw}", b=f"{b}{draw}", policy_a=a, policy_b=b, group=f"g{draw}"
        )
        for place, (a, b, _) in enumerate(met)
        for draw in range(9 if place < 3 else 3)
    ]
    found = scored(tmp_path, records, resampling=Resampling(50))
    strengths = {policy: found[f"{policy}, judge scripted", "strength"].value for policy in ("rl", "sft", "base")}
    assert strengths["rl"] > strengths["sft"] > strengths["base"]


def test_several_runs_are_compared_and_ranked_as_one(tmp_path: Path) -> None:
    other = [replace(record, policy_a="base", a=f"c{place}", outcome="loss") for place, record in enumerate(PAIRS[:20])]
    for name, records in (("one", PAIRS), ("two", other)):
        parquet.write(tmp_path / name / "judgements.parquet", records, Judgement)
    both = run_folder.read(score.run([tmp_path / "one", tmp_path / "two"], tmp_path / "out"), Estimate)
    gap = next(e for e in both if e.name == "win rate difference")
    assert (gap.subject, gap.n) == ("base minus rl, both against sft, judge scripted", 20)
    assert gap.value == pytest.approx(-12 / 20)
    card = run_folder.read_card(tmp_path / "out")
    assert card is not None
    assert len(card.inputs) == 2
    with pytest.raises(DataError, match=r"one.*row 0.*occurs twice"):
        score.run([tmp_path / "one", tmp_path / "one" / "judgements.parquet"], tmp_path / "again")


def test_a_run_that_stopped_when_decided_brings_its_own_interval(tmp_path: Path) -> None:
    anytime = Estimate("win rate, undecided half, anytime", 0.7, 0.52, 0.9, 27, 0, "anytime interval")
    with run_folder.start(tmp_path / "judged", verb="judge", arguments={}) as run:
        run.write(PAIRS, Judgement)
        run.write([anytime, replace(anytime, name="attack success rate")], Estimate)
        run.notes["decided after"] = 27
    found = run_folder.read(score.run(tmp_path / "judged", tmp_path / "scores"), Estimate)
    assert anytime in found
    assert not any(estimate.name == "attack success rate" for estimate in found)
    told = {estimate.name: estimate for estimate in found}
    # What is for a fixed number of pairs does not hold: no p-value, no second interval of the rate that was watched.
    for name in ("win against loss, sign test p", "position test p"):
        assert told[name].value is None
    assert told["win against loss, sign test p"].reason.startswith("the run ended as soon as it was decided")
    half = told["win rate, undecided half"]
    assert (half.low, half.high) == (None, None)
    assert half.reason.endswith("the anytime interval holds")
    assert told["loss rate"].low is not None
    with run_folder.start(tmp_path / "whole", verb="judge", arguments={}) as run:
        run.write(PAIRS, Judgement)
        run.notes["decided after"] = None  # the queue ended first
    whole = {e.name: e for e in run_folder.read(score.run(tmp_path / "whole", tmp_path / "all"), Estimate)}
    assert whole["win against loss, sign test p"].value is not None
    assert whole["win rate, undecided half"].low is not None


def test_alpacas_own_file_needs_its_own_judgements(tmp_path: Path) -> None:
    rows = ["index,preference,std_delta_len,instruction_difficulty"]
    rows += [f"{place},{0.3 + place / 100},{(-1) ** place},{place / 10 - 1}" for place in range(24)]
    gamed = tmp_path / "df_gamed.csv"
    gamed.write_text("\n".join(rows))
    sized = [replace(r, text_a="x" * (10 + i % 7), text_b="x" * (8 + i % 5)) for i, r in enumerate(PAIRS[:24])]
    found = scored(tmp_path / "a", sized, length_control="alpaca", gamed=gamed, resampling=Resampling(30))
    plain = scored(tmp_path / "b", sized, length_control="alpaca", resampling=Resampling(30))
    name = ("rl against sft, judge scripted", "win rate, AlpacaEval length control")
    assert found[name].value != pytest.approx(plain[name].value, abs=1e-6)
    with pytest.raises(UserError, match=r"24 instructions, and there are 20 judgements"):
        scored(tmp_path / "c", sized[:20], length_control="alpaca", gamed=gamed)


def test_the_same_run_is_not_done_twice_and_another_is_refused(tmp_path: Path) -> None:
    scored(tmp_path, PAIRS)
    before = (tmp_path / "scores" / "estimates.parquet").stat().st_mtime_ns
    score.run(tmp_path / "judgements.parquet", tmp_path / "scores")
    assert (tmp_path / "scores" / "estimates.parquet").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="another"):
        scored(tmp_path, PAIRS, resampling=Resampling(level=0.9))


def test_the_bootstrap_and_the_level_are_options(tmp_path: Path) -> None:
    rate = scored(tmp_path, PAIRS, resampling=Resampling(100, level=0.9), intervals="bootstrap")[
        "rl against sft, judge scripted", "win rate"
    ]
    assert rate.method == "percentile bootstrap, 100 draws of 24"
    assert rate.level == 0.9


def test_bad_judgements_are_refused(tmp_path: Path) -> None:
    for place, (records, problem) in enumerate(
        (
            ([], "no judgements"),
            ([PAIRS[0], replace(PAIRS[0], id="again")], "occurs twice"),
            ([PAIRS[0], replace(PAIRS[1], p_a=1.5)], "row 1, field 'p_a': 1.5 is not a probability"),
            ([replace(PAIRS[1], p_a=float("nan"))], "nan is not a probability"),
        )
    ):
        with pytest.raises(UserError, match=problem):
            scored(tmp_path / str(place), records)
    with pytest.raises(UserError, match="no such file"):
        score.run(tmp_path / "absent", tmp_path / "out")


@pytest.mark.parametrize("intervals", ["analytic", "bootstrap"])
def test_a_table_of_outcomes_says_what_the_judgements_say(tmp_path: Path, intervals: str) -> None:
    grouped = [replace(record, group=f"g{place // 2}", p_a=0.5) for place, record in enumerate(PAIRS)]
    table = pd.DataFrame({"said": OUTCOMES, "doc": [record.group for record in grouped], "p": 0.5})
    table.to_csv(tmp_path / "t.csv", index=False)
    options = score.ScoreOptions(Resampling(100), intervals)
    out = run_table(tmp_path / "t.csv", tmp_path / "out", columns=OutcomeColumns("said", "doc", "p"), options=options)
    about = About(policy="rl", against="sft", judge="scripted")
    rates = scored(tmp_path / "judged", grouped, resampling=Resampling(100), intervals=intervals)
    for estimate in run_folder.read(out, Estimate):
        assert replace(estimate, about=about) == rates[about.sentence, estimate.name]


def test_tables_of_answers_and_broken_tables(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_dict({"outcome": ["yes", "no", "no", "unjudged"]})
    found = {estimate.name: estimate for estimate in of_table(rows)}
    assert found["no rate"].value == pytest.approx(2 / 3)
    for place, (column, value, said) in enumerate(
        (
            ("outcome", "victory", "row 1, field 'outcome': 'victory' is none of"),
            ("p_a", 1.5, "1.5 is not a probability"),
        )
    ):
        cells = {"outcome": ["win", "win"], "p_a": [0.5, 0.5]}
        cells[column][1] = value
        path = tmp_path / f"{place}.jsonl"
        pd.DataFrame(cells).to_json(path, orient="records", lines=True)
        with pytest.raises(DataError, match=said):
            of_table(path)


def test_scores_on_a_scale_are_averaged_and_compared(tmp_path: Path) -> None:
    graded = [
        replace(single(place, "scored"), kind="score", policy_a=policy, a=f"{policy}{place}", score=value)
        for policy, values in (("rl", [4.0, 5.0, 3.0, None]), ("sft", [3.0, 5.0, 1.0, 2.0]))
        for place, value in enumerate(values)
    ]
    found = scored(tmp_path, graded, resampling=Resampling(50))
    assert found["rl, judge scripted", "mean score"].value == pytest.approx(4.0)
    assert found["rl, judge scripted", "mean score"].n_missing == 1
    gap = found["rl minus sft, judge scripted", "mean score difference"]
    assert (gap.value, gap.n, gap.n_missing) == (pytest.approx(1.0), 3, 1)


def test_completions_become_diversity(tmp_path: Path) -> None:
    texts = {"sft": ["one two", "three four"], "rl": ["same same", "same same"]}
    records = [
        Completion(f"{policy}{draw}", "i", "g", "d", policy, (), text, "stop", draw)
        for policy, drawn in texts.items()
        for draw, text in enumerate(drawn)
    ]
    parquet.write(tmp_path / "completions.parquet", records, Completion)
    out = run_diversity(tmp_path / "completions.parquet", tmp_path / "out")
    found = {(estimate.subject, estimate.name): estimate.value for estimate in run_folder.read(out, Estimate)}
    assert found["sft", "unique share"] == 1.0
    assert found["rl", "unique share"] == 0.5
    assert found["rl", "distinct-1"] == 0.25
    parquet.write(tmp_path / "empty.parquet", [], Completion)
    with pytest.raises(UserError, match="no completions"):
        run_diversity(tmp_path / "empty.parquet", tmp_path / "other")
