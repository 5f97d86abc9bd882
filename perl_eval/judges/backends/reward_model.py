"""A reward model as judge: it has no position, so it is asked once a pair."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence

from perl_eval.checks import finite, not_negative
from perl_eval.client.reply import Reply
from perl_eval.errors import UserError
from perl_eval.judges.backends.scripted import sigmoid
from perl_eval.judges.protocol import Sees
from perl_eval.records import Ballot, Completion, Question, Verdict

__all__ = ["RewardJudge"]


class RewardJudge:
    """Prefers the completion of higher reward (Bradley-Terry): ``p_first = sigmoid(slope (r_first - r_second))``.

    A single answer is a yes if ``r > threshold``, with ``p = sigmoid(slope (r - threshold))``: the chance that it is
    preferred to an answer of that reward. With an intercept its ``p = sigmoid(slope r + intercept)``, the chance of a
    thumbs up, whatever the threshold. A calibration moves probabilities only, never a verdict.

    Args:
        score: The rewards of some completions, in logits, in order; batches as it likes.
        name: What scores; replies are kept under it, so it must change when the weights do (put their sha256 in).
        threshold: A single answer of a higher reward is a yes.
        tie_margin: A difference up to this size, either way, is a tie; with 0 only an exact draw is.
        slope: Logits a unit of reward, as calibrated on held-out rows.
        intercept: The calibrated log-odds of an answer with reward 0; None where single answers have none.

    Raises:
        UserError: A negative tie margin, or a slope that is not above 0.

    Source:
        Bradley and Terry (1952); Platt (1999); Sidahmed et al., arXiv 2403.10704, section 2.
    """

    door = "reward"
    positional = False
    simulated = False
    group = 64
    longest = 0
    sees: Sees = "candidates"

    def __init__(
        self,
        score: Callable[[Sequence[Completion]], Sequence[float]],
        *,
        name: str,
        threshold: float = 0.0,
        tie_margin: float = 0.0,
        slope: float = 1.0,
        intercept: float | None = None,
    ) -> None:
        finite({"threshold": threshold}, "threshold")
        not_negative({"tie_margin": tie_margin}, "tie_margin")
        if not (0 < slope < math.inf and (intercept is None or math.isfinite(intercept))):
            raise UserError(f"slope is {slope} and intercept {intercept}", "give finite numbers, the slope above 0")
        self._score = score
        self.model = name
        self._threshold, self._tie_margin = threshold, tie_margin
        self._slope, self._intercept = slope, intercept
        parameters: dict[str, object] = {"threshold": threshold, "tie_margin": tie_margin}
        if (slope, intercept) != (1.0, None):
            parameters |= {"slope": slope, "intercept": intercept}
        self.parameters: Mapping[str, object] = parameters

    async def ask(self, questions: Sequence[Question]) -> list[Reply]:
        """Score all candidates in one call; a reply is the JSON list of its candidates' rewards.

        Raises:
            UserError: A score on a scale is asked for.
        """
        if any(question.scale for question in questions):
            raise UserError("a reward is no score on a scale", "ask another judge, or for yes or no")
        rewards = [float(reward) for reward in self._score([c for question in questions for c in question.candidates])]
        wanted = sum(len(question.candidates) for question in questions)
        if len(rewards) != wanted:
            raise ValueError(f"{self.model} gave {len(rewards)} rewards for {wanted} completions")
        replies, taken = [], 0
        for question in questions:
            own = rewards[taken : (taken := taken + len(question.candidates))]
            replies.append(Reply(text=json.dumps(own), model=self.model))
        return replies

    def read(self, question: Question, reply: Reply) -> Ballot:
        """Turn rewards into a verdict and a probability."""
        rewards: list[float] = json.loads(reply.text)
        if not all(math.isfinite(reward) for reward in rewards):
            return reply.ballot(question, None, reason=f"the reward is not finite: {reply.text}")
        verdict: Verdict
        if question.kind == "yes_no":
            margin = rewards[0] - self._threshold
            verdict = "yes" if margin > 0 else "no"
            if self._intercept is not None:
                return reply.ballot(question, verdict, p_first=sigmoid(self._slope * rewards[0] + self._intercept))
        else:
            margin = rewards[0] - rewards[1]
            verdict = "tie" if abs(margin) <= self._tie_margin else "first" if margin > 0 else "second"
        return reply.ballot(question, verdict, p_first=sigmoid(self._slope * margin))

    def price_usd(self, tokens_in: float, tokens_out: float) -> float | None:  # noqa: ARG002
        """Return 0: nobody is paid."""
        return 0.0

    async def close(self) -> None:
        """Do nothing: the model belongs to whoever gave the score function."""
