"""What users may rely on: adding a name is a decision, losing one is a break."""

from __future__ import annotations

import importlib

import pytest

import perl_eval

NAMES = [
    *("About", "Ballot", "Completion", "DataError", "Estimate", "HumanLabel", "Judge", "JudgeError", "Judgement"),
    *("Measurement", "Message", "PerlEvalError", "Question", "RateLimited", "Refused", "RunCard", "Score"),
    *("ScriptedJudge", "TimedOut", "UserError", "__version__"),
    *("agree", "audit", "build", "completions", "decide", "doctor", "export", "judge", "jury", "labels"),
    "open_judge",
    *("parse_verdict", "power", "read", "report"),
    *("rows", "sample", "score", "train_dpo", "train_policy", "train_reward", "train_sft", "write"),
]
VERBS = {
    "perl_eval.scoring.agree": "run",
    "perl_eval.labelling": "run",
    "perl_eval.scoring.audit": "run",
    "perl_eval.building": "run",
    "perl_eval.conformance": "run",
    "perl_eval.demo": "run",
    "perl_eval.exporting": "run",
    "perl_eval.sources": "run",
    "perl_eval.judging.judge": "run",
    "perl_eval.judging.jury": "run",
    "perl_eval.posterior": "run",
    "perl_eval.scoring.power": "run",
    "perl_eval.sources.recorded": "run",
    "perl_eval.reporting": "run",
    "perl_eval.scoring.rewards": "run",
    "perl_eval.sampling.in_process": "run",
    "perl_eval.cluster.plan": "run",
    "perl_eval.sampling.server": "run",
    "perl_eval.scoring.dispatch": "run",
    "perl_eval.scoring.score": "run",
    "perl_eval.scoring.tasks": "run",
    "perl_eval.training.ablate": "run",
    "perl_eval.training.dpo": "run",
    "perl_eval.training.weight_average": "run",
    "perl_eval.training.folds": "run",
    "perl_eval.training.policy": "run",
    "perl_eval.training.reward": "run",
    "perl_eval.training.sft": "run",
}


def test_public_names() -> None:
    assert sorted(perl_eval.__all__) == NAMES


@pytest.mark.parametrize("module", VERBS)
def test_every_verb_is_a_module_with_run(module: str) -> None:
    found = importlib.import_module(module)
    assert VERBS[module] in found.__all__
    assert callable(found.run)
