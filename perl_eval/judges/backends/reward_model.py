"""A reward model as judge: it has no position, so it is asked once a pair."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence

from perl_eval.checks import finite, not_negative
from perl_eval.client.reply import Reply
from perl_eval.errors import UserError
from perl_eval.judges.backend_options import BackendOptions
from perl_eval.judges.backends.one_worker import OneWorker
from perl_eval.judges.protocol import Judge, Sees
from perl_eval.judges.readers import RewardReader
from perl_eval.records import Completion, Question
from perl_eval.storage import hub_snapshot, run_folder

__all__ = ["RewardJudge", "opened"]


class RewardJudge(Judge):
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

    backend = "reward"
    positional = False
    group = 64
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
        self.reader = RewardReader(threshold, tie_margin, slope, intercept)
        self._score, self._worker = score, OneWorker()
        self.model = name
        parameters: dict[str, object] = {"threshold": threshold, "tie_margin": tie_margin}
        if (slope, intercept) != (1.0, None):
            parameters |= {"slope": slope, "intercept": intercept}
        self.parameters: Mapping[str, object] = parameters

    async def ask(self, questions: Sequence[Question]) -> list[Reply]:
        """Score all candidates in one call, equal ones once; a reply is the JSON list of its candidates' rewards.

        Raises:
            UserError: A score on a scale is asked for.
        """
        if any(question.scale for question in questions):
            raise UserError("a reward is not a score on a scale", "ask another judge, or for yes or no")
        return await self._worker.do(lambda: self._replies(questions))

    async def close(self) -> None:
        """End after the questions at hand."""
        self._worker.stop()

    def _replies(self, questions: Sequence[Question]) -> Iterator[Reply]:
        places: dict[object, int] = {}
        read: list[Completion] = []
        for completion in (c for question in questions for c in question.candidates):
            if places.setdefault(_read_of(completion), len(read)) == len(read):
                read.append(completion)
        rewards = [float(reward) for reward in self._score(read)]
        if len(rewards) != len(read):
            raise ValueError(f"{self.model} gave {len(rewards)} rewards for {len(read)} completions")
        for question in questions:
            own = [rewards[places[_read_of(completion)]] for completion in question.candidates]
            yield Reply(text=json.dumps(own), model=self.model)

    def price_usd(self, tokens_in: float, tokens_out: float) -> float | None:  # noqa: ARG002
        """Return 0: nobody is paid."""
        return 0.0


def _read_of(completion: Completion) -> object:
    """Return what a reward depends on: completions equal in it get one reward."""
    return completion.prompt, completion.text, completion.token_ids, completion.images


def opened(name: str, options: BackendOptions) -> RewardJudge:
    """Open the judge ``reward:MODEL``; loads torch."""
    from perl_eval.models.backbone import open_backbone
    from perl_eval.models.model_source import located
    from perl_eval.models.reward_model import RewardScorer

    folder = located(name)
    # One by one: in a batch the last bits of a reward depend on what else is in it.
    scorer = RewardScorer(folder, open_backbone(folder), batch=1)
    judge = RewardJudge(
        scorer,
        name=f"{hub_snapshot.label(folder)}@{run_folder.fingerprint(folder)[:12]}",
        threshold=options.threshold,
        tie_margin=options.tie_margin,
        slope=scorer.scale.slope_of_reward,
        intercept=scorer.scale.intercept_of_reward,
    )
    judge.group = options.local_batch
    return judge
