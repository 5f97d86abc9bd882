"""Verbs that end in a page: report, demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from perl_eval.cli.options import Seed, one_of, require_torch
from perl_eval.cli.shown import done, table


def report(
    sources: Annotated[list[Path], typer.Argument(help="Run folders, or folders above them.")],
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("report.html"),
    form: Annotated[str, typer.Option("--format", help="html, md or json.")] = "html",
    title: str = "perl-eval report",
    figures: Annotated[Path | None, typer.Option(help="Folder for the figures as PNG and SVG.")] = None,
) -> None:
    """Run folders to one self-contained page."""
    from perl_eval import report as verb

    one_of("--format", form, ("html", "md", "json"))
    chosen: Any = form
    done(verb.run(sources, out, title=title, format=chosen, figures_folder=figures))


def demo(
    out: Annotated[Path, typer.Option(help="Folder for all runs and the page.")] = Path("perl-eval-demo"),
    seed: Seed = 0,
) -> None:
    """Run the whole chain offline on an embedded world whose true reward is known."""
    require_torch()
    from perl_eval import demo as verb

    page = verb.run(out, seed=seed)
    table("perl-eval demo (dialogues, annotators and the scripted judges are simulated)", verb.headline(out))
    done(page)
