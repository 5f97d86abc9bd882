"""Annotations of AlpacaEval: ``annotations.json``, one preference of two answers a row.

AlpacaEval asks one order and does not say which, so its judgements have no positions.

Source: tatsu-lab/alpaca_eval ``alpaca_eval/annotators/pairwise_evaluator.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isnan
from typing import Any

from perl_eval.errors import DataError
from perl_eval.records import Ballot, Judgement, Verdict, digest
from perl_eval.sources.containers import Brought
from perl_eval.sources.reading import Format, Import, cell
from perl_eval.sources.verdict_records import PairItem, of_pair

__all__ = ["ALPACA_ANNOTATIONS"]

_TEXTS = ("instruction", "output_1", "output_2", "generator_1", "generator_2", "annotator")


def _matches(found: Brought) -> bool:
    return found.has("preference", "output_1", "output_2")


def _read(found: Brought, _: Import) -> Iterator[Judgement]:
    return (_judgement(cells, found.name, row) for row, cells in enumerate(found.rows()))


def _judgement(cells: Mapping[str, Any], file: str, row: int) -> Judgement:
    """Read one annotation: preference 1 for output 1 (the baseline) to 2 for output 2 (the model, contestant a)."""
    text = {name: str(cell(cells, name, str, file, row)) for name in _TEXTS}
    if "preference" not in cells:
        present = ", ".join(map(str, cells))
        raise DataError(f"no such field; present are {present}", file=file, row=row, field="preference")
    chance = _chance(cells["preference"], file, row)
    verdict: Verdict | None = None
    if chance is not None:
        verdict = "tie" if chance == 0.5 else "first" if chance > 0.5 else "second"
    reason = None if verdict else "no preference"
    ballot = Ballot("none", verdict, reason, p_first=chance, model=text["annotator"])
    model, baseline = ((text[f"generator_{side}"], text[f"output_{side}"]) for side in "21")
    asked = text["instruction"]
    item = digest("item", f"user:{asked}")  # as it is derived for answers and labels
    dataset = str(cells.get("dataset") or "alpaca-eval")
    return of_pair(PairItem(item, prompt=asked, named=True), (model, baseline), (ballot,), dataset)


def _chance(preference: Any, file: str, row: int) -> float | None:
    """Return the probability that output 2 is preferred; 0 stands for a tie."""
    if preference is None or (isinstance(preference, float) and isnan(preference)):
        return None
    if isinstance(preference, bool) or not isinstance(preference, int | float):
        raise DataError(f"{preference!r} is not a number", file=file, row=row, field="preference")
    chance = 0.5 if preference == 0 else float(preference) - 1
    if not 0 <= chance <= 1:
        raise DataError(f"{preference} is not in [1, 2]", file=file, row=row, field="preference")
    return chance


ALPACA_ANNOTATIONS = Format(
    "alpaca-eval-annotations",
    Judgement,
    "AlpacaEval's annotations.json: one preference a row",
    _matches,
    _read,
    needs="preference output_1 output_2",
)
