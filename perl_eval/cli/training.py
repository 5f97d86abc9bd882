"""Verbs that train and sample models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from perl_eval.cli.options import (
    Address,
    Data,
    Engine,
    Gpus,
    MaxTokens,
    NewTokens,
    Out,
    Prior,
    Rank,
    Seed,
    Targets,
    Workers,
    lora_shape,
    one_of,
    require_torch,
    spread_of,
)
from perl_eval.cli.shown import done, show
from perl_eval.errors import UserError

Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; auto takes the GPU if there is one.")]
Dtype = Annotated[str, typer.Option(help="fp32, or bf16: products and frozen weights in bfloat16.")]
Checkpointing = Annotated[bool, typer.Option("--checkpointing", help="Compute activations twice to spare memory.")]
MicroBatch = Annotated[int, typer.Option(min=0, help="Sequences a forward pass; 0 for the whole batch.")]
Tracker = Annotated[str, typer.Option(help="Where the curve goes meanwhile: tensorboard, trackio, ...")]
Full = Annotated[bool, typer.Option("--full", help="Train all weights of a copy of the prior instead of an adapter.")]
Method = Annotated[str, typer.Option(help="Of adapters: lora, dora, rslora, ia3, loha, lokr, vera, ...")]
LearningRate = Annotated[float | None, typer.Option(help="Default: by what is trained, see the options' text.")]

Number = TypeVar("Number", int, float)


def _resources(device: str, dtype: str, checkpointing: bool, micro_batch: int, tracker: str) -> Any:
    from perl_eval.models.placement import Placement
    from perl_eval.train.resources import Resources

    one_of("--dtype", dtype, ("fp32", "bf16"))
    placement = Placement(device, "bf16" if dtype == "bf16" else "fp32", checkpointing)
    placement.resolve()
    return Resources(placement, micro_batch, tracker)


def _shape(rank: int, targets: str, method: str, dropout: float = 0.0) -> Any:
    from dataclasses import replace

    return replace(lora_shape(rank, targets), method=method, dropout=dropout)


def train_sft(
    data: Data,
    out: Out,
    model: Annotated[str, typer.Option(help="Model folder, or scratch:tiny|small|medium.")] = "scratch:tiny",
    epochs: float = 3.0,
    batch: int = 64,
    learning_rate: LearningRate = None,
    max_tokens: MaxTokens = 512,
    lora: Annotated[
        bool, typer.Option("--lora", help="Train an adapter, and add it to the weights at the end.")
    ] = False,
    rank: Rank = 8,
    targets: Targets = "attention",
    method: Method = "lora",
    patience: Annotated[int, typer.Option(min=0, help="Stop after this many evaluations without gain; 0 never.")] = 0,
    weight_decay: Annotated[float | None, typer.Option(help="Default: 0.01 for whole models, 0 for adapters.")] = None,
    device: Device = "auto",
    dtype: Dtype = "fp32",
    checkpointing: Checkpointing = False,
    micro_batch: MicroBatch = 0,
    tracker: Tracker = "",
    seed: Seed = 0,
) -> None:
    """Demonstration rows to a model, by imitation of the assistant's turns."""
    require_torch()
    from perl_eval.train import sft

    options = sft.SftOptions(
        model,
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        max_tokens=max_tokens,
        lora=_shape(rank, targets, method) if lora else None,
        weight_decay=weight_decay,
        patience=patience,
        resources=_resources(device, dtype, checkpointing, micro_batch, tracker),
    )
    done(sft.run(data, out, options=options, seed=seed))


