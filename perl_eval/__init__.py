"""perl-eval: build preference data, train LoRA RLHF policies, judge them, and measure the judge.

Importing the package loads nothing heavy. Each verb is a module with a function ``run``, such as
``perl_eval.judging.judge.run``.
"""

from perl_eval.errors import DataError, JudgeError, PerlEvalError, RateLimited, Refused, TimedOut, UserError
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

__all__ = [
    "About",
    "Ballot",
    "Completion",
    "DataError",
    "Estimate",
    "HumanLabel",
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
    "TimedOut",
    "UserError",
]
