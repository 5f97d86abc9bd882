"""Prompts that several sequences of a batch begin with, read once.

The two answers of a preference, or a prompt's samples in RL, differ only where the assistant speaks. In a shared batch
a row is a prompt and every continuation of it, one after another: each continuation sees the prompt and itself, at the
positions it would have alone. So the model goes through the prompt once, and on the way back too. In a packed batch
a row is several of these, and none sees another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from perl_eval.models.tokenize import PaddedBatch

__all__ = ["SharedBatch", "can_share", "obeys_masks", "shared"]

_WORTH = 0.9
"""Sharing must spare a tenth of the tokens at least, padding counted."""
_ROUNDING = 0.05
"""How far hidden states may move, as a share of the largest, by being computed in another order, in bfloat16 too."""


@dataclass(frozen=True, slots=True)
class SharedBatch:
    """Rows of a prompt and its continuations. R rows of S tokens, for B sequences of T tokens.

    Attributes:
        ids: (R, S).
        sees: (R, 1, S, S), True where a token (third axis) sees another (fourth).
        positions: (R, S), position ids.
        places: (B, T), where each token stands among the R x S; padding is anywhere.
    """

    ids: torch.Tensor
    sees: torch.Tensor
    positions: torch.Tensor
    places: torch.Tensor

    def apart(self, states: torch.Tensor) -> torch.Tensor:
        """Return states, (R, S, width), as the sequences have them, (B, T, width)."""
        return states.flatten(0, 1)[self.places.to(states.device)]


def shared(batch: PaddedBatch, *, pack: bool = False) -> SharedBatch | None:
    """Return a batch with common prompts together, or None where that spares too little.

    Args:
        batch: Padded after the tokens; a prompt is what stands before the first ``trained`` token.
        pack: Put prompts that have nothing in common into one row too, as many as fit, so that little is padding. None
            sees another, and each has the positions that it would have alone.
    """
    if batch.pictures or not bool(batch.live[:, 0].all()):
        return None
    lengths = batch.live.sum(1).tolist()
    begins = torch.where(batch.trained.any(1), batch.trained.long().argmax(1), batch.live.sum(1)).tolist()
    families: dict[tuple[int, ...], list[int]] = {}
    for row, begin in enumerate(begins):
        families.setdefault(tuple(batch.ids[row, :begin].tolist()), []).append(row)
    sizes = [len(prompt) + sum(lengths[row] - len(prompt) for row in rows) for prompt, rows in families.items()]
    size = max(sizes)
    bins = _bins(sizes, size) if pack else [[place] for place in range(len(sizes))]
    if len(bins) * size > _WORTH * batch.ids.numel():
        return None
    ids = torch.full((len(bins), size), int(batch.ids[0, 0]))
    positions, places = torch.zeros_like(ids), torch.zeros_like(batch.ids)
    sees = torch.eye(size, dtype=torch.bool).repeat(len(bins), 1, 1)  # padding sees itself: a softmax needs some
    found = list(families.items())
    for index, members in enumerate(bins):
        end = 0
        for family in members:
            prompt, rows = found[family]
            start, begin = end, len(prompt)
            head = slice(start, start + begin)
            ids[index, head] = batch.ids[rows[0], :begin]
            positions[index, head] = torch.arange(begin)
            sees[index, head, head] = torch.ones(begin, begin, dtype=torch.bool).tril()
            end += begin
            for row in rows:
                count = lengths[row] - begin
                own = slice(end, end + count)
                ids[index, own] = batch.ids[row, begin : lengths[row]]
                positions[index, own] = torch.arange(begin, lengths[row])
                sees[index, own, head] = True
                sees[index, own, own] = torch.ones(count, count, dtype=torch.bool).tril()
                places[row, :begin] = index * size + torch.arange(head.start, head.stop)
                places[row, begin : lengths[row]] = index * size + torch.arange(own.start, own.stop)
                end = own.stop
    return SharedBatch(ids, sees.unsqueeze(1), positions, places)


def _bins(sizes: Sequence[int], room: int) -> list[list[int]]:
    """Return which sizes go together so that none are more than the room: the largest first, each where it first fits.

    Source: Johnson (1974), first fit decreasing: at most 11/9 of the least number, and 6/9 of one.
    """
    bins: list[list[int]] = []
    left: list[int] = []
    for place in sorted(range(len(sizes)), key=lambda one: -sizes[one]):
        chosen = next((number for number, free in enumerate(left) if free >= sizes[place]), len(bins))
        if chosen == len(bins):
            bins.append([])
            left.append(room)
        bins[chosen].append(place)
        left[chosen] -= sizes[place]
    return bins


def can_share(config: Any) -> bool:
    """Return whether every layer sees as a mask says: plain attention, over the whole length, by torch's kernels.

    Args:
        config: Of the language model.
    """
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    narrow = any(getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))
    return getattr(config, "_attn_implementation", "") == "sdpa" and layers == {"full_attention"} and not narrow


def obeys_masks(states: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]) -> bool:
    """Return whether a model reads two continuations of a prompt together as it reads them apart.

    Args:
        states: Hidden states, (rows, length, width), from ids, a mask and position ids, each (rows, length), or the
            mask (rows, 1, length, length).
    """
    ids = torch.tensor([[1, 2, 3, 4, 5, 6, 1], [1, 2, 3, 4, 2, 5, 3]])
    spoken = torch.tensor([[False] * 4 + [True] * 3] * 2)
    batch = PaddedBatch(ids, torch.ones_like(spoken), spoken)
    together = shared(batch)
    assert together is not None
    alone = states(ids, batch.live.long(), batch.positions)
    found = together.apart(states(together.ids, together.sees, together.positions))
    return bool((alone - found).abs().max() < _ROUNDING * alone.abs().max())
