"""Verbs that end in a page: report, demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from perl_eval.checks import between
from perl_eval.cli.console import done
from perl_eval.cli.shared_options import one_of
from perl_eval.errors import UserError

_FORMS = ("html", "md", "json", "csv", "tex")


def _form_of(out: Path | None) -> str:
    """Return the form that the ending of a file's name says, ``html`` where it says none of ours."""
    ending = "" if out is None else out.suffix.removeprefix(".").lower()
    return ending if ending in _FORMS else "html"


def report(
    sources: Annotated[list[Path], typer.Argument(help="Run folders, or folders above them.")],
    out: Annotated[
        Path | None, typer.Option(help="The file to write.", show_default="report.html, or as --format says")
    ] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", help="html, md, json, csv or tex.", show_default="by the ending of --out, else html"),
    ] = None,
    what: Annotated[
        str, typer.Option(help="estimates; or, as csv, json or md, judgements, labels or completions.")
    ] = "estimates",
    title: Annotated[str, typer.Option(help="Title of the page.")] = "perl-eval report",
    figures: Annotated[Path | None, typer.Option(help="Folder for the figures as PDF, SVG and PNG.")] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Follow runs in progress on a page served by this machine, until Ctrl-C.")
    ] = False,
    port: Annotated[int, typer.Option(help="Port for --serve; 0 for any free one.")] = 0,
) -> None:
    """Show run folders as one self-contained page, or as a table; or follow them while they are written."""
    from perl_eval import reporting as verb

    between(0, 65535, {"port": port}, "port", ends="[]")
    if serve:
        given = [name for name, value in (("--out", out), ("--figures", figures)) if value is not None]
        if given or form not in (None, "html") or what != "estimates":
            wrong = (given or ["--format" if form not in (None, "html") else "--what"])[0]
            raise UserError(f"--serve writes no file, so {wrong} means nothing", f"leave out --serve or {wrong}")
        verb.serve(sources, port=port, announce=lambda at: typer.echo(f"{at}\nstop with Ctrl-C", err=True))
        return
    if port:
        raise UserError(f"--port {port} is for --serve", "give --serve too, or leave it out")

    form = form or _form_of(out)
    one_of("--format", form, _FORMS)
    one_of("--what", what, ("estimates", "judgements", "labels", "completions"))
    if out is None:
        out = Path(f"report.{form}" if what == "estimates" else f"{what}.{form}")
    chosen: Any = form
    rows: Any = what
    if what == "estimates":
        done(verb.run(sources, out, title=title, format=chosen, figures_folder=figures))
        return
    if form in ("html", "tex") or figures is not None:
        raise UserError(f"--what {what} gives no page and no figures", "give --format csv, json or md, no --figures")
    done(verb.write_rows_out(sources, out, what=rows, format=chosen))
