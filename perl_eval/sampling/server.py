"""The verb ``sample`` against a server: any that speaks OpenAI's chat form, such as ``vllm serve``.

A LoRA adapter that the server holds is named like a model. Replies are kept in a ledger inside the output folder, so a
run that was killed goes on and asks for nothing it has; at most what came in the last quarter of a second is lost.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from perl_eval.checks import at_least_one, not_negative, positive
from perl_eval.client import thoughts
from perl_eval.client.account import Spending
from perl_eval.client.chat_replies import content_of, finish_of, summed
from perl_eval.client.endpoint import Endpoint, Posted
from perl_eval.client.ledger import Ledger
from perl_eval.client.limits import Limits
from perl_eval.client.providers import PROVIDERS, access
from perl_eval.client.reply import Reply
from perl_eval.client.reply_checks import checks_of
from perl_eval.client.scheduler import Scheduler
from perl_eval.client.service import Handling, looked_up
from perl_eval.client.usage import Usage, tokens_of
from perl_eval.errors import JudgeError, Refused, TurnedAway, Unfinished, UserError
from perl_eval.records import Completion, Message, digest
from perl_eval.sources import rows
from perl_eval.sources.rows import Row
from perl_eval.storage import progress, run_folder

__all__ = ["ServerOptions", "run"]

_LEDGER = "ledger.sqlite"
_HOPELESS = 20
_EXAMPLES = 3
_BLOCK = 256
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
        not_taken: Options that are not sent, because the server is known not to take them.
        patience_s: How long a server that answers nothing is waited for; None is as in `Limits`.
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
    not_taken: frozenset[str] = frozenset()
    patience_s: float | None = None

    def __post_init__(self) -> None:
        at_least_one(self, "draws", "max_new_tokens", "max_concurrency", "attempts")
        positive(self, "backoff_s", "timeout_s", "patience_s")
        not_negative(self, "limit", "temperature")


@dataclass(frozen=True, slots=True)
class _Prompt:
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
        server: The server's address, up to and with ``/v1``, or a provider's name, see `perl_eval.client.providers`.
        model: The model, or the LoRA adapter, as the server names it.
        data: A folder of rows with prompts.
        out: The run folder; gets ``completions.parquet`` and the ledger.
        options: See `ServerOptions`.
        seed: Run seed; each draw's own seed is a hash of it, the item's id and the draw number.

    Raises:
        UserError: No such data or split; or the server has no such model, refuses everything, or cannot be reached.
        Unfinished: The server answered at first and then for too long no more.
        DataError: A changed input.
    """
    options = options or ServerOptions()
    server, options = _behind(server, options)
    shown = {**asdict(options), "server": server, "model": model}
    own = ("max_concurrency", "attempts", "backoff_s", "timeout_s", "patience_s")
    for name in (*own, "key_variable", "key_file", "not_taken"):
        del shown[name]  # they change no completion
    sampler = _Sampler(server, model, options)
    with run_folder.start(out, verb="sample", arguments=shown, seed=seed, inputs={"data": Path(data)}) as going:
        if going.done:
            return going.folder
        merged: Counter[str] = Counter()
        asked = rows.asked(data, options.split, limit=options.limit, counts=merged)
        if any(row.images for row in asked):
            raise UserError(f"{data} has pictures, which are not sent to a server", "sample from a model's folder")
        requests = _requests(sampler, asked, seed)
        with Ledger(going.folder / _LEDGER) as ledger:
            sampling = _Sampling(sampler, ledger)
            with contextlib.closing(sampling.completions(requests)) as made:
                going.write(made, Completion)
        refused = sampling.refused
        going.notes |= {
            **merged,
            "prompts": len(requests) // options.draws,
            "completions": len(requests) - len(refused),
        }
        going.notes |= {
            "policy": options.name or model,
            "asking": {name: value for name, value in asdict(sampling.tally).items() if name != "waiting"},
            "not_taken": sorted(sampler.not_taken),
        }
        if sampler.noted:
            going.notes["noted"] = sampler.noted
        going.notes |= {"unanswered": len(refused), "unanswered_examples": dict(list(refused.items())[:_EXAMPLES])}
    return going.folder


def _behind(server: str, options: ServerOptions) -> tuple[str, ServerOptions]:
    """Return the address of a server, and with a provider's name in its place what is known of that one.

    Raises:
        UserError: The provider needs a key, and there is none.
    """
    if server not in PROVIDERS:
        return server, options
    found = access(server, key_file=options.key_file)
    not_taken = PROVIDERS[server].not_taken & frozenset(_DISPENSABLE)
    return found.base_url, replace(options, key_variable=found.key_variable, not_taken=not_taken)


