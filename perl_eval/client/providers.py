"""Providers of models by name: where each one speaks OpenAI's chat form, which variable holds its key, what it lacks.

Addresses, variables and what is lacking are those of each provider's own pages, named in its `Provider.source`. What is
lacking and not known here is learnt from the first answer, as with any server.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from perl_eval.errors import UserError

__all__ = ["LOGPROBS", "PROVIDERS", "Access", "LimitName", "Provider", "access", "is_local"]

LimitName = Literal["max_tokens", "max_completion_tokens"]
LOGPROBS = frozenset({"logprobs", "top_logprobs"})
_SCHEMA = frozenset({"response_format"})


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider's OpenAI-compatible form.

    Attributes:
        base_url: Its address, to which ``/chat/completions`` is added; "" if it differs from customer to customer.
        key_variables: Environment variables that may hold the key, the one that counts first.
        source: Where its own documentation says so.
        address_variable: Environment variable that gives its address, or another one than `base_url`.
        limit_name: What it calls the longest reply.
        not_taken: Options of a request that it documents to refuse or to leave unheeded.
    """

    base_url: str
    key_variables: tuple[str, ...]
    source: str
    address_variable: str = ""
    limit_name: LimitName = "max_tokens"
    not_taken: frozenset[str] = frozenset()


PROVIDERS: Mapping[str, Provider] = {
    # max_tokens: "deprecated in favor of max_completion_tokens, and is not compatible with o-series models"
    "openai": Provider(
        "https://api.openai.com/v1",
        ("OPENAI_API_KEY",),
        "https://platform.openai.com/docs/api-reference/chat/create, and the openai package",
        address_variable="OPENAI_BASE_URL",
        limit_name="max_completion_tokens",
    ),
    # response_format, logprobs, top_logprobs and seed: "ignored"
    "anthropic": Provider(
        "https://api.anthropic.com/v1",
        ("ANTHROPIC_API_KEY",),
        "https://docs.anthropic.com/en/api/openai-sdk",
        not_taken=LOGPROBS | _SCHEMA | {"seed"},
    ),
    # "if both are set, GOOGLE_API_KEY takes precedence"; which options are taken was not found documented
    "google": Provider(
        "https://generativelanguage.googleapis.com/v1beta/openai",
        ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
        "https://ai.google.dev/gemini-api/docs/openai and https://ai.google.dev/gemini-api/docs/api-key",
    ),
    # its ChatCompletionRequest has no logprobs, and calls the seed random_seed
    "mistral": Provider(
        "https://api.mistral.ai/v1",
        ("MISTRAL_API_KEY",),
        "https://docs.mistral.ai/api, and docs/models/chatcompletionrequest.md of mistralai/client-python",
        not_taken=LOGPROBS | {"seed"},
    ),
    # what is taken depends on the model behind it
    "openrouter": Provider(
        "https://openrouter.ai/api/v1",
        ("OPENROUTER_API_KEY",),
        "https://openrouter.ai/docs/api-reference/overview; the variable is the one of its examples",
    ),
    # which options are taken was not found documented
    "together": Provider(
        "https://api.together.ai/v1",
        ("TOGETHER_API_KEY",),
        "https://docs.together.ai/docs/inference/openai-compatibility",
    ),
    # logprobs and top_logprobs "will result in a 400 error"
    "groq": Provider(
        "https://api.groq.com/openai/v1",
        ("GROQ_API_KEY",),
        "https://console.groq.com/docs/openai",
        not_taken=LOGPROBS,
    ),
    # response_format is text or json_object; its own page could not be read, copies of it say so
    "deepseek": Provider(
        "https://api.deepseek.com",
        ("DEEPSEEK_API_KEY",),
        "https://api-docs.deepseek.com/api/create-chat-completion",
        not_taken=_SCHEMA,
    ),
    # the v1 form, without api-version; a model is called by the name of its deployment
    "azure": Provider(
        "",
        ("AZURE_OPENAI_API_KEY",),
        "https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle",
        address_variable="AZURE_OPENAI_ENDPOINT",
        limit_name="max_completion_tokens",
    ),
    # the key is "required but ignored"
    "ollama": Provider(
        "http://localhost:11434/v1",
        ("OLLAMA_API_KEY",),
        "docs/openai.md of ollama/ollama; the variable is not named there",
    ),
    "vllm": Provider(
        "http://localhost:8000/v1",
        ("VLLM_API_KEY",),
        "docs/serving/openai_compatible_server.md and vllm/envs.py of vllm-project/vllm",
    ),
    "llamacpp": Provider(
        "http://localhost:8080/v1",
        ("LLAMA_API_KEY",),
        "tools/server/README.md of ggml-org/llama.cpp",
    ),
}
"""The providers, by what stands before the colon of a judge."""
_AZURE_PATH = "/openai/v1"


@dataclass(frozen=True, slots=True)
class Access:
    """How to get at a provider: its address, the variable that holds the key, and whether there must be one."""

    base_url: str
    key_variable: str
    key_needed: bool


def access(name: str, base_url: str | None = None, key_file: Path | None = None) -> Access:
    """Return how to get at a provider.

    Args:
        name: One of `PROVIDERS`.
        base_url: Another address than its own.
        key_file: File that holds the key, instead of a variable.

    Raises:
        UserError: There is no key, and the address is not one of this machine or a private network; or no address.
    """
    provider = PROVIDERS[name]
    where = base_url or _address(name, provider)
    variable = next((one for one in provider.key_variables if os.environ.get(one)), "")
    needed = not is_local(where)
    if needed and key_file is None and not variable:
        several = len(provider.key_variables) > 1
        unset = f"neither {' nor '.join(provider.key_variables)}" if several else provider.key_variables[0]
        raise UserError(
            f"{name} needs a key, and {unset} is {'set' if several else 'not set'}",
            "put the key there, or into a file for --key-file",
        )
    return Access(where, variable or provider.key_variables[0], needed)


def _address(name: str, provider: Provider) -> str:
    """Return the address that stands in a variable, or the provider's own."""
    given = os.environ.get(provider.address_variable, "").strip().rstrip("/") if provider.address_variable else ""
    if provider.base_url:
        return given or provider.base_url
    if not given:
        raise UserError(
            f"{name} has no address of its own, and {provider.address_variable} is not set",
            "put https://RESOURCE.openai.azure.com there, or give --base-url",
        )
    return given if given.endswith(_AZURE_PATH) else given + _AZURE_PATH


def is_local(url: str) -> bool:
    """Return whether an address is on this machine or in a private network, where servers often want no key."""
    host = (urlsplit(url).hostname or "").lower()
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return bool(host) and ("." not in host or host.endswith((".localhost", ".local")))
    return address.is_loopback or address.is_private or address.is_link_local
