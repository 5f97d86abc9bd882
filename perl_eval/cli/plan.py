"""The verb plan: from laptop to cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perl_eval.cli.console import done
from perl_eval.cli.shared_options import Out

if TYPE_CHECKING:
    from perl_eval.records import Estimate


def plan(
    sources: Annotated[
        list[Path] | None, typer.Argument(help="Runs of judge, sample, train policy, as measured.")
    ] = None,
    *,
    out: Out,
    judgements_per_hour: Annotated[
        float | None, typer.Option(help="Judgements of one worker in an hour, instead of a run.")
    ] = None,
    usd_per_judgement: Annotated[float | None, typer.Option(help="What an API charges, instead of a run's.")] = None,
    usd_per_hour: Annotated[float | None, typer.Option(help="Price of an hour of one worker.")] = None,
    seconds_per_rl_step: Annotated[float | None, typer.Option(help="Instead of a run of train policy.")] = None,
    gpus: Annotated[float, typer.Option(help="GPUs of one worker, or of each process of an RL run.")] = 0.0,
    patience: Annotated[float, typer.Option(help="Hours that a run may take.")] = 24.0,
) -> None:
    """Hours, workers and dollars for 1,000 to 100,000,000 judgements, and for an RL step, from measured runs."""
    from perl_eval.cluster import plan as verb

    given = verb.PlanInputs(judgements_per_hour, usd_per_judgement, usd_per_hour, seconds_per_rl_step, gpus, patience)
    folder = verb.run(sources or (), out, given=given)
    _show(folder)
    done(folder)


def _show(folder: Path) -> None:
    """Print what each number of judgements takes, a column each."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from perl_eval.cluster.plan import SIZES
    from perl_eval.records import Estimate
    from perl_eval.storage import run_folder

    found = run_folder.read(folder, Estimate)
    for about in dict.fromkeys(one.about for one in found):
        table = Table("", title=escape(about.sentence), title_justify="left", header_style="bold")
        rows: dict[str, dict[str, str]] = {}
        for one in (one for one in found if one.about == about):
            size = next((f"{size:,}" for size in SIZES if f" for {size:,} " in one.name), "each")
            row = one.name.replace(f" for {size}", " for so many")
            rows.setdefault(row, {})[size] = _cell(one)
        columns = [
            name for name in ("each", *(f"{size:,}" for size in SIZES)) if any(name in row for row in rows.values())
        ]
        for column in columns:
            table.add_column(column if column != "each" else "", justify="right")
        for row, cells in rows.items():
            table.add_row(escape(row), *(escape(cells.get(column, "")) for column in columns))
        table.caption = "; ".join(dict.fromkeys(one.method for one in found if one.about == about))
        Console().print(table)


def _cell(one: Estimate) -> str:
    if one.value is None:
        return one.reason or ""
    if one.low is None or one.high is None:
        return _figure(one.value)
    return f"{_figure(one.value)} ({_figure(one.low)} to {_figure(one.high)})"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value.is_integer() else f"{value:.3g}"
