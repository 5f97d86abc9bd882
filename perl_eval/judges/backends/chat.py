"""The chat backend: any OpenAI-compatible chat endpoint; the verdict is read from the text of the reply."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from perl_eval.client.endpoint import Endpoint, Posted
from perl_eval.client.reply import Finish, Reply
from perl_eval.errors import JudgeError, Refused
from perl_eval.judges.backend_options import BackendOptions
from perl_eval.judges.protocol import Judge
from perl_eval.judges.readers import PatternReader, Reader, TextReader
from perl_eval.records import Question
from perl_eval.storage import images

__all__ = ["ChatJudge", "ChatOptions", "opened"]

_FINISHES: dict[str, Finish] = {"stop": "stop", "length": "length", "content_filter": "refusal"}
_TOP_LOGPROBS = 20
# What a server may not take, and by which words its complaint is known.
_OPTIONS = (
    (frozenset({"temperature"}), ("temperature",)),
    (frozenset({"logprobs", "top_logprobs"}), ("logprobs",)),
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
        logprobs: Ask for the probabilities of the first token; not with reasoning, whose first token is no verdict.
        structured: Ask for JSON with the verdict in it, by a schema. A server that takes neither goes on without.
        timeout_s: Longest wait for one reply.
        price_in_usd: Price of a million tokens in, if known.
        price_out_usd: Price of a million tokens out, if known.
        key_file: File that holds the key, instead of the variable.
        verdict_pattern: A regular expression by which replies are read, see `perl_eval.parse_verdict`.
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
        # Some servers want the limit under another name, or do not take an option; their 400 says so.
        self._limit_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
        self._not_taken: frozenset[str] = frozenset()

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
        return self._body(question, self.reply_tokens(longer=longer))

    def reply_tokens(self, *, longer: bool = False) -> int:
        """Return the tokens that one reply may take; a longer one twice as many."""
        return self._options.max_tokens * (2 if longer else 1)

    def reply(self, completion: Any) -> Reply:
        """Return the reply that a completion amounts to, however it came.

        Raises:
            JudgeError: It is none, or empty.
        """
        return self._reply(Posted(completion, None), 0.0)

    async def _ask(self, question: Question) -> Reply:
        reply = await self._complete(question, self._options.max_tokens)
        if reply.finish != "length":
            return reply
        longer = await self._complete(question, 2 * self._options.max_tokens)
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
            left=longer.left,
        )

    async def _complete(self, question: Question, max_tokens: int) -> Reply:
        begun_s = time.perf_counter()
        posted = await self._send(question, max_tokens)
        return self._reply(posted, time.perf_counter() - begun_s)

    async def _send(self, question: Question, max_tokens: int) -> Posted:
        """Send one request; options that the server does not take are given up."""
        while True:
            sent = (self._limit_name, self._not_taken)
            try:
                return await self._endpoint.post("/chat/completions", self._body(question, max_tokens))
            except Refused as error:
                self.concede(str(error))
                if sent == (self._limit_name, self._not_taken):
                    raise

    def _body(self, question: Question, max_tokens: int) -> dict[str, object]:
        body: dict[str, object] = {"model": self.model, "messages": _messages(question), self._limit_name: max_tokens}
        return body | {name: value for name, value in self._wishes(question).items() if name not in self._not_taken}

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
        if "max_completion_tokens" in complaint:
            self._limit_name = "max_completion_tokens"
            return
        for names, parts in _OPTIONS:
            if any(part in complaint for part in parts):
                self._not_taken |= names

    def _reply(self, posted: Posted, latency_s: float) -> Reply:
        completion: Any = posted.content
        try:
            choice, usage = completion["choices"][0], completion.get("usage") or {}
            message = choice["message"]
            refusal = message.get("refusal")
            text = message.get("content") or refusal or ""
            logprobs = _first_token(choice.get("logprobs"))
            finish = "refusal" if refusal else _FINISHES.get(choice.get("finish_reason") or "stop", "stop")
            tokens_in, tokens_out = int(usage.get("prompt_tokens", 0)), int(usage.get("completion_tokens", 0))
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            raise JudgeError(f"the reply has another form: {type(error).__name__} {error}") from None
        if not isinstance(text, str) or (finish == "stop" and not text.strip()):
            raise JudgeError("the reply is empty")
        return Reply(
            text=text,
            finish=finish,
            logprobs=logprobs,
            model=str(completion.get("model", "")),
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            latency_s=latency_s,
            cost_usd=self.price_usd(tokens_in, tokens_out),
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


def _first_token(logprobs: Any) -> tuple[tuple[str, float], ...]:
    """Return what could have stood first in the reply, each with its log-probability."""
    if not logprobs or not logprobs.get("content"):
        return ()
    return tuple((str(entry["token"]), float(entry["logprob"])) for entry in logprobs["content"][0]["top_logprobs"])


def opened(name: str, options: BackendOptions) -> ChatJudge:
    """Open the judge ``chat:MODEL``."""
    return ChatJudge(
        name,
        ChatOptions(
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
        ),
    )
