"""The verb ``sample`` against a server: any that speaks OpenAI's chat form, such as ``vllm serve``.

A LoRA adapter that the server holds is named like a model. Replies are kept in a ledger inside the output folder, so a
run that was killed goes on and asks for nothing it has; at most what came in the last quarter of a second is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import tenacity

from perl_eval.checks import at_least_one, not_negative, positive
from perl_eval.client.endpoint import Endpoint, Posted
from perl_eval.client.ledger import Ledger
from perl_eval.client.rate_limiter import LONGEST_WAIT_S, Pace
from perl_eval.client.reply import Reply
from perl_eval.client.usage import Usage
from perl_eval.errors import JudgeError, RateLimited, Refused, UserError
from perl_eval.records import Completion, Message, digest
from perl_eval.sources import rows
from perl_eval.sources.rows import Row
from perl_eval.storage import progress, run_folder

__all__ = ["ServerOptions", "run"]

_LEDGER = "ledger.sqlite"
_FLUSH_S = 0.25
_FLUSH_ROWS = 256
_HOPELESS = 20
_EXAMPLES = 3
_LOOKUP = 4096
_SEED_BITS = 31
# What a server may not take, and what its complaint then names.
_DISPENSABLE = ("logprobs", "seed")


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How to sample from a server.

    Attributes:
        name: What the policy is called in comparisons; default the model's name.
        split: Which split's prompts.
        draws: Completions a prompt.
        limit: Prompts; 0 for all.
        temperature: Of the sampling; at 0 the likeliest token is taken.
        max_new_tokens: Longest completion.
        max_concurrency: Requests on their way at one time, at most.
        attempts: How often a request is sent before the run is given up.
        backoff_s: Mean of the first wait before sending again.
        timeout_s: Longest wait for one completion.
        key_variable: Environment variable that holds the server's key, if it wants one.
        key_file: File that holds it, instead.
    """

    name: str = ""
    split: str = "test"
    draws: int = 1
    limit: int = 0
    temperature: float = 1.0
    max_new_tokens: int = 64
    max_concurrency: int = 128
    attempts: int = 6
    backoff_s: float = 0.5
    timeout_s: float = 600.0
    key_variable: str = "OPENAI_API_KEY"
    key_file: Path | None = None

    def __post_init__(self) -> None:
        at_least_one(self, "draws", "max_new_tokens", "max_concurrency", "attempts")
        positive(self, "backoff_s", "timeout_s")
        not_negative(self, "limit", "temperature")


@dataclass(frozen=True, slots=True)
class _Request:
    """One completion that is wanted; ``key`` is its place in the ledger."""

    row: Row
    draw: int
    seed: int
    key: bytes


