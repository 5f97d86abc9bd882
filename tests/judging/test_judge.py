"""The verb judge: runs, limits, resuming."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import killable
import pytest
from contests import OPTIONS, completion, length, saved

from perl_eval.client.ledger import Ledger
from perl_eval.errors import DataError, UserError
from perl_eval.judges import prompting
from perl_eval.judges.backends.reward_model import RewardJudge
from perl_eval.judges.backends.scripted import ScriptedJudge
from perl_eval.judges.protocol import Judge
from perl_eval.judges.question_keys import Keys
from perl_eval.judging import judge
from perl_eval.judging.engine.ask import AskOptions
from perl_eval.records import Completion, Judgement, unit_of
from perl_eval.storage import parquet, run_folder


def test_a_run_writes_sorted_judgements_and_a_card(tmp_path: Path, contestants: tuple[Path, Path]) -> None:
    by = ScriptedJudge(length, name="length", position_bias=0.5)
    out = judge.run(*contestants, tmp_path / "out", judge=by, options=OPTIONS)
    rows = run_folder.read(out, Judgement)
    assert [row.item for row in rows] == [f"item{i:04}" for i in range(10, 40)]
    for row, i in zip(rows, range(10, 40), strict=True):
        difference = i % 7 - i % 5
        # A lead of 1 or more outweighs the bias of 0.5; equal lengths are decided by position alone.
        assert row.outcome == ("split" if difference == 0 else "win" if difference > 0 else "loss")
        assert [ballot.order for ballot in row.ballots] == ["ab", "ba"]
        assert (row.policy_a, row.policy_b, row.a, row.b) == ("rl", "sft", f"rl-{i}-0", f"sft-{i}-0")
        assert (row.text_a, row.text_b, row.group, row.dataset) == ("x" * (i % 7), "y" * (i % 5), f"g{i // 2}", "demo")
        assert (row.judge, row.simulated, row.unit) == ("length", True, unit_of(row.a, row.b))
    card = run_folder.read_card(out)
    assert card is not None
    assert card.simulated
    assert card.arguments["judge"] == {"door": "scripted", "model": "length", "parameters": dict(by.parameters)}
    assert card.arguments["prompt_sha256"] == rows[0].prompt_sha256 == prompting.load("dialogue").sha256
    assert (card.notes["unmatched_a"], card.notes["unmatched_b"], card.notes["judged"]) == (10, 10, 30)
    assert card.notes["outcomes"] == Counter(row.outcome for row in rows)
    # Item 35 has two empty answers: both orders are one question.
    assert (card.notes["asking"]["asked"], card.notes["asking"]["shared"]) == (59, 1)


def test_a_judge_without_position_is_asked_once(tmp_path: Path, contestants: tuple[Path, Path]) -> None:
    by = RewardJudge(lambda answers: [length(answer) for answer in answers], name="rm")
    rows = run_folder.read(judge.run(*contestants, tmp_path / "out", judge=by, options=OPTIONS), Judgement)
    for row, i in zip(rows, range(10, 40), strict=True):
        assert [ballot.order for ballot in row.ballots] == ["none"]
        assert row.outcome == ("tie" if i % 7 == i % 5 else "win" if i % 7 > i % 5 else "loss")
        assert not row.simulated


def test_single_answers_get_yes_or_no(tmp_path: Path, contestants: tuple[Path, Path]) -> None:
    by = ScriptedJudge(length, name="length", threshold=3.0)
    out = judge.run(contestants[0], None, tmp_path / "out", judge=by, options=judge.JudgeOptions("action"))
    rows = run_folder.read(out, Judgement)
    assert [row.outcome for row in rows] == ["yes" if i % 7 > 3 else "no" for i in range(40)]
    assert {(row.b, row.policy_b, row.text_b) for row in rows} == {("", "", "")}


def test_the_seed_of_the_queue_changes_no_judgement(tmp_path: Path, contestants: tuple[Path, Path]) -> None:
    by = ScriptedJudge(length, name="length", noise=1.0)
    one = judge.run(*contestants, tmp_path / "one", judge=by, options=OPTIONS)
    other = judge.run(*contestants, tmp_path / "other", judge=by, options=replace(OPTIONS, seed=7))
    assert run_folder.read(one, Judgement) == run_folder.read(other, Judgement)


def test_a_limit_takes_a_random_sample_of_whole_pairs(tmp_path: Path, contestants: tuple[Path, Path]) -> None:
    by = ScriptedJudge(length, name="length")
    taken = []
    for seed in (0, 1):
        options = replace(OPTIONS, limit=8, seed=seed)
        rows = run_folder.read(judge.run(*contestants, tmp_path / str(seed), judge=by, options=options), Judgement)
        assert len(rows) == 8
        taken.append([row.item for row in rows])
    assert taken[0] != taken[1]


def test_a_finished_run_is_not_run_again(tmp_path: Path, contestants: tuple[Path, Path]) -> None:
    def score(answers: Sequence[Completion]) -> list[float]:
        calls.append(len(answers))
        return [length(answer) for answer in answers]

    calls: list[int] = []
    by = RewardJudge(score, name="rm")
    judge.run(*contestants, tmp_path / "out", judge=by, options=OPTIONS)
    before = list(calls)
    judge.run(*contestants, tmp_path / "out", judge=by, options=OPTIONS)
    assert calls == before
    shared = replace(OPTIONS, ledger=tmp_path / "out" / "ledger.sqlite", seed=1)
    judge.run(*contestants, tmp_path / "next", judge=by, options=shared)
    assert calls == before


@pytest.mark.parametrize(
    ("alone", "options", "message"),
    [
        (True, OPTIONS, "asks a pairwise question"),
        (False, judge.JudgeOptions("action"), "asks a yes_no question"),
        (False, judge.JudgeOptions("absent"), "no prompt called 'absent'"),
    ],
)
def test_requests_that_cannot_be_served(
    tmp_path: Path, contestants: tuple[Path, Path], alone: bool, options: judge.JudgeOptions, message: str
) -> None:
    a, b = contestants
    with pytest.raises(UserError, match=message):
        judge.run(
            a, None if alone else b, tmp_path / "out", judge=ScriptedJudge(length, name="length"), options=options
        )


def test_an_input_that_was_changed_is_refused(tmp_path: Path, contestants: tuple[Path, Path]) -> None:
    parquet.write(contestants[0] / "completions.parquet", [completion("rl", 1, "forged")], Completion)
    with pytest.raises(DataError, match="does not match"):
        judge.run(*contestants, tmp_path / "out", judge=ScriptedJudge(length, name="length"), options=OPTIONS)


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(UserError, match="limit is 0"):
        judge.JudgeOptions("dialogue", limit=0)


def test_a_budget_ends_a_run_with_whole_pairs_and_says_so(tmp_path: Path, contestants: tuple[Path, Path]) -> None:
    by = ScriptedJudge(length, name="length", position_bias=0.5)
    by.group = 1
    options = replace(OPTIONS, asking=AskOptions(max_requests=21))
    out = judge.run(*contestants, tmp_path / "out", judge=by, options=options)
    whole = judge.run(*contestants, tmp_path / "whole", judge=by, options=OPTIONS)
    rows = {row.id: row for row in run_folder.read(whole, Judgement)}
    found = run_folder.read(out, Judgement)
    # 21 requests make ten pairs and a half; a pair with two empty answers is one request.
    assert len(found) in (10, 11)
    assert all(row == rows[row.id] for row in found)
    card = run_folder.read_card(out)
    assert card is not None
    assert card.notes["not_asked"] == 30 - len(found)
    assert card.notes["asking"]["stopped"] == "`max_requests` of 21 reached"


# ------------------------------------------------------------------------------------------------- kill -9

PROGRAM = """
import asyncio, os, sys, time
from pathlib import Path
from perl_eval.judging import judge
from perl_eval.judges.backends.scripted import ScriptedJudge
from perl_eval.judging.engine.ask import AskOptions

