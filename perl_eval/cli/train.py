"""Verbs that train and sample models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from perl_eval.cli.console import done, show
from perl_eval.cli.shared_options import (
    HELD_OUT,
    ChatTemplate,
    Data,
    NewTokens,
    Out,
    Prior,
    RowColumns,
    Seed,
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
    EvaluateEvery,
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


def train_sft(
    data: Data,
    out: Out,
    model: Annotated[
        str, typer.Option(help="Folder, ORG/NAME[@REVISION] of the hub, .gguf file, or scratch:tiny|small|medium.")
    ] = "scratch:tiny",
    epochs: Annotated[float, typer.Option(help="Passes over the rows.")] = 3.0,
    batch: Annotated[int, typer.Option(help="Rows in each step.")] = 64,
    learning_rate: LearningRate = None,
    max_tokens: MostTokens = "512",
    lora: Annotated[
        bool, typer.Option("--lora", help="Train an adapter, and add it to the weights at the end.")
    ] = False,
    rank: Rank = 16,
    alpha: Alpha = None,
    targets: Targets = "all",
    method: Method = "lora",
    norms: Norms = False,
    patience: Annotated[int, typer.Option(min=0, help="Stop after this many evaluations without gain; 0 never.")] = 0,
    chat_template: ChatTemplate = None,
    weight_decay: Annotated[float | None, typer.Option(help="Default: 0.01 for whole models, 0 for adapters.")] = None,
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
    evaluate_every: EvaluateEvery = 0,
    column: RowColumns = None,
    seed: Seed = 0,
) -> None:
    """Train a model on Demonstration rows to imitate the assistant's turns."""
    require_torch()
    from perl_eval.training import sft

    options = sft.SftOptions(
        model,
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        max_tokens=tokens_of(max_tokens),
        lora=shape_of(rank, targets, method, alpha=alpha, norms=norms) if lora else None,
        weight_decay=weight_decay,
        patience=patience,
        limit=limit,
        schedule=schedule_of(schedule, warmup, max_steps, evaluate_every),
        updating=updating_of(optimizer, clip, decay_all, save_every),
        chat_template=chat_template,
        resources=resources_of(device, dtype, checkpointing, micro_batch, tracker, packing=packing, quantize=quantize),
    )
    judged = ("validation if judged", "test if judged")
    data = rows_given(data, out, column, make=("validation", judged[1]) if patience or find_rate else judged)
    if find_rate:
        finding(data, None, out, options, seed=seed)
        return
    done(sft.run(data, out, options=options, seed=seed))


def train_reward(
    data: Data,
    prior: Prior,
    out: Out,
    epochs: Annotated[float, typer.Option(help="Passes over the rows.")] = 2.0,
    batch: Annotated[int, typer.Option(help="Rows in each step.")] = 64,
    learning_rate: LearningRate = None,
    max_tokens: MostTokens = "512",
    max_new_tokens: NewTokens = 64,
    rank: Rank = 16,
    alpha: Alpha = None,
    targets: Targets = "all",
    method: Method = "lora",
    norms: Norms = False,
    full: Full = False,
    pooling: Annotated[
        str,
        typer.Option(help="What the head reads: last token, mean over the answer, or mean+all: over the input too."),
    ] = "last",
    probe: Annotated[bool, typer.Option("--probe", help="Start the head from logistic regression.")] = False,
    weight_decay: Annotated[
        float, typer.Option(help="Decay of weights in each step, as a share of the learning rate.")
    ] = 0.0,
    dropout: Annotated[float, typer.Option(help="Dropout on the inputs of head and adapters, in [0, 1).")] = 0.0,
    patience: Annotated[int, typer.Option(min=0, help="Stop after this many evaluations without gain; 0 never.")] = 0,
    evaluations: Annotated[
        int, typer.Option(min=0, help="How often the validation loss is computed; 0: keep the last weights.")
    ] = 8,
    folds: Annotated[int, typer.Option(min=0, help="Cross-validate over this many grouped folds instead.")] = 0,
    members: Annotated[
        int, typer.Option(min=1, help="With --folds: models for each fold, whose rewards are averaged.")
    ] = 1,
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
    evaluate_every: EvaluateEvery = 0,
    column: RowColumns = None,
    seed: Seed = 0,
) -> None:
    """Train a reward model on Rating or Preference rows; or, with --folds, cross-validate it by group."""
    require_torch()
    from perl_eval.training.reward import RewardOptions

    reads: Any = pooling
    options = RewardOptions(
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        max_tokens=tokens_of(max_tokens),
        evaluations=evaluations,
        max_new_tokens=max_new_tokens,
        lora=shape_of(rank, targets, method, alpha=alpha, norms=norms, dropout=dropout),
        full=full,
        pooling=reads,
        probe=probe,
        weight_decay=weight_decay,
        dropout=dropout,
        patience=patience,
        limit=limit,
        schedule=schedule_of(schedule, warmup, max_steps, evaluate_every),
        updating=updating_of(optimizer, clip, decay_all, save_every),
        resources=resources_of(device, dtype, checkpointing, micro_batch, tracker, packing=packing, quantize=quantize),
    )
    if members > 1 and not folds:
        raise UserError("--members is for --folds only", "train each on its own, and give `train policy` them all")
    data = rows_given(data, out, column, make=() if folds else HELD_OUT)
    if find_rate:
        finding(data, prior, out, options, seed=seed)
        return
    if folds:
        from perl_eval.training import folds as verb

        folder = verb.run(data, prior, out, options=verb.FoldOptions(folds, options, members), seed=seed)
        show(folder)
        done(folder)
        return
    from perl_eval.storage import run_folder
    from perl_eval.training import reward

    folder = reward.run(data, prior, out, options=options, seed=seed)
    card = run_folder.read_card(folder)
    if card and card.notes["best step"] < 0:
        typer.echo("no step lowered the validation loss: the weights before the first stay; lower the rate", err=True)
    if (folder / "estimates.parquet").is_file():  # there were held-out rows
        show(folder)
    done(folder)


