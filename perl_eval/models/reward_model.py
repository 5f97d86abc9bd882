"""A trained reward model as a function of completions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from scipy.special import expit

from perl_eval.errors import DataError
from perl_eval.models.backbone import Backbone, open_backbone
from perl_eval.models.checkpoint_folder import is_adapter
from perl_eval.models.generate import Sampling, generate, item_seed
from perl_eval.models.prompt_room import prompt_room
from perl_eval.models.tokenize import Encoded, encode_dialogue, encode_prompt, least_prompt, pad
from perl_eval.records import Completion, Message
from perl_eval.sources.rows import Row
from perl_eval.storage.images import in_files

__all__ = [
    "REWARD",
    "STATES",
    "Pooling",
    "RewardScale",
    "RewardScorer",
    "prior_scale",
    "read_scale",
    "read_states",
    "rewards",
]

Pooling = Literal["last", "mean", "mean+all"]
"""Where a reward is read: at the last token, in the mean over the tokens of the answer, the end token among them, or
there and in the mean over all tokens of the input, side by side."""
STATES: Mapping[Pooling, int] = {"last": 1, "mean": 1, "mean+all": 2}
"""How many states a head reads."""
REWARD = "reward"
"""The adapter name that reward models go by on a backbone."""
_SCALE = "reward.json"
_KNOWN = 2**17
"""Rewards that are remembered: some 20 MiB."""


@dataclass(frozen=True, slots=True)
class RewardScale:
    """How to read a reward model's logits.

    ``mean`` and ``std`` are of its logits on samples of the prior: ``(logit - mean) / std`` is the normalised reward,
    in units that make beta mean the same for every reward model. ``loss`` is ``pointwise`` (a logit above 0 means
    thumbs up) or ``pairwise`` (only differences mean something). ``max_tokens`` is the longest input it was trained on.
    ``slope`` and ``intercept``, set on validation rows, turn logits into probabilities that come true, see
    `probability`. ``pooling`` is where the reward is read.
    """

    loss: str
    mean: float
    std: float
    max_tokens: int
    slope: float = 1.0
    intercept: float = 0.0
    pooling: Pooling = "last"

    def probability(self, logit: float) -> float:
        """Return the calibrated chance of a thumbs up, or for a difference of logits that the first is preferred.

        Source: Platt (1999); pairs have no intercept, since which comes first means nothing.
        """
        return float(expit(self.slope * logit + self.intercept))

    @property
    def slope_of_reward(self) -> float:
        """Calibrated logits a unit of what `RewardScorer` returns: a logit (pointwise), or a normalised reward."""
        return self.slope if self.loss == "pointwise" else self.slope * self.std

    @property
    def intercept_of_reward(self) -> float | None:
        """Calibrated log-odds of a thumbs up at reward 0; None where only differences mean something."""
        return self.intercept if self.loss == "pointwise" else None

    def normalised(self, logit: float) -> float:
        """Return a logit in prior standard deviations from the prior's mean."""
        return (logit - self.mean) / self.std

    def save(self, folder: Path) -> None:
        """Write the scale beside the adapter."""
        (folder / _SCALE).write_text(json.dumps(asdict(self), indent=1) + "\n", "utf-8")


def read_scale(folder: Path) -> RewardScale:
    """Read the scale of a reward model.

    Raises:
        DataError: The folder holds none.
    """
    path = Path(folder) / _SCALE
    try:
        return RewardScale(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"is not a reward model's scale ({error})", file=path, fix="give a `train reward` folder"
        ) from None


def rewards(
    backbone: Backbone,
    sequences: Sequence[Encoded],
    *,
    name: str = REWARD,
    dropout: float = 0.0,
    pooling: Pooling = "last",
) -> torch.Tensor:
    """Return the head's output for each sequence, (B,), in float32, with whatever adapter is on.

    Args:
        backbone: The model.
        sequences: What is scored.
        name: The head.
        dropout: Share of the head's input that is dropped; 0 everywhere but in training.
        pooling: What the head reads; the answer is what is marked ``trained``.
    """
    read = read_states(backbone, sequences, pooling)
    return backbone.heads.scalars(name, torch.nn.functional.dropout(read, dropout) if dropout else read)


def read_states(backbone: Backbone, sequences: Sequence[Encoded], pooling: Pooling) -> torch.Tensor:
    """Return what a head reads of each sequence, (B, states * width), with whatever adapter is on; see `rewards`."""
    batch = pad(sequences, pad_id=backbone.pad_id)
    hidden = backbone.hidden(batch)
    if pooling == "last":
        last = (batch.live.sum(1) - 1).to(hidden.device)
        return hidden[torch.arange(len(last), device=hidden.device), last]
    masks = [batch.trained, batch.live][: STATES[pooling]]
    return torch.cat([_mean(hidden, mask.to(hidden.device).unsqueeze(-1)) for mask in masks], -1)


