"""The options of the verbs that train, and what they make together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from perl_eval.cli.shared_options import one_of
from perl_eval.errors import UserError

Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; auto takes the GPU if there is one.")]
Dtype = Annotated[str, typer.Option(help="fp32, or bf16: products and frozen weights in bfloat16.")]
Checkpointing = Annotated[bool, typer.Option("--checkpointing", help="Recompute activations to save memory.")]
Packing = Annotated[
    bool, typer.Option("--packing", help="Put short sequences of a batch into one row; none sees another.")
]
Quantize = Annotated[
    str, typer.Option(help="nf4: the frozen backbone's linear layers in 4 bits; needs the extra quantize.")
]
MicroBatch = Annotated[int, typer.Option(min=0, help="Sequences in a forward pass; 0 for the whole batch.")]
Tracker = Annotated[str, typer.Option(help="Where curves are sent during training: tensorboard, trackio, ...")]
Full = Annotated[bool, typer.Option("--full", help="Train all weights of a copy of the prior instead of an adapter.")]
Method = Annotated[str, typer.Option(help="Kind of adapter: lora, dora, rslora, ia3, loha, lokr, vera, ...")]
LearningRate = Annotated[float | None, typer.Option(help="Default: by what is trained, see `perl-eval docs training`.")]
Alpha = Annotated[float | None, typer.Option(help="LoRA alpha; default: twice the rank.")]
MostRows = Annotated[int, typer.Option("--limit", help="Rows to learn from, at most; 0 for all.")]
MaxSteps = Annotated[int, typer.Option(help="Steps, at most; 0 for no limit.")]
Warmup = Annotated[
    float | None,
    typer.Option(help="Steps over which the learning rate rises, or below 1 a share of all; default: a tenth."),
]
Optimizer = Annotated[str, typer.Option(help="adamw, adafactor (little memory for full tuning) or sgd.")]
Clip = Annotated[float, typer.Option(help="Norm that gradients are clipped to; 0 for none.")]
DecayAll = Annotated[bool, typer.Option("--decay-all", help="Weight decay on norms and biases too.")]
SaveEvery = Annotated[
    float | None,
    typer.Option(
        help="Seconds between checkpoints; default: 30, or longer, so that they take a twentieth of the time at most."
    ),
]
FindRate = Annotated[
    bool, typer.Option("--find-rate", help="Train 30 steps (or --max-steps) at six learning rates, and print the best.")
]
EvaluateEvery = Annotated[int, typer.Option(min=0, help="Steps between validations; 0: chosen by the verb.")]
RateShape = Annotated[
    str, typer.Option("--schedule", help="How the learning rate then changes: linear, cosine or constant.")
]
MostTokens = Annotated[
    str,
    typer.Option(
        "--max-tokens",
        help="Longest input in tokens, prompt and answer; auto: the longest in the data, within the model's limit.",
    ),
]
Rank = Annotated[int, typer.Option(help="LoRA rank.")]
Targets = Annotated[str, typer.Option(help="Layers with adapters: all (linear ones), attention, or names with commas.")]
Norms = Annotated[bool, typer.Option("--norms", help="Also train the model's norm layers, a copy for each adapter.")]


def tokens_of(max_tokens: str) -> int:
    """Read --max-tokens: a number, or 0 for auto."""
    if max_tokens == "auto":
        return 0
    if not max_tokens.isdecimal() or not int(max_tokens):
        raise UserError(f"--max-tokens is {max_tokens}", "give a number above 0, or auto")
    return int(max_tokens)


def resources_of(
    device: str,
    dtype: str,
    checkpointing: bool,
    micro_batch: int,
    tracker: str,
    *,
    packing: bool = False,
    quantize: str = "",
) -> Any:
    """Read --device, --dtype, --checkpointing, --micro-batch, --tracker, --packing and --quantize."""
    from perl_eval.models.device import Placement
    from perl_eval.training.resources import Resources

    one_of("--dtype", dtype, ("fp32", "bf16"))
    if quantize:
        one_of("--quantize", quantize, ("nf4",))
    packed: Any = quantize
    placement = Placement(
        device, "bf16" if dtype == "bf16" else "fp32", checkpointing, packing=packing, quantize=packed
    )
    placement.resolve()
    return Resources(placement, micro_batch, tracker)


def updating_of(optimizer: str, clip: float, decay_all: bool, save_every: float | None) -> Any:
    """Read --optimizer, --clip, --decay-all and --save-every."""
    from perl_eval.training.updating import Updating

    known: Any = optimizer
    return Updating(known, clip, decay_all, save_every)


def find_rate(data: Path, prior: Path | None, out: Path, stage: Any, *, given: Any = None, seed: int) -> None:
    """Do what --find-rate asks for, and print what came of it."""
    from perl_eval.cli.console import done, say, show
    from perl_eval.training import rate_sweep

    options = rate_sweep.SweepOptions(stage, stage.schedule.max_steps or 30)
    folder = rate_sweep.run(data, prior, out, options=options, given=given, seed=seed)
    show(folder)
    say(rate_sweep.advice(folder))
    done(folder)


def schedule_of(shape: str, warmup: float | None, max_steps: int, evaluate_every: int = 0) -> Any:
    """Read --schedule, --warmup, --max-steps and --evaluate-every."""
    from perl_eval.training.schedule import Schedule

    known: Any = shape
    return Schedule(known, warmup, max_steps, evaluate_every)


def shape_of(
    rank: int,
    targets: str,
    method: str = "lora",
    *,
    alpha: float | None = None,
    norms: bool = False,
    dropout: float = 0.0,
) -> Any:
    """Read --rank, --targets, --method, --alpha, --norms and --dropout."""
    from perl_eval.models.backbone import ALL_LINEAR, ATTENTION, LoraShape

    named = {"attention": ATTENTION, "all": ALL_LINEAR}
    chosen = named.get(targets) or tuple(name.strip() for name in targets.split(",") if name.strip())
    if not chosen:
        raise UserError(f"--targets {targets!r} names no projection", "give attention, all, or names with commas")
    return LoraShape(rank, 2.0 * rank if alpha is None else alpha, chosen, method, dropout, norms)
