"""A trained reward model as a function of completions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from perl_eval.errors import DataError
from perl_eval.models.backbone import Backbone
from perl_eval.models.encode import Encoded, encode_dialogue, encode_prompt, pad
from perl_eval.records import Completion, Message

__all__ = ["REWARD", "RewardScorer", "Scale", "read_scale", "rewards"]

REWARD = "reward"
"""The adapter name that reward models go by on a backbone."""
_SCALE = "reward.json"


@dataclass(frozen=True, slots=True)
class Scale:
    """How to read a reward model's logits.

    ``mean`` and ``std`` are of its logits on samples of the prior: ``(logit - mean) / std`` is the normalised reward,
    in units that make beta mean the same for every reward model. ``loss`` is ``pointwise`` (a logit above 0 means
    thumbs up) or ``pairwise`` (only differences mean something). ``max_tokens`` is the longest input it was trained on.
    """

    loss: str
    mean: float
    std: float
    max_tokens: int

    def normalised(self, logit: float) -> float:
        """Return a logit in prior standard deviations from the prior's mean."""
        return (logit - self.mean) / self.std

    def save(self, folder: Path) -> None:
        """Write the scale beside the adapter."""
        (folder / _SCALE).write_text(json.dumps(asdict(self), indent=1) + "\n", "utf-8")


def read_scale(folder: Path) -> Scale:
    """Read the scale of a reward model.

    Raises:
        DataError: The folder holds none.
    """
    path = Path(folder) / _SCALE
    try:
        return Scale(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"is not a reward model's scale ({error})", file=path, fix="give a `train reward` folder"
        ) from None


def rewards(backbone: Backbone, sequences: Sequence[Encoded], *, name: str = REWARD) -> torch.Tensor:
    """Return the head's output at each sequence's last token, (B,), in float32, with whatever adapter is on."""
    batch = pad(sequences, pad_id=backbone.pad_id)
    hidden = backbone.hidden(batch)
    last = (batch.live.sum(1) - 1).to(hidden.device)
    return backbone.scalars(name, hidden[torch.arange(len(last), device=hidden.device), last])


class RewardScorer:
    """Scores completions with a reward adapter, on the token ids as sampled where there are any.

    Args:
        folder: The output of ``train reward``.
        backbone: The backbone it was trained on; its adapter is loaded onto it unless it is there.
        batch: Sequences a forward pass.
    """

    def __init__(self, folder: Path, backbone: Backbone, *, batch: int = 64) -> None:
        if REWARD not in backbone.heads:
            backbone.attach_saved(REWARD, Path(folder))
        self.backbone = backbone
        self.scale = read_scale(folder)
        self.batch = batch

    def encode(self, completion: Completion) -> Encoded:
        """Return prompt and completion as the reward model reads them."""
        if completion.token_ids:
            room = max(1, self.scale.max_tokens - len(completion.token_ids))
            prompt = encode_prompt(self.backbone.tokenizer, completion.prompt, max_tokens=room)
            return Encoded(prompt + completion.token_ids, (False,) * len(prompt) + (True,) * len(completion.token_ids))
        turn = (Message("assistant", completion.text),)
        return encode_dialogue(self.backbone.tokenizer, completion.prompt, turn, max_tokens=self.scale.max_tokens)

    @torch.no_grad()
    def logits(self, sequences: Sequence[Encoded]) -> list[float]:
        """Return one raw reward a sequence; sequences of like length share a batch."""
        order = sorted(range(len(sequences)), key=lambda index: len(sequences[index].ids))
        result = [0.0] * len(sequences)
        with self.backbone.adapter(REWARD):
            for start in range(0, len(order), self.batch):
                chunk = order[start : start + self.batch]
                scores = rewards(self.backbone, [sequences[index] for index in chunk]).tolist()
                for index, score in zip(chunk, scores, strict=True):
                    result[index] = score
        return result

    def __call__(self, completions: Sequence[Completion]) -> list[float]:
        """Return one reward a completion: the raw logit for a pointwise model, the normalised one for a pairwise."""
        logits = self.logits([self.encode(completion) for completion in completions])
        return logits if self.scale.loss == "pointwise" else [self.scale.normalised(logit) for logit in logits]
