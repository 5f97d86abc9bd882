"""The chat backend: any OpenAI-compatible chat endpoint; the verdict is read from the text of the reply.

Providers of models are opened by their name, see `perl_eval.client.providers`: ``groq:MODEL`` is ``chat:MODEL`` with
that provider's address, the key from its variable, and without what it does not take. To the ledger both are the same.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from perl_eval.client import thoughts
from perl_eval.client.chat_replies import content_of, finish_of, first_token
from perl_eval.client.endpoint import Endpoint, Posted
from perl_eval.client.providers import LOGPROBS, PROVIDERS, LimitName, access
from perl_eval.client.reply import Reply
from perl_eval.client.reply_checks import checks_of
from perl_eval.client.usage import tokens_of
from perl_eval.errors import JudgeError, Refused, TimedOut, TurnedAway, UserError
from perl_eval.judges.backend_options import BackendOptions
from perl_eval.judges.protocol import Judge
from perl_eval.judges.readers import PatternReader, Reader, TextReader
from perl_eval.records import Question
from perl_eval.storage import images

__all__ = ["ChatJudge", "ChatOptions", "opened", "opened_at"]

_TOP_LOGPROBS = 20
# What a server may not take, and by which words its complaint is known.
_OPTIONS = (
    (frozenset({"temperature"}), ("temperature",)),
    (LOGPROBS, ("logprobs",)),
    (frozenset({"response_format"}), ("response_format", "json_schema", "structured output", "guided")),
)


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """How to talk to a chat endpoint.

    Attributes:
        base_url: Where it is; None is OpenAI's own.
        key_variable: Environment variable that holds the key; the key is kept nowhere else.
        temperature: Of sampling; None leaves it to the server.
        max_tokens: Longest reply; one that is cut off is asked for once more with twice as much.
        logprobs: Ask for the probabilities of the first token; not with reasoning, whose first token is not a verdict.
        structured: Ask for JSON with the verdict in it, by a schema. A server that takes neither goes on without.
        timeout_s: Longest wait for one reply.
        price_in_usd: Price of a million tokens in, if known.
        price_out_usd: Price of a million tokens out, if known.
        key_file: File that holds the key, instead of the variable.
        verdict_pattern: A regular expression by which replies are read, see `perl_eval.parse_verdict`.
        key_needed: Whether there must be a key at that address.
        limit_name: What the server calls the longest reply; one that says so is given the other name.
        not_taken: Options that are not sent, because the server is known not to take them.
    """

    base_url: str | None = None
    key_variable: str = "OPENAI_API_KEY"
    temperature: float | None = 0.0
    max_tokens: int = 512
    logprobs: bool = False
    structured: bool = False
    timeout_s: float = 60.0
    price_in_usd: float | None = None
    price_out_usd: float | None = None
    key_file: Path | None = None
    verdict_pattern: str | None = None
    key_needed: bool = False
    limit_name: LimitName = "max_tokens"
    not_taken: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Terms:
    """What a server takes: the name of the limit of a reply, and which options it does not."""

    limit_name: LimitName = "max_tokens"
    not_taken: frozenset[str] = frozenset()

    def without(self, complaint: str) -> _Terms:
        """Return the terms without what a complaint names."""
        if "max_completion_tokens" in complaint:
            sent = self.limit_name == "max_completion_tokens"
            return replace(self, limit_name="max_tokens" if sent else "max_completion_tokens")
        named = [names for names, parts in _OPTIONS if any(part in complaint for part in parts)]
        return replace(self, not_taken=self.not_taken.union(*named))

    def and_also(self, other: _Terms, begun: _Terms) -> _Terms:
        """Return the terms that give up what either does, with the name of the limit that was found out last.

        Args:
            other: What a request was answered with.
            begun: What it was sent with first.
        """
        name = other.limit_name if other.limit_name != begun.limit_name else self.limit_name
        return _Terms(name, self.not_taken | other.not_taken)


class ChatJudge(Judge):
    """A model behind a chat endpoint.

    Args:
        model: The model's name, as the server knows it.
        options: How to talk to it.

    Raises:
        UserError: No key is set, or the address is no plain http address.
    """

    backend = "chat"

    def __init__(self, model: str, options: ChatOptions | None = None) -> None:
        self.model = model
        self._options = options = options or ChatOptions()
        self.reader: Reader = (
            TextReader() if options.verdict_pattern is None else PatternReader(options.verdict_pattern)
        )
        self._endpoint = Endpoint(
            options.base_url,
            options.key_variable,
            options.timeout_s,
            options.price_in_usd,
            options.price_out_usd,
            options.key_file,
            options.key_needed,
        )
        # A reply that is cut off is asked for again, with twice the tokens.
        self.longest = 3 * options.max_tokens
        self.parameters: Mapping[str, object] = {
            "base_url": options.base_url,
            "temperature": options.temperature,
            "max_tokens": options.max_tokens,
            "logprobs": options.logprobs,
            "structured": options.structured,
        }
        self._odd: dict[str, str] = {}
        # Some servers want the limit under another name, or do not take an option; their 400 says so.
        self._terms = _Terms(options.limit_name, options.not_taken)

    async def ask(self, questions: Sequence[Question]) -> list[Reply]:
        """Send each question as one request."""
        return [await self._ask(question) for question in questions]

    def price_usd(self, tokens_in: float, tokens_out: float) -> float | None:
        """Return the price at the stated prices of a million tokens."""
        return self._endpoint.price_usd(tokens_in, tokens_out)

    async def close(self) -> None:
        """Close the connections; the next question opens new ones."""
        await self._endpoint.close()

    @property
    def endpoint(self) -> Endpoint:
        """Where the judge is, for other ways to send its requests."""
        return self._endpoint

    def request(self, question: Question, *, longer: bool = False) -> dict[str, object]:
        """Return the request of a question; a longer one may be answered with twice the tokens."""
        return self._body(question, self.reply_tokens(longer=longer), self._terms)

    def reply_tokens(self, *, longer: bool = False) -> int:
        """Return the tokens that one reply may take; a longer one twice as many."""
        return self._options.max_tokens * (2 if longer else 1)

    def reply(self, completion: Any) -> Reply:
        """Return the reply that a completion amounts to, however it came.

        Raises:
            JudgeError: It is none, or empty.
        """
        return self._reply(Posted(completion, None), 0.0, tokens_of(completion))

    async def _ask(self, question: Question) -> Reply:
        reply = await self._complete(question, self._options.max_tokens)
        if reply.finish != "length":
            return reply
        try:
            longer = await self._complete(question, 2 * self._options.max_tokens)
        except JudgeError as error:
            counted = (None, None) if reply.estimated else (reply.tokens_in, reply.tokens_out)
            error.paid = (counted, *(error.paid or ()))
            raise
        cost = None if reply.cost_usd is None or longer.cost_usd is None else reply.cost_usd + longer.cost_usd
        return Reply(
            text=longer.text,
            finish=longer.finish,
            logprobs=longer.logprobs,
            model=longer.model,
            tokens_in=reply.tokens_in + longer.tokens_in,
            tokens_out=reply.tokens_out + longer.tokens_out,
            latency_s=reply.latency_s + longer.latency_s,
            cost_usd=cost,
            estimated=reply.estimated or longer.estimated,
            left=longer.left,
        )

    async def _complete(self, question: Question, max_tokens: int) -> Reply:
        begun_s = time.perf_counter()
        try:
            body, posted = await self._send(question, max_tokens)
        except TimedOut as error:
            if error.paid == ((None, None),):
                error.paid = ((None, max_tokens),)  # nobody knows how long it is; it is no longer than that
            raise
        usage = tokens_of(posted.content)
        self.watch(body, posted.content, usage[0])
        return self._reply(posted, time.perf_counter() - begun_s, usage)

    async def _send(self, question: Question, max_tokens: int) -> tuple[dict[str, object], Posted]:
        """Send one request, without what the server says that it does not take.

        What is given up is given up for good once the server answers without it: a complaint may quote the question.
        """
        terms = begun = self._terms
        first: Refused | TurnedAway | None = None
        while True:
            body = self._body(question, max_tokens, terms)
            try:
                posted = await self._endpoint.post("/chat/completions", body)
            except (Refused, TurnedAway) as error:
                first, sent = first or error, terms
                terms = terms.without(str(error))
                if sent == terms or (terms.limit_name == begun.limit_name != sent.limit_name):
                    raise first from None
            else:
                if terms is not begun:
                    self._terms = self._terms.and_also(terms, begun)
                return body, posted

    def watch(self, body: Mapping[str, Any], completion: Any, tokens_in: int | None) -> None:
        """Note what the server does otherwise than asked, each kind once.

        Args:
            body: The request.
            completion: What came back.
            tokens_in: Tokens of the request, as the server counts them.
        """
        try:
            said = ""
            if "response_format" in body:
                said = thoughts.split(content_of(completion["choices"][0]["message"]).text).said
            seen = checks_of(body, completion, tokens_in, said)
        except (KeyError, IndexError, TypeError, AttributeError):
            return
        if seen:
            self._odd = {**seen, **self._odd}

    @property
    def noted(self) -> Mapping[str, object]:
        """What the server did not take, and what it did otherwise than asked."""
        given_up = sorted(self._terms.not_taken - self._options.not_taken)
        if self._terms.limit_name != self._options.limit_name:
            given_up.append(self._options.limit_name)
        return {
            **({"not_taken": given_up} if given_up else {}),
            **({"server": list(self._odd.values())} if self._odd else {}),
        }

    def _body(self, question: Question, max_tokens: int, terms: _Terms) -> dict[str, object]:
        body: dict[str, object] = {"model": self.model, "messages": _messages(question), terms.limit_name: max_tokens}
        return body | {name: value for name, value in self._wishes(question).items() if name not in terms.not_taken}

    def _wishes(self, question: Question) -> dict[str, object]:
        """Return the options that a server may refuse and still answer."""
        wishes: dict[str, object] = {}
        if self._options.temperature is not None:
            wishes["temperature"] = self._options.temperature
        if self._options.logprobs:
            wishes |= {"logprobs": True, "top_logprobs": _TOP_LOGPROBS}
        if self._options.structured:
            wishes["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "verdict", "strict": True, "schema": _schema(question)},
            }
        return wishes

    def concede(self, complaint: str) -> None:
        """Give up from now on what the server says that it does not take."""
        self._terms = self._terms.without(complaint)

    def _reply(self, posted: Posted, latency_s: float, usage: tuple[int | None, int | None]) -> Reply:
        """Read a reply; one that is no use is paid all the same, and its error says so."""
        try:
            return self._read(posted, latency_s, usage)
        except JudgeError as error:
            error.paid = (usage,)
            raise

    def _read(self, posted: Posted, latency_s: float, usage: tuple[int | None, int | None]) -> Reply:
        completion: Any = posted.content
        tokens_in, tokens_out = usage
        try:
            choice = completion["choices"][0]
            message = choice["message"]
            refusal = message.get("refusal")
            content = content_of(message)
            text = content.text or refusal or ""
            logprobs = first_token(choice.get("logprobs"))
            finish = "refusal" if refusal else finish_of(choice)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            raise JudgeError(f"the reply has an unexpected form: {type(error).__name__} {error}") from None
        if not isinstance(text, str) or (finish == "stop" and not text.strip()):
            raise JudgeError("the reply is thoughts without an answer" if content.thought else "the reply is empty")
        return Reply(
            text=text,
            finish=finish,
            logprobs=logprobs,
            model=str(completion.get("model", "")),
            tokens_in=tokens_in or 0,
            tokens_out=tokens_out or 0,
            latency_s=latency_s,
            cost_usd=None if tokens_in is None or tokens_out is None else self.price_usd(tokens_in, tokens_out),
            estimated=tokens_in is None or tokens_out is None,
            left=posted.left,
        )


def _messages(question: Question) -> list[dict[str, object]]:
    """Return the messages; pictures go before the text of the first one of the user."""
    messages: list[dict[str, object]] = [{"role": turn.role, "content": turn.content} for turn in question.messages]
    if question.images:
        first = next(message for message in messages if message["role"] == "user")
        pictures = [{"type": "image_url", "image_url": {"url": images.data_url(path)}} for path in question.images]
        first["content"] = [*pictures, {"type": "text", "text": first["content"]}]
    return messages


def _schema(question: Question) -> dict[str, object]:
    """Return the JSON schema of a reply: its reasons, where they are asked for, come before the verdict."""
    if question.scale is not None:
        verdict: tuple[str, dict[str, object]] = ("score", {"type": "integer", "enum": list(question.scale.levels)})
    else:
        words = ["A", "B", "tie"] if question.kind == "pairwise" else ["yes", "no"]
        verdict = ("verdict", {"type": "string", "enum": words})
    properties = dict([("reasons", {"type": "string"}), verdict] if question.reasoning else [verdict])
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def opened(name: str, options: BackendOptions) -> ChatJudge:
    """Open the judge ``chat:MODEL``."""
    return ChatJudge(name, _told(options))


def opened_at(provider: str, name: str, options: BackendOptions) -> ChatJudge:
    """Open a provider's model as a judge, such as ``groq:MODEL``.

    Raises:
        UserError: No key is set, or the provider gives no probabilities and they are asked for.
    """
    facts = PROVIDERS[provider]
    if options.verdict_by == "logprobs" and facts.not_taken & LOGPROBS:
        raise UserError(f"{provider} gives no log-probabilities", "leave out --verdict-by logprobs")
    found = access(provider, options.base_url, options.key_file)
    # OpenAI's own address is None, as with chat:MODEL, whose replies are then found in the ledger.
    own = found.base_url == PROVIDERS["openai"].base_url
    told = replace(
        _told(options),
        base_url=None if own else found.base_url,
        key_variable=found.key_variable,
        key_needed=found.key_needed,
        limit_name=facts.limit_name,
        not_taken=facts.not_taken,
    )
    return ChatJudge(name, told)


def _told(options: BackendOptions) -> ChatOptions:
    """Return what concerns a chat endpoint."""
    return ChatOptions(
        base_url=options.base_url,
        temperature=options.temperature,
        max_tokens=options.max_reply_tokens,
        logprobs=options.verdict_by == "logprobs",
        structured=options.verdict_by == "structured",
        timeout_s=options.timeout_s,
        price_in_usd=options.price_in_usd,
        price_out_usd=options.price_out_usd,
        key_file=options.key_file,
        verdict_pattern=options.verdict_pattern,
    )
