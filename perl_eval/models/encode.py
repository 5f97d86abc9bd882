"""Dialogues to token ids, and token ids to padded batches.

Masks are named for what True means: ``live`` marks real tokens, ``trained`` marks tokens that a loss is taken on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jinja2 import TemplateError

from perl_eval.errors import UserError
from perl_eval.records import Message

__all__ = ["Encoded", "PaddedBatch", "batch_of_step", "encode_dialogue", "encode_prompt", "end_of_turn", "pad"]


@dataclass(frozen=True, slots=True)
class Encoded:
    """One token sequence; ``trained[t]`` is True where token t is the assistant's, to be imitated or scored."""

    ids: tuple[int, ...]
    trained: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class PaddedBatch:
    """Sequences padded to one length; all tensors are (batch, length)."""

    ids: torch.Tensor
    live: torch.Tensor
    trained: torch.Tensor

    @property
    def positions(self) -> torch.Tensor:
        """Position ids counted over live tokens only, so that padding on either side changes nothing."""
        return (self.live.long().cumsum(-1) - 1).clamp(min=0)


def _rendered(tokenizer: Any, messages: Sequence[Message], *, open_turn: bool) -> str:
    """Return the dialogue as the chat template writes it.

    What is said must not end a turn or open another, so a special token's spelling within a message is broken by a
    space after its first character.
    """
    if tokenizer.chat_template is None:
        raise UserError("the tokenizer has no chat template", "give a chat model's tokenizer, or set a template")
    turns = []
    for message in messages:
        content = message.content
        for mark in tokenizer.all_special_tokens:
            content = content.replace(mark, f"{mark[:1]} {mark[1:]}")
        turns.append({"role": message.role, "content": content})
    try:
        text: str = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=open_turn)
    except TemplateError as error:
        roles = ", ".join(message.role for message in messages)
        raise UserError(f"the chat template refuses a dialogue of {roles} ({error})", "use another model") from None
    return text


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def end_of_turn(tokenizer: Any) -> int:
    """Return the id that ends an assistant turn.

    Raises:
        UserError: The tokenizer has no end-of-sequence token, or pads with it (the model would never learn to stop).
    """
    if tokenizer.eos_token_id is None:
        raise UserError("the tokenizer has no eos token", "set one")
    if tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
        raise UserError("the tokenizer's pad token is missing or is its eos token", "add a pad token of its own")
    return int(tokenizer.eos_token_id)


def encode_prompt(tokenizer: Any, messages: Sequence[Message], *, max_tokens: int) -> tuple[int, ...]:
    """Encode a dialogue up to the point where the assistant speaks; the oldest tokens are cut if it is too long."""
    return tuple(_ids(tokenizer, _rendered(tokenizer, messages, open_turn=True))[-max_tokens:])


def encode_dialogue(
    tokenizer: Any, prompt: Sequence[Message], completion: Sequence[Message], *, max_tokens: int
) -> Encoded:
    """Encode a prompt and the turns that follow; the assistant's turns among the latter are marked ``trained``.

    Text is cut where turns begin and end before it is tokenized, so the ids of an assistant turn are those a model
    would have to sample after the header of its turn, the end token included; what a template writes after that
    token is not ``trained``, and is left out at the very end, where a sample would have ended. The newest
    ``max_tokens`` are kept when the last turn alone is the completion, the oldest otherwise.

    Raises:
        UserError: The chat template rewrites earlier turns, so the parts cannot be told apart, or does not end an
            assistant's turn with the end token.
    """
    end = end_of_turn(tokenizer)
    turns = [*prompt, *completion]
    ids = _ids(tokenizer, _rendered(tokenizer, prompt, open_turn=False)) if prompt else []
    trained = [False] * len(ids)
    seen = _rendered(tokenizer, prompt, open_turn=False) if prompt else ""
    for index in range(len(prompt), len(turns)):
        whole = _rendered(tokenizer, turns[: index + 1], open_turn=False)
        if not whole.startswith(seen):
            raise UserError("the tokenizer's chat template rewrites earlier turns", "use a template that only appends")
        parts = [(whole[len(seen) :], False)]
        if turns[index].role == "assistant":
            opened = _rendered(tokenizer, turns[:index], open_turn=True)
            if not whole.startswith(opened):
                raise UserError("the chat template does not write a turn as it opens one", "mend the template")
            parts = [(opened[len(seen) :], False), (whole[len(opened) :], True)]
        for text, learned in parts:
            piece = _ids(tokenizer, text)
            if learned and end not in piece:
                raise UserError(
                    f"the chat template does not end a turn with the eos token {tokenizer.eos_token!r}",
                    "set the tokenizer's eos token to the one that ends a turn",
                )
            spoken = piece.index(end) + 1 if learned else 0
            if learned and index == len(turns) - 1:
                piece = piece[:spoken]
            ids += piece
            trained += [True] * spoken + [False] * (len(piece) - spoken)
        seen = whole
    keep = slice(-max_tokens, None) if len(completion) == 1 else slice(None, max_tokens)
    return Encoded(tuple(ids[keep]), tuple(trained[keep]))


def pad(rows: Sequence[Encoded], *, pad_id: int, left: bool = False) -> PaddedBatch:
    """Pad sequences to the longest of them: on the right, or on the left for generation.

    Args:
        rows: At least one sequence.
        pad_id: The id to pad with; masked everywhere.
        left: Pad before the tokens instead of after them.
    """
    length = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), length), pad_id, dtype=torch.long)
    live = torch.zeros((len(rows), length), dtype=torch.bool)
    trained = torch.zeros((len(rows), length), dtype=torch.bool)
    for index, row in enumerate(rows):
        span = slice(length - len(row.ids), length) if left else slice(0, len(row.ids))
        ids[index, span] = torch.tensor(row.ids, dtype=torch.long)
        live[index, span] = True
        trained[index, span] = torch.tensor(row.trained, dtype=torch.bool)
    return PaddedBatch(ids, live, trained)


def batch_of_step(lengths: Sequence[int], step: int, *, size: int, seed: int) -> list[int]:
    """Return the rows of one step's batch, a function of the step alone, so that a resumed run sees the same rows.

    Each epoch is a seeded permutation; within blocks of 16 batches rows of like length stand together, which spares
    padding, and the batches of a block come in random order. The last batch of an epoch may be smaller.
    """
    per_epoch = -(-len(lengths) // size)
    epoch, index = divmod(step, per_epoch)
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    block = 16 * size
    blocks = [order[start : start + block] for start in range(0, len(order), block)]
    ordered = np.concatenate([part[np.argsort(np.asarray(lengths)[part], kind="stable")] for part in blocks])
    batches = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    shuffled = random.permutation(per_epoch)
    return [int(row) for row in batches[shuffled[index]]]
