"""Prompts that several sequences of a batch begin with, read once.

The two answers of a preference, or a prompt's samples in RL, differ only where the assistant speaks. In a shared batch
a row is a prompt and every continuation of it, one after another: each continuation sees the prompt and itself, at the
positions it would have alone. So the model goes through the prompt once, and on the way back too.
"""

from __future__ import annotations

from collections.abc import Callable
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


def shared(batch: PaddedBatch) -> SharedBatch | None:
    """Return a batch with common prompts together, or None where that spares too little.

    Args:
        batch: Padded after the tokens; a prompt is what stands before the first ``trained`` token.
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
    if len(families) * size > _WORTH * batch.ids.numel():
        return None
    ids = torch.full((len(families), size), int(batch.ids[0, 0]))
    positions, places = torch.zeros_like(ids), torch.zeros_like(batch.ids)
    sees = torch.eye(size, dtype=torch.bool).repeat(len(families), 1, 1)  # padding sees itself: a softmax needs some
    for index, (prompt, rows) in enumerate(families.items()):
        begin, end = len(prompt), len(prompt)
        ids[index, :begin] = batch.ids[rows[0], :begin]
        positions[index, :begin] = torch.arange(begin)
        sees[index, :begin, :begin] = torch.ones(begin, begin, dtype=torch.bool).tril()
        for row in rows:
            count = lengths[row] - begin
            own = slice(end, end + count)
            ids[index, own] = batch.ids[row, begin : lengths[row]]
            positions[index, own] = torch.arange(begin, lengths[row])
            sees[index, own, :begin] = True
            sees[index, own, own] = torch.ones(count, count, dtype=torch.bool).tril()
            places[row, :begin] = index * size + torch.arange(begin)
            places[row, begin : lengths[row]] = index * size + torch.arange(own.start, own.stop)
            end = own.stop
    return SharedBatch(ids, sees.unsqueeze(1), positions, places)


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
