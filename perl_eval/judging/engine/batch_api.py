"""OpenAI's Batch API as another way to a chat judge: requests go up as files, answers come back within a day.

Every stage (write, upload, submit, poll, collect) is noted in a state file in the run folder before it begins and after
it ended, so a killed run goes on where it was. What was begun and not noted as ended is looked for at the server, by
the sha256 of its requests, before it is done again: nothing is submitted twice. Answers land in the ledger under the
keys that asking one by one would use.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from perl_eval.checks import at_least_one, positive
from perl_eval.client.ledger import Ledger
from perl_eval.client.outside_loops import outside_loops
from perl_eval.client.reply import Reply
from perl_eval.client.retries import with_retries
from perl_eval.client.usage import tokens_of
from perl_eval.errors import JudgeError, TurnedAway, UserError
from perl_eval.judges.backends.chat import ChatJudge
from perl_eval.judges.protocol import Judge
from perl_eval.judging.engine.ask import AskOptions, expected_tokens
from perl_eval.judging.engine.batch_state import TAG, Chunk, ChunkWriter, read_state
from perl_eval.records import Question

if TYPE_CHECKING:
    import openai

__all__ = ["BatchOptions", "fill"]

_ENDED = ("completed", "expired", "cancelled")
_BLOCK = 1000
_KEPT_REASONS = 5
_LONGEST_MESSAGE = 300
_CUSTOM_ID = re.compile(rb'^\{"custom_id": "([0-9a-f]{64})"')
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """How to use the Batch API.

    Attributes:
        batch_poll_s: Seconds between two looks at a batch.
        max_lines: Requests in one batch, at most.
        max_bytes: Size of one batch's file, at most.
        rounds: How often requests without an answer are sent, at most; the later rounds ask for longer replies where
            the earlier ones were cut off.
        say: Told what goes on, a line at a time.
    """

    batch_poll_s: float = 60.0
    max_lines: int = 50_000
    max_bytes: int = 190_000_000
    rounds: int = 2
    say: Callable[[str], None] = lambda _: None

    def __post_init__(self) -> None:
        positive(self, "batch_poll_s")
        at_least_one(self, "max_lines", "max_bytes", "rounds")


def fill(
    missing: Callable[[], Iterable[tuple[bytes, Question]]],
    judge: Judge,
    ledger: Ledger,
    folder: Path,
    *,
    asking: AskOptions,
    options: BatchOptions,
) -> dict[str, object]:
    """Have a chat judge's unanswered questions answered by batches, into the ledger.

    Args:
        missing: Gives the questions that the ledger does not answer by their keys, each time it is called.
        judge: Whom to ask; a chat judge.
        ledger: Where answers go.
        folder: The run folder, for the state.
        asking: Votes, and limits: with more to send than they allow, nothing is sent.
        options: See `BatchOptions`.

    Returns:
        How many batches there were, and what became of their requests.

    Raises:
        UserError: The judge takes no batches, a limit would be passed, or the server refuses a batch.
        JudgeError: The server cannot be reached.
        DataError: The state file is none.
    """
    if not isinstance(judge, ChatJudge):
        raise UserError(f"the {judge.backend} backend takes no batches", "use a chat judge")
    work = _Work(missing, judge, ledger, folder, asking, options)
    return outside_loops(lambda: asyncio.run(work.run()))


class _Work:
    """One filling of a ledger."""

    def __init__(
        self,
        missing: Callable[[], Iterable[tuple[bytes, Question]]],
        judge: ChatJudge,
        ledger: Ledger,
        folder: Path,
        asking: AskOptions,
        options: BatchOptions,
    ) -> None:
        self._missing, self._judge, self._ledger, self._folder = missing, judge, ledger, folder
        self._asking, self._options = asking, options
        self._state = read_state(folder)
        for complaint in self._state.complaints:
            judge.concede(complaint)

    async def run(self) -> dict[str, object]:
        """Go on with what was begun, then do what is left, round by round."""
        try:
            while True:
                for chunk in self._state.chunks:
                    if not chunk.collected:
                        await self._finish(chunk)
                last = max((chunk.round for chunk in self._state.chunks), default=0)
                if last >= self._options.rounds or not self._write(last + 1):
                    break
        finally:
            await self._judge.close()
        return {
            "batches": len(self._state.chunks),
            "requests": sum(chunk.lines for chunk in self._state.chunks),
            "cut_off": len(self._state.cut_off),
            "without_answer": dict(Counter(self._state.reasons).most_common(_KEPT_REASONS)),
        }

    def _write(self, number: int) -> bool:
        """Write the files of one round; False if nothing is left to ask."""
        cut_off = set(self._state.cut_off)
        self._refuse_beyond_limits(cut_off)
        with ChunkWriter(self._folder, number, self._options.max_lines, self._options.max_bytes) as writer:
            for key, question in self._missing():
                body = self._judge.request(question, longer=key.hex() in cut_off)
                entry = {"custom_id": key.hex(), "method": "POST", "url": "/v1/chat/completions", "body": body}
                writer.add(json.dumps(entry).encode("ascii") + b"\n")
        self._state.chunks += writer.chunks
        self._save()
        return bool(writer.chunks)

    def _refuse_beyond_limits(self, cut_off: set[str]) -> None:
        """Refuse before anything is sent, for what is sent in a batch cannot be stopped in time."""
        most, money = self._asking.max_requests, self._asking.max_cost_usd
        if most is None and money is None:
            return
        sent = sum(chunk.lines for chunk in self._state.chunks)
        count, cost = sent, 0.0
        for key, question in self._missing():
            count += 1
            longest = self._judge.reply_tokens(longer=key.hex() in cut_off)
            cost += self._judge.price_usd(expected_tokens(question), longest) or 0.0
        if most is not None and count > most:
            raise UserError(f"{count} requests are needed, and max_requests is {most}", "give a --limit, or more")
        if money is not None and cost > money:
            raise UserError(
                f"{cost:.4f} US dollars may be needed, and max_cost_usd is {money}", "give a --limit, or more"
            )

    async def _finish(self, chunk: Chunk) -> None:
        client = self._judge.endpoint.client()
        if not chunk.file:
            begun, chunk.uploading = chunk.uploading, True
            self._save()
            chunk.file = await self._once(
                lambda: self._sent_up(client, chunk), lambda: self._upload(client, chunk), begun=begun
            )
            self._save()
        if not chunk.batch:
            begun, chunk.submitting = chunk.submitting, True
            self._save()
            chunk.batch = await self._once(
                lambda: self._submitted(client, chunk), lambda: self._submit(client, chunk), begun=begun
            )
            self._save()
            self._options.say(f"batch {chunk.batch}: {chunk.lines:,} requests submitted")
        batch = await self._ended(client, chunk)
        for file in (batch.output_file_id, batch.error_file_id):
            if file:
                content = await self._try(lambda file=file: client.files.content(file))  # type: ignore[misc]
                self._collect(content.text, self._bodies(chunk))
        chunk.collected = True
        self._save()
        chunk.path(self._folder).unlink(missing_ok=True)

    async def _upload(self, client: openai.AsyncOpenAI, chunk: Chunk) -> str:
        with chunk.path(self._folder).open("rb") as content:
            return (await client.files.create(file=(chunk.name, content), purpose="batch")).id

    async def _submit(self, client: openai.AsyncOpenAI, chunk: Chunk) -> str:
        batch = await client.batches.create(
            input_file_id=chunk.file,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={TAG: chunk.sha256},
        )
        return batch.id

    async def _sent_up(self, client: openai.AsyncOpenAI, chunk: Chunk) -> str:
        """Return the id of the chunk's file if it reached the server, else nothing."""
        async for file in client.files.list(purpose="batch"):
            if file.filename == chunk.name:
                return str(file.id)
        return ""

    async def _submitted(self, client: openai.AsyncOpenAI, chunk: Chunk) -> str:
        """Return the id of the chunk's batch if it reached the server, else nothing."""
        async for batch in client.batches.list(limit=100):
            if (batch.metadata or {}).get(TAG) == chunk.sha256:
                return str(batch.id)
        return ""

    async def _once(self, look: Callable[[], Awaitable[str]], act: Callable[[], Awaitable[str]], *, begun: bool) -> str:
        """Do what must not be done twice: once begun, however it went, look whether it happened before doing it."""

        async def attempt() -> str:
            nonlocal begun
            found = await look() if begun else ""
            begun = True
            return found or await act()

        return await self._try(attempt)

    async def _ended(self, client: openai.AsyncOpenAI, chunk: Chunk) -> Any:
        said = ""
        while True:
            batch = await self._try(lambda: client.batches.retrieve(chunk.batch))
            counts = batch.request_counts
            now = f"batch {batch.id}: {batch.status}" + (
                f", {counts.completed:,} of {counts.total:,}" if counts else ""
            )
            if now != said:
                self._options.say(now)
            said = now
            if batch.status in _ENDED:
                return batch
            if batch.status == "failed":
                errors = (batch.errors.data if batch.errors else None) or []
                why = "; ".join(dict.fromkeys(str(error.message) for error in errors)) or "no reason given"
                self._state.chunks.remove(chunk)
                self._save()
                raise UserError(
                    f"the server refused batch {batch.id}: {self._judge.endpoint.mended(why)[:_LONGEST_MESSAGE]}",
                    "see what it says",
                )
            await asyncio.sleep(self._options.batch_poll_s)

    async def _try(self, act: Callable[[], Awaitable[Result]]) -> Result:
        """Do something at the server, again where that can help."""

        async def once() -> Result:
            try:
                with self._judge.endpoint.errors():
                    return await act()
            except TurnedAway as error:
                raise UserError(error.what, error.fix) from None

        return await with_retries(once, attempts=self._asking.attempts, backoff_s=self._asking.backoff_s)

    def _bodies(self, chunk: Chunk) -> Callable[[str], Mapping[str, Any] | None]:
        """Return what gives the request of a key, read from the chunk's file; None where it is not there any more."""
        places: dict[str, int] = {}
        path = chunk.path(self._folder)
        with contextlib.suppress(FileNotFoundError), path.open("rb") as lines:
            place = 0
            for line in lines:
                found = _CUSTOM_ID.search(line)
                if found:
                    places[found[1].decode("ascii")] = place
                place += len(line)

        def body(key: str) -> Mapping[str, Any] | None:
            if key not in places:
                return None
            with path.open("rb") as lines:
                lines.seek(places[key])
                request: Mapping[str, Any] = json.loads(lines.readline())["body"]
            return request

        return body

    def _collect(self, content: str, body_of: Callable[[str], Mapping[str, Any] | None]) -> None:
        """Put the answers of a batch into the ledger, and note why others are missing."""
        fresh: list[tuple[bytes, Reply]] = []
        for line in content.splitlines():
            try:
                entry = self._judge.endpoint.mended(json.loads(line))
                key, answer, error = bytes.fromhex(entry["custom_id"]), entry.get("response"), entry.get("error")
                status = answer["status_code"] if answer else 0
            except (ValueError, KeyError, TypeError, RecursionError):
                self._note("the line is broken")
                continue
            if not answer or status != 200:
                self._refused(answer["body"] if answer else error, status)
                continue
            try:
                reply = self._judge.reply(answer["body"])
            except (JudgeError, KeyError) as problem:
                self._note(str(problem))
                continue
            if (body := body_of(key.hex())) is not None:
                self._judge.watch(body, answer["body"], tokens_of(answer["body"])[0])
            if reply.finish == "length":
                self._state.cut_off.append(key.hex())
            else:
                fresh.append((key, reply))
            if len(fresh) >= _BLOCK:
                self._ledger.add(self._judge, fresh)
                fresh = []
        if fresh:
            self._ledger.add(self._judge, fresh)

    def _refused(self, body: Any, status: int) -> None:
        said = body.get("error", body) if isinstance(body, dict) else body
        text = str(said.get("message", said) if isinstance(said, dict) else said)[:_LONGEST_MESSAGE]
        # It is shown in terminals, which no server is to steer.
        message = " ".join("".join(char if char.isprintable() else " " for char in text).split())
        if status == 400 and message not in self._state.complaints:
            self._judge.concede(message)
            self._state.complaints.append(message)
        self._note(f"{status}: {message}" if status else message)

    def _note(self, reason: str) -> None:
        self._state.reasons[reason] = self._state.reasons.get(reason, 0) + 1

    def _save(self) -> None:
        self._state.save(self._folder)