def train_reward(
    data: Data,
    prior: Prior,
    out: Out,
    epochs: float = 2.0,
    batch: int = 64,
    learning_rate: LearningRate = None,
    max_tokens: MaxTokens = 512,
    max_new_tokens: NewTokens = 64,
    rank: Rank = 8,
    targets: Targets = "attention",
    method: Method = "lora",
    full: Full = False,
    pooling: Annotated[
        str,
        typer.Option(help="What the head reads: last token, mean over the answer, or mean+all: over the input too."),
    ] = "last",
    probe: Annotated[bool, typer.Option("--probe", help="Set the head by logistic regression first.")] = False,
    weight_decay: float = 0.0,
    dropout: Annotated[float, typer.Option(help="On what head and adapters read, in [0, 1).")] = 0.0,
    patience: Annotated[int, typer.Option(min=0, help="Stop after this many evaluations without gain; 0 never.")] = 0,
    evaluations: Annotated[int, typer.Option(min=0, help="Validation losses taken; 0 keeps the last weights.")] = 8,
    folds: Annotated[int, typer.Option(min=0, help="Cross-validate over this many grouped folds instead.")] = 0,
    members: Annotated[int, typer.Option(min=1, help="With --folds: models a fold, whose mean is its reward.")] = 1,
    device: Device = "auto",
    dtype: Dtype = "fp32",
    checkpointing: Checkpointing = False,
    micro_batch: MicroBatch = 0,
    tracker: Tracker = "",
    seed: Seed = 0,
) -> None:
    """Rating or Preference rows to a reward model; or, with --folds, its grouped cross-validation."""
    require_torch()
    from perl_eval.train.reward import RewardOptions

    reads: Any = pooling
    options = RewardOptions(
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        max_tokens=max_tokens,
        evaluations=evaluations,
        max_new_tokens=max_new_tokens,
        lora=_shape(rank, targets, method, dropout),
        full=full,
        pooling=reads,
        probe=probe,
        weight_decay=weight_decay,
        dropout=dropout,
        patience=patience,
        resources=_resources(device, dtype, checkpointing, micro_batch, tracker),
    )
    if members > 1 and not folds:
        raise UserError("--members is for --folds only", "train each on its own, and give `train policy` them all")
    if folds:
        from perl_eval.train import folds as verb

        folder = verb.run(data, prior, out, options=verb.FoldOptions(folds, options, members), seed=seed)
        show(folder)
        done(folder)
        return
    from perl_eval import runs
    from perl_eval.train import reward

    folder = reward.run(data, prior, out, options=options, seed=seed)
    card = runs.read_card(folder)
    if card and card.notes["best step"] < 0:
        typer.echo("no step lowered the validation loss: the weights before the first stay; lower the rate", err=True)
    if (folder / "estimates.parquet").is_file():  # there were held-out rows
        show(folder)
    done(folder)


