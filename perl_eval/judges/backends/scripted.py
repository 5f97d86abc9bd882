"""A judge made of a known utility, a known position bias and known noise: for tests, demos and power analysis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from perl_eval.checks import finite, not_negative
from perl_eval.client.reply import Reply
from perl_eval.judges.backend_options import BackendOptions
from perl_eval.judges.protocol import Judge, Sees
from perl_eval.judges.readers import MarginReader
from perl_eval.records import Completion, Question, digest
from perl_eval.worlds import coffee

__all__ = ["SCRIPTS", "ScriptedJudge", "opened"]


def _length(completion: Completion) -> float:
    return float(len(completion.text))


def _constant(_: Completion) -> float:
    return 0.0


SCRIPTS: Mapping[str, Callable[[Completion], float]] = {
    "world": coffee.true_reward_of,
    "length": _length,
    "constant": _constant,
}
"""Utilities by name: the embedded world's truth, the number of characters, nothing at all."""


class ScriptedJudge(Judge):
    """Prefers the answer of higher utility, but leans to the first one shown and errs at random.

    The margin is ``u(first) - u(second) + position_bias + noise * z``, with z standard normal; for a single answer
    it is ``u(answer) - threshold + noise * z``, which on a scale, cut to its ends, is the score. z depends on the seed,
    the item and the texts, not on their order: swapping the answers turns its sign, and equal answers have none.
    ``p_first`` is the logistic function of the margin.

    Args:
        utility: The utility of a completion, any unit.
        name: The name of the utility; answers are kept under it, so another utility needs another name.
        position_bias: Added for the first answer shown, in units of utility.
        noise: Standard deviation of the error of a margin, in units of utility.
        tie_margin: A margin up to this size, either way, is a tie; with 0 only an exact draw is.
        threshold: A single answer of utility above it is a yes.
        seed: Seed of the errors.

    Raises:
        UserError: A negative or infinite parameter.
    """

    backend = "scripted"
    simulated = True
    group = 256
    sees: Sees = "candidates"

    def __init__(  # noqa: PLR0913  # one number a knob; a class of options would only move them
        self,
        utility: Callable[[Completion], float],
        *,
        name: str,
        position_bias: float = 0.0,
        noise: float = 0.0,
        tie_margin: float = 0.0,
        threshold: float = 0.0,
        seed: int = 0,
    ) -> None:
        self._utility = utility
        self.model = name
        self._bias, self._noise, self._threshold = position_bias, noise, threshold
        self._seed = seed
        self.parameters: Mapping[str, object] = {
            "position_bias": position_bias,
            "noise": noise,
            "tie_margin": tie_margin,
            "threshold": threshold,
            "seed": seed,
        }
        finite(self.parameters, "position_bias", "threshold")
        not_negative(self.parameters, "noise", "tie_margin")
        self.reader = MarginReader(tie_margin)

    async def ask(self, questions: Sequence[Question]) -> list[Reply]:
        """Return the margins, as text."""
        return [Reply(text=repr(self._margin(question)), model=self.model) for question in questions]

    def price_usd(self, tokens_in: float, tokens_out: float) -> float | None:  # noqa: ARG002
        """Return 0: nobody is paid."""
        return 0.0

    def _margin(self, question: Question) -> float:
        first, *rest = question.candidates
        if not rest:
            return self._utility(first) - self._threshold + self._error(first.item, first.text)
        second = rest[0]
        margin = self._utility(first) - self._utility(second) + self._bias
        if first.text == second.text:
            return margin
        low, high = sorted((first.text, second.text))
        error = self._error(first.item, low, high)
        return margin + (error if first.text == low else -error)

    def _error(self, *subject: str) -> float:
        if self._noise == 0:
            return 0.0
        seed = int(digest("scripted", str(self._seed), *subject), 16)
        return float(np.random.default_rng(seed).normal(0.0, self._noise))


def opened(name: str, options: BackendOptions) -> ScriptedJudge:
    """Open the judge ``scripted:NAME``."""
    return ScriptedJudge(
        SCRIPTS[name],
        name=name,
        position_bias=options.position_bias,
        noise=options.noise,
        tie_margin=options.tie_margin,
        threshold=options.threshold,
        seed=options.seed,
    )
