"""What backends may be told when a judge is opened; each takes what concerns it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from perl_eval.checks import at_least_one, finite, not_negative, positive
from perl_eval.errors import UserError

__all__ = ["BackendOptions", "Form", "VerdictBy"]

Form = Literal["openai", "systemone"]
VerdictBy = Literal["structured", "text", "logprobs"]


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """What a backend may be told; each takes what concerns it.

    Attributes:
        position_bias: Of a scripted judge, for the first answer, in units of utility.
        noise: Of a scripted judge: standard deviation of a margin's error.
        tie_margin: A difference up to this size is a tie: of utilities, of rewards, or of option probabilities.
        threshold: A single answer is a yes above this utility or reward.
        base_url: Address of a server; None is OpenAI's own, or the one of the provider that the judge names.
        seed: Of a scripted judge's errors.
        verdict_by: How a chat judge is read: ``structured`` (JSON by a schema where the server takes one, else text),
            ``text``, or ``logprobs`` (text, and the probabilities of its first token).
        verdict_pattern: A regular expression by which a chat judge is read instead, see `perl_eval.parse_verdict`.
        temperature: Of a chat judge's sampling.
        max_reply_tokens: Longest reply of a chat judge.
        form: How a decisions server is spoken to: ``openai``, or ``systemone`` (``transformers serve``).
        tie_option: Offer a tie as an option where options have probabilities.
        timeout_s: Longest wait for one reply of a server.
        price_in_usd: Price of a million tokens in, if known.
        price_out_usd: Price of a million tokens out, if known.
        key_file: File that holds the key of a server; by default the key is in ``OPENAI_API_KEY``, or in the
            provider's own variable.
        local_batch: Questions that a local model or a reward model answers before its answers are kept.
        chat_template: Of a local judge: file with a chat template in place of its tokenizer's own.
    """

    position_bias: float = 0.0
    noise: float = 0.0
    tie_margin: float = 0.0
    threshold: float = 0.0
    base_url: str | None = None
    seed: int = 0
    verdict_by: VerdictBy = "structured"
    verdict_pattern: str | None = None
    temperature: float = 0.0
    max_reply_tokens: int = 512
    form: Form = "openai"
    tie_option: bool = False
    timeout_s: float = 60.0
    price_in_usd: float | None = None
    price_out_usd: float | None = None
    key_file: Path | None = None
    local_batch: int = 16
    chat_template: Path | None = None

    def __post_init__(self) -> None:
        at_least_one(self, "max_reply_tokens", "local_batch")
        positive(self, "timeout_s")
        not_negative(self, "temperature", "price_in_usd", "price_out_usd", "noise", "tie_margin")
        finite(self, "position_bias", "threshold")
        for name, allowed in (("verdict_by", get_args(VerdictBy)), ("form", get_args(Form))):
            if getattr(self, name) not in allowed:
                raise UserError(f"{name} is {getattr(self, name)!r}", f"choose from {', '.join(allowed)}")