def train_policy(
    data: Data,
    prior: Prior,
    out: Out,
    reward: Annotated[
        list[Path] | None, typer.Option(help="Output of `train reward` on the same prior; several make an ensemble.")
    ] = None,
    reward_function: Annotated[str, typer.Option(help="module:function of rows and rollouts, instead.")] = "",
    ensemble: Annotated[str, typer.Option(help="mean, minimum, or mean-std (less --caution x std).")] = "mean",
    caution: float = 1.0,
    steps: int = 100,
    batch: int = 64,
    group: Annotated[int, typer.Option(help="Samples a prompt; above 1 their mean score is the baseline.")] = 1,
    learning_rate: LearningRate = None,
    beta: Annotated[float, typer.Option(help="KL strength, reward units per nat; 0 for none.")] = 0.05,
    kl_weight: Annotated[float | None, typer.Option(help="PE-RLHF's b; sets beta = b / (1 - b).")] = None,
    kl: Annotated[str, typer.Option(help="Where the KL enters: in the reward of each token, or as a loss.")] = "reward",
    objective: Annotated[
        str, typer.Option(help="reinforce, kl_rl, forward_kl, js or tv; the last three need --group.")
    ] = ("kl_rl"),
    temperature: float = 1.0,
    missing_end_reward: Annotated[float, typer.Option(help="Of samples that never ended.")] = -3.0,
    value: Annotated[str, typer.Option(help="head (on the policy's trunk) or adapter (of its own).")] = "head",
    max_tokens: MaxTokens = 512,
    max_new_tokens: NewTokens = 64,
    rank: Rank = 8,
    targets: Targets = "attention",
    method: Method = "lora",
    full: Full = False,
    device: Device = "auto",
    dtype: Dtype = "fp32",
    checkpointing: Checkpointing = False,
    micro_batch: MicroBatch = 0,
    tracker: Tracker = "",
    seed: Seed = 0,
) -> None:
    """Prompts to a policy: REINFORCE with a value baseline and KL to the prior, or another way to the same target."""
    one_of("--value", value, ("head", "adapter"))
    one_of("--kl", kl, ("reward", "loss"))
    one_of("--ensemble", ensemble, ("mean", "minimum", "mean-std"))
    one_of("--objective", objective, ("reinforce", "kl_rl", "forward_kl", "js", "tv"))
    if kl_weight is not None and not 0 <= kl_weight < 1:
        raise UserError(f"--kl-weight {kl_weight} is outside [0, 1)", "give b as in the paper, such as 0.05")
    if bool(reward) == bool(reward_function):
        raise UserError("a policy needs a reward, and one only", "give --reward, or --reward-function")
    require_torch()
    from perl_eval.models.ensemble import EnsembleRule
    from perl_eval.train import policy
    from perl_eval.train.rewarding import function_named

    rule: Any = ensemble
    aim: Any = objective
    options = policy.PolicyOptions(
        steps=steps,
        batch=batch,
        group=group,
        learning_rate=learning_rate,
        beta=beta,
        kl_weight=kl_weight,
        kl="loss" if kl == "loss" else "reward",
        objective=aim,
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        max_tokens=max_tokens,
        value="adapter" if value == "adapter" else "head",
        missing_end_reward=missing_end_reward,
        lora=_shape(rank, targets, method),
        full=full,
        ensemble=EnsembleRule(rule, caution),
        resources=_resources(device, dtype, checkpointing, micro_batch, tracker),
    )
    given = function_named(reward_function) if reward_function else reward or []
    done(policy.run(data, prior, given, out, options=options, seed=seed))


def ablate(
    data: Annotated[Path, typer.Option(help="Folder with demonstrations, preferences or ratings, and prompts.")],
    out: Out,
    sizes: Annotated[str, typer.Option(help="tiny, small, medium, or model folders, with commas.")] = "tiny",
    ranks: Annotated[str, typer.Option(help="LoRA ranks, with commas.")] = "1,4,8,16",
    full: Annotated[bool, typer.Option(help="Also tune all weights.")] = True,
    seeds: Annotated[int, typer.Option(min=1, help="Runs a cell.")] = 3,
    sft_epochs: float = 3.0,
    sft_batch: int = 32,
    reward_epochs: float = 2.0,
    steps: Annotated[int, typer.Option(min=1, help="RL steps.")] = 100,
    batch: int = 64,
    reward_rate: LearningRate = None,
    policy_rate: LearningRate = None,
    full_rate: Annotated[float, typer.Option(help="Learning rates of full tuning are this many times smaller.")] = 10.0,
    tried: Annotated[
        str, typer.Option(help="Factors, with commas: each arm takes the best of its rates times these.")
    ] = "1",
    beta: float = 0.05,
    betas: Annotated[str, typer.Option(help="With commas: a policy at each, and the picture of it.")] = "",
    own_reward: Annotated[
        bool, typer.Option("--own-reward", help="Train each seed's policies on that seed's reward model.")
    ] = False,
    prompts: Annotated[int, typer.Option(min=1, help="Held-out prompts that the policies answer.")] = 100,
    draws: Annotated[int, typer.Option(min=1, help="Answers a prompt.")] = 2,
    group: int = 1,
    targets: Targets = "attention",
    max_tokens: MaxTokens = 512,
    max_new_tokens: NewTokens = 64,
    truth: Annotated[str, typer.Option(help="world: score answers by the embedded world's true reward.")] = "",
    device: Device = "auto",
    dtype: Dtype = "fp32",
    checkpointing: Checkpointing = False,
    micro_batch: MicroBatch = 0,
    seed: Seed = 0,
) -> None:
    """Rank by size by adapter or full tuning by seed: one table with intervals, resumable run by run."""
    if truth:
        one_of("--truth", truth, ("world",))
    require_torch()
    from perl_eval import world
    from perl_eval.train import ablate as verb
    from perl_eval.train import policy, reward, sft

    resources = _resources(device, dtype, checkpointing, micro_batch, "")
    shape = _shape(8, targets, "lora")
    lengths: Any = {"max_tokens": max_tokens, "max_new_tokens": max_new_tokens}
    options = verb.AblateOptions(
        sizes=tuple(size.strip() for size in sizes.split(",") if size.strip()),
        ranks=_numbers("--ranks", ranks, int, "1,4,16"),
        full=full,
        seeds=seeds,
        prompts=prompts,
        draws=draws,
        full_rate=full_rate,
        tried=_numbers("--tried", tried, float, "0.3,1,3"),
        betas=_numbers("--betas", betas, float, "1,0.3,0"),
        own_reward=own_reward,
        sft=sft.SftOptions(epochs=sft_epochs, batch=sft_batch, max_tokens=max_tokens, resources=resources),
        reward=reward.RewardOptions(
            epochs=reward_epochs, batch=batch, learning_rate=reward_rate, lora=shape, resources=resources, **lengths
        ),
        policy=policy.PolicyOptions(
            steps=steps,
            batch=batch,
            group=group,
            learning_rate=policy_rate,
            beta=beta,
            lora=shape,
            resources=resources,
            **lengths,
        ),
    )
    known = (lambda row, text: world.true_reward(row.prompt, text)) if truth else None
    folder = verb.run(data, out, options=options, truth=known, seed=seed)
    show(folder)
    done(folder)


