"""Results of promptfoo: the document that ``eval -o FILE.json`` and ``export`` write, or its JSON lines.

Source: promptfoo/promptfoo ``src/types/index.ts`` (EvaluateResult, GradingResult).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from perl_eval.errors import DataError
from perl_eval.records import Completion, Judgement
from perl_eval.sources.containers import Brought
from perl_eval.sources.maker import Maker
from perl_eval.sources.reading import Format, Import
from perl_eval.sources.verdict_records import of_answer

__all__ = ["PROMPTFOO", "PROMPTFOO_SCORES"]

_FAILED = 2
"""``failureReason`` of a request that failed; 1 is an answer that did not pass."""
Cells = Mapping[str, Any]


def _matches(found: Brought) -> bool:
    if found.document is not None:
        results = found.document.get("results")
        return isinstance(results, dict) and isinstance(results.get("results"), list)
    return found.has("promptIdx", "testIdx", "provider", "success")


def _results(found: Brought, reading: Import) -> Iterator[tuple[int, Cells, Cells]]:
    """Yield row, result and what its completion is made of; requests that failed are left out."""
    rows = found.rows() if found.document is None else iter(found.document["results"]["results"])
    for row, result in enumerate(rows):
        if not isinstance(result, dict):
            raise DataError("is not a JSON object", file=found.name, row=row, field="results")
        response = result.get("response")
        if result.get("failureReason") == _FAILED or not isinstance(response, dict) or response.get("error"):
            reading.left_out["requests that failed"] += 1
            continue
        yield (
            row,
            result,
            {
                "prompt": _prompt(result, found.name, row),
                "text": _text(response.get("output"), found.name, row),
                "policy": _policy(result.get("provider")),
            },
        )


def _prompt(result: Cells, file: str, row: int) -> Any:
    prompt = result.get("prompt")
    raw = prompt.get("raw") if isinstance(prompt, dict) else prompt
    if not isinstance(raw, str):
        raise DataError("has no prompt", file=file, row=row, field="prompt.raw")
    if raw.lstrip().startswith("["):
        try:
            turns = json.loads(raw)
        except ValueError:
            return raw
        return turns if all(isinstance(turn, dict) and "role" in turn for turn in turns) and turns else raw
    return raw


def _text(output: Any, file: str, row: int) -> str:
    """Return an answer as text; what a provider or a transform gives as an object, as JSON."""
    if output is None:
        raise DataError("has no output", file=file, row=row, field="response.output")
    return output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)


def _policy(provider: Any) -> str | None:
    if isinstance(provider, dict):
        provider = provider.get("label") or provider.get("id")
    return str(provider) if provider else None


def _completions(found: Brought, reading: Import) -> Iterator[Cells]:
    return (cells for _, _, cells in _results(found, reading))


def _scores(found: Brought, reading: Import) -> Iterator[Judgement]:
    make = Maker(found, reading)
    for row, result, cells in _results(found, reading):
        made, graded = make(row, cells), result.get("gradingResult")
        checks = graded.get("componentResults") if isinstance(graded, dict) else None
        if not checks:
            reading.left_out["answers that nothing checks"] += 1
            continue
        if not isinstance(checks, list):
            raise DataError("is not a list", file=found.name, row=row, field="gradingResult.componentResults")
        for place, check in enumerate(checks):
            passed = check.get("pass") if isinstance(check, dict) else None
            if not isinstance(passed, bool):
                field = f"gradingResult.componentResults[{place}].pass"
                raise DataError("is neither true nor false", file=found.name, row=row, field=field)
            yield of_answer(made, _judge(check, place), passed, kind="yes_no", raw=str(check.get("reason") or ""))


def _judge(check: Cells, place: int) -> str:
    """Return what a check is called: its metric, or its type with what it looks for."""
    how = check.get("assertion")
    if not isinstance(how, dict):
        return f"check {place + 1}"
    value = how.get("value")
    named = how.get("metric") or how.get("type") or f"check {place + 1}"
    return str(named) if how.get("metric") or not isinstance(value, str) else f"{named}: {' '.join(value.split())[:80]}"


PROMPTFOO = Format(
    "promptfoo",
    Completion,
    "the answers in results of promptfoo (JSON)",
    _matches,
    _completions,
    needs="promptIdx testIdx provider success",
)
PROMPTFOO_SCORES = Format(
    "promptfoo-scores",
    Judgement,
    "the checks in results of promptfoo",
    _matches,
    _scores,
    needs="promptIdx testIdx provider success",
)
