"""Verbs that train and sample models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from perl_eval.cli.options import (
    Data,
    MaxTokens,
    NewTokens,
    Out,
    Prior,
    Rank,
    Seed,
    Targets,
    lora_shape,
    one_of,
    require_torch,
)
from perl_eval.cli.shown import done, show
from perl_eval.errors import UserError


def train_sft(
    data: Data,
    out: Out,
    model: Annotated[str, typer.Option(help="Model folder, or scratch:tiny|small|medium.")] = "scratch:tiny",
    epochs: float = 3.0,
    batch: int = 64,
    learning_rate: float = 2e-3,
    max_tokens: MaxTokens = 512,
    seed: Seed = 0,
) -> None:
    """Demonstration rows to a model, by imitation of the assistant's turns."""
    require_torch()
    from perl_eval.train import sft

    options = sft.SftOptions(model, epochs, batch, learning_rate, max_tokens)
    done(sft.run(data, out, options=options, seed=seed))


def _reward_options(
    epochs: float, batch: int, learning_rate: float, max_tokens: int, max_new_tokens: int, rank: int, targets: str
) -> Any:
    from perl_eval.train.reward import RewardOptions

    return RewardOptions(
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        max_tokens=max_tokens,
        max_new_tokens=max_new_tokens,
        lora=lora_shape(rank, targets),
    )


def train_reward(
    data: Data,
    prior: Prior,
    out: Out,
    epochs: float = 2.0,
    batch: int = 64,
    learning_rate: float = 2e-3,
    max_tokens: MaxTokens = 512,
    max_new_tokens: NewTokens = 64,
    rank: Rank = 8,
    targets: Targets = "attention",
    folds: Annotated[int, typer.Option(min=0, help="Cross-validate over this many grouped folds instead.")] = 0,
    seed: Seed = 0,
) -> None:
    """Rating or Preference rows to a LoRA reward model; or, with --folds, its grouped cross-validation."""
    require_torch()
    options = _reward_options(epochs, batch, learning_rate, max_tokens, max_new_tokens, rank, targets)
    if folds:
        from perl_eval.train import folds as verb

        folder = verb.run(data, prior, out, options=verb.FoldOptions(folds, options), seed=seed)
        show(folder)
        done(folder)
        return
    from perl_eval.train import reward

    done(reward.run(data, prior, out, options=options, seed=seed))


def train_policy(
    data: Data,
    prior: Prior,
    reward: Annotated[Path, typer.Option(help="Output folder of `train reward` on the same prior.")],
    out: Out,
    steps: int = 100,
    batch: int = 64,
    group: Annotated[int, typer.Option(help="Samples a prompt; above 1 their mean score is the baseline.")] = 1,
    learning_rate: float = 1e-3,
    beta: Annotated[float, typer.Option(help="KL strength, reward units per nat; 0 for none.")] = 0.05,
    kl_weight: Annotated[float | None, typer.Option(help="PE-RLHF's b; sets beta = b / (1 - b).")] = None,
    temperature: float = 1.0,
    value: Annotated[str, typer.Option(help="head (on the policy's trunk) or adapter (of its own).")] = "head",
    max_tokens: MaxTokens = 512,
    max_new_tokens: NewTokens = 64,
    rank: Rank = 8,
    targets: Targets = "attention",
    seed: Seed = 0,
) -> None:
    """Prompts to a LoRA policy: REINFORCE with a value baseline and KL to the prior."""
    one_of("--value", value, ("head", "adapter"))
    if kl_weight is not None and not 0 <= kl_weight < 1:
        raise UserError(f"--kl-weight {kl_weight} is outside [0, 1)", "give b as in the paper, such as 0.05")
    require_torch()
    from perl_eval.train import policy

    options = policy.PolicyOptions(
        steps=steps,
        batch=batch,
        group=group,
        learning_rate=learning_rate,
        beta=beta,
        kl_weight=kl_weight,
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        max_tokens=max_tokens,
        value="adapter" if value == "adapter" else "head",
        lora=lora_shape(rank, targets),
    )
    done(policy.run(data, prior, reward, out, options=options, seed=seed))


def sample(
    model: Annotated[Path, typer.Option(help="Model folder, or output of `train policy`.")],
    data: Data,
    out: Out,
    name: Annotated[str, typer.Option(help="What to call the policy; default the folder's name.")] = "",
    split: str = "test",
    draws: Annotated[int, typer.Option(help="Completions a prompt.")] = 1,
    limit: Annotated[int, typer.Option(help="Most prompts; 0 for all.")] = 0,
    temperature: float = 1.0,
    max_tokens: MaxTokens = 512,
    max_new_tokens: NewTokens = 64,
    batch: int = 64,
    seed: Seed = 0,
) -> None:
    """Prompts to completions."""
    require_torch()
    from perl_eval import sample as verb

    options = verb.SampleOptions(name, split, draws, limit, temperature, max_new_tokens, max_tokens, batch)
    done(verb.run(model, data, out, options=options, seed=seed))
