"""Dialogues to token ids, and token ids to padded batches.

Masks are named for what True means: ``live`` marks real tokens, ``trained`` marks tokens that a loss is taken on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from perl_eval.errors import UserError
from perl_eval.models.cutting import Cuts, begun_later, last_turn, last_word, shortened
from perl_eval.models.rendering import NO_TEMPLATE, coming, ids_of, plain, rendered
from perl_eval.models.vision import Vision
from perl_eval.records import PICTURE, Message
from perl_eval.storage.images import Picture

__all__ = [
    "NO_TEMPLATE",
    "Encoded",
    "PaddedBatch",
    "encode_dialogue",
    "encode_prompt",
    "encode_turns",
    "end_of_turn",
    "least_prompt",
    "own_pad",
    "pad",
]

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
    processor: Any,
    messages: Sequence[Message],
    *,
    max_tokens: int,
    pictures: Sequence[Picture] = (),
    cuts: Cuts | None = None,
) -> tuple[int, ...]:
    """Encode a dialogue up to the point where the assistant speaks.

    One that is too long loses its oldest turns, but for system turns, and then the first words of what the user said
    last; see `perl_eval.models.cutting`.

    Args:
        processor: The model's tokenizer, or its `Vision`.
        messages: The dialogue.
        max_tokens: The most tokens to keep.
        pictures: One for each place (`perl_eval.records.PICTURE`) in the messages, in order.
        cuts: Counts what is cut.

    Raises:
        UserError: Places and pictures do not match, a picture would be cut, or there is no room for a word.
    """
    said = messages if pictures else plain(processor, messages)
    ids = _opened(processor, said, pictures)
    whole = len(ids)
    if whole > max_tokens:
        _keep_pictures(processor, whole, said)
        kept = begun_later(said, lambda some: len(_opened(processor, some, ())), max_tokens, max_tokens)
        ids = _opened(processor, kept, ())
    if cuts is not None:
        cuts.add(whole, len(ids))
    return tuple(ids)


def least_prompt(processor: Any, messages: Sequence[Message]) -> int:
    """Return the tokens of the shortest prompt that `encode_prompt` leaves: the head, and the last word."""
    return len(_opened(processor, last_word(plain(processor, messages)), ()))


def _opened(processor: Any, messages: Sequence[Message], pictures: Sequence[Picture]) -> list[int]:
    """Return the ids of a dialogue whose next turn, the assistant's, is opened."""
    shown = coming(processor, pictures)
    ids = ids_of(processor, rendered(processor, messages, open_turn=True), shown)
    _all_placed(processor, shown)
    return ids


def _all_placed(processor: Any, shown: Iterator[Picture]) -> None:
    if isinstance(processor, Vision) and any(True for _ in shown):
        raise UserError("there are more pictures than places in the dialogue", "give each picture a place")


def _keep_pictures(processor: Any, tokens: int, messages: Sequence[Message]) -> None:
    """Refuse to cut a dialogue with pictures."""
    if isinstance(processor, Vision) and any(PICTURE in message.content for message in messages):
        raise UserError(f"a dialogue of {tokens} tokens with pictures is too long", "raise max_tokens")


class _Rewritten(UserError):
    """The chat template writes earlier turns in another way once there are later ones."""


@dataclass
class _Dialogue:
    """A dialogue's ids, turn by turn; ``ends`` are the lengths up to each turn of the completion."""

    ids: list[int] = field(default_factory=list)
    trained: list[bool] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    def add(self, ids: Sequence[int], *, learned: int = 0) -> None:
        """Append ids, of which the first so many are learned."""
        self.ids += ids
        self.trained += [True] * learned + [False] * (len(ids) - learned)


def encode_dialogue(
    processor: Any,
    prompt: Sequence[Message],
    completion: Sequence[Message],
    *,
    max_tokens: int,
    pictures: Sequence[Picture] = (),
    cuts: Cuts | None = None,
) -> Encoded:
    """Encode a prompt and the turns that follow; the assistant's turns among the latter are marked ``trained``.

    Text is cut where turns begin and end before it is tokenized, so the ids of an assistant turn are those a model
    would have to sample after the header of its turn, the end token included; what a template writes after that
    token is not ``trained``, and is left out at the very end, where a sample would have ended. Turns after the
    assistant's last are left out.

    What is too long is cut at turns: a completion of several loses its last ones, and a prompt before a single answer
    its oldest (`encode_prompt`). An answer may take what the user's last turn leaves, and half of all at least; a
    longer one loses its last words, and its end token, as a sample that never ended. System turns stay.

    Where the template writes earlier turns in another way once there are later ones, as templates that leave out old
    thoughts do, the last of the assistant's turns alone is ``trained``, after all others as the template writes them
    then; `encode_turns` gives each turn so.

    Args:
        processor: The model's tokenizer, or its `Vision`.
        prompt: What was said before.
        completion: What follows; text only.
        max_tokens: The most tokens to keep.
        pictures: One for each place in the prompt, in order.
        cuts: Counts what is cut.

    Raises:
        UserError: The chat template does not write a turn as it opens one, or does not end an assistant's turn with
            the end token; places and pictures do not match, a picture would be cut, or there is no room for a word.
    """
    completion = _to_last_answer(completion)
    try:
        return _encoded(processor, prompt, completion, max_tokens, pictures, cuts)
    except _Rewritten:
        if len(completion) == 1:
            raise
        before = [*prompt, *completion[:-1]]
        return _encoded(processor, before, completion[-1:], max_tokens, pictures, cuts)


