"""Sampling from a backbone: batched, seeded item by item, plain ancestral sampling.

One uniform number a token, drawn from the item's own seed, picks the token by the inverse of the cumulative
distribution. So what an item gets does not depend on which other items are in its batch, or on their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from perl_eval.models.backbone import Backbone
from perl_eval.models.encode import Encoded, pad
from perl_eval.records import digest

__all__ = ["Rollout", "Sampling", "generate", "item_seed"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """Temperature (logits are divided by it; 0 takes the likeliest token) and the most tokens to sample."""

    temperature: float = 1.0
    max_new_tokens: int = 64


@dataclass(frozen=True, slots=True)
class Rollout:
    """Token ids as sampled, the end token included if it came; ``finished`` says whether it did."""

    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    finished: bool

    @property
    def encoded(self) -> Encoded:
        """Prompt and sample as one sequence, the sample marked ``trained``."""
        return Encoded(self.prompt_ids + self.ids, (False,) * len(self.prompt_ids) + (True,) * len(self.ids))


def item_seed(seed: int, item: str, draw: int) -> int:
    """Return the seed of one draw for one item: a hash of run seed, item id and draw number."""
    return int(digest("seed", str(seed), item, str(draw)), 16)


@torch.no_grad()
def generate(
    backbone: Backbone, prompts: Sequence[Sequence[int]], seeds: Sequence[int], sampling: Sampling
) -> list[Rollout]:
    """Sample one completion a prompt with whatever adapter is on; no weights are merged.

    Rows that have ended leave the batch, so a long tail does not carry the finished ones along.

    Args:
        backbone: The model.
        prompts: Token ids, ending where the assistant speaks.
        seeds: One a prompt, see `item_seed`.
        sampling: Temperature and length.

    Returns:
        One rollout a prompt, in order.
    """
    uniforms = np.stack([np.random.default_rng(seed).random(sampling.max_new_tokens) for seed in seeds])
    rows = [Encoded(tuple(prompt), (False,) * len(prompt)) for prompt in prompts]
    batch = pad(rows, pad_id=backbone.pad_id, left=True)
    sampled: list[list[int]] = [[] for _ in prompts]
    finished = [False] * len(prompts)
    active = torch.arange(len(prompts))
    device = backbone.device
    ends = torch.tensor(backbone.end_ids, device=device)
    ids, live, positions = batch.ids.to(device), batch.live.to(device), batch.positions.to(device)
    cache = None
    for step in range(sampling.max_new_tokens):
        with backbone.autocast():
            output = backbone.causal(
                input_ids=ids,
                attention_mask=live.long(),
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        cache = output.past_key_values
        chosen = _pick(output.logits[:, -1].float(), torch.from_numpy(uniforms[active.numpy(), step]), sampling)
        for row, token in zip(active.tolist(), chosen.tolist(), strict=True):
            sampled[row].append(token)
            finished[row] = token in backbone.end_ids
        going = (~torch.isin(chosen, ends)).nonzero().squeeze(-1)
        if len(going) == 0:
            break
        if len(going) < len(active):
            cache.batch_select_indices(going)
            active, chosen, live, positions = active[going.cpu()], chosen[going], live[going], positions[going]
        ids = chosen.unsqueeze(-1)
        live = torch.cat([live, torch.ones_like(ids, dtype=torch.bool)], dim=-1)
        positions = positions[:, -1:] + 1
    return [
        Rollout(tuple(prompt), tuple(tokens), done)
        for prompt, tokens, done in zip(prompts, sampled, finished, strict=True)
    ]


def _pick(logits: torch.Tensor, uniforms: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    if sampling.temperature == 0:
        return logits.argmax(-1)
    cumulative = torch.softmax(logits.double() / sampling.temperature, -1).cumsum(-1)
    points = uniforms.to(cumulative).unsqueeze(-1) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, points, right=True).squeeze(-1).clamp(max=logits.shape[-1] - 1)