def train_dpo(
    data: Data,
    prior: Prior,
    out: Out,
    loss: Annotated[
        str,
        typer.Option(
            help="For preferences sigmoid (DPO), robust, hinge or ipo; for ratings kto; default: by the rows."
        ),
    ] = "",
    beta: Annotated[float, typer.Option(help="KL strength, units of the implicit reward per nat, above 0.")] = 0.1,
    epochs: Annotated[float, typer.Option(help="Passes over the rows.")] = 1.0,
    batch: Annotated[int, typer.Option(help="Rows in each step.")] = 64,
    learning_rate: LearningRate = None,
    smoothing: Annotated[float, typer.Option(help="With --loss robust: share of labels that are flipped.")] = 0.0,
    liked: Annotated[float, typer.Option(help="With --loss kto: weight of liked answers.")] = 1.0,
    disliked: Annotated[float, typer.Option(help="With --loss kto: weight of disliked answers.")] = 1.0,
    max_tokens: MostTokens = "512",
    rank: Rank = 16,
    alpha: Alpha = None,
    targets: Targets = "all",
    method: Method = "lora",
    norms: Norms = False,
    full: Full = False,
    patience: Annotated[int, typer.Option(min=0, help="Stop after this many evaluations without gain; 0 never.")] = 0,
    evaluations: Annotated[
        int, typer.Option(min=0, help="How often the validation loss is computed; 0: keep the last weights.")
    ] = 4,
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
    column: RowColumns = None,
    seed: Seed = 0,
) -> None:
    """Train a policy on Preference or Rating rows without a reward model: DPO and variants, or KTO."""
    require_torch()
    from perl_eval.training import dpo

    lowered: Any = loss
    options = dpo.DpoOptions(
        loss=lowered,
        beta=beta,
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        smoothing=smoothing,
        liked=liked,
        disliked=disliked,
        max_tokens=tokens_of(max_tokens),
        evaluations=evaluations,
        patience=patience,
        lora=shape_of(rank, targets, method, alpha=alpha, norms=norms),
        full=full,
        limit=limit,
        schedule=schedule_of(schedule, warmup, max_steps),
        updating=updating_of(optimizer, clip, decay_all, save_every),
        resources=resources_of(device, dtype, checkpointing, micro_batch, tracker, packing=packing, quantize=quantize),
    )
    data = rows_given(data, out, column, make=HELD_OUT)
    if find_rate:
        finding(data, prior, out, options, seed=seed)
        return
    folder = dpo.run(data, prior, out, options=options, seed=seed)
    if (folder / "estimates.parquet").is_file():  # there were held-out rows
        show(folder)
    done(folder)


def average_rewards(
    rewards: Annotated[list[Path], typer.Argument(help="Reward models: LoRA adapters on one prior.")],
    data: Data,
    prior: Prior,
    out: Out,
    max_new_tokens: NewTokens = 64,
    device: Device = "auto",
    dtype: Dtype = "fp32",
    column: RowColumns = None,
    seed: Seed = 0,
) -> None:
    """Average the weights of several reward models into one (WARM)."""
    require_torch()
    from perl_eval.training import weight_average

    options = weight_average.AverageOptions(
        max_new_tokens=max_new_tokens, placement=resources_of(device, dtype, False, 0, "").placement
    )
    data = rows_given(data, out, column, make=HELD_OUT)
    folder = weight_average.run(rewards, data, prior, out, options=options, seed=seed)
    show(folder)
    done(folder)
