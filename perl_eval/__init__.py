"""perl-eval: build preference data, train LoRA RLHF policies, judge them, and measure the judge.

The verbs are functions: ``perl_eval.judge("ours.jsonl", "theirs.jsonl", by="chat:MODEL", prompt="helpful").win_rate``.
They take paths or objects and return results; importing the package loads none of what they need.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from perl_eval.errors import (
    DataError,
    JudgeError,
    PerlEvalError,
    RateLimited,
    Refused,
    TimedOut,
    UserError,
)
from perl_eval.records import (
    About,
    Ballot,
    Completion,
    Estimate,
    HumanLabel,
    Judgement,
    Measurement,
    Message,
    Question,
    RunCard,
    Score,
)

if TYPE_CHECKING:
    from perl_eval.judges.backends.scripted import ScriptedJudge
    from perl_eval.judges.parsing.verdicts import parse_verdict
    from perl_eval.judges.protocol import Judge
    from perl_eval.judges.registry import open_judge
    from perl_eval.sources.completions import completions
    from perl_eval.sources.labels import labels
    from perl_eval.sources.rows import rows
    from perl_eval.storage.any_records import read, write
    from perl_eval.verbs.evaluating import agree, audit, decide, doctor, judge, jury, power, report, score
    from perl_eval.verbs.exchange import export
    from perl_eval.verbs.model_training import build, sample, train_dpo, train_policy, train_reward, train_sft

    __version__: str

__all__ = [
    "About",
    "Ballot",
    "Completion",
    "DataError",
    "Estimate",
    "HumanLabel",
    "Judge",
    "JudgeError",
    "Judgement",
    "Measurement",
    "Message",
    "PerlEvalError",
    "Question",
    "RateLimited",
    "Refused",
    "RunCard",
    "Score",
    "ScriptedJudge",
    "TimedOut",
    "UserError",
    "__version__",
    "agree",
    "audit",
    "build",
    "completions",
    "decide",
    "doctor",
    "export",
    "judge",
    "jury",
    "labels",
    "open_judge",
    "parse_verdict",
    "power",
    "read",
    "report",
    "rows",
    "sample",
    "score",
    "train_dpo",
    "train_policy",
    "train_reward",
    "train_sft",
    "write",
]

_WHERE = {
    **dict.fromkeys(
        ("agree", "audit", "decide", "doctor", "judge", "jury", "power", "report", "score"),
        "perl_eval.verbs.evaluating",
    ),
    **dict.fromkeys(
        ("build", "sample", "train_dpo", "train_policy", "train_reward", "train_sft"), "perl_eval.verbs.model_training"
    ),
    "export": "perl_eval.verbs.exchange",
    "Judge": "perl_eval.judges.protocol",
    "ScriptedJudge": "perl_eval.judges.backends.scripted",
    "open_judge": "perl_eval.judges.registry",
    "parse_verdict": "perl_eval.judges.parsing.verdicts",
    "completions": "perl_eval.sources.completions",
    "labels": "perl_eval.sources.labels",
    "rows": "perl_eval.sources.rows",
    "read": "perl_eval.storage.any_records",
    "write": "perl_eval.storage.any_records",
}


def __getattr__(name: str) -> Any:
    """Load what is asked for when it is first used."""
    if name == "__version__":
        from importlib.metadata import version

        return version("perl-eval")
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
