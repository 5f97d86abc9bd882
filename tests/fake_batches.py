"""The Batch API of the fake server: files and batches in memory, as the openai package calls them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Body = dict[str, Any]


def whole(_: Body) -> None:
    """Fail nothing."""


@dataclass
class FakeBatches:
    """What was sent up, and what came of it.

    Attributes:
        polls: How often a batch is looked at before it has ended.
        fail: From a request to the HTTP status that it fails with, or None.
        end: The status that batches end in.
        expired: True for requests that an expired batch leaves without an answer.
        refuse: Why every batch is refused when it is validated, or nothing.
        lose: From "METHOD path" and how often it was called to True if the reply is lost after the deed.
        files: Name and content of each file by its id.
        batches: Each batch by its id.
        answered: How often each request was answered, by its custom id.
        calls: How often each route was called.
    """

    polls: int = 2
    fail: Callable[[Body], int | None] = whole
    end: str = "completed"
    expired: Callable[[Body], bool] = lambda _: False
    refuse: str = ""
    lose: Callable[[str, int], bool] = lambda *_: False
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    batches: dict[str, Body] = field(default_factory=dict)
    answered: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)

    def respond(
        self, method: str, path: str, content: bytes, answer: Callable[[Body], Body]
    ) -> tuple[int, bytes] | None:
        """Serve one request; None if its reply is lost on the way."""
        parts = path.rsplit("/v1/", maxsplit=1)[-1].split("/")
        route = f"{method} {parts[0]}"
        self.calls[route] += 1
        reply: Body | bytes
        if route == "POST files":
            reply = self._upload(content)
        elif route == "GET files" and parts[-1] == "content":
            reply = self.files[parts[1]][1]
        elif route == "GET files":
            reply = {"object": "list", "has_more": False, "data": [self._file(id) for id in self.files]}
        elif route == "POST batches":
            reply = self._create(json.loads(content))
        elif len(parts) > 1:
            reply = self._look(self.batches[parts[1]], answer)
        else:
            shown = [self._shown(batch) for batch in self.batches.values()]
            reply = {"object": "list", "has_more": False, "data": shown}
        if self.lose(route, self.calls[route]):
            return None
        return 200, reply if isinstance(reply, bytes) else json.dumps(reply).encode()

    def _upload(self, content: bytes) -> Body:
        boundary = content.split(b"\r\n", 1)[0]
        for part in content.split(boundary)[1:-1]:
            head, body = part.split(b"\r\n\r\n", 1)
            if b"filename=" in head:
                name = head.split(b'filename="')[1].split(b'"')[0].decode()
                id = f"file-{len(self.files)}"
                self.files[id] = (name, body.removesuffix(b"\r\n"))
                return self._file(id)
        raise AssertionError(content[:200])

    def _file(self, id: str) -> Body:
        name, content = self.files[id]
        known = {"id": id, "object": "file", "filename": name, "bytes": len(content), "created_at": 0}
        return {**known, "purpose": "batch", "status": "processed"}

    def _create(self, body: Body) -> Body:
        assert body["endpoint"] == "/v1/chat/completions"
        assert body["completion_window"] == "24h"
        id = f"batch-{len(self.batches)}"
        kept = {"id": id, "object": "batch", "created_at": 0, "status": "validating", "looks": 0}
        self.batches[id] = {**kept, **body, "output_file_id": None, "error_file_id": None, "errors": None}
        return self._shown(self.batches[id])

    def _shown(self, batch: Body) -> Body:
        return {name: value for name, value in batch.items() if name != "looks"}

    def _look(self, batch: Body, answer: Callable[[Body], Body]) -> Body:
        batch["looks"] += 1
        if self.refuse:
            error = {"code": "invalid", "message": self.refuse, "line": 1, "param": None}
            return self._shown(batch | {"status": "failed", "errors": {"object": "list", "data": [error]}})
        lines = self.files[batch["input_file_id"]][1].splitlines()
        if batch["looks"] <= self.polls:
            batch["status"] = "in_progress"
            batch["request_counts"] = {"completed": 0, "failed": 0, "total": len(lines)}
        elif batch["status"] not in ("completed", "expired"):
            batch["status"] = self.end
            done = [self._done(json.loads(line), answer) for line in lines]
            for name, part in (
                ("output", [one for one in done if _is_answer(one)]),
                ("error", [one for one in done if not _is_answer(one)]),
            ):
                if part:
                    id = f"file-{len(self.files)}"
                    self.files[id] = (f"{name}.jsonl", b"".join(json.dumps(one).encode() + b"\n" for one in part))
                    batch[f"{name}_file_id"] = id
        return self._shown(batch)

    def _done(self, line: Body, answer: Callable[[Body], Body]) -> Body:
        assert (line["method"], line["url"]) == ("POST", "/v1/chat/completions")
        known = {"id": "r", "custom_id": line["custom_id"]}
        if self.expired(line["body"]):
            return {**known, "response": None, "error": {"code": "batch_expired", "message": "the day was over"}}
        status = self.fail(line["body"])
        if status is not None:
            body = {"error": {"message": f"fault {status}"}}
            return {**known, "response": {"status_code": status, "request_id": "x", "body": body}, "error": None}
        reply = answer(line["body"])
        if "error" in reply:
            return {**known, "response": {"status_code": 400, "request_id": "x", "body": reply}, "error": None}
        self.answered[line["custom_id"]] += 1
        return {**known, "response": {"status_code": 200, "request_id": "x", "body": reply}, "error": None}


def _is_answer(line: Body) -> bool:
    return bool(line["response"]) and line["response"]["status_code"] == 200
