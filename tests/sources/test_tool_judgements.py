"""Judgements and scores in files of other tools, and what is made of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tool_files import (
    ABOUT,
    arena_row,
    deepeval_case,
    document,
    inspect_sample,
    judged,
    lines,
    promptfoo_row,
    single_row,
)

from perl_eval import sources
from perl_eval.records import Estimate, Judgement
from perl_eval.scoring import score
from perl_eval.sources.completions import completions
from perl_eval.storage import run_folder


def test_single_answer_grading_comes_to_the_tools_own_mean(tmp_path: Path) -> None:
    scores = [(81, 1, 9, "single-v1"), (81, 2, 6.5, "single-v1-multi-turn"), (101, 1, 2, "single-math-v1")]
    rows = [single_row(*one) for one in [*scores, (101, 2, -1, "single-math-v1-multi-turn")]]
    source = lines(tmp_path / "gpt-4_single.jsonl", rows)
    out = sources.take(source, tmp_path / "judged")
    found = run_folder.read(out, Judgement)
    assert [(one.kind, one.outcome, one.score) for one in found] == [
        ("score", "scored", 9.0),
        ("score", "scored", 6.5),
        ("score", "scored", 2.0),
        ("score", "unjudged", None),
    ]
    figures = run_folder.read(score.run(out, tmp_path / "scores"), Estimate)
    means = [one for one in figures if one.name == "mean score"]
    # FastChat leaves scores of -1 out and takes the mean over all turns and templates of a judge.
    assert [one.value for one in means] == [pytest.approx((9 + 6.5 + 2) / 3)]


def test_pairs_of_two_templates_are_of_one_judge_and_pooled(tmp_path: Path) -> None:
    rows = [
        {
            "question_id": question,
            "model_1": "ours",
            "model_2": "theirs",
            "g1_winner": "model_1",
            "g2_winner": winner,
            "judge": ["gpt-4", template],
            "turn": 1,
        }
        for question, winner, template in [(81, "model_1", "pair-v2"), (101, "model_2", "pair-math-v1")]
    ]
    out = sources.take(lines(tmp_path / "gpt-4_pair.jsonl", rows), tmp_path / "judged")
    found = run_folder.read(out, Judgement)
    assert {one.judge for one in found} == {"gpt-4"}
    assert [one.ballots[0].model for one in found] == ["gpt-4, pair-v2", "gpt-4, pair-math-v1"]
    figures = run_folder.read(score.run(out, tmp_path / "s"), Estimate)
    assert [(one.value, one.n) for one in figures if one.name == "win rate, undecided half"] == [
        (pytest.approx(0.75), 2)
    ]


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [
        # In the first game A is the baseline, in the second the model (arena-hard-auto, gen_judgment.py).
        ("B>A", "A>B", "win"),
        ("B>>A", "A>B", "win"),
        ("A<<B", "B<A", "win"),
        ("A>>B", "B>>A", "loss"),
        ("A>B", "A>B", "split"),
        ("A=B", "B=A", "tie"),
        ("A=B", "A>>B", "mixed"),
        (None, "A>B", "unjudged"),
        ("A>B", None, "unjudged"),
    ],
)
def test_arena_hard_games_are_both_orders(tmp_path: Path, first: str, second: str, outcome: str) -> None:
    (found,) = judged(lines(tmp_path / "ours.jsonl", [arena_row(first, second)]))
    assert (found.outcome, found.policy_a, found.policy_b, found.judge) == (outcome, "ours", "b", "j")
    assert [ballot.order for ballot in found.ballots] == ["ab", "ba"]


def test_arena_hard_labels_count_as_in_the_tool(tmp_path: Path) -> None:
    """Without weights, the tool's score is the mean over both games of 1, 0.5 or 0 for the model."""
    worth = {"A>B": 1, "A>>B": 1, "A=B": 0.5, "A<<B": 0, "A<B": 0, "B>A": 0, "B>>A": 0, "B=A": 0.5, "B<<A": 1, "B<A": 1}
    for first, of_baseline in worth.items():
        for second, of_model in worth.items():
            (found,) = judged(lines(tmp_path / "x.jsonl", [arena_row(first, second)]))
            verdicts = {one.order: one.verdict for one in found.ballots}
            mine = {"first": 1, "tie": 0.5, "second": 0}
            assert mine[str(verdicts["ab"])] == of_model
            assert mine[str(verdicts["ba"])] == of_baseline


def test_arena_hard_of_the_first_version(tmp_path: Path) -> None:
    games = [{"user_prompt": "p", "judgment": "t", "score": label} for label in ("B>A", "A>B")]
    row = {"question_id": "q1", "model": "ours", "judge": "gpt-4-1106-preview", "games": games}
    (found,) = judged(lines(tmp_path / "ours.jsonl", [row]))
    assert (found.outcome, found.group, found.policy_b) == ("win", "q1", "baseline")


def test_scores_of_inspect_belong_to_its_answers(tmp_path: Path) -> None:
    scores = [
        {"graded": {"value": "C", "explanation": "good"}, "f1": {"value": 0.5}, "two": {"value": {"a": 3, "b": "I"}}},
        {"graded": {"value": float("nan"), "reason": "grader_failed"}, "f1": {"value": 0.0}},
        {"graded": {"value": "P"}, "f1": {"value": float("nan")}},
    ]
    samples = [inspect_sample(0, 1, scores[0]), inspect_sample(1, 1, scores[1]), inspect_sample(0, 2, scores[2])]
    source = document(tmp_path / "l.json", {"eval": ABOUT, "plan": {}, "samples": samples})
    found = judged(source)
    said = {(one.item, one.judge, one.kind, one.outcome, one.score) for one in found}
    assert said == {
        ("s0", "graded", "yes_no", "yes", None),
        ("s0", "f1", "score", "scored", 0.5),
        ("s0", "two: a", "score", "scored", 3.0),
        ("s0", "two: b", "yes_no", "no", None),
        ("s1", "graded", "yes_no", "unjudged", None),
        ("s1", "f1", "score", "scored", 0.0),
        ("s0", "graded", "yes_no", "unjudged", None),
        ("s0", "f1", "score", "unjudged", None),
    }
    assert {one.reason for one in found if one.outcome == "unjudged"} == {
        "grader_failed",
        "partly correct",
        "no verdict",
    }
    assert {one.a for one in found} <= {one.id for one in completions(source)}


def test_checks_of_promptfoo_and_metrics_of_deepeval(tmp_path: Path) -> None:
    checks = [
        {"pass": True, "score": 1, "reason": "ok", "assertion": {"type": "contains", "value": "7"}},
        {"pass": False, "score": 0, "reason": "no", "assertion": {"type": "llm-rubric", "metric": "polite"}},
    ]
    found = judged(lines(tmp_path / "out.jsonl", [promptfoo_row(0, checks), promptfoo_row(1)]))
    assert [(one.judge, one.outcome, one.ballots[0].raw) for one in found] == [
        ("contains: 7", "yes", "ok"),
        ("polite", "no", "no"),
    ]
    metrics = [
        {"name": "Exact Match", "score": 1.0, "success": True, "threshold": 1.0},
        {"name": "Clear", "score": None, "success": False, "error": "timeout", "evaluationModel": "gpt"},
    ]
    run = document(tmp_path / "test_run.json", {"testCases": [deepeval_case(0, metrics)]})
    assert [(one.judge, one.outcome, one.score, one.reason) for one in judged(run)] == [
        ("Exact Match", "scored", 1.0, None),
        ("Clear (gpt)", "unjudged", None, "timeout"),
    ]
