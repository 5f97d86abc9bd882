"""What a server does otherwise than it was asked to, seen from its replies: said once, in one line, on the run card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

from perl_eval.client.chat_replies import is_cut_off, is_known

__all__ = ["checks_of"]

_CHARACTERS_A_TOKEN = 8
"""More characters than this a token, over a long prompt, no tokenizer makes of language."""
_LONG = 4000


def checks_of(body: Mapping[str, Any], reply: Any, tokens_in: int | None, text: str) -> dict[str, str]:
    """Return what a reply shows of its server, each kind with a line for the user.

    Args:
        body: The request.
        reply: The JSON that came back.
        tokens_in: Tokens of the request, as the server counts them.
        text: What the reply says.
    """
    found = {}
    sent = sum([len(turn["content"]) for turn in body["messages"] if isinstance(turn["content"], str)])
    if tokens_in and sent > _LONG and sent > _CHARACTERS_A_TOKEN * tokens_in:
        found["truncated"] = (
            f"the server counts {tokens_in:,} tokens in a prompt of {sent:,} characters: it cuts prompts; "
            "give it a longer context"
        )
    choices = reply.get("choices") or [{}]
    if "response_format" in body and text.strip() and not _is_json(text) and not is_cut_off(choices[0]):
        found["schema"] = "the server takes response_format and does not follow it: replies are read as text"
    if body.get("logprobs") and "message" in choices[0] and not _has_logprobs(choices[0]):
        found["logprobs"] = "the server takes logprobs and gives none: there are no probabilities"
    reason = choices[0].get("finish_reason")
    if not is_known(reason):
        found["finish"] = f"the server ends replies with {str(reason)[:40]!r}, which is not known and no clean stop"
    served = str(reply.get("model") or "")
    if served and served != body["model"] and not _alike(str(body["model"]), served):
        found["model"] = f"the server was asked for {body['model']} and answers as {served}"
    return found


def _has_logprobs(choice: Mapping[str, Any]) -> bool:
    """Say whether a choice has log-probabilities at all; what they are worth is another question."""
    given = choice.get("logprobs")
    return bool(any(given.values()) if isinstance(given, dict) else given)


def _is_json(text: str) -> bool:
    begun = text[max(text.find("{"), 0) :].strip().strip("`").strip()
    try:
        return isinstance(json.JSONDecoder().raw_decode(begun)[0], dict)
    except (ValueError, RecursionError):
        return False


@lru_cache(maxsize=64)
def _alike(asked: str, served: str) -> bool:
    """Say whether two names can be of one model: servers add dates, folders and endings, or leave them out."""
    one, other = (
        "".join(char for char in PurePosixPath(name).name.lower() if char.isalnum()) for name in (asked, served)
    )
    return not one or not other or one in other or other in one
