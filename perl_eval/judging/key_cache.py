"""A short cut past rendering for what the ledger holds already: an index from a unit to the keys of its questions.

Answers are kept by rendered request, so finding one means rendering first, which takes most of the time of a run whose
answers are all there. Beside them stands a table of aliases: from a unit, and all that shapes its requests, to their
keys. It is a cache and nothing else: without it everything comes out the same, only later. What checks a run
(`perl_eval.judging.verify`) never uses it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path

from perl_eval import records
from perl_eval.client.ledger import Ledger
from perl_eval.judges import prompting, question_keys
from perl_eval.judges.protocol import Judge
from perl_eval.judges.question_keys import fed, parts
from perl_eval.judging import outcome_of
from perl_eval.judging.outcome_of import Contestants

__all__ = ["KeyIndex"]

_NOTED = 4096


class KeyIndex:
    """The ledger's index of units under one judge, prompt and way to ask: sha256 over all that shapes their requests.

    The code that renders is part of it, so that changed code meets no alias of before.

    Args:
        ledger: Where the aliases are kept.
        judge: Whom to ask.
        template: What to ask.
        reasoning: Whether reasons are asked for.
        votes: How often each question is asked.
    """

    def __init__(
        self, ledger: Ledger, judge: Judge, template: prompting.Template, *, reasoning: bool, votes: int
    ) -> None:
        shaping = {
            "code": _code_sha256(),
            "judge": [judge.backend, judge.model, dict(judge.parameters), judge.positional, judge.sees],
            "prompt": [template.sha256, template.kind, str(template.scale), template.rubric, template.rubric_sha256],
            "asking": [reasoning, votes],
        }
        self._start = hashlib.sha256(json.dumps(shaping, sort_keys=True).encode())
        self._references, self._sees_candidates = template.references, judge.sees == "candidates"
        self._ledger = ledger
        self._fresh: list[tuple[bytes, bytes]] = []

    def of(self, unit: Contestants) -> bytes:
        """Return the alias of a unit: 32 bytes."""
        shown = [str(len(unit)), *parts(unit[0].prompt), *[answer.text for answer in unit]]
        for answer in unit:
            if answer.images:
                shown += (str(len(answer.images)), *[Path(path).stem for path in answer.images])
            if self._sees_candidates:
                shown += (answer.item, *parts(answer.prompt), " ".join(map(str, answer.token_ids)))
        if self._references:
            shown.append(self._references[unit[0].item])
        state = self._start.copy()
        state.update(fed(*shown))
        return state.digest()

    def keys(self, aliases: Sequence[bytes]) -> dict[bytes, list[bytes]]:
        """Return the keys that were noted, by alias: those of a unit's first order first, vote by vote."""
        return self._ledger.noted(aliases)

    def note(self, alias: bytes, keys: Sequence[bytes]) -> None:
        """Note the keys of a unit; they are written some thousand at a time."""
        self._fresh.append((alias, b"".join(keys)))
        if len(self._fresh) >= _NOTED:
            self.flush()

    def flush(self) -> None:
        """Write what is noted."""
        if self._fresh:
            self._ledger.note(self._fresh)
            self._fresh.clear()


@cache
def _code_sha256() -> str:
    """Return the sha256 over all code between a unit and the keys of its requests."""
    state = hashlib.sha256(version("jinja2").encode())
    for module in (records, prompting, outcome_of, question_keys):
        assert module.__file__ is not None
        state.update(fed(Path(module.__file__).read_text(encoding="utf-8")))
    return state.hexdigest()
