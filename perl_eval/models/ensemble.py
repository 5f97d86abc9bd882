"""Several reward models as one: their mean, their minimum, or between the two by how much they disagree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from perl_eval.bayes.target import pessimistic, soft_minimum
from perl_eval.checks import not_negative, positive
from perl_eval.errors import OptionError, UserError
from perl_eval.models.backbone import Backbone
from perl_eval.models.reward_model import REWARD, RewardScorer
from perl_eval.models.tokenize import Encoded

__all__ = ["RULES", "Ensemble", "EnsembleRule", "averaged", "combined"]

Rule = Literal["mean", "minimum", "mean-std", "soft-minimum"]
RULES: tuple[Rule, ...] = get_args(Rule)


@dataclass(frozen=True, slots=True)
class EnsembleRule:
    """How members' normalised rewards become one.

    ``mean``; ``minimum``, the most cautious member; ``mean-std``, the mean less ``caution`` standard deviations over
    members (divided by their number); or ``soft-minimum``, ``-s log mean exp(-r / s)``, which has the others as limits
    (`perl_eval.bayes.target.soft_minimum`). Its ``softness`` s, in reward units, is by default the beta that the reward
    is used with.

    Source: Coste et al., arXiv 2310.02743, section 3 (mean, worst case, uncertainty-weighted); arXiv 2606.09073.

    Deviations:
        The standard deviation instead of the variance, so that ``caution`` has no unit.
    """

    rule: Rule = "mean"
    caution: float = 1.0
    softness: float | None = None

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise UserError(f"ensemble rule {self.rule!r} is not known", f"choose from {', '.join(RULES)}")
        not_negative(self, "caution")
        positive(self, "softness")

    def at(self, beta: float) -> EnsembleRule:
        """Return the rule for rewards that are used with some beta.

        Raises:
            OptionError: A soft minimum has no softness, and beta is 0.
        """
        if self.rule != "soft-minimum" or self.softness is not None:
            return self
        if not beta > 0:
            raise OptionError("softness", None, "give one above 0 with ensemble soft-minimum where beta is 0")
        return replace(self, softness=beta)


def combined(scores: Sequence[Sequence[float]], rule: EnsembleRule) -> list[float]:
    """Return one reward a sequence from those of every member.

    Args:
        scores: (members, sequences), normalised.
        rule: See `EnsembleRule`; a soft minimum has a softness.
    """
    table = np.asarray(scores, np.float64)
    if rule.rule == "minimum":
        found = table.min(axis=0)
    elif rule.rule == "soft-minimum":
        found = soft_minimum(table, beta=rule.softness or 0.0)
    else:
        alone = rule.rule == "mean" or len(table) == 1
        found = pessimistic(table, spread=0.0 if alone else rule.caution)
    return [float(value) for value in found]


class Ensemble:
    """Reward models on one backbone, one adapter a member; the frozen weights are there once.

    Args:
        folders: Outputs of ``train reward``.
        backbone: The backbone of their adapters, which gains them.
        rule: How their rewards become one.
        batch: Sequences a forward pass.
        name: What the first adapter is called, the others by number.

    Raises:
        UserError: No member.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        backbone: Backbone,
        rule: EnsembleRule | None = None,
        *,
        batch: int = 64,
        name: str = REWARD,
    ) -> None:
        if not folders:
            raise UserError("there is no reward model", "give one or more")
        self.rule = rule or EnsembleRule()
        names = [name, *(f"{name}-{number}" for number in range(1, len(folders)))]
        self.members = [
            RewardScorer(folder, backbone, batch=batch, name=own) for folder, own in zip(folders, names, strict=True)
        ]

    def forget(self) -> None:
        """Let every member forget what it scored, see `RewardScorer.forget`."""
        for member in self.members:
            member.forget()

    def normalised(self, sequences: Sequence[Encoded]) -> list[float]:
        """Return one reward a sequence, in prior standard deviations."""
        return combined([member.normalised(sequences) for member in self.members], self.rule)


def averaged(members: Sequence[RewardScorer], name: str) -> None:
    """Put the weight average of reward adapters on their backbone, as one adapter with one head.

    What is averaged is what the adapters add, ``mean_k(s_k B_k A_k)``, and the heads. The sum of K products of rank r
    is one of rank K r, so the average is exact and still an adapter.

    Args:
        members: Reward models on one backbone, LoRA each.
        name: What the new adapter is called.

    Raises:
        UserError: A member has no LoRA adapter on the same backbone.

    Source: Ramé et al., arXiv 2401.12187 (WARM), section 3.1.

    Deviations:
        The paper averages whole weights of fully tuned models; on one frozen backbone the deltas are all that differs.
    """
    backbone = members[0].backbone
    adapters = [member.adapter for member in members if member.backbone is backbone and member.adapter]
    if len(adapters) < len(members):
        raise UserError("a member has no adapter on the common backbone", "average reward models trained with LoRA")
    backbone.average(adapters, name)
    with torch.no_grad():
        head = backbone.heads[name]
        for key, parameter in head.named_parameters():
            stacked = torch.stack([dict(backbone.heads[one].named_parameters())[key] for one in adapters])
            parameter.copy_(stacked.mean(0))
