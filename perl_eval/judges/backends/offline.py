"""The judge of a finished run, from its run card: it reads what is kept, and answers nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from perl_eval.client.reply import Reply
from perl_eval.errors import UserError
from perl_eval.judges.backends.choices import read_probabilities
from perl_eval.judges.backends.reward_model import RewardJudge
from perl_eval.judges.backends.scripted import ScriptedJudge
from perl_eval.judges.parsing.replies import read_reply
from perl_eval.judges.protocol import Judge, Sees
from perl_eval.records import Ballot, Question, RunCard

__all__ = ["KeptJudge", "reopen"]


class KeptJudge:
    """A judge as a run card names it, without key, server or model: it reads what is kept and answers nothing.

    Args:
        door: Its door.
        model: Its model.
        parameters: Its parameters.

    Raises:
        UserError: There is no such door, or the parameters are not those of one.
    """

    group = 1
    longest = 0

    def __init__(self, door: str, model: str, parameters: Mapping[str, Any]) -> None:
        self.door, self.model, self.parameters = door, model, parameters
        self.positional = door != "reward"
        self.simulated = door == "scripted"
        self.sees: Sees = "candidates" if door in ("reward", "scripted") else "messages"
        try:
            self._read = _reader(door, model, parameters)
        except (KeyError, TypeError) as error:
            raise UserError(f"the card names no judge of this version: {door}, {error}", "judge again") from None

    async def ask(self, questions: Sequence[Question]) -> list[Reply]:  # noqa: ARG002
        """Refuse.

        Raises:
            UserError: Always.
        """
        raise UserError(f"{self.model} is known from its run card only, and cannot answer", "open the judge itself")

    def read(self, question: Question, reply: Reply) -> Ballot:
        """Read a kept reply as the judge's own door does."""
        return self._read(question, reply)

    def price_usd(self, tokens_in: float, tokens_out: float) -> float | None:  # noqa: ARG002
        """Return 0: nothing is asked."""
        return 0.0

    async def close(self) -> None:
        """Do nothing: nothing is open."""


def _reader(door: str, model: str, parameters: Mapping[str, Any]) -> Callable[[Question, Reply], Ballot]:
    if door == "chat":
        return read_reply
    if door in ("decisions", "local"):
        margin = float(parameters["tie_margin"])
        return lambda question, reply: read_probabilities(question, reply, tie_margin=margin)
    if door == "reward":
        return RewardJudge(lambda _: (), name=model, **parameters).read
    if door == "scripted":
        return ScriptedJudge(lambda _: 0.0, name=model, **parameters).read
    raise KeyError(door)


def reopen(card: RunCard) -> Judge:
    """Return the judge of a finished run, able to read and not to answer.

    Raises:
        UserError: The run is none of a judge, or its judge is not known.
    """
    judge = card.arguments.get("judge")
    if not isinstance(judge, dict) or not judge.keys() >= {"door", "model", "parameters"}:
        raise UserError(f"a run of `{card.verb}` has no judge", "give the output folder of `judge`")
    return KeptJudge(str(judge["door"]), str(judge["model"]), judge["parameters"])
