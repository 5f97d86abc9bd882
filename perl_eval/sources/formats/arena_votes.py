"""Votes of people on two models' answers, as the MT-bench and Chatbot Arena data sets keep them.

Sources: the data cards of lmsys/mt_bench_human_judgments (question_id, model_a, model_b, winner, judge, conversation_a,
conversation_b, turn) and lmsys/chatbot_arena_conversations (also anony, language, tstamp); lm-sys/FastChat
``fastchat/llm_judge/compute_agreement.py`` and ``fastchat/serve/monitor/clean_battle_data.py`` for what winners are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from perl_eval.errors import DataError
from perl_eval.records import HumanLabel
from perl_eval.sources.containers import Brought
from perl_eval.sources.label_rows import LabelMaker, named
from perl_eval.sources.reading import Format, Import, cell

__all__ = ["ARENA_VOTES", "MT_BENCH_VOTES"]

_NEEDED = ("model_a", "model_b", "winner", "conversation_a", "conversation_b")
_OF_ARENA = ("tstamp", "anony", "language", "evaluation_session_id")
_WINNERS = ("model_a", "model_b", "tie", "tie (inconsistent)", "tie (bothbad)", "both_bad", "bothbad")
_JUDGE = "gpt4_pair"
"""Who judges in the half of MT-bench's votes that no person gave; FastChat's own files have a list there."""


def _is_arena(found: Brought) -> bool:
    return found.has(*_NEEDED) and any(found.has(name) for name in _OF_ARENA)


def _is_mt_bench(found: Brought) -> bool:
    return found.has(*_NEEDED, "question_id", "judge", "turn") and not _is_arena(found)


def _votes(found: Brought, reading: Import, *, by_turn: bool) -> Iterator[HumanLabel]:
    make = LabelMaker(found.name, reading)
    for row, cells in enumerate(found.rows()):
        winner = cell(cells, named(reading.columns, "label")[-1], str, found.name, row)
        if winner not in _WINNERS:
            what = f"{winner!r} is none of {', '.join(_WINNERS)}"
            raise DataError(what, file=found.name, row=row, field="winner")
        for name in ("model_a", "model_b"):
            cell(cells, name, str, found.name, row)
        if cells.get("judge") == _JUDGE or isinstance(cells.get("judge"), list):
            reading.left_out["votes of MT-bench's own judge, which is no person"] += 1
            continue
        about: dict[str, Any] = dict(cells)
        if by_turn:
            asked = cell(cells, "question_id", (int, str), found.name, row)
            turn = cell(cells, "turn", int, found.name, row)
            item = f"{asked}, turn {turn}" if turn > 1 else str(asked)
            about |= {"question_id": item, "group": str(asked)}
        elif not make.cell(cells, "item"):
            about["question_id"] = str(cell(cells, "id", (int, str), found.name, row))
        yield make(row, about, winner, make.cell(cells, "annotator"))


MT_BENCH_VOTES = Format(
    "mt-bench-votes",
    HumanLabel,
    "people's votes of MT-bench (mt_bench_human_judgments); those of its GPT-4 judge are left out",
    _is_mt_bench,
    lambda found, reading: _votes(found, reading, by_turn=True),
    needs=" ".join((*_NEEDED, "question_id", "judge", "turn")),
)
ARENA_VOTES = Format(
    "arena-votes",
    HumanLabel,
    "votes of Chatbot Arena (chatbot_arena_conversations)",
    _is_arena,
    lambda found, reading: _votes(found, reading, by_turn=False),
    needs=" ".join((*_NEEDED, "tstamp")),
)
