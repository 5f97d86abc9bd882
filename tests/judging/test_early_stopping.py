"""A run that ends as soon as it is decided, and what it may say then."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from perl_eval.errors import UserError
from perl_eval.judges.backends.scripted import ScriptedJudge
from perl_eval.judging import judge
from perl_eval.judging.engine.batch_api import BatchOptions
from perl_eval.records import Completion, Estimate, Judgement, Message
from perl_eval.scoring import score
from perl_eval.storage import run_folder

OPTIONS = judge.JudgeOptions("dialogue", stop_when_decided=True)
PAIRS = 300


def number(answer: Completion) -> float:
    return float(answer.text)


def saved(folder: Path, policy: str, better: float, *, groups: int = PAIRS) -> Path:
    """Write answers whose utility is a number, those of one policy better by so much."""
    draw = random.Random(policy)
    with run_folder.start(folder / policy, verb="sample", arguments={}) as run:
        run.write(
            [
                Completion(
                    *(f"{policy}-{item}", f"item{item:04}", f"g{item % groups}", "demo", policy),
                    *((Message("user", f"order {item}"),), str(draw.gauss(better, 1.0)), "stop", 0),
                )
                for item in range(PAIRS)
            ],
            Completion,
        )
    return folder / policy


@pytest.fixture
def contestants(tmp_path: Path) -> tuple[Path, Path]:
    return saved(tmp_path, "rl", 2.0), saved(tmp_path, "sft", 0.0)


def test_a_decided_run_ends_early_with_the_first_of_its_queue(tmp_path: Path, contestants: tuple[Path, Path]) -> None:
    by = ScriptedJudge(number, name="number", noise=0.1)
    short = judge.run(*contestants, tmp_path / "short", judge=by, options=OPTIONS)
    whole = judge.run(*contestants, tmp_path / "whole", judge=by, options=replace(OPTIONS, stop_when_decided=False))
    card, found = run_folder.read_card(short), run_folder.read(short, Judgement)
    assert card is not None
    decided = card.notes["decided after"]
    assert len(found) == decided < PAIRS / 3
    assert card.notes["queue"] == PAIRS
    assert card.notes["not_asked"] == PAIRS - decided
    # Without stopping, but with a limit, the queue begins with the same pairs.
    begun = judge.run(*contestants, tmp_path / "begun", judge=by, options=judge.JudgeOptions("dialogue", limit=decided))
    assert {row.id for row in found} == {row.id for row in run_folder.read(begun, Judgement)}
    rows = {row.id: row for row in run_folder.read(whole, Judgement)}
    assert all(row == rows[row.id] for row in found)
    [estimate] = run_folder.read(short, Estimate)
    assert estimate.low is not None
    assert estimate.low > 0.5
    assert estimate.simulated
    assert judge.verify(short, judge=by) == []


def test_the_interval_that_ended_it_is_among_the_figures(tmp_path: Path, contestants: tuple[Path, Path]) -> None:
    by = ScriptedJudge(number, name="number", noise=0.1)
    short = judge.run(*contestants, tmp_path / "short", judge=by, options=OPTIONS)
    [anytime] = run_folder.read(short, Estimate)
    figures = {figure.name: figure for figure in run_folder.read(score.run(short, tmp_path / "score"), Estimate)}
    assert figures[anytime.name].low == anytime.low
    assert "anytime" in anytime.name


def test_an_even_match_is_judged_to_its_end_or_to_the_wanted_width(tmp_path: Path) -> None:
    a, b = saved(tmp_path, "one", 0.0), saved(tmp_path, "other", 0.0)
    by = ScriptedJudge(number, name="number")
    whole = run_folder.read_card(judge.run(a, b, tmp_path / "whole", judge=by, options=OPTIONS))
    assert whole is not None
    assert (whole.notes["judged"], whole.notes["decided after"]) == (PAIRS, None)
    narrow = judge.run(a, b, tmp_path / "narrow", judge=by, options=replace(OPTIONS, half_width=0.15))
    card = run_folder.read_card(narrow)
    [estimate] = run_folder.read(narrow, Estimate)
    assert card is not None
    assert card.notes["judged"] < PAIRS
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.high - estimate.low <= 0.3
    assert estimate.low < 0.5 < estimate.high


def test_where_groups_repeat_the_queue_is_the_population(tmp_path: Path) -> None:
    # Thirty groups of ten: items are not independent, and only the random order of the queue is relied on.
    a, b = saved(tmp_path, "rl", 2.0, groups=30), saved(tmp_path, "sft", 0.0, groups=30)
    short = judge.run(a, b, tmp_path / "out", judge=ScriptedJudge(number, name="number"), options=OPTIONS)
    [estimate] = run_folder.read(short, Estimate)
    assert f"queue of {PAIRS}" in estimate.method


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"half_width": 0.7}, r"half_width is 0\.7"),
        ({"stop_when_decided": False, "half_width": 0.1}, "a half-width alone stops nothing"),
        ({"batch": BatchOptions()}, "a batch sends everything at once"),
    ],
)
def test_what_cannot_stop_early_is_refused(
    changes: dict[str, object], said: str, tmp_path: Path, contestants: tuple[Path, Path]
) -> None:
    with pytest.raises(UserError, match=said):
        judge.run(
            *contestants,
            tmp_path / "out",
            judge=ScriptedJudge(number, name="number"),
            options=replace(OPTIONS, **changes),  # type: ignore[arg-type]
        )