def encode_turns(
    processor: Any,
    prompt: Sequence[Message],
    completion: Sequence[Message],
    *,
    max_tokens: int,
    pictures: Sequence[Picture] = (),
    cuts: Cuts | None = None,
) -> list[Encoded]:
    """Encode a dialogue to be imitated: one sequence, or where the template rewrites earlier turns one for each answer.

    Each answer is then read after all that was said before it, as it would be when the model speaks.

    Args:
        processor: The model's tokenizer, or its `Vision`.
        prompt: What was said before.
        completion: What follows.
        max_tokens: The most tokens of a sequence.
        pictures: One for each place in the prompt, in order.
        cuts: Counts what is cut.

    Raises:
        UserError: As `encode_dialogue`.
    """
    completion = _to_last_answer(completion)
    try:
        return [_encoded(processor, prompt, completion, max_tokens, pictures, cuts)]
    except _Rewritten:
        answers = [place for place, turn in enumerate(completion) if turn.role == "assistant"]
        if len(completion) == 1:
            raise
    return [
        _encoded(processor, [*prompt, *completion[:place]], completion[place : place + 1], max_tokens, pictures, cuts)
        for place in answers
    ]


def _to_last_answer(completion: Sequence[Message]) -> Sequence[Message]:
    """Return a completion without what follows the assistant's last turn; all of it if the assistant says nothing."""
    ends = [place for place, turn in enumerate(completion) if turn.role == "assistant"]
    return completion[: ends[-1] + 1] if ends else completion


def _encoded(  # the private half of two functions with these arguments
    processor: Any,
    prompt: Sequence[Message],
    completion: Sequence[Message],
    max_tokens: int,
    pictures: Sequence[Picture],
    cuts: Cuts | None,
) -> Encoded:
    before = list(prompt) if pictures else plain(processor, prompt)
    after = plain(processor, completion)
    found = _dialogue(processor, before, after, pictures)
    whole = len(found.ids)
    if whole > max_tokens:
        _keep_pictures(processor, whole, before)
        found = _cut(processor, before, after, found, max_tokens)
    if cuts is not None:
        cuts.add(whole, len(found.ids))
    return Encoded(tuple(found.ids), tuple(found.trained), tuple(pictures))


def _dialogue(
    processor: Any, prompt: Sequence[Message], completion: Sequence[Message], pictures: Sequence[Picture]
) -> _Dialogue:
    """Return a dialogue's ids, however many they are."""
    tokenizer = processor.tokenizer if isinstance(processor, Vision) else processor
    end, shown = end_of_turn(tokenizer), coming(processor, pictures)
    turns, seen, found = [*prompt, *completion], "", _Dialogue()
    for index in range(len(prompt), len(turns)):
        whole = rendered(processor, turns[: index + 1], open_turn=False)
        if not whole.startswith(seen):
            raise _Rewritten("the tokenizer's chat template rewrites earlier turns", "use a template that only appends")
        if turns[index].role != "assistant":
            found.add(ids_of(processor, whole[len(seen) :], shown))
        else:
            opened = rendered(processor, turns[:index], open_turn=True)
            if not opened.startswith(seen):
                raise _Rewritten("the tokenizer's chat template rewrites earlier turns", "use one that only appends")
            if not whole.startswith(opened):
                raise UserError("the chat template does not write a turn as it opens one", "correct the template")
            found.add(ids_of(processor, opened[len(seen) :], shown))
            piece = ids_of(processor, whole[len(opened) :], shown)
            if end not in piece:
                raise UserError(
                    f"the chat template does not end a turn with the eos token {tokenizer.eos_token!r}",
                    "set the tokenizer's eos token to the one that ends a turn",
                )
            spoken = piece.index(end) + 1
            found.add(piece[:spoken] if index == len(turns) - 1 else piece, learned=spoken)
        found.ends.append(len(found.ids))
        seen = whole
    _all_placed(processor, shown)
    return found


def _cut(
    processor: Any, prompt: Sequence[Message], completion: Sequence[Message], whole: _Dialogue, max_tokens: int
) -> _Dialogue:
    """Return a dialogue that is too long cut to so many tokens, as `encode_dialogue` says."""
    answers = [place for place, turn in enumerate(completion) if turn.role == "assistant"]
    fitting = [place for place in answers if whole.ends[place] <= max_tokens]
    if fitting:
        return _dialogue(processor, prompt, completion[: fitting[-1] + 1], ())
    first = answers[0] if answers else len(completion) - 1
    before, answer = [*prompt, *completion[:first]], completion[first]

    def opened(some: Sequence[Message]) -> int:
        return len(_opened(processor, some, ()))

    spoken = _dialogue(processor, before, [answer], ())
    room = min(max(max_tokens - opened(last_turn(before)), max_tokens // 2), max_tokens - opened(last_word(before)))
    if sum(spoken.trained) > room:
        spoken = _shortened_answer(processor, before, answer, room)
    ids = [token for token, learned in zip(spoken.ids, spoken.trained, strict=True) if learned]
    left = max_tokens - len(ids)
    kept = _Dialogue()
    if opened(before) > left:
        before = begun_later(before, opened, left, max_tokens)
    kept.add(_opened(processor, before, ()))
    kept.add(ids, learned=len(ids))
    return kept


def _shortened_answer(processor: Any, before: Sequence[Message], answer: Message, room: int) -> _Dialogue:
    """Return an answer of which as many words are left as there is room for, without its end token."""

    def of(text: str) -> _Dialogue:
        found = _dialogue(processor, before, [replace(answer, content=text)], ())
        spoken = sum(found.trained)
        return _Dialogue(found.ids[:-1], [*found.trained[:-1]]) if spoken else found

    text = shortened(answer.content, lambda one: sum(of(one).trained) <= room, keep_end=False)
    return of(text)


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