class Slow(ScriptedJudge):
    '''Takes its time, and writes down every question before it answers.'''
    group = 4
    async def ask(self, questions):
        log = os.open(os.environ["ASKED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(log, "".join(f"{q.id}/{q.order}\\n" for q in questions).encode())
        os.close(log)
        await asyncio.sleep(0.02)
        return await super().ask(questions)

root = Path(sys.argv[1])
by = Slow(lambda answer: float(len(answer.text)), name="length", position_bias=0.5, noise=1.0)
options = judge.JudgeOptions("dialogue", asking=AskOptions(max_concurrency=2))
judge.run(root / "a", root / "b", root / "out", judge=by, options=options)
"""


def labels_by_key(a: Path, b: Path, by: Judge) -> dict[bytes, str]:
    matched = judge.pairs(run_folder.read(a, Completion), run_folder.read(b, Completion)).matched
    questions = judge.plan(matched, by, prompting.load("dialogue"))
    return {Keys(by).of(question): f"{question.id}/{question.order}" for question in questions}


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 400
    a = saved(tmp_path / "a", [completion("rl", i, "x" * (i % 7 + 1)) for i in range(count)])
    b = saved(tmp_path / "b", [completion("sft", i, "y" * (i % 5 + 1)) for i in range(count)])
    by = ScriptedJudge(length, name="length", position_bias=0.5, noise=1.0)
    calm = run_folder.read(judge.run(a, b, tmp_path / "calm", judge=by, options=OPTIONS), Judgement)
    labels = labels_by_key(a, b, by)
    asked_log = tmp_path / "asked"
    asked_log.touch()
    monkeypatch.setenv("ASKED", str(asked_log))
    answered: set[str] = set()
    kills = 0
    for moment in (0.2, 0.5, 0.35, 0.6, 0.27, 0.45, None):
        before = len(asked_log.read_text().split())
        process = killable.started(PROGRAM, [str(tmp_path)])
        if moment is None:
            process.join(300)
            assert process.exitcode == 0
        else:
            # The clock starts at the first question, however long the start takes.
            while process.is_alive() and len(asked_log.read_text().split()) == before:
                time.sleep(0.005)
            time.sleep(moment)
            process.kill()
            process.join(60)
            kills += process.exitcode == -signal.SIGKILL
        assert not answered & set(asked_log.read_text().split()[before:]), "an answered question was asked again"
        with Ledger(tmp_path / "out" / "ledger.sqlite") as ledger:
            answered = {labels[key] for key in ledger.find(list(labels))}
    assert kills >= 3
    assert run_folder.read(tmp_path / "out", Judgement) == calm
    asked = Counter(asked_log.read_text().split())
    assert set(asked) == answered == set(labels.values())
    # Asked twice is only what was on its way at a kill, or had come in the quarter of a second before it and was not on
    # disk: two requests of four questions, and 0.25 s / 0.02 s more such rounds.
    assert sum(asked.values()) - len(asked) <= kills * 8 * (1 + 0.25 / 0.02)