def _requests(sampler: _Sampler, asked: Sequence[Row], seed: int) -> list[_Prompt]:
    """Return what to ask for: the draws of a prompt are neighbours, so that a server can read it once."""
    made = []
    for row in asked:
        for draw in range(sampler.options.draws):
            own = int(digest("seed", str(seed), row.id, str(draw)), 16) % 2**_SEED_BITS
            key = hashlib.sha256(json.dumps(sampler.body(row, own), sort_keys=True).encode("ascii"))
            key.update(json.dumps([sampler.server, row.id, draw]).encode("ascii"))
            made.append(_Prompt(row, draw, own, key.digest()))
    return made


def _completion(request: _Prompt, reply: Reply, name: str) -> Completion:
    row, parts = request.row, thoughts.split(reply.text, leading=True)
    return Completion(
        id=digest("completion", row.id, name, str(request.draw)),
        item=row.id,
        group=row.group,
        dataset=row.dataset,
        policy=name,
        prompt=row.prompt,
        text=parts.said.strip(),
        thought=parts.thought,
        finish="stop" if reply.finish in ("stop", "refusal") else "length",
        draw=request.draw,
        logprob=reply.logprobs[0][1] if reply.logprobs else None,
    )


class _Sampler:
    """A model behind a server, which answers prompts."""

    backend = "sample"
    group = 1

    def __init__(self, server: str, model: str, options: ServerOptions) -> None:
        self.server, self.model, self.options = server, model, options
        self.longest = options.max_new_tokens
        self._endpoint = Endpoint(server, options.key_variable, options.timeout_s, None, None, options.key_file)
        self._limit_name = "max_tokens"
        self.not_taken = options.not_taken
        self._odd: dict[str, str] = {}

    @property
    def noted(self) -> dict[str, list[str]]:
        """What the server did not take, and what it did otherwise than asked."""
        given_up = sorted(self.not_taken - self.options.not_taken)
        noted = {"not_taken": given_up, "server": list(self._odd.values())}
        return {name: lines for name, lines in noted.items() if lines}

    def body(self, row: Row, seed: int) -> dict[str, object]:
        """Return all that decides a completion."""
        return {
            "model": self.model,
            "messages": [{"role": turn.role, "content": turn.content} for turn in row.prompt],
            "max_tokens": self.options.max_new_tokens,
            "temperature": self.options.temperature,
            "seed": seed,
        }

    async def ask(self, requests: Sequence[_Prompt], /) -> list[Reply]:
        """Ask for one completion each."""
        return [await self._answer(request) for request in requests]

    async def _answer(self, request: _Prompt) -> Reply:
        """Ask for one completion; what the server does not take is left out from then on.

        Raises:
            JudgeError: None could be had.
            UserError: None will ever be had.
        """
        begun_s = time.perf_counter()
        limit_name, not_taken = self._limit_name, self.not_taken
        first: Refused | TurnedAway | None = None
        while True:
            body = self.body(request.row, request.seed)
            body[limit_name] = body.pop("max_tokens")
            if self.options.temperature == 1:
                body["logprobs"] = True
            sent = {name: value for name, value in body.items() if name not in not_taken}
            try:
                posted = await self._endpoint.post("/chat/completions", sent)
            except (Refused, TurnedAway) as error:
                first, before = first or error, (limit_name, not_taken)
                if "max_completion_tokens" in str(error):
                    limit_name = "max_completion_tokens"
                not_taken |= {name for name in _DISPENSABLE if name in str(error)}
                if before == (limit_name, not_taken):
                    raise first from None
            else:
                # Given up for good once the server answers without it: a complaint may quote the prompt.
                self._limit_name, self.not_taken = limit_name, self.not_taken | not_taken
                self._watch(sent, posted.content)
                return _reply(posted, time.perf_counter() - begun_s)

    def _watch(self, body: Mapping[str, Any], completion: Any) -> None:
        """Note what the server does otherwise than asked, each kind once."""
        with contextlib.suppress(KeyError, IndexError, TypeError, AttributeError):  # said when it is read
            self._odd = {**checks_of(body, completion, tokens_of(completion)[0], ""), **self._odd}

    def price_usd(self, tokens_in: float, tokens_out: float) -> float | None:  # noqa: ARG002
        """Return None: prices are not asked for."""
        return None

    async def close(self) -> None:
        """Close the connections."""
        await self._endpoint.close()


