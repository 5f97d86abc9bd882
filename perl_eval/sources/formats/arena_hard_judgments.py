"""Judgments of Arena-Hard: a model against the baseline, in both orders, on a scale from ``A>>B`` to ``B>>A``.

The baseline is shown first (as A) in the first game, and the model in the second. Version 2 names the baseline,
version 0.1 does not. ``>>`` and ``>`` are both a preference here; the tool itself counts the former three times.

Source: lmarena/arena-hard-auto ``gen_judgment.py`` and ``show_result.py`` (label_to_score).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from perl_eval.errors import DataError
from perl_eval.records import Ballot, Judgement, Order, Verdict
from perl_eval.sources.containers import Brought
from perl_eval.sources.reading import Format, Import, cell
from perl_eval.sources.verdict_records import PairItem, of_pair

__all__ = ["ARENA_HARD_JUDGMENTS"]

_ORDERS: tuple[Order, ...] = ("ba", "ab")
"""Contestant a is the model: the baseline stands first in the first game."""
_LABEL = re.compile(r"(?P<left>[AB])(?P<sign>[<>]{1,2}|=)(?P<right>[AB])")
_SETTINGS: Mapping[str, str] = {"hard_prompt": "arena-hard", "creative_writing": "arena-hard, creative writing"}
Cells = Mapping[str, Any]


def _matches(found: Brought) -> bool:
    return found.has("games", "judge", "model") and isinstance(found.head[0]["games"], list)


def _read(found: Brought, _: Import) -> Iterator[Judgement]:
    for row, cells in enumerate(found.rows()):
        question = str(cell(cells, "uid" if "uid" in cells else "question_id", (str, int), found.name, row))
        judge = cell(cells, "judge", str, found.name, row)
        games = cell(cells, "games", list, found.name, row)
        if len(games) != len(_ORDERS):
            raise DataError(f"has {len(games)} games, not two", file=found.name, row=row, field="games")
        ballots = [_ballot(game, order, judge, found.name, row) for game, order in zip(games, _ORDERS, strict=True)]
        model = str(cell(cells, "model", str, found.name, row))
        pair = ((model, ""), (str(cells.get("baseline") or "baseline"), ""))
        dataset = _SETTINGS.get(str(cells.get("category")), "arena-hard")
        yield of_pair(PairItem(question, question, named=True), pair, ballots[::-1], dataset, judge=judge)


def _ballot(game: Any, order: Order, judge: str, file: str, row: int) -> Ballot:
    """Read one game; it is None where the judge's server failed."""
    if game is None:
        return Ballot(order, None, "no reply", model=judge)
    if not isinstance(game, dict) or "score" not in game:
        raise DataError("has a game without a score", file=file, row=row, field="games")
    said = game.get("judgment")
    raw = said.get("answer") if isinstance(said, dict) else said
    verdict = _verdict(game["score"], file, row)
    return Ballot(order, verdict, None if verdict else "no verdict", raw=str(raw or ""), model=judge)


def _verdict(label: Any, file: str, row: int) -> Verdict | None:
    """Return whether the answer shown first (A) is the better one."""
    if label is None:
        return None
    found = _LABEL.fullmatch(label) if isinstance(label, str) else None
    if found is None or found["left"] == found["right"]:
        raise DataError(f"score {label!r} is not a label such as A>B or B>>A", file=file, row=row, field="games")
    if found["sign"] == "=":
        return "tie"
    better = found["left"] if found["sign"].startswith(">") else found["right"]
    return "first" if better == "A" else "second"


ARENA_HARD_JUDGMENTS = Format(
    "arena-hard-judgments",
    Judgement,
    "Arena-Hard's judgments (model_judgment/JUDGE/*.jsonl)",
    _matches,
    _read,
    needs="games judge model",
)
