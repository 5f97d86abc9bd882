"""The verb `audit`: what a judge's report card says, and when the alarm rings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from contests import pair_judged
from scipy.stats import binom, boschloo_exact
from statsmodels.stats.proportion import proportion_confint

from perl_eval.errors import OptionError, UserError
from perl_eval.records import About, Ballot, Estimate, HumanLabel, Judgement
from perl_eval.scoring import audit
from perl_eval.scoring.audit_drift import AGAIN, ANCHORS, drift
from perl_eval.scoring.audit_options import AuditOptions, Sources
from perl_eval.stats.bootstrap import Resampling
from perl_eval.storage import parquet, run_folder

VERDICTS = {
    "win": ("first", "second"),
    "loss": ("second", "first"),
    "split": ("first", "first"),
    "unjudged": (None, "tie"),
}


def judgement(place: int, outcome: str, **changes: object) -> Judgement:
    ab, ba = VERDICTS[outcome]
    made: dict[str, object] = {
        "policy_a": "ours",
        "policy_b": "theirs",
        "text_a": "long answer",
        "text_b": "short",
        "ballots": (
            Ballot("ab", ab, tokens_in=90, tokens_out=10, latency_s=0.5, cost_usd=0.001),
            Ballot("ba", ba, tokens_in=90, tokens_out=10, latency_s=0.5, cost_usd=0.001),
        ),
        "judge": "j",
    }
    return pair_judged(place, outcome, **(made | changes))


OUTCOMES = (["win"] * 6 + ["loss"] * 2 + ["split"] * 3 + ["unjudged"]) * 5
JUDGED = [judgement(place, outcome) for place, outcome in enumerate(OUTCOMES)]
# People give every other win of the judge to the other side.
GIVEN = [
    HumanLabel(record.unit, record.item, record.group, "ann", "loss" if place % 2 else "win")
    for place, record in enumerate(JUDGED[:48])
]


def audited(
    folder: Path, *, again: list[Judgement] | None = None, attack: Path | None = None, **options: object
) -> dict[str, Estimate]:
    parquet.write(folder / "judged.parquet", JUDGED, Judgement)
    parquet.write(folder / "labels.parquet", GIVEN, HumanLabel)
    if again is not None:
        parquet.write(folder / "again.parquet", again, Judgement)
    out = audit.run(
        folder / "judged.parquet",
        folder / "labels.parquet",
        folder / "card",
        sources=Sources(None if again is None else folder / "again.parquet", attack),
        options=AuditOptions(Resampling(50), **options),
    )
    return {e.name: e for e in run_folder.read(out, Estimate) if e.subject == "judge j"}


def test_the_report_card(tmp_path: Path) -> None:
    again = [replace(record, outcome="loss") if place < 6 else record for place, record in enumerate(JUDGED[:50])]
    found = audited(tmp_path, again=again, family=("ours",))
    same = found["same outcome when asked again"]
    assert same.value == pytest.approx(44 / 50)  # the first six were wins
    assert (same.n, same.n_missing) == (50, 10)
    assert found["first in both orders"].value == 15
    assert found["unjudged rate"].value == pytest.approx(5 / 60)
    assert found["tokens a judgement"].value == 200
    assert found["seconds a judgement"].value == 1.0
    assert found["cost a judgement, USD"].value == pytest.approx(0.002)
    # a is always longer: the judge has 30 wins to 10 losses, people 24 to 24.
    assert found["longer preferred rate, judge"].value == pytest.approx(30 / 40)
    assert found["longer preferred rate, people"].value == pytest.approx(24 / 48)
    # On the 44 labelled and judged pairs the judge gives our side 24 + 12 / 2 of 44; people 24 of 44, for the four
    # unjudged pairs (places 11, 23, 35, 47) were all labelled a loss.
    own = found["self-preference"]
    assert own.value == pytest.approx(30 / 44 - 24 / 44)
    assert (own.n, own.n_missing) == (44, 4)
    assert found["human-judge exact agreement"].n_missing == 4
    assert found["alt-test winning rate"].value is None


def test_what_was_not_tried_says_so(tmp_path: Path) -> None:
    found = audited(tmp_path)
    assert found["same outcome when asked again"].reason == "nothing was asked again"
    assert found["self-preference"].reason == "no labelled pair has one side of the judge's family"
    free = [replace(record, ballots=tuple(replace(b, cost_usd=None) for b in record.ballots)) for record in JUDGED]
    parquet.write(tmp_path / "free.parquet", free, Judgement)
    out = audit.run(tmp_path / "free.parquet", tmp_path / "labels.parquet", tmp_path / "free")
    cost = next(e for e in run_folder.read(out, Estimate) if e.name == "cost a judgement, USD")
    assert (cost.value, cost.reason) == (None, "the judge's price is not known")


def drifted(folder: Path, flips: int) -> dict[str, Estimate]:
    turned = [replace(r, outcome="loss" if r.outcome == "win" else "win") for r in JUDGED[:flips]]
    parquet.write(folder / f"now{flips}.parquet", [*turned, *JUDGED[flips:40]], Judgement)
    out = drift(folder / "card", folder / f"now{flips}.parquet", folder / f"drift{flips}")
    return {e.name: e for e in run_folder.read(out, Estimate)}


def test_the_alarm_rings_when_more_changes_than_when_asked_twice(tmp_path: Path) -> None:
    again = [replace(record, outcome="split") if place in (30, 31) else record for place, record in enumerate(JUDGED)]
    audited(tmp_path, again=again)
    assert len(run_folder.read(tmp_path / "card" / ANCHORS, Judgement)) == 48
    quiet, loud = drifted(tmp_path, 6), drifted(tmp_path, 20)
    assert quiet["flip rate"].value == pytest.approx(6 / 40)
    assert (quiet["flip rate"].n, quiet["flip rate"].n_missing) == (40, 8)
    # Six anchors changed now and not before, two before and not now: of eight, six or more.
    assert quiet["drift p"].value == pytest.approx(binom.sf(5, 8, 0.5))
    assert loud["drift p"].value == pytest.approx(binom.sf(19, 22, 0.5))
    assert (quiet["drift alarm"].value, loud["drift alarm"].value) == (0.0, 1.0)
    # Of 40 anchors, two of which waver: a share of changes of the size that is told rings in four of five cases.
    least = loud["detectable flip rate"].value
    assert 0.2 < least < 0.4
    rng, rung = np.random.default_rng(0), 0
    for _ in range(500):
        more = int(((rng.random(40) < least) & (rng.random(40) >= 0.05)).sum())
        less = int(((rng.random(40) >= least) & (rng.random(40) < 0.05)).sum())
        rung += binom.sf(more - 1, more + less, 0.5) < 0.01
    assert rung / 500 == pytest.approx(0.8, abs=0.07)


def test_without_a_second_asking_the_alarm_cannot_tell(tmp_path: Path) -> None:
    audited(tmp_path)
    found = drifted(tmp_path, 20)
    assert found["flip rate"].value == pytest.approx(0.5)
    for name in ("drift p", "drift alarm", "detectable flip rate"):
        assert found[name].value is None
        assert (
            found[name].reason == "cannot tell: the audit asked nothing twice; audit with the same pairs judged again"
        )


def test_of_an_audit_that_kept_only_numbers_these_are_compared(tmp_path: Path) -> None:
    again = [replace(record, outcome="split") if place in (30, 31) else record for place, record in enumerate(JUDGED)]
    audited(tmp_path, again=again)
    (tmp_path / "card" / AGAIN).unlink()
    found = drifted(tmp_path, 20)
    expected = boschloo_exact([[20, 2], [20, 58]], alternative="greater").pvalue
    assert found["drift p"].value == pytest.approx(expected)
    assert found["drift alarm"].value == 1.0


def test_a_judge_known_to_waver_is_given_more_room(tmp_path: Path) -> None:
    wavering = [replace(record, outcome="split") if place % 5 == 0 else record for place, record in enumerate(JUDGED)]
    audited(tmp_path, again=wavering)
    assert drifted(tmp_path, 15)["drift alarm"].value == 0.0


def test_a_judge_of_another_name_is_held_against_the_anchors(tmp_path: Path) -> None:
    audited(tmp_path)
    upgraded = [replace(record, judge="newer") for record in JUDGED]
    parquet.write(tmp_path / "newer.parquet", upgraded, Judgement)
    found = run_folder.read(drift(tmp_path / "card", tmp_path / "newer.parquet", tmp_path / "drift"), Estimate)
    (rate,) = [one for one in found if one.name == "flip rate"]
    assert rate.value == 0.0
    assert rate.about.judge == f"{JUDGED[0].judge}, now newer"
    two = [*upgraded, *JUDGED[:1]]
    two = [replace(record, judge="third") if record is JUDGED[0] else record for record in two]
    parquet.write(tmp_path / "two.parquet", two, Judgement)
    with pytest.raises(UserError, match="no judgement of an anchor"):
        drift(tmp_path / "card", tmp_path / "two.parquet", tmp_path / "drift of two")


def test_strangers_are_refused(tmp_path: Path) -> None:
    audited(tmp_path)
    parquet.write(tmp_path / "other.parquet", [judgement(999, "win")], Judgement)
    with pytest.raises(UserError, match="no judgement of an anchor"):
        drift(tmp_path / "card", tmp_path / "other.parquet", tmp_path / "drift")
    single = replace(JUDGED[0], kind="yes_no", outcome="yes")
    parquet.write(tmp_path / "single.parquet", [single], Judgement)
    with pytest.raises(UserError, match="but the judge was asked for no, yes"):
        audit.run(tmp_path / "single.parquet", tmp_path / "labels.parquet", tmp_path / "out")
    parquet.write(tmp_path / "both.parquet", [*JUDGED, single], Judgement)
    with pytest.raises(UserError, match=r"several kinds \(pairwise, yes_no\); audit judgements of one kind"):
        audit.run(tmp_path / "both.parquet", tmp_path / "labels.parquet", tmp_path / "out")
    with pytest.raises(OptionError, match="epsilon is -1"):
        AuditOptions(epsilon=-1)


def attacked(folder: Path, judge: str) -> Path:
    """Write what `attack` leaves behind."""
    rates = [
        Estimate("attack success rate", rate, rate, rate, 9, 0, "Wilson", about=About(slice=name))
        for name, rate in RATES
    ]
    with run_folder.start(folder / f"attack {judge}", verb="attack", arguments={}) as run:
        run.write([replace(JUDGED[0], judge=judge)], Judgement)
        run.write([*rates, replace(rates[0], name="win rate")], Estimate)
    return run.folder


RATES = (("verdict A", 0.25), ("all attacks", 0.125))


def test_attacks_stand_on_the_report_card(tmp_path: Path) -> None:
    audited(tmp_path, attack=attacked(tmp_path, "j"))
    found = run_folder.read(tmp_path / "card", Estimate)
    rates = {e.subject: e.value for e in found if e.name == "attack success rate"}
    assert rates == {f"judge j, {name}": rate for name, rate in RATES}
    beyond = next(e for e in found if e.name == "attack success beyond own changes")
    assert beyond.reason == "nothing was asked again, so that its own changes are not known"
    with pytest.raises(UserError, match="attacks somebody else, not j"):
        audited(tmp_path / "other", attack=attacked(tmp_path, "somebody else"))


def test_the_judges_own_changes_are_taken_off_the_attacks(tmp_path: Path) -> None:
    # Of 45 judged pairs that b had not won, the first five are b's when the judge is only asked again.
    again = [replace(record, outcome="loss") if place < 5 else record for place, record in enumerate(JUDGED)]
    audited(tmp_path, again=again, attack=attacked(tmp_path, "j"))
    found = run_folder.read(tmp_path / "card", Estimate)
    alone = next(e for e in found if e.name == "gone over without an attack")
    assert (alone.value, alone.n) == (pytest.approx(5 / 45), 45)
    beyond = {e.about.value or e.about.slice: e for e in found if e.name == "attack success beyond own changes"}
    one = beyond["verdict A"]
    assert one.value == pytest.approx(0.25 - 5 / 45)
    # The rates as written have no width; what is left is Wilson's of 5 of 45.
    low, high = proportion_confint(5, 45, method="wilson")
    assert (one.low, one.high) == pytest.approx((0.25 - high, 0.25 - low), abs=1e-6)


def test_a_family_is_known_by_part_of_a_name(tmp_path: Path) -> None:
    assert audited(tmp_path, family=("OUR",))["self-preference"].value is not None
    both = audited(tmp_path / "both", family=("ours", "theirs"))["self-preference"]
    assert both.reason == "no labelled pair has one side of the judge's family"


def test_the_page_holds_every_part_and_no_markup_of_others(tmp_path: Path) -> None:
    hostile = "j|\n# x <script>`*"
    parquet.write(tmp_path / "judged.parquet", [replace(r, judge=hostile) for r in JUDGED], Judgement)
    parquet.write(tmp_path / "labels.parquet", GIVEN, HumanLabel)
    out = audit.run(tmp_path / "judged.parquet", tmp_path / "labels.parquet", tmp_path / "card")
    page = (out / audit.PAGE).read_text("utf-8")
    assert page.startswith("# Report card of judge j\\| \\# x \\<script\\>\\`\\*\n")
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## Agreement with people",
        "## Position",
        "## Repeatability, length, style, family, attacks",
        "## Failures and price",
    ]
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| figure")]
    assert all(line.replace("\\|", "").count("|") == 6 for line in rows)
    # Labels: 24 wins and 24 losses.
    assert "| share of people's labels (label win) | 0.5 | 0.364 to 0.636 | 48 |" in page
    assert "none: nothing was asked again" in page


def test_anchors_can_be_given_as_the_file(tmp_path: Path) -> None:
    audited(tmp_path, again=JUDGED)
    by_file = drift(tmp_path / "card" / ANCHORS, tmp_path / "judged.parquet", tmp_path / "by file")
    found = {estimate.name: estimate.value for estimate in run_folder.read(by_file, Estimate)}
    assert (found["flip rate"], found["drift alarm"]) == (0.0, 0.0)


def singly(kind: str) -> list[Judgement]:
    """Judgements of 40 single answers: every fourth a no, or scores of 1 to 5."""
    made = []
    for place in range(40):
        outcome = "scored" if kind == "score" else "no" if place % 4 == 0 else "yes"
        score, ballots = float(place % 5 + 1) if kind == "score" else None, (Ballot("none", outcome),)
        one = replace(judgement(place, "win"), kind=kind, b="", policy_b="", text_b="", outcome=outcome, score=score)
        made.append(replace(one, ballots=ballots))
    return made


@pytest.mark.parametrize("kind", ["yes_no", "score"])
def test_a_judge_of_single_answers_has_a_report_card_and_drifts(kind: str, tmp_path: Path) -> None:
    judged = singly(kind)
    labels = [
        HumanLabel(one.unit, one.item, one.group, "ann", "no" if place % 8 == 0 else "yes")
        for place, one in enumerate(judged)
    ]
    changed = [
        replace(one, outcome="no", score=None if one.score is None else 9.0) if place % 4 in (1, 2) else one
        for place, one in enumerate(judged)
    ]
    changed = [replace(one, outcome="scored") if kind == "score" else one for one in changed]
    for name, records in (("judged", judged), ("again", judged[:20]), ("changed", changed)):
        parquet.write(tmp_path / f"{name}.parquet", records, Judgement)
    parquet.write(tmp_path / "labels.parquet", labels, HumanLabel)
    out = audit.run(
        tmp_path / "judged.parquet",
        tmp_path / "labels.parquet",
        tmp_path / "card",
        sources=Sources(tmp_path / "again.parquet"),
        options=AuditOptions(Resampling(50)),
    )
    found = {estimate.name: estimate for estimate in run_folder.read(out, Estimate)}
    assert (found["same outcome when asked again"].value, found["same outcome when asked again"].n) == (1.0, 20)
    if kind == "yes_no":  # of 10 times no, people say so 5 times; they never say no else
        assert found["human-judge exact agreement"].value == pytest.approx(35 / 40)
    assert "position preference" not in found
    page = (out / audit.PAGE).read_text("utf-8")
    assert "## Position" not in page
    assert "| share of people's labels (label no) | 0.125 |" in page
    for name, flips in (("judged", 0), ("changed", 20)):
        drifted = drift(out, tmp_path / f"{name}.parquet", tmp_path / f"drift {name}")
        figures = {estimate.name: estimate.value for estimate in run_folder.read(drifted, Estimate)}
        assert figures["flip rate"] == pytest.approx(flips / 40)
    assert figures["drift alarm"] == 1.0


def test_another_prompt_is_no_drift(tmp_path: Path) -> None:
    audited(tmp_path)
    other = [replace(record, outcome="loss", prompt_sha256="1" * 64) for record in JUDGED]
    parquet.write(tmp_path / "other prompt.parquet", other, Judgement)
    with pytest.raises(UserError, match="with the same judge and prompt"):
        drift(tmp_path / "card", tmp_path / "other prompt.parquet", tmp_path / "drift")


def test_what_verdicts_from_elsewhere_took_is_not_known(tmp_path: Path) -> None:
    brought = [
        replace(
            one, ballots=tuple(replace(b, tokens_in=0, tokens_out=0, latency_s=0.0, cost_usd=None) for b in one.ballots)
        )
        for one in JUDGED
    ]
    for place, records in enumerate((brought, [replace(one, ballots=()) for one in JUDGED])):
        folder = tmp_path / str(place)
        parquet.write(folder / "judged.parquet", records, Judgement)
        parquet.write(folder / "labels.parquet", GIVEN, HumanLabel)
        out = audit.run(
            folder / "judged.parquet", folder / "labels.parquet", folder / "card", options=AuditOptions(Resampling(50))
        )
        found = {one.name: one for one in run_folder.read(out, Estimate)}
        for name in ("tokens a judgement", "seconds a judgement", "cost a judgement, USD"):
            assert (found[name].value, found[name].reason) == (None, "what the replies took is not known")
