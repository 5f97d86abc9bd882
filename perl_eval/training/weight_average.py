"""Weight-averaged reward models: several LoRA adapters on one prior to one adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from perl_eval.checks import at_least_one, valid_seed
from perl_eval.errors import UserError
from perl_eval.models.backbone import open_backbone
from perl_eval.models.device import Placement
from perl_eval.models.ensemble import averaged
from perl_eval.models.model_card import model_card
from perl_eval.models.model_source import located
from perl_eval.models.reward_model import REWARD, RewardScale, RewardScorer, prior_scale
from perl_eval.records import Estimate, Score
from perl_eval.sources import rows
from perl_eval.storage import run_folder
from perl_eval.training.platt import held_out_quality, platt
from perl_eval.training.reward_examples import NEED, encoded, held_out_scores

__all__ = ["AverageOptions", "run"]


@dataclass(frozen=True, slots=True)
class AverageOptions:
    """``normalise_on`` prompts of the train split are sampled from the prior to set the new scale."""

    normalise_on: int = 256
    max_new_tokens: int = 64
    placement: Placement = field(default_factory=Placement)

    def __post_init__(self) -> None:
        at_least_one(self, "normalise_on", "max_new_tokens")


def run(
    members: Sequence[Path], data: Path, prior: Path, out: Path, *, options: AverageOptions | None = None, seed: int = 0
) -> Path:
    """Average reward models (WARM) into one, with a scale, a calibration and held-out figures of its own.

    Args:
        members: Outputs of ``train reward``: LoRA, on the same prior.
        data: The rows they were trained on.
        prior: The SFT model.
        out: The run folder, as ``train reward`` writes it, without a curve.
        options: See `AverageOptions`.
        seed: Seeds the prior's samples.

    Raises:
        UserError: Fewer than two members, or members that have no plain LoRA adapter or another loss than the rest.
        DataError: A changed input.
    """
    options = options or AverageOptions()
    if len(members) < 2:
        raise UserError(f"{len(members)} reward model has no average", "give two or more")
    prior, members = located(prior), [located(one) for one in members]
    inputs = {"data": Path(data), "prior": prior}
    inputs |= {f"reward {number}": member for number, member in enumerate(members)}
    with run_folder.start(
        out, verb="train average", arguments=asdict(options), seed=valid_seed(seed), inputs=inputs
    ) as going:
        if going.done:
            return going.folder
        backbone = open_backbone(prior, options.placement)
        scorers = [RewardScorer(one, backbone, name=f"member-{place}") for place, one in enumerate(members)]
        kinds = {scorer.scale.loss for scorer in scorers}
        if len(kinds) > 1:
            raise UserError("some members are pointwise and some pairwise", "average reward models of one loss")
        (kind,) = kinds
        poolings = {scorer.scale.pooling for scorer in scorers}
        if len(poolings) > 1:
            raise UserError("members read the input in more than one way", "average members of one pooling")
        (pooling,) = poolings
        averaged(scorers, REWARD)
        backbone.save(REWARD, going.folder)
        max_tokens = max(scorer.scale.max_tokens for scorer in scorers)
        RewardScale(kind, 0.0, 1.0, max_tokens, pooling=pooling).save(going.folder)
        scorer = RewardScorer(going.folder, backbone)
        split = {name: rows.read(data, name, need=NEED[kind]) for name in rows.splits(data)}
        mean, std = prior_scale(
            backbone, scorer, split["train"], options.normalise_on, options.max_new_tokens, seed=seed
        )
        checks = encoded(backbone, split.get("validation", []), kind, max_tokens)
        line = platt(scorer, [(check.sequences, check.label) for check in checks], kind)
        RewardScale(kind, mean, std, max_tokens, *line, pooling).save(going.folder)
        held_out = [*split.get("validation", []), *split.get("test", [])]
        scores = held_out_scores(scorer, encoded(backbone, held_out, kind, max_tokens), kind)
        going.write(scores, Score)
        going.write(held_out_quality(split, scores, kind, line), Estimate)
        going.notes |= {"members": len(members), "loss": kind, "prior reward mean": mean, "prior reward std": std}
        going.notes |= {"backbone sha256": backbone.sha256, **backbone.counts(REWARD)}
        model_card(going.folder, "train average", prior, going.notes, "It has none: nothing was trained.")
    return going.folder
