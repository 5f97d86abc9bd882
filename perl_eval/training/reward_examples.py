"""Rows as reward models read them: what is scored, and what is known of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from perl_eval.errors import UserError
from perl_eval.models.backbone import Backbone
from perl_eval.models.cutting import Cuts
from perl_eval.models.reward_model import RewardScorer
from perl_eval.models.tokenize import Encoded, encode_dialogue
from perl_eval.records import Message, Score
from perl_eval.sources import rows
from perl_eval.sources.rows import Row

__all__ = ["NEED", "Example", "encoded", "held_out_scores", "kind_of"]


@dataclass(frozen=True, slots=True)
class Example:
    """One training example: the sequences whose rewards enter its loss, and the label (ratings only)."""

    row: Row
    sequences: tuple[Encoded, ...]
    label: float

    @property
    def length(self) -> int:
        """Tokens of the longest sequence."""
        return max(len(sequence.ids) for sequence in self.sequences)


NEED = {"pointwise": ("completion", "label"), "pairwise": ("chosen", "rejected")}
"""The columns that each loss reads."""


def kind_of(
    data: Path, split: str, loss: Literal["", "pointwise", "pairwise"] = ""
) -> Literal["pointwise", "pairwise"]:
    """Return the loss that was asked for, or that fits the columns.

    Raises:
        UserError: The rows are neither ratings nor preferences.
    """
    if loss:
        return loss
    present = rows.columns(data, split)
    if not present:
        rows.read(data, split)  # says what is wrong with it
    if "label" in present:
        return "pointwise"
    if {"chosen", "rejected"} & present:
        return "pairwise"
    raise UserError("the rows are neither ratings nor preferences", "give a config with label, or chosen and rejected")


def encoded(
    backbone: Backbone, found: Sequence[Row], kind: str, max_tokens: int, cuts: Cuts | None = None
) -> list[Example]:
    """Return rows as the reward model reads them: one sequence each (pointwise), or chosen and rejected.

    Args:
        backbone: What reads them.
        found: The rows.
        kind: The loss.
        max_tokens: The most tokens of a sequence.
        cuts: Counts what is cut.

    Raises:
        UserError: What is rated or preferred does not end with what the assistant says.
    """

    def encode(row: Row, name: str) -> Encoded:
        answer: Sequence[Message] = getattr(row, name)
        if not answer or answer[-1].role != "assistant":
            what = f"row {row.id}: {name} does not end with what the assistant says, which is what is scored"
            raise UserError(what, "end it with an assistant's turn, or leave the row out")
        return encode_dialogue(
            backbone.processor, row.prompt, answer, max_tokens=max_tokens, pictures=row.images, cuts=cuts
        )

    if kind == "pointwise":
        return [Example(row, (encode(row, "completion"),), float(bool(row.label))) for row in found]
    return [Example(row, (encode(row, "chosen"), encode(row, "rejected")), 1.0) for row in found]


def held_out_scores(scorer: RewardScorer, examples: Sequence[Example], kind: str) -> list[Score]:
    """Return the raw reward of every answer: metric ``reward``, or ``reward chosen`` and ``reward rejected``."""
    metrics = ("reward",) if kind == "pointwise" else ("reward chosen", "reward rejected")
    flat = iter(scorer.logits([sequence for example in examples for sequence in example.sequences]))
    return [
        Score(example.row.id, example.row.id, example.row.group, "", metric, next(flat))
        for example in examples
        for metric in metrics
    ]
