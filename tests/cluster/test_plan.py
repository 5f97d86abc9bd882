"""The verb plan: figures worked out by hand from made run cards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from perl_eval.cli import whole_program
from perl_eval.cluster import plan
from perl_eval.cluster.plan import PlanInputs
from perl_eval.errors import DataError, UserError
from perl_eval.records import Estimate, RunCard
from perl_eval.storage import run_folder

ASKING = {
    "asked": 200,
    "from_ledger": 0,
    "shared": 0,
    "failed": 0,
    "tokens_in": 9000,
    "tokens_out": 1000,
    "cost_usd": 0.5,
}
JUDGE = {"judge": {"door": "chat", "model": "m", "parameters": {}}, "prompt": "dialogue"}


def card(folder: Path, verb: str, seconds: float, arguments: Mapping[str, Any], notes: Mapping[str, Any]) -> Path:
    folder.mkdir(parents=True)
    made = RunCard(verb, arguments, 0, {}, {}, {}, seconds, 1, "2026-01-01", notes=notes)
    (folder / run_folder.CARD).write_text(json.dumps(asdict(made)))
    return folder


def judged(folder: Path, seconds: float = 50.0, count: int = 100, **asking: Any) -> Path:
    return card(folder, "judge", seconds, JUDGE, {"judged": count, "asking": {**ASKING, **asking}})


def figures(folder: Path) -> dict[str, float | None]:
    found = run_folder.read(folder, Estimate)
    assert len({(one.subject, one.name) for one in found}) == len(found)
    return {one.name: one.value for one in found}


def test_one_judge_run(tmp_path: Path) -> None:
    """100 judgements in 50 s and for 0.5 dollars, on a machine of 3.6 dollars an hour."""
    source = judged(tmp_path / "judged")
    found = figures(plan.run([source], tmp_path / "out", given=PlanInputs(usd_per_hour=3.6)))
    assert found["judgements an hour, one worker"] == pytest.approx(7200)
    assert found["tokens a judgement"] == pytest.approx(100)
    # 0.005 to the API, and half a second of a machine of 0.001 a second
    assert found["judgements a dollar"] == pytest.approx(1 / 0.0055)
    assert found["hours for 1,000 judgements, one worker"] == pytest.approx(500 / 3600)
    assert found["dollars for 100,000,000 judgements"] == pytest.approx(550_000)
    assert found["workers for 1,000 judgements in 24 h"] == 1
    # 5e7 seconds; a day has 86,400: 578.7
    assert found["workers for 100,000,000 judgements in 24 h"] == 579


def test_two_sizes_tell_the_start_from_the_work(tmp_path: Path) -> None:
    """10 s to start and 0.5 s each: 60 s for 100, 510 s for 1,000."""
    sources = [
        judged(tmp_path / "small", 60.0, 100),
        judged(tmp_path / "large", 510.0, 1000, asked=2000, tokens_in=90_000, tokens_out=10_000, cost_usd=5.0),
    ]
    found = figures(plan.run(sources, tmp_path / "out"))
    assert found["judgements an hour, one worker"] == pytest.approx(7200)
    assert found["hours for 1,000 judgements, one worker"] == pytest.approx(510 / 3600)
    alone = figures(plan.run(sources[:1], tmp_path / "alone"))
    assert alone["judgements an hour, one worker"] == pytest.approx(6000)


def test_a_larger_run_that_took_less_has_no_line(tmp_path: Path) -> None:
    sources = [judged(tmp_path / "small", 60.0, 100), judged(tmp_path / "large", 40.0, 200)]
    found = run_folder.read(plan.run(sources, tmp_path / "out"), Estimate)
    assert found[0].value == pytest.approx(300 * 36)
    assert found[0].method == "measured, 2 run(s), start included"


def test_kept_answers_are_no_measurement(tmp_path: Path) -> None:
    """150 of 200 answers were kept: the 50 s are of a quarter of the judgements."""
    source = judged(tmp_path / "judged", asked=50, from_ledger=150)
    found = figures(plan.run([source], tmp_path / "out"))
    assert found["judgements an hour, one worker"] == pytest.approx(25 / 50 * 3600)
    with pytest.raises(UserError, match="asked for nothing: its answers were kept before"):
        plan.run([judged(tmp_path / "kept", asked=0, from_ledger=200)], tmp_path / "none")


def test_runs_of_one_size_give_intervals(tmp_path: Path) -> None:
    """Of 100 judgements each in 40, 50 and 60 s: 0.5 s each; the runs' spread is 10 s.

    A share: residuals -10, 0, 10 over sizes 100 give noise^2 = (1 + 0 + 1) / 2 = 1, so the error of each is
    1 / sqrt(300) = 0.05774, and t with 2 degrees of freedom is 4.302653: 0.5 -+ 0.248414. It is also the plain
    t interval of the mean of 0.4, 0.5, 0.6.
    """
    sources = [judged(tmp_path / str(seconds), float(seconds)) for seconds in (40, 50, 60)]
    out = plan.run(sources, tmp_path / "out", given=PlanInputs(usd_per_hour=3.6))
    found = {one.name: one for one in run_folder.read(out, Estimate)}
    low, high = 0.5 - 0.248414, 0.5 + 0.248414
    rate = found["judgements an hour, one worker"]
    assert (rate.value, rate.low, rate.high) == pytest.approx((7200, 3600 / high, 3600 / low), rel=1e-5)
    assert (rate.n, rate.method) == (300, "measured, 3 run(s), start included")
    for size in (1_000, 100_000_000):
        hours = found[f"hours for {size:,} judgements, one worker"]
        seconds = (size * 0.5, size * low, size * high)
        assert (hours.value, hours.low, hours.high) == pytest.approx([one / 3600 for one in seconds], rel=1e-5)
    # 25,158,600 s and 74,841,400 s of 86,400 a day: 291.2 and 866.2
    workers = found["workers for 100,000,000 judgements in 24 h"]
    assert (workers.value, workers.low, workers.high) == (579, 292, 867)
    # every run paid 0.005 a judgement: that part has an interval of no width
    dollars = found["dollars for 1,000 judgements"]
    assert (dollars.low, dollars.high) == pytest.approx((5 + low, 5 + high), rel=1e-5)
    a_dollar = found["judgements a dollar"]
    assert (a_dollar.low, a_dollar.high) == pytest.approx((1000 / (5 + high), 1000 / (5 + low)), rel=1e-5)


def test_a_line_says_how_surely_it_is_known_far_away(tmp_path: Path) -> None:
    """Sizes 100, 200, 300 took 62, 106, 162 s: slope 0.5, start 10, residuals 2, -4, 2.

    noise^2 = 24 / 1, the sizes spread by 20,000 about 200, t with 1 degree of freedom is 12.706205. At 1,000: 510 s
    -+ 12.706205 * sqrt(24) * sqrt(1/3 + 800^2 / 20,000) = 353.95.
    """
    sources = [judged(tmp_path / str(n), float(s), n) for n, s in ((100, 62), (200, 106), (300, 162))]
    found = {one.name: one for one in run_folder.read(plan.run(sources, tmp_path / "out"), Estimate)}
    hours = found["hours for 1,000 judgements, one worker"]
    assert (hours.value, hours.low, hours.high) == pytest.approx(
        [seconds / 3600 for seconds in (510, 510 - 353.95, 510 + 353.95)], rel=1e-4
    )
    assert hours.method == "measured, line through 3 runs"
    # each: 0.5 -+ 12.706205 * sqrt(24 / 20,000) = 0.44, so above 0
    rate = found["judgements an hour, one worker"]
    assert (rate.low, rate.high) == pytest.approx((3600 / 0.940155, 3600 / 0.059845), rel=1e-4)


def test_too_few_runs_give_no_interval_and_an_interval_down_to_zero_no_rate(tmp_path: Path) -> None:
    alone = run_folder.read(
        plan.run([judged(tmp_path / "one")], tmp_path / "a", given=PlanInputs(usd_per_hour=1)), Estimate
    )
    assert {(one.low, one.high) for one in alone} == {(None, None)}
    wild = [judged(tmp_path / "fast", 10.0), judged(tmp_path / "slow", 90.0)]
    found = {one.name: one for one in run_folder.read(plan.run(wild, tmp_path / "b"), Estimate)}
    assert found["hours for 1,000 judgements, one worker"].low == 0.0
    rate = found["judgements an hour, one worker"]
    assert (rate.value, rate.low, rate.high) == (pytest.approx(7200), None, None)


def test_rl_runs_of_several_seeds_are_one_step(tmp_path: Path) -> None:
    """10 steps each of 3, 4 and 5 s: the t interval of their mean is 4 -+ 4.302653 / sqrt(3) = 2.484138."""
    told: dict[str, Any] = {"processes": 2, "tokens a second": 5.0}
    sources = [
        card(tmp_path / f"s{seconds}", "train policy", 99.0, {"steps": 10}, {**told, plan.STEP_S: float(seconds)})
        for seconds in (3, 4, 5)
    ]
    other = card(tmp_path / "other", "train policy", 99.0, {"steps": 5}, {**told, plan.STEP_S: 1.0})
    found = run_folder.read(plan.run([*sources, other], tmp_path / "out", given=PlanInputs(gpus=1)), Estimate)
    step, gpu_hours, apart, _ = found
    assert (step.subject, step.n, step.method) == ("RL step, s3, s4, s5", 30, "measured, 30 steps in 3 runs")
    assert (step.value, step.low, step.high) == pytest.approx((4, 4 - 2.484138, 4 + 2.484138), rel=1e-5)
    assert (gpu_hours.low, gpu_hours.high) == pytest.approx((1.515862 * 2 / 3600, 6.484138 * 2 / 3600), rel=1e-5)
    assert (apart.subject, apart.value, apart.low) == ("RL step, other", 1.0, None)


def test_an_rl_run_on_another_prior_is_another_step(tmp_path: Path) -> None:
    cards = [
        RunCard("train policy", {"steps": 10}, seed, {"data": "d", "prior": prior}, {}, {}, 9.0, 1, "2026-01-01")
        for seed, prior in enumerate(["small", "large", "small"])
    ]
    alike = plan._alike([(tmp_path / str(one.seed), one) for one in cards])
    assert [[folder.name for folder, _ in group] for group in alike] == [["0", "2"], ["1"]]


def test_an_rl_step_is_what_its_card_says(tmp_path: Path) -> None:
    """4 s a step on 2 processes of 4 GPUs each: 4 s x 8 / 3600 GPU-hours."""
    notes = {plan.STEP_S: 4.0, "seconds learning": 10.0, "processes": 2, "tokens a second": 5.0}
    source = card(tmp_path / "policy", "train policy", 100.0, {"steps": 10}, notes)
    found = figures(plan.run([source], tmp_path / "out", given=PlanInputs(gpus=4, usd_per_hour=9.0)))
    assert found["seconds an RL step"] == pytest.approx(4.0)
    assert found["GPU-hours an RL step"] == pytest.approx(4 * 8 / 3600)
    assert found["dollars an RL step"] == pytest.approx(4 / 3600 * 9 * 2)
    bare = card(tmp_path / "bare", "train policy", 100.0, {"steps": 10}, {})
    whole = run_folder.read(plan.run([bare], tmp_path / "whole"), Estimate)
    assert [(one.name, one.value, one.method) for one in whole] == [
        ("seconds an RL step", 10.0, "measured, 10 steps, start included")
    ]


def test_what_is_given_is_said_to_be_given(tmp_path: Path) -> None:
    options = PlanInputs(judgements_per_hour=1000, usd_per_judgement=0.0, seconds_per_rl_step=36, gpus=1)
    found = run_folder.read(plan.run([], tmp_path / "out", given=options), Estimate)
    assert {one.method for one in found} == {"given"}
    by_name = {one.name: one for one in found}
    assert by_name["GPU-hours an RL step"].value == pytest.approx(0.01)
    assert (by_name["judgements a dollar"].value, by_name["judgements a dollar"].reason) == (None, "it costs nothing")


def test_completions_of_a_model_here_and_behind_a_server(tmp_path: Path) -> None:
    sources = [
        card(tmp_path / "here", "sample", 10.0, {}, {"policy": "p", "completions": 100}),
        card(
            tmp_path / "there",
            "sample",
            10.0,
            {},
            {"policy": "q", "completions": 50, "asking": {**ASKING, "asked": 50}},
        ),
    ]
    found = run_folder.read(plan.run(sources, tmp_path / "out"), Estimate)
    rates = {one.subject: one.value for one in found if one.name == "completions an hour, one worker"}
    assert rates == {"policy p": pytest.approx(36_000), "policy q": pytest.approx(18_000)}


@settings(max_examples=50, deadline=None)
@drawn(st.floats(1, 1e6), st.floats(0, 10), st.floats(0.5, 100))
def test_more_judgements_take_longer_cost_more_and_need_no_fewer_workers(
    per_hour: float, price: float, patience: float
) -> None:
    options = PlanInputs(judgements_per_hour=per_hour, usd_per_hour=price, patience_h=patience)
    (rate,) = plan._given_rates(options)
    values = {one.name: one.value or 0.0 for one in plan._of_rate(rate, options)}
    for what in ("hours for", "workers for", "dollars for"):
        grown = [value for name, value in values.items() if name.startswith(what)]
        assert len(grown) == len(plan.SIZES)
        assert grown == sorted(grown)
    hours = [value for name, value in values.items() if name.startswith("hours for")]
    workers = [value for name, value in values.items() if name.startswith("workers for")]
    for time_h, count in zip(hours, workers, strict=True):
        assert time_h / count <= patience * (1 + 1e-6)


@pytest.mark.parametrize(
    ("name", "value"),
    [("judgements_per_hour", 0.0), ("patience_h", float("nan")), ("gpus", -1.0), ("usd_per_hour", float("inf"))],
)
def test_impossible_figures(name: str, value: float) -> None:
    with pytest.raises(UserError, match=name):
        replace(PlanInputs(), **{name: value})


def test_runs_that_say_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to plan from"):
        plan.run([], tmp_path / "none")
    with pytest.raises(UserError, match="is a run of `score`"):
        plan.run([card(tmp_path / "score", "score", 1.0, {}, {})], tmp_path / "out")
    with pytest.raises(DataError, match="the card lacks 'judged'"):
        plan.run([card(tmp_path / "odd", "judge", 1.0, JUDGE, {})], tmp_path / "out2")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="is not a finished run"):
        plan.run([tmp_path / "empty"], tmp_path / "out3")


def test_the_command_prints_the_table(tmp_path: Path) -> None:
    words = ["plan", str(judged(tmp_path / "judged")), "--out", str(tmp_path / "out"), "--usd-per-hour", "3.6"]
    shown = CliRunner().invoke(whole_program(), words, env={"COLUMNS": "200", "TERM": "dumb"})
    assert shown.exit_code == 0, shown.output
    assert "judgements an hour, one worker" in shown.output
    assert "550,000" in shown.output
    assert "0.139" in shown.output  # 500 s for a thousand
    again = [str(judged(tmp_path / str(seconds), float(seconds))) for seconds in (40, 50, 60)]
    shown = CliRunner().invoke(
        whole_program(), ["plan", *again, "--out", str(tmp_path / "three")], env={"COLUMNS": "300", "TERM": "dumb"}
    )
    assert "0.139 (0.0699 to 0.208)" in shown.output
