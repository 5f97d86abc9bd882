"""What a model says after a prompt, as a function of the prompt alone.

Matrix products of another shape add up in another order, so a model's answer changes in its last bits, in bfloat16 in
its second digit, with whatever a prompt is computed with. Here every prompt goes through by itself, cut into parts
at fixed places. What was read of an earlier prompt that begins alike is taken up where a part ends, which changes
nothing; and no more tokens than a part has go through the model at once.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch

from perl_eval.models.families import cache_argument

__all__ = ["PromptReader", "ReadPrompt", "parts_of"]

_ROUNDING = 0.05
"""How far logits may move, as a share of the largest, by being computed in parts, in bfloat16 too."""
_REFUSALS = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, NotImplementedError)
"""What models raise that cannot go on from what they have read with more than one token."""


@dataclass(frozen=True, slots=True, eq=False)
class ReadPrompt:
    """A prompt as the model gets it.

    Attributes:
        ids: Shape (tokens,); the answer would come next.
        inputs: What else the model is given, pixels among them; entries of shape (1, tokens) are cut as the ids are.
        pictures: Names of the pictures: prompts of equal ids and pictures are the same.
    """

    ids: torch.Tensor
    inputs: Mapping[str, torch.Tensor] = field(default_factory=dict)
    pictures: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[bytes, tuple[str, ...]]:
        """What two prompts share that are the same."""
        return self.ids.numpy().tobytes(), self.pictures


def parts_of(prompt: ReadPrompt, size: int, picture_token: int | None = None) -> list[int]:
    """Return where the parts of a prompt end; every part but the first and last has ``size`` tokens.

    The first is longer where it takes that to hold all pictures.
    """
    count, first = len(prompt.ids), size
    if prompt.inputs and picture_token is not None:
        seen = (prompt.ids == picture_token).nonzero()
        last = int(seen[-1]) + 1 if len(seen) else 0
        first = max(size, -(-last // size) * size)
    elif prompt.inputs:
        return [count]
    return [*range(first, count, size), count]


class PromptReader:
    """A model that reads prompts one after the other.

    Args:
        model: A causal language model, on its device, in evaluation mode.
        size: Tokens of a part.
    """

    def __init__(self, model: Any, size: int) -> None:
        self._model, self._size = model, size
        self._cache = cache_argument(model)
        self._picture = getattr(model.config, "image_token_id", getattr(model.config, "image_token_index", None))
        self._checked = False

    def logits(self, prompts: Sequence[ReadPrompt]) -> Iterator[torch.Tensor]:
        """Yield the logits of the next token after each prompt, shape (vocabulary,), on the CPU.

        Args:
            prompts: Those that begin alike should be neighbours.
        """
        keys = [prompt.key for prompt in prompts]
        distinct = dict(zip(keys, prompts, strict=True))
        following = pairwise([*distinct.values(), None])
        known: dict[object, torch.Tensor] = {}
        left: tuple[int, Any] = (0, None)
        for key in keys:
            if key not in known:
                prompt, later = next(following)
                assert prompt is not None
                known[key], left = self._read(prompt, left, later)
            yield known[key]

    @torch.no_grad()
    def _read(
        self, prompt: ReadPrompt, begun: tuple[int, Any], later: ReadPrompt | None
    ) -> tuple[torch.Tensor, tuple[int, Any]]:
        """Read one prompt.

        Args:
            prompt: Which.
            begun: How many of its tokens are read, and what to go on from; this is used up.
            later: The prompt that comes next.

        Returns:
            The logits, and what is read of the next prompt.
        """
        self._check()
        ends = parts_of(prompt, self._size, self._picture)
        start, cache = begun
        shared = 0 if later is None else self._shared(prompt, later)
        kept: tuple[int, Any] = (0, None)
        if shared and shared == start:
            kept = (shared, copy.deepcopy(cache))
        logits = torch.empty(0)
        for end in ends[ends.index(start) + 1 if start else 0 :]:
            logits, cache = self._step(prompt, slice(start, end), cache)
            start = end
            if end == shared:
                kept = (shared, copy.deepcopy(cache))
        return logits.cpu(), kept

    def _step(self, prompt: ReadPrompt, part: slice, cache: Any) -> tuple[torch.Tensor, Any]:
        device, whole = self._model.device, len(prompt.ids)
        given = {}
        for name, value in prompt.inputs.items():
            if value.shape == (1, whole):  # one entry a token
                given[name] = value[:, part].to(device)
            elif cache is None:
                given[name] = value.to(device)
        seen = self._model(
            input_ids=prompt.ids[None, part].to(device),
            attention_mask=torch.ones(1, part.stop, dtype=torch.long, device=device),
            use_cache=True,
            logits_to_keep=1,
            **{self._cache: cache},
            **given,
        )
        return seen.logits[0, -1], seen[self._cache]

    def _check(self) -> None:
        """Read whole prompts at once if the model does not go on from a part as it should (recurrent ones may not)."""
        if self._checked:
            return
        self._checked = True
        tokens = ReadPrompt(torch.arange(12) % 7)
        whole, _ = self._step(tokens, slice(0, 12), None)
        try:
            _, cache = self._step(tokens, slice(0, 5), None)
            parted, _ = self._step(tokens, slice(5, 12), copy.deepcopy(cache))
        except _REFUSALS:
            self._size = 2**31
            return
        if not bool((whole - parted).abs().max() <= _ROUNDING * whole.abs().max()):
            self._size = 2**31

    def _shared(self, prompt: ReadPrompt, other: ReadPrompt) -> int:
        """Return where the last part ends that two prompts have in common and after which both go on."""
        ends, others = (parts_of(one, self._size, self._picture) for one in (prompt, other))
        if prompt.pictures != other.pictures or bool(prompt.inputs) != bool(other.inputs):
            return 0
        most = min(len(prompt.ids), len(other.ids)) - 1
        alike = int((prompt.ids[:most] == other.ids[:most]).long().cumprod(0).sum())
        return max((end for end in {*ends} & {*others} if end <= alike), default=0)