def _reply(posted: Posted, latency_s: float) -> Reply:
    """Read what a server sent: text, or tool calls as the text of their JSON."""
    content: Any = posted.content
    tokens_in, tokens_out = tokens_of(content)
    try:
        choice = content["choices"][0]
        message, ended = choice["message"], finish_of(choice)
        text = _text(message)
        logprob = summed(choice.get("logprobs"), tokens_out)
    except JudgeError as error:
        error.paid = ((tokens_in, tokens_out),)
        raise
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        failure = JudgeError(f"the reply has an unexpected form: {type(error).__name__} {error}")
        failure.paid = ((tokens_in, tokens_out),)
        raise failure from None
    if ended == "refusal" and not message.get("refusal"):
        raise Refused("the server's filter cut the completion off")
    return Reply(
        text=text,
        finish="stop" if ended == "refusal" else ended,
        # One sum for the whole completion; a list that leaves tokens out is none.
        logprobs=() if logprob is None else (("", logprob),),
        model=str(content.get("model", "")),
        tokens_in=tokens_in or 0,
        tokens_out=tokens_out or 0,
        latency_s=latency_s,
        estimated=tokens_in is None or tokens_out is None,
        left=posted.left,
    )


def _text(message: Mapping[str, Any]) -> str:
    """Return what a message says, its thoughts before it in the tag that `thoughts.split` knows."""
    content = content_of(message)
    said = message.get("refusal") or Message.of({**message, "role": "assistant", "content": content.text}).content
    return f"<think>{content.thought.replace('</think>', '')}</think>\n{said}" if content.thought else said


def _ends(sampler: _Sampler, attempts: int) -> Callable[[JudgeError, Usage], UserError | None]:
    """Return what says whether sampling ends with a failure: that of one prompt ends nothing."""

    def ends(error: JudgeError, tally: Usage) -> UserError | None:
        if error.can_pass and not tally.asked + tally.from_ledger:
            return UserError(
                f"{sampler.model} gave no answer in {attempts} attempts, lastly: {error}",
                "check the server; the same command continues from here",
            )
        if tally.failed < _HOPELESS or tally.asked + tally.from_ledger:
            return None
        return UserError(f"the server refused all of {tally.failed} prompts, lastly: {error}", "check them")

    return ends


@dataclass(slots=True)
class _Sampling:
    """One round of sampling; ``refused`` gets the reason for each completion that the server will never give."""

    sampler: _Sampler
    ledger: Ledger
    tally: Usage = field(default_factory=Usage)
    refused: dict[str, str] = field(default_factory=dict)

    def _fresh(self) -> float:
        """Return the share of the completions so far that the ledger did not hold."""
        return self.tally.asked / max(1, self.tally.asked + self.tally.from_ledger + self.tally.failed)

    def completions(self, requests: Sequence[_Prompt]) -> Generator[Completion, None, None]:
        """Yield the completions in order, from the ledger or from the server.

        Raises:
            UserError: The server does not answer or refuses everything, or the ledger cannot be written.
            Unfinished: It answered at first and then for too long no more, or some prompts for now not at all.
        """
        options = self.sampler.options
        name = options.name or self.sampler.model
        limits = Limits(options.max_concurrency, options.attempts, options.backoff_s, patience_s=options.patience_s)
        ends = _ends(self.sampler, options.attempts)
        handling: Handling[_Prompt] = Handling(unit=lambda one: one.row.id, tokens=lambda _: 0.0, ends=ends)
        scheduler = Scheduler(self.sampler, self.ledger, limits, handling, Spending(self.tally))
        blocks = (
            looked_up(self.ledger, [(one.key, one) for one in requests[start : start + _BLOCK]])
            for start in range(0, len(requests), _BLOCK)
        )
        lastly = ""
        with contextlib.closing(scheduler.answers(blocks)) as answers:
            for one, answer in progress.track(
                answers, f"sample {name}", total=len(requests), note=lambda: self.tally.waiting or "", fresh=self._fresh
            ):
                if isinstance(answer, Reply):
                    yield _completion(one, answer, name)
                else:
                    self.refused[f"{one.row.id}, draw {one.draw}"] = str(answer)
                    lastly = str(answer)
        if self.tally.stopped or self.tally.can_pass:
            why = self.tally.stopped or f"{self.tally.can_pass} completions had no answer, lastly: {lastly}"
            raise Unfinished(f"{why}; the same command continues from here")
        if requests and len(self.refused) == len(requests):
            raise UserError(f"the server refused every prompt: {next(iter(self.refused.values()))}", "check them")
