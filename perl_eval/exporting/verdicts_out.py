"""Judgements to the files in which other tools keep what their judges said.

Sources: tatsu-lab/alpaca_eval ``metrics/winrate.py`` and ``annotators/pairwise_evaluator.py`` (preference 1 to 2, 1.5 a
draw); lm-sys/FastChat ``llm_judge/show_result.py``; lmarena/arena-hard-auto ``show_result.py`` (label_to_score).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from perl_eval.exporting.layouts import Layout, Tally, plain_text, write_json, write_lines
from perl_eval.outcomes import HALF, as_label, of_verdict
from perl_eval.records import Ballot, Judgement

__all__ = ["VERDICTS"]

_TURN = re.compile(r"(?P<question>.+), turn (?P<turn>[2-9])", re.S)
_WINNERS: Mapping[str, str] = {"win": "model_1", "loss": "model_2", "tie": "tie"}
_LABELS: Mapping[str | None, str | None] = {"first": "A>B", "second": "B>A", "tie": "A=B", None: None}
_NO_SCORE = -1


def _annotations(found: Iterable[Judgement], out: Path, tally: Tally) -> None:
    write_json(out, _annotated(found, tally), tally)


def _annotated(found: Iterable[Judgement], tally: Tally) -> Iterator[Mapping[str, Any]]:
    for one in _pairs(found, tally):
        preference = _preference(one)
        if preference is not None and as_label(one.outcome) != one.outcome:
            tally.lost[f"{one.outcome} pairs, written as a preference of {preference:.4g}"] += 1
        yield {
            "instruction": plain_text(one.prompt, tally),
            "output_1": one.text_b,
            "generator_1": one.policy_b,
            "dataset": one.dataset,
            "output_2": one.text_a,
            "generator_2": one.policy_a,
            "annotator": one.judge,
            "preference": preference,
        }


def _preference(one: Judgement) -> float | None:
    """Return 1 for contestant b to 2 for contestant a; None if there is no verdict."""
    worth = HALF.of(one.outcome)
    if worth is None:
        return None
    return 1.0 + (one.p_a if one.p_a is not None else worth)


def _fastchat_pairs(found: Iterable[Judgement], out: Path, tally: Tally) -> None:
    write_lines(out, _pair_rows(found, tally), tally)


def _pair_rows(found: Iterable[Judgement], tally: Tally) -> Iterator[Mapping[str, Any]]:
    for one, first, second in _both_orders(found, tally):
        question, turn = _question(one.item)
        yield {
            "question_id": question,
            "model_1": one.policy_a,
            "model_2": one.policy_b,
            "g1_winner": _winner(first),
            "g2_winner": _winner(second),
            "judge": _named(one, first, "pair"),
            "g1_user_prompt": "",
            "g1_judgment": first.raw,
            "g2_user_prompt": "",
            "g2_judgment": second.raw,
            "turn": turn,
            "tstamp": 0.0,
        }


def _winner(ballot: Ballot) -> str:
    return "error" if ballot.verdict is None else _WINNERS[of_verdict(ballot.verdict, ballot.order)]


def _named(one: Judgement, ballot: Ballot, template: str) -> list[str]:
    """Return a judge's model and template; where the ballots name no template, it is called as given."""
    rest = ballot.model.removeprefix(f"{one.judge}, ")
    return [one.judge, rest if rest != ballot.model and rest else template]


def _fastchat_single(found: Iterable[Judgement], out: Path, tally: Tally) -> None:
    write_lines(out, _single_rows(found, tally), tally)


def _single_rows(found: Iterable[Judgement], tally: Tally) -> Iterator[Mapping[str, Any]]:
    for one in found:
        if one.kind != "score" or len(one.ballots) != 1:
            tally.lost["judgements that are no score of one vote, left out"] += 1
            continue
        (ballot,), (question, turn) = one.ballots, _question(one.item)
        yield {
            "question_id": question,
            "model": one.policy_a,
            "judge": _named(one, ballot, "single"),
            "user_prompt": "",
            "judgment": ballot.raw,
            "score": _NO_SCORE if one.score is None else one.score,
            "turn": turn,
            "tstamp": 0.0,
        }


def _arena_hard(found: Iterable[Judgement], out: Path, tally: Tally) -> None:
    """Write contestant a as the model, b as the baseline, which is shown first in the first game."""
    write_lines(out, _arena_rows(found, tally), tally)


def _arena_rows(found: Iterable[Judgement], tally: Tally) -> Iterator[Mapping[str, Any]]:
    for one, second, first in _both_orders(found, tally):
        yield {
            "uid": one.item,
            "category": "hard_prompt",
            "judge": one.judge,
            "model": one.policy_a,
            "baseline": one.policy_b,
            "games": [{"score": _LABELS[cast.verdict], "judgment": {"answer": cast.raw}} for cast in (first, second)],
        }


def _pairs(found: Iterable[Judgement], tally: Tally) -> Iterator[Judgement]:
    for one in found:
        if one.kind == "pairwise":
            yield one
        else:
            tally.lost["judgements of single answers, left out"] += 1


def _both_orders(found: Iterable[Judgement], tally: Tally) -> Iterator[tuple[Judgement, Ballot, Ballot]]:
    """Yield pairs with the one verdict of each order: a shown first, and b shown first."""
    for one in _pairs(found, tally):
        if sorted(ballot.order for ballot in one.ballots) != ["ab", "ba"]:
            tally.lost["pairs without one verdict of each order, left out"] += 1
            continue
        ab, ba = sorted(one.ballots, key=lambda ballot: ballot.order)
        yield one, ab, ba


def _question(item: str) -> tuple[int | str, int]:
    """Return question and turn of an item, as `mt-bench-pairs` names items."""
    found = _TURN.fullmatch(item)
    question, turn = (found["question"], int(found["turn"])) if found else (item, 1)
    plain = question.isdecimal() and str(int(question)) == question
    return int(question) if plain else question, turn


VERDICTS: Sequence[Layout] = (
    Layout(
        "alpaca-eval-annotations",
        (Judgement,),
        "AlpacaEval's annotations.json: b is output 1, a is output 2",
        _annotations,
        frozenset({"prompt", "text_a", "text_b", "policy_a", "policy_b", "dataset", "judge", "outcome", "p_a"}),
        ".json",
    ),
    Layout(
        "mt-bench-pairs",
        (Judgement,),
        "FastChat's pair judgments (JSON lines)",
        _fastchat_pairs,
        frozenset({"item", "policy_a", "policy_b", "judge", "outcome", "ballots"}),
        ".jsonl",
    ),
    Layout(
        "mt-bench-single",
        (Judgement,),
        "FastChat's single-answer grading (JSON lines)",
        _fastchat_single,
        frozenset({"item", "policy_a", "judge", "outcome", "ballots", "score"}),
        ".jsonl",
    ),
    Layout(
        "arena-hard-judgments",
        (Judgement,),
        "Arena-Hard's judgments: a is the model, b the baseline (JSON lines)",
        _arena_hard,
        frozenset({"item", "policy_a", "policy_b", "judge", "outcome", "ballots"}),
        ".jsonl",
    ),
)
