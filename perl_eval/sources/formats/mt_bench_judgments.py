"""Judgments of FastChat (MT-bench): of pairs, asked in both orders, and of single answers, from 1 to 10.

The judge is named by its model. It has a template each for first and second turns, and for mathematics; which one it
was, a ballot's model says, so that the figures of one judge are pooled, as the tool itself does.

Source: lm-sys/FastChat ``fastchat/llm_judge/common.py`` (play_a_match_pair, play_a_match_single), ``show_result.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from perl_eval.errors import DataError
from perl_eval.records import Ballot, Completion, Judgement, Message, Order, Verdict, digest
from perl_eval.sources.containers import Brought
from perl_eval.sources.reading import Format, Import, cell
from perl_eval.sources.verdict_records import PairItem, of_answer, of_pair

__all__ = ["MT_BENCH_PAIRS", "MT_BENCH_SINGLE"]

_GAMES: tuple[tuple[str, Order], ...] = (("g1", "ab"), ("g2", "ba"))
_WINNERS = ("model_1", "model_2", "tie", "error")
_NONE = -1
"""The score where the judge's reply had none."""
_DATASET = "mt-bench"
Cells = Mapping[str, Any]


def _read_pairs(found: Brought, _: Import) -> Iterator[Judgement]:
    for row, cells in enumerate(found.rows()):
        named, question, turn = _common(cells, found.name, row)
        policies = [str(cell(cells, f"model_{side}", str, found.name, row)) for side in (1, 2)]
        ballots = [_ballot(cells, game, order, ", ".join(named), found.name, row) for game, order in _GAMES]
        pair = ((policies[0], ""), (policies[1], ""))
        yield of_pair(PairItem(_item(question, turn), question, named=True), pair, ballots, _DATASET, judge=named[0])


def _ballot(cells: Cells, game: str, order: Order, model: str, file: str, row: int) -> Ballot:
    """Read a game: in the first, model 1 was shown first, in the second, model 2."""
    winner = cell(cells, f"{game}_winner", str, file, row)
    if winner not in _WINNERS:
        known = ", ".join(_WINNERS)
        raise DataError(f"{winner!r} is none of {known}", file=file, row=row, field=f"{game}_winner")
    verdict: Verdict | None = None
    if winner != "error":
        shown_first = "model_1" if order == "ab" else "model_2"
        verdict = "tie" if winner == "tie" else "first" if winner == shown_first else "second"
    return Ballot(
        order, verdict, None if verdict else "error", raw=str(cells.get(f"{game}_judgment") or ""), model=model
    )


def _read_single(found: Brought, reading: Import) -> Iterator[Judgement]:
    for row, cells in enumerate(found.rows()):
        named, question, turn = _common(cells, found.name, row)
        policy = str(cells.get("model") or reading.policy or found.stem)
        score = cell(cells, "score", (int, float), found.name, row)
        made = _answered(question, turn, policy)
        raw = str(cells.get("judgment") or "")
        value = None if score == _NONE else float(score)
        said = of_answer(made, ", ".join(named), value, kind="score", raw=raw, reason="no score in the reply")
        yield replace(said, judge=named[0])


def _answered(question: str, turn: int, policy: str) -> Completion:
    """Return the answer that was judged; the file has its text in the judge's prompt only."""
    item = _item(question, turn)
    asked = (Message("user", _item(question, turn)),)
    id = digest(item, policy, "")
    return Completion(id, item, question, _DATASET, policy, asked, "", "stop", 0)


def _item(question: str, turn: int) -> str:
    """Return the item's name, which that of people's votes is too."""
    return question if turn == 1 else f"{question}, turn {turn}"


def _common(cells: Cells, file: str, row: int) -> tuple[list[str], str, int]:
    """Return the judge's model and template, the question and the turn of a row."""
    judge = cell(cells, "judge", (list, str), file, row)
    named = [judge] if isinstance(judge, str) else [str(part) for part in judge]
    if not named:
        raise DataError("is empty", file=file, row=row, field="judge")
    turn = cells.get("turn", 1)
    if not isinstance(turn, int):
        raise DataError(f"{turn!r} is not a whole number", file=file, row=row, field="turn")
    return named, str(cell(cells, "question_id", (int, str), file, row)), turn


MT_BENCH_PAIRS = Format(
    "mt-bench-pairs",
    Judgement,
    "FastChat's pair judgments (model_judgment/*_pair.jsonl)",
    lambda found: found.has("question_id", "g1_winner", "g2_winner"),
    _read_pairs,
    needs="question_id g1_winner g2_winner",
)
MT_BENCH_SINGLE = Format(
    "mt-bench-single",
    Judgement,
    "FastChat's single-answer grading (model_judgment/*_single.jsonl)",
    lambda found: found.has("question_id", "judge", "score", "model"),
    _read_single,
    needs="question_id judge score model",
)
