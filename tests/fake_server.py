"""A judge's server made of asyncio: speaks the chat form over HTTP, counts what it answered, and fails on demand.

In a test, `serving` runs one in a thread. As a program, ``python fake_server.py --latency-s 0.02`` prints its port and
serves until it is killed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from fake_batches import FakeBatches

Body = dict[str, Any]
FAULTS = ("429", "500", "drop", "half_json", "empty", "stall")


def prefer_shorter(body: Body) -> str:
    """Answer a pairwise question: the shorter answer, by the markers that the prompts put around them."""
    text = body["messages"][-1]["content"]
    first = text.split("=== answer A")[1].split("=== answer B")[0]
    second = text.split("=== answer B")[1].split("=== end")[0]
    return "tie" if len(first) == len(second) else "A" if len(first) < len(second) else "B"


def shorter_is_likelier(instructions: str, options: list[str]) -> dict[str, float]:
    """Give the shorter answer 0.6 and the longer one 0.3, or each 0.45 if they are equal; the rest to a tie, if any."""
    verdict = prefer_shorter({"messages": [{"content": instructions}]})
    chances = {"A": 0.45, "B": 0.45} if verdict == "tie" else {"A": 0.3, "B": 0.3} | {verdict: 0.6}
    chances["tie"] = 0.1
    total = sum(chances[option] for option in options)
    return {option: chances[option] / total for option in options}


def fields(head: str) -> dict[str, str]:
    """Return the header fields of a request, their names in lower case."""
    lines = (line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
    return {name.lower(): value for name, value in lines}


def system_one(body: Body) -> Body:
    """Answer a System One request."""
    answers: Body = {}
    for name, question in body["questions"].items():
        if question["type"] == "noul":
            answers[name] = {"type": "noul", "noul": 0.75}
        else:
            chances = shorter_is_likelier(question["instructions"], list(question["criteria"]))
            answers[name] = {
                "type": "choice",
                "choice": max(chances, key=chances.__getitem__),
                "probabilities": chances,
            }
    return {"model": body["model"], "answers": answers, "usage": {"input_tokens": 101, "output_tokens": 0}}


@dataclass
class FakeServer:
    """What it answers and how it fails.

    Attributes:
        answer: The text of a reply.
        fault_rate: Share of requests that fail; which ones is drawn from the request and the number of the attempt.
        faults: The faults that are drawn from.
        fault: Overrides the draw: from request and attempt to a fault or None.
        latency_s: Seconds before a reply.
        finish: Finish reason of a reply.
        refusal: A refusal to give instead of an answer.
        requests: Every request, as it came.
        answered: How often each request was answered in full, by its sha256.
        headers: Request headers as they came, without the request line.
        answered_at: When each answered request was, on the monotonic clock, and its sha256.
        window: Requests that it takes in so many seconds; it says what is left, and answers 429 beyond.
        style: In whose headers it says so: ``openai`` or ``anthropic``.
        lanes: Requests that it works on at one time; the others wait.
    """

    answer: Callable[[Body], str] = prefer_shorter
    fault_rate: float = 0.0
    faults: tuple[str, ...] = FAULTS
    fault: Callable[[Body, int], str | None] | None = None
    latency_s: float = 0.0
    stall_s: float = 60.0
    finish: Callable[[Body], str] = lambda _: "stop"
    refusal: str | None = None
    complaint: Callable[[Body], str | None] = lambda _: None
    retry_after_s: float | None = None
    keep: bool = True
    port: int = 0
    requests: list[Body] = field(default_factory=list)
    system_one: Callable[[Body], Body] = system_one
    first_tokens: dict[str, float] = field(default_factory=lambda: {"A": 1.0})
    headers: list[str] = field(default_factory=list)
    answered: Counter[str] = field(default_factory=Counter)
    attempts: Counter[str] = field(default_factory=Counter)
    batches: FakeBatches = field(default_factory=FakeBatches)
    at_once: int = 0
    most_at_once: int = 0
    answered_at: list[tuple[float, str]] = field(default_factory=list)
    window: tuple[int, float] | None = None
    style: str = "openai"
    lanes: int | None = None
    taken: int = 0
    window_ends_s: float = 0.0
    refused: int = 0
    lane: asyncio.Semaphore | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                content = await reader.readexactly(int(fields(head).get("content-length", "0")))
                self.at_once += 1
                self.most_at_once = max(self.most_at_once, self.at_once)
                try:
                    method, path = head.split(" ", maxsplit=2)[:2]
                    if "/v1/files" in path or "/v1/batches" in path:
                        found = self.batches.respond(method, path.split("?", maxsplit=1)[0], content, self._in_batch)
                        open_still = found is not None and await self._send(writer, *found, {})
                    else:
                        open_still = await self.respond(head, content, writer)
                finally:
                    self.at_once -= 1
                if not open_still:
                    break
        writer.close()

    async def respond(self, head: str, content: bytes, writer: asyncio.StreamWriter) -> bool:
        body = json.loads(content)
        key = hashlib.sha256(content).hexdigest()
        if self.keep:
            self.requests.append(body)
            self.headers.append(head)
        self.attempts[key] += 1
        left = self._left()
        if left is None:
            self.refused += 1
            return await self._write(writer, 429, {"error": {"message": "slow down"}}, self._limits(0))
        await self._work()
        fault = self._drawn(body, key)
        if fault == "drop":
            return False
        if fault == "stall":
            await asyncio.sleep(self.stall_s)
            return False
        if fault == "429":
            wait = {} if self.retry_after_s is None else {"retry-after": str(self.retry_after_s)}
            return await self._write(writer, 429, {"error": {"message": "slow down"}}, wait)
        if fault is not None and fault.isdigit():
            return await self._write(
                writer,
                int(fault),
                {"error": {"message": f"fault {fault}, {fields(head).get('authorization', '')}"}},
                {},
            )
        if complaint := self.complaint(body):
            return await self._write(writer, 400, {"error": {"message": complaint}}, {})
        path = head.split(" ", maxsplit=2)[1].split("?", maxsplit=1)[0]
        if path.endswith("/decisions"):
            reply = self._decision(body)
        elif path.endswith("/systemone"):
            reply = self.system_one(body)
        else:
            reply = self._completion(body, empty=fault == "empty")
        if fault == "half_json":
            half = json.dumps(reply).encode()
            return await self._send(writer, 200, half[: len(half) // 2], {})
        if fault is None:
            self.answered[key] += 1
            self.answered_at.append((time.monotonic(), key))
        return await self._write(writer, 200, reply, self._limits(left))

    async def _work(self) -> None:
        if self.lanes is None:
            await asyncio.sleep(self.latency_s)
            return
        self.lane = self.lane or asyncio.Semaphore(self.lanes)
        async with self.lane:
            await asyncio.sleep(self.latency_s)

    def _left(self) -> int | None:
        """Take a request out of the window and return what is left in it, or None if it was empty."""
        if self.window is None:
            return 0
        if time.monotonic() >= self.window_ends_s:
            self.taken, self.window_ends_s = 0, time.monotonic() + self.window[1]
        self.taken += 1
        return self.window[0] - self.taken if self.taken <= self.window[0] else None

    def _limits(self, left: int) -> dict[str, str]:
        if self.window is None:
            return {}
        wait_s = max(0.0, self.window_ends_s - time.monotonic())
        if self.style == "openai":
            return {"x-ratelimit-remaining-requests": str(left), "x-ratelimit-reset-requests": f"{wait_s * 1000:.0f}ms"}
        ends = datetime.now(UTC) + timedelta(seconds=wait_s)
        return {
            "anthropic-ratelimit-requests-remaining": str(left),
            "anthropic-ratelimit-requests-reset": ends.isoformat(),
        }

    def _in_batch(self, body: Body) -> Body:
        """Answer one request of a batch."""
        if complaint := self.complaint(body):
            return {"error": {"message": complaint}}
        return self._completion(body, empty=False)

    def _drawn(self, body: Body, key: str) -> str | None:
        attempt = self.attempts[key]
        if self.fault is not None:
            return self.fault(body, attempt)
        draw = hashlib.sha256(f"{key}/{attempt}".encode()).digest()
        if int.from_bytes(draw[:4], "big") / 2**32 >= self.fault_rate:
            return None
        return self.faults[draw[4] % len(self.faults)]

    def _decision(self, body: Body) -> Body:
        answers: list[Body] = []
        for question in body["questions"]:
            if self.refusal is not None:
                answers.append({"type": "refusal", "name": question["name"]})
            elif question["type"] == "predicate":
                answers.append({"type": "predicate", "name": question["name"], "probability": 0.75})
            elif question["type"] == "score":
                # Half a chance each for the seventh and the ninth level.
                levels = [level["label"] for level in question["levels"]]
                chances = {label: 0.5 * (place in (6, 8)) for place, label in enumerate(levels)}
                listed = [
                    {"label": label, "probability": chances[label], "value": place}
                    for place, label in enumerate(levels)
                ]
                named = {"type": "score", "name": question["name"], "score": 7.0, "confidence": 1.0}
                answers.append({**named, "probabilities": listed})
            else:
                options = [choice["value"] for choice in question["choices"]]
                chances = shorter_is_likelier(question["instructions"], options)
                listed = [{"value": option, "probability": chances[option]} for option in options]
                best = max(options, key=lambda option: chances[option])
                answers.append(
                    {
                        "type": "choice",
                        "name": question["name"],
                        "choice": best,
                        "confidence": 0.5,
                        "probabilities": listed,
                    }
                )
        details = {"input_tokens_details": {"cache_write_tokens": 0, "cached_tokens": 0}}
        usage = {"input_tokens": 101, "output_tokens": 0, "total_tokens": 101, **details}
        return {
            "model": body["model"],
            "answers": answers,
            "usage": {**usage, "output_tokens_details": {"reasoning_tokens": 0}},
        }

    def _completion(self, body: Body, *, empty: bool) -> Body:
        message: Body = {"role": "assistant", "content": "" if empty else self.answer(body), "refusal": None}
        if self.refusal is not None:
            message = {"role": "assistant", "content": None, "refusal": self.refusal}
        return {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": f"{body['model']}-2026",
            "choices": [
                {"index": 0, "finish_reason": self.finish(body), "logprobs": self._logprobs(body), "message": message}
            ],
            "usage": {"prompt_tokens": 100, "completion_tokens": 2, "total_tokens": 102},
        }

    def _logprobs(self, body: Body) -> Body | None:
        if not body.get("logprobs"):
            return None
        top = [{"token": token, "logprob": math.log(chance)} for token, chance in self.first_tokens.items()]
        return {"content": [{"token": top[0]["token"], "logprob": top[0]["logprob"], "top_logprobs": top}]}

    async def _write(self, writer: asyncio.StreamWriter, status: int, body: Body, headers: dict[str, str]) -> bool:
        return await self._send(writer, status, json.dumps(body).encode(), headers)

    async def _send(self, writer: asyncio.StreamWriter, status: int, content: bytes, headers: dict[str, str]) -> bool:
        lines = [f"HTTP/1.1 {status} X", "content-type: application/json", f"content-length: {len(content)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + content)
        await writer.drain()
        return True

    async def start(self) -> asyncio.Server:
        server = await asyncio.start_server(self.connection, "127.0.0.1", self.port, backlog=4096)
        self.port = server.sockets[0].getsockname()[1]
        return server


@contextlib.contextmanager
def serving(server: FakeServer) -> Iterator[FakeServer]:
    """Run a server in a thread while the block lasts."""
    ready, done = threading.Event(), threading.Event()

    async def serve() -> None:
        listening = await server.start()
        ready.set()
        while not done.is_set():
            await asyncio.sleep(0.01)
        listening.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield server
    finally:
        done.set()
        thread.join(10)


async def _serve_for_ever(server: FakeServer) -> None:
    listening = await server.start()
    print(server.port, flush=True)
    async with listening:
        await listening.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency-s", type=float, default=0.0)
    given = parser.parse_args()
    asyncio.run(_serve_for_ever(FakeServer(latency_s=given.latency_s, keep=False)))
