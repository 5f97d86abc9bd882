"""From what a user types to a judge: ``scripted:NAME``, ``reward:FOLDER``, ``chat:MODEL``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from perl_eval import runs, world
from perl_eval.errors import UserError
from perl_eval.judges.protocol import Judge
from perl_eval.judges.scripted import ScriptedJudge
from perl_eval.records import Completion

__all__ = ["SCRIPTS", "DoorOptions", "open_judge"]


def _length(completion: Completion) -> float:
    return float(len(completion.text))


def _constant(_: Completion) -> float:
    return 0.0


SCRIPTS: Mapping[str, Callable[[Completion], float]] = {
    "world": world.true_reward_of,
    "length": _length,
    "constant": _constant,
}
"""Utilities for the scripted door: the embedded world's truth, the number of characters, nothing at all."""


@dataclass(frozen=True, slots=True)
class DoorOptions:
    """What a door may be told.

    ``position_bias`` (in units of utility, for the first answer), ``noise`` (standard deviation) and ``tie_margin`` are
    for scripted judges; ``tie_margin`` and ``threshold`` for reward models too; ``base_url`` for chat.
    """

    position_bias: float = 0.0
    noise: float = 0.0
    tie_margin: float = 0.0
    threshold: float = 0.0
    base_url: str | None = None
    seed: int = 0


def open_judge(spec: str, options: DoorOptions | None = None) -> Judge:
    """Open a judge.

    Args:
        spec: ``scripted:world``, ``scripted:length``, ``scripted:constant``, ``reward:FOLDER`` (the output of
            ``train reward``), or ``chat:MODEL`` (any OpenAI-compatible server; the key comes from ``OPENAI_API_KEY``).
        options: See `DoorOptions`.

    Raises:
        UserError: No such door, script or reward model.
    """
    options = options or DoorOptions()
    door, _, name = spec.partition(":")
    if door == "scripted" and name in SCRIPTS:
        return ScriptedJudge(
            SCRIPTS[name],
            name=name,
            position_bias=options.position_bias,
            noise=options.noise,
            tie_margin=options.tie_margin,
            threshold=options.threshold,
            seed=options.seed,
        )
    if door == "reward" and name:
        return _reward_judge(Path(name), options)
    if door == "chat" and name:
        from perl_eval.judges.chat import ChatJudge, ChatOptions

        return ChatJudge(name, ChatOptions(base_url=options.base_url))
    scripts = ", ".join(f"scripted:{script}" for script in SCRIPTS)
    raise UserError(f"no judge {spec!r}", f"give {scripts}, reward:FOLDER or chat:MODEL")


def _reward_judge(folder: Path, options: DoorOptions) -> Judge:
    from perl_eval.judges.reward import RewardJudge
    from perl_eval.models.backbone import open_backbone
    from perl_eval.models.scorer import RewardScorer

    scorer = RewardScorer(folder, open_backbone(folder))
    return RewardJudge(
        scorer,
        name=f"{folder.name}@{runs.fingerprint(folder)[:12]}",
        threshold=options.threshold,
        tie_margin=options.tie_margin,
    )
