"""A server that samples like vLLM, adapters loaded while it runs, or like `transformers serve`: of real tiny models.

What it asks for and gives is of vllm/entrypoints/openai (its completion and LoRA protocols): a loaded name cannot be
loaded again, success is told as plain text, token ids come where ``return_token_ids`` is said. As `transformers serve`
it refuses fields that it does not know, and prompts that are not text, and gives text alone.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch

from perl_eval.models.backbone import Backbone, open_backbone
from perl_eval.models.generate import Rollout, Sampling, generate
from perl_eval.models.log_probs import token_log_probs
from perl_eval.models.tokenize import pad

KNOWN = {"model", "prompt", "max_tokens", "temperature", "top_p", "seed", "generation_config", "stream"}


@dataclass
class RolloutServer:
    """What is served, and what was asked.

    ``loads`` is whether adapters can be loaded, ``text_only`` whether it is as ``transformers serve``; ``stale`` keeps
    the first adapter whatever is loaded later; ``off`` is added to each log-probability that it tells.
    """

    prior: Path
    loads: bool = True
    text_only: bool = False
    stale: bool = False
    off: float = 0.0
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    loaded: dict[str, Backbone] = field(default_factory=dict)
    fail: int = 0
    url: str = ""

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, str | dict[str, Any]]:
        self.asked.append((path, body))
        if path == "/v1/load_lora_adapter" and self.loads:
            return self._load(body["lora_name"], Path(body["lora_path"]))
        if path == "/v1/unload_lora_adapter" and self.loads:
            if not self.stale:
                del self.loaded[body["lora_name"]]
            return 200, "Success"
        if path != "/v1/completions":
            return 404, {"detail": "Not Found"}
        if self.fail:
            self.fail -= 1
            return 503, {"error": {"message": "busy"}}
        if self.text_only:
            if set(body) - KNOWN or not isinstance(body["prompt"], str):
                return 422, {"detail": "Unexpected fields in the request"}
            return 200, self._said(open_backbone(Path(body["model"])), None, body)
        if body["model"] not in self.loaded:
            return 404, {"error": {"message": f"The model `{body['model']}` does not exist."}}
        names = list(self.loaded)
        return 200, self._said(self.loaded[names[0] if self.stale else body["model"]], "served", body)

    def _load(self, name: str, folder: Path) -> tuple[int, str | dict[str, Any]]:
        if name in self.loaded:
            return 400, {"error": {"message": f"The lora adapter '{name}' has already been loaded."}}
        if not (self.stale and self.loaded):
            backbone = open_backbone(self.prior)
            backbone.attach_saved("served", folder)
            self.loaded[name] = backbone
        else:
            self.loaded[name] = next(iter(self.loaded.values()))
        return 200, f"Success: LoRA adapter '{name}' added successfully."

    def _said(self, backbone: Backbone, adapter: str | None, body: dict[str, Any]) -> dict[str, Any]:
        prompt = body["prompt"]
        ids = backbone.tokenizer(prompt, add_special_tokens=False)["input_ids"] if self.text_only else prompt
        with backbone.adapter(adapter):
            sampling = Sampling(body["temperature"], body["max_tokens"])
            (rollout,) = generate(backbone, [ids], [body["seed"]], sampling)
            told = _log_probs(backbone, rollout)
        choice: dict[str, Any] = {
            "index": 0,
            "text": backbone.tokenizer.decode(rollout.ids, skip_special_tokens=True),
            "finish_reason": "stop" if rollout.finished else "length",
        }
        if not self.text_only:
            choice["token_ids"] = list(rollout.ids)
            choice["logprobs"] = {"token_logprobs": [value + self.off for value in told]}
        return {"choices": [choice], "usage": {"prompt_tokens": len(ids), "completion_tokens": len(rollout.ids)}}


@torch.no_grad()
def _log_probs(backbone: Backbone, rollout: Rollout) -> list[float]:
    batch = pad([rollout.encoded], pad_id=backbone.pad_id)
    found = token_log_probs(backbone, backbone.hidden(batch), batch, 1.0)
    values: list[float] = found[batch.trained].tolist()
    assert all(math.isfinite(value) for value in values)
    return values


@contextmanager
def serving(server: RolloutServer) -> Iterator[RolloutServer]:
    """Serve until the block ends, one request at a time."""
    one = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with one:
                status, said = server.answer(self.path, body)
            content = (said if isinstance(said, str) else json.dumps(said)).encode()
            self.send_response(status)
            self.send_header("content-type", "text/plain" if isinstance(said, str) else "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.daemon_threads = True
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{made.server_port}/v1"
    try:
        yield server
    finally:
        made.shutdown()
        made.server_close()
        thread.join()
