"""What users may rely on: adding a name is a decision, losing one is a break."""

from __future__ import annotations

import importlib

import pytest

import perl_eval

NAMES = [
    *("Ballot", "Completion", "DataError", "Estimate", "HumanLabel", "JudgeError", "Judgement", "Measurement"),
    *("Message", "PerlEvalError", "Question", "RateLimited", "Refused", "RunCard", "Score", "TimedOut", "UserError"),
]
VERBS = {
    "perl_eval.agree": "run",
    "perl_eval.annotate": "run",
    "perl_eval.audit": "run",
    "perl_eval.build": "run",
    "perl_eval.demo": "run",
    "perl_eval.foreign": "run",
    "perl_eval.judge": "run",
    "perl_eval.jury": "run",
    "perl_eval.posterior": "run",
    "perl_eval.power": "run",
    "perl_eval.recorded": "run",
    "perl_eval.report": "run",
    "perl_eval.rewards": "run",
    "perl_eval.sample": "run",
    "perl_eval.scale.plan": "run",
    "perl_eval.scale.server": "run",
    "perl_eval.score": "run",
    "perl_eval.tasks": "run",
    "perl_eval.train.ablate": "run",
    "perl_eval.train.average": "run",
    "perl_eval.train.folds": "run",
    "perl_eval.train.policy": "run",
    "perl_eval.train.reward": "run",
    "perl_eval.train.sft": "run",
}


def test_public_names() -> None:
    assert sorted(perl_eval.__all__) == NAMES
    for name in NAMES:
        assert getattr(perl_eval, name).__module__ in ("perl_eval.errors", "perl_eval.records")


@pytest.mark.parametrize("module", VERBS)
def test_every_verb_is_a_module_with_run(module: str) -> None:
    found = importlib.import_module(module)
    assert VERBS[module] in found.__all__
    assert callable(found.run)
