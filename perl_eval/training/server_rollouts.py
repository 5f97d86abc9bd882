"""Samples for `train policy` from a server that speaks vLLM's form of OpenAI's completions, or `transformers serve`.

Before each batch the policy is written to a folder that the server can read. vLLM, started with ``--enable-lora`` and
``VLLM_ALLOW_RUNTIME_LORA_UPDATING=True``, loads the adapter under a name of its own and unloads it afterwards. A server
that loads none is asked for a model by its folder: the prior with the adapter added.

Prompts go as token ids and samples come back as token ids, with their log-probabilities, so that what is learned from
is what was sampled. A server that takes text only has its samples tokenized again: how often that gives another number
of tokens than it counted is told, and there are no weights for the difference of the two engines.

What is known of vLLM's requests is from its protocol (vllm/entrypoints/openai: completion and LoRA protocols).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from perl_eval.checks import at_least_one, positive
from perl_eval.client.endpoint import Endpoint
from perl_eval.errors import JudgeError, OptionError, Refused, TurnedAway, UserError
from perl_eval.models.backbone import Backbone
from perl_eval.models.generate import Rollout, Sampling
from perl_eval.models.merge import merged

__all__ = ["ServerRollouts", "ServerSampler"]

_SEED_BITS = 31
_HELP = "start `vllm serve PRIOR --enable-lora` with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, or `transformers serve`"


@dataclass(frozen=True, slots=True)
class ServerRollouts:
    """Where samples come from.

    Attributes:
        url: The server's address, up to and with ``/v1``.
        weight_cap: The largest weight for the difference of the server's probabilities from the trainer's.
        level: Whether a token or a sequence is weighed.
        max_concurrency: Requests on their way at one time, at most.
        attempts: How often a request is sent before the run is given up.
        timeout_s: Longest wait for one reply.
        key_variable: Environment variable that holds the server's key, if it wants one.
    """

    url: str
    weight_cap: float = 3.0
    level: Literal["token", "sequence"] = "token"
    max_concurrency: int = 64
    attempts: int = 6
    timeout_s: float = 600.0
    key_variable: str = "OPENAI_API_KEY"

    def __post_init__(self) -> None:
        at_least_one(self, "max_concurrency", "attempts")
        positive(self, "weight_cap", "timeout_s")
        if self.level not in ("token", "sequence"):
            raise OptionError("level", repr(self.level), "choose from token, sequence")


class ServerSampler:
    """Draws samples of a policy from a server.

    Args:
        options: See `ServerRollouts`.
        backbone: The policy's backbone.
        adapter: The policy's adapter; None for its own weights.
        folder: Where the policy is put for the server to read.
    """

    def __init__(self, options: ServerRollouts, backbone: Backbone, adapter: str | None, folder: Path) -> None:
        self.options, self.backbone, self.adapter = options, backbone, adapter
        self.folder = folder.resolve()
        self.endpoint = Endpoint(options.url, options.key_variable, options.timeout_s, None, None)
        self.loads, self.takes_ids = adapter is not None, True
        self.otherwise = 0
        """Samples whose text gave another number of tokens than the server counted."""

    def sample(
        self, prompts: Sequence[Sequence[int]], seeds: Sequence[int], sampling: Sampling, number: int
    ) -> list[Rollout]:
        """Return one completion a prompt by the policy as it stands.

        Args:
            prompts: Token ids, ending where the assistant speaks.
            seeds: One a prompt.
            sampling: Temperature and length.
            number: Of the batch.

        Raises:
            UserError: The server cannot be had, or knows neither how to load an adapter nor models by folder.
        """
        place = self.folder / f"policy-{number}"
        try:
            return _alone(self._sampled(place, prompts, seeds, sampling))
        except JudgeError as error:
            raise UserError(f"no samples from {self.options.url}: {error}", _HELP) from None
        finally:
            shutil.rmtree(place, ignore_errors=True)

    async def _sampled(
        self, place: Path, prompts: Sequence[Sequence[int]], seeds: Sequence[int], sampling: Sampling
    ) -> list[Rollout]:
        try:
            model = await self._offered(place)
            gate = asyncio.Semaphore(self.options.max_concurrency)
            first = await self._one(model, prompts[0], seeds[0], sampling, gate)  # finds out what the server takes
            others = zip(prompts[1:], seeds[1:], strict=True)
            rest = await asyncio.gather(*(self._one(model, *one, sampling, gate) for one in others))
            if self.loads:
                with contextlib.suppress(Refused, TurnedAway):
                    await self.endpoint.tell("/unload_lora_adapter", {"lora_name": model})
            return [first, *rest]
        finally:
            await self.endpoint.close()

    async def _offered(self, place: Path) -> str:
        """Put the policy where the server reads it; return the model that it is then."""
        if self.adapter is None:
            self.backbone.save(None, place)
            self.backbone.processor.save_pretrained(place)
            return str(place)
        self.backbone.save(self.adapter, place)
        if self.loads:
            name = f"perl-eval-{os.getpid()}-{place.name}"
            try:
                await self.endpoint.tell("/load_lora_adapter", {"lora_name": name, "lora_path": str(place)})
            except (Refused, TurnedAway):
                self.loads = False
            else:
                return name
        whole = place / "whole"
        merged(place).save_pretrained(whole, safe_serialization=True)
        self.backbone.processor.save_pretrained(whole)
        return str(whole)

    async def _one(
        self, model: str, prompt: Sequence[int], seed: int, sampling: Sampling, gate: asyncio.Semaphore
    ) -> Rollout:
        """Ask for one sample, again where that can help."""
        async with gate:
            for attempt in range(self.options.attempts):
                try:
                    posted = await self.endpoint.post("/completions", self._body(model, prompt, seed, sampling))
                except Refused:
                    if not self.takes_ids:
                        raise
                    self.takes_ids = False
                except JudgeError as error:
                    if isinstance(error, TurnedAway) or attempt + 1 == self.options.attempts:
                        raise
                    await asyncio.sleep(0.5 * 2**attempt)
                else:
                    return self._read(prompt, posted.content)
            raise JudgeError(f"no sample in {self.options.attempts} attempts")

    def _body(self, model: str, prompt: Sequence[int], seed: int, sampling: Sampling) -> dict[str, object]:
        """Return a request for plain ancestral sampling, whatever the model's own generation config says."""
        body: dict[str, object] = {
            "model": model,
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": 1.0,
            "seed": seed % 2**_SEED_BITS,
        }
        if self.takes_ids:
            plain = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "logprobs": 1, "return_token_ids": True}
            return {**body, **plain, "prompt": list(prompt)}
        ends = sorted(self.backbone.end_ids)
        config = {"do_sample": True, "top_k": 0, "eos_token_id": ends, "pad_token_id": self.backbone.pad_id}
        text = self.backbone.tokenizer.decode(list(prompt), skip_special_tokens=False)
        return {**body, "prompt": text, "generation_config": json.dumps(config)}

    def _read(self, prompt: Sequence[int], content: Mapping[str, Any]) -> Rollout:
        """Read a sample off a reply.

        Raises:
            JudgeError: It has another form.
        """
        try:
            choice = content["choices"][0]
            finished = choice["finish_reason"] == "stop"
            log_probs: tuple[float, ...] = ()
            if choice.get("token_ids") is None:
                ids = self._tokenized(choice["text"], content)
            else:
                ids = tuple(int(one) for one in choice["token_ids"])
                log_probs = tuple(_number(one) for one in choice["logprobs"]["token_logprobs"])
                if len(ids) != len(log_probs):
                    raise ValueError(f"{len(ids)} tokens have {len(log_probs)} log-probabilities")
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise JudgeError(f"the reply has an unexpected form: {type(error).__name__} {error}") from None
        if finished and (not ids or ids[-1] not in self.backbone.end_ids):
            ids, log_probs = (*ids, self.backbone.end_id), (*log_probs, float("nan")) if log_probs else ()
        if not ids:
            raise JudgeError("the reply has no token")
        spoken = ids[:-1] if finished else ids
        text: str = self.backbone.tokenizer.decode(list(spoken)).strip()
        return Rollout(tuple(prompt), ids, finished, text, log_probs=log_probs)

    def _tokenized(self, text: str, content: Mapping[str, Any]) -> tuple[int, ...]:
        """Return the ids of a sample that came as text, its end left out."""
        ids: list[int] = self.backbone.tokenizer(text, add_special_tokens=False)["input_ids"]
        counted = (content.get("usage") or {}).get("completion_tokens")
        self.otherwise += counted is not None and counted - len(ids) not in (0, 1)
        return tuple(ids)


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _alone(work: Coroutine[Any, Any, list[Rollout]]) -> list[Rollout]:
    """Run to the end on an event loop of its own, in a thread, where a caller's loop may be running."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(asyncio.run, work).result()