def _mean(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean state over the marked tokens, (B, width) in float32; ``mask`` (B, T, 1) is boolean."""
    return hidden.float().masked_fill(~mask, 0.0).sum(1) / mask.sum(1).clamp(min=1)


class RewardScorer:
    """Scores completions with a reward model, on the token ids as sampled where there are any.

    Args:
        folder: The output of ``train reward``.
        backbone: The backbone its adapter was trained on, which gains it unless it is there. A fully tuned reward
            model has weights of its own, and is loaded unless it is the backbone.
        batch: Sequences a forward pass.
        name: What adapter and head go by on the backbone.
    """

    def __init__(self, folder: Path, backbone: Backbone, *, batch: int = 64, name: str = REWARD) -> None:
        folder = Path(folder)
        self.scale = read_scale(folder)
        self.head, self.batch = name, batch
        self._known: dict[bytes, float] = {}
        self.adapter: str | None = name
        if not is_adapter(folder):
            self.adapter = None
            if name not in backbone.heads:
                if backbone.path.resolve() != folder.resolve():
                    backbone = open_backbone(folder, backbone.placement)
                backbone.heads.load(name, folder)
        elif name not in backbone.heads:
            backbone.attach_saved(name, folder)
        self.backbone = backbone

    def encode(self, completion: Completion) -> Encoded:
        """Return prompt and completion as the reward model reads them; its pictures are given by their paths."""
        processor, shown = self.backbone.processor, in_files(completion.images)
        if completion.token_ids:
            room = max(self.scale.max_tokens - len(completion.token_ids), 1 if shown else self._least(completion))
            prompt = encode_prompt(processor, completion.prompt, max_tokens=room, pictures=shown)
            trained = (False,) * len(prompt) + (True,) * len(completion.token_ids)
            return Encoded(prompt + completion.token_ids, trained, shown)
        turn = (Message("assistant", completion.text),)
        most = self.scale.max_tokens
        return encode_dialogue(processor, completion.prompt, turn, max_tokens=most, pictures=shown)

    def _least(self, completion: Completion) -> int:
        """Return the tokens that a prompt has at least: a sample is never cut, however long."""
        return least_prompt(self.backbone.processor, completion.prompt)

    @torch.no_grad()
    def logits(self, sequences: Sequence[Encoded]) -> list[float]:
        """Return one raw reward a sequence; sequences of like length share a batch.

        The last bits of a reward depend on what shares its batch. What has been scored lately is not scored again, so
        that the same text has the same reward wherever it comes up.
        """
        names = [_fingerprint(sequence) for sequence in sequences]
        fresh = {name: one for name, one in zip(names, sequences, strict=True) if name not in self._known}
        order = sorted(fresh, key=lambda name: len(fresh[name].ids))
        with self.backbone.adapter(self.adapter):
            for start in range(0, len(order), self.batch):
                chunk = order[start : start + self.batch]
                rows = [fresh[name] for name in chunk]
                scores = rewards(self.backbone, rows, name=self.head, pooling=self.scale.pooling).tolist()
                self._known |= zip(chunk, scores, strict=True)
        result = [self._known[name] for name in names]
        for name in list(self._known)[: max(0, len(self._known) - _KNOWN)]:
            del self._known[name]
        return result

    def forget(self) -> None:
        """Forget what was scored: where work can be taken up again, nothing may rest on what came before."""
        self._known.clear()

    def normalised(self, sequences: Sequence[Encoded]) -> list[float]:
        """Return one reward a sequence in prior standard deviations from the prior's mean."""
        return [self.scale.normalised(logit) for logit in self.logits(sequences)]

    def __call__(self, completions: Sequence[Completion]) -> list[float]:
        """Return one reward a completion: the raw logit for a pointwise model, the normalised one for a pairwise."""
        logits = self.logits([self.encode(completion) for completion in completions])
        return logits if self.scale.loss == "pointwise" else [self.scale.normalised(logit) for logit in logits]


def _fingerprint(sequence: Encoded) -> bytes:
    """Return what tells a sequence from others: its ids, where the answer begins and ends, and its pictures."""
    spoken = [place for place, trained in enumerate(sequence.trained) if trained]
    shown = " ".join(picture.sha256 for picture in sequence.pictures)
    content = f"{sequence.ids} {spoken[:1]} {spoken[-1:]} {len(spoken)} {shown}"
    return hashlib.blake2b(content.encode(), digest_size=16).digest()


def prior_scale(
    prior: Backbone, scorer: RewardScorer, found: Sequence[Row], count: int, max_new_tokens: int, *, seed: int
) -> tuple[float, float]:
    """Return mean and standard deviation of a reward model's logits on samples of the prior.

    Args:
        prior: The model to sample from, its adapters off.
        scorer: The reward model.
        found: Rows with prompts.
        count: The most prompts to sample for, once each.
        max_new_tokens: The longest sample.
        seed: Seeds the choice of prompts and the samples.
    """
    chosen = np.random.default_rng(seed).permutation(len(found))[:count]
    room = prompt_room(scorer.scale.max_tokens, max_new_tokens)
    asked = [found[row] for row in chosen]
    prompts = [encode_prompt(prior.processor, row.prompt, max_tokens=room, pictures=row.images) for row in asked]
    seeds, shown = [item_seed(seed, row.id, 0) for row in asked], [row.images for row in asked]
    sampling = Sampling(max_new_tokens=max_new_tokens)
    rollouts = []
    with prior.adapter(None):
        for start in range(0, len(prompts), scorer.batch):
            span = slice(start, start + scorer.batch)
            rollouts += generate(prior, prompts[span], seeds[span], sampling, pictures=shown[span])
    logits = scorer.logits([rollout.encoded for rollout in rollouts])
    return float(np.mean(logits)), max(float(np.std(logits)), 1e-6)
