"""Sequences that grow together, a token at a time, on the model's cache; those that end leave the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from perl_eval.models.backbone import Backbone
from perl_eval.models.families import cache_argument
from perl_eval.models.tokenize import Encoded, pad
from perl_eval.storage.images import Picture

__all__ = ["Continuation"]


class Continuation:
    """A batch of growing sequences, with whatever adapter is on when `look` is called.

    Each token takes `look`, if wanted `select`, `choose`, then `push`. Rows that have ended leave the batch, so a long
    tail does not carry the finished ones along; rows of one prompt can share its reading.

    Args:
        backbone: The model.
        prompts: Token ids, ending where the assistant speaks.
        temperature: Logits are divided by it; 0 takes the likeliest token.
        rows: Which prompt each row continues; default every prompt once. A prompt is read once, however many rows.
        hidden: Keep the last hidden state of every row.
        pictures: Those of each prompt, if there are any.
    """

    def __init__(
        self,
        backbone: Backbone,
        prompts: Sequence[Sequence[int]],
        temperature: float,
        *,
        rows: Sequence[int] | None = None,
        hidden: bool = False,
        pictures: Sequence[tuple[Picture, ...]] | None = None,
    ) -> None:
        shown = [()] * len(prompts) if pictures is None else pictures
        encoded = [
            Encoded(tuple(prompt), (False,) * len(prompt), seen) for prompt, seen in zip(prompts, shown, strict=True)
        ]
        batch = pad(encoded, pad_id=backbone.pad_id, left=True)
        device = backbone.device
        self.backbone, self.temperature, self._keeps = backbone, temperature, hidden
        self._ids, self._live = batch.ids.to(device), batch.live.to(device)
        self._seen, self._positions = backbone.seen(batch)
        self._fan = None if rows is None else torch.tensor(rows, dtype=torch.long, device=device)
        self._ends = torch.tensor(backbone.end_ids, device=device)
        self._cache: Any = None
        self._cache_name = cache_argument(backbone.causal)
        self.logits = torch.empty(0)
        self.hidden = torch.empty(0)

    def __len__(self) -> int:
        """Return the number of rows that still grow."""
        return len(self._live) if self._fan is None else len(self._fan)

    @torch.no_grad()
    def look(self) -> None:
        """Read the newest token of every row; sets ``logits``, (rows, vocabulary), and ``hidden`` if it is kept."""
        with self.backbone.autocast():
            output = self.backbone.causal(
                input_ids=self._ids,
                attention_mask=self._live.long(),
                position_ids=self._positions,
                use_cache=True,
                logits_to_keep=1,
                output_hidden_states=self._keeps,
                **{self._cache_name: self._cache},
                **self._seen,
            )
        self._cache, self._seen = output[self._cache_name], {}
        self.logits = self.backbone.silenced(output.logits[:, -1].float())
        if self._keeps:
            self.hidden = output.hidden_states[-1][:, -1].float()
        if self._fan is not None:
            fan, self._fan = self._fan, None
            self.select(fan)

    def select(self, rows: torch.Tensor) -> None:
        """Go on with these rows only, in this order; a row may occur more than once."""
        self._cache.batch_select_indices(rows)
        self._live, self._positions, self.logits = self._live[rows], self._positions[..., rows, :], self.logits[rows]
        if self._keeps:
            self.hidden = self.hidden[rows]

    def choose(self, uniforms: torch.Tensor) -> torch.Tensor:
        """Return the next token of each row, picked by a number in [0, 1) from the cumulative distribution."""
        if self.temperature == 0:
            return self.logits.argmax(-1)
        cumulative = torch.softmax(self.logits.double() / self.temperature, -1).cumsum(-1)
        points = uniforms.to(cumulative).unsqueeze(-1) * cumulative[:, -1:]
        places = torch.searchsorted(cumulative, points, right=True).squeeze(-1)
        return places.clamp(max=self.logits.shape[-1] - 1)

    def log_probs(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the log-probability of a next token for each row, in nats, at the temperature."""
        scaled = self.logits / self.temperature
        return scaled.gather(-1, tokens.unsqueeze(-1)).squeeze(-1) - scaled.logsumexp(-1)

    def push(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append a token to each row; rows that it ends leave. Returns who went on, the rows' former places."""
        going = (~torch.isin(tokens, self._ends)).nonzero().squeeze(-1)
        if len(going) < len(tokens):
            if len(going):
                self._cache.batch_select_indices(going)
            tokens, self._live, self._positions = tokens[going], self._live[going], self._positions[..., going, :]
        self._ids = tokens.unsqueeze(-1)
        self._live = torch.cat([self._live, torch.ones_like(self._ids, dtype=torch.bool)], dim=-1)
        self._positions = self._positions[..., -1:] + 1
        return going
