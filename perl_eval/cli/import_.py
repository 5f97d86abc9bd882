"""The verb import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from perl_eval.cli.console import done
from perl_eval.cli.shared_options import Out, one_of

__all__ = ["import_"]


def import_(
    source: Annotated[Path, typer.Argument(help="The file.")],
    out: Out,
    form: Annotated[
        str,
        typer.Option(
            "--form",
            help="Labels: table, label-studio, argilla. Judgements: outcomes (a table), alpaca-eval, mt-bench.",
        ),
    ] = "table",
    column: Annotated[
        list[str] | None,
        typer.Option(help="Where the file keeps what: a=NAME, b=, unit=, label=, annotator=, group=. May be repeated."),
    ] = None,
) -> None:
    """Label files and judgement files of other tools to labels or judgements."""
    from perl_eval import sources
    from perl_eval.sources.user_table import columns_of

    one_of("--form", form, sources.FORMS)
    chosen: Any = form
    done(
        sources.run(
            source, out, form=chosen, columns=sources.LabelColumns(**columns_of(column, sources.LabelColumns()))
        )
    )
