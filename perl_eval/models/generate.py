"""Sampling from a backbone: batched, seeded item by item, plain ancestral sampling.

One uniform number a token, drawn from the item's own seed, picks the token by the inverse of the cumulative
distribution. So what an item gets does not depend on which other items are in its batch, or on their order.

There is no top-k, top-p, penalty or least length, and a model's own generation config is asked for its end tokens only:
log-probabilities would have to know of them, or KLs turn negative and policy gradients are biased.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from perl_eval.models.backbone import Backbone
from perl_eval.models.incremental_decoding import Continuation
from perl_eval.models.tokenize import Encoded
from perl_eval.records import digest
from perl_eval.storage.images import Picture

__all__ = ["Rollout", "Sampling", "generate", "item_seed"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """Temperature (logits are divided by it; 0 takes the likeliest token) and the most tokens to sample."""

    temperature: float = 1.0
    max_new_tokens: int = 64


@dataclass(frozen=True, slots=True)
class Rollout:
    """Token ids as sampled, the end token included if it came; ``finished`` says whether it did.

    ``text`` is what they say, the end token left out; ``pictures`` are the prompt's. ``log_probs`` are those that
    another engine sampled the tokens with, where it did; one that it does not know is not a number.
    """

    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    finished: bool
    text: str = ""
    pictures: tuple[Picture, ...] = ()
    log_probs: tuple[float, ...] = ()

    @property
    def encoded(self) -> Encoded:
        """Prompt and sample as one sequence, the sample marked ``trained``."""
        trained = (False,) * len(self.prompt_ids) + (True,) * len(self.ids)
        return Encoded(self.prompt_ids + self.ids, trained, self.pictures)


def item_seed(seed: int, item: str, draw: int) -> int:
    """Return the seed of one draw for one item: a hash of run seed, item id and draw number."""
    return int(digest("seed", str(seed), item, str(draw)), 16)


@torch.no_grad()
def generate(
    backbone: Backbone,
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[int],
    sampling: Sampling,
    *,
    pictures: Sequence[tuple[Picture, ...]] | None = None,
) -> list[Rollout]:
    """Sample one completion a prompt with whatever adapter is on; no weights are merged.

    Rows that have ended leave the batch, so a long tail does not carry the finished ones along.

    Args:
        backbone: The model.
        prompts: Token ids, ending where the assistant speaks.
        seeds: One a prompt, see `item_seed`.
        sampling: Temperature and length.
        pictures: Those of each prompt, if there are any.

    Returns:
        One rollout a prompt, in order.
    """
    uniforms = np.stack([np.random.default_rng(seed).random(sampling.max_new_tokens) for seed in seeds])
    sampled: list[list[int]] = [[] for _ in prompts]
    finished = [False] * len(prompts)
    active = np.arange(len(prompts))
    shown = [()] * len(prompts) if pictures is None else pictures
    asked = list(zip((tuple(prompt) for prompt in prompts), shown, strict=True))
    places = {one: place for place, one in enumerate(dict.fromkeys(asked))}  # a prompt asked twice is read once
    growing = Continuation(
        backbone,
        [prompt for prompt, _ in places],
        sampling.temperature,
        rows=[places[one] for one in asked] if len(places) < len(asked) else None,
        pictures=[seen for _, seen in places],
    )
    for step in range(sampling.max_new_tokens):
        growing.look()
        chosen = growing.choose(torch.from_numpy(uniforms[active, step]))
        for row, token in zip(active.tolist(), chosen.tolist(), strict=True):
            sampled[row].append(token)
            finished[row] = token in backbone.end_ids
        active = active[growing.push(chosen).cpu().numpy()]
        if len(active) == 0:
            break
    said = [tokens[:-1] if done else tokens for tokens, done in zip(sampled, finished, strict=True)]
    return [
        Rollout(tuple(prompt), tuple(tokens), done, backbone.tokenizer.decode(spoken).strip(), seen)
        for prompt, tokens, done, spoken, seen in zip(prompts, sampled, finished, said, shown, strict=True)
    ]
