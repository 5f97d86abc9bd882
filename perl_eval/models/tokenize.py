"""Dialogues to token ids, and token ids to padded batches.

Masks are named for what True means: ``live`` marks real tokens, ``trained`` marks tokens that a loss is taken on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jinja2 import TemplateError

from perl_eval.errors import UserError
from perl_eval.models.vision import Vision
from perl_eval.records import PICTURE, Message
from perl_eval.storage.images import Picture

__all__ = ["NO_TEMPLATE", "Encoded", "PaddedBatch", "encode_dialogue", "encode_prompt", "end_of_turn", "own_pad", "pad"]

NO_TEMPLATE = "give one with --chat-template FILE to `train sft`, which keeps it with the model, to `sample` or `judge`"
"""What to do about a tokenizer without a chat template."""
_PAD = re.compile(r"\W*(finetune_right_|fim_)?pad(_id)?\W*", re.IGNORECASE)
_SPARE = re.compile(r"\W*reserved_special_token_\d+\W*")


@dataclass(frozen=True, slots=True)
class Encoded:
    """One token sequence; ``trained[t]`` is True where token t is the assistant's, to be imitated or scored.

    ``pictures`` are those that its placeholders stand for, in order.
    """

    ids: tuple[int, ...]
    trained: tuple[bool, ...]
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True, slots=True)
class PaddedBatch:
    """Sequences padded to one length; all tensors are (batch, length). ``pictures`` are those of all rows, in order."""

    ids: torch.Tensor
    live: torch.Tensor
    trained: torch.Tensor
    pictures: tuple[Picture, ...] = ()

    @property
    def positions(self) -> torch.Tensor:
        """Position ids counted over live tokens only, so that padding on either side changes nothing."""
        return (self.live.long().cumsum(-1) - 1).clamp(min=0)


def _rendered(processor: Any, messages: Sequence[Message], *, open_turn: bool) -> str:
    """Return the dialogue as the chat template writes it, a mark for each picture.

    What is said must not end a turn or open another, so a special token's spelling within a message is broken by a
    space after its first character.
    """
    if isinstance(processor, Vision):
        return processor.rendered(messages, open_turn=open_turn)
    tokenizer = processor
    if tokenizer.chat_template is None:
        raise UserError("the tokenizer has no chat template", NO_TEMPLATE)
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


def _ids(processor: Any, text: str, coming: Iterator[Picture]) -> list[int]:
    """Return the ids of a rendered text; its marks take the next pictures."""
    if isinstance(processor, Vision):
        return processor.ids(text, coming)
    ids: list[int] = processor(text, add_special_tokens=False)["input_ids"]
    return ids


def _plain(processor: Any, messages: Sequence[Message]) -> list[Message]:
    """Return messages without pictures as text only, where a mark would ask for one."""
    if not isinstance(processor, Vision):
        return list(messages)
    return [replace(message, content=message.content.replace(PICTURE, " ")) for message in messages]


def _coming(processor: Any, pictures: Sequence[Picture]) -> Iterator[Picture]:
    if pictures and not isinstance(processor, Vision):
        raise UserError("there are pictures, and the model reads text only", "give a vision-language model")
    return iter(pictures)


def _check_cut(processor: Any, ids: Sequence[int], keep: slice, coming: Iterator[Picture]) -> None:
    """Refuse to leave out a picture, or a piece of one."""
    if not isinstance(processor, Vision):
        return
    if any(True for _ in coming):
        raise UserError("there are more pictures than places in the dialogue", "give each picture a place")
    if ids[keep].count(processor.placeholder) < ids.count(processor.placeholder):
        raise UserError(f"a dialogue of {len(ids)} tokens with pictures is too long", "raise max_tokens")


def own_pad(tokenizer: Any, config: Any) -> None:
    """Give a tokenizer that has no pad token, or pads with its eos token, another, and tell the model's config.

    Chosen is a special token that no dialogue holds and that the model has embeddings for: one that is named for
    padding, the unknown token, or a reserved one. Both are saved with the model, for those who load it without this
    package.

    Raises:
        UserError: There is no such token, or no end-of-sequence token.
    """
    if tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
        special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        named, reserved = ([one for one in special if kind.fullmatch(one)] for kind in (_PAD, _SPARE))
        taken = (None, tokenizer.eos_token, tokenizer.bos_token)
        spare = [one for one in (*named, tokenizer.unk_token, *reserved) if one not in taken]
        if spare:
            tokenizer.pad_token = spare[0]
            config.pad_token_id = tokenizer.pad_token_id
    end_of_turn(tokenizer)


def end_of_turn(tokenizer: Any) -> int:
    """Return the id that ends an assistant turn.

    Raises:
        UserError: The tokenizer has no end-of-sequence token, or pads with it (the model would never learn to stop).
    """
    if tokenizer.eos_token_id is None:
        raise UserError("the tokenizer has no eos token", "set one")
    if tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
        raise UserError(
            "the tokenizer's pad token is missing or is its eos token, and no special token could be one",
            "add a pad token, and a row for it to the embeddings",
        )
    return int(tokenizer.eos_token_id)


def encode_prompt(
    processor: Any, messages: Sequence[Message], *, max_tokens: int, pictures: Sequence[Picture] = ()
) -> tuple[int, ...]:
    """Encode a dialogue up to the point where the assistant speaks; the oldest tokens are cut if it is too long.

    Args:
        processor: The model's tokenizer, or its `Vision`.
        messages: The dialogue.
        max_tokens: The most tokens to keep.
        pictures: One for each place (`perl_eval.records.PICTURE`) in the messages, in order.

    Raises:
        UserError: Places and pictures do not match, or a picture would be cut.
    """
    coming, keep = _coming(processor, pictures), slice(-max_tokens, None)
    text = _rendered(processor, messages if pictures else _plain(processor, messages), open_turn=True)
    ids = _ids(processor, text, coming)
    _check_cut(processor, ids, keep, coming)
    return tuple(ids[keep])


def encode_dialogue(
    processor: Any,
    prompt: Sequence[Message],
    completion: Sequence[Message],
    *,
    max_tokens: int,
    pictures: Sequence[Picture] = (),
) -> Encoded:
    """Encode a prompt and the turns that follow; the assistant's turns among the latter are marked ``trained``.

    Text is cut where turns begin and end before it is tokenized, so the ids of an assistant turn are those a model
    would have to sample after the header of its turn, the end token included; what a template writes after that
    token is not ``trained``, and is left out at the very end, where a sample would have ended. The newest
    ``max_tokens`` are kept when the last turn alone is the completion, the oldest otherwise.

    Args:
        processor: The model's tokenizer, or its `Vision`.
        prompt: What was said before.
        completion: What follows; text only.
        max_tokens: The most tokens to keep.
        pictures: One for each place in the prompt, in order.

    Raises:
        UserError: The chat template rewrites earlier turns, so the parts cannot be told apart, or does not end an
            assistant's turn with the end token; places and pictures do not match, or a picture would be cut.
    """
    tokenizer = processor.tokenizer if isinstance(processor, Vision) else processor
    end, coming = end_of_turn(tokenizer), _coming(processor, pictures)
    turns = [*(prompt if pictures else _plain(processor, prompt)), *_plain(processor, completion)]
    seen = _rendered(processor, turns[: len(prompt)], open_turn=False) if prompt else ""
    ids = _ids(processor, seen, coming) if prompt else []
    trained = [False] * len(ids)
    for index in range(len(prompt), len(turns)):
        whole = _rendered(processor, turns[: index + 1], open_turn=False)
        if not whole.startswith(seen):
            raise UserError("the tokenizer's chat template rewrites earlier turns", "use a template that only appends")
        parts = [(whole[len(seen) :], False)]
        if turns[index].role == "assistant":
            opened = _rendered(processor, turns[:index], open_turn=True)
            if not whole.startswith(opened):
                raise UserError("the chat template does not write a turn as it opens one", "mend the template")
            parts = [(opened[len(seen) :], False), (whole[len(opened) :], True)]
        for text, learned in parts:
            piece = _ids(processor, text, coming)
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
    _check_cut(processor, ids, keep, coming)
    return Encoded(tuple(ids[keep]), tuple(trained[keep]), tuple(pictures))


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
    return PaddedBatch(ids, live, trained, tuple(picture for row in rows for picture in row.pictures))
