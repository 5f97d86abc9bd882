"""The verb verify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perl_eval.errors import UserError

if TYPE_CHECKING:
    from perl_eval.records import RunCard

__all__ = ["finished", "verify"]


def verify(
    run: Annotated[Path, typer.Argument(help="The output folder of `judge`.")],
    prompts: Annotated[Path | None, typer.Option(help="Folder of your own prompts, if the run used one.")] = None,
) -> None:
    """Recompute a run of judge from its inputs and its ledger, offline; exit code 1 if anything differs."""
    card = finished(run)
    from perl_eval.judges.backends.offline import reopen
    from perl_eval.judging import judge as verb
    from perl_eval.records import Judgement
    from perl_eval.storage import run_folder

    differing = verb.verify(run, judge=reopen(card), prompts=prompts)
    for id in differing:
        typer.echo(id)
    count = len(run_folder.read(run, Judgement))
    if differing:
        typer.echo(f"{len(differing)} of {count} judgements come out otherwise", err=True)
        raise typer.Exit(1)
    typer.echo(f"all {count} judgements come out the same")


def finished(run: Path) -> RunCard:
    """Return the card of a finished run of judge.

    Raises:
        UserError: The folder has none.
    """
    from perl_eval.storage import run_folder

    card = run_folder.read_card(run)
    if card is None:
        raise UserError(f"{run} is not a finished run", "give the output folder of `judge`")
    return card