def run(server: str, model: str, data: Path, out: Path, *, options: ServerOptions | None = None, seed: int = 0) -> Path:
    """Sample completions for the prompts of a split from a model behind a server.

    A completion's ``logprob`` is that of the tokens that the server counts, at temperature 1 only: servers report the
    model's own probabilities, before the temperature. It is None where the server gives none, and ``prior_logprob``
    always is. Prompts that the server refuses, such as those that are too long, stay without a completion; the run
    card counts them.

    Args:
        server: The server's address, up to and with ``/v1``.
        model: The model, or the LoRA adapter, as the server names it.
        data: A folder of rows with prompts.
        out: The run folder; gets ``completions.parquet`` and the ledger.
        options: See `ServerOptions`.
        seed: Run seed; each draw's own seed is a hash of it, the item's id and the draw number.

    Raises:
        UserError: No such data or split; or the server has no such model, refuses everything, or cannot be reached.
        DataError: A changed input.
    """
    options = options or ServerOptions()
    shown = {**asdict(options), "server": server, "model": model}
    for name in ("max_concurrency", "attempts", "backoff_s", "timeout_s", "key_variable", "key_file"):
        del shown[name]  # they change no completion
    sampler = _Sampler(server, model, options)
    with run_folder.start(out, verb="sample", arguments=shown, seed=seed, inputs={"data": Path(data)}) as going:
        if going.done:
            return going.folder
        asked = rows.asked(data, options.split, limit=options.limit)
        if any(row.images for row in asked):
            raise UserError(f"{data} has pictures, which are not sent to a server", "sample from a model's folder")
        requests = _requests(sampler, asked, seed)
        with Ledger(going.folder / _LEDGER) as ledger:
            asking = _Asking(sampler, ledger, options)
            missing = [one for some in _batches(requests) for one in _not_in(ledger, some)]
            asking.tally.from_ledger = len(requests) - len(missing)
            if missing:
                asyncio.run(asking.ask(missing))
            if requests and len(asking.refused) == len(requests):
                raise UserError(f"the server refused every prompt: {next(iter(asking.refused.values()))}", "check them")
            name = options.name or model
            made = (_completion(one, reply, name) for one, reply in _answered(ledger, requests))
            going.write(made, Completion)
        refused = asking.refused
        going.notes |= {"prompts": len(requests) // options.draws, "completions": len(requests) - len(refused)}
        going.notes |= {"policy": name, "asking": asdict(asking.tally), "not_taken": sorted(sampler.not_taken)}
        going.notes |= {"unanswered": len(refused), "unanswered_examples": dict(list(refused.items())[:_EXAMPLES])}
    return going.folder


def _requests(sampler: _Sampler, asked: Sequence[Row], seed: int) -> list[_Request]:
    """Return what to ask for: the draws of a prompt are neighbours, so that a server can read it once."""
    made = []
    for row in asked:
        for draw in range(sampler.options.draws):
            own = int(digest("seed", str(seed), row.id, str(draw)), 16) % 2**_SEED_BITS
            key = hashlib.sha256(json.dumps(sampler.body(row, own), sort_keys=True).encode("ascii"))
            key.update(json.dumps([sampler.server, row.id, draw]).encode("ascii"))
            made.append(_Request(row, draw, own, key.digest()))
    return made


def _batches(requests: Sequence[_Request]) -> Iterator[Sequence[_Request]]:
    for start in range(0, len(requests), _LOOKUP):
        yield requests[start : start + _LOOKUP]


def _not_in(ledger: Ledger, requests: Sequence[_Request]) -> list[_Request]:
    known = ledger.find([one.key for one in requests])
    return [one for one in requests if one.key not in known]


def _answered(ledger: Ledger, requests: Sequence[_Request]) -> Iterator[tuple[_Request, Reply]]:
    for some in _batches(requests):
        known = ledger.find([one.key for one in some])
        yield from ((one, known[one.key]) for one in some if one.key in known)


def _completion(request: _Request, reply: Reply, name: str) -> Completion:
    row = request.row
    return Completion(
        id=digest("completion", row.id, name, str(request.draw)),
        item=row.id,
        group=row.group,
        dataset=row.dataset,
        policy=name,
        prompt=row.prompt,
        text=reply.text.strip(),
        finish="length" if reply.finish == "length" else "stop",
        draw=request.draw,
        logprob=reply.logprobs[0][1] if reply.logprobs else None,
    )


class _Sampler:
    """A model behind a server, which answers prompts."""

    def __init__(self, server: str, model: str, options: ServerOptions) -> None:
        self.door, self.server, self.model, self.options = "sample", server, model, options
        self._endpoint = Endpoint(server, options.key_variable, options.timeout_s, None, None, options.key_file)
        self._limit_name = "max_tokens"
        self.not_taken: frozenset[str] = frozenset()

    def body(self, row: Row, seed: int) -> dict[str, object]:
        """Return all that decides a completion."""
        return {
            "model": self.model,
            "messages": [{"role": turn.role, "content": turn.content} for turn in row.prompt],
            "max_tokens": self.options.max_new_tokens,
            "temperature": self.options.temperature,
            "seed": seed,
        }

    async def answer(self, request: _Request) -> Reply:
        """Ask for one completion; what the server does not take is left out from then on.

        Raises:
            JudgeError: None could be had.
            UserError: None will ever be had.
        """
        begun_s = time.perf_counter()
        while True:
            before = (self._limit_name, self.not_taken)
            body = self.body(request.row, request.seed)
            body[self._limit_name] = body.pop("max_tokens")
            if self.options.temperature == 1:
                body["logprobs"] = True
            sent = {name: value for name, value in body.items() if name not in self.not_taken}
            try:
                posted = await self._endpoint.post("/chat/completions", sent)
                return _reply(posted, time.perf_counter() - begun_s)
            except Refused as error:
                self._concede(str(error))
                if before == (self._limit_name, self.not_taken):
                    raise

    def _concede(self, complaint: str) -> None:
        if "max_completion_tokens" in complaint:
            self._limit_name = "max_completion_tokens"
        self.not_taken |= {name for name in _DISPENSABLE if name in complaint}

    async def close(self) -> None:
        """Close the connections."""
        await self._endpoint.close()


def _reply(posted: Posted, latency_s: float) -> Reply:
    """Read what a server sent: text, or tool calls as the text of their JSON."""
    content: Any = posted.content
    try:
        choice, usage = content["choices"][0], content.get("usage") or {}
        message, ended = choice["message"], choice.get("finish_reason") or "stop"
        text = message.get("refusal") or Message.of({"role": "assistant", **message}).content
        tokens_in, tokens_out = int(usage.get("prompt_tokens", 0)), int(usage.get("completion_tokens", 0))
        listed = (choice.get("logprobs") or {}).get("content") or []
        summed = sum(float(entry["logprob"]) for entry in listed)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise JudgeError(f"the reply has another form: {type(error).__name__} {error}") from None
    if ended == "content_filter":
        raise Refused("the server's filter cut the completion off")
    return Reply(
        text=text,
        finish="length" if ended == "length" else "stop",
        # One sum for the whole completion; a list that leaves tokens out is none.
        logprobs=(("", summed),) if listed and len(listed) == tokens_out else (),
        model=str(content.get("model", "")),
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        latency_s=latency_s,
        left=posted.left,
    )


@dataclass(slots=True)
class _Asking:
    """One round of asking; ``refused`` gets the reason for each completion that the server will never give."""

    sampler: _Sampler
    ledger: Ledger
    options: ServerOptions
    tally: Usage = field(default_factory=Usage)
    refused: dict[str, str] = field(default_factory=dict)
    _fresh: list[tuple[bytes, Reply]] = field(default_factory=list)

    async def ask(self, missing: Sequence[_Request]) -> None:
        """Ask for some completions and keep them in the ledger.

        Raises:
            UserError: The server does not answer, or the ledger cannot be written.
        """
        pace = Pace(self.options.max_concurrency)
        bar = progress.track(missing, f"sample {self.options.name or self.sampler.model}")
        with contextlib.closing(bar):  # type: ignore[type-var]
            count = min(self.options.max_concurrency, len(missing))
            workers = [asyncio.create_task(self._work(bar, pace)) for _ in range(count)]
            timer = asyncio.create_task(self._flush_while(workers))
            try:
                await asyncio.gather(*workers, timer)
            finally:
                for task in (*workers, timer):
                    task.cancel()
                await asyncio.gather(*workers, timer, return_exceptions=True)
                self._flush()
                await self.sampler.close()

    async def _work(self, pending: Iterator[_Request], pace: Pace) -> None:
        for request in pending:
            try:
                reply = await self._patiently(request, pace)
            except Refused as error:
                self._note(request, error)
            except JudgeError as error:
                raise UserError(
                    f"{self.sampler.model} gave no answer in {self.options.attempts} attempts, lastly: {error}",
                    "check the server; the same command goes on from here",
                ) from None
            else:
                self.tally.asked += 1
                self.tally.tokens_in += reply.tokens_in
                self.tally.tokens_out += reply.tokens_out
                self._fresh.append((request.key, reply))
                if len(self._fresh) >= _FLUSH_ROWS:
                    self._flush()

    async def _patiently(self, request: _Request, pace: Pace) -> Reply:
        """Ask as often as allowed."""
        attempts = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(lambda e: isinstance(e, JudgeError) and not isinstance(e, Refused)),
            stop=tenacity.stop_after_attempt(self.options.attempts),
            wait=tenacity.wait_random_exponential(multiplier=self.options.backoff_s, max=LONGEST_WAIT_S),
            reraise=True,
        )
        async for attempt in attempts:
            again = attempt.retry_state.attempt_number > 1
            with attempt:
                self.tally.retries += again
                return await self._once(request, pace, again=again)
        raise AssertionError("tenacity ends with a reply or an error")

    async def _once(self, request: _Request, pace: Pace, *, again: bool) -> Reply:
        turn = await pace.enter(again=again)
        reply: Reply | None = None
        self.tally.requests += 1
        try:
            reply = await self.sampler.answer(request)
            return reply
        except RateLimited as error:
            pace.complain(turn, retry_after_s=error.retry_after_s or 0.0)
            raise
        finally:
            pace.leave(turn, answered=reply is not None, left=reply.left if reply else None)

    def _note(self, request: _Request, error: Refused) -> None:
        self.tally.failed += 1
        self.refused[f"{request.row.id}, draw {request.draw}"] = str(error)
        if self.tally.failed >= _HOPELESS and not self.tally.asked + self.tally.from_ledger:
            raise UserError(f"the server refused all of {self.tally.failed} prompts, lastly: {error}", "check them")

    async def _flush_while(self, workers: Sequence[asyncio.Task[None]]) -> None:
        while not all(task.done() for task in workers):
            await asyncio.sleep(_FLUSH_S)
            self._flush()

    def _flush(self) -> None:
        if self._fresh:
            self.ledger.add(self.sampler, self._fresh)
            self._fresh.clear()
