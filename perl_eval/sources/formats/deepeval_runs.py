"""Test runs of DeepEval: the JSON document in its results folder, with answers and what each metric said of them.

Source: confident-ai/deepeval ``deepeval/test_run/test_run.py`` and ``deepeval/test_run/api.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from perl_eval.errors import DataError
from perl_eval.records import Completion, Judgement
from perl_eval.sources.containers import Brought
from perl_eval.sources.maker import Maker
from perl_eval.sources.reading import Format, Import, cell
from perl_eval.sources.verdict_records import of_answer

__all__ = ["DEEPEVAL", "DEEPEVAL_SCORES"]

Cells = Mapping[str, Any]


def _matches(found: Brought) -> bool:
    return found.document is not None and isinstance(found.document.get("testCases"), list)


def _cases(found: Brought, reading: Import) -> Iterator[tuple[int, Cells, Cells]]:
    """Yield row, test case and what its completion is made of."""
    document = found.document or {}
    told = document.get("hyperparameters")
    policy = told.get("model") if isinstance(told, dict) else None
    for row, case in enumerate(document["testCases"]):
        if not isinstance(case, dict):
            raise DataError("is not a JSON object", file=found.name, row=row, field="testCases")
        if case.get("actualOutput") is None:
            reading.left_out["test cases without an answer"] += 1
            continue
        asked = cell(case, "input", str, found.name, row)
        said = cell(case, "actualOutput", str, found.name, row)
        yield row, case, {"prompt": asked, "text": said, "policy": policy}


def _completions(found: Brought, reading: Import) -> Iterator[Cells]:
    return (cells for _, _, cells in _cases(found, reading))


def _scores(found: Brought, reading: Import) -> Iterator[Judgement]:
    make = Maker(found, reading)
    for row, case, cells in _cases(found, reading):
        made, metrics = make(row, cells), case.get("metricsData")
        if not metrics:
            reading.left_out["answers that no metric looked at"] += 1
            continue
        if not isinstance(metrics, list):
            raise DataError("is not a list", file=found.name, row=row, field="metricsData")
        for place, metric in enumerate(metrics):
            if not isinstance(metric, dict) or not isinstance(metric.get("name"), str):
                raise DataError("has no name", file=found.name, row=row, field=f"metricsData[{place}].name")
            yield _judged(made, metric, found.name, row, place)


def _judged(made: Completion, metric: Cells, file: str, row: int, place: int) -> Judgement:
    score = metric.get("score")
    if score is not None and (isinstance(score, bool) or not isinstance(score, int | float)):
        raise DataError("is not a number", file=file, row=row, field=f"metricsData[{place}].score")
    model = metric.get("evaluationModel")
    judge = f"{metric['name']} ({model})" if model else metric["name"]
    raw, why = str(metric.get("reason") or ""), str(metric.get("error") or "")
    return of_answer(made, judge, score, kind="score", raw=raw, reason=why)


DEEPEVAL = Format(
    "deepeval", Completion, "the answers in a test run of DeepEval", _matches, _completions, needs="testCases"
)
DEEPEVAL_SCORES = Format(
    "deepeval-scores", Judgement, "the metrics in a test run of DeepEval", _matches, _scores, needs="testCases"
)
