"""The verb import."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from perl_eval.cli.console import done, say
from perl_eval.cli.shared_options import AnyColumns, FileFormat, Means, Out, Requests, how_read, one_of
from perl_eval.errors import UserError

__all__ = ["import_"]


def _show_formats(wanted: bool) -> None:
    """Print the formats that are read, and stop."""
    if not wanted:
        return
    from perl_eval.sources.recognition import CALLED, FORMATS

    rows = [(one.name, CALLED[one.gives], one.what) for one in FORMATS if one.gives in CALLED]
    first, second = (max(len(row[place]) for row in rows) + 2 for place in (0, 1))
    for name, kind, what in sorted(rows, key=lambda row: row[1]):
        typer.echo(f"{name:<{first}}{kind:<{second}}{what}")
    raise typer.Exit


def import_(
    source: Annotated[Path, typer.Argument(help="The file: answers, judgements or labels of another tool.")],
    out: Out,
    form: Annotated[
        str,
        typer.Option(
            "--form",
            help="An older name of --format: table, label-studio, argilla, outcomes, alpaca-eval, mt-bench, auto.",
        ),
    ] = "",
    format: FileFormat = "",
    column: AnyColumns = None,
    requests: Requests = None,
    means: Means = None,
    policy: Annotated[
        str, typer.Option(help="Name of the policy, if the file gives none; default: the name of the file.")
    ] = "",
    formats: Annotated[  # noqa: ARG001
        bool, typer.Option("--formats", callback=_show_formats, is_eager=True, help="List the formats, and stop.")
    ] = False,
) -> None:
    """Read a file of another tool into a run folder of answers, judgements or labels; --formats lists the formats."""
    from perl_eval import sources

    if form and format:
        raise UserError(f"--form {form!r} and --format {format!r} say the same thing", "give one of them")
    if form:
        one_of("--form", form, sources.FORMS)
        say("--form is an older name of --format, and will be removed in the next version", err=True)
        done(_by_form(source, out, form, column))
        return
    folder = sources.take(source, out, how=how_read(format, column, requests, means), policy=policy)
    if said := sources.told(folder):
        say(f"{source}: {said}", err=True)
    done(folder)


def _by_form(source: Path, out: Path, form: str, column: Sequence[str] | None) -> Path:
    from perl_eval import sources

    chosen: Any = form
    folder = sources.run(source, out, form=chosen, columns=how_read("", column, None).columns)
    if said := sources.told(folder):
        say(f"{source}: {said}", err=True)
    return folder
