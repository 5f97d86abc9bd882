"""Verbs that end in a page: report, demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from perl_eval.cli.console import done
from perl_eval.cli.shared_options import one_of


def report(
    sources: Annotated[list[Path], typer.Argument(help="Run folders, or folders above them.")],
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("report.html"),
    form: Annotated[str, typer.Option("--format", help="html, md or json.")] = "html",
    title: str = "perl-eval report",
    figures: Annotated[Path | None, typer.Option(help="Folder for the figures as PNG and SVG.")] = None,
) -> None:
    """Run folders to one self-contained page."""
    from perl_eval import reporting as verb

    one_of("--format", form, ("html", "md", "json"))
    chosen: Any = form
    done(verb.run(sources, out, title=title, format=chosen, figures_folder=figures))
