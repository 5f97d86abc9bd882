"""What a server's answers other than success mean, and which failures can pass.

Whether a failure can pass is said by its class alone, `perl_eval.errors.JudgeError.can_pass`; this is where a status
becomes a class.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from perl_eval.client.rate_limit_headers import retry_after_s
from perl_eval.errors import JudgeError, OutOfCredit, RateLimited, Refused, TurnedAway

__all__ = ["Answer", "refusal_of", "said_in_reply"]

_LONGEST_MESSAGE = 300
_LONGEST_PARAM = 60
_QUOTA = ("insufficient_quota", "exceeded your current quota", "billing_hard_limit", "insufficient balance")
_TURNED_AWAY = (401, 403, 404)
_TRY_AGAIN = (408, 409, 425)


class Answer(NamedTuple):
    """What a server sent back: the names of the headers are in lower case."""

    status: int
    headers: dict[str, str]
    content: bytes


def refusal_of(answer: Answer, hide: Callable[[str], str]) -> JudgeError:
    """Return the error that a status other than success amounts to.

    Args:
        answer: What the server sent.
        hide: Takes our key out of what it says.
    """
    return _error(answer, _with_param(answer.content, hide(_message(answer.content)), hide), hide)


def said_in_reply(answer: Answer, reply: Any, hide: Callable[[str], str]) -> JudgeError | None:
    """Return the error that a server reports inside an answer that says success, or None if there is none.

    Args:
        answer: What the server sent.
        reply: Its JSON.
        hide: Takes our key out of what it says.
    """
    error = reply.get("error") if isinstance(reply, dict) and not reply.get("choices") else None
    if not error:
        return None
    code = error.get("code") if isinstance(error, dict) else None
    status = code if isinstance(code, int) and 400 <= code < 600 else 500
    return _error(answer._replace(status=status), hide(_message_of(reply)), hide)


def _error(answer: Answer, message: str, hide: Callable[[str], str]) -> JudgeError:
    status, said = answer.status, f"{answer.status}: {message}"[:_LONGEST_MESSAGE]
    if status == 402 or (status in (403, 429) and any(word in message.lower() for word in _QUOTA)):
        return OutOfCredit(said)
    if status == 429:
        return RateLimited(said, retry_after_s(answer.headers))
    if status in _TURNED_AWAY:
        return TurnedAway(f"the server answered {said}", "check key, address and model", forbidden=status == 403)
    if 300 <= status < 400:
        place = hide(answer.headers.get("location", "nowhere"))[:_LONGEST_MESSAGE]
        return TurnedAway(f"the server sends us on to {place}", "give that address, if you trust it")
    if status in _TRY_AGAIN or status >= 500 or status < 300:
        return JudgeError(said)
    return Refused(said)


def _with_param(content: bytes, message: str, hide: Callable[[str], str]) -> str:
    """Return a message, short enough to be shown, that names the parameter at fault if the server names it apart."""
    try:
        said: Any = json.loads(content)
    except (ValueError, RecursionError):
        return message
    error = said.get("error") if isinstance(said, dict) else None
    param = error.get("param") if isinstance(error, dict) else None
    if not isinstance(param, str) or not 0 < len(param) <= _LONGEST_PARAM or not param.isprintable():
        return message
    param = hide(param)
    kept = message[: _LONGEST_MESSAGE - _LONGEST_PARAM - 20]
    return kept if param in kept else f"{kept} (param: {param})"


def _message(content: bytes) -> str:
    """Return what a server says is wrong, in one line."""
    text = content.decode("utf-8", "replace")
    try:
        said: Any = json.loads(text)
    except (ValueError, RecursionError):
        said = text
    return _message_of(said)


def _message_of(said: Any) -> str:
    code = ""
    for name in ("error", "message", "detail"):
        if isinstance(said, dict) and said.get(name):
            code = said["code"] if isinstance(said.get("code"), str) else code
            said = said[name]
    try:
        shown = said if isinstance(said, str) else json.dumps(said)
    except RecursionError:
        shown = "an error that nests too deep"
    shown = f"{shown} ({code})" if code and code not in shown else shown
    return " ".join("".join(char if char.isprintable() else " " for char in shown).split())
