"""Options that several verbs share, and what is checked about them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from perl_eval.errors import UserError

Out = Annotated[Path, typer.Option("--out", help="Output folder; gets the files and run.json.")]
Data = Annotated[Path, typer.Option("--data", help="One config's folder of a built data set.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of everything random.")]
Level = Annotated[float, typer.Option(help="Confidence level of every interval.")]
Draws = Annotated[int, typer.Option(min=1, help="Bootstrap draws.")]
Epsilon = Annotated[
    float, typer.Option(help="Margin of the alternative annotator test: 0.2 experts, 0.15 skilled, 0.1 crowd.")
]
MaxTokens = Annotated[int, typer.Option(help="Longest input in tokens, prompt and answer together.")]
NewTokens = Annotated[int, typer.Option(help="Most tokens to sample.")]
Prior = Annotated[Path, typer.Option(help="The SFT model: frozen backbone, and KL anchor.")]
Rank = Annotated[int, typer.Option(help="LoRA rank.")]
Targets = Annotated[str, typer.Option(help="Projections with adapters: attention, all, or names with commas.")]


def lora_shape(rank: int, targets: str) -> Any:
    """Read --rank and --targets."""
    from perl_eval.models.backbone import ALL_PROJECTIONS, ATTENTION, LoraShape

    if rank < 1:
        raise UserError(f"--rank {rank} is no LoRA rank", "give 1 or more")
    named = {"attention": ATTENTION, "all": ALL_PROJECTIONS}
    chosen = named.get(targets) or tuple(name.strip() for name in targets.split(",") if name.strip())
    if not chosen:
        raise UserError(f"--targets {targets!r} names no projection", "give attention, all, or names with commas")
    return LoraShape(rank, 2.0 * rank, chosen)


def one_of(option: str, value: str, allowed: Sequence[str]) -> None:
    """Refuse a value that the option does not know."""
    if value not in allowed:
        raise UserError(f"{option} {value!r} is not known", f"choose from {', '.join(allowed)}")


def require_torch() -> None:
    """Turn a missing extra into one line that says what to install."""
    import importlib.util

    missing = [name for name in ("torch", "transformers", "peft") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"this verb needs {', '.join(missing)}", "install the extra: pip install 'perl-eval[train]'")


def resampling(level: float, draws: int, seed: int) -> Any:
    """Read --level, --draws and --seed."""
    from perl_eval.stats.bootstrap import Resampling

    if not 0 < level < 1:
        raise UserError(f"level is {level}", "give a number between 0 and 1, such as 0.95")
    return Resampling(draws=draws, seed=seed, level=level)


def columns_of(given: Sequence[str] | None, names: Any) -> dict[str, str]:
    """Read --column entries, ``score=NAME`` and their like, for a dataclass of column names."""
    from dataclasses import fields

    known = [field.name for field in fields(names)]
    found = {}
    for entry in given or ():
        name, equals, column = entry.partition("=")
        if not equals or name not in known or not column:
            raise UserError(f"--column {entry!r} is not known", f"give NAME=COLUMN, NAME one of {', '.join(known)}")
        found[name] = column
    return found
