"""The verb that trains every cell of a table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from perl_eval.checks import at_least_one, named
from perl_eval.cli.console import done, say, show
from perl_eval.cli.shared_options import (
    HELD_OUT,
    MaxTokens,
    NewTokens,
    Out,
    RowColumns,
    Seed,
    one_of,
    require_torch,
    rows_given,
)
from perl_eval.cli.training_options import (
    Checkpointing,
    Device,
    Dtype,
    LearningRate,
    MicroBatch,
    Norms,
    Targets,
    resources_of,
    shape_of,
)
from perl_eval.errors import UserError

Number = TypeVar("Number", int, float)


def ablate(
    data: Annotated[
        Path,
        typer.Option(help="Folder with demonstrations, prompts, and preferences or ratings; or preferences alone."),
    ],
    out: Out,
    sizes: Annotated[
        str, typer.Option(help="tiny, small, medium, or models (folders, ORG/NAME of the hub), with commas.")
    ] = "tiny",
    ranks: Annotated[str, typer.Option(help="LoRA ranks, with commas.")] = "1,4,8,16",
    full: Annotated[bool, typer.Option(help="Also tune all weights.")] = True,
    seeds: Annotated[int, typer.Option(min=1, help="Runs with different seeds for each combination.")] = 3,
    sft_epochs: Annotated[float, typer.Option(help="Passes of SFT over its rows.")] = 3.0,
    sft_batch: Annotated[int, typer.Option(help="Rows in each step of SFT.")] = 32,
    reward_epochs: Annotated[float, typer.Option(help="Passes of reward models over their rows.")] = 2.0,
    steps: Annotated[int, typer.Option(min=1, help="RL steps.")] = 100,
    batch: Annotated[int, typer.Option(help="Rows, and samples of RL, in each step.")] = 64,
    reward_rate: LearningRate = None,
    policy_rate: LearningRate = None,
    full_rate: Annotated[
        float, typer.Option(help="Full tuning has the learning rates of LoRA divided by this.")
    ] = 10.0,
    tried: Annotated[
        str, typer.Option(help="Factors, with commas: each arm tries its learning rate times each, and keeps the best.")
    ] = "1",
    beta: Annotated[float, typer.Option(help="KL strength, reward units per nat.")] = 0.05,
    betas: Annotated[
        str, typer.Option(help="With commas: a policy at each of these, and reward over KL as a picture.")
    ] = "",
    own_reward: Annotated[
        bool, typer.Option("--own-reward", help="Train each seed's policies on that seed's reward model.")
    ] = False,
    prompts: Annotated[int, typer.Option(min=1, help="Held-out prompts that the policies answer.")] = 100,
    draws: Annotated[int, typer.Option(min=1, help="Answers to each prompt.")] = 2,
    group: Annotated[int, typer.Option(help="Samples for each prompt; above 1 their mean score is the baseline.")] = 1,
    targets: Targets = "all",
    norms: Norms = False,
    max_tokens: MaxTokens = 512,
    max_new_tokens: NewTokens = 64,
    truth: Annotated[str, typer.Option(help="world: score answers by the built-in world's true reward.")] = "",
    device: Device = "auto",
    dtype: Dtype = "fp32",
    checkpointing: Checkpointing = False,
    micro_batch: MicroBatch = 0,
    column: RowColumns = None,
    seed: Seed = 0,
) -> None:
    """Compare LoRA ranks, model sizes and full tuning over several seeds, in one table with intervals; resumable."""
    if truth:
        one_of("--truth", truth, ("world",))
    require_torch()
    from perl_eval.training import ablate as verb
    from perl_eval.training import policy, reward, sft
    from perl_eval.worlds import coffee

    resources = resources_of(device, dtype, checkpointing, micro_batch, "")
    shape = shape_of(8, targets, norms=norms)
    at_least_one({"max_tokens": max_tokens}, "max_tokens")
    lengths: Any = {"max_tokens": max_tokens, "max_new_tokens": max_new_tokens}
    with named(epochs="sft_epochs", batch="sft_batch"):
        imitation = sft.SftOptions(epochs=sft_epochs, batch=sft_batch, max_tokens=max_tokens, resources=resources)
    with named(epochs="reward_epochs", learning_rate="reward_rate"):
        rewarded = reward.RewardOptions(
            epochs=reward_epochs, batch=batch, learning_rate=reward_rate, lora=shape, resources=resources, **lengths
        )
    with named(learning_rate="policy_rate"):
        reinforced = policy.PolicyOptions(
            steps=steps,
            batch=batch,
            group=group,
            learning_rate=policy_rate,
            beta=beta,
            lora=shape,
            resources=resources,
            **lengths,
        )
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
        sft=imitation,
        reward=rewarded,
        policy=reinforced,
    )
    if not (data / "prompts").is_dir():
        data = rows_given(data, out, column, make=HELD_OUT)
    known = (lambda row, text: coffee.true_reward(row.prompt, text)) if truth else None
    folder = verb.run(data, out, options=options, truth=known, seed=seed)
    show(folder)
    _conclude(folder)
    done(folder)


def _conclude(folder: Path) -> None:
    """Print each adapter against full tuning in a sentence, and what weakens that."""
    from perl_eval.records import Estimate
    from perl_eval.storage import run_folder
    from perl_eval.training.ablation_words import MEMORY, sentences, too_few_rows

    found = run_folder.read(folder, Estimate)
    say("\n".join([MEMORY, *sentences(found)]), lines=True)
    if few := too_few_rows(found):
        say(few, err=True)


def _numbers(option: str, given: str, kind: Callable[[str], Number], example: str) -> tuple[Number, ...]:
    """Read numbers with commas between them."""
    try:
        return tuple(kind(one) for one in given.split(",") if one.strip())
    except ValueError:
        raise UserError(f"{option} {given!r} are no numbers", f"give some with commas, such as {example}") from None
