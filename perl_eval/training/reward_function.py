"""What a policy is trained on: reward models, ensembles of them, or any function of prompts and samples."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path

from perl_eval.errors import UserError
from perl_eval.models.backbone import Backbone
from perl_eval.models.ensemble import Ensemble, EnsembleRule
from perl_eval.models.generate import Rollout
from perl_eval.models.reward_model import REWARD
from perl_eval.sources.rows import Row

__all__ = ["Reward", "function_named", "learned_reward", "signature"]

Reward = Callable[[Sequence[Row], Sequence[Rollout]], Sequence[float]]
"""A reward is any function of prompts and rollouts; higher is better.

`Rollout.text` is what the sample says, `Rollout.ids` are the tokens as sampled.
"""


def learned_reward(
    folders: Path | Sequence[Path],
    backbone: Backbone,
    rule: EnsembleRule | None = None,
    *,
    batch: int = 64,
    name: str = REWARD,
) -> Reward:
    """Return reward models on the backbone as a reward: normalised on the prior, read off the sampled ids.

    Args:
        folders: One output of ``train reward``, or several, which make an ensemble.
        backbone: The frozen prior.
        rule: How an ensemble's rewards become one.
        batch: Sequences a forward pass.
        name: What their adapters are called.
    """
    members = [folders] if isinstance(folders, Path) else list(folders)
    ensemble = Ensemble(members, backbone, rule, batch=batch, name=name)

    def score(_: Sequence[Row], rollouts: Sequence[Rollout]) -> list[float]:
        ensemble.forget()  # a run that goes on from here has the same rewards to the last bit
        return ensemble.normalised([rollout.encoded for rollout in rollouts])

    return score


def function_named(spec: str) -> Reward:
    """Import a reward by ``module:function``.

    Raises:
        UserError: There is no such function.
    """
    module, _, name = spec.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"no reward function {spec!r} ({error})", "give module:function, importable from here"
        ) from None
    if not callable(found):
        raise UserError(f"{spec} is not a function", "give one of prompts and rollouts")
    reward: Reward = found
    return reward


def signature(reward: Reward) -> dict[str, str]:
    """Return a function's name and the sha256 of its source, so that a changed reward is another run."""
    name = f"{getattr(reward, '__module__', '')}:{getattr(reward, '__qualname__', type(reward).__qualname__)}"
    try:
        source = inspect.getsource(reward)
    except (OSError, TypeError):  # a callable object, or one made at a prompt
        source = ""
    return {"function": name, "source sha256": hashlib.sha256(source.encode()).hexdigest()}
