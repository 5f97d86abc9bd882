"""What goes around a run of judge: forecast, attack, reading again, verifying."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from contests import MIRROR, OPTIONS, length

from perl_eval.client.reply import Reply
from perl_eval.errors import DataError, Refused, UserError
from perl_eval.judges import prompting
from perl_eval.judges.backends.scripted import ScriptedJudge
from perl_eval.judges.readers import MarginReader
from perl_eval.judging import judge
from perl_eval.judging.attacks import ATTACKS
from perl_eval.judging.engine.ask import AskOptions
from perl_eval.records import Ballot, Completion, Estimate, Judgement, Question
from perl_eval.storage import parquet, run_folder

# -------------------------------------------------------------------------------------------------- forecast


class Priced(ScriptedJudge):
    """A scripted judge that costs a cent a thousand tokens in and writes up to ten."""

    group = 4
    longest = 10

    def price_usd(self, tokens_in: float, tokens_out: float) -> float | None:
        return tokens_in * 1e-5 + tokens_out * 1e-3


def test_a_forecast_counts_what_a_run_would_ask(tmp_path: Path, contestants: tuple[Path, Path]) -> None:
    by = Priced(length, name="length")
    found = judge.forecast(*contestants, judge=by, options=OPTIONS, out=tmp_path / "out")
    # 30 pairs in both orders; item 35 has two empty answers, so both its orders are one question.
    assert (found.units, found.questions, found.from_ledger, found.requests) == (30, 59, 0, 15)
    units = judge.pairs(*(run_folder.read(path, Completion) for path in contestants)).matched
    texts = {
        tuple(turn.content for turn in question.messages)
        for question in judge.plan(units, by, prompting.load("dialogue"))
    }
    assert found.tokens_in == pytest.approx(sum(len("".join(text)) for text in texts) / 4, abs=1)
    assert found.tokens_out == 590
    assert found.cost_usd == pytest.approx(found.tokens_in * 1e-5 + 0.59)
    assert found.example[-1].role == "user"
    assert "=== answer A" in found.example[-1].content
    assert not (tmp_path / "out").exists()


def test_a_forecast_takes_the_ledger_into_account(tmp_path: Path, contestants: tuple[Path, Path]) -> None:
    by = Priced(length, name="length")
    judge.run(*contestants, tmp_path / "out", judge=by, options=replace(OPTIONS, limit=10))
    found = judge.forecast(*contestants, judge=by, options=OPTIONS, out=tmp_path / "out")
    assert 19 <= found.from_ledger <= 20
    assert found.requests == -(-(59 - found.from_ledger) // 4)


# ---------------------------------------------------------------------------------------------------- attack


class Gullible(ScriptedJudge):
    """Believes an answer that says it is the better one; else prefers the longer one."""

    def __init__(self) -> None:
        super().__init__(
            lambda answer: 1000.0 * ("better one" in answer.text) - len(answer.text) * 1e-3, name="gullible"
        )


def rates(out: Path) -> dict[str, Estimate]:
    return {rate.subject: rate for rate in run_folder.read(out, Estimate)}


def test_a_judge_that_can_be_talked_round_is_found_out(tmp_path: Path, contestants: tuple[Path, Path]) -> None:
    found = rates(judge.attack(*contestants, tmp_path / "out", judge=Gullible(), options=OPTIONS))
    # It prefers the shorter answer, so b won already where i % 5 < i % 7; those are no attempts.
    attempts = sum(i % 5 >= i % 7 for i in range(10, 40))
    for name in ("ignore the other", "broken fence", "role tags"):
        assert (found[name].value, found[name].n) == (1.0, attempts)
    for name in ("verdict A", "verdict B", "template"):
        assert found[name].value == 0.0
    assert set(found) == {*ATTACKS, "all attacks"}
    assert found["length"].value == 0.0  # it likes short answers
    successes = sum(found[name].value or 0.0 for name in ATTACKS)
    assert found["all attacks"].value == pytest.approx(successes / len(ATTACKS))
    assert found["all attacks"].n == attempts * len(ATTACKS)
    assert found["all attacks"].simulated


def test_a_judge_that_sees_only_the_position_cannot_be_attacked(tmp_path: Path, contestants: tuple[Path, Path]) -> None:
    by = ScriptedJudge(lambda _: 0.0, name="nil", position_bias=1.0)
    found = rates(judge.attack(*contestants, tmp_path / "out", judge=by, options=OPTIONS))
    assert {rate.value for rate in found.values()} == {0.0}


def test_an_attack_on_single_answers_counts_changed_verdicts(tmp_path: Path, contestants: tuple[Path, Path]) -> None:
    out = judge.attack(contestants[0], None, tmp_path / "out", judge=Gullible(), options=judge.JudgeOptions("action"))
    found = rates(out)
    # Before, every answer is a no: its length counts against it, and nobody calls itself the better one.
    assert (found["role tags"].value, found["role tags"].n) == (1.0, 40)
    assert found["template"].value == 0.0
    attacked = run_folder.read(out, Judgement)
    assert len(attacked) == 40 * len(ATTACKS)
    assert {row.policy_a for row in attacked} == {f"rl, attack: {name}" for name in ATTACKS}


# ------------------------------------------------------------------------------------------ reread and verify


class Reversed:
    def read(self, question: Question, reply: Reply) -> Ballot:
        return MarginReader().read(question, replace(reply, text=repr(-float(reply.text))))


class Reformed(ScriptedJudge):
    """The same judge with another reader: it reads every reply the other way round."""

    def __init__(self, *given: Any, **knobs: Any) -> None:
        super().__init__(*given, **knobs)
        self.reader = Reversed()

    async def ask(self, questions: Sequence[Question]) -> list[Reply]:
        raise AssertionError(f"nobody is to be asked, and was: {questions}")


class Fickle(ScriptedJudge):
    """Says something else each time it is asked the same."""

    group = 1
    asked = 0

    async def ask(self, questions: Sequence[Question]) -> list[Reply]:
        self.asked += 1
        return [replace(reply, text=str(self.asked % 3 - 1)) for reply in await super().ask(questions)]


def test_every_vote_is_asked_and_kept_by_itself(tmp_path: Path, contestants: tuple[Path, Path]) -> None:
    by = Fickle(length, name="fickle")
    options = replace(OPTIONS, limit=5, asking=AskOptions(votes=3, max_concurrency=1))
    run = judge.run(*contestants, tmp_path / "out", judge=by, options=options)
    rows = run_folder.read(run, Judgement)
    assert [len(row.ballots) for row in rows] == [6] * 5
    assert all([ballot.order for ballot in row.ballots] == ["ab"] * 3 + ["ba"] * 3 for row in rows)
    assert len({ballot.raw for row in rows for ballot in row.ballots}) == 3
    asked = by.asked
    assert asked >= 27
    assert judge.verify(run, judge=by) == []
    assert by.asked == asked
    assert judge.forecast(*contestants, judge=by, options=options, out=run).requests == 0


@pytest.mark.parametrize("elsewhere", [False, True])
def test_kept_replies_are_read_again_for_nothing(
    tmp_path: Path, contestants: tuple[Path, Path], elsewhere: bool
) -> None:
    options = replace(OPTIONS, limit=20, ledger=tmp_path / "kept.sqlite" if elsewhere else None)
    run = judge.run(*contestants, tmp_path / "run", judge=ScriptedJudge(length, name="length"), options=options)
    again = judge.reread(run, tmp_path / "again", judge=Reformed(length, name="length"))
    before, after = run_folder.read(run, Judgement), run_folder.read(again, Judgement)
    assert [row.outcome for row in after] == [MIRROR.get(row.outcome, row.outcome) for row in before]
    card = run_folder.read_card(again)
    assert card is not None
    assert card.notes["changed"] == sum(row.outcome in MIRROR for row in before) > 0


def test_a_run_is_verified_from_its_ledger(tmp_path: Path, contestants: tuple[Path, Path]) -> None:
    by = ScriptedJudge(length, name="length", position_bias=0.5)
    run = judge.run(*contestants, tmp_path / "run", judge=by, options=OPTIONS)
    assert judge.verify(run, judge=by) == []
    forged = run_folder.read(run, Judgement)
    forged[3] = replace(forged[3], outcome="win" if forged[3].outcome != "win" else "loss")
    parquet.write(run / "judgements.parquet", forged, Judgement)
    with pytest.raises(DataError, match="does not match"):
        judge.verify(run, judge=by)
    card = json.loads((run / "run.json").read_text())
    card["outputs"]["judgements.parquet"] = hashlib.sha256((run / "judgements.parquet").read_bytes()).hexdigest()
    (run / "run.json").write_text(json.dumps(card))
    assert judge.verify(run, judge=by) == [forged[3].id]


def test_unjudged_pairs_stay_as_they_were_when_read_again(tmp_path: Path, contestants: tuple[Path, Path]) -> None:
    class Flaky(ScriptedJudge):
        group = 1

        async def ask(self, questions: Sequence[Question]) -> list[Reply]:
            if questions[0].candidates[0].item == "item0020":
                raise Refused("400: too long")
            return await super().ask(questions)

    by = Flaky(length, name="length")
    run = judge.run(*contestants, tmp_path / "run", judge=by, options=OPTIONS)
    (row,) = [row for row in run_folder.read(run, Judgement) if row.outcome == "unjudged"]
    assert row.reason == "Refused: 400: too long"
    assert judge.verify(run, judge=by) == []


def test_another_judge_or_a_lost_ledger_is_refused(tmp_path: Path, contestants: tuple[Path, Path]) -> None:
    run = judge.run(*contestants, tmp_path / "run", judge=ScriptedJudge(length, name="length"), options=OPTIONS)
    with pytest.raises(UserError, match="the run had judge"):
        judge.verify(run, judge=ScriptedJudge(length, name="length", noise=1.0))
    with pytest.raises(UserError, match="not a finished judge run"):
        judge.verify(contestants[0], judge=ScriptedJudge(length, name="length"))
    for path in run.glob("ledger.sqlite*"):
        path.unlink()
    with pytest.raises(UserError, match="ledger of the run is gone"):
        judge.verify(run, judge=ScriptedJudge(length, name="length"))