def _numbers(option: str, given: str, kind: Callable[[str], Number], example: str) -> tuple[Number, ...]:
    """Read numbers with commas between them."""
    try:
        return tuple(kind(one) for one in given.split(",") if one.strip())
    except ValueError:
        raise UserError(f"{option} {given!r} are no numbers", f"give some with commas, such as {example}") from None


def average_rewards(
    rewards: Annotated[list[Path], typer.Argument(help="Reward models: LoRA adapters on one prior.")],
    data: Data,
    prior: Prior,
    out: Out,
    max_new_tokens: NewTokens = 64,
    device: Device = "auto",
    dtype: Dtype = "fp32",
    seed: Seed = 0,
) -> None:
    """Reward models to one whose weights are their average (WARM)."""
    require_torch()
    from perl_eval.train import average

    options = average.AverageOptions(
        max_new_tokens=max_new_tokens, placement=_resources(device, dtype, False, 0, "").placement
    )
    folder = average.run(rewards, data, prior, out, options=options, seed=seed)
    show(folder)
    done(folder)


def sample(
    model: Annotated[str, typer.Option(help="Model folder, or output of `train policy`; with --server a name there.")],
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
    device: Device = "auto",
    dtype: Dtype = "fp32",
    server: Annotated[str, typer.Option(help="Address up to and with /v1 of a server that has the model.")] = "",
    max_concurrency: Annotated[int, typer.Option(help="Requests to the server on their way, at most.")] = 128,
    key_file: Annotated[Path | None, typer.Option(help="File with the server's key; else OPENAI_API_KEY.")] = None,
    engine: Engine = "here",
    address: Address = "",
    workers: Workers = 2,
    gpus: Gpus = 0.0,
    seed: Seed = 0,
) -> None:
    """Prompts to completions, by a model here or behind a server (vLLM, or any that speaks OpenAI's chat form)."""
    spread = spread_of(engine, address, workers, gpus)
    if server:
        from perl_eval.scale import server as behind

        if engine != "here":
            raise UserError("a server has workers of its own", "leave out --engine")

        wanted = behind.ServerOptions(
            name, split, draws, limit, temperature, max_new_tokens, max_concurrency, key_file=key_file
        )
        done(behind.run(server, model, data, out, options=wanted, seed=seed))
        return
    require_torch()
    from perl_eval import sample as verb

    placement = _resources(device, dtype, False, 0, "").placement
    options = verb.SampleOptions(name, split, draws, limit, temperature, max_new_tokens, max_tokens, batch, placement)
    done(verb.run(Path(model), data, out, options=options, seed=seed, spread=spread))
