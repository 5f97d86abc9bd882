"""The verb train policy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from perl_eval.cli.console import done
from perl_eval.cli.shared_options import (
    Data,
    Ensemble,
    NewTokens,
    Out,
    Prior,
    RowColumns,
    Seed,
    Softness,
    one_of,
    require_torch,
    rows_given,
)
from perl_eval.cli.training_options import (
    Alpha,
    Checkpointing,
    Clip,
    DecayAll,
    Device,
    Dtype,
    FindRate,
    Full,
    LearningRate,
    MaxSteps,
    Method,
    MicroBatch,
    MostRows,
    MostTokens,
    Norms,
    Optimizer,
    Packing,
    Quantize,
    Rank,
    RateShape,
    SaveEvery,
    Targets,
    Tracker,
    Warmup,
    resources_of,
    schedule_of,
    shape_of,
    tokens_of,
    updating_of,
)
from perl_eval.cli.training_options import find_rate as finding
from perl_eval.errors import UserError

__all__ = ["train_policy"]

_GRPO = "With --objective grpo"


def train_policy(
    data: Data,
    prior: Prior,
    out: Out,
    reward: Annotated[
        list[Path] | None, typer.Option(help="Output of `train reward` on the same prior; several make an ensemble.")
    ] = None,
    reward_function: Annotated[
        str, typer.Option(help="module:function of rows and rollouts, instead of a reward model.")
    ] = "",
    ensemble: Ensemble = "mean",
    caution: Annotated[float, typer.Option(help="For mean-std: how many standard deviations are subtracted.")] = 1.0,
    softness: Softness = None,
    steps: Annotated[int, typer.Option(help="Steps of RL.")] = 100,
    batch: Annotated[int, typer.Option(help="Samples in each step.")] = 64,
    group: Annotated[int, typer.Option(help="Samples for each prompt; above 1 their mean score is the baseline.")] = 1,
    learning_rate: LearningRate = None,
    beta: Annotated[float, typer.Option(help="KL strength, reward units per nat; 0 for none.")] = 0.05,
    kl_weight: Annotated[float | None, typer.Option(help="PE-RLHF's b; sets beta = b / (1 - b).")] = None,
    kl: Annotated[
        str, typer.Option(help="Where the KL enters: in the reward, or as a loss; k3: the loss of GRPO's authors.")
    ] = "reward",
    objective: Annotated[
        str, typer.Option(help="reinforce, kl_rl, forward_kl, js, tv or grpo; the last four need --group.")
    ] = "kl_rl",
    updates: Annotated[int, typer.Option(help="Updates for each batch.", rich_help_panel=_GRPO)] = 1,
    clip_low: Annotated[
        float, typer.Option(help="Ratios are clipped below 1 minus this.", rich_help_panel=_GRPO)
    ] = 0.2,
    clip_high: Annotated[
        float | None,
        typer.Option(help="Ratios are clipped above 1 plus this; default: --clip-low.", rich_help_panel=_GRPO),
    ] = None,
    form: Annotated[
        str, typer.Option(help="How tokens are averaged: grpo, dr_grpo, dapo or cispo.", rich_help_panel=_GRPO)
    ] = "grpo",
    ratio: Annotated[
        str, typer.Option(help="Importance ratio of each token, or of the sequence (GSPO).", rich_help_panel=_GRPO)
    ] = "token",
    scale: Annotated[
        str,
        typer.Option(
            help="Divide rewards by the standard deviation of their group, the batch, or none.", rich_help_panel=_GRPO
        ),
    ] = "group",
    watch: Annotated[
        list[Path] | None,
        typer.Option(help="Reward models of other seeds that do not reward: an alarm if their reward falls."),
    ] = None,
    stop_on_alarm: Annotated[
        bool, typer.Option("--stop-on-alarm", help="Stop at the alarm, with the weights of their highest reward.")
    ] = False,
    rollouts: Annotated[str, typer.Option(help="Address, including /v1, of a server that samples.")] = "",
    weight_cap: Annotated[
        float, typer.Option(help="With --rollouts: largest importance weight for differences of its probabilities.")
    ] = 3.0,
    temperature: Annotated[float, typer.Option(help="Sampling temperature.")] = 1.0,
    missing_end_reward: Annotated[float, typer.Option(help="Reward of samples that never ended.")] = -3.0,
    value: Annotated[
        str, typer.Option(help="Value function: head (on the policy's hidden states) or adapter (its own).")
    ] = "head",
    max_tokens: MostTokens = "512",
    max_new_tokens: NewTokens = 64,
    rank: Rank = 16,
    alpha: Alpha = None,
    targets: Targets = "all",
    method: Method = "lora",
    norms: Norms = False,
    full: Full = False,
    device: Device = "auto",
    dtype: Dtype = "fp32",
    checkpointing: Checkpointing = False,
    micro_batch: MicroBatch = 0,
    packing: Packing = False,
    quantize: Quantize = "",
    tracker: Tracker = "",
    limit: MostRows = 0,
    max_steps: MaxSteps = 0,
    warmup: Warmup = None,
    schedule: RateShape = "linear",
    optimizer: Optimizer = "adamw",
    clip: Clip = 1.0,
    decay_all: DecayAll = False,
    save_every: SaveEvery = None,
    find_rate: FindRate = False,
    fp32_kl: Annotated[
        bool,
        typer.Option("--fp32-kl", help="With bf16: compute log-ratios to the prior in float32, in separate passes."),
    ] = False,
    full_kl: Annotated[
        bool, typer.Option("--full-kl", help="Log the KL of the whole softmax beside that of the sampled tokens.")
    ] = False,
    mended: Annotated[
        bool, typer.Option("--mended", help="Continue although the reward function's source has changed.")
    ] = False,
    column: RowColumns = None,
    seed: Seed = 0,
) -> None:
    """Train a policy on prompts: REINFORCE with a value baseline and KL to the prior, or another objective."""
    one_of("--value", value, ("head", "adapter"))
    one_of("--kl", kl, ("reward", "loss", "k3"))
    one_of("--ensemble", ensemble, ("mean", "minimum", "mean-std", "soft-minimum"))
    one_of("--objective", objective, ("reinforce", "kl_rl", "forward_kl", "js", "tv", "grpo"))
    if bool(reward) == bool(reward_function):
        raise UserError("a policy needs a reward, and only one kind", "give --reward, or --reward-function")
    require_torch()
    from perl_eval.models.ensemble import EnsembleRule
    from perl_eval.training import policy
    from perl_eval.training.clipped_policy_gradient import Clipping
    from perl_eval.training.reward_function import function_named
    from perl_eval.training.server_rollouts import ServerRollouts

    rule: Any = ensemble
    aim: Any = objective
    enters: Any = kl
    clipping: Any = (form, ratio, scale)
    options = policy.PolicyOptions(
        steps=steps,
        batch=batch,
        group=group,
        learning_rate=learning_rate,
        beta=beta,
        kl_weight=kl_weight,
        kl=enters,
        objective=aim,
        clipping=Clipping(updates, clip_low, clip_high, *clipping),
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        max_tokens=tokens_of(max_tokens),
        value="adapter" if value == "adapter" else "head",
        missing_end_reward=missing_end_reward,
        lora=shape_of(rank, targets, method, alpha=alpha, norms=norms),
        full=full,
        ensemble=EnsembleRule(rule, caution, softness),
        limit=limit,
        watch=tuple(watch or ()),
        stop_on_alarm=stop_on_alarm,
        rollouts=ServerRollouts(rollouts, weight_cap) if rollouts else None,
        schedule=schedule_of(schedule, warmup, max_steps),
        updating=updating_of(optimizer, clip, decay_all, save_every),
        fp32_kl=fp32_kl,
        full_kl=full_kl,
        mended=mended,
        resources=resources_of(device, dtype, checkpointing, micro_batch, tracker, packing=packing, quantize=quantize),
    )
    given = function_named(reward_function) if reward_function else reward or []
    data = rows_given(data, out, column)
    if find_rate:
        finding(data, prior, out, options, given=given, seed=seed)
        return
    folder = policy.run(data, prior, given, out, options=options, seed=seed)
    _tell_alarm(folder)
    done(folder)


def _tell_alarm(folder: Path) -> None:
    """Say where those who watch raised an alarm, if they did."""
    from perl_eval.storage import run_folder

    card = run_folder.read_card(folder)
    if card and "alarm at step" in card.notes:
        peak = card.notes["watched reward highest at step"]
        line = f"alarm at step {card.notes['alarm at step']}: the watched reward has fallen since step {peak}"
        stays = "; the weights of then stay" if card.arguments.get("stop_on_alarm") else ""
        typer.echo(f"{line}; the policy may be hacking its reward{stays}", err=True)
