"""Verbs that end in a page: report, demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from perl_eval.cli.console import done
from perl_eval.cli.shared_options import one_of
from perl_eval.errors import UserError


def report(
    sources: Annotated[list[Path], typer.Argument(help="Run folders, or folders above them.")],
    out: Annotated[
        Path | None, typer.Option(help="The file to write.", show_default="report.html, or as --format says")
    ] = None,
    form: Annotated[str, typer.Option("--format", help="html, md, json or csv.")] = "html",
    what: Annotated[
        str, typer.Option(help="estimates; or, as csv, json or md, judgements, labels or completions.")
    ] = "estimates",
    title: str = "perl-eval report",
    figures: Annotated[Path | None, typer.Option(help="Folder for the figures as PNG and SVG.")] = None,
) -> None:
    """Run folders to one self-contained page, or to a table of what they hold."""
    from perl_eval import reporting as verb

    one_of("--format", form, ("html", "md", "json", "csv"))
    one_of("--what", what, ("estimates", "judgements", "labels", "completions"))
    if out is None:
        out = Path(f"report.{form}" if what == "estimates" else f"{what}.{form}")
    chosen: Any = form
    rows: Any = what
    if what == "estimates":
        done(verb.run(sources, out, title=title, format=chosen, figures_folder=figures))
        return
    if form == "html" or figures is not None:
        raise UserError(f"--what {what} is no page and has no figures", "give --format csv, json or md, no --figures")
    done(verb.write_rows_out(sources, out, what=rows, format=chosen))
