"""The verb posterior."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from perl_eval import figure_names as named
from perl_eval.cli.console import done
from perl_eval.cli.shared_options import (
    Data,
    Ensemble,
    MaxTokens,
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
from perl_eval.errors import UserError
from perl_eval.figure_names import TARGET

_COLUMNS = {
    "reward": "reward",
    named.TRUE_REWARD: named.TRUE_REWARD,
    named.KL_METHOD_PRIOR: named.KL_TO_PRIOR,
    named.KL_METHOD_TARGET: "KL to target",
    named.KL_TARGET_METHOD: "KL from target",
    named.SELF_BLEU: named.SELF_BLEU,
    named.TOKENS_DRAWN_AN_ANSWER: "tokens an answer",
}
_PIPED_WIDTH = 132
"""Columns of the table where no terminal says how many fit."""


def posterior(
    data: Data,
    prior: Prior,
    reward: Annotated[list[Path], typer.Option(help="Output of `train reward`; several make an ensemble.")],
    beta: Annotated[float, typer.Option(help="KL strength of the target, reward units per nat, above 0.")],
    out: Out,
    policy: Annotated[list[Path] | None, typer.Option(help="Output of `train policy`; may be repeated.")] = None,
    sampler: Annotated[
        list[str] | None,
        typer.Option(help="best-of-n, rejection, quasi-rejection, SIR, SMC: default these; or best-of-Poisson."),
    ] = None,
    ensemble: Ensemble = "mean",
    caution: Annotated[float, typer.Option(help="For mean-std: how many standard deviations are subtracted.")] = 1.0,
    softness: Softness = None,
    split: Annotated[str, typer.Option(help="Split of the prompts.")] = "test",
    limit: Annotated[int, typer.Option(help="Prompts, at most; 0 for all.")] = 40,
    draws: Annotated[int, typer.Option(help="Answers of each method to each prompt.")] = 8,
    pool: Annotated[int, typer.Option(help="Draws of the prior for each prompt, for log Z.")] = 256,
    n: Annotated[
        int, typer.Option(help="Draws for one answer: best-of-n, SIR, best-of-Poisson on average; particles of SMC.")
    ] = 16,
    acceptance: Annotated[float, typer.Option(help="Share of draws that quasi-rejection should keep.")] = 0.1,
    upper: Annotated[float | None, typer.Option(help="Upper bound of the reward, for exact rejection.")] = None,
    most: Annotated[int, typer.Option(help="Draws of rejection for each prompt, at most.")] = 2000,
    temperature: Annotated[float, typer.Option(help="Sampling temperature.")] = 1.0,
    missing_end_reward: Annotated[float, typer.Option(help="Reward of answers that never ended.")] = -3.0,
    max_tokens: MaxTokens = 512,
    max_new_tokens: NewTokens = 64,
    batch: Annotated[int, typer.Option(help="Draws in one batch.")] = 256,
    column: RowColumns = None,
    seed: Seed = 0,
) -> None:
    """Compare policies and samplers with the target they aim at: reward, KL both ways, diversity, cost."""
    one_of("--ensemble", ensemble, ("mean", "minimum", "mean-std", "soft-minimum"))
    require_torch()
    from perl_eval import posterior as verb
    from perl_eval.models.ensemble import EnsembleRule

    if not reward:
        raise UserError("a target needs a reward", "give --reward")
    rule: Any = ensemble
    options = verb.PosteriorOptions(
        beta=beta,
        split=split,
        limit=limit,
        draws=draws,
        pool=pool,
        n=n,
        samplers=tuple(sampler) if sampler else verb.SAMPLERS,
        acceptance=acceptance,
        upper=upper,
        most=most,
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        max_tokens=max_tokens,
        missing_end_reward=missing_end_reward,
        batch=batch,
        ensemble=EnsembleRule(rule, caution, softness),
    )
    models = verb.Models(prior, tuple(reward), tuple(policy or ()))
    data = rows_given(data, out, column, whole=split)
    folder = verb.run(data, models, out, options=options, seed=seed)
    _show(folder)
    done(folder)


def _show(folder: Path) -> None:
    """Print one line a method: the main figures with their intervals."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from perl_eval.records import Estimate
    from perl_eval.storage import run_folder

    found = run_folder.read(folder, Estimate)
    methods = [one.about for one in found if one.name == named.TOKENS_DRAWN_AN_ANSWER]
    shown = [name for name in _COLUMNS if any(one.name == name for one in found)]
    table = Table(title=escape(folder.name), header_style="bold", show_lines=True)
    table.add_column("method")
    for name in shown:
        table.add_column(_COLUMNS[name], justify="right")
    by_name = {(one.about, one.name): one for one in found}
    for method in methods:
        table.add_row(escape(method.sentence), *(_cell(by_name.get((method, name))) for name in shown))
    console = Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH)
    console.print(table)
    for line in _remarks(found):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _cell(one: Any) -> str:
    """Return a figure over its interval; `<=` marks an upper bound, `?` what cannot be relied on."""
    if one is None or one.value is None:
        return "none"
    bound = "<= " if one.kind == "upper bound" else ""
    doubt = " ?" if one.reason else ""
    interval = "" if one.low is None else f"\n{one.low:.2f} to {one.high:.2f}"
    return f"{bound}{one.value:.3f}{doubt}{interval}"


def _remarks(found: Sequence[Any]) -> list[str]:
    """Return the figures of the target, and why some figures cannot be relied on, each reason once."""
    lines = []
    for one in found:
        if one.subject == TARGET and not one.about.policy:
            interval = "" if one.low is None else f" ({one.low:.3f} to {one.high:.3f})"
            lines.append(f"{one.name}: {one.value:.3f}{interval}" if one.value is not None else f"{one.name}: none")
    reasons = [one.reason for one in found if one.value is not None and one.reason]
    return [*lines, *(f"? {reason}" for reason in dict.fromkeys(reasons))]
