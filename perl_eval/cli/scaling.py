"""The verb plan: from laptop to cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perl_eval.cli.options import Out
from perl_eval.cli.shown import done, show


def plan(
    sources: Annotated[
        list[Path] | None, typer.Argument(help="Runs of judge, sample, train policy, as measured.")
    ] = None,
    *,
    out: Out,
    judgements_per_hour: Annotated[float | None, typer.Option(help="Of one worker, instead of a run.")] = None,
    usd_per_judgement: Annotated[float | None, typer.Option(help="What an API charges, instead of a run's.")] = None,
    usd_per_hour: Annotated[float | None, typer.Option(help="Price of an hour of one worker.")] = None,
    seconds_per_rl_step: Annotated[float | None, typer.Option(help="Instead of a run of train policy.")] = None,
    gpus: Annotated[float, typer.Option(help="GPUs of one worker, or of each process of an RL run.")] = 0.0,
    patience: Annotated[float, typer.Option(help="Hours that a run may take.")] = 24.0,
) -> None:
    """Hours, workers and dollars for 1,000 to 100,000,000 judgements, and of an RL step, from measured runs."""
    from perl_eval.scale import plan as verb

    given = verb.Given(judgements_per_hour, usd_per_judgement, usd_per_hour, seconds_per_rl_step, gpus, patience)
    folder = verb.run(sources or (), out, given=given)
    show(folder)
    done(folder)
