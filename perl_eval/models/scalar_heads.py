"""Scalar heads on a backbone: what reads a reward or a value out of its hidden states."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from perl_eval.models.checkpoint_folder import new_head, read_head, write_head

__all__ = ["ScalarHeads"]


class ScalarHeads(dict[str, nn.Linear]):
    """Heads by the name of the adapter that they belong to, each (states x width -> 1) in float32.

    Args:
        width: Hidden size of the backbone.
        device: Where its weights are.
    """

    def __init__(self, width: int, device: torch.device) -> None:
        super().__init__()
        self._width, self._device = width, device

    def fresh(self, name: str, *, states: int = 1, seed: int | None = None) -> None:
        """Make a head that reads so many states side by side: at zero, or drawn by a seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed or 0)
            head = new_head(states * self._width)
        if seed is None:
            nn.init.zeros_(head.weight)
        self.put(name, head)

    def like(self, other: str, name: str) -> None:
        """Make a head at zero that reads as many states as another."""
        self.fresh(name, states=self[other].in_features // self._width)

    def put(self, name: str, head: nn.Linear) -> None:
        """Take a head; it learns nothing until it is told to."""
        self[name] = head.to(self._device).requires_grad_(False)

    def load(self, name: str, folder: Path) -> None:
        """Read a saved head.

        Raises:
            DataError: The folder has none of this width.
        """
        self.put(name, read_head(folder, self._width))

    def save(self, name: str, folder: Path) -> None:
        """Write a head, if there is one of that name."""
        if name in self:
            write_head(self[name], folder)

    def scalars(self, name: str, hidden: torch.Tensor) -> torch.Tensor:
        """Return a head's output in float32, one scalar a position of the states, (..., states x width)."""
        result: torch.Tensor = self[name](hidden.float()).squeeze(-1)
        return result
