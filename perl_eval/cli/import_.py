"""The verb import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from perl_eval.cli.console import done
from perl_eval.cli.shared_options import Out, how_read, one_of

__all__ = ["import_"]


def import_(
    source: Annotated[Path, typer.Argument(help="The file.")],
    out: Out,
    form: Annotated[
        str,
        typer.Option(
            "--form",
            help="Labels: table (one a row), wide (one column a rater), label-studio, argilla, mt-bench-votes, "
            "arena-votes; auto tells which. Judgements: outcomes (a table), alpaca-eval, mt-bench.",
        ),
    ] = "auto",
    column: Annotated[
        list[str] | None,
        typer.Option(
            help="Where the file keeps what, NAME=COLUMN; may be repeated. Labels: label (of labelling tools the "
            "question), annotator, item, policy_a, policy_b, a, b, unit, group, weight, note, a_is, prompt, and "
            "yes_from=NUMBER for ratings. Outcomes: outcome; or verdict; or verdict_ab, verdict_ba (who won in each "
            "order, a or b); item, policy_a, policy_b, judge, group, p_a, text_a, text_b, prompt, dataset, a, b."
        ),
    ] = None,
) -> None:
    """Label files and judgement files of other tools to labels or judgements."""
    from perl_eval import sources

    one_of("--form", form, sources.FORMS)
    chosen: Any = form
    folder = sources.run(source, out, form=chosen, columns=how_read("", column, None).columns)
    if said := sources.told_import(folder):
        typer.echo(f"{source}: {said}", err=True)
    done(folder)
