"""The judge of a finished run, from its run card: it reads what is kept, and answers nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from perl_eval.client.reply import Reply
from perl_eval.errors import UserError
from perl_eval.judges.protocol import Judge, Sees
from perl_eval.judges.readers import MarginReader, ProbabilityReader, Reader, RewardReader, TextReader, reader_of
from perl_eval.judges.readers import described as reader_described
from perl_eval.records import Question, RunCard

__all__ = ["READING", "OfflineJudge", "described", "reopen"]

READING = "reading"
"""The note on a run card that says how its replies are read."""


class OfflineJudge(Judge):
    """A judge as a run card names it, without key, server or model: it reads what is kept and answers nothing.

    Args:
        backend: Its backend.
        model: Its model.
        parameters: Its parameters.
        reader: Reads its replies.
        positional: Whether the order of the candidates could change its answers.
        simulated: Whether no model was behind it.
        sees: What it saw.
    """

    def __init__(  # noqa: PLR0913  # the facts of a judge
        self,
        backend: str,
        model: str,
        parameters: Mapping[str, Any],
        reader: Reader,
        *,
        positional: bool = True,
        simulated: bool = False,
        sees: Sees = "messages",
    ) -> None:
        self.backend, self.model, self.parameters, self.reader = backend, model, parameters, reader
        self.positional, self.simulated, self.sees = positional, simulated, sees

    async def ask(self, questions: Sequence[Question]) -> list[Reply]:  # noqa: ARG002
        """Refuse.

        Raises:
            UserError: Always.
        """
        raise UserError(f"{self.model} is known from its run card only, and cannot answer", "open the judge itself")

    def price_usd(self, tokens_in: float, tokens_out: float) -> float | None:  # noqa: ARG002
        """Return 0: nothing is asked."""
        return 0.0


def described(judge: Judge) -> dict[str, object]:
    """Return what a run card must say, beside backend, model and parameters, for its replies to be read again."""
    return {
        "reader": reader_described(judge.reader),
        "positional": judge.positional,
        "simulated": judge.simulated,
        "sees": judge.sees,
    }


def reopen(card: RunCard) -> Judge:
    """Return the judge of a finished run, able to read and not to answer.

    Raises:
        UserError: The run is none of a judge, or its replies are read in no way that is known here.
    """
    judge = card.arguments.get("judge")
    if not isinstance(judge, dict) or not judge.keys() >= {"door", "model", "parameters"}:
        raise UserError(f"a run of `{card.verb}` has no judge", "give the output folder of `judge`")
    backend, model, parameters = str(judge["door"]), str(judge["model"]), judge["parameters"]
    reading = card.notes.get(READING)
    try:
        if reading is None:
            return _of_before(backend, model, parameters)
        facts = {name: reading[name] for name in ("positional", "simulated", "sees")}
        return OfflineJudge(backend, model, parameters, reader_of(reading["reader"]), **facts)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"the card names no judge of this version: {backend}, {error}", "judge again") from None


def _of_before(backend: str, model: str, parameters: Mapping[str, Any]) -> OfflineJudge:
    """Return the judge of a card of version 0.1, which says nothing of reading: there were these five backends."""
    if backend == "chat":
        return OfflineJudge(backend, model, parameters, TextReader())
    if backend in ("decisions", "local"):
        return OfflineJudge(backend, model, parameters, ProbabilityReader(float(parameters["tie_margin"])))
    if backend == "reward":
        return OfflineJudge(backend, model, parameters, RewardReader(**parameters), positional=False, sees="candidates")
    if backend == "scripted":
        reader = MarginReader(parameters["tie_margin"])
        return OfflineJudge(backend, model, parameters, reader, simulated=True, sees="candidates")
    raise KeyError(backend)
