"""From what a user types to a judge: ``scripted:NAME``, ``chat:MODEL`` and the like."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from perl_eval.client.providers import PROVIDERS
from perl_eval.errors import UserError
from perl_eval.judges.backend_options import BackendOptions, Form, VerdictBy
from perl_eval.judges.backends.scripted import SCRIPTS
from perl_eval.judges.protocol import Judge

__all__ = ["SCRIPTS", "BackendOptions", "Form", "VerdictBy", "is_chat", "open_judge", "opener_of", "register_backend"]

Opener = Callable[[str, BackendOptions], Judge]


@dataclass(frozen=True, slots=True)
class _Backend:
    """How a judge of one kind is opened, and what may stand behind its colon: some names, or what a word stands for."""

    opener: Opener
    names: tuple[str, ...]
    closed: bool = False


def _imported(module: str, name: str, options: BackendOptions) -> Judge:
    """Open a judge of a built-in backend, whose module is loaded only then."""
    opened: Judge = importlib.import_module(f"perl_eval.judges.backends.{module}").opened(name, options)
    return opened


def _at_provider(provider: str, name: str, options: BackendOptions) -> Judge:
    """Open a provider's model, by the chat backend, which is loaded only then."""
    opened: Judge = importlib.import_module("perl_eval.judges.backends.chat").opened_at(provider, name, options)
    return opened


_BACKENDS: dict[str, _Backend] = {
    "scripted": _Backend(partial(_imported, "scripted"), tuple(SCRIPTS), closed=True),
    "reward": _Backend(partial(_imported, "reward_model"), ("FOLDER",)),
    "local": _Backend(partial(_imported, "local"), ("FOLDER",)),
    "chat": _Backend(partial(_imported, "chat"), ("MODEL",)),
    "decisions": _Backend(partial(_imported, "decisions"), ("MODEL",)),
    **{name: _Backend(partial(_at_provider, name), ("MODEL",)) for name in PROVIDERS},
}


def register_backend(backend: str, opener: Opener, *, names: str = "MODEL") -> None:
    """Make judges of one's own known, so that ``BACKEND:NAME`` opens one wherever a judge is named.

    Args:
        backend: What stands before the colon.
        opener: Opens a judge, given what stands behind the colon and what backends are told. Workers of a cluster get
            it too, so it must be importable there, or stand in the program that is run.
        names: What may stand behind the colon, as error messages say it.

    Raises:
        UserError: Another one has the name, or it is none.
    """
    if not backend.isidentifier():
        raise UserError(f"{backend!r} is not a name of a backend", "give one word of letters and digits")
    if _BACKENDS.setdefault(backend, _Backend(opener, (names,))).opener is not opener:
        raise UserError(f"a backend {backend!r} is there already", "give yours another name")


def opener_of(spec: str) -> Callable[[BackendOptions], Judge]:
    """Return what opens the judge of a specification, here or on another machine.

    Args:
        spec: See `open_judge`.

    Raises:
        UserError: No such backend, or no such script.
    """
    before, _, name = spec.partition(":")
    backend = _BACKENDS.get(before)
    if backend is None or not name or (backend.closed and name not in backend.names):
        *forms, last = [f"{known}:{form}" for known, entry in _BACKENDS.items() for form in entry.names]
        raise UserError(f"no judge {spec!r}", f"give {', '.join(forms)} or {last}")
    return partial(backend.opener, name)


def is_chat(spec: str) -> bool:
    """Return whether a judge writes its replies, so that they can differ from one time to the next."""
    return spec.partition(":")[0] in ("chat", *PROVIDERS)


def open_judge(spec: str, options: BackendOptions | None = None) -> Judge:
    """Open a judge.

    Args:
        spec: ``scripted:world``, ``scripted:length``, ``scripted:constant``, ``reward:FOLDER`` (the output of
            ``train reward``), ``local:FOLDER`` (a transformers model; both take ``ORG/NAME[@REVISION]`` of the hub too,
            and ``local`` a GGUF file), ``chat:MODEL`` (any OpenAI-compatible server), a model of a provider:
            ``openai:MODEL``, ``anthropic:``, ``google:``, ``mistral:``, ``openrouter:``, ``together:``, ``groq:``,
            ``deepseek:``, ``azure:``, ``ollama:``, ``vllm:`` or ``llamacpp:MODEL`` (see `perl_eval.client.providers`),
            ``decisions:MODEL`` (a server that gives every option a probability), or what `register_backend` was told.
        options: See `BackendOptions`.

    Raises:
        UserError: No such backend, script or model, or no key.

    Example:
        >>> import perl_eval as pe
        >>> pe.open_judge("scripted:length").positional
        True
    """
    return opener_of(spec)(options or BackendOptions())
