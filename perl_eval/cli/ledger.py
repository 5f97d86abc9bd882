"""Verbs on what a run of judge has kept: verify and ledger."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perl_eval.cli.console import counted, done
from perl_eval.cli.verify import finished

if TYPE_CHECKING:
    pass


def ledger_export(
    ledger: Annotated[Path, typer.Argument(help="The ledger.")],
    out: Annotated[Path, typer.Option(help="The file to write: .jsonl or .parquet.")],
) -> None:
    """Write a ledger's replies to a file."""
    from perl_eval.client.ledger_export import export

    typer.echo(f"{export(ledger, out):,} replies")
    done(out)


def ledger_salvage(
    ledger: Annotated[Path, typer.Argument(help="The damaged ledger; it stays as it is.")],
    out: Annotated[Path, typer.Option(help="The new ledger to write.")],
) -> None:
    """Copy the readable replies of a damaged ledger into a new one."""
    from perl_eval.client.ledger_salvage import salvage

    found = salvage(ledger, out)
    typer.echo(f"{counted(found.kept, 'reply', 'replies')} saved, {found.lost:,} lost")
    if found.unchecked:
        typer.echo(f"{found.unchecked:,} of them are of an earlier version and had no checksum")
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
    """Delete replies from a ledger: those that match all options. Asking the same then costs again."""
    from perl_eval.client.ledger_export import Pruning, prune
    from perl_eval.judges.backends.offline import reopen
    from perl_eval.judging.verify import keys_of

    needed: set[bytes] | None = None
    for run in keep or []:
        needed = (needed or set()) | set(keys_of(run, judge=reopen(finished(run)), prompts=prompts))
    count = prune(ledger, Pruning(before=before, model=model, unused=needed))
    typer.echo(f"{count:,} replies deleted")
