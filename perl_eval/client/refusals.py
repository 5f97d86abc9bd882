"""What a server's answers other than success mean, and which failures can pass.

Whether a failure can pass is said by its class alone, `perl_eval.errors.JudgeError.can_pass`; this is where a status
becomes a class.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from perl_eval.client.rate_limit_headers import retry_after_s, told_s
from perl_eval.errors import JudgeError, OutOfCredit, RateLimited, Refused, TurnedAway

__all__ = ["Answer", "refusal_of", "said_in_reply"]

_LONGEST_MESSAGE = 300
_LONGEST_PARAM = 60
_MONEY = (
    *("credit balance is too low", "budget has been exceeded", "billing_hard_limit", "billing hard limit"),
    *("enable billing", "billing_not_active", "check your billing", "usage limits. you will regain", "spending limit"),
    *("used all available credits", "insufficient credit", "not enough credits", "arrearage", "key limit exceeded"),
)
"""What some servers say with a 400 to whoever has nothing left to pay with."""
_QUOTA = (*_MONEY, "insufficient_quota", "exceeded your current quota", "insufficient balance")
_BEGINNING = 200
"""Characters of a message in which its sender says what is wrong; what follows may quote the request."""
_TURNED_AWAY = (401, 403, 404)
_NO_ENTRY = ("api key not valid", "api key expired", "invalid api key", "incorrect api key", "user location is not")
"""What some servers say with a 400 to whoever is let in nowhere."""
_NO_SUCH_MODEL = re.compile(
    r"\binvalid model(?: name| id| identifier)?(?= passed|[.:'\"]| ['\"`]|$)"
    r"|\bis not a valid model(?: name| id)?\b|\bmodel not exist\b|\bno connected db\b",
    re.IGNORECASE,
)
"""What some servers say with a 400 of a model that they do not have: LiteLLM, OpenRouter, DeepSeek, Mistral.

LiteLLM's proxy without a database says so too, of a key that it does not know."""
_INVALID = re.compile(r"\d+ validation errors?:.{0,200}\('body', ", re.DOTALL)
"""What llama-cpp-python's server says with a 500 of a request that it does not take, such as one with a schema."""
_TRY_AGAIN = (408, 409, 424, 425, 498, 499)


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
    reply = reply[0] if isinstance(reply, list) and len(reply) == 1 else reply
    if not isinstance(reply, dict) or reply.get("choices") or not _says_error(reply):
        return None
    error = reply.get("error")
    status = _status_in(error if isinstance(error, dict) else reply)
    return _error(answer._replace(status=status), hide(_message_of(reply)), hide)


def _says_error(reply: dict[str, Any]) -> bool:
    """Say whether a reply without a choice reports an error, in one of the forms that servers have for it."""
    told = any(isinstance(reply.get(name), str) for name in ("message", "msg", "detail"))
    failed = reply.get("success") is False or str(reply.get("status")).lower() in ("error", "failed", "failure")
    alone = set(reply) <= {"detail", "code", "message", "msg", "status", "title", "type", "request_id", "data"}
    kinds = (reply.get("object"), reply.get("type"))
    return bool(reply.get("error") or reply.get("errors") or "error" in kinds or failed or (told and alone))


def _status_in(error: dict[str, Any]) -> int:
    """Return the status that an error names, 500 if it names none."""
    code = str(error.get("code", ""))
    if code.isdecimal() and 400 <= int(code) < 600:
        return int(code)
    words = f"{error.get('type')} {error.get('status')} {code}".lower()
    return 429 if "rate_limit" in words or "resource_exhausted" in words or "too_many_requests" in words else 500


def _error(answer: Answer, message: str, hide: Callable[[str], str]) -> JudgeError:
    status = answer.status
    if status == 500 and _INVALID.match(message):
        status = 422
    said = f"{status}: {message.removesuffix(f' ({status})')}"[:_LONGEST_MESSAGE]
    wait_s = retry_after_s(answer.headers)
    wait_s = told_s(message) if wait_s is None else wait_s
    if status == 402 or _wants_money(status, message.lower(), waits=wait_s is not None):
        return OutOfCredit(said)
    if status == 429:
        return RateLimited(said, wait_s)
    beginning = message[:_BEGINNING].lower()
    if status in _TURNED_AWAY or (status == 400 and _lets_nobody_in(beginning)):
        return TurnedAway(f"the server answered {said}", "check key, address and model", forbidden=status == 403)
    if 300 <= status < 400:
        place = hide(answer.headers.get("location", "nowhere"))[:_LONGEST_MESSAGE]
        return TurnedAway(f"the server redirects to {place}", "give that address, if you trust it")
    if status in _TRY_AGAIN or status >= 500 or status < 300:
        error = JudgeError(said)
        error.starting = status == 503 and "loading" in message[:_BEGINNING].lower()
        return error
    return Refused(said)


def _lets_nobody_in(beginning: str) -> bool:
    """Say whether a server has no such model, or wants another key: what it says begins with that."""
    return any(word in beginning for word in _NO_ENTRY) or bool(_NO_SUCH_MODEL.search(beginning))


def _wants_money(status: int, message: str, *, waits: bool) -> bool:
    """Say whether a server wants money first; one that says when to come back means a rate, whatever it calls it."""
    if status == 400:
        return any(word in message[:_BEGINNING] for word in _MONEY)
    if status == 429 and waits and "insufficient_quota" not in message:
        return False
    return status in (403, 429) and any(word in message for word in _QUOTA)


def _with_param(content: bytes, message: str, hide: Callable[[str], str]) -> str:
    """Return a message, short enough to be shown, that names the parameter at fault if the server names it apart."""
    try:
        said: Any = json.loads(content)
    except (ValueError, RecursionError):
        return message
    error = said.get("error") if isinstance(said, dict) else None
    param = (error.get("param") or _violated(error)) if isinstance(error, dict) else None
    if not isinstance(param, str) or not 0 < len(param) <= _LONGEST_PARAM or not param.isprintable():
        return message
    param = hide(param)
    kept = message[: _LONGEST_MESSAGE - _LONGEST_PARAM - 20]
    return kept if param in kept else f"{kept} (param: {param})"


def _violated(error: dict[str, Any]) -> Any:
    """Return the field at fault, as Google's servers name it in an error's details."""
    details = error.get("details")
    for one in details if isinstance(details, list) else []:
        fields = one.get("fieldViolations") if isinstance(one, dict) else None
        if isinstance(fields, list) and fields and isinstance(fields[0], dict):
            return fields[0].get("field")
    return None


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
    said = said[0] if isinstance(said, list) and len(said) == 1 else said  # as Google's servers send it
    for name in ("error", "errors", "message", "detail", "msg"):
        if isinstance(said, dict) and said.get(name):
            code = said["code"] if isinstance(said.get("code"), str) else code
            said = said[name]
            said = said[0] if name == "errors" and isinstance(said, list) and len(said) == 1 else said
    try:
        shown = said if isinstance(said, str) else json.dumps(said)
    except RecursionError:
        shown = "an error that nests too deep"
    shown = f"{shown} ({code})" if code and code not in shown else shown
    return " ".join("".join(char if char.isprintable() else " " for char in shown).split())
