"""Verbs on what a run of judge has kept: verify and ledger."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perl_eval.cli.shown import done
from perl_eval.errors import UserError

if TYPE_CHECKING:
    from perl_eval.records import RunCard


def verify(
    run: Annotated[Path, typer.Argument(help="The output folder of `judge`.")],
    prompts: Annotated[Path | None, typer.Option(help="Folder of your own prompts, if the run used one.")] = None,
) -> None:
    """Recompute a run of judge from its inputs and its ledger, offline; exit code 1 if anything comes out otherwise."""
    from perl_eval import judge as verb
    from perl_eval import runs
    from perl_eval.judges.kept import reopen
    from perl_eval.records import Judgement

    differing = verb.verify(run, judge=reopen(finished(run)), prompts=prompts)
    for id in differing:
        typer.echo(id)
    count = len(runs.read(run, Judgement))
    if differing:
        typer.echo(f"{len(differing)} of {count} judgements come out otherwise", err=True)
        raise typer.Exit(1)
    typer.echo(f"all {count} judgements come out the same")


def ledger_export(
    ledger: Annotated[Path, typer.Argument(help="The ledger.")],
    out: Annotated[Path, typer.Option(help="The file to write: .jsonl or .parquet.")],
) -> None:
    """A ledger's replies to a file."""
    from perl_eval.judges.keeping import export

    typer.echo(f"{export(ledger, out):,} replies")
    done(out)


def ledger_prune(
    ledger: Annotated[Path, typer.Argument(help="The ledger.")],
    before: Annotated[datetime | None, typer.Option(help="Delete what was kept before this moment, UTC.")] = None,
    model: Annotated[str | None, typer.Option(help="Delete the replies of this model.")] = None,
    keep: Annotated[
        list[Path] | None, typer.Option(help="Delete what this run of `judge` does not need; may be repeated.")
    ] = None,
    prompts: Annotated[Path | None, typer.Option(help="Folder of your own prompts, if the runs used one.")] = None,
) -> None:
    """Delete replies from a ledger: those to which all of this applies. Asking the same costs again."""
    from perl_eval.judges.keeping import Pruning, prune
    from perl_eval.judges.kept import reopen
    from perl_eval.judges.replay import keys_of

    needed: set[bytes] | None = None
    for run in keep or []:
        needed = (needed or set()) | set(keys_of(run, judge=reopen(finished(run)), prompts=prompts))
    count = prune(ledger, Pruning(before=before, model=model, unused=needed))
    typer.echo(f"{count:,} replies deleted")


def finished(run: Path) -> RunCard:
    """Return the card of a finished run of judge.

    Raises:
        UserError: The folder has none.
    """
    from perl_eval import runs

    card = runs.read_card(run)
    if card is None:
        raise UserError(f"{run} is no finished run", "give the output folder of `judge`")
    return card
