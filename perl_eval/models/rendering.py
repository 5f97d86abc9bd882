"""Dialogues as a chat template writes them, and the ids of what it wrote."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from jinja2 import TemplateError

from perl_eval.errors import UserError
from perl_eval.models.turn_marks import broken
from perl_eval.models.vision import Vision
from perl_eval.records import PICTURE, Message
from perl_eval.storage.images import Picture

__all__ = ["NO_TEMPLATE", "coming", "ids_of", "plain", "rendered"]

NO_TEMPLATE = "give one with --chat-template FILE to `train sft`, which keeps it with the model, to `sample` or `judge`"
"""What to do about a tokenizer without a chat template."""
_KEPT = ("system", "developer")
"""Whose turns some templates leave out without a word."""


def rendered(processor: Any, messages: Sequence[Message], *, open_turn: bool) -> str:
    """Return the dialogue as the chat template writes it, a mark for each picture.

    What is said must not end a turn or open another, so marks within a message are broken, see
    `perl_eval.models.turn_marks`.

    Args:
        processor: The model's tokenizer, or its `Vision`.
        messages: The dialogue.
        open_turn: Whether the assistant's next turn is opened after it.

    Raises:
        UserError: There is no dialogue or no template, or it refuses the dialogue, or leaves a system turn out.
    """
    if not messages:
        raise UserError("a dialogue begins with what the assistant says", "give a prompt that it answers")
    if isinstance(processor, Vision):
        return processor.rendered(messages, open_turn=open_turn)
    if processor.chat_template is None:
        raise UserError("the tokenizer has no chat template", NO_TEMPLATE)
    turns = [
        {"role": message.role, "content": broken(processor, message.content, message.role)} for message in messages
    ]
    try:
        text: str = processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=open_turn)
    except TemplateError as error:
        roles = ", ".join(message.role for message in messages)
        fix = "use another model, or --chat-template FILE with a template that takes it"
        raise UserError(f"the chat template refuses a dialogue of {roles} ({error})", fix) from None
    for turn in turns:
        if turn["role"] in _KEPT and turn["content"].strip() not in text:
            what = f"the chat template leaves out what the {turn['role']} turn says"
            raise UserError(what, "put it into the user's turn, or give --chat-template FILE with a template for it")
    return text


def ids_of(processor: Any, text: str, pictures: Iterator[Picture]) -> list[int]:
    """Return the ids of a rendered text; its marks take the next pictures."""
    if isinstance(processor, Vision):
        return processor.ids(text, pictures)
    ids: list[int] = processor(text, add_special_tokens=False)["input_ids"]
    return ids


def plain(processor: Any, messages: Sequence[Message]) -> list[Message]:
    """Return messages without pictures as text only, where a mark would ask for one."""
    if not isinstance(processor, Vision):
        return list(messages)
    return [replace(message, content=message.content.replace(PICTURE, " ")) for message in messages]


def coming(processor: Any, pictures: Sequence[Picture]) -> Iterator[Picture]:
    """Return a dialogue's pictures, one after another.

    Raises:
        UserError: There are some, and the model reads text only.
    """
    if pictures and not isinstance(processor, Vision):
        raise UserError("there are pictures, and the model reads text only", "give a vision-language model")
    return iter(pictures)
