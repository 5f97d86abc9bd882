"""From what a user types to a judge: ``scripted:NAME``, ``chat:MODEL`` and the like."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from perl_eval.errors import UserError
from perl_eval.judges.backends.reward_model import RewardJudge
from perl_eval.judges.backends.scripted import ScriptedJudge
from perl_eval.judges.protocol import Judge
from perl_eval.records import Completion
from perl_eval.storage import run_folder
from perl_eval.worlds import coffee

__all__ = ["SCRIPTS", "DoorOptions", "Form", "VerdictBy", "open_judge"]

Form = Literal["openai", "systemone"]
VerdictBy = Literal["structured", "text", "logprobs"]


def _length(completion: Completion) -> float:
    return float(len(completion.text))


def _constant(_: Completion) -> float:
    return 0.0


SCRIPTS: Mapping[str, Callable[[Completion], float]] = {
    "world": coffee.true_reward_of,
    "length": _length,
    "constant": _constant,
}
"""Utilities for the scripted door: the embedded world's truth, the number of characters, nothing at all."""


@dataclass(frozen=True, slots=True)
class DoorOptions:
    """What a door may be told; each takes what concerns it.

    Attributes:
        position_bias: Of a scripted judge, for the first answer, in units of utility.
        noise: Of a scripted judge: standard deviation of a margin's error.
        tie_margin: A difference up to this size is a tie: of utilities, of rewards, or of option probabilities.
        threshold: A single answer is a yes above this utility or reward.
        base_url: Address of a server; None is OpenAI's own.
        seed: Of a scripted judge's errors.
        verdict_by: How a chat judge is read: ``structured`` (JSON by a schema where the server takes one, else text),
            ``text``, or ``logprobs`` (text, and the probabilities of its first token).
        temperature: Of a chat judge's sampling.
        max_tokens: Longest reply of a chat judge.
        form: How a decisions server is spoken to: ``openai``, or ``systemone`` (``transformers serve``).
        tie_option: Offer a tie as an option where options have probabilities.
        timeout_s: Longest wait for one reply of a server.
        price_in_usd: Price of a million tokens in, if known.
        price_out_usd: Price of a million tokens out, if known.
        key_file: File that holds the key of a server; by default the key is in ``OPENAI_API_KEY``.
        group: Questions that go through a local model together.
    """

    position_bias: float = 0.0
    noise: float = 0.0
    tie_margin: float = 0.0
    threshold: float = 0.0
    base_url: str | None = None
    seed: int = 0
    verdict_by: VerdictBy = "structured"
    temperature: float = 0.0
    max_tokens: int = 512
    form: Form = "openai"
    tie_option: bool = False
    timeout_s: float = 60.0
    price_in_usd: float | None = None
    price_out_usd: float | None = None
    key_file: Path | None = None
    group: int = 16

    def __post_init__(self) -> None:
        for name in ("timeout_s", "max_tokens", "group"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name} is {getattr(self, name)}", "give a number above 0")
        for name in ("temperature", "price_in_usd", "price_out_usd"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise UserError(f"{name} is {value}", "give a number of at least 0")
        for name, allowed in (("verdict_by", get_args(VerdictBy)), ("form", get_args(Form))):
            if getattr(self, name) not in allowed:
                raise UserError(f"{name} is {getattr(self, name)!r}", f"choose from {', '.join(allowed)}")


def open_judge(spec: str, options: DoorOptions | None = None) -> Judge:
    """Open a judge.

    Args:
        spec: ``scripted:world``, ``scripted:length``, ``scripted:constant``, ``reward:FOLDER`` (the output of
            ``train reward``), ``local:FOLDER`` (a transformers model), ``chat:MODEL`` (any OpenAI-compatible server) or
            ``decisions:MODEL`` (a server that gives every option a probability).
        options: See `DoorOptions`.

    Raises:
        UserError: No such door, script or model, or no key.

    Example:
        >>> import perl_eval as pe
        >>> pe.open_judge("scripted:length").positional
        True
    """
    options = options or DoorOptions()
    door, _, name = spec.partition(":")
    open_door = _DOORS.get(door)
    if open_door is None or not name or (door == "scripted" and name not in SCRIPTS):
        scripts = ", ".join(f"scripted:{script}" for script in SCRIPTS)
        raise UserError(
            f"no judge {spec!r}", f"give {scripts}, reward:FOLDER, local:FOLDER, chat:MODEL or decisions:MODEL"
        )
    return open_door(name, options)


def _scripted_judge(name: str, options: DoorOptions) -> Judge:
    return ScriptedJudge(
        SCRIPTS[name],
        name=name,
        position_bias=options.position_bias,
        noise=options.noise,
        tie_margin=options.tie_margin,
        threshold=options.threshold,
        seed=options.seed,
    )


def _chat_judge(name: str, options: DoorOptions) -> Judge:
    from perl_eval.judges.backends.chat import ChatJudge, ChatOptions

    return ChatJudge(
        name,
        ChatOptions(
            base_url=options.base_url,
            temperature=options.temperature,
            max_tokens=options.max_tokens,
            logprobs=options.verdict_by == "logprobs",
            structured=options.verdict_by == "structured",
            timeout_s=options.timeout_s,
            price_in_usd=options.price_in_usd,
            price_out_usd=options.price_out_usd,
            key_file=options.key_file,
        ),
    )


def _decisions_judge(name: str, options: DoorOptions) -> Judge:
    from perl_eval.judges.backends.decisions import DecisionJudge, DecisionOptions

    return DecisionJudge(
        name,
        DecisionOptions(
            form=options.form,
            base_url=options.base_url,
            tie=options.tie_option,
            tie_margin=options.tie_margin,
            timeout_s=options.timeout_s,
            price_in_usd=options.price_in_usd,
            price_out_usd=options.price_out_usd,
            key_file=options.key_file,
        ),
    )


def _local_judge(name: str, options: DoorOptions) -> Judge:
    from perl_eval.judges.backends.local import open_local

    return open_local(Path(name), tie=options.tie_option, tie_margin=options.tie_margin, group=options.group)


def _reward_judge(name: str, options: DoorOptions) -> Judge:
    from perl_eval.models.backbone import open_backbone
    from perl_eval.models.reward_model import RewardScorer

    folder = Path(name)
    scorer = RewardScorer(folder, open_backbone(folder))
    return RewardJudge(
        scorer,
        name=f"{folder.name}@{run_folder.fingerprint(folder)[:12]}",
        threshold=options.threshold,
        tie_margin=options.tie_margin,
        slope=scorer.scale.slope_of_reward,
        intercept=scorer.scale.intercept_of_reward,
    )


_DOORS: Mapping[str, Callable[[str, DoorOptions], Judge]] = {
    "scripted": _scripted_judge,
    "reward": _reward_judge,
    "local": _local_judge,
    "chat": _chat_judge,
    "decisions": _decisions_judge,
}
