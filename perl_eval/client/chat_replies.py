"""What a chat completion holds, whichever server sent it: text, thoughts, why it ended, and log-probabilities."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from perl_eval.client.reply import Finish
from perl_eval.errors import JudgeError

__all__ = ["Content", "content_of", "finish_of", "first_token", "is_cut_off", "is_known", "summed"]

_STOP = (
    "stop eos eos_token eot_id endoftext im_end stop_token finish normal null none end end_turn stop_sequence "
    "stop_str complete completed finished tool_calls tool_call tool_use function_call"
)
_LENGTH = (
    "length max_tokens max_length max_output_tokens max_new_tokens max_completion_tokens model_length "
    "token_limit output_limit error_limit maximum_tokens context_length context_length_exceeded "
    "model_context_window_exceeded incomplete truncated"
)
_REFUSAL = (
    "content_filter content_filtered content-filter refusal refused safety recitation blocklist "
    "prohibited_content spii language error_toxic safety_violation model_armor image_prohibited_content "
    "image_safety sensitive guardrail_intervened moderation"
)
_WENT_WRONG = (
    "error abort aborted cancelled canceled timeout timed_out failed failure network_error server_error "
    "internal_error user_cancel engine_error insufficient_system_resource overloaded engine_overloaded "
    "load_shed"
)
_PASSING = frozenset(_WENT_WRONG.split())
"""What went wrong at the server this time: the reply may be half of one, and another try a whole one."""
_FINISHES: dict[str, Finish] = {
    **dict.fromkeys(_STOP.split(), "stop"),
    **dict.fromkeys(_LENGTH.split(), "length"),
    **dict.fromkeys(_REFUSAL.split(), "refusal"),
}
_TEXTS = ("text", "output_text")
_THOUGHTS = ("thinking", "reasoning", "reasoning_text", "redacted_thinking", "summary_text")


class Content(NamedTuple):
    """What a message says.

    Attributes:
        text: The answer, as it came; it may hold thoughts of its own, see `perl_eval.client.thoughts`.
        thought: What the server set apart as thoughts.
    """

    text: str
    thought: str = ""


def finish_of(choice: Mapping[str, Any]) -> Finish:
    """Return why a reply ended; for a reason that is none of the known ones, ``other``: no clean stop.

    Raises:
        JudgeError: The server failed inside the reply; it may be half of one.
    """
    reason = choice.get("finish_reason")
    if reason is None:
        return "stop"
    if _name(reason) in _PASSING:
        raise JudgeError(f"the server ended the reply with {str(reason)[:40]}")
    return _FINISHES.get(_name(reason), "other")


def is_cut_off(choice: Mapping[str, Any]) -> bool:
    """Say whether a reply was ended because it was too long."""
    return _FINISHES.get(_name(choice.get("finish_reason"))) == "length"


def is_known(reason: Any) -> bool:
    """Say whether it is known what a server means by a finish reason."""
    return reason is None or _name(reason) in _FINISHES or _name(reason) in _PASSING


def _name(reason: Any) -> str:
    """Return a reason in lower case and with underscores: ``FinishReason.MAX_TOKENS`` is ``max_tokens``."""
    bare = re.sub(r"(?<=[a-z])(?=[A-Z])|[\s-]+", "_", str(reason).rpartition(".")[2].strip("<|> "))
    return bare.lower().removeprefix("finish_reason_")


def content_of(message: Mapping[str, Any]) -> Content:
    """Return the text and the thoughts of a message, whose content is text or a list of parts.

    Raises:
        TypeError: The content is neither.
    """
    content = message.get("content")
    apart = next((message[name] for name in ("reasoning_content", "reasoning") if message.get(name)), "")
    thought = apart if isinstance(apart, str) else ""
    if content is None or isinstance(content, str):
        return Content(content or "", thought)
    if isinstance(content, dict):
        content = content["parts"] if isinstance(content.get("parts"), list) else [content]
    if not isinstance(content, list):
        raise TypeError(f"content is a {type(content).__name__}")
    said = "".join(_words(part) for part in content if _type(part) in _TEXTS)
    thoughts = [_words(part) for part in content if _type(part) in _THOUGHTS]
    return Content(said, "\n".join([*([thought] if thought else []), *thoughts]))


def _type(part: Any) -> str:
    if isinstance(part, str):
        return "text"
    if isinstance(part, dict) and part.get("thought") is True:
        return "thinking"
    return str(part.get("type", "text")) if isinstance(part, dict) else ""


def _words(part: Any) -> str:
    """Return the words of a part; thoughts may be a list of parts in their turn."""
    if isinstance(part, str):
        return part
    held = next((part[name] for name in ("text", "thinking", "reasoning", "content") if part.get(name)), "")
    if isinstance(held, dict):
        held = held.get("value", "")
    if isinstance(held, list):
        return "".join(own if isinstance(own, str) else str(own.get("text", "")) for own in held)
    return str(held)


def first_token(logprobs: Any) -> tuple[tuple[str, float], ...]:
    """Return what could have stood first in a reply, each with its log-probability in nats; nothing if one is none.

    Servers send null or NaN for what they do not know; a probability made of the others would be wrong.
    """
    found = []
    for token, logprob in _first_tops(logprobs):
        if not _known(logprob):
            return ()
        found.append((str(token), float(logprob)))
    return tuple(found)


def _first_tops(logprobs: Any) -> list[tuple[Any, Any]]:
    """Return the tokens that could have stood first, and what is said of each; of chat or of completions."""
    if isinstance(logprobs, dict):
        listed = logprobs.get("content")
        listed = logprobs.get("top_logprobs") if listed is None else listed
    else:
        listed = logprobs
    first = listed[0] if isinstance(listed, list) and listed else None
    tops = first.get("top_logprobs", first) if isinstance(first, dict) else None
    if isinstance(tops, dict):
        return [] if "token" in tops else list(tops.items())
    tops = tops if isinstance(tops, list) else []
    return [(one["token"], one.get("logprob")) for one in tops if isinstance(one, dict) and "token" in one]


def summed(logprobs: Any, tokens: int | None) -> float | None:
    """Return the log-probability of a whole reply, in nats; None if not every token's is known."""
    listed = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not listed or len(listed) != tokens:
        return None
    own = [entry.get("logprob") if isinstance(entry, dict) else None for entry in listed]
    return math.fsum(float(one) for one in own if one is not None) if all(map(_known, own)) else None


def _known(logprob: Any) -> bool:
    return isinstance(logprob, int | float) and not isinstance(logprob, bool) and not math.isnan(logprob)
